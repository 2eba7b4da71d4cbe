"""BackupAndRestore: a file of the last epoch, from which a training that broke off goes on."""

from __future__ import annotations

import os
from pathlib import Path

from paramesh.checkpoint import load_checkpoint, save_checkpoint
from paramesh.train.callbacks import Callback, RunContext

_FILE = "backup.ckpt"


class BackupAndRestore(Callback):
    """Save the training Cell after epochs, and load that file when a training begins.

    The file has the Parameters of the network and the optimizer. A training that finds it begins
    with these, and does all its epochs; `Model.train(resume=...)` of a `ModelCheckpoint`'s file
    goes on at the very step.

    Args:
        backup_dir: the folder, made if it is not there; the file in it is `backup.ckpt`.
        save_freq: "epoch", or every how many epochs.
        delete_checkpoint: whether the file is deleted when the training is complete.

    Raises:
        TypeError, ValueError: an argument of the wrong type, an empty `backup_dir`, or `save_freq`
            below 1.
        NotADirectoryError: `backup_dir` is a file.
        CheckpointError: when a training begins, the file is damaged, or of another network.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: int | str = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        if not isinstance(backup_dir, str | os.PathLike):
            raise TypeError(
                f"BackupAndRestore: backup_dir must be the path of a folder, got {backup_dir!r}."
            )
        if not os.fspath(backup_dir):
            raise ValueError("BackupAndRestore: backup_dir must not be empty.")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or isinstance(save_freq, bool)):
            raise TypeError(
                f"BackupAndRestore: save_freq must be 'epoch' or an int, got {save_freq!r}."
            )
        self.save_freq = 1 if isinstance(save_freq, str) else save_freq
        if self.save_freq < 1:
            raise ValueError(f"BackupAndRestore: save_freq must be at least 1, got {save_freq}.")
        if not isinstance(delete_checkpoint, bool):
            raise TypeError(
                f"BackupAndRestore: delete_checkpoint must be a bool, got {delete_checkpoint!r}."
            )
        folder = Path(backup_dir).absolute()
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"BackupAndRestore: backup_dir '{folder}' is a file.")
        folder.mkdir(parents=True, exist_ok=True)
        self.backup_file = str(folder / _FILE)
        self.delete_checkpoint = delete_checkpoint

    def on_train_begin(self, run_context: RunContext) -> None:
        """Load the file, if there is one."""
        if os.path.exists(self.backup_file):
            load_checkpoint(self.backup_file, run_context.original_args().train_network)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Save, if it is time."""
        args = run_context.original_args()
        if args.cur_epoch_num % self.save_freq == 0:
            save_checkpoint(args.train_network, self.backup_file)

    def on_train_end(self, run_context: RunContext) -> None:
        """Delete the file, if that is wanted."""
        if self.delete_checkpoint:
            Path(self.backup_file).unlink(missing_ok=True)
