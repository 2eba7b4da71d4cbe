"""ModelCheckpoint: a callback that saves the training Cell (network and optimizer) as it goes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from paramesh.checkpoint import background, save_checkpoint
from paramesh.checkpoint.removal import remove
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.nn.cell import Cell
from paramesh.train.callbacks import Callback, Facts, RunContext
from paramesh.train.pace import Pace
from paramesh.train.position import position_entries

_FORMATS = ("ckpt", "safetensors", SHARDED)
_INFO = {"epoch_num": "cur_epoch_num", "step_num": "cur_step_num"}


class CheckpointConfig:
    """When checkpoints are saved, and how many are kept.

    Args:
        save_checkpoint_steps: every so many steps; 0: not by steps.
        save_checkpoint_seconds: every so many seconds, if not by steps; 0: not by time.
        keep_checkpoint_max: the newest of this run that are kept; 0: all.
        saved_network: another Cell to save than the training Cell.
        append_info: "epoch_num", "step_num", and dicts for `append_dict`.
        exception_save: save when training ends with an error, too; not with several processes,
            of which one alone may have it.
        integrated_save: MindSpore's; a Parameter that is sharded over devices is saved in full in
            any case, and slice by slice with `format="sharded"`.
        enc_key: not offered.
        enc_mode: not offered.
        keep_checkpoint_per_n_minutes: with `keep_checkpoint_max=0`, one checkpoint is kept for
            every so many minutes, and the newest; 0: all.
        async_save: write in a thread (see `save_checkpoint`).
        crc_check: keep checksums in the files.
        format: "ckpt" (None, MindSpore's), "safetensors" or "sharded".

    Raises:
        TypeError, ValueError: an argument of the wrong type; a negative number.
    """

    def __init__(
        self,
        save_checkpoint_steps: int = 1,
        save_checkpoint_seconds: float = 0,
        keep_checkpoint_max: int = 5,
        saved_network: Cell | None = None,
        append_info: Iterable[Any] = (),
        exception_save: bool = False,
        integrated_save: bool = True,
        enc_key: bytes | None = None,
        enc_mode: str = "AES-GCM",
        keep_checkpoint_per_n_minutes: float = 0,
        *,
        async_save: bool = False,
        crc_check: bool = False,
        format: str | None = None,
    ) -> None:
        numbers = {
            "save_checkpoint_steps": save_checkpoint_steps,
            "save_checkpoint_seconds": save_checkpoint_seconds,
            "keep_checkpoint_max": keep_checkpoint_max,
            "keep_checkpoint_per_n_minutes": keep_checkpoint_per_n_minutes,
        }
        for name, number in numbers.items():
            kinds = (int, float) if name.endswith(("seconds", "minutes")) else (int,)
            if not isinstance(number, kinds) or isinstance(number, bool) or number < 0:
                raise ValueError(f"CheckpointConfig: {name} must be 0 or more, got {number!r}.")
        if enc_key is not None:
            raise ValueError("CheckpointConfig: enc_key is not offered: files are not encrypted.")
        if saved_network is not None and not isinstance(saved_network, Cell):
            raise TypeError(
                f"CheckpointConfig: saved_network must be a Cell, got {saved_network!r}."
            )
        self.save_checkpoint_steps = save_checkpoint_steps
        self.save_checkpoint_seconds = save_checkpoint_seconds
        self.keep_checkpoint_max = keep_checkpoint_max
        self.keep_checkpoint_per_n_minutes = (
            0 if keep_checkpoint_max else keep_checkpoint_per_n_minutes
        )
        self.saved_network = saved_network
        if format is not None and format not in _FORMATS:
            raise ValueError(
                "CheckpointConfig: format must be 'ckpt', 'safetensors', 'sharded' or None, got "
                f"{format!r}."
            )
        for name, flag in (("async_save", async_save), ("crc_check", crc_check)):
            if not isinstance(flag, bool):
                raise TypeError(f"CheckpointConfig: {name} must be a bool, got {flag!r}.")
        self.exception_save = exception_save
        self.async_save, self.crc_check, self.format = async_save, crc_check, format
        self.append_info = list(append_info)
        for info in self.append_info:
            if not isinstance(info, dict) and info not in _INFO:
                raise ValueError(
                    "CheckpointConfig: append_info may hold 'epoch_num', 'step_num' and dicts, "
                    f"got {info!r}."
                )


class ModelCheckpoint(Callback):
    """Save `PREFIX-EPOCH_STEP.ckpt` while training, and once more at the end.

    As in MindSpore, a new run never overwrites the files of an earlier one: if there are files of
    this prefix, in any format, the names begin with `PREFIX_1`, `PREFIX_2` and so on. A run that
    resumes, or starts at a later epoch, goes on with the newest of these. Several processes that
    save sharded checkpoints together always use the prefix as it is.

    With several processes a file is saved by each process that has this callback; give it to
    process 0 alone. With `format="sharded"` all processes must have it: they save together into a
    folder that all of them see, and process 0 alone deletes old ones.

    The files hold what `Model.train(resume=...)` needs, unless `saved_network` is another Cell than
    the training Cell.

    Args:
        prefix: what the names start with.
        directory: where; made if it is not there. None: the current folder.
        config: when. By default after every step, and the newest five are kept.

    Raises:
        ValueError: a prefix with a folder in it.
        TypeError: `config` is not a CheckpointConfig.
    """

    def __init__(
        self,
        prefix: str = "CKP",
        directory: str | os.PathLike[str] | None = None,
        config: CheckpointConfig | None = None,
    ) -> None:
        if not isinstance(prefix, str) or not prefix or "/" in prefix or os.sep in prefix:
            raise ValueError(
                f"ModelCheckpoint: prefix must be a str without '/', got {prefix!r}; the folder "
                "is `directory`."
            )
        if config is not None and not isinstance(config, CheckpointConfig):
            raise TypeError(
                f"ModelCheckpoint: config must be a CheckpointConfig, got {type(config).__name__}."
            )
        self.prefix = prefix
        self.directory = Path(directory or ".")
        self.config = config or CheckpointConfig()
        self.saved: list[Path] = []
        self._last_step = 0
        self._run_prefix: str | None = None  # with a number, once it is known
        self._period_began: float | None = None
        self._passing: Path | None = None  # is deleted when the next one is complete
        self._seen: set[Path] = set()
        together = self.config.format == SHARDED
        self._pace = Pace(self.config.save_checkpoint_seconds, together)

    @property
    def latest_ckpt_file_name(self) -> str:
        """The newest file; '' before there is one."""
        return str(self.saved[-1]) if self.saved else ""

    def on_train_begin(self, run_context: RunContext) -> None:
        """Make the folder."""
        self.directory.mkdir(parents=True, exist_ok=True)
        args = run_context.original_args()
        self._last_step = args.cur_step_num
        if self._run_prefix is None:
            self._run_prefix = self._numbered(
                fresh=not args.cur_step_num and not args.cur_epoch_num
            )
        self._pace.begin(self._last_step)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Save if it is time."""
        args, config = run_context.original_args(), self.config
        if config.save_checkpoint_steps:
            due = args.cur_step_num - self._last_step >= config.save_checkpoint_steps
        else:
            due = self._pace.due(args.cur_step_num)
        if due:
            self._save(args)

    def on_train_end(self, run_context: RunContext) -> None:
        """Save the last step, if it is not saved yet."""
        args = run_context.original_args()
        if args.cur_step_num > self._last_step:
            self._save(args)
        background.wait_until_done()
        self._delete_old()

    def _numbered(self, fresh: bool) -> str:
        """The prefix of this run, which is the newest in the folder, or a new one."""
        if self.config.format == SHARDED and jax.process_count() > 1:
            return self.prefix  # all processes have to agree
        names = re.compile(rf"{re.escape(self.prefix)}(?:_(\d+))?-\d+_\d+\.({'|'.join(_FORMATS)})")
        found = [names.fullmatch(path.name) for path in self.directory.iterdir()]
        numbers = [int(match[1] or 0) for match in found if match]
        number = max(numbers, default=-1) + 1 if fresh else max(numbers, default=0)
        return f"{self.prefix}_{number}" if number else self.prefix

    def save_as(self, args: Facts, name: str, beside: bool = False) -> Path:
        """Save the present state under `PREFIX-NAME.ckpt`; returns the path.

        Args:
            args: the facts of the run.
            name: what comes after the prefix.
            beside: write it in a thread.
        """
        append: dict[str, Any] = {}
        for info in self.config.append_info:
            append |= info if isinstance(info, dict) else {info: getattr(args, _INFO[info])}
        network = self.config.saved_network or args.train_network
        if network is args.train_network:
            append |= position_entries(args)
        self.directory.mkdir(parents=True, exist_ok=True)
        kind = self.config.format or "ckpt"
        path = self.directory / f"{self._run_prefix or self.prefix}-{name}.{kind}"
        save_checkpoint(
            network,
            path,
            append_dict=append,
            crc_check=self.config.crc_check,
            async_save=beside,
            format=kind,
        )
        return path

    def save_at_interrupt(self, args: Facts) -> Path | None:
        """Save the present state after Ctrl-C; returns the path.

        None, and nothing is saved, if several processes save together: they are not at the same
        step then.
        """
        if jax.process_count() > 1 and self.config.format == SHARDED:
            return None
        return self.save_as(args, "interrupted")

    def _save(self, args: Facts) -> None:
        beside = self.config.async_save
        if beside:
            background.wait_until_done()
            self._delete_old()
        name = f"{args.cur_epoch_num}_{args.cur_step_in_epoch}"
        path = self.save_as(args, name, beside)
        self._last_step = args.cur_step_num
        self._pace.saved()
        self.saved = [*(p for p in self.saved if p != path), path]
        if not beside:
            self._delete_old()

    def _delete_old(self) -> None:
        """Delete what is too much, once the newest is complete."""
        self._thin_out()
        keep = self.config.keep_checkpoint_max
        while keep and len(self.saved) > keep:
            self._delete(self.saved.pop(0))

    def _thin_out(self) -> None:
        """Keep the first checkpoint of every period of minutes, and the newest of all."""
        minutes = self.config.keep_checkpoint_per_n_minutes
        if not minutes or not self.saved or self.saved[-1] in self._seen:
            return
        now = time.monotonic()
        if self._passing is not None:
            self.saved.remove(self._passing)
            self._delete(self._passing)
            self._passing = None
        if self._period_began is None or now - self._period_began >= 60 * minutes:
            self._period_began = now
        else:
            self._passing = self.saved[-1]
        self._seen.add(self.saved[-1])

    def _delete(self, path: Path) -> None:
        if jax.process_index() == 0:
            remove(path)
