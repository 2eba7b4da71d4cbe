"""What a person sees of a training: lines, the bar, the bar of notebooks, and Weights & Biases."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import nn
from paramesh.train import Model, WandbLogger
from paramesh.train.callbacks import Facts
from paramesh.train.facts import Clock, duration, memory_text, rate_of

X, Y = np.ones((16, 3), np.float32), np.zeros(16, np.int32)
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 16, 4)]


def model(rate: Any = 0.05) -> Model:
    paramesh.set_seed(0)
    net = nn.Dense(3, 2)
    opt = nn.Momentum(net.trainable_params(), rate, 0.9)
    return Model(net, nn.CrossEntropyLoss(), opt, metrics={"accuracy", "loss"})


def test_lines_for_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    model().train(3, BATCHES, valid_dataset=BATCHES, valid_frequency=3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    pattern = (
        r"epoch 1/3: 4 steps in [\d.]+ s, loss \d\.\d{4}, rate 0\.05, [\d.]+ s left, [\d.]+ [MG]iB"
    )
    assert re.fullmatch(pattern, lines[0])
    # The metrics are a set.
    results = r"rate 0\.05, (val accuracy 1, |val loss 0\.\d+, ){2}[\d.]+ [MG]iB$"
    assert re.search(results, lines[2])


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    model().train(1, BATCHES, progress=False)
    assert capsys.readouterr() == ("", "")


def test_rates() -> None:
    plain = Facts(optimizer=model().train_network.optimizer)
    assert rate_of(plain) == pytest.approx(0.05)
    schedule = model(nn.ExponentialDecayLR(0.1, 0.5, 1)).train_network.optimizer
    assert rate_of(Facts(optimizer=schedule)) == pytest.approx(0.1)
    assert rate_of(Facts(optimizer=None)) is None
    net = nn.Dense(3, 2)
    groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.2}]
    assert rate_of(Facts(optimizer=nn.Momentum(groups, 0.1, 0.9))) is None


def test_times_and_memory() -> None:
    times = [duration(s) for s in (0.04, 9.94, 10, 59.4, 60, 185, 7385)]
    assert times == ["0.0 s", "9.9 s", "10 s", "59 s", "1:00", "3:05", "2:03:05"]
    assert re.fullmatch(r"[\d.,]+ [KMG]iB", memory_text() or "")


def test_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock()
    facts = Facts(batch_num=10, epoch_num=3, cur_epoch_num=1, cur_step_in_epoch=0, cur_step_num=0)
    assert clock.left(facts) is None
    for at in (100.0, 102.0, 104.0):  # the first step compiles, and does not count
        now[0] = at
        clock.step()
        facts.cur_step_in_epoch += 1
    assert clock.left(facts) == 2.0 * (20 + 7)
    facts.batch_num, facts.cur_step_num = None, 3
    assert clock.left(facts) == 2.0 * 6  # as many as there were so far


class Handle:
    """Keeps what a notebook would show."""

    shown: list[dict[str, str]]

    def __init__(self, data: dict[str, str]) -> None:
        self.shown = [data]

    def update(self, data: dict[str, str], raw: bool) -> None:
        self.shown.append(data)


def test_the_bar_of_a_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handles: list[Handle] = []

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        handles.append(Handle(data))
        return handles[-1]

    class ZMQInteractiveShell:
        pass

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = ZMQInteractiveShell
    inside: Any = types.ModuleType("IPython.display")
    inside.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", inside)
    monkeypatch.setattr("paramesh.train.progress._BETWEEN", 0.0)
    model().train(2, BATCHES)
    (handle,) = handles
    pages = [data["text/html"] for data in handle.shown]
    assert '<progress max="4" value="0"></progress>' in pages[0]
    assert any('value="3"' in page and "loss 0." in page for page in pages)
    assert "<progress" not in pages[-1]
    assert pages[-1].count("steps in") == 2
    assert handle.shown[-1]["text/plain"].count("\n") == 1
    assert capsys.readouterr() == ("", "")
    ipython.get_ipython = lambda: None  # not in a notebook
    model().train(1, BATCHES)
    assert "epoch 1/1" in capsys.readouterr().err


class Run:
    """A run of a stand-in of wandb."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.code: int | None = None

    def log(self, facts: dict[str, Any], step: int) -> None:
        self.logged.append((step, facts))

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    library: Any = types.ModuleType("wandb")
    library.run, library.made, library.options = None, Run(), None

    def init(**options: Any) -> Run:
        library.options = options
        return library.made

    library.init = init
    monkeypatch.setitem(sys.modules, "wandb", library)
    return library


class TestWeightsAndBiases:
    def test_a_run_of_its_own(self, wandb: Any) -> None:
        logger = WandbLogger("digits", every=2, config={"rate": 0.05}, mode="offline")
        model().train(1, BATCHES, logger, valid_dataset=BATCHES, progress=False)
        assert wandb.options == {
            "project": "digits",
            "mode": "offline",
            "config": {"rate": 0.05},
        }
        steps = [step for step, _ in wandb.made.logged]
        assert steps == [2, 4, 4]
        assert set(wandb.made.logged[0][1]) == {"loss", "epoch", "rate"}
        assert set(wandb.made.logged[2][1]) == {"val/accuracy", "val/loss"}
        assert wandb.made.code == 0

    def test_a_run_that_is_there_stays_open(self, wandb: Any) -> None:
        wandb.run = Run()
        model().train(1, BATCHES, WandbLogger(every=4), progress=False)
        assert len(wandb.run.logged) == 1
        assert wandb.run.code is None
        assert wandb.options is None

    def test_a_failure_is_reported(self, wandb: Any) -> None:
        bad = [*BATCHES[:2], (X, X, X)]
        with pytest.raises(TypeError, match="gave a batch of 3 arrays"):
            model().train(1, bad, WandbLogger(every=1), progress=False)
        assert wandb.made.code == 1

    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ImportError, match=r"pip install 'paramesh\[wandb\]'"):
            model().train(1, BATCHES, WandbLogger(), progress=False)

    def test_numbers(self) -> None:
        with pytest.raises(ValueError, match="WandbLogger: every must be an int from 1, got 0"):
            WandbLogger(every=0)

    def test_offline_with_the_library(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("wandb", reason="pip install 'paramesh[wandb]'")
        monkeypatch.setenv("WANDB_SILENT", "true")
        logger = WandbLogger("digits", every=2, mode="offline", dir=str(tmp_path))
        model().train(2, BATCHES, logger, valid_dataset=BATCHES, progress=False)
        (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
        written = file.read_bytes()
        for name in (b"loss", b"rate", b"epoch", b"val/accuracy", b"val/loss"):
            assert name in written
