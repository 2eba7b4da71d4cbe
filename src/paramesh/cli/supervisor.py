"""Supervision of the processes of one run: start, output line by line, termination of all.

Glossary
    server      a process that serves the others: the run does not wait for it, and terminates it
    restart     a process that a signal killed, or whose host is lost, may be restarted, which is
                not a failure of the run
    root cause  the failure that made the others fail: of those within a short time, a kill, then
                the end of a server, then the earliest reported one, then any; a process that JAX
                aborts because another one is gone comes last
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, BinaryIO, NoReturn, Protocol

from paramesh.ps.processes.child import KILL, Child, End, Line
from paramesh.ps.processes.janitor import Janitor

#: Seconds between a failure and the termination of the others, in which they may report too.
MOMENT = 0.5
#: The same if a process that needs a server has ended without a report.
SERVER_MOMENT = 3.0
#: Seconds that processes have after Ctrl-C, and after SIGTERM.
INTERRUPT_SECONDS, TERM_SECONDS = 15.0, 3.0

_POSIX = os.name == "posix"
_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if _POSIX else [])
_TERM = ((signal.SIGTERM, TERM_SECONDS), (KILL, TERM_SECONDS))
_AWAKE = 0.2
_LAST_LINES = 20
_COLORS = (36, 33, 35, 32, 34, 31)


class Running(Protocol):
    """A process that was started, here or on another host."""

    def send(self, number: int) -> None:
        """Send a signal to the process and its children."""
        ...

    def read_out(self, seconds: float) -> None:
        """Wait so long for the rest of its lines."""
        ...


class NoPlace(Exception):
    """A process cannot be started again anywhere; the message says why."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process to run.

    Attributes:
        label: for its output and for messages: "rank 0".
        command: program and arguments.
        variables: added to the environment.
        server: whether it serves the others; see the glossary.
        restarts: how often it is restarted after a signal has killed it.
        quiet: its output is shown only if it fails.
        start: starts it, given the path for its report, and who is told of lines and of its end;
            None: on this host.
        again: what is started in its place when it is restarted, given how it ended; may raise
            `NoPlace`. None: the same.
        log: told of each of its lines; None: nobody is.
    """

    label: str
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    server: bool = False
    restarts: int = 0
    quiet: bool = False
    start: Callable[[ProcessSpec, Path, Line, Callable[[End], None]], Running] | None = None
    again: Callable[[End], ProcessSpec] | None = None
    log: Callable[[bytes], None] | None = None


def _start_here(
    spec: ProcessSpec, report: Path, line: Line, ended: Callable[[End], None]
) -> Running:
    # Its own session: only the launcher gets Ctrl-C from the terminal, and passes it on; and the
    # children of the process are terminated with it.
    variables = os.environ | dict(spec.variables)
    return Child(spec.command, variables, report, line, lambda _, end: ended(end))


#: Shows a line of somebody, given the label.
Show = Callable[[str, bytes], None]
#: Has another process started, beside those that run; one with a label that runs when it has ended.
Add = Callable[[ProcessSpec], None]


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes:
        label: of the process that failed first.
        what: "was killed by SIGKILL", "exited with code 1".
        said: its traceback, or its last lines on stderr.
        code: exit code of the run: that of the process, or 128 plus the signal's number.
    """

    label: str
    what: str
    said: str
    code: int


class Interrupted(Exception):
    """The run was interrupted by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def supervise(
    specs: Sequence[ProcessSpec],
    out: BinaryIO,
    err: BinaryIO,
    color: bool = False,
    beside: Callable[[Show], AbstractContextManager[None]] | None = None,
    later: Callable[[Add], AbstractContextManager[None]] | None = None,
) -> Failure | None:
    """Run processes until all except servers are done, or one fails; leave none running.

    Args:
        specs: of the processes; at least one is not a server.
        out: gets their lines on stdout, each prefixed with the label of its process.
        err: the same for stderr.
        color: whether labels are coloured.
        beside: entered while the processes run, with what shows lines of others among theirs.
        later: likewise, with what has more processes started; it may be called by any thread.

    Returns:
        The failure; None if all ended with exit code 0.

    Raises:
        Interrupted: by SIGINT, SIGTERM or SIGHUP. The processes had time to end by themselves:
            SIGINT is passed on to them, and a second one terminates them at once.
        OSError: a process could not be started; none is running.
    """
    with TemporaryDirectory(prefix="paramesh-") as folder:
        janitor = Janitor(Path(folder))  # in case this process is killed
        try:
            return _Run(specs, out, err, color, Path(folder)).run(beside, later)
        finally:
            janitor.dismiss()


class _Process:
    """A process of the run."""

    def __init__(
        self,
        spec: ProcessSpec,
        at: int,
        report: Path,
        show: Line,
        ended: Callable[[_Process], None],
    ) -> None:
        self.spec = spec
        self.at = at
        self.last: deque[bytes] = deque(maxlen=_LAST_LINES)
        self.end = End(0)
        self._show = show
        self._ended = ended
        self.running = (spec.start or _start_here)(spec, report, self._line, self._end)

    def _line(self, stream: str, text: bytes) -> None:
        if stream == "stderr" or self.spec.quiet:
            self.last.append(text + b"\n")
        if self.spec.log is not None:
            self.spec.log(text)
        if not self.spec.quiet:
            self._show(stream, text)

    def _end(self, end: End) -> None:
        self.end = end
        self._ended(self)

    def failure(self) -> Failure:
        """How it ended."""
        code = self.end.code
        said = self.end.report.get("text") or b"".join(self.last).decode(errors="replace")
        if code < 0:
            what = self.killed()
            if self.spec.restarts:
                count = self.spec.restarts
                what += f" and had been restarted {'once' if count == 1 else f'{count} times'}"
            return Failure(self.spec.label, what, said, 128 - code)
        return Failure(self.spec.label, f"exited with code {code}", said, code or 1)

    def killed(self) -> str:
        """By which signal, or with what it was lost."""
        if self.end.lost is not None:
            return self.end.lost
        number = -self.end.code
        return f"was killed by {signal.Signals(number).name} (signal {number})"

    def order(self) -> tuple[int, float]:
        """Sort key of failures at about the same time; see the glossary."""
        code, report = self.end.code, self.end.report
        if code < 0 and -code != signal.SIGABRT:
            return 0, 0.0
        if self.spec.server:
            return 0, 1.0
        if report:
            return 1, float(report["time"])
        return (3 if code == -signal.SIGABRT else 2), 0.0


def _who(spec: ProcessSpec) -> str:
    """The label, wherever the process runs."""
    return spec.label.partition(" on ")[0]


class _Added:
    """A process that is to be started."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec


class _Run:
    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        out: BinaryIO,
        err: BinaryIO,
        color: bool,
        folder: Path,
    ) -> None:
        self._specs = list(specs)
        self._ends = False
        self._folder = folder
        self._streams = {"stdout": out, "stderr": err}
        self._color = color
        self._writing = threading.Lock()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._colors: dict[str, int] = {}
        self._running: set[_Process] = set()
        #: Those that are to be started when others with their labels have ended.
        self._waiting: list[ProcessSpec] = []
        self._restarts = [spec.restarts for spec in specs]

    def run(
        self,
        beside: Callable[[Show], AbstractContextManager[None]] | None,
        later: Callable[[Add], AbstractContextManager[None]] | None,
    ) -> Failure | None:
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            with contextlib.ExitStack() as others:
                if beside is not None:
                    others.enter_context(beside(self._show_other))
                for at, spec in enumerate(self._specs):
                    self._start(spec, at)
                if later is not None:
                    others.enter_context(later(lambda spec: self._events.put(_Added(spec))))
                return self._watch()
        finally:
            self._end(_TERM)
            for process in self._processes:
                process.running.read_out(1.0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, spec: ProcessSpec, at: int) -> None:
        def show(stream: str, text: bytes) -> None:
            self._write(stream, spec.label, at, text)

        process = _Process(spec, at, self._folder / f"{at}.json", show, self._events.put)
        self._processes.append(process)
        self._running.add(process)

    def _add(self, spec: ProcessSpec) -> None:
        if any(_who(process.spec) == _who(spec) for process in self._running):
            self._waiting.append(spec)
            return
        self._specs.append(spec)
        self._restarts.append(spec.restarts)
        self._start(spec, len(self._specs) - 1)

    def _show_other(self, label: str, text: bytes) -> None:
        at = self._colors.setdefault(label, len(self._specs) + len(self._colors))
        self._write("stdout", label, at, text)

    def _write(self, stream: str, label: str, at: int, text: bytes, *, plain: bool = False) -> None:
        prefix = f"[{label}]"
        if self._color and not plain:
            prefix = f"\x1b[{_COLORS[at % len(_COLORS)]}m{prefix}\x1b[0m"
        out = self._streams[stream]
        with self._writing, contextlib.suppress(OSError, ValueError):
            out.write(prefix.encode() + b" " + text + b"\n")
            out.flush()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._events.put(number)

    def _watch(self) -> Failure | None:
        """Wait until the run is done, a process fails or a signal arrives."""
        while any(not process.spec.server for process in self._running):
            event = self._next()
            if isinstance(event, int):
                self._interrupt(event)
            self._running.discard(event)
            if event.end.code < 0 and self._restarts[event.at]:
                try:
                    self._restart(event)
                except NoPlace as error:
                    self._end(_TERM)
                    self._sweep()
                    failure = event.failure()
                    what = f"{event.killed()}, and {error}"
                    return Failure(failure.label, what, failure.said, failure.code)
            elif event.end.code or event.spec.server:
                return self._root_cause(event)
            waiting, self._waiting = self._waiting, []
            for spec in waiting:
                self._add(spec)
        return None

    def _restart(self, process: _Process) -> None:
        spec, at = process.spec, process.at
        process.running.send(KILL)  # its children
        following = spec if spec.again is None else spec.again(process.end)
        self._restarts[at] -= 1
        count = spec.restarts - self._restarts[at]
        line = f"{process.killed()}: restarted ({count} of {spec.restarts})"
        if following.label != spec.label:
            line += f" as {following.label}"
        if spec.log is not None:
            spec.log(line.encode())
        self._write("stderr", spec.label, at, line.encode(), plain=True)
        self._start(following, at)

    def _root_cause(self, failed: _Process) -> Failure:
        """The root cause; see the glossary."""
        self._ends = True
        candidates = [failed]
        # When a Ray node dies, its users end without a report, before the node itself notices.
        served = any(process.spec.server for process in self._running)
        silent = served and failed.end.code > 0 and not failed.end.report
        until = time.monotonic() + (SERVER_MOMENT if silent else MOMENT)
        while (left := until - time.monotonic()) > 0 and self._running:
            event = self._next(left)
            if isinstance(event, int):
                self._interrupt(event)
            if event is not None:
                self._running.discard(event)
                if event.end.code:
                    candidates.append(event)
                if event.spec.server:
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
        """Send signals, each with a time limit; another signal from outside skips to the next."""
        self._ends = True
        for number, seconds in steps:
            for process in self._running:
                process.running.send(number)
            until = time.monotonic() + seconds
            while self._running and (left := until - time.monotonic()) > 0:
                event = self._next(left)
                if isinstance(event, int):
                    break
                self._running.discard(event)

    def _sweep(self) -> None:
        """Kill orphaned children, and print the remaining output."""
        for process in self._processes:
            process.running.send(KILL)
        for process in self._processes:
            process.running.read_out(1.0)

    def _next(self, seconds: float = math.inf) -> Any:
        """The next event within some seconds; None if there is none.

        A signal that arrives just when `get` starts to wait does not wake it: it wakes up by itself
        from time to time, and Python then calls the handler.
        """
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, min(until - time.monotonic(), _AWAKE))
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=left)
                if not isinstance(event, _Added):
                    return event
                if not self._ends:
                    self._add(event.spec)
                continue
            if time.monotonic() >= until:
                return None
