"""Checkpoints that nobody asked for: at Ctrl-C, and when training ends with an error."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import jax

from paramesh.checkpoint import save_checkpoint
from paramesh.train.callbacks import Callback, Facts, say
from paramesh.train.checkpoint_manager import CheckpointManager
from paramesh.train.model_checkpoint import ModelCheckpoint
from paramesh.train.position import position_entries

_INTERRUPTED = "paramesh-interrupted.safetensors"


def current_folder() -> Path:
    """The current folder; "." if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path()


def _from_here(path: Path) -> Path:
    """A path as it is written in the current folder, if it leads into it."""
    here = current_folder()
    return path.relative_to(here) if path.is_relative_to(here) else path


def save_at_interrupt(
    args: Facts,
    callbacks: list[Callback],
    where: bool | str | os.PathLike[str],
    folder: Path,
) -> None:
    """Save the training Cell after Ctrl-C, and say where; an error is told, not raised.

    Args:
        args: the facts of the run.
        callbacks: of the run.
        where: as `interrupt_checkpoint` of `Model.train`.
        folder: the current one when training began.
    """
    if where is False or not args.cur_step_num:
        return
    savers = [c for c in callbacks if isinstance(c, ModelCheckpoint | CheckpointManager)]
    try:
        if where is True and savers:
            path = savers[0].save_at_interrupt(args)
            if path is None:
                say(
                    f"Interrupted after step {args.cur_step_num}. Several processes are not at the "
                    "same step at Ctrl-C, so nothing was saved; resume from the newest checkpoint."
                )
                return
        else:
            facts = {"epoch_num": args.cur_epoch_num, "step_num": args.cur_step_num}
            target = folder / (_INTERRUPTED if where is True else where)
            path = save_checkpoint(
                args.train_network, target, append_dict=facts | position_entries(args)
            )
    except Exception:
        say("Interrupted; the checkpoint could not be saved:\n" + traceback.format_exc())
        return
    say(f"Interrupted after step {args.cur_step_num}; saved {_from_here(path)}.")


def save_at_error(args: Facts, callbacks: list[Callback]) -> None:
    """Save with every ModelCheckpoint that wants it (`exception_save`), and say where.

    Not with several processes: the error may be that of one alone.
    """
    if jax.process_count() > 1:
        return
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.config.exception_save:
            say(f"Training failed; saved {_from_here(callback.save_as(args, 'exception'))}.")
