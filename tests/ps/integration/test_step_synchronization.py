"""A worker that is started again makes its pending steps, with the bits of the first time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.errors import ParameterStateError
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.local_client import LocalClient
from paramesh.train import Callback, Model, first_step, pending_steps

EPOCHS, BATCHES = 2, 4


class Kept(LocalClient):
    """Servers that outlive their worker."""

    def declare(self, specs: Any, values: Any) -> None:
        if not self.start:
            super().declare(specs, values)


class Killed(BaseException):
    """The worker is gone."""


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Dense(4, 8)
        self.dropout = nn.Dropout(p=0.5)
        self.out = nn.Dense(8, 1)

    def construct(self, x: Any, label: Any) -> Any:
        return ((self.out(self.dropout(self.hidden(x))) - label) ** 2).mean()


class Data:
    def __init__(self, length: bool) -> None:
        if length:
            self.get_dataset_size = lambda: BATCHES

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(BATCHES):
            rng = np.random.default_rng(i)
            yield (
                Tensor(rng.standard_normal((8, 4)).astype(np.float32)),
                Tensor(np.ones((8, 1), np.float32)),
            )


class Worker:
    """Starts of one worker, on the same servers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = Kept(1)
        monkeypatch.setattr(sessions, "connect", lambda settings: self.client)

    def run(self, how: str, until: int = 99, length: bool = True) -> list[float]:
        """The losses of the steps that it makes, until it is killed."""
        context.reset_ps_context()
        sessions.end()
        context.set_ps_context(enable_ps=True, server_num=1)
        paramesh.set_seed(3)
        net = Net()
        net.set_param_ps()
        rate = nn.ExponentialDecayLR(0.1, 0.5, 1)
        optimizer = nn.SGD(net.trainable_params(), rate)
        losses: list[float] = []
        data = Data(length)

        def seen(loss: Any) -> None:
            losses.append(float(loss))
            if len(losses) == until:
                raise Killed

        class Watch(Callback):
            def on_train_step_end(self, run_context: Any) -> None:
                seen(run_context.original_args().net_outputs)

        start = self.client.start
        assert first_step() == start
        try:
            if how == "model":
                Model(net, optimizer=optimizer).train(EPOCHS, data, Watch(), progress=False)
            else:
                step = nn.TrainOneStepCell(net, optimizer)
                step.set_train()
                for _ in range(EPOCHS):
                    for batch in pending_steps(data):
                        seen(step(*batch))
        except Killed:
            pass
        self.client.start = start + len(losses)
        if losses:
            assert int(optimizer.global_step.asnumpy()[0]) == start + len(losses)
        return losses


@pytest.mark.parametrize(
    ("how", "length"),
    [
        ("model", True),
        pytest.param("model", False, marks=pytest.mark.slow),
        pytest.param("loop", True, marks=pytest.mark.slow),
    ],
)
def test_the_same_bits(how: str, length: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = Worker(monkeypatch).run("model")
    assert len(undisturbed) == EPOCHS * BATCHES
    worker = Worker(monkeypatch)
    losses: list[float] = []
    for until in (2, 2, 3):  # in an epoch, at its end, and in the last one
        losses += worker.run(how, until, length)
    losses += worker.run(how, length=length)
    assert losses == undisturbed
    assert worker.run(how, length=length) == []


@pytest.mark.slow
def test_workers_draw_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Worker(monkeypatch).run("loop")
    second = Worker(monkeypatch)
    second.client.rank = 1
    monkeypatch.setattr(second.client, "workers_at", lambda step: 2)  # or it would have left
    assert second.run("loop") != first


def test_without_processes_nothing_is_passed_over() -> None:
    assert first_step() == 0
    assert list(pending_steps([1, 2])) == [1, 2]
    context.set_ps_context(enable_ps=True)
    assert list(pending_steps([1, 2])) == [1, 2]


def test_two_pushes_for_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    Worker(monkeypatch)
    context.set_ps_context(enable_ps=True, server_num=1)
    net = Net()
    net.set_param_ps()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
    batches = pending_steps(Data(True))
    batch = next(batches)
    step(*batch)
    step(*batch)
    with pytest.raises(ParameterStateError, match="after 1 steps this worker has pushed 2 times"):
        next(batches)


def test_what_is_trained_on_a_worker_is_lost_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    worker.client.start = 3
    context.set_ps_context(enable_ps=True, server_num=1)
    net = Net()
    net.hidden.set_param_ps()
    model = Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1))
    with pytest.raises(ParameterStateError, match=r"after step 3, and Parameter 'out.weight' is"):
        model.train(1, Data(True), progress=False)
