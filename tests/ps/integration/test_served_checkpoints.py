"""Sharded checkpoints of networks on servers: each server writes its part, and reads its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError, ParameterServerError
from paramesh.ps.integration import session as sessions
from type_checks import wrong

ROWS = 30


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


class Net(nn.Cell):
    """A table, a layer on servers, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.item = nn.EmbeddingLookup(ROWS, 4)
        self.middle = nn.Dense(4, 4)
        self.out = nn.Dense(4, 1)

    def construct(self, items: Any, label: Any) -> Any:
        return ((self.out(self.middle(self.item(items))) - label) ** 2).mean()


def make(servers: int, seed: int = 0, **life: Any) -> nn.TrainOneStepCell:
    paramesh.set_seed(seed)
    context.reset_ps_context()
    net = Net()
    if servers:
        context.set_ps_context(enable_ps=True, server_num=servers)
        net.item.set_param_ps(init_in_server=True, **life)
        net.middle.set_param_ps()
    return nn.TrainOneStepCell(net, nn.Adagrad(net.trainable_params(), learning_rate=0.1))


def train(cell: Any, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        rng = np.random.default_rng(step)
        items = Tensor(rng.integers(0, ROWS - 5, (8,)).astype(np.int32))
        losses.append(float(cell(items, Tensor(rng.standard_normal((8, 1)).astype(np.float32)))))
    return losses


def test_any_number_of_servers_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    life = {"expire_after": 2, "admit_after": 2}
    cell = make(3, **life)
    train(cell, 0, 3)
    path = save_checkpoint(cell, tmp_path / "net.sharded", append_dict={"epoch": 7})
    losses = train(cell, 3, 8)
    report = cell.network.item.row_report()
    with open_source(path) as source:
        assert len([p for p in path.iterdir() if p.name.startswith("part-")]) == 4
        assert source.appended["epoch"] == 7
        assert source.entry("middle.weight").shape == (4, 4)
    for servers in (1, 2):
        other = make(servers, seed=7, **life)
        found = load_checkpoint(path, other)
        assert "item.embedding_table.rows" not in found
        before = other.network.item(Tensor([0, 29, 3])).asnumpy()
        assert before.tobytes() == cell_rows(path, [0, 29, 3], before).tobytes()
        assert train(other, 3, 8) == losses
        same = other.network.item.row_report()
        assert {k: same[k] for k in ("admitted", "expired", "rows")} == {
            k: report[k] for k in ("admitted", "expired", "rows")
        }


def cell_rows(path: Path, ids: list[int], before: np.ndarray) -> np.ndarray:
    """The rows of the file, where it has them."""
    found = load_checkpoint(path)
    rows = dict(
        zip(
            found["item.embedding_table.ids"].asnumpy().tolist(),
            found["item.embedding_table.rows"].asnumpy(),
            strict=True,
        )
    )
    return np.stack([rows.get(i, mine) for i, mine in zip(ids, before, strict=True)])


def test_without_servers_and_as_one_file(tmp_path: Path) -> None:
    cell = make(3)
    train(cell, 0, 3)
    path = save_checkpoint(cell, tmp_path / "net.sharded")
    file = save_checkpoint(cell, tmp_path / "net.safetensors")
    losses = train(cell, 3, 6)
    for one in (path, file):
        other = make(0, seed=7)
        load_checkpoint(one, other)
        np.testing.assert_allclose(train(other, 3, 6), losses, rtol=1e-6)
    sharded, single = load_checkpoint(path), load_checkpoint(file)
    assert sharded.keys() - single.keys() == {"item.embedding_table.groups"}
    order = np.argsort(sharded["item.embedding_table.ids"].asnumpy())
    for name, value in single.items():
        mine = sharded[name]
        if not isinstance(mine, str):
            array = mine.asnumpy()
            rows = name.endswith((".ids", ".rows"))
            assert (array[order] if rows else array).tobytes() == value.asnumpy().tobytes()
    other = make(2, seed=9)
    paramesh.load_param_into_net(other, sharded)
    assert train(other, 3, 6) == losses


def test_steps_go_on_while_it_is_saved(tmp_path: Path) -> None:
    cell = make(2)
    train(cell, 0, 3)
    handle = save_checkpoint(cell, tmp_path / "net.sharded", async_save=True)
    losses = train(cell, 3, 6)
    handle.wait()
    other = make(1, seed=7)
    load_checkpoint(tmp_path / "net.sharded", other)
    assert train(other, 3, 6) == losses


def test_increments(tmp_path: Path) -> None:
    cell = make(2)
    train(cell, 0, 2)
    first = save_checkpoint(cell, tmp_path / "0.sharded")
    train(cell, 2, 3)
    second = save_checkpoint(cell, tmp_path / "1.sharded", base=first)
    losses = train(cell, 3, 6)
    assert json.loads((second / "index.json").read_text())["base"]["path"] == "../0.sharded"
    other = make(3, seed=7)
    load_checkpoint(second, other)
    # What was loaded can be the base of what follows.
    third = save_after(other, 3, 4, tmp_path / "2.sharded", second)
    assert train(other, 4, 6) == losses[1:]
    other = make(1, seed=8)
    load_checkpoint(third, other)
    assert train(other, 4, 6) == losses[1:]


def save_after(cell: Any, first: int, last: int, path: Path, base: Path) -> Path:
    train(cell, first, last)
    return save_checkpoint(cell, path, base=base)


def test_a_base_that_cannot_be_gone_on_from_is_an_error(tmp_path: Path) -> None:
    cell = make(2)
    train(cell, 0, 1)
    mine = save_checkpoint(cell, tmp_path / "mine.sharded")
    plain = save_checkpoint({"a": Tensor([1.0])}, tmp_path / "plain.sharded")
    with pytest.raises(CheckpointError, match=r"plain.sharded' was not written by servers"):
        save_checkpoint(cell, tmp_path / "x.sharded", base=plain)
    with pytest.raises(CheckpointError, match=r"none.sharded.* has no index.json"):
        save_checkpoint(cell, tmp_path / "x.sharded", base=tmp_path / "none.sharded")
    with pytest.raises(ValueError, match="is the checkpoint that is to be saved"):
        save_checkpoint(cell, mine, base=mine)
    with pytest.raises(ValueError, match="is one file. Increments are sharded"):
        save_checkpoint(cell, tmp_path / "x.safetensors", base=mine)
    with pytest.raises(ValueError, match="no Parameter is on a server"):
        save_checkpoint({"a": Tensor([1.0])}, tmp_path / "x.sharded", base=mine)
    with pytest.raises(TypeError, match="base must be the path of a checkpoint, got 3"):
        save_checkpoint(cell, tmp_path / "x.sharded", base=wrong(3))
    cell = make(2)
    train(cell, 0, 1)
    with pytest.raises(ParameterServerError, match="none that this run has saved or was loaded"):
        save_checkpoint(cell, tmp_path / "x.sharded", base=mine)
    assert not (tmp_path / "x.sharded").exists()


def test_before_the_first_step_and_just_loaded(tmp_path: Path) -> None:
    cell = make(2)
    path = save_checkpoint(cell, tmp_path / "first.sharded")
    losses = train(cell, 0, 2)
    middle = save_checkpoint(cell, tmp_path / "middle.sharded")
    rest = train(cell, 2, 4)
    cell = make(2, seed=7)
    load_checkpoint(path, cell)
    assert train(cell, 0, 2) == losses
    cell = make(2, seed=8)
    load_checkpoint(middle, cell)
    blocks = list(cell.network.item.items(block=4))
    assert all(len(ids) == len(rows) <= 4 for ids, rows in blocks)
    again = save_checkpoint(cell, tmp_path / "again.sharded")
    cell = make(1, seed=9)
    load_checkpoint(again, cell)
    assert train(cell, 2, 4) == rest


def test_a_checkpoint_that_is_replaced_before_the_first_step_is_an_error(tmp_path: Path) -> None:
    cell = make(2)
    train(cell, 0, 2)
    path = save_checkpoint(cell, tmp_path / "net.sharded")
    other = make(2, seed=7)
    load_checkpoint(path, other)
    for part in path.iterdir():
        part.unlink()
    with pytest.raises(CheckpointError, match="has no index.json"):
        train(other, 2, 3)
