"""Cells and Parameters in plain lists: not registered, as in MindSpore, with a warning that names
them.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import Parameter, ParameterTuple, Tensor, nn, save_checkpoint
from paramesh.nn.unregistered import UnregisteredWarning
from type_checks import untyped


def dense() -> nn.Dense:
    return nn.Dense(2, 2)


def scale(name: str = "scale") -> Parameter:
    return Parameter(Tensor([1.0]), name=name)


class Net(nn.Cell):
    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


LOST = {
    "list": (lambda: [dense()], "plain list", "'weight', 'bias' will be .* Use nn.CellList"),
    "tuple": (lambda: (dense(), nn.ReLU()), "plain tuple", "Use nn.CellList or nn.SequentialCell"),
    "dict": (lambda: {"a": dense()}, "plain dict", "Use nn.CellDict"),
    "nested": (
        lambda: [[{"a": (dense(), dense())}]],
        "plain list",
        "'weight', 'bias', 'weight' and 1",
    ),
    "parameters": (
        lambda: [scale("x"), scale("y")],
        "plain list",
        "'x', 'y' .* Use paramesh.Param",
    ),
    "mixed": (lambda: [scale("x"), dense()], "plain list", "'x', 'weight', 'bias' .* nn.CellList"),
}


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("below", [False, True])
def test_what_is_in_a_plain_container_is_said(kind: str, below: bool) -> None:
    make, container, rest = LOST[kind]
    net = Net(layers=make())
    net = Net(inner=net, head=dense()) if below else net
    message = (
        rf"^Net\.layers is a {container}, so its contents are not registered in Net, as in .*{rest}"
    )
    with pytest.warns(UnregisteredWarning, match=message) as said:
        assert len(net.trainable_params()) == (2 if below else 0)
    assert len(said) == 1
    assert __file__ == said[0].filename
    net.trainable_params()  # said once


def test_lists_that_are_filled_later_and_several_attributes() -> None:
    net = Net(layers=[], heads={})
    net.trainable_params()
    net.layers.append(dense())
    with pytest.warns(UnregisteredWarning, match=r"Net\.layers"):
        net.trainable_params()
    net.heads["a"] = dense()
    with pytest.warns(UnregisteredWarning, match=r"Net\.heads"):
        net.parameters_dict()


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_saving_says_it_too(kind: str, tmp_path: Path) -> None:
    net = Net(layers=LOST[kind][0](), head=dense())
    with pytest.warns(UnregisteredWarning, match="neither trained nor saved"):
        save_checkpoint(net, tmp_path / "x")


class Meant(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.order = [dense()]  # registered below
        self.first = self.order[0]
        self.blocks = nn.CellList([dense(), dense()])
        self.reversed = list(self.blocks)[::-1]
        self.activations = [nn.ReLU(), nn.Tanh()]
        self.sizes = list(range(10_000))
        self.names = {"a": [1, "b"], "c": None}
        self.scales = ParameterTuple([scale("x"), scale("y")])
        self.parts = list(self.scales)
        self.teacher = [dense()]
        for param in self.teacher[0].get_parameters():
            param.requires_grad = False


def test_what_is_meant_is_not_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = Meant()
        assert len(net.trainable_params()) == 8
        net.order = untyped(3)
        again = pickle.loads(pickle.dumps(net))
        for twin in (net, copy.deepcopy(net), again):
            assert len(twin.parameters_dict()) == 8
        optimizer = nn.SGD([{"params": net.trainable_params(), "lr": nn.WarmUpLR(0.1, 3)}], 0.1)
        optimizer.trainable_params()


def test_it_runs_all_the_same() -> None:
    class Run(Net):
        def construct(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    layers = [nn.Dense(2, 2, weight_init="ones", has_bias=False) for _ in range(2)]
    net = Run(layers=layers)
    assert net(Tensor(np.ones((1, 2), np.float32))).asnumpy().tolist() == [[4, 4]]
