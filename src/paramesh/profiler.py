"""MindSpore's Profiler over `jax.profiler`: what ran when, for TensorBoard, Perfetto and XProf.

The folder that it writes is opened with `xprof --logdir=FOLDER` or TensorBoard's profile plugin;
`perfetto_trace.json.gz` in it opens at ui.perfetto.dev.
"""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable
from typing import Any

import jax

__all__ = [
    "AicoreMetrics",
    "ExportType",
    "Profiler",
    "ProfilerActivity",
    "ProfilerLevel",
    "profile",
    "schedule",
    "tensorboard_trace_handler",
]

#: MindSpore has modules below this one (see `compat`).
__path__: list[str] = []

_logger = logging.getLogger("paramesh")


class ProfilerLevel(enum.Enum):
    """How much MindSpore records; here all that JAX has is recorded at every level."""

    LevelNone = "LevelNone"
    Level0 = "Level0"
    Level1 = "Level1"
    Level2 = "Level2"


class ProfilerActivity(enum.Enum):
    """What MindSpore records; here host and devices always are."""

    CPU = "CPU"
    NPU = "NPU"
    GPU = "GPU"


class AicoreMetrics(enum.IntEnum):
    """Counters of Ascend's cores, which are nowhere else."""

    AiCoreNone = -1
    ArithmeticUtilization = 0
    PipeUtilization = 1
    Memory = 2
    MemoryL0 = 3
    ResourceConflictRatio = 4
    MemoryUB = 5
    L2Cache = 6
    MemoryAccess = 7


class ExportType(enum.Enum):
    """Files that MindSpore writes; here they are those of `jax.profiler`."""

    Text = "text"
    Db = "db"


class Profiler:
    """Record from here on, until `stop` or `analyse`.

    Args:
        output_path: the folder; `./data` by default, as in MindSpore.
        start_profile: whether it begins at once.
        **settings: MindSpore's others, which are named once in the log and change nothing.

    Raises:
        RuntimeError: another Profiler is recording.
    """

    def __init__(
        self,
        output_path: str | os.PathLike[str] = "./data",
        start_profile: bool = True,
        **settings: object,
    ) -> None:
        if settings:
            _logger.warning("Profiler: without effect here: %s.", ", ".join(sorted(settings)))
        self.output_path = os.path.realpath(os.fspath(output_path))
        self._runs = False
        if start_profile:
            self.start()

    def start(self) -> None:
        """Begin to record.

        Raises:
            RuntimeError: a Profiler is recording already.
        """
        if self._runs:
            raise RuntimeError("Profiler.start: it is recording already.")
        os.makedirs(self.output_path, exist_ok=True)
        jax.profiler.start_trace(self.output_path)
        self._runs = True

    def stop(self) -> None:
        """Wait for the devices, and write what was recorded.

        Raises:
            RuntimeError: it does not record.
        """
        if not self._runs:
            raise RuntimeError("Profiler.stop: it does not record: call start() first.")
        self._runs = False
        jax.effects_barrier()
        jax.profiler.stop_trace()

    def step(self) -> None:
        """Mark the end of a step; of use with `profile(schedule=…)`."""

    def analyse(self, *args: Any, **settings: Any) -> None:
        """Stop, if it records, and say where the files are; arguments are MindSpore's."""
        if self._runs:
            self.stop()
        _logger.info("Profiler: see %s with xprof or TensorBoard.", self.output_path)

    def add_metadata(self, key: str, value: str) -> None:
        """Keep a text beside the files, in `metadata.txt`."""
        os.makedirs(self.output_path, exist_ok=True)
        with open(os.path.join(self.output_path, "metadata.txt"), "a", encoding="utf-8") as file:
            file.write(f"{key}\t{value}\n")

    add_metadata_json = add_metadata

    def op_analyse(self, op_name: Any, device_id: int | None = None) -> Any:
        """Not offered: times of single operators are in the files."""
        raise NotImplementedError(
            "Profiler.op_analyse is not offered: XLA joins operators into programs. Times of what "
            f"runs are in {self.output_path}, see xprof."
        )

    def __enter__(self) -> Profiler:
        if not self._runs:
            self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._runs:
            self.stop()


class schedule:  # noqa: N801 - MindSpore's name
    """Which steps are recorded: after `skip_first`, in turn `wait`, `warmup` and `active` ones.

    Args:
        wait: steps that are not recorded.
        active: steps that are.
        warmup: steps before them that are not, either.
        repeat: how often in turn; 0: to the end.
        skip_first: steps before the first turn.

    Raises:
        ValueError: a negative number, or `active` below 1.
    """

    def __init__(
        self, *, wait: int, active: int, warmup: int = 0, repeat: int = 0, skip_first: int = 0
    ) -> None:
        if min(wait, warmup, repeat, skip_first) < 0 or active < 1:
            raise ValueError(
                "schedule: expected numbers from 0, and active from 1, got "
                f"{(wait, warmup, active, repeat, skip_first)}."
            )
        self.wait, self.warmup, self.active = wait, warmup, active
        self.repeat, self.skip_first = repeat, skip_first

    def __call__(self, step: int) -> bool:
        """Whether a step, from 0, is recorded."""
        step -= self.skip_first
        turn = self.wait + self.warmup + self.active
        if step < 0 or (self.repeat and step >= self.repeat * turn):
            return False
        return step % turn >= self.wait + self.warmup


def tensorboard_trace_handler(
    dir_name: str | None = None, worker_name: str | None = None, **settings: object
) -> str:
    """Where `profile` writes its files: the folder itself.

    Args:
        dir_name: the folder; None: `./data`.
        worker_name: MindSpore's, without effect.
        **settings: likewise.
    """
    return dir_name or "./data"


class profile(Profiler):  # noqa: N801 - MindSpore's name
    """A Profiler that records the steps of a schedule.

    Args:
        activities: MindSpore's, without effect.
        schedule: a function of the step; None: all steps.
        on_trace_ready: the folder, as `tensorboard_trace_handler` gives it; or a function of this
            Profiler, which is called with each trace that is written.
        **settings: as those of `Profiler`.
    """

    def __init__(
        self,
        activities: Any = None,
        schedule: Callable[[int], bool] | None = None,
        on_trace_ready: Any = None,
        start_profile: bool = True,
        **settings: object,
    ) -> None:
        folder = on_trace_ready if isinstance(on_trace_ready, str | os.PathLike) else "./data"
        self._ready = on_trace_ready if callable(on_trace_ready) else None
        self._schedule, self._step = schedule, 0
        settings = {k: v for k, v in settings.items() if v is not None}
        super().__init__(folder, False, **settings)
        if start_profile:
            self._follow()

    def _follow(self) -> None:
        wanted = self._schedule is None or bool(self._schedule(self._step))
        if wanted and not self._runs:
            super().start()
        elif not wanted and self._runs:
            self.stop()

    def start(self) -> None:
        """Begin with the present step."""
        self._follow()

    def stop(self) -> None:
        """Write what was recorded."""
        if self._runs:
            super().stop()
            if self._ready is not None:
                self._ready(self)

    def step(self) -> None:
        """The next step."""
        self._step += 1
        self._follow()

    def __enter__(self) -> profile:
        self._follow()
        return self
