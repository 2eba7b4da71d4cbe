"""The hosts of a Ray cluster at work for a launcher: what it starts there, hears from there, ends.

Glossary
    crew        the agents on the hosts, spoken to through a process beside the launcher (see
                `crew_process`)
    host        known by its number: its place in the order of `spread`
    lost        a host whose Ray node has died or was unreachable for so long that Ray gave it up;
                what ran there is gone, or ends as soon as it notices

How long that takes is Ray's to decide: at once if the node's process has died, about half a minute
or more if the network says nothing (`RAY_health_check_…` of the head).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.host_agent import digest
from paramesh.ps.deployment.journals import JournalCopies
from paramesh.ps.deployment.package_versions import versions
from paramesh.ps.deployment.shared_folder import Answer, Question, asked, trouble_with
from paramesh.ps.deployment.spread import ClusterHost
from paramesh.ps.processes.child import End, Line

#: Seconds until a cluster has said which hosts it has, until a host has said what it sees, and for
#: the servers of the run to end.
_HOSTS, _SEEN, _PARTING = 120.0, 240.0, 30.0

Ended = Callable[[End], None]


class RemoteChild:
    """A process on another host; as `processes.child.Child`.

    Args:
        crew: that has started it.
        key: by which the agent knows it.
        line: told of every line.
        ended: told once that it has ended; all lines that arrive have come before.
    """

    def __init__(self, crew: Crew, key: int, line: Line, ended: Ended) -> None:
        self._crew, self.key = crew, key
        self.line, self._told = line, ended
        self._over = threading.Event()

    @property
    def runs(self) -> bool:
        """Whether its end is not known."""
        return not self._over.is_set()

    def send(self, number: int) -> None:
        """Send a signal to the process and its children."""
        if not self._over.is_set():
            self._crew.order({"do": "signal", "key": self.key, "number": int(number)})

    def read_out(self, seconds: float) -> None:
        """Wait so long for its end."""
        self._over.wait(seconds)

    def ended(self, end: End) -> None:
        """It has."""
        if not self._over.is_set():
            self._over.set()
            self._told(end)


class CrewWatch:
    """The crew itself, as a process that serves the others."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended
        self._over = False

    def send(self, number: int) -> None:
        """The run is at its end; the crew itself stays until it is closed."""
        self.ended(End(0))

    def read_out(self, seconds: float) -> None:
        """It has nothing to say."""

    def ended(self, end: End) -> None:
        """It has."""
        if not self._over:
            self._over = True
            self._ended(end)


class Crew:
    """The hosts of a Ray cluster, at work for this process until `close`.

    Args:
        address: HOST:PORT of the cluster.
        job: the name of the run; its servers are ended with the crew, once it has begun.

    Attributes:
        hosts: in the order of `spread`.
        here: the number of the host that this process is on.
        address: of the head, as other hosts reach it.

    Raises:
        ParameterServerError: no cluster there, another token, an address that is not safe, or no
            node of the cluster on this host.
    """

    def __init__(self, address: str, job: str) -> None:
        self._keys = itertools.count(1)
        self._children: dict[int, tuple[int, RemoteChild]] = {}
        self._lock = threading.Lock()
        self._lost_hosts: set[int] = set()
        self._losses: Counter[int] = Counter()
        self._journals = JournalCopies()
        self._watch: CrewWatch | None = None
        self._failure: End | None = None
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 (closed at the end)
        #: Told of a host that is lost, before the ends of what ran there.
        self.on_loss: Callable[[int], None] = lambda host: None
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "paramesh.ps.deployment.crew_process", address, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            text=True,
            start_new_session=True,  # Ctrl-C is for the launcher
        )
        self._dispatcher = threading.Thread(target=self._dispatch, daemon=True)
        self._dispatcher.start()
        try:
            said = self._answer(_HOSTS)
            if said["event"] != "hosts":
                raise ParameterServerError(said["text"])
            self.address: str = said["address"]
            self.hosts = [ClusterHost(**host) for host in said["hosts"]]
            node, address = said["here"]
            by_node = [at for at, host in enumerate(self.hosts) if host.node == node]
            by_address = [at for at, host in enumerate(self.hosts) if host.address == address]
            self.here = (by_node or by_address)[0]
        except BaseException:
            self.close()
            raise

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            return {"event": "error", "text": f"the cluster has not answered for {seconds:g} s."}

    # What comes.

    def _dispatch(self) -> None:
        assert self._process.stdout is not None
        gone = False
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                said = json.loads(line)
                gone = gone or said["event"] == "gone"
                self._take(said)
        self._answers.put({"event": "error", "text": self._why_ended()})
        if not gone:
            self._fail(End(1, {"time": 0.0, "text": self._why_ended()}))

    def _take(self, said: Mapping[str, Any]) -> None:
        match said["event"]:
            case "line":
                text = said["text"].encode(errors="surrogateescape")
                self._child(said["key"]).line(said["stream"], text)
            case "journal":
                if self._child(said["key"]).runs:
                    self._journals.put(said["key"], said["text"].encode())
            case "ended":
                self._journals.drop(said["key"])
                self._child(said["key"]).ended(End(said["code"], said["report"]))
            case "failed":
                report = {"time": 0.0, "text": f"it could not be started: {said['text']}"}
                self._child(said["key"]).ended(End(1, report))
            case "lost":
                self._lose(said["host"], alive=said["alive"])
            case "gone":
                pass
            case _:
                self._answers.put(dict(said))

    def _child(self, key: int) -> RemoteChild:
        with self._lock:
            return self._children[key][1]

    def _lose(self, at: int, *, alive: bool) -> None:
        host = self.hosts[at]
        lost = f"was lost with its host {host}, which Ray does not reach any more"
        if alive:
            lost = f"was lost with the process that had started it on {host}"
        with self._lock:
            self._losses[at] += 1
            if not alive:
                self._lost_hosts.add(at)
            mine = {k: child for k, (place, child) in self._children.items() if place == at}
        if not alive:
            self.on_loss(at)
        for key, child in mine.items():
            self._journals.drop(key)
            child.ended(End(-signal.SIGKILL, {}, lost))

    def _why_ended(self) -> str:
        self._noise.seek(0)
        said = self._noise.read().decode(errors="replace").strip().splitlines()
        return said[-1] if said else ""

    def _fail(self, end: End) -> None:
        with self._lock:
            self._failure = self._failure or end
            watch, children = self._watch, list(self._children.values())
        if watch is not None:
            watch.ended(end)
        for _, child in children:  # after the reason: they are not started again
            child.ended(End(1, {}, "was lost with the cluster"))

    # What is asked of it.

    def order(self, what: Mapping[str, Any]) -> None:
        """Tell the process beside this one what to do."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()

    def begin(self) -> None:
        """From here on servers of the job are those of this run, and end with the crew."""
        self.order({"do": "begin"})

    def watch(self, ended: Ended) -> CrewWatch:
        """The crew as a process: `ended` is told when the cluster, or the node here, is gone."""
        with self._lock:
            self._watch = watch = CrewWatch(ended)
            failure = self._failure
        if failure is not None:
            watch.ended(failure)
        return watch

    def start(
        self,
        host: int,
        words: Sequence[str],
        variables: Mapping[str, str],
        line: Line,
        ended: Ended,
    ) -> RemoteChild:
        """Start a program of Python on another host, in the folder that this process is in.

        Args:
            host: its number.
            words: what comes after the interpreter.
            variables: added to the environment that `ray start` had there.
            line: told of every line that it writes.
            ended: told once that it has ended, or could not be started, or was lost.
        """
        key = next(self._keys)
        child = RemoteChild(self, key, line, ended)
        with self._lock:
            self._children[key] = host, child
            lost, life, failure = host in self._lost_hosts, self._losses[host], self._failure
        if failure is not None:
            self._fail(failure)
        elif lost:
            self._lose(host, alive=False)
        else:
            self._order_start(child, host, life, words, variables)
        return child

    def _order_start(
        self,
        child: RemoteChild,
        host: int,
        life: int,
        words: Sequence[str],
        variables: Mapping[str, str],
    ) -> None:
        order = {"do": "start", "key": child.key, "host": host, "life": life, "cwd": os.getcwd()}
        self.order({**order, "words": list(words), "variables": dict(variables)})

    def check(self, hosts: Sequence[int], folder: Path, program: str | None) -> None:
        """Make sure that other hosts have what a run needs.

        Args:
            hosts: their numbers.
            folder: that has to be the same one on all of them.
            program: the path of the script, which has to be the same; None: it is a module.

        Raises:
            ParameterServerError: one has not; the message names it, and says what is wrong.
            OSError: the folder cannot be written to here.
        """
        if not hosts:
            return
        mine = versions()
        script = None if program is None else digest(Path(program))
        with asked(folder) as question:
            order = {"do": "see", "folder": str(folder), "token": question.token}
            for host in hosts:
                self.order({**order, "host": host, "program": program, "cwd": os.getcwd()})
            for _ in hosts:
                said = self._answer(_SEEN)
                if said["event"] == "error":
                    raise ParameterServerError(said["text"])
                host = self.hosts[said["host"]]
                trouble = said.get("text") or _trouble(said, question, mine, program, script)
                if trouble is not None:
                    raise ParameterServerError(f"host {host}: {trouble}")

    def close(self) -> None:
        """End what still runs on other hosts, and the servers of the run."""
        self.order({"do": "end"})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_PARTING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._dispatcher.join(5.0)
        self._journals.close()
        self._process.stdout.close()
        self._noise.close()


def _trouble(
    said: Mapping[str, Any],
    question: Question,
    mine: Mapping[str, str],
    program: str | None,
    script: str | None,
) -> str | None:
    """What a host lacks, in words; None: nothing."""
    theirs = said["facts"]["versions"]
    other = [name for name in mine if theirs.get(name) != mine[name]]
    if other:
        there = ", ".join(f"{name} {theirs.get(name, 'none')}" for name in other)
        here = ", ".join(f"{name} {mine[name]}" for name in other)
        return f"it has {there}, and this host {here}. Install the same versions on all hosts."
    saw = said["saw"]
    wrong = trouble_with(question, Answer(*saw["folder"]))
    if wrong is not None:
        return (
            f"wal_dir='{question.folder}' {wrong}. All hosts need the same shared folder at this "
            "path: mount it there, or give another --wal-dir."
        )
    if not saw["cwd"]:
        return f"the folder '{os.getcwd()}', in which the program runs, does not exist there."
    if saw["program"] != script:
        found = saw["program"].strip("[]") if saw["program"].startswith("[") else "another content"
        return f"'{program}' is not the same script there ({found}). Copy it to all hosts."
    return None
