"""What runs the processes of a launch on another host: an actor there, which the launcher owns.

It does as it is told (`tell`), and reports lines and ends of what it has started (`follow`). Both
may be called again when an answer was lost on the network: commands have numbers, and what is
reported is kept until it has arrived. It ends with the launcher, whatever happens to that, and what
it has started ends with it.

Glossary
    command     ("start", key, what) or ("signal", key, number)
    key         of a process: any number that the launcher gives it, never twice
    report      ("line", key, stream, text), ("ended", key, code, report), or
                ("failed", key, why): it could not be started
"""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramesh._compat import ray as ray_inside
from paramesh.ps.deployment.journals import journals_of
from paramesh.ps.deployment.package_versions import versions
from paramesh.ps.deployment.shared_folder import Answer, answered
from paramesh.ps.processes.child import KILL, Child, End
from paramesh.ps.processes.janitor import Janitor
from paramesh.ps.processes.mailbox import Mailbox

#: Seconds that a question for reports waits for one.
PATIENCE = 5.0


class HostAgent:
    """Runs processes on its host."""

    def __init__(self) -> None:
        self._reports: Mailbox[tuple[Any, ...]] = Mailbox()
        self._children: dict[int, Child] = {}
        self._over: set[int] = set()
        self._done = 0
        self._telling = threading.Lock()
        self._commands: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._folder = Path(tempfile.mkdtemp(prefix="paramesh-"))
        # An actor is killed, its children with it, and has no time to clean up.
        self._janitor = Janitor(self._folder, detached=True)
        # The kernel ends a program with the thread that has started it, so it is always this one.
        threading.Thread(target=self._obey, name="starter", daemon=True).start()

    def facts(self) -> dict[str, Any]:
        """Who this is: `host`, `pid` and `versions`."""
        return {"host": socket.gethostname(), "pid": os.getpid(), "versions": versions()}

    def see(self, folder: str, token: str, program: str | None, cwd: str) -> dict[str, Any]:
        """Whether this host has what a run needs.

        Args:
            folder: that all hosts have to share.
            token: of the question that is in it (see `shared_folder`).
            program: the path of the script; None: it is a module.
            cwd: the folder in which it runs.

        Returns:
            `folder`: an `Answer`; `program`: the digest of the script, or why there is none;
            `cwd`: whether that folder is there.
        """
        found: Answer = answered(Path(folder), token, socket.gethostname())
        script = None if program is None else digest(Path(program))
        return {"folder": found, "program": script, "cwd": os.path.isdir(cwd)}

    def tell(self, number: int, command: tuple[Any, ...]) -> int:
        """Carry out a command; one that was told before is not carried out again.

        Args:
            number: of the command, one more than that of the last one.
            command: see the glossary.

        Returns:
            The number of the last one.
        """
        with self._telling:
            if number > self._done:
                self._done = number
                self._commands.put(command)
            return self._done

    def follow(self, seen: int) -> list[tuple[int, tuple[Any, ...]]]:
        """As `Mailbox.take`, of reports."""
        return self._reports.take(seen, PATIENCE)

    def journals(self) -> dict[int, bytes]:
        """What the processes that run here say of their training, by key."""
        pids = {child.pid: key for key, child in list(self._children.items())}
        return {pids[pid]: content for pid, content in journals_of(pids).items()}

    def _obey(self) -> None:
        # Ray blocks Ctrl-C in the threads of an actor, and what a thread starts inherits that.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while True:
            kind, key, what = self._commands.get()
            if kind == "start":
                try:
                    child = self._started(key, what)
                    with self._telling:
                        if key not in self._over:
                            self._children[key] = child
                except OSError as error:
                    self._reports.put(("failed", key, f"{error.filename}: {error.strerror}"))
            elif (running := self._children.get(key)) is not None:
                running.send(what)

    def _started(self, key: int, what: Mapping[str, Any]) -> Child:
        return Child(
            [sys.executable, *what["words"]],
            ray_inside.environment_of_node() | what["variables"],
            self._folder / f"{key}.json",
            lambda stream, text: self._reports.put(("line", key, stream, text), len(text) + 64),
            lambda child, end: self._ended(key, child, end),
            what["cwd"],
        )

    def _ended(self, key: int, child: Child, end: End) -> None:
        child.send(KILL)  # what it has left behind
        child.read_out(1.0)
        with self._telling:
            self._over.add(key)
            self._children.pop(key, None)
        self._reports.put(("ended", key, end.code, dict(end.report)))


def digest(path: Path) -> str:
    """Of the content of a file; the reason in brackets if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"[{error.strerror}]"
