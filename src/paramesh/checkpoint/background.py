"""Saving in the background: one writer thread, and handles to its saves.

At most one save is in progress: the next one, synchronous or not, waits for it, so that files
appear in the order of the calls, and at most one earlier state is in memory. An error that was not
read from the handle is raised by the next save, or printed to stderr when the program ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from paramesh import own_exit
from paramesh.checkpoint.staging import Staging

#: Added to the nice value of the writer thread, so that training has precedence on every processor.
_NICE = 10


class SaveHandle:
    """A save in the background; `save_checkpoint(async_save=True)` returns it.

    It saves the values at the time of the call, whatever training does next.

    Attributes:
        path: of the file, which is complete once the save is done without an error.
    """

    def __init__(self, path: Path, future: Future[None]) -> None:
        self.path = path
        self._future = future
        self._reported = False

    def done(self) -> bool:
        """Whether the save has ended, with an error or without."""
        return self._future.done()

    def wait(self, timeout: float | None = None) -> Path:
        """Wait until the save is done.

        Args:
            timeout: in seconds; None for no limit.

        Returns:
            The path of the file.

        Raises:
            TimeoutError: it is still in progress.
            Exception: the save failed; an existing file is unchanged.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self.path

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait until the save is done; the error, or None.

        Raises:
            TimeoutError: it is still in progress after `timeout` seconds.
        """
        error = self._future.exception(timeout)
        self._reported = True
        return error

    def __repr__(self) -> str:
        if not self.done():
            return f"SaveHandle('{self.path}', saving)"
        failed = self._future.exception() is not None
        return f"SaveHandle('{self.path}', {'failed' if failed else 'saved'})"


class _Writer:
    """The writer thread and its last save."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._last: SaveHandle | None = None
        self._staging = Staging()

    def wait_until_done(self) -> None:
        with self._lock:
            self._wait_for_last()

    def going_on(self) -> bool:
        last = self._last
        return last is not None and not last.done()

    def settle(self) -> None:
        last = self._last
        if last is not None:
            wait([last._future])

    def start(self, path: Path, prepare: Callable[[Staging], Callable[[], None]]) -> SaveHandle:
        with self._lock:
            self._wait_for_last()
            work = prepare(self._staging)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "paramesh-save", _lower_priority)
                own_exit.register(self._at_exit)
            self._last = SaveHandle(path, self._pool.submit(work))
            return self._last

    def _wait_for_last(self) -> None:
        last, self._last = self._last, None
        if last is None:
            return
        reported = last._reported
        error = last.exception()
        if error is not None and not reported:
            error.add_note(f"It was raised by the earlier save of '{last.path}' in the background.")
            raise error

    def _at_exit(self) -> None:
        last = self._last
        if last is None or last._reported:
            return
        error = last.exception()
        if error is not None:
            print(
                f"The checkpoint '{last.path}' could not be saved in the background:",
                file=sys.stderr,
            )
            traceback.print_exception(error)


def _lower_priority() -> None:
    """Lower the priority of this thread; possible only on Linux."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


_writer = _Writer()

if hasattr(os, "register_at_fork"):  # a child has no thread that would end its parent's save
    os.register_at_fork(after_in_child=_writer.__init__)


def wait_until_done() -> None:
    """Wait until the save in the background is done, if there is one.

    Raises:
        Exception: it failed, and the error was not read from its handle.
    """
    _writer.wait_until_done()


def going_on() -> bool:
    """Whether a save in the background is in progress."""
    return _writer.going_on()


def settle() -> None:
    """Wait until the save in the background has ended, if there is one, whatever came of it."""
    _writer.settle()


def start(path: Path, prepare: Callable[[Staging], Callable[[], None]]) -> SaveHandle:
    """Write `path` in the writer thread.

    Args:
        path: for messages, and for the handle.
        prepare: called here, once no other save is in progress: copies the current values into the
            memory it is given, and returns the work for the thread.

    Raises:
        Exception: as `wait_until_done`, or from `prepare`.
    """
    return _writer.start(path, prepare)
