"""Shares of batches, which workers of servers divide among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, nn
from paramesh.train import Model, WorkerShare, divided, pending_steps, worker_share
from paramesh.train import workers as loops


def test_shares_are_all_rows_once() -> None:
    for count, size in [(12, 3), (13, 4), (5, 5)]:
        parts = [list(range(count))[WorkerShare(rank, size).rows(count)] for rank in range(size)]
        assert [row for part in parts for row in part] == list(range(count))
        assert all(parts)
    with pytest.raises(ValueError, match="2 rows cannot be divided among 3 workers"):
        WorkerShare(0, 3).rows(2)


def test_all_arrays_of_a_batch_are_cut() -> None:
    x, share = np.arange(8).reshape(4, 2), WorkerShare(1, 2)
    batch = {"x": Tensor(x), "y": (x, [x]), "rate": 0.5, "none": None, "scalar": np.float32(1)}
    found = loops.part_of(batch, share)
    assert (found["x"].asnumpy() == x[2:]).all()
    assert (found["y"][0] == x[2:]).all()
    assert (found["y"][1][0] == x[2:]).all()
    assert (found["rate"], found["none"]) == (0.5, None)
    assert loops.part_of(batch, WorkerShare(0, 1)) is batch
    with pytest.raises(ValueError, match=r"one length along their first axis, got \[3, 4\]"):
        loops.part_of((x, x[:3]), share)


def test_alone_it_is_the_whole_batch() -> None:
    assert worker_share() == (0, 1)
    batches = [(np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))]
    assert list(pending_steps(divided(batches))) == batches
    net = nn.Dense(2, 1)
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.1))
    model.train(2, divided(batches), progress=False)


class Pace:
    """A worker that is one of two, and then one of three, and then none."""

    passed = 0

    def __init__(self) -> None:
        self.step, self.sizes, self.divides = 0, [2, 2, 3, 1], False

    def begin(self) -> None: ...

    def end(self) -> None:
        self.step += 1

    def share(self, ahead: int = 0) -> tuple[int, int]:
        return 1, self.sizes[self.step + ahead]

    def divide(self) -> None:
        self.divides = True

    @property
    def has_left(self) -> bool:
        return self.share()[1] <= 1


@pytest.mark.parametrize("how", ["loop", "model"])
def test_the_batch_is_divided_anew(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pace, seen = Pace(), list[int]()
    monkeypatch.setattr(loops, "pace", lambda: pace)
    batches: list[Any] = [(np.full((6, 2), i, np.float32),) for i in range(9)]

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Dense(2, 1)

        def construct(self, x: Any) -> Any:
            seen.append(x.shape[0])
            return self.out(x).mean()

    def train() -> None:
        if how == "model":
            net = Net()
            model = Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1))
            model.train(1, divided(batches), progress=False)
            return
        for batch in pending_steps(divided(batches)):
            seen.append(len(batch[0]))

    with pytest.raises(SystemExit) as left:
        train()
    assert left.value.code == 0
    assert "worker 1 has no more steps in this run: it has 1 worker from" in capsys.readouterr().err
    assert pace.divides
    assert list(dict.fromkeys(seen)) == [3, 2]  # a program is traced once for each size
    assert pace.step == 3
