"""What loading leaves out is said, and shared Parameters are found under any of their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paramesh import dtype as mstype
from paramesh import nn
from paramesh.checkpoint import (
    LeftOutWarning,
    load_checkpoint,
    load_param_into_net,
    save_checkpoint,
)
from paramesh.errors import CheckpointError
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from type_checks import present


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Dense(3, 2)
        self.head = nn.Dense(2, 1, has_bias=False)

    def construct(self, x):
        return self.head(self.fc(x))


def values(net: nn.Cell) -> dict[str, np.ndarray]:
    return {name: param.asnumpy() for name, param in net.parameters_dict().items()}


def test_loading_that_is_not_strict_says_what_it_leaves_out(tmp_path: Path) -> None:
    net = Net()
    before = values(net)
    given = {
        "fc.weight": Parameter(np.zeros((4, 3), np.float32)),
        "fc.bias": Parameter(np.zeros(2, np.float64)),
        "head.weight": Parameter(np.zeros((1, 2), np.int32)),
        "tail.weight": Parameter(np.zeros(1, np.float32)),
    }
    shapes = r"shape: fc\.weight is \[2, 3\], the value \[4, 3\]"
    types = r"element type: head\.weight is Float32, the value Int32"
    with pytest.warns(LeftOutWarning, match=f"parameter_dict .*\n  {shapes}\n  {types}$") as said:
        left = load_param_into_net(net, given, strict_load=False)
    assert len(said) == 1
    assert left == (["fc.weight", "head.weight"], ["tail.weight", "fc.weight", "head.weight"])
    assert present(net.fc.bias).asnumpy().tolist() == [0, 0]
    assert present(net.fc.bias).dtype is mstype.float32
    for name in left[0]:
        np.testing.assert_array_equal(values(net)[name], before[name])
    del given["fc.weight"], given["head.weight"]
    left = load_param_into_net(net, given, strict_load=False)  # what it returns is not said again
    assert left == (["fc.weight", "head.weight"], ["tail.weight"])
    path = save_checkpoint(given, tmp_path / "x")
    names = "missing: fc.weight .*\n  missing: head.weight .*\n  unexpected: tail.weight"
    with pytest.warns(LeftOutWarning, match=names) as said:
        load_checkpoint(path, net, strict_load=False)
    assert len(said) == 1
    # What the call itself leaves out needs no warning.
    load_checkpoint(path, net, strict_load=False, specify_prefix="fc.bias")


class Tied(nn.Cell):
    def __init__(self, head_first: bool = False) -> None:
        super().__init__()
        if head_first:
            self.head = nn.Dense(3, 5, has_bias=False)
        self.embed = nn.Embedding(5, 3)
        if not head_first:
            self.head = nn.Dense(3, 5, has_bias=False)
        self.head.weight = self.embed.embedding_table

    def construct(self, ids):
        return self.head(self.embed(ids))


TABLE = np.arange(15, dtype=np.float32).reshape(5, 3)
OWN, OTHER = "embed.embedding_table", "head.weight"


@pytest.mark.parametrize("names", [[OTHER], [OWN], [OWN, OTHER], [OTHER, OWN]])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("format", ["safetensors", "ckpt", "sharded"])
def test_tied_weights_load_under_any_name(names, wrapped, format, tmp_path: Path) -> None:
    given = [{"name": name, "data": Tensor(TABLE)} for name in names]
    path = save_checkpoint(given, tmp_path / "x", format=format)
    for head_first in (False, True):
        net = Tied(head_first)
        into = nn.WithLossCell(net, nn.MSELoss()) if wrapped else net
        load_checkpoint(path, into)
        np.testing.assert_array_equal(net.embed.embedding_table.asnumpy(), TABLE)
        assert net.head.weight is net.embed.embedding_table
        net = Tied(head_first)
        assert load_param_into_net(net, load_checkpoint(path)) == ([], [])
        np.testing.assert_array_equal(net.head.weight.asnumpy(), TABLE)


def test_tied_weights_that_differ_are_reported() -> None:
    given = {OTHER: Parameter(TABLE + 1), OWN: Parameter(TABLE)}
    message = rf"has both names of .*different values:\n  '{OTHER}' is not loaded, '{OWN}' is"
    net = Tied()
    with pytest.warns(LeftOutWarning, match=message):
        load_param_into_net(net, given)
    np.testing.assert_array_equal(net.head.weight.asnumpy(), TABLE)
    net = Tied()
    with pytest.warns(UserWarning, match=f"'{OWN}' and '{OTHER}' are one Parameter"):
        net.load_state_dict({OTHER: Tensor(TABLE + 1), OWN: Tensor(TABLE)})
    np.testing.assert_array_equal(net.head.weight.asnumpy(), TABLE)
    for names in ([OTHER], [OWN], [OTHER, OWN]):
        net = Tied()
        net.load_state_dict({name: Tensor(TABLE) for name in names})
        np.testing.assert_array_equal(net.head.weight.asnumpy(), TABLE)
    with pytest.raises(CheckpointError, match=r"unexpected: embed\.weight"):
        load_param_into_net(Tied(), {OWN: Parameter(TABLE), "embed.weight": Parameter(TABLE)})


def test_a_shared_cell_has_the_names_of_both_attributes() -> None:
    class Twice(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Dense(2, 2, has_bias=False)
            self.right = self.left
            self.own = Parameter(Tensor([1.0]), name="another")

    value = Parameter(np.ones((2, 2), np.float32))
    one = Parameter(np.ones(1, np.float32))
    for name in ("left.weight", "right.weight"):
        net = Twice()
        load_param_into_net(net, {name: value, "another": one})
        np.testing.assert_array_equal(net.left.weight.asnumpy(), 1)
    with pytest.raises(CheckpointError, match=r"missing: another .*\n  unexpected: own "):
        load_param_into_net(Twice(), {"left.weight": value, "own": one})
