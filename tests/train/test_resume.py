"""`Model.train(resume=...)`: the run that was interrupted ends as the one that was not."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import nn, optim, set_seed
from paramesh.checkpoint import load_checkpoint, save_checkpoint
from paramesh.errors import CheckpointError
from paramesh.random import get_rng_state
from paramesh.tensor import Tensor
from paramesh.train import (
    CheckpointConfig,
    CheckpointManager,
    DynamicLossScaleManager,
    LambdaCallback,
    Model,
    ModelCheckpoint,
    TimeMonitor,
)
from paramesh.train.callbacks import Callback

EPOCHS, BATCHES = 3, 4
QUIET: Any = {"progress": False, "interrupt_checkpoint": False}


class Shuffled:
    """Batches in an order of the seed and the epoch; counts what was taken."""

    def __init__(self, sized: bool = True) -> None:
        numbers = np.random.default_rng(0)
        self.x = numbers.normal(size=(8 * BATCHES, 4)).astype(np.float32)
        self.y = numbers.integers(0, 3, 8 * BATCHES).astype(np.int32)
        self.epochs: list[int] = []
        if sized:
            self.get_dataset_size = lambda: BATCHES

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self):
        order = np.random.default_rng(self.epochs[-1]).permutation(len(self.x))
        for part in order.reshape(BATCHES, -1):
            yield self.x[part], self.y[part]


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Dense(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(p=0.5)
        self.head = nn.Dense(8, 3)

    def construct(self, x):
        return self.head(self.drop(self.norm(self.fc(x))))


def model(seed: int, **more: Any) -> Model:
    set_seed(seed)
    net = Net()
    rate = nn.ExponentialDecayLR(0.05, 0.5, 4)
    opt = optim.Adam(net.trainable_params(), rate, weight_decay=0.01)
    scale = DynamicLossScaleManager(2.0**4, 2, 3)  # it moves within the run
    return Model(net, nn.CrossEntropyLoss(), opt, loss_scale_manager=scale, **more)


def state(made: Model) -> dict[str, bytes]:
    found = {n: p.asnumpy().tobytes() for n, p in made.train_network.parameters_dict().items()}
    return {**found, "": get_rng_state().asnumpy().tobytes()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """The folder with a checkpoint of every step of a complete run, and what it ends with."""
    folder = tmp_path_factory.mktemp("whole")
    saver = ModelCheckpoint("net", folder, CheckpointConfig(1, keep_checkpoint_max=0))
    made = model(1)
    made.train(EPOCHS, Shuffled(), saver, **QUIET)
    return folder, state(made)


@dataclass
class Fresh:
    """A Model with other recipes that went on from step 5, and what was seen of it."""

    model: Model
    had_init: bool
    saved: list[str]
    end: dict[str, bytes]


@pytest.fixture(scope="module")
def fresh(whole, tmp_path_factory) -> Fresh:
    made, had = model(3), []
    weight = made.predict_network.trainable_params()[0]
    begin = LambdaCallback(on_train_begin=lambda _: had.append(weight.has_init))
    config = CheckpointConfig(2, keep_checkpoint_max=0)
    saver = ModelCheckpoint("net", tmp_path_factory.mktemp("fresh"), config)
    start = whole[0] / "net-2_1.ckpt"
    made.train(EPOCHS, Shuffled(), [begin, saver], resume=start, **QUIET)
    return Fresh(made, had[0], [path.name for path in saver.saved], state(made))


@pytest.fixture
def other(fresh: Fresh) -> Model:
    """A compiled Model in another state: resuming replaces all that it holds."""
    for param in fresh.model.train_network.parameters_dict().values():
        param.set_data(Tensor(np.ones(param.shape, param.dtype.np_dtype)))
    set_seed(9)
    return fresh.model


@pytest.fixture(scope="module")
def unsized(whole, fresh: Fresh, tmp_path_factory) -> Path:
    """Checkpoints of a run whose dataset does not know how many batches it has."""
    folder = tmp_path_factory.mktemp("unsized")
    saver = ModelCheckpoint("net", folder, CheckpointConfig(1, keep_checkpoint_max=0))
    start = whole[0] / "net-1_1.ckpt"
    fresh.model.train(EPOCHS, Shuffled(False), saver, resume=start, **QUIET)
    return folder


def test_a_fresh_model_runs_no_recipe_and_ends_the_same(whole, fresh: Fresh) -> None:
    assert not fresh.had_init
    assert fresh.end == whole[1]
    assert fresh.saved == [f"net-{at}.ckpt" for at in ("2_3", "3_1", "3_3", "3_4")]


def test_what_is_loaded_of_a_checkpoint_are_arrays(whole) -> None:
    """Scripts go through them; where the run was is for `resume` alone."""
    found = load_checkpoint(whole[0] / "net-2_1.ckpt")
    assert len(found) > 10
    assert [name for name, value in found.items() if not hasattr(value, "asnumpy")] == []


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("at", ["1_2", "1_4", "2_1", "2_4", "3_3", "3_4"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    whole, unsized: Path, other: Model, at: str, sized: bool
) -> None:
    epoch, step = map(int, at.split("_"))
    start = (whole[0] if sized else unsized) / f"net-{at}.ckpt"
    seen: list[tuple[int, int, int]] = []

    def note(run_context: Any) -> None:
        args = run_context.original_args()
        seen.append((args.cur_epoch_num, args.cur_step_in_epoch, args.cur_step_num))

    data = Shuffled(sized)
    listed = [LambdaCallback(on_train_step_end=note), TimeMonitor()]
    other.train(EPOCHS, data, listed, resume=start, **QUIET)
    assert state(other) == whole[1]
    done = (epoch - 1) * BATCHES + step
    assert seen == [(i // BATCHES + 1, i % BATCHES + 1, i + 1) for i in range(done, 12)]
    first = epoch + (sized and step == BATCHES)  # an epoch that is over is not begun again
    assert data.epochs == list(range(first, EPOCHS + 1))


@pytest.mark.parametrize("kind", ["none", "saver", "manager"])
def test_an_interrupt_leaves_what_resume_needs(
    whole, other: Model, tmp_path: Path, monkeypatch, capsys, kind: str
) -> None:
    folder, end = whole
    monkeypatch.chdir(tmp_path)
    kinds: dict[str, tuple[list[Callback], str]] = {
        "none": ([], "paramesh-interrupted.safetensors"),
        "saver": ([ModelCheckpoint("n", "s", CheckpointConfig(99))], "s/n-interrupted.ckpt"),
        "manager": ([CheckpointManager("m", every_steps=99)], "m/step-7.safetensors"),
    }
    listed, name = kinds[kind]

    def stop(run_context: Any) -> None:
        if run_context.original_args().cur_step_num == 7:
            os.kill(os.getpid(), signal.SIGINT)

    listed.append(LambdaCallback(on_train_step_end=stop))
    start = folder / "net-1_3.ckpt"
    with pytest.raises(KeyboardInterrupt):
        other.train(EPOCHS, Shuffled(), listed, resume=start, progress=False)
    assert f"Interrupted after step 7; saved {name}." in capsys.readouterr().err
    other.train(EPOCHS, Shuffled(), resume=name, **QUIET)
    assert state(other) == end


def test_more_epochs_than_were_asked_for_at_first(whole, other: Model, tmp_path: Path) -> None:
    folder, end = whole
    last = folder / "net-3_4.ckpt"
    other.train(EPOCHS, Shuffled(), resume=last, **QUIET)  # nothing is left to do
    assert state(other) == end
    data = Shuffled()
    other.train(EPOCHS + 1, data, resume=last, **QUIET)
    assert data.epochs == [4]
    assert state(other) != end


def test_what_cannot_be_resumed(whole, other: Model, tmp_path: Path) -> None:
    folder, _ = whole
    good, before = folder / "net-2_2.ckpt", state(other)
    plain = save_checkpoint(other.train_network, tmp_path / "plain")
    entry = {
        "paramesh.position": "[]",
        "paramesh.random": json.dumps({"seed": 1, "state": [0] * 4}),
    }
    wrong = save_checkpoint(other.train_network, tmp_path / "wrong", append_dict=entry)
    entry = {"paramesh.position": "{}", "paramesh.random": '{"seed": 1, "state": [-1, 0, 0, 0]}'}
    odd = save_checkpoint(other.train_network, tmp_path / "odd", append_dict=entry)
    smaller = ModelCheckpoint(
        "smaller", tmp_path, CheckpointConfig(99, saved_network=other.predict_network)
    )
    other.train(1, Shuffled(), smaller, **QUIET)
    before = state(other)

    def refused(kind: type[Exception], match: str, resume: Any, epoch=3, data=None, **more) -> None:
        with pytest.raises(kind, match=match):
            other.train(epoch, data or Shuffled(), resume=resume, **more, **QUIET)
        assert state(other) == before

    refused(TypeError, "resume must be the path of a checkpoint, got 3", 3)
    refused(FileNotFoundError, "There is no checkpoint", tmp_path / "none.safetensors")
    (tmp_path / "empty").mkdir()
    refused(FileNotFoundError, "it is a folder", tmp_path / "empty")
    refused(CheckpointError, "no index", tmp_path)
    refused(CheckpointError, "does not say where its run was", plain)
    refused(CheckpointError, "without saved_network", smaller.latest_ckpt_file_name)
    refused(CheckpointError, "'paramesh.position' is not a JSON object", wrong)
    refused(CheckpointError, "entry 'paramesh.random' is", odd)
    refused(ValueError, "leave initial_epoch out", good, initial_epoch=1)
    refused(ValueError, "was made in epoch 2, and epoch 1 is the last", good, epoch=1)
    refused(ValueError, "train_dataset has 1 batches, that of .* had 4", good, data=[(1, 2)])
    narrow = Model(nn.Dense(4, 3), nn.CrossEntropyLoss(), None)
    with pytest.raises(CheckpointError, match="does not fit"):
        narrow.train(3, Shuffled(), resume=good, **QUIET)


def test_a_dataset_that_gives_too_few(whole, other: Model) -> None:
    folder, _ = whole
    short = [(np.zeros((8, 4), np.float32), np.zeros(8, np.int32))]
    with pytest.raises(
        ValueError, match="gave 1 batches, but the checkpoint was made after batch 2"
    ):
        other.train(3, lambda: iter(short), resume=folder / "net-2_2.ckpt", **QUIET)


def test_checkpoints_of_runs_load_strictly(whole, other: Model) -> None:
    folder, end = whole
    load_checkpoint(folder / "net-3_4.ckpt", other.train_network)
    assert {**state(other), "": b""} == {**end, "": b""}
