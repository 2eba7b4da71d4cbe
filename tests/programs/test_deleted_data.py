"""Arrays of Parameters that somebody else has deleted, by donating them: an error with the name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn
from paramesh.errors import ParameterStateError

X = np.ones((2, 2), np.float32)
DOUBLE = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree), donate_argnums=0)


def network() -> nn.SequentialCell:
    net = nn.SequentialCell(nn.Dense(2, 2), nn.Dense(2, 2))
    net.init_parameters_data()
    return net


WAYS: dict[str, Callable[[nn.SequentialCell], Any]] = {
    "an array": lambda net: DOUBLE(jnp.asarray(net[0].weight)),
    "the Parameter": lambda net: DOUBLE(net[0].weight),
    "a tree": lambda net: DOUBLE(paramesh.values({"w": net[0].weight})),
    "delete()": lambda net: jnp.asarray(net[0].weight).delete(),
}
USES: dict[str, Callable[[nn.SequentialCell, Path], Any]] = {
    "a program": lambda net, _: net(X),
    "a step": lambda net, _: nn.TrainOneStepCell(net, nn.SGD(net.trainable_params()))(X),
    "asnumpy": lambda net, _: net[0].weight.asnumpy(),
    "an operator": lambda net, _: net[0].weight + 1,
    "jnp": lambda net, _: jnp.sum(net[0].weight),
    "pickle": lambda net, _: pickle.dumps(net),
    "deepcopy": lambda net, _: copy.deepcopy(net),
    "save": lambda net, folder: paramesh.save_checkpoint(net, folder / "x.safetensors"),
}


@pytest.mark.parametrize("way", WAYS)
def test_deleted_data_is_named_and_set_anew(way: str) -> None:
    net = network()
    net(X)
    WAYS[way](net)
    with pytest.raises(ParameterStateError, match=r"^The data of '0\.weight' was deleted: .* copy"):
        net(X)
    net[0].weight.set_data(Tensor(np.eye(2, dtype=np.float32)))
    net(X)


@pytest.mark.parametrize("use", USES)
def test_every_use_names_it(use: str, tmp_path: Path) -> None:
    net = network()
    WAYS["an array"](net)
    with pytest.raises(ParameterStateError, match=r"^The data of '0\.weight' was deleted"):
        USES[use](net, tmp_path)
    assert not list(tmp_path.iterdir())


def test_all_that_a_program_misses_are_named() -> None:
    net = network()
    DOUBLE(paramesh.values(net.parameters_dict()))
    names = r"'0\.weight', '0\.bias', '1\.weight', '1\.bias' was"
    with pytest.raises(ParameterStateError, match=names):
        net(X)


def test_entries_of_pools_are_named() -> None:
    net = network()
    step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params()))
    step(X)
    net[0].bias.set_data(Tensor([1.0, 2.0]))
    jnp.asarray(net[0].bias).delete()
    with pytest.raises(ParameterStateError, match=r"^The data of '0\.bias' was deleted"):
        step(X)
    net[0].bias.set_data(Tensor([1.0, 2.0]))
    step(X)
