"""BackupAndRestore: the file of the last epoch, and what a training does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import Model, nn
from paramesh.errors import CheckpointError
from paramesh.train import BackupAndRestore, Callback, RunContext
from type_checks import wrong

X = np.ones((4, 3), np.float32)
BATCHES = [(X, X[:, :1])]


class Breaks(Callback):
    """A training that ends in its second epoch."""

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        if run_context.original_args().cur_epoch_num == 2:
            raise KeyError("mine")


def made(weight: float) -> Model:
    net = nn.Dense(3, 1, weight, 0)
    return Model(net, nn.MSELoss(), nn.Momentum(net.trainable_params(), 0.1, 0.9))


def weights(model: Model) -> list[Any]:
    return [p.asnumpy() for p in model.train_network.get_parameters() if p.size > 1]


def test_a_training_goes_on_with_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "backups"
    first = made(0.0)
    with pytest.raises(KeyError, match="mine"):
        first.train(2, BATCHES, [BackupAndRestore(folder), Breaks()], progress=False)
    assert (folder / "backup.ckpt").exists()

    second = made(9.0)
    second.train(1, BATCHES, BackupAndRestore(str(folder)), progress=False)
    first.train(1, BATCHES, progress=False)
    for mine, theirs in zip(weights(second), weights(first), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not (folder / "backup.ckpt").exists()


def test_how_often_it_saves_and_whether_it_deletes(tmp_path: Path) -> None:
    rare = BackupAndRestore(tmp_path, save_freq=3)
    made(0.0).train(2, BATCHES, rare, progress=False)
    assert not Path(rare.backup_file).exists()
    keeping = BackupAndRestore(tmp_path, save_freq=2, delete_checkpoint=False)
    made(0.0).train(2, BATCHES, keeping, progress=False)
    assert Path(keeping.backup_file).exists()
    Path(keeping.backup_file).write_bytes(b"\xff damaged")
    with pytest.raises(CheckpointError, match=r"backup\.ckpt"):
        made(0.0).train(1, BATCHES, keeping, progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((3,), TypeError, "backup_dir must be the path of a folder, got 3"),
        (("",), ValueError, "backup_dir must not be empty"),
        ((__file__,), NotADirectoryError, "is a file"),
        (("x", "step"), TypeError, "save_freq must be 'epoch' or an int, got 'step'"),
        (("x", True), TypeError, "save_freq must be 'epoch' or an int, got True"),
        (("x", 0), ValueError, "save_freq must be at least 1, got 0"),
        (("x", 1, 1), TypeError, "delete_checkpoint must be a bool, got 1"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        BackupAndRestore(*wrong(arguments))
