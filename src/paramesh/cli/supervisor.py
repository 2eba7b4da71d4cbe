"""Processes of one run: started together, shown line by line, ended together.

Glossary
    member      one process of the run
    server      a member that serves the others: the run does not wait for it, and ends it
    restart     a member that a signal killed may be started again; that is no failure of the run
    first       the failure that made the others fail: of those that come within a moment, a kill,
                then the end of a server, then the earliest one that was reported, then any; a
                process that JAX aborts because another one is gone comes last
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, BinaryIO, NoReturn

from paramesh.parallel.processes.failures import REPORT
from paramesh.parallel.processes.worker import LAUNCHER
from paramesh.ps.processes.janitor import Janitor

#: Seconds between a failure and the end of the others, in which they too may say what they see.
MOMENT = 0.5
#: The same where a member has ended without a word that needs a server.
SERVER_MOMENT = 3.0
#: Seconds that members have after Ctrl-C, and after SIGTERM.
INTERRUPT_SECONDS, TERM_SECONDS = 15.0, 3.0

_POSIX = os.name == "posix"
_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if _POSIX else [])
_KILL = signal.SIGKILL if _POSIX else signal.SIGTERM
_TERM = ((signal.SIGTERM, TERM_SECONDS), (_KILL, TERM_SECONDS))
_AWAKE = 0.2
_LAST_LINES = 20
_COLORS = (36, 33, 35, 32, 34, 31)


@dataclass(frozen=True)
class Member:
    """One process to run.

    Attributes:
        label: for its lines and for messages: "rank 0".
        command: program and arguments.
        variables: added to the environment.
        server: whether it serves the others; see the glossary.
        restarts: how often it is started again after a signal has killed it.
        quiet: what it writes is shown only if it fails.
    """

    label: str
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    server: bool = False
    restarts: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes:
        label: of the member that failed first.
        what: "was killed by SIGKILL", "exited with code 1".
        said: its traceback, or its last lines on stderr.
        code: exit code for the whole run: that of the member, or 128 and the signal's number.
    """

    label: str
    what: str
    said: str
    code: int


class Interrupted(Exception):
    """The run was ended from outside, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def supervise(
    members: Sequence[Member], out: BinaryIO, err: BinaryIO, color: bool = False
) -> Failure | None:
    """Run members until all that are no servers are done, or one fails; leave none running.

    Args:
        members: to run, at least one of them no server.
        out: gets their lines on stdout, each behind the label of its member.
        err: the same for stderr.
        color: whether labels are coloured.

    Returns:
        What went wrong; None if all ended with exit code 0.

    Raises:
        Interrupted: by SIGINT, SIGTERM or SIGHUP. Members had time to end by themselves: SIGINT is
            passed on to them, and a second one ends them at once.
        OSError: a member could not be started; none runs.
    """
    with TemporaryDirectory(prefix="paramesh-") as folder:
        janitor = Janitor(Path(folder))  # if this process is killed
        try:
            return _Run(members, out, err, color, Path(folder)).run()
        finally:
            janitor.dismiss()


class _Process:
    """A member that runs."""

    def __init__(self, member: Member, at: int, report: Path) -> None:
        self.member = member
        self.at = at
        self._report = report
        self.last: deque[bytes] = deque(maxlen=_LAST_LINES)
        variables = {LAUNCHER: str(os.getpid()), REPORT: str(report)}
        # A session of its own: Ctrl-C on the terminal comes to the launcher alone, which passes it
        # on; and what a member started ends with it.
        self.popen = subprocess.Popen(
            list(member.command),
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(member.variables) | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=_POSIX,
        )

    def send(self, number: int) -> None:
        """Send a signal to the process and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _POSIX:
                os.killpg(self.popen.pid, number)
            elif self.popen.poll() is None:
                self.popen.terminate()

    def report(self) -> dict[str, Any]:
        """What the process said of its own end; {} if nothing."""
        try:
            return json.loads(self._report.read_bytes())
        except (OSError, ValueError):
            return {}

    def failure(self) -> Failure:
        """How it ended."""
        code, report = self.popen.returncode, self.report()
        said = report.get("text") or b"".join(self.last).decode(errors="replace")
        if code < 0:
            what = self.killed()
            if self.member.restarts:
                count = self.member.restarts
                what += f" and had been started again {'once' if count == 1 else f'{count} times'}"
            return Failure(self.member.label, what, said, 128 - code)
        return Failure(self.member.label, f"exited with code {code}", said, code or 1)

    def killed(self) -> str:
        """By which signal."""
        number = -self.popen.returncode
        return f"was killed by {signal.Signals(number).name} (signal {number})"

    def order(self) -> tuple[int, float]:
        """Failures of one moment are sorted by this; see the glossary."""
        code, report = self.popen.returncode, self.report()
        if code < 0 and -code != signal.SIGABRT:
            return 0, 0.0
        if self.member.server:
            return 0, 1.0
        if report:
            return 1, float(report["time"])
        return (3 if code == -signal.SIGABRT else 2), 0.0


class _Run:
    def __init__(
        self,
        members: Sequence[Member],
        out: BinaryIO,
        err: BinaryIO,
        color: bool,
        folder: Path,
    ) -> None:
        self._members = members
        self._folder = folder
        self._streams = {"stdout": out, "stderr": err}
        self._color = color
        self._writing = threading.Lock()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._readers: list[threading.Thread] = []
        self._running: set[_Process] = set()
        self._restarts = [member.restarts for member in members]

    def run(self) -> Failure | None:
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            for at, member in enumerate(self._members):
                self._start(member, at)
            return self._watch()
        finally:
            self._end(_TERM)
            for reader in self._readers:  # what a member left behind may hold its pipes open
                reader.join(timeout=1.0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, member: Member, at: int) -> None:
        process = _Process(member, at, self._folder / f"{at}.json")
        self._processes.append(process)
        self._running.add(process)
        prefix = f"[{member.label}]"
        if self._color:
            prefix = f"\x1b[{_COLORS[at % len(_COLORS)]}m{prefix}\x1b[0m"
        for name, stream in self._streams.items():
            arguments = (process, name, stream, prefix.encode() + b" ")
            self._readers.append(_thread(self._show, *arguments))
        _thread(self._wait, process)

    def _show(self, process: _Process, name: str, stream: BinaryIO, prefix: bytes) -> None:
        with getattr(process.popen, name) as source:
            for line in source:
                text = line.rstrip(b"\r\n").rpartition(b"\r")[2]  # a progress bar's last state
                if name == "stderr" or process.member.quiet:
                    process.last.append(text + b"\n")
                if process.member.quiet:
                    continue
                with self._writing, contextlib.suppress(OSError, ValueError):
                    stream.write(prefix + text + b"\n")
                    stream.flush()

    def _wait(self, process: _Process) -> None:
        process.popen.wait()
        self._events.put(process)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._events.put(number)

    def _watch(self) -> Failure | None:
        """Until the run is done, a member fails or a signal comes."""
        while any(not process.member.server for process in self._running):
            event = self._next()
            if isinstance(event, int):
                self._interrupt(event)
            self._running.discard(event)
            if event.popen.returncode < 0 and self._restarts[event.at]:
                self._restart(event)
            elif event.popen.returncode or event.member.server:
                return self._first(event)
        return None

    def _restart(self, process: _Process) -> None:
        member, at = process.member, process.at
        process.send(_KILL)  # what it started
        self._restarts[at] -= 1
        count = member.restarts - self._restarts[at]
        line = f"[{member.label}] {process.killed()}: started again ({count} of {member.restarts})"
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._streams["stderr"].write(line.encode() + b"\n")
            self._streams["stderr"].flush()
        self._start(member, at)

    def _first(self, failed: _Process) -> Failure:
        """The failure that made the others fail."""
        candidates = [failed]
        # Ray ends its users without a word when its node dies, which the node itself sees later.
        served = any(process.member.server for process in self._running)
        silent = served and failed.popen.returncode > 0 and not failed.report()
        until = time.monotonic() + (SERVER_MOMENT if silent else MOMENT)
        while (left := until - time.monotonic()) > 0 and self._running:
            event = self._next(left)
            if isinstance(event, int):
                self._interrupt(event)
            if event is not None:
                self._running.discard(event)
                if event.popen.returncode:
                    candidates.append(event)
                if event.member.server:
                    until = min(until, time.monotonic() + MOMENT)
        first = min(candidates, key=_Process.order)
        self._end(_TERM)
        self._sweep()
        return first.failure()

    def _interrupt(self, number: int) -> NoReturn:
        self._end([(number, INTERRUPT_SECONDS), *_TERM])
        self._sweep()
        raise Interrupted(number)

    def _end(self, steps: Sequence[tuple[int, float]]) -> None:
        """Signals with the seconds that each has to work; another signal from outside skips one."""
        for number, seconds in steps:
            for process in self._running:
                process.send(number)
            until = time.monotonic() + seconds
            while self._running and (left := until - time.monotonic()) > 0:
                event = self._next(left)
                if isinstance(event, int):
                    break
                self._running.discard(event)

    def _sweep(self) -> None:
        """End what members started and left behind, and show what they all said."""
        for process in self._processes:
            process.send(_KILL)
        for reader in self._readers:
            reader.join(timeout=1.0)

    def _next(self, seconds: float = math.inf) -> Any:
        """The next event within some seconds; None if there is none.

        A signal that comes in the moment in which `get` starts to wait does not wake it: it wakes
        up by itself, and Python then calls the handler.
        """
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, min(until - time.monotonic(), _AWAKE))
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=left)
            if time.monotonic() >= until:
                return None


def _thread(target: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
