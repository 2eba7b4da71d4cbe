"""Ctrl-C that never interrupts a step in the middle.

Inside a step the first Ctrl-C is deferred until the step is done. Everywhere else (waiting for a
batch, in a callback), and the second time, it raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """While it is open, SIGINT is handled as above, in the main thread and unless the program has
    installed another handler.
    """

    def __init__(self) -> None:
        self._stepping = False
        self._asked = False
        self._before: Callable[[int, FrameType | None], Any] | int | signal.Handlers | None = None

    def __enter__(self) -> Interrupts:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _handle(self, number: int, frame: object) -> None:
        if self._stepping and not self._asked:
            self._asked = True
            return
        raise KeyboardInterrupt

    @contextmanager
    def step(self) -> Generator[None]:
        """Around one step: a Ctrl-C inside is raised behind it."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt
