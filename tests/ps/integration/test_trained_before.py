"""A worker that reads before it has made a step sees what the servers have, not what it began with.

So it is after a worker was started again and owes nothing, and in a run that goes on with an
existing `wal_dir`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.errors import ParameterServerError
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.local_client import LocalClient

ROWS, STEPS = 30, 3
SEEN = Tensor(np.arange(ROWS))


class Kept(LocalClient):
    """Servers that outlive their worker: what is declared again changes nothing."""

    def declare(self, specs: Any, values: Any) -> None:
        if not self.start:
            super().declare(specs, values)


class Late(LocalClient):
    """As in stale mode: what a step comes back with is a version older than its push."""

    def step(self, step: int, updates: Any, hyper: Any, wanted: Any, refresh: Any = None) -> Any:
        before = self.pull(step, wanted)
        super().step(step, updates, hyper, wanted, refresh)
        return before


class Net(nn.Cell):
    """A table and a layer, all of it served."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.item = nn.EmbeddingLookup(ROWS, width)
        self.out = nn.Dense(width, 1)
        self.set_param_ps(init_in_server=True)

    def construct(self, items: Any, label: Any) -> Any:
        return ((self.out(self.item(items)) - label) ** 2).mean()


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def begin(client: LocalClient, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """The script begins, with these servers."""
    sessions.end()
    context.reset_ps_context()
    monkeypatch.setattr(sessions, "connect", lambda settings: client)
    context.set_ps_context(enable_ps=True, server_num=3, **settings)
    paramesh.set_seed(0)


def cell_of(net: Net) -> nn.TrainOneStepCell:
    return nn.TrainOneStepCell(net, nn.Adagrad(net.trainable_params(), learning_rate=0.1))


def train(cell: nn.TrainOneStepCell, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        rng = np.random.default_rng(step)
        items = Tensor(rng.integers(0, ROWS - 5, (8,)).astype(np.int32))
        losses.append(float(cell(items, Tensor(rng.standard_normal((8, 1)).astype(np.float32)))))
    return losses


def in_a_program(net: Net, path: Path) -> Any:
    return net(SEEN, Tensor(np.ones((len(SEEN), 1), np.float32))).asnumpy()


def in_a_program_that_replaces_values(net: Net, path: Path) -> Any:
    """They were given, not computed: no recipe is run for them."""
    if not sessions.running():
        net.out.weight.set_data(Tensor(np.zeros(net.out.weight.shape, np.float32)))
    return in_a_program(net, path)


def by_itself(net: Net, path: Path) -> Any:
    return net.out.weight.asnumpy()


def as_a_tensor(net: Net, path: Path) -> Any:
    assert net.out.bias is not None
    return net.out.bias.value().asnumpy()


def in_one_lookup(net: Net, path: Path) -> Any:
    return net.item(SEEN).asnumpy()


def in_pynative_mode(net: Net, path: Path) -> Any:
    context.set_context(mode=context.PYNATIVE_MODE)
    found = in_a_program(net, path)
    context.set_context(mode=context.GRAPH_MODE)
    return found


def in_a_checkpoint(net: Net, path: Path) -> Any:
    file = str(path / "net.safetensors")
    save_checkpoint(cell_of(net), file)
    found = load_checkpoint(file)
    served = [name for name in sorted(found) if isinstance(found[name], Tensor) and "." in name]
    return np.concatenate([found[name].asnumpy().reshape(-1) for name in served])


READ: list[Callable[[Net, Path], Any]] = [
    in_a_program,
    in_a_program_that_replaces_values,
    by_itself,
    as_a_tensor,
    in_one_lookup,
    in_pynative_mode,
    in_a_checkpoint,
]


@pytest.mark.parametrize("read", READ)
def test_the_first_thing_that_is_read(
    read: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Kept(3)
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    net = Net()
    cell = cell_of(net)
    train(cell, 0, STEPS)
    expected = read(net, tmp_path)
    after = train(cell, STEPS, STEPS + 2)
    # The same steps again, on servers of their own, and then the worker is another.
    client = Kept(3)
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    train(cell_of(Net()), 0, STEPS)
    client.start = STEPS
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    again = Net()
    np.testing.assert_array_equal(read(again, tmp_path), expected)
    assert train(cell_of(again), STEPS, STEPS + 2) == after
    # Servers without anything: what the recipes make.
    begin(Kept(3), monkeypatch, wal_dir=str(tmp_path))
    first = read(Net(), tmp_path)
    assert first.shape != expected.shape or not (first == expected).all()


def test_data_parallel_beside_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=4)
    client = Kept(3)
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    net = Net()
    train(cell_of(net), 0, STEPS)
    x = Tensor(np.arange(8)), Tensor(np.ones((8, 1), np.float32))
    expected = net(*x).asnumpy(), net.out.weight.asnumpy()
    client.start = STEPS
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    again = Net()
    np.testing.assert_array_equal(again(*x).asnumpy(), expected[0])
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    np.testing.assert_array_equal(Net().out.weight.asnumpy(), expected[1])


def test_servers_are_not_started_to_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def connect(settings: Any) -> Any:
        raise AssertionError("there can be nothing on servers yet")

    for settings in ({}, {"wal_dir": str(tmp_path / "new")}, {"worker_num": 2}):
        begin(LocalClient(3), monkeypatch, **settings)
        monkeypatch.setattr(sessions, "connect", connect)
        net = Net()
        assert (by_itself(net, tmp_path) == net.out.weight.asnumpy()).all()
        assert np.isfinite(net.out(Tensor(np.ones((2, 4), np.float32))).asnumpy()).all()


def test_the_servers_of_another_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = Kept(3)
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    train(cell_of(Net()), 0, 1)
    client.start = 1
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    message = (
        r"'item.embedding_table' is a table of shape \(30, 2\) .* but a table of shape \(30, 4\)"
    )
    with pytest.raises(ParameterServerError, match=message):
        Net(2).item(SEEN)


def test_another_shape_of_the_same_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Slices are flat: only the full shape says that they are of another one."""
    client = Kept(3)
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    train(cell_of(Net()), 0, 1)
    client.start = 1
    for shape in ((4, 1), (2, 4)):
        begin(client, monkeypatch, wal_dir=str(tmp_path))
        param = Parameter(Tensor(np.zeros(shape, np.float32)), name="out.weight")
        param.set_param_ps()
        message = rf"'out.weight' is of shape \({shape[0]}, {shape[1]}\) .* of shape \(1, 4\)"
        with pytest.raises(ParameterServerError, match=message):
            paramesh.jit(lambda param=param: param + 1)()


def test_a_checkpoint_has_values_and_state_of_one_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = Late(3)
    begin(client, monkeypatch, mode="stale", staleness=1)
    net = Net()
    cell = cell_of(net)
    train(cell, 0, STEPS)
    file = str(tmp_path / "net.safetensors")
    save_checkpoint(cell, file)
    found, there = load_checkpoint(file), client.dump("out.weight")
    assert set(there) == {"value", "accum"}
    assert not (net.out.weight.asnumpy() == there["value"]).all()
    for slot, name in (("value", "out.weight"), ("accum", "accum.out.weight")):
        np.testing.assert_array_equal(found[name].asnumpy(), there[slot])


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam": lambda p: nn.Adam(p, nn.ExponentialDecayLR(0.1, 0.9, 1)),
    "LazyAdam": lambda p: nn.LazyAdam(p, 0.1),
    "AdamWeightDecay": lambda p: nn.AdamWeightDecay(p, 0.1),
    "Momentum": lambda p: nn.Momentum(p, nn.ExponentialDecayLR(0.1, 0.9, 1), 0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_is_that_of_the_run_whoever_writes_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All numbers of it: also the counts of a restarted worker, which has no pending steps."""

    def file_of(cell: nn.TrainOneStepCell, path: Path) -> dict[str, Any]:
        save_checkpoint(cell, str(path))
        loaded = load_checkpoint(str(path))
        found = {n: one.asnumpy() for n, one in loaded.items() if isinstance(one, Tensor)}
        assert int(found["global_step"][0]) == STEPS
        return found

    def script() -> nn.TrainOneStepCell:
        net = Net()
        return nn.TrainOneStepCell(net, OPTIMIZERS[name](net.trainable_params()))

    client = Kept(3)
    begin(client, monkeypatch)
    cell = script()
    train(cell, 0, STEPS)
    expected = file_of(cell, tmp_path / "first.safetensors")
    client.start = STEPS
    begin(client, monkeypatch, wal_dir=str(tmp_path))
    cell = script()
    for again in ("second", "third"):  # and saving changes nothing
        found = file_of(cell, tmp_path / f"{again}.safetensors")
        assert found.keys() == expected.keys()
        for one, value in expected.items():
            np.testing.assert_array_equal(found[one], value, err_msg=one)
    train(cell, STEPS, STEPS + 1)
    assert int(cell.optimizer.global_step.asnumpy()[0]) == STEPS + 1
