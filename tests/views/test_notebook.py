"""The views in notebooks: what they show, that they are HTML, and that they compute nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from paramesh import Parameter, ParameterTuple, Tensor, nn, optim
from paramesh.initializer import initializer
from paramesh.views import Summary, html_of


class Reader(HTMLParser):
    """The text of a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in ("script", "link", "img"), tag
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(value: Any) -> str:
    page = value._repr_html_()
    assert isinstance(value, Summary) or page == html_of(value)
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader.text


def test_a_parameter_that_is_declared_stays_so() -> None:
    param = Parameter(initializer("ones", [2, 3]), name="net.w")
    text = shown(param)
    assert "Parameter net.w (2, 3) Float32, 24 B, trainable, recipe" in text
    assert "recipe, not run yet: One()" in text
    assert param.has_init
    param.init_data()
    assert "min 1, max 1, mean 1, std 0" in shown(param)


def test_tensors() -> None:
    text = shown(Tensor(np.array([1.0, np.nan, 3.0], np.float32)))
    assert "Tensor (3,) Float32, 12 B" in text
    assert "1 NaN or infinite" in text
    assert "no finite element" in shown(Tensor(np.array([np.inf], np.float32)))
    assert "True" in shown(Tensor(np.array([True])))
    assert "too many to show" in shown(Tensor(np.zeros(2**20 + 1, np.int8)))
    assert shown(Tensor(np.zeros((0, 3), np.float32)))
    assert "[0, 1," in shown(Tensor(np.arange(3)).astype("bfloat16")).replace(".", "")


def test_texts_are_escaped() -> None:
    class Odd(nn.Cell):
        def extend_repr(self) -> str:
            return "<script>"

    assert "Odd(<script>)" in shown(Odd())


def test_cells() -> None:
    shared = nn.Dense(2, 2)
    net = nn.SequentialCell(shared, nn.ReLU(), nn.SequentialCell(shared))
    text = shown(net)
    assert "6 elements" in text
    assert "0.weight" in text
    assert "(shown above)" in text
    assert all(p.has_init for p in net.get_parameters())


def test_optimizers_show_their_state_by_its_prefix() -> None:
    net = nn.SequentialCell(nn.Dense(2, 3), nn.Dense(3, 1))
    text = shown(optim.Adam(net.trainable_params(), 1e-3))
    assert "Adam of 4 Parameters" in text
    assert "moment1: 4 Parameters, 52 B" in text
    assert "moment2: 4 Parameters, 52 B" in text
    assert "trains 4 Parameters" in text


def test_tables_of_layouts_and_tuples() -> None:
    net = nn.Dense(2, 3)
    assert "2 Parameters on 1 device: 36 B on each, of 36 B" in shown(net.layout_table())
    assert "2 Parameters, 36 B" in shown(ParameterTuple(net.trainable_params()))


def test_many_rows_are_not_all_shown() -> None:
    params = ParameterTuple(Parameter(0.0, name=f"p{i}") for i in range(205))
    assert "and 5 more" in shown(params)


def test_a_summary_is_a_view() -> None:
    text = shown(nn.Dense(2, 3).summary(np.ones((1, 2), np.float32), compiled=False))
    assert "output shape" in text
    assert "(1, 3)" in text


def test_other_objects_have_no_view() -> None:
    with pytest.raises(TypeError, match="html_of: there is no view of a int"):
        html_of(3)


def test_parameters_are_not_repeated_in_the_settings_of_a_layer() -> None:
    text = shown(nn.SequentialCell(nn.BatchNorm2d(3), nn.LayerNorm((4,)), nn.Embedding(3, 4)))
    assert "BatchNorm2d(num_features=3, eps=1e-05, momentum=0.9)" in text
    assert "LayerNorm(normalized_shape=(4,), begin_norm_axis=-1, begin_params_axis=-1)" in text
    assert "Parameter (name=" not in text
