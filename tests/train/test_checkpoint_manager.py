"""CheckpointManager: what it keeps, what it finds after a crash, and what it never deletes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramesh import nn, random, set_seed
from paramesh.checkpoint import load_checkpoint, save_checkpoint
from paramesh.checkpoint.background import SaveHandle
from paramesh.errors import CheckpointError
from paramesh.files.atomic import lock
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from paramesh.train import (
    CheckpointConfig,
    CheckpointManager,
    Model,
    ModelCheckpoint,
    RunContext,
    checkpoint_manager,
    pace,
)
from paramesh.train.callbacks import Facts
from type_checks import present, wrong


class Net(nn.Cell):
    """One Parameter, no program."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = Parameter(Tensor(np.full(4, value, np.float32)), name="w")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:-3]
    elif how == "empty":
        content = bytearray()
    else:  # zeros in the array's bytes, as a disk that lost them has
        content[-16:] = bytes(16)
    path.write_bytes(content)


DAMAGES = ("cut", "empty", "zeros")


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "new", keep_last=2, keep_best=("loss", "min"))
    assert manager.latest() is manager.best() is None
    assert manager.restore(Net()) is None
    for step, loss in enumerate([3.0, 1.0, 2.0, float("nan"), 1.0, 4.0, 5.0, 6.0]):
        path = manager.save(step, Net(step), {"loss": loss})
        assert path == tmp_path / "new" / f"step-{step}.safetensors" == manager.latest()
    assert names(tmp_path / "new") == [f"step-{i}.safetensors" for i in (4, 6, 7)]
    again = CheckpointManager(tmp_path / "new", keep_best=("loss", "max"))
    assert [(one.step, one.metrics) for one in again.checkpoints()] == [
        (4, {"loss": 1.0}),
        (6, {"loss": 5.0}),
        (7, {"loss": 6.0}),
    ]
    assert manager.best() == tmp_path / "new/step-4.safetensors"
    assert again.best() == tmp_path / "new/step-7.safetensors"


def test_other_files_and_other_runs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "step-x.safetensors").write_text("mine")
    (tmp_path / "step-10.txt").write_text("mine")
    CheckpointManager(tmp_path, prefix="other-step").save(1, Net())
    for step in (9, 10, 100):
        CheckpointManager(tmp_path, keep_last=1).save(step, Net())
    assert names(tmp_path) == [
        "other-step-1.safetensors",
        "step-10.txt",
        "step-100.safetensors",
        "step-x.safetensors",
    ]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_newest_file_is_passed_over(tmp_path: Path, how: str) -> None:
    manager = CheckpointManager(tmp_path, keep_last=2)
    for step in (1, 2, 3):
        set_seed(step)
        manager.save(step, Net(step), {"loss": step})
    spoil(tmp_path / "step-3.safetensors", how)
    for finder in (manager, CheckpointManager(tmp_path)):
        with pytest.warns(UserWarning, match=r"passes over a file: .*step-3.safetensors"):
            assert finder.latest() == tmp_path / "step-2.safetensors"
    net = Net()
    random.next_key()
    found = present(finder.restore(net))  # no second warning
    assert (found.step, found.metrics, found.path) == (2, {"loss": 2.0}, finder.latest())
    assert net.w.asnumpy().tolist() == [2.0] * 4
    assert random.get_rng_state().asnumpy().tolist() == [0, 2, 0, 0]
    with pytest.raises(CheckpointError, match="step-3.safetensors"):
        finder.restore(net, tmp_path / "step-3.safetensors")
    assert net.w.asnumpy().tolist() == [2.0] * 4


def test_without_checksums_only_the_layout_is_looked_at(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, checksums=False)
    saved = manager.save(1, Net(1))
    assert isinstance(saved, Path)
    spoil(saved, "zeros")
    assert CheckpointManager(tmp_path, checksums=False).latest() is not None


@pytest.mark.filterwarnings("ignore:CheckpointManager passes over")
@settings(max_examples=40, deadline=None)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from(("save", "restart", *DAMAGES)), st.integers(0, 6)), max_size=12
    ),
    keep=st.integers(1, 2),
)
def test_there_is_always_a_valid_one(tmp_path_factory, actions, keep: int) -> None:
    folder = tmp_path_factory.mktemp("any")
    manager = CheckpointManager(folder, keep_last=keep, keep_best=("m", "max"))
    good: dict[int, float] = {}
    for action, step in actions:
        path = folder / f"step-{step}.safetensors"
        if action == "save":
            metric = float(step * 5 % 7)
            manager.save(step, Net(step + 1), {"m": metric})
            good[step] = metric
            best = max(good, key=lambda s: (good[s], s))
            good = {s: good[s] for s in {*sorted(good)[-keep:], best, step}}
        elif action == "restart":
            manager = CheckpointManager(folder, keep_last=keep, keep_best=("m", "max"))
        elif path.is_file():
            spoil(path, action)
            good.pop(step, None)
        assert {one.step: one.metrics["m"] for one in manager.checkpoints()} == good
        net = Net()
        assert (manager.restore(net) is None) == (not good)
        assert net.w.asnumpy().tolist() == ([max(good) + 1.0] * 4 if good else [0.0] * 4)


def test_saves_in_background(tmp_path: Path, monkeypatch) -> None:
    manager = CheckpointManager(tmp_path, keep_last=1, async_save=True)
    net = Net(1)
    first = manager.save(1, net)
    net.w.set_data(Tensor(np.full(4, 2, np.float32)))
    assert isinstance(first, SaveHandle)
    assert manager.latest() == first.wait() == tmp_path / "step-1.safetensors"
    manager.save(2, net)
    third = manager.save(3, net)
    assert isinstance(third, SaveHandle)
    third.wait()
    assert names(tmp_path) == ["step-2.safetensors", "step-3.safetensors"]
    assert present(manager.restore(net, tmp_path / "step-2.safetensors")).step == 2
    tmp_path.joinpath("step-4.safetensors").mkdir()  # so that the file cannot get its name
    manager.save(4, net)
    with pytest.raises(OSError, match="directory"):
        manager.latest()
    tmp_path.joinpath("step-4.safetensors").rmdir()
    assert manager.latest() == tmp_path / "step-3.safetensors"


def test_a_file_is_verified_once(tmp_path: Path, monkeypatch) -> None:
    looked: list[str] = []
    read = checkpoint_manager._read
    monkeypatch.setattr(
        checkpoint_manager, "_read", lambda path, sums: looked.append(path.name) or read(path, sums)
    )
    manager = CheckpointManager(tmp_path, keep_last=2)
    for step in range(4):
        manager.save(step, Net())
    manager.latest()
    assert looked == []  # what was just written needs no look
    other = CheckpointManager(tmp_path)
    other.latest()
    other.latest()
    assert looked == ["step-3.safetensors"]
    other.checkpoints()
    assert looked == ["step-3.safetensors", "step-2.safetensors"]


def run(manager: CheckpointManager, ends: dict[int, dict[str, Any]], clock: Any) -> list[str]:
    """What is saved in 8 steps of a minute each; `ends`: {last step of an epoch: its results}."""
    facts = Facts(
        train_network=Net(),
        cur_epoch_num=1,
        cur_step_in_epoch=0,
        cur_step_num=0,
        batch_num=None,
        train_dataset=[],
        eval_results={},
    )
    context = RunContext(facts)
    saved: list[str] = []

    def save(step: int, net: Any, metrics: Any, append_dict: Any) -> None:
        saved.append(f"{step}" + "".join(f" {n}={v:g}" for n, v in (metrics or {}).items()))

    manager.save = save  # type: ignore[method-assign]
    manager.on_train_begin(context)
    for step in range(1, 9):
        clock.now += 60
        facts.cur_step_num = step
        manager.on_train_step_end(context)
        if step in ends:
            facts.eval_results = ends[step]
            manager.on_train_epoch_end(context)
    manager.on_train_end(context)
    return saved


@pytest.mark.parametrize(
    ("options", "ends", "saved"),
    [
        ({}, {4: {}, 8: {"a": 1}}, ["4", "8 a=1"]),
        ({}, {4: {}}, ["4", "8"]),
        ({"every_steps": 3}, {4: {"a": np.float32(1)}, 8: {}}, ["3", "6", "8"]),
        (
            {"every_steps": 3, "keep_best": ("a", "min")},
            {4: {"a": 2, "per class": [1, 2]}, 6: {}, 8: {"b": 1}},
            ["3", "4 a=2", "7", "8"],
        ),
        ({"every_minutes": 2.5}, {8: {}}, ["3", "6", "8"]),
        ({"every_minutes": 2.5, "every_steps": 2}, {8: {}}, ["2", "4", "6", "8"]),
    ],
)
def test_when_a_callback_saves(tmp_path: Path, monkeypatch, options, ends, saved) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(pace, "time", clock)
    assert run(CheckpointManager(tmp_path, **options), ends, clock) == saved


def test_what_is_refused(tmp_path: Path) -> None:
    def refused(kind: type[Exception], match: str, make: Any) -> None:
        with pytest.raises(kind, match=match):
            make()

    refused(TypeError, "directory must be a path", lambda: CheckpointManager(wrong(3)))
    for options, match in (
        ({"keep_last": 0}, "keep_last must be an int from 1"),
        ({"every_steps": True}, "every_steps must be an int from 1"),
        ({"every_minutes": 0}, "every_minutes must be above 0"),
        ({"keep_best": "loss"}, "keep_best must be .*, got 'loss'"),
        ({"keep_best": ("loss", "least")}, "'min' or 'max'"),
        ({"prefix": "a/b"}, "without '/'"),
    ):
        refused(ValueError, match, lambda o=options: wrong(CheckpointManager)(tmp_path, **o))
    refused(
        TypeError, "checksums must be a bool", lambda: CheckpointManager(".", checksums=wrong(1))
    )
    manager = CheckpointManager(tmp_path / "x", keep_best=("loss", "min"))
    refused(ValueError, "step must be an int from 0", lambda: manager.save(-1, Net()))
    refused(TypeError, "net must be a Cell", lambda: manager.save(1, wrong({})))
    refused(TypeError, "net must be a Cell", lambda: manager.restore(wrong({})))
    refused(TypeError, "must be {name: number}", lambda: manager.save(1, Net(), wrong(3)))
    refused(TypeError, r"metrics\['loss'\]", lambda: manager.save(1, Net(), wrong({"loss": "low"})))
    refused(
        ValueError, "wants the metric 'loss'.*has 'a'", lambda: manager.save(1, Net(), {"a": 1})
    )
    refused(ValueError, "nothing says what is best", CheckpointManager(tmp_path).best)
    assert not (tmp_path / "x").exists()
    save_checkpoint(Net(), tmp_path / "step-1.safetensors")
    with pytest.warns(UserWarning, match="was not saved by a CheckpointManager"):
        assert CheckpointManager(tmp_path).latest() is None


PROGRAM = """
import os, signal, sys
import numpy as np
from paramesh import nn, optim, set_seed
from paramesh.train import CheckpointManager, LambdaCallback, Model

set_seed(1)
net = nn.SequentialCell(nn.Dense(4, 8), nn.Dropout(p=0.5), nn.Dense(8, 3))
opt = optim.Adam(net.trainable_params(), 0.05)
model = Model(net, nn.CrossEntropyLoss(), opt)
numbers = np.random.default_rng(0)
data = [
    (numbers.normal(size=(4, 4)).astype(np.float32), np.arange(4, dtype=np.int32) % 3)
    for _ in range(5)
]


def kill(run_context):
    if run_context.original_args().cur_step_num == stop:
        os.kill(os.getpid(), signal.SIGKILL)


def train(folder, stop_at):
    global stop
    stop = stop_at
    manager = CheckpointManager(folder, keep_last=2, every_steps=2)
    model.train(
        3, data, [manager, LambdaCallback(on_train_step_end=kill)],
        resume=manager.latest(), progress=False,
    )
    return model
"""


def test_a_killed_run_goes_on_from_the_latest(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM + f"train({str(tmp_path / 'a')!r}, 7)"],
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path / "a") == ["step-4.safetensors", "step-6.safetensors"]
    spoil(tmp_path / "a/step-6.safetensors", "cut")  # and the disk lost some of it
    here: dict[str, Any] = {}
    exec(PROGRAM, here)
    made: Model = here["model"]

    def end(folder: Path) -> dict[str, bytes]:
        here["train"](folder, None)
        assert names(folder)[:1] == ["step-14.safetensors"]
        found = made.train_network.parameters_dict()
        return {name: param.asnumpy().tobytes() for name, param in found.items()}

    whole = end(tmp_path / "b")
    with pytest.warns(UserWarning, match="step-6"):
        assert end(tmp_path / "a") == whole


def test_sharded_checkpoints(tmp_path: Path) -> None:
    manager = CheckpointManager(
        tmp_path, keep_last=2, keep_best=("loss", "min"), format="sharded", async_save=True
    )
    for step, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0]):
        manager.save(step, Net(step), {"loss": loss})
    assert manager.latest() == tmp_path / "step-4.sharded"
    assert manager.best() == tmp_path / "step-1.sharded"
    (tmp_path / "step-4.sharded" / "index.json").unlink()
    (tmp_path / "step-7.sharded").mkdir()
    (tmp_path / "step-7.sharded" / "notes.txt").write_text("mine")
    again = CheckpointManager(tmp_path, keep_last=2, format="sharded")
    with pytest.warns(
        UserWarning, match="has no index.json, so it is not a complete checkpoint"
    ) as told:
        assert again.latest() == tmp_path / "step-3.sharded"
    assert len(told) == 2
    net = Net()
    found = again.restore(net)
    assert found is not None
    assert (found.step, net.w.asnumpy().tolist()) == (3, [3.0] * 4)
    again.save(5, Net(5))  # deletes what a killed save left, and what is too old
    assert names(tmp_path) == ["step-3.sharded", "step-5.sharded", "step-7.sharded"]
    with pytest.raises(ValueError, match="format must be 'safetensors', 'sharded' or None"):
        CheckpointManager(tmp_path, format="ckpt")


def test_an_unfinished_save_of_a_process_that_lives_stays(tmp_path: Path) -> None:
    left = tmp_path / "step-1.sharded"
    left.mkdir()
    with (left / ".save-00000000").open("w") as mark:
        lock(mark.fileno())
        with pytest.warns(UserWarning, match="saving it did not finish"):
            CheckpointManager(tmp_path, format="sharded").save(2, Net())
        assert left.exists()
    CheckpointManager(tmp_path, format="sharded").save(3, Net())
    assert not left.exists()


@pytest.mark.parametrize("kind", ["safetensors", "ckpt", "sharded"])
def test_model_checkpoint_in_every_format(tmp_path: Path, kind: str) -> None:
    config = CheckpointConfig(1, keep_checkpoint_max=2, format=kind, async_save=True)
    saver = ModelCheckpoint("net", tmp_path, config)
    net = nn.Dense(2, 1)
    batch = (np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    model = Model(net, nn.MSELoss(), nn.Momentum(net.trainable_params(), 0.1, 0.9))
    model.train(1, [batch] * 3, saver, progress=False)
    assert names(tmp_path) == [f"net-1_2.{kind}", f"net-1_3.{kind}"]
    assert saver.latest_ckpt_file_name == str(tmp_path / f"net-1_3.{kind}")
    found = load_checkpoint(saver.saved[-1])
    np.testing.assert_array_equal(found["weight"].asnumpy(), net.weight.asnumpy())


def test_what_killed_saves_left_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = tmp_path / ".a.safetensors.123-0123abcd.tmp"
    alive = tmp_path / ".b.safetensors.123-0123abcd.tmp"
    young = tmp_path / ".c.safetensors.123-0123abcd.tmp"
    others = tmp_path / ".mine.tmp"
    for path in (dead, alive, young, others):
        path.touch()
        if path is not young:
            os.utime(path, (0, 0))
    with alive.open("w") as file:
        os.utime(alive, (0, 0))
        lock(file.fileno())
        save_checkpoint(Net(), tmp_path / "x.safetensors")
    left = sorted(path for path in tmp_path.iterdir() if path.suffix == ".tmp")
    assert left == [alive, young, others]
