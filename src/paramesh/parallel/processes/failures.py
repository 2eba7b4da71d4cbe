"""What a process among others does with an exception that nobody caught.

JAX has a process wait at its end for all others, who may be waiting for it in a collective: none
would ever end. So it says what happened, to people and to `paramesh launch`, and ends at once; the
others find the connection closed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from paramesh.files.atomic import write_atomically

#: The variable that names the file in which `paramesh launch` looks for what happened.
REPORT = "PARAMESH_REPORT"


class _State:
    watching = False
    report: str | None = None


_state = _State()


def watch() -> None:
    """From here on, an uncaught exception of the main thread ends this process at once."""
    if _state.watching:
        return
    _state.watching = True
    _state.report = os.environ.get(REPORT)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if not hasattr(sys, "ps1"):  # at a prompt, the user goes on
            report("".join(traceback.format_exception(kind, error, trace)), 1)
            end(130 if issubclass(kind, KeyboardInterrupt) else 1)

    sys.excepthook = hook


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what happened on stderr and to `paramesh launch`, and end this process at once."""
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr)
    report(message, code)
    end(code)


def report(text: str, code: int) -> None:
    """Report to `paramesh launch` what ended this process; nothing without it."""
    if _state.report is None:
        return
    content = json.dumps({"time": time.time(), "text": text, "code": code}).encode()
    with contextlib.suppress(OSError):
        write_atomically(Path(_state.report), content)


def end(code: int) -> NoReturn:
    """End this process at once, without the wait for the others."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    logging.shutdown()
    os._exit(code)
