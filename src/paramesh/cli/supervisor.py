"""Supervision of the processes of one run: start, output line by line, termination of all.

Glossary
    server      a process that serves the others: the run does not wait for it, and terminates it
    restart     a process that a signal killed may be restarted, which is not a failure of the run
    root cause  the failure that made the others fail: of those within a short time, a kill, then
                the end of a server, then the earliest reported one, then any; a process that JAX
                aborts because another one is gone comes last
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, BinaryIO, NoReturn

from paramesh.parallel.processes.failures import REPORT
from paramesh.parallel.processes.worker import LAUNCHER
from paramesh.ps.processes.janitor import Janitor

#: Seconds between a failure and the termination of the others, in which they may report too.
MOMENT = 0.5
#: The same if a process that needs a server has ended without a report.
SERVER_MOMENT = 3.0
#: Seconds that processes have after Ctrl-C, and after SIGTERM.
INTERRUPT_SECONDS, TERM_SECONDS = 15.0, 3.0

_POSIX = os.name == "posix"
_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if _POSIX else [])
_KILL = signal.SIGKILL if _POSIX else signal.SIGTERM
_TERM = ((signal.SIGTERM, TERM_SECONDS), (_KILL, TERM_SECONDS))
_AWAKE = 0.2
_LAST_LINES = 20
_COLORS = (36, 33, 35, 32, 34, 31)


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
    specs: Sequence[ProcessSpec], out: BinaryIO, err: BinaryIO, color: bool = False
) -> Failure | None:
    """Run processes until all except servers are done, or one fails; leave none running.

    Args:
        specs: of the processes; at least one is not a server.
        out: gets their lines on stdout, each prefixed with the label of its process.
        err: the same for stderr.
        color: whether labels are coloured.

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
            return _Run(specs, out, err, color, Path(folder)).run()
        finally:
            janitor.dismiss()


class _Process:
    """A running process."""

    def __init__(self, spec: ProcessSpec, at: int, report: Path) -> None:
        self.spec = spec
        self.at = at
        self._report = report
        self.last: deque[bytes] = deque(maxlen=_LAST_LINES)
        variables = {LAUNCHER: str(os.getpid()), REPORT: str(report)}
        # Its own session: only the launcher gets Ctrl-C from the terminal, and passes it on; and
        # the children of the process are terminated with it.
        self.popen = subprocess.Popen(
            list(spec.command),
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(spec.variables) | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=_POSIX,
        )

    def send(self, number: int) -> None:
        """Send a signal to the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _POSIX:
                os.killpg(self.popen.pid, number)
            elif self.popen.poll() is None:
                self.popen.terminate()

    def report(self) -> dict[str, Any]:
        """The report of the process about its end; {} if there is none."""
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
            if self.spec.restarts:
                count = self.spec.restarts
                what += f" and had been restarted {'once' if count == 1 else f'{count} times'}"
            return Failure(self.spec.label, what, said, 128 - code)
        return Failure(self.spec.label, f"exited with code {code}", said, code or 1)

    def killed(self) -> str:
        """By which signal."""
        number = -self.popen.returncode
        return f"was killed by {signal.Signals(number).name} (signal {number})"

    def order(self) -> tuple[int, float]:
        """Sort key of failures at about the same time; see the glossary."""
        code, report = self.popen.returncode, self.report()
        if code < 0 and -code != signal.SIGABRT:
            return 0, 0.0
        if self.spec.server:
            return 0, 1.0
        if report:
            return 1, float(report["time"])
        return (3 if code == -signal.SIGABRT else 2), 0.0


class _Run:
    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        out: BinaryIO,
        err: BinaryIO,
        color: bool,
        folder: Path,
    ) -> None:
        self._specs = specs
        self._folder = folder
        self._streams = {"stdout": out, "stderr": err}
        self._color = color
        self._writing = threading.Lock()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._readers: list[threading.Thread] = []
        self._running: set[_Process] = set()
        self._restarts = [spec.restarts for spec in specs]

    def run(self) -> Failure | None:
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            for at, spec in enumerate(self._specs):
                self._start(spec, at)
            return self._watch()
        finally:
            self._end(_TERM)
            for reader in self._readers:  # orphaned children may keep its pipes open
                reader.join(timeout=1.0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, spec: ProcessSpec, at: int) -> None:
        process = _Process(spec, at, self._folder / f"{at}.json")
        self._processes.append(process)
        self._running.add(process)
        prefix = f"[{spec.label}]"
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
                if name == "stderr" or process.spec.quiet:
                    process.last.append(text + b"\n")
                if process.spec.quiet:
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
        """Wait until the run is done, a process fails or a signal arrives."""
        while any(not process.spec.server for process in self._running):
            event = self._next()
            if isinstance(event, int):
                self._interrupt(event)
            self._running.discard(event)
            if event.popen.returncode < 0 and self._restarts[event.at]:
                self._restart(event)
            elif event.popen.returncode or event.spec.server:
                return self._root_cause(event)
        return None

    def _restart(self, process: _Process) -> None:
        spec, at = process.spec, process.at
        process.send(_KILL)  # its children
        self._restarts[at] -= 1
        count = spec.restarts - self._restarts[at]
        line = f"[{spec.label}] {process.killed()}: restarted ({count} of {spec.restarts})"
        with self._writing, contextlib.suppress(OSError, ValueError):
            self._streams["stderr"].write(line.encode() + b"\n")
            self._streams["stderr"].flush()
        self._start(spec, at)

    def _root_cause(self, failed: _Process) -> Failure:
        """The root cause; see the glossary."""
        candidates = [failed]
        # When a Ray node dies, its users end without a report, before the node itself notices.
        served = any(process.spec.server for process in self._running)
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
        """Kill orphaned children, and print the remaining output."""
        for process in self._processes:
            process.send(_KILL)
        for reader in self._readers:
            reader.join(timeout=1.0)

    def _next(self, seconds: float = math.inf) -> Any:
        """The next event within some seconds; None if there is none.

        A signal that arrives just when `get` starts to wait does not wake it: it wakes up by itself
        from time to time, and Python then calls the handler.
        """
        until = time.monotonic() + seconds
        while True:
            left = max(0.0, min(until - time.monotonic(), _AWAKE))
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=left)
            if time.monotonic() >= until:
                return None


def _thread(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread
