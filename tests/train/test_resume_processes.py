"""Checkpoints of several processes: a run that was killed ends with the bits of one that was not.

Started by `paramesh launch`, this file is one of the processes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import context, nn, save_checkpoint
from paramesh.checkpoint.sharded import writer
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.train import (
    CheckpointConfig,
    CheckpointManager,
    LambdaCallback,
    Model,
    ModelCheckpoint,
)

EPOCHS, BATCHES, ROWS = 3, 4, 8
LAUNCH = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]


class Rows:
    """This process's rows of batches in an order of the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Any:
        draw = np.random.default_rng(self.epoch)
        each = ROWS // jax.process_count()
        for _ in range(BATCHES):
            x = draw.normal(size=(ROWS, 8)).astype(np.float32)
            y = draw.integers(0, 3, ROWS).astype(np.int32)
            mine = slice(jax.process_index() * each, (jax.process_index() + 1) * each)
            yield x[mine], y[mine]


def model() -> Model:
    context.reset()
    context.set_auto_parallel_context(
        parallel_mode="data_parallel", gradients_mean=True, enable_parallel_optimizer=True
    )
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dropout(p=0.2), nn.Dense(8, 3))
    rate = nn.ExponentialDecayLR(0.05, 0.5, 4)
    return Model(net, nn.CrossEntropyLoss(), nn.Adam(net.trainable_params(), rate))


def train(made: Model, *callbacks: Any, resume: Any = None) -> None:
    made.train(EPOCHS, Rows(), list(callbacks), progress=False, resume=resume)


def kill_in_save(number: int) -> None:
    """Have this process killed in its save of that number, when its file is half written."""
    write, count = writer._write_part, [0]

    def dying(*args: Any) -> None:
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*args)

    writer._write_part = dying


def in_a_process(folder: Path, how: str) -> None:
    beside = how.startswith("async")
    manager = CheckpointManager(
        folder / "run", keep_last=2, every_steps=2, prefix="s", async_save=beside
    )
    if how == "whole then killed":
        made = model()
        saver = ModelCheckpoint(
            "c", folder / "whole", CheckpointConfig(5, keep_checkpoint_max=1, format="sharded")
        )
        train(made, saver)
        save_checkpoint(made.train_network, folder / "whole.sharded")
        if jax.process_index() == 1:
            kill_in_save(4)
        train(model(), manager)
        raise AssertionError("it was to be killed")
    made = model()
    slow = LambdaCallback(on_train_step_end=lambda _: time.sleep(0.05 if "slow" in how else 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = manager.latest()
    print("resume", None if found is None else found.name, flush=True)
    train(made, manager, slow, resume=found)
    save_checkpoint(made.train_network, folder / "end.sharded")


def launch(folder: Path, how: str, processes: int = 2, devices: int = 2) -> Any:
    words = ["-n", processes, "--devices-per-process", devices, __file__, folder, how]
    return subprocess.Popen(
        [*LAUNCH, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: Any, code: int | None = 0) -> str:
    from process_output import rest_of  # the processes run this file, and do not find it

    output, _ = rest_of(process)
    assert code is None or process.returncode == code, output
    return output


def contents(path: Path) -> dict[str, Any]:
    with ShardedSource(path) as source:
        return {name: source.read(name) for name in source.names()}


def assert_same_bits(folder: Path) -> None:
    whole, end = contents(folder / "whole.sharded"), contents(folder / "end.sharded")
    assert list(whole) == list(end)
    assert [n for n in whole if whole[n].tobytes() != end[n].tobytes()] == []


@pytest.mark.slow
def test_one_process_is_killed_in_a_save(tmp_path: Path) -> None:
    assert "SIGKILL" in ended(launch(tmp_path, "whole then killed"), code=None)
    run = tmp_path / "run"
    assert sorted(os.listdir(run)) == ["s-4.sharded", "s-6.sharded", "s-8.sharded"]
    manager = CheckpointManager(run, keep_last=2, prefix="s")
    with pytest.warns(
        UserWarning, match=r"s-8.sharded' has no index.json, so it is not a complete"
    ):
        assert manager.latest() == run / "s-6.sharded"
    assert os.listdir(tmp_path / "whole") == ["c-3_4.sharded"]
    assert "resume s-6.sharded" in ended(launch(tmp_path, "resume"))
    assert_same_bits(tmp_path)
    assert sorted(os.listdir(run)) == ["s-10.sharded", "s-12.sharded"]


@pytest.mark.slow
@pytest.mark.parametrize("who", ["one", "all"])
def test_processes_are_killed_at_any_time(tmp_path: Path, who: str) -> None:
    ended(launch(tmp_path, "whole then killed"), code=None)
    chance = random.Random(who)
    for number in range(6):
        process = launch(tmp_path, "async slow" if number % 2 else "slow")
        assert "resume" in process.stdout.readline()
        time.sleep(chance.uniform(0.0, 2.5))
        victims = children(process.pid)
        for victim in victims if who == "all" else victims[-1:]:
            os.kill(victim, signal.SIGKILL)
        ended(process, code=None)
    ended(launch(tmp_path, "async"))
    assert_same_bits(tmp_path)
    assert sorted(os.listdir(tmp_path / "run")) == ["s-10.sharded", "s-12.sharded"]


def children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True)
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (4, 1)])
def test_other_numbers_of_processes_go_on(tmp_path: Path, processes: int, devices: int) -> None:
    ended(launch(tmp_path, "whole then killed"), code=None)
    assert "resume s-6.sharded" in ended(launch(tmp_path, "resume", processes, devices))
    whole, end = contents(tmp_path / "whole.sharded"), contents(tmp_path / "end.sharded")
    for name, value in whole.items():
        np.testing.assert_allclose(end[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    in_a_process(Path(sys.argv[1]), sys.argv[2])
