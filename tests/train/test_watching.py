"""What trainings report for `paramesh watch`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paramesh import Tensor, jit, nn
from paramesh.files import live_entries
from paramesh.telemetry import report as reports
from paramesh.telemetry.journal import Watched, watched
from paramesh.train import Callback, Model, RunContext, report


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    where = tmp_path / "paramesh"
    monkeypatch.setattr(live_entries, "folders", lambda: [where])
    monkeypatch.setattr(reports, "EVERY", 0.0)
    monkeypatch.delenv(reports.OFF, raising=False)
    reports.end()
    yield where
    reports.end()


class Seen(Callback):
    """What a watcher would find after each step."""

    def __init__(self) -> None:
        self.found: list[Watched] = []

    def on_train_step_end(self, run_context: RunContext) -> None:
        self.found += watched()[0]


def trained(seen: Callback, epochs: int = 2) -> None:
    net = nn.Dense(4, 2)
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.25))
    data = [(np.ones((8, 4), np.float32), np.ones((8, 2), np.float32))] * 3
    model.train(epochs, data, seen, progress=False)


def test_a_model_is_found_while_it_trains(folder: Path) -> None:
    seen = Seen()
    trained(seen)
    assert [one.samples[-1].step for one in seen.found] == [1, 2, 3, 4, 5, 6]
    last = seen.found[-1]
    assert last.samples[-1].examples == 48
    assert {"epoch": 2.0, "epochs": 2.0, "step_in_epoch": 3.0}.items() <= (
        last.samples[-1].numbers.items()
    )
    assert [event.text for event in last.events] == ["epoch 1/2 done"]
    assert last.samples[-1].numbers["rate"] == 0.25
    assert last.samples[-1].numbers["memory"]
    assert last.facts.devices
    losses = [sample.loss for sample in last.samples if sample.loss is not None]
    assert all(isinstance(loss, float) for loss in losses)
    assert watched() == ([], [])
    assert list(folder.iterdir()) == []


def test_a_failed_training_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Callback):
        def on_train_step_end(self, run_context: RunContext) -> None:
            raise ZeroDivisionError

    events: list[str] = []
    flush = reports._flush
    monkeypatch.setattr(
        reports, "_flush", lambda r: (events.extend(e.text for e in r.events), flush(r))
    )
    with pytest.raises(ZeroDivisionError):
        trained(Fails())
    assert events[-1] == "stopped by ZeroDivisionError"
    assert watched() == ([], [])


def test_switched_off(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(reports.OFF, "0")
    seen = Seen()
    trained(seen)
    report(1.0)
    assert seen.found == []
    assert not folder.exists()


def test_short_trainings_leave_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(reports, "EVERY", 3600.0)
    trained(Seen())
    assert not folder.exists()


@pytest.mark.parametrize(
    "loss", [0.5, np.float32(0.5), np.array([0.25, 0.75]), jnp.array(0.5), Tensor([0.25, 0.75])]
)
def test_a_loop_of_ones_own(loss: object) -> None:
    jax.block_until_ready(getattr(loss, "value", None))
    for _ in range(3):
        report(loss, examples=16, rate=Tensor(0.125))  # type: ignore[arg-type]
    (found,) = watched()[0]
    assert found.samples[-1][1:3] == (3, 48)
    assert found.samples[-1].loss == 0.5
    assert found.samples[-1].numbers["rate"] == 0.125
    assert found.samples[-1].numbers["memory"]


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="report: loss must be a number or an array, got list"):
        report([1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="report: name must be a number or an array, got str"):
        report(name="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="examples must be an int, got float"):
        report(examples=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="examples must not be negative, got -1"):
        report(examples=-1)
    with pytest.raises(TypeError, match="report the step outside of the compiled function"):
        jit(lambda x: (report(x.sum()), x)[1])(Tensor([1.0]))
    assert watched() == ([], [])


def test_two_threads_do_not_mix_their_steps() -> None:
    report(1.0)
    thread = threading.Thread(target=lambda: [report(2.0) for _ in range(5)])
    thread.start()
    thread.join()
    report(1.0)
    (found,) = watched()[0]
    assert found.samples[-1].step == 2
