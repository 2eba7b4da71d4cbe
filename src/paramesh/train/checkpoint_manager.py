"""CheckpointManager: a folder of checkpoints, of which the newest and the best are kept.

Every checkpoint is self-contained: its step is in its name, and its metrics are in the file. There
is no index besides the files, so a crash between two writes leaves nothing inconsistent.

With several processes checkpoints are sharded ones: all processes save, at the same steps, and
process 0 alone deletes.

Glossary
    valid       it can be opened, its arrays fill it, and its checksums, if it has some, are right
    file        also the folder of a sharded checkpoint
"""

from __future__ import annotations

import json
import math
import os
import re
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import jax

from paramesh.checkpoint import background, load_checkpoint, save_checkpoint
from paramesh.checkpoint.background import SaveHandle
from paramesh.checkpoint.opening import open_source
from paramesh.checkpoint.removal import remove
from paramesh.checkpoint.sharded import writer
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.checkpoint.sharded.source import INDEX
from paramesh.errors import CheckpointError
from paramesh.nn.cell import Cell
from paramesh.train.callbacks import Callback, Facts, RunContext
from paramesh.train.pace import Pace
from paramesh.train.position import RANDOM, position_entries, random_entries, restore_random

_METRICS = "paramesh.metrics"
_STEP = "paramesh.step"


@dataclass(frozen=True)
class SavedStep:
    """One checkpoint of a folder.

    Args:
        step: the number it was saved under.
        path: its file.
        metrics: those that were saved with it.
    """

    step: int
    path: Path
    metrics: Mapping[str, float] = field(default_factory=dict)


class CheckpointManager(Callback):
    """Checkpoints of a run in one folder, `PREFIX-STEP.safetensors` or, of several processes,
    `PREFIX-STEP.sharded`: saved, pruned, found again.

    As a callback of `Model.train` it saves the training Cell with all that `resume` needs: every
    `every_steps` steps and every `every_minutes` minutes; after each epoch if neither is given, or
    if a validation measured the metric of `keep_best`; at Ctrl-C; and at the end. In a training
    loop of your own, call `save`.

    A file appears when it is complete. After a save, files that are neither among the newest
    `keep_last` nor the best are deleted. Damaged files do not count and are not deleted, so that
    there is a valid one at every moment after the first save. What a killed save of a sharded
    checkpoint has left is deleted with the old ones.

    Every process makes its own manager for the same folder, and calls the same methods.

    Args:
        directory: the folder; made at the first save. Other files in it are left alone.
        keep_last: how many of the newest are kept; None: all.
        keep_best: (name of a metric, "min" or "max"): the best one is kept, too.
        every_steps: save after so many steps.
        every_minutes: save at the first step after so many minutes.
        prefix: what the names of the files start with.
        checksums: keep checksums in the files, and compare them before a file counts as valid.
            Without, a damage inside the arrays goes unnoticed.
        async_save: write in a thread (see `save_checkpoint`). Old files are then deleted by the
            next save, so that there may be one more than asked for.
        format: "safetensors" or "sharded"; None: sharded if there are several processes.

    Raises:
        TypeError, ValueError: an argument of the wrong type, or out of range.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep_last: int | None = 5,
        keep_best: tuple[str, str] | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        *,
        prefix: str = "step",
        checksums: bool = True,
        async_save: bool = False,
        format: str | None = None,
    ) -> None:
        if not isinstance(directory, str | os.PathLike):
            raise TypeError(f"CheckpointManager: directory must be a path, got {directory!r}.")
        for name, value in (("keep_last", keep_last), ("every_steps", every_steps)):
            if value is not None and (not _number(value, int) or value < 1):
                raise ValueError(
                    f"CheckpointManager: {name} must be an int from 1, or None, got {value!r}."
                )
        if every_minutes is not None and not (
            _number(every_minutes, int | float) and every_minutes > 0
        ):
            raise ValueError(
                f"CheckpointManager: every_minutes must be above 0, or None, got {every_minutes!r}."
            )
        if not isinstance(prefix, str) or not prefix or "/" in prefix or os.sep in prefix:
            raise ValueError(
                f"CheckpointManager: prefix must be a str without '/', got {prefix!r}; the folder "
                "is `directory`."
            )
        for name, flag in (("checksums", checksums), ("async_save", async_save)):
            if not isinstance(flag, bool):
                raise TypeError(f"CheckpointManager: {name} must be a bool, got {flag!r}.")
        if format not in (None, "safetensors", SHARDED):
            raise ValueError(
                "CheckpointManager: format must be 'safetensors', 'sharded' or None, got "
                f"{format!r}."
            )
        self._best = _best_metric(keep_best)
        self._format = format
        self.directory = Path(directory).absolute()  # a script may change its folder later
        self.prefix = prefix
        self._keep, self._checksums, self._async = keep_last, checksums, async_save
        self._every_steps = every_steps
        self._timed = every_minutes is not None
        self._pace = Pace(60.0 * (every_minutes or 0.0))
        self._pattern = re.compile(re.escape(prefix) + r"-(\d+)\.(safetensors|sharded)")
        self._known: dict[Path, tuple[tuple[int, int, int], SavedStep | str]] = {}
        self._pending: tuple[SaveHandle | Path, SavedStep] | None = None
        self._warned: set[Path] = set()
        self._last_step = 0

    # By hand.

    def save(
        self,
        step: int,
        net: Cell,
        metrics: Mapping[str, float] | None = None,
        append_dict: Mapping[str, Any] | None = None,
    ) -> SaveHandle | Path:
        """Save a Cell under a step, then delete what is not to be kept.

        The state of the default random generator is saved with it. A file of the same step is
        replaced.

        Args:
            step: its number, from 0.
            net: a network, an optimizer, or a training Cell with both.
            metrics: {name: number}; that of `keep_best` has to be among them if any are given.
            append_dict: as in `save_checkpoint`.

        Returns:
            The path of the file, or a `SaveHandle` with `async_save`.

        Raises:
            TypeError, ValueError: an argument of the wrong type.
            OSError: from the file system; all files are as they were.
            CheckpointError: another process could not write; all files are as they were.
        """
        if not _number(step, int) or step < 0:
            raise ValueError(f"CheckpointManager.save: step must be an int from 0, got {step!r}.")
        if not isinstance(net, Cell):
            raise TypeError(f"CheckpointManager.save: net must be a Cell, got {net!r}.")
        numbers = self._numbers(metrics)
        entries = {**(append_dict or {}), _STEP: step, _METRICS: json.dumps(numbers)}
        if RANDOM not in entries:
            entries |= random_entries()
        self.directory.mkdir(parents=True, exist_ok=True)
        saved = SavedStep(step, self._path(step), numbers)
        self._wait_for_save()
        if self._async:
            self._prune(saved.path)
        made = save_checkpoint(
            net,
            saved.path,
            append_dict=entries,
            crc_check=self._checksums,
            async_save=self._async,
        )
        self._pending = (made, saved)
        if not self._async:
            self._wait_for_save()
            self._prune(saved.path)
        return made

    def checkpoints(self) -> list[SavedStep]:
        """The valid checkpoints, the oldest step first.

        Whole files are read if they have checksums, each once for as long as it does not change. A
        damaged one is passed over with a `UserWarning` that names it.

        Raises:
            Exception: what went wrong in a save in background.
        """
        self._wait_for_save()
        found = [self._look(path) for path in self._files()]
        return [one for one in found if isinstance(one, SavedStep)]

    def latest(self) -> Path | None:
        """The valid checkpoint of the highest step; None if there is none.

        Older ones are not looked at: this is what a program calls when it starts,
        `model.train(..., resume=manager.latest())`.
        """
        self._wait_for_save()
        for path in reversed(self._files()):
            found = self._look(path)
            if isinstance(found, SavedStep):
                return found.path
        return None

    def best(self) -> Path | None:
        """The valid checkpoint whose metric is best, the newest of several; None if there is none.

        Raises:
            ValueError: the manager was made without `keep_best`.
        """
        if self._best is None:
            raise ValueError(
                "CheckpointManager.best: nothing says what is best; give keep_best=(metric, 'min') "
                "or (metric, 'max')."
            )
        found = self._best_of(self.checkpoints())
        return None if found is None else found.path

    def restore(
        self, net: Cell, path: str | os.PathLike[str] | None = None, strict_load: bool = True
    ) -> SavedStep | None:
        """Load a checkpoint into a Cell, and put the default random generator where it was.

        Args:
            net: the Cell that was saved, or one like it.
            path: one of the folder's files; None: the latest.
            strict_load: as in `load_checkpoint`.

        Returns:
            What was loaded; None, and nothing is changed, if the folder has no valid checkpoint.

        Raises:
            TypeError: `net` is not a Cell.
            FileNotFoundError, CheckpointError: as `load_checkpoint`; nothing was loaded.
        """
        if not isinstance(net, Cell):
            raise TypeError(f"CheckpointManager.restore: net must be a Cell, got {net!r}.")
        source = self.latest() if path is None else Path(path)
        if source is None:
            return None
        found = _read(source, self._checksums)
        load_checkpoint(source, net, strict_load)
        restore_random(source)
        return found

    # As a callback.

    def on_train_begin(self, run_context: RunContext) -> None:
        """Start counting."""
        self._last_step = run_context.original_args().cur_step_num
        self._pace.begin(self._last_step)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Save if it is time."""
        args = run_context.original_args()
        due = self._every_steps is not None and (
            args.cur_step_num - self._last_step >= self._every_steps
        )
        if due or self._pace.due(args.cur_step_num):
            self._save(args, None)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Save with the results of a validation, or since nothing else says when."""
        args = run_context.original_args()
        results = args.eval_results or None
        measured = self._best is not None and results is not None and self._best[0] in results
        if measured or (self._every_steps is None and not self._timed):
            self._save(args, results if measured or self._best is None else None)

    def on_train_end(self, run_context: RunContext) -> None:
        """Save the last step, if it is not saved yet, and wait for it."""
        args = run_context.original_args()
        if args.cur_step_num > self._last_step:
            self._save(args, None)
        self._prune(None)
        self._wait_for_save()

    def save_at_interrupt(self, args: Facts) -> Path | None:
        """Save the present state after Ctrl-C; returns the path.

        None, and nothing is saved, with several processes: they are not at the same step then.
        """
        if jax.process_count() > 1:
            return None
        path = self._path(args.cur_step_num)
        if args.cur_step_num > self._last_step or not path.exists():
            self._save(args, None)
        self._wait_for_save()
        return path

    def _save(self, args: Facts, metrics: Mapping[str, Any] | None) -> None:
        numbers = {n: float(v) for n, v in (metrics or {}).items() if _number(v, Real)}
        self.save(args.cur_step_num, args.train_network, numbers or None, position_entries(args))
        self._last_step = args.cur_step_num
        self._pace.saved()

    # The folder.

    def _path(self, step: int) -> Path:
        kind = self._format or (SHARDED if jax.process_count() > 1 else "safetensors")
        return self.directory / f"{self.prefix}-{step}.{kind}"

    def _wait_for_save(self) -> None:
        """Wait for the save in background; a file that was just written needs no second look."""
        background.wait_until_done()
        pending, self._pending = self._pending, None
        if pending is None:
            return
        made, saved = pending
        if not isinstance(made, SaveHandle) or made.exception() is None:
            self._known[saved.path] = (_state(saved.path), saved)

    def _files(self) -> list[Path]:
        """All files with such names, by step."""
        if not self.directory.is_dir():
            return []
        names = ((self._pattern.fullmatch(path.name), path) for path in self.directory.iterdir())
        return [path for _, path in sorted((int(m[1]), path) for m, path in names if m)]

    def _look(self, path: Path) -> SavedStep | None:
        """What a file holds; None, and a warning once, if it is damaged or gone."""
        try:
            state = _state(path)
            known = self._known.get(path)
            if known is None or known[0] != state:
                known = (state, _try(path, self._checksums))
                self._known[path] = known
        except FileNotFoundError:  # another process has deleted it
            return None
        if isinstance(known[1], SavedStep):
            return known[1]
        if path not in self._warned:
            self._warned.add(path)
            warnings.warn(f"CheckpointManager passes over a file: {known[1]}", stacklevel=3)
        return None

    def _best_of(self, found: list[SavedStep]) -> SavedStep | None:
        if self._best is None:
            return None
        name, sign = self._best
        measured = [one for one in found if math.isfinite(one.metrics.get(name, math.nan))]
        return max(measured, key=lambda one: (sign * one.metrics[name], one.step), default=None)

    def _prune(self, newest: Path | None) -> None:
        """Delete the valid files that are not to be kept."""
        if self._keep is None:
            return
        if jax.process_index():
            return
        if newest is not None:
            for path in self._files():
                if path != newest and path.is_dir():
                    writer.remove_unfinished(path)
        found = self.checkpoints()
        kept = {one.path for one in found[-self._keep :]} | {newest}
        best = self._best_of(found)
        for one in found:
            if one.path not in kept and one is not best:
                remove(one.path)
                self._known.pop(one.path, None)

    def _numbers(self, metrics: object) -> dict[str, float]:
        if metrics is None:
            return {}
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f"CheckpointManager.save: metrics must be {{name: number}}, got {metrics!r}."
            )
        found: dict[str, float] = {}
        for name, value in metrics.items():
            try:
                found[str(name)] = float(value)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"CheckpointManager.save: metrics['{name}'] must be a number, got {value!r}."
                ) from error
        if self._best is not None and self._best[0] not in found:
            raise ValueError(
                f"CheckpointManager.save: keep_best wants the metric '{self._best[0]}'; "
                f"metrics has {', '.join(map(repr, found)) or 'none'}."
            )
        return found


def _best_metric(keep_best: object) -> tuple[str, int] | None:
    if keep_best is None:
        return None
    pair = tuple(keep_best) if isinstance(keep_best, tuple | list) else ()
    if len(pair) != 2 or not isinstance(pair[0], str) or pair[1] not in ("min", "max"):
        raise ValueError(
            "CheckpointManager: keep_best must be (name of a metric, 'min' or 'max'), got "
            f"{keep_best!r}."
        )
    return pair[0], 1 if pair[1] == "max" else -1


def _state(path: Path) -> tuple[int, int, int]:
    index = path / INDEX
    about = (index if index.is_file() else path).stat()
    return about.st_mtime_ns, about.st_size, about.st_ino


def _try(path: Path, checksums: bool) -> SavedStep | str:
    try:
        return _read(path, checksums)
    except CheckpointError as error:
        return str(error)


def _read(path: Path, checksums: bool) -> SavedStep:
    """What a file says of itself, checked.

    Raises:
        CheckpointError: it is damaged, or was not saved by a manager.
    """
    with open_source(path) as source:
        if checksums:
            source.verify()
        step, text = source.appended.get(_STEP), source.appended.get(_METRICS)
    try:
        metrics = json.loads(str(text))
    except (ValueError, RecursionError):
        metrics = None
    if not isinstance(step, int) or not isinstance(metrics, dict):
        raise CheckpointError(f"Checkpoint '{path}' was not saved by a CheckpointManager.")
    return SavedStep(step, path, metrics)


def _number(value: object, kinds: type | types.UnionType) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
