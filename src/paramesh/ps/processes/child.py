"""A program that this process runs for somebody: its lines as they come, signals, and how it ended.

Glossary
    group       the program and what it has started: a session of its own, so that Ctrl-C on a
                terminal reaches only who runs it, who passes it on
    report      a file in which the program says why it ends (see `parallel.processes.failures`)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from paramesh.parallel.processes.failures import REPORT
from paramesh.parallel.processes.worker import LAUNCHER

_POSIX = os.name == "posix"
#: What ends a process at once.
KILL = signal.SIGKILL if _POSIX else signal.SIGTERM

#: Told of a line: the stream ("stdout", "stderr"), and the line without its end.
Line = Callable[[str, bytes], None]


@dataclass(frozen=True)
class End:
    """How a program has ended.

    Attributes:
        code: its exit status; of one that a signal has killed, minus the signal's number.
        report: what it has said of its end; {} if nothing.
        lost: why nobody knows how it ended; None: it is known.
    """

    code: int
    report: Mapping[str, Any] = field(default_factory=dict)
    lost: str | None = None


class Child:
    """A program that runs.

    Args:
        words: the program and its arguments.
        variables: its complete environment, without those that this class adds.
        report: the path of its report.
        line: told of every line, on a thread for each stream.
        ended: told once that the program has ended, on a thread; lines may still come.
        folder: in which it runs; None: that of this process.

    Raises:
        OSError: it cannot be started.

    The thread that makes it has to live as long as the program: the kernel is asked by the program
    to end it together with that thread.
    """

    def __init__(
        self,
        words: Sequence[str],
        variables: Mapping[str, str],
        report: Path,
        line: Line,
        ended: Callable[[Child, End], None],
        folder: str | None = None,
    ) -> None:
        self._report = report
        self._popen = subprocess.Popen(
            list(words),
            env={
                **variables,
                "PYTHONUNBUFFERED": "1",
                LAUNCHER: str(os.getpid()),
                REPORT: str(report),
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=_POSIX,
        )
        self.pid = self._popen.pid
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._readers = [
            _thread(_read, self._popen.stdout, "stdout", line),
            _thread(_read, self._popen.stderr, "stderr", line),
        ]
        _thread(self._wait, ended)

    def _wait(self, ended: Callable[[Child, End], None]) -> None:
        code = self._popen.wait()
        try:
            report = json.loads(self._report.read_bytes())
        except (OSError, ValueError):
            report = {}
        ended(self, End(code, report))

    def send(self, number: int) -> None:
        """Send a signal to the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _POSIX:
                os.killpg(self.pid, number)
            elif self._popen.poll() is None:
                self._popen.terminate()

    def read_out(self, seconds: float) -> None:
        """Wait for the rest of its lines; orphans may keep its pipes open for longer."""
        for reader in self._readers:
            reader.join(seconds)


def _read(source: IO[bytes], name: str, line: Line) -> None:
    with source:
        for content in source:
            line(name, content.rstrip(b"\r\n").rpartition(b"\r")[2])  # a bar's last state


def _thread(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
