"""Trees in treescope: what they show, in a tree of one's own too, and that they compute nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, optim

treescope: Any = pytest.importorskip("treescope", reason="pip install 'paramesh[notebook]'")

# treescope asks every module that is imported for its names; OpenCV imports one that numpy renamed.
pytestmark = pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.scale = Parameter(np.full(3, 2, np.float32), requires_grad=False)
        self.body = nn.SequentialCell(nn.Dense(2, 3), nn.ReLU())

    def construct(self, x: Any) -> Any:
        return self.scale * self.body(x)


def shown(value: Any) -> str:
    """The text of a value's tree, opened everywhere, in one line."""
    with treescope.using_expansion_strategy(max_height=1000):
        return " ".join(treescope.render_to_text(value, ignore_exceptions=False).split())


def test_a_network_that_is_declared_stays_so() -> None:
    net = Net()
    text = shown({"mine": [net]})
    assert "scale=Parameter( # (3,) Float32, cpu:0 name='scale', requires_grad=False," in text
    assert "value=<jax.Array([2., 2., 2.], dtype=float32)>" in text
    assert "body=SequentialCell( # 36 B 0: Dense(" in text
    assert (
        "weight=Parameter( # (3, 2) Float32, recipe name='body.0.weight', init=HeUniform(" in text
    )
    assert ") of (3, 2) Float32," in text
    assert "1: ReLU()," in text
    assert all(p.has_init for p in net.body.get_parameters())


def test_an_optimizer_has_its_state_by_kind() -> None:
    net = Net()
    text = shown(optim.Adam(net.trainable_params(), 1e-3))
    assert text.startswith("Adam( parameters=[")
    assert "step and rates: [" in text
    assert "moment2: [ Parameter( # (3, 2) Float32, recipe name='moment2.body.0.weight'," in text


def test_tensors() -> None:
    assert shown(Tensor([1.0, 2.0])).startswith("Tensor(<jax.Array([1., 2.], dtype=float32)>)")
    seen: list[str] = []

    @paramesh.jit
    def traced(x: Tensor) -> Tensor:
        seen.append(shown(x))
        return x + 1

    traced(Tensor([1.0]))
    assert "float32[1]" in seen[0]


def test_paths_lead_to_what_they_stand_for() -> None:
    net = Net()
    html = treescope.render_to_html({"a": net}, ignore_exceptions=False, compressed=False)
    for path, member in (("body[0].weight", net.body[0].weight), ("scale", net.scale)):
        assert f".{path}" in html
        assert eval(f"net.{path}", {"net": net}) is member
