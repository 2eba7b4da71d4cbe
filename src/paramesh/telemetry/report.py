"""The recorder of this process: `paramesh watch` shows what it is told.

A training that is shorter than a second leaves no file. `PARAMESH_WATCH=0` in the environment
switches all of this off.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from paramesh import own_exit
from paramesh.telemetry import phases
from paramesh.telemetry.journal import Facts, Journal, Json
from paramesh.telemetry.recorder import Recorder

OFF = "PARAMESH_WATCH"

#: Seconds between two samples.
EVERY = 1.0

#: What parts of this process say of themselves, by name; asked for with every sample.
sources: dict[str, Callable[[], Json]] = {}

#: What this process computes on, in words; JAX is above this module.
devices: Callable[[], str] = lambda: ""  # noqa: E731 (replaced by `train`)


class _Own:
    """The training of this process that is reported, if one is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.recorder: Recorder | None = None
        self.journal: Journal | None = None
        self.thread = 0


_own = _Own()


def begin() -> Recorder | None:
    """The recorder of this process; None where it is switched off, or another thread has it."""
    if os.environ.get(OFF) == "0":
        return None
    with _own.lock:
        if _own.recorder is None:
            _own.thread = threading.get_ident()
            _own.recorder = Recorder(_flush, phases.taken, time.perf_counter, time.time, EVERY)
            phases.start()
            own_exit.register(end)
        return _own.recorder if _own.thread == threading.get_ident() else None


def end() -> None:
    """The training has ended: nobody can watch it any more."""
    with _own.lock:
        journal, _own.journal, _own.recorder = _own.journal, None, None
        phases.stop()
        own_exit.unregister(end)
    if journal is not None:
        journal.close()


def _flush(recorder: Recorder) -> None:
    if not recorder.samples:  # an event in the first second
        return
    if _own.journal is None:
        _own.journal = Journal(_facts(recorder))
    _own.journal.write(recorder, {name: source() for name, source in sources.items()})


def _facts(recorder: Recorder) -> Facts:
    group, rank = _among_others()
    first = recorder.samples[0]
    program = " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])
    host = socket.gethostname()
    began = first.time - first.seconds
    return Facts(group, rank, os.getpid(), host, program, round(began, 3), devices())


def _among_others() -> tuple[str, int]:
    """What is the same for processes that were launched together, and which of them this is."""
    found = os.environ.get
    if "PARAMESH_PS_RANK" in os.environ and "PARAMESH_PS_ADDRESS" in os.environ:
        group = f"{found('PARAMESH_PS_ADDRESS')} {found('PARAMESH_PS_JOB', 'default')}"
        return group, _number(found("PARAMESH_PS_RANK"))
    if "PARAMESH_COORDINATOR" in os.environ:
        return found("PARAMESH_COORDINATOR", ""), _number(found("PARAMESH_PROCESS"))
    return f"process {os.getpid()}", 0


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
