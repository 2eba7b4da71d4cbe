"""Checkpoints of networks whose Parameters live on servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.errors import CheckpointError, ParameterServerError, ParameterStateError
from paramesh.ps.integration import session as sessions

ROWS = 30


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


class Net(nn.Cell):
    """A table and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.EmbeddingLookup(ROWS, 4)
        self.out = nn.Dense(4, 1)

    def construct(self, items: Any, label: Any) -> Any:
        return ((self.out(self.item(items)) - label) ** 2).mean()


def make(servers: int, seed: int = 0, optimizer: Any = nn.Adagrad) -> nn.TrainOneStepCell:
    """A training Cell; with servers, or (0) without."""
    paramesh.set_seed(seed)
    context.reset_ps_context()
    net = Net()
    if servers:
        context.set_ps_context(enable_ps=True, server_num=servers)
        served = net if optimizer is nn.Adagrad else net.item
        served.set_param_ps(init_in_server=True)
    return nn.TrainOneStepCell(net, optimizer(net.trainable_params(), learning_rate=0.1))


def train(cell: Any, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        rng = np.random.default_rng(step)
        items = Tensor(rng.integers(0, ROWS - 5, (8,)).astype(np.int32))
        losses.append(float(cell(items, Tensor(rng.standard_normal((8, 1)).astype(np.float32)))))
    return losses


@pytest.fixture
def file(tmp_path: Path) -> tuple[Path, list[float]]:
    """A checkpoint after 3 steps on 3 servers, and the losses of the steps after it."""
    cell = make(3)
    train(cell, 0, 3)
    path = save_checkpoint(cell, tmp_path / "net.safetensors")
    assert cell.network.item.embedding_table.has_init
    return path, train(cell, 3, 6)


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_training_goes_on_with_any_number_of_servers(file: Any, servers: int) -> None:
    path, losses = file
    cell = make(servers, seed=7)  # another start, which is overwritten
    load_checkpoint(path, cell)
    before = cell.network.item(Tensor([0, 29, 3])).asnumpy()
    assert train(cell, 3, 6) == losses
    assert (cell.network.item(Tensor([29])).asnumpy() == before[1]).all()
    assert all(state.has_init for state in cell.optimizer.accum)


def test_training_goes_on_without_servers(file: Any) -> None:
    path, losses = file
    cell = make(0, seed=7)
    load_checkpoint(path, cell)
    np.testing.assert_allclose(train(cell, 3, 6), losses, rtol=1e-6)


def test_a_checkpoint_without_servers_is_loaded_onto_servers(tmp_path: Path) -> None:
    cell = make(0)
    train(cell, 0, 3)
    path = save_checkpoint(cell, tmp_path / "net.safetensors")
    losses = train(cell, 3, 6)
    cell = make(2, seed=7)
    load_checkpoint(path, cell)
    assert cell.network.item.embedding_table.has_init
    np.testing.assert_allclose(train(cell, 3, 6), losses, rtol=1e-6)


def test_a_checkpoint_before_the_first_step_and_of_one_just_loaded(tmp_path: Path) -> None:
    cell = make(2)
    path = save_checkpoint(cell.network, tmp_path / "first.safetensors")
    losses = train(cell, 0, 2)
    cell = make(2, seed=7)
    load_checkpoint(path, cell.network)
    again = save_checkpoint(cell.network, tmp_path / "again.safetensors")
    cell = make(1, seed=8)
    load_checkpoint(again, cell.network)
    assert train(cell, 0, 2) == losses


def test_names_that_do_not_fit_are_listed_and_nothing_is_loaded(file: Any) -> None:
    path, _ = file
    net = nn.CellList([Net()])
    with pytest.raises(CheckpointError, match=r"unexpected: item.embedding_table.ids"):
        load_checkpoint(path, net)
    cell = make(2)
    content = load_checkpoint(path)
    del content["item.embedding_table.rows"]
    with pytest.raises(CheckpointError, match=r"'item.embedding_table' are incomplete"):
        paramesh.load_param_into_net(cell, content)


def test_loading_after_the_first_step_is_refused(file: Any) -> None:
    path, _ = file
    cell = make(2)
    train(cell, 0, 1)
    with pytest.raises(ParameterStateError, match="load before the first step"):
        load_checkpoint(path, cell)


@pytest.mark.parametrize("servers", [0, 3])
def test_rows_in_blocks(servers: int, tmp_path: Path) -> None:
    cell = make(servers)
    table = cell.network.item
    if servers:
        assert list(table.items()) == []
    train(cell, 0, 3)
    blocks = list(table.items(block=4))
    assert all(len(ids) == len(rows) <= 4 for ids, rows in blocks)
    ids = np.concatenate([ids for ids, _ in blocks])
    rows = np.concatenate([rows for _, rows in blocks])[np.argsort(ids)]
    saved = load_checkpoint(save_checkpoint(cell, tmp_path / "net.safetensors"))
    name = table.embedding_table.name
    if servers:
        np.testing.assert_array_equal(np.sort(ids), saved[f"{name}.ids"].asnumpy())
        np.testing.assert_array_equal(rows, saved[f"{name}.rows"].asnumpy())
        running = table.items(block=4)
        next(running)
        train(cell, 3, 4)
        with pytest.raises(ParameterServerError, match="finish the iteration before the next step"):
            next(running)
        other = make(2, seed=9)
        paramesh.load_param_into_net(other, saved)
        loaded = np.concatenate([rows for _, rows in other.network.item.items(block=4)])
        np.testing.assert_array_equal(loaded, rows)
    else:
        np.testing.assert_array_equal(ids, np.arange(ROWS))
        np.testing.assert_array_equal(rows, saved[name].asnumpy())
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        table.items(block=0)


def test_row_wise_state_goes_on_with_servers_and_without(tmp_path: Path) -> None:
    cell = make(3, optimizer=nn.RowwiseAdagrad)
    train(cell, 0, 3)
    path = save_checkpoint(cell, tmp_path / "net.safetensors")
    losses = train(cell, 3, 6)
    state = load_checkpoint(path)["row_accum.item.embedding_table.rows"]
    assert state.shape[1:] == (1,)
    for servers in (2, 0):
        other = make(servers, seed=9, optimizer=nn.RowwiseAdagrad)
        paramesh.load_param_into_net(other, load_checkpoint(path))
        np.testing.assert_allclose(train(other, 3, 6), losses, rtol=2e-6)
