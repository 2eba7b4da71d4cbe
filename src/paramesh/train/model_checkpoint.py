"""ModelCheckpoint: a callback that saves the training Cell (network and optimizer) as it goes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from paramesh.checkpoint import background, save_checkpoint
from paramesh.checkpoint.removal import remove
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.nn.cell import Cell
from paramesh.train.callbacks import Callback, Facts, RunContext, evaluates, step_in_epoch
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
        keep_checkpoint_per_n_minutes: with `keep_checkpoint_max=0`, one checkpoint is kept for
            every so many minutes, and the newest; 0: all.
        integrated_save: MindSpore's; a Parameter that is sharded over devices is saved in full in
            any case, and slice by slice with `format="sharded"`.
        async_save: write in a thread (see `save_checkpoint`).
        saved_network: another Cell to save than the training Cell.
        append_info: "epoch_num", "step_num", and dicts for `append_dict`.
        enc_key: not offered.
        enc_mode: not offered.
        exception_save: save when training ends with an error, too; not with several processes,
            of which one alone may have it.
        crc_check: keep checksums in the files.
        remove_redundancy: MindSpore's, without effect.
        format: "ckpt" (None, MindSpore's), "safetensors" or "sharded".

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a negative number, or none of the four numbers.
    """

    def __init__(
        self,
        save_checkpoint_steps: int | None = 1,
        save_checkpoint_seconds: float | None = 0,
        keep_checkpoint_max: int | None = 5,
        keep_checkpoint_per_n_minutes: float | None = 0,
        integrated_save: bool = True,
        async_save: bool = False,
        saved_network: Cell | None = None,
        append_info: Iterable[Any] | None = None,
        enc_key: bytes | None = None,
        enc_mode: str = "AES-GCM",
        exception_save: bool = False,
        crc_check: bool = False,
        remove_redundancy: bool = False,
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
            if number is None:
                continue
            if not isinstance(number, kinds) or isinstance(number, bool):
                raise TypeError(
                    f"CheckpointConfig: {name} must be a number from 0, got {number!r}."
                )
            if number < 0:
                raise ValueError(f"CheckpointConfig: {name} must be 0 or more, got {number!r}.")
        if not any(numbers.values()):
            raise ValueError(
                f"CheckpointConfig: one of {', '.join(numbers)} must be above 0: nothing says when "
                "to save, or what to keep."
            )
        if enc_key is not None:
            raise ValueError("CheckpointConfig: enc_key is not offered: files are not encrypted.")
        if saved_network is not None and not isinstance(saved_network, Cell):
            raise TypeError(
                f"CheckpointConfig: saved_network must be a Cell, got {saved_network!r}."
            )
        # As in MindSpore, steps go before seconds, and a number of files before minutes.
        self.save_checkpoint_steps = save_checkpoint_steps or None
        self.save_checkpoint_seconds = (
            None if save_checkpoint_steps else save_checkpoint_seconds or None
        )
        self.keep_checkpoint_max = keep_checkpoint_max or None
        self.keep_checkpoint_per_n_minutes = (
            None if keep_checkpoint_max else keep_checkpoint_per_n_minutes or None
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
        self.append_info = list(append_info or ())
        for info in self.append_info:
            if not isinstance(info, dict) and info not in _INFO:
                raise ValueError(
                    "CheckpointConfig: append_info may hold 'epoch_num', 'step_num' and dicts, "
                    f"got {info!r}."
                )

    def get_checkpoint_policy(self) -> dict[str, Any]:
        """The settings that say when to save, what to keep, and of which Cell."""
        names = (
            "save_checkpoint_steps", "save_checkpoint_seconds", "keep_checkpoint_max",
            "keep_checkpoint_per_n_minutes", "saved_network",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or not prefix or "/" in prefix or os.sep in prefix:
        raise ValueError(
            f"ModelCheckpoint: prefix must be a str without '/', got {prefix!r}; the folder is "
            "`directory`."
        )


def numbered_prefix(directory: Path, prefix: str, fresh: bool = True) -> str:
    """The prefix with the number behind it that files of no earlier run have.

    Args:
        directory: with the files of earlier runs.
        prefix: what their names start with.
        fresh: a new one; False: that of the newest files.
    """
    names = re.compile(rf"{re.escape(prefix)}(?:_(\d+))?-\d+_\d+\.({'|'.join(_FORMATS)})")
    found = [names.fullmatch(path.name) for path in directory.iterdir()]
    numbers = [int(match[1] or 0) for match in found if match]
    number = max(numbers, default=-1) + 1 if fresh else max(numbers, default=0)
    return f"{prefix}_{number}" if number else prefix


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
        prefix: what the names start with; or a function of the facts of the run, which gives the
            whole name without its ending.
        directory: where; made if it is not there. None: the current folder. Or a function of the
            facts of the run.
        config: when. By default after every step, and the newest five are kept.

    Raises:
        ValueError: a prefix with a folder in it.
        TypeError: `config` is not a CheckpointConfig.
    """

    def __init__(
        self,
        prefix: str | Callable[[Facts], str] = "CKP",
        directory: str | os.PathLike[str] | Callable[[Facts], str] | None = None,
        config: CheckpointConfig | None = None,
    ) -> None:
        if not callable(prefix):
            _check_prefix(prefix)
        if config is not None and not isinstance(config, CheckpointConfig):
            raise TypeError(
                f"ModelCheckpoint: config must be a CheckpointConfig, got {type(config).__name__}."
            )
        self._name_of = prefix if callable(prefix) else None
        self._folder_of = directory if callable(directory) else None
        self.prefix = "CKP" if callable(prefix) else prefix
        # A script may change its folder later; one that a function names is looked at each time.
        self.directory = Path("." if callable(directory) else directory or ".").absolute()
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

    def begin(self, run_context: RunContext) -> None:
        """Make the folder."""
        if evaluates(run_context):
            return
        args = run_context.original_args()
        self._find_folder(args)
        self._last_step = args.cur_step_num
        if self._run_prefix is None:
            self._run_prefix = self._numbered(
                fresh=not args.cur_step_num and not args.cur_epoch_num
            )
        self._pace.begin(self._last_step)

    def _find_folder(self, args: Facts) -> None:
        if self._folder_of is not None:
            self.directory = Path(self._folder_of(args)).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)

    def step_end(self, run_context: RunContext) -> None:
        """Save if it is time."""
        if evaluates(run_context):
            return
        args, config = run_context.original_args(), self.config
        if config.save_checkpoint_steps:
            due = args.cur_step_num - self._last_step >= config.save_checkpoint_steps
        else:
            due = self._pace.due(args.cur_step_num)
        if due:
            self._save(args)

    def end(self, run_context: RunContext) -> None:
        """Save the last step, if it is not saved yet."""
        if evaluates(run_context):
            return
        args = run_context.original_args()
        if args.cur_step_num > self._last_step:
            self._save(args)
        background.wait_until_done()
        self._delete_old()

    def _numbered(self, fresh: bool) -> str:
        """The prefix of this run, which is the newest in the folder, or a new one."""
        if self.config.format == SHARDED and jax.process_count() > 1:
            return self.prefix  # all processes have to agree
        return numbered_prefix(self.directory, self.prefix, fresh)

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
        self._find_folder(args)
        kind = self.config.format or "ckpt"
        path = self.directory / f"{self._run_prefix or self.prefix}-{name}.{kind}"
        if self._name_of is not None:
            whole = self._name_of(args)
            _check_prefix(whole)
            path = self.directory / f"{whole}.{kind}"
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
        name = f"{args.cur_epoch_num}_{step_in_epoch(args)}"
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
