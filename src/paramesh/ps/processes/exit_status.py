"""The exit status of this process: success, an exception, or a non-zero exit code.

Python tells an `atexit` function nothing of this. So uncaught exceptions are seen by
`sys.excepthook`, codes by what is put in the place of `sys.exit`, `exit` and `quit`, and whether
one of them was the end by the instruction at which the outermost frame of the program has stopped.
"""

from __future__ import annotations

import builtins
import dis
import sys
import threading
from types import FrameType, TracebackType
from typing import Any


class ExitStatus:
    """From here on, sees how this process comes to its end."""

    def __init__(self) -> None:
        self._error: str | None = None
        self._code: Any = None
        self._exiting = False
        self._outermost = _outermost()
        before = sys.excepthook

        def hook(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            if not hasattr(sys, "ps1"):  # at a prompt, the user goes on
                self._error = f"{kind.__name__}: {error}".removesuffix(": ")
            before(kind, error, trace)

        sys.excepthook = hook
        leave = sys.exit

        def leaving(status: Any = None, /) -> Any:
            if threading.current_thread() is threading.main_thread():
                self._exiting, self._code = True, status
            leave(status)

        sys.exit = leaving
        quitter = type(getattr(builtins, "exit", None))
        if quitter.__name__ == "Quitter":  # not with python -S

            def quitting(_: object, code: object = None) -> None:
                leaving(code)

            quitter.__call__ = quitting  # pyright: ignore[reportAttributeAccessIssue]

    def error(self) -> str | None:
        """What is wrong with the end; None if it is a good one. To be asked in `atexit`."""
        if self._error is not None:
            return self._error
        if self._outermost is None or _returned(self._outermost):
            return None
        if not self._exiting:
            return (
                "SystemExit that the script has raised itself, whose code nobody learns; call "
                "sys.exit(code) instead"
            )
        return None if self._code in (None, 0) else f"exit code {self._code!r}"


def _outermost() -> FrameType | None:
    # Not public, and in every Python that paramesh runs on.
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _returned(frame: FrameType) -> bool:
    """Whether a frame that has ended did so by itself, and not by an exception."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN_")
