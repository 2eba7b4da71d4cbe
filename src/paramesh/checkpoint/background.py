"""Saving beside training: one writing thread, and handles to what it does.

At most one save is under way: the next one, of either kind, waits for it, so that files appear in
the order in which they were asked for, and no more than one earlier state is kept in memory. An
error that nobody has asked the handle for is raised by the next save, or told on stderr when the
program ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from paramesh.checkpoint.staging import Staging

#: What is taken off the writing thread's priority, so that it takes from training no processor
#: that training can use.
_NICE = 10


class SaveHandle:
    """A save that goes on while the program does; `save_checkpoint(async_save=True)` returns it.

    The values that are saved are those at the call, whatever training does next.

    Attributes:
        path: of the file; it is there, as a whole, once the save is done without an error.
    """

    def __init__(self, path: Path, future: Future[None]) -> None:
        self.path = path
        self._future = future
        self._told = False

    def done(self) -> bool:
        """Whether it has ended, with an error or without."""
        return self._future.done()

    def wait(self, timeout: float | None = None) -> Path:
        """Wait for the end.

        Args:
            timeout: in seconds; None for no limit.

        Returns:
            The path of the file.

        Raises:
            TimeoutError: it goes on still.
            Exception: what went wrong; the old file, if there was one, is untouched.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self.path

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end; what went wrong, or None.

        Raises:
            TimeoutError: it goes on still after `timeout` seconds.
        """
        error = self._future.exception(timeout)
        self._told = True
        return error

    def __repr__(self) -> str:
        if not self.done():
            return f"SaveHandle('{self.path}', saving)"
        failed = self._future.exception() is not None
        return f"SaveHandle('{self.path}', {'failed' if failed else 'saved'})"


class _Writer:
    """The thread, and the save that was given to it last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._last: SaveHandle | None = None
        self._staging = Staging()

    def settle(self) -> None:
        with self._lock:
            self._settle()

    def start(self, path: Path, prepare: Callable[[Staging], Callable[[], None]]) -> SaveHandle:
        with self._lock:
            self._settle()
            work = prepare(self._staging)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "paramesh-save", _step_back)
                atexit.register(self._at_exit)
            self._last = SaveHandle(path, self._pool.submit(work))
            return self._last

    def _settle(self) -> None:
        last, self._last = self._last, None
        if last is None:
            return
        told = last._told
        error = last.exception()
        if error is not None and not told:
            error.add_note(f"This was raised by the earlier save of '{last.path}' in background.")
            raise error

    def _at_exit(self) -> None:
        last = self._last
        if last is None or last._told:
            return
        error = last.exception()
        if error is not None:
            print(
                f"The checkpoint '{last.path}' could not be saved in background:", file=sys.stderr
            )
            traceback.print_exception(error)


def _step_back() -> None:
    """Give other threads of this program precedence; possible on Linux alone."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


_writer = _Writer()


def settle() -> None:
    """Wait for the save in background, if there is one.

    Raises:
        Exception: it failed, and nobody has asked its handle.
    """
    _writer.settle()


def start(path: Path, prepare: Callable[[Staging], Callable[[], None]]) -> SaveHandle:
    """Have `path` written in the writing thread.

    Args:
        path: for messages, and for the handle.
        prepare: called at once, when no other save is under way: takes the present values, with
            the memory it is given for copies, and returns the work for the thread.

    Raises:
        Exception: as `settle`, or from `prepare`.
    """
    return _writer.start(path, prepare)
