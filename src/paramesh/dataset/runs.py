"""A run: what one iterator uses to evaluate a pipeline, epoch after epoch.

Glossary
    run     the seed, threads and worker processes of an iterator
    pass    one epoch of one operation: the run, the operation's path from the end of the pipeline
            (the root is (), its first child (0,)), and the epoch, from 0
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from paramesh.dataset import arrays, config
from paramesh.dataset.processes import ProcessRows, Unsendable, Workers
from paramesh.dataset.streams import HERE, Lazy, Stream, Work, given
from paramesh.dataset.threads import ThreadRows

Path = tuple[int, ...]

_logger = logging.getLogger("paramesh")

_SENDABLE = (
    "Open files and connections in __getitem__ instead of __init__, or say so yourself with "
    "python_multiprocessing=False or num_parallel_workers=1."
)


class Made(Stream):
    """The rows of tasks, made one by one in the thread that asks for them."""

    def __init__(self, lazy: Lazy) -> None:
        self._tasks, self._work = lazy.tasks, lazy.work

    def __next__(self) -> Any:
        return self._work(next(self._tasks))

    def skip(self, count: int) -> int:
        """Pass over tasks; none is made."""
        return self._tasks.skip(count)

    def close(self) -> None:
        """Let go of what waits."""
        self._tasks.close()


class Run:
    """What an iterator holds from its first row to its last.

    Args:
        seed: of all random numbers.
        serial: everything in the thread that asks, without threads and processes.
        shard: of the source; what is drawn for rows differs between shards of one seed.
    """

    def __init__(self, seed: int, serial: bool = False, shard: int = 0) -> None:
        self.seed, self.shard = seed, shard
        self.serial = serial or config.get_debug_mode()
        self._works: dict[Path, Any] = {}
        self._workers: dict[Path, Workers] = {}
        self._kept_here: set[Path] = set()
        self._executors: dict[int, ThreadPoolExecutor] = {}

    def work(self, path: Path, make: Callable[[], Any]) -> Any:
        """The work of the operation at a path, made once for all epochs."""
        if path not in self._works:
            self._works[path] = make()
        return self._works[path]

    def rows(self, lazy: Lazy, path: Path, what: str) -> Stream:
        """The rows of a Lazy.

        Args:
            lazy: tasks and work.
            path: of the operation that gave it.
            what: that operation, for errors.
        """
        kind = "here" if self.serial or lazy.work is given else lazy.place.kind
        if kind == "processes" and sys.platform == "win32":
            kind = "threads"  # as in MindSpore: rows are handed over by descriptors
        if path in self._kept_here:
            kind = "here"
        if kind == "processes":
            if path not in self._workers:
                count = lazy.place.workers or config.get_num_parallel_workers()
                try:
                    self._workers[path] = Workers(lazy.work, count, self.seed + self.shard, what)
                except Unsendable as error:
                    _logger.warning("%s, so it runs in this process. %s", error, _SENDABLE)
                    self._kept_here.add(path)
                    return Made(lazy)
            return ProcessRows(lazy.tasks, self._workers[path])
        count = lazy.place.workers or config.get_num_parallel_workers()
        if kind == "free":
            count = min(count, os.cpu_count() or 1)
        if kind == "here" or count < 2:
            return Made(lazy)
        if count not in self._executors:
            self._executors[count] = ThreadPoolExecutor(count, "paramesh-dataset")
        return ThreadRows(lazy.tasks, lazy.work, self._executors[count], 2 * count)

    def has_workers(self) -> bool:
        """Whether there are worker processes."""
        return bool(self._workers)

    def close(self) -> None:
        """End threads and processes; a second call does nothing."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        self._executors.clear()
        for workers in self._workers.values():
            workers.close()
        self._workers.clear()
        arrays.let_go()


@dataclass(frozen=True)
class Pass:
    """One epoch of one operation.

    Args:
        run: of the whole pipeline.
        path: of the operation.
        epoch: of the operation: each repetition above it counts.
        times: how often `repeat` above it has it in one epoch of the pipeline; -1: without end.
    """

    run: Run
    path: Path
    epoch: int
    times: int = 1

    def below(self, child: int = 0, epoch: int | None = None) -> Pass:
        """The pass of a child."""
        below = self.epoch if epoch is None else epoch
        return Pass(self.run, (*self.path, child), below, self.times)

    def repeated(self, count: int, nth: int) -> Pass:
        """The pass of a child that is repeated `count` times, -1 for without end."""
        epoch = nth if count == -1 else self.epoch * count + nth
        times = -1 if -1 in (count, self.times) else self.times * count
        return Pass(self.run, (*self.path, 0), epoch, times)

    def work(self, make: Callable[[], Any]) -> Work:
        """The work of this operation."""
        return self.run.work(self.path, make)

    def drawn(self) -> Path:
        """The path for random numbers of rows: one for each shard."""
        return self.path if not self.run.shard else (*self.path, 2**20 + self.run.shard)

    def plain(self, rows: Stream) -> Lazy:
        """Rows that are made already, as a Lazy."""
        from_rows = _Numbered(rows, self.epoch)
        return Lazy(from_rows, given, HERE)


class _Numbered(Stream):
    """Tasks whose keys are the rows of another stream."""

    def __init__(self, rows: Stream, epoch: int) -> None:
        self._rows, self._epoch, self._at = rows, epoch, 0

    def __next__(self) -> tuple[int, int, Any]:
        row = next(self._rows)
        at = self._at
        self._at += 1
        return self._epoch, at, row

    def skip(self, count: int) -> int:
        """Pass over tasks; none is made."""
        passed = self._rows.skip(count)
        self._at += passed
        return passed

    def close(self) -> None:
        """Let go of what waits."""
        self._rows.close()
