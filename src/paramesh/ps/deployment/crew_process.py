"""Speaks to a Ray cluster for a launcher: in a process of its own, which Ray may end.

Ray ends a process that is connected to a cluster together with it. So the launcher is not, and
this process is, as `status_process`. Its agents and what they run end with it; it ends with the
launcher, and then ends the servers of the run, if that has begun.

    python -P -m paramesh.ps.deployment.crew_process HOST:PORT JOB

It reads and writes lines of JSON. The first one that it writes says which hosts there are:
{"event": "hosts", "address": of the head, "here": [the node of this host, its address], "hosts":
[...]}, or why it ends: {"event": "error", "text": ...}. Then, for each line that it reads:

    {"do": "see", "host": 1, ...}       {"event": "seen", "host": 1, "facts": ..., "saw": ...}, or
                                        {"event": "unseen", "host": 1, "text": ...}
    {"do": "start", "host": 1, "life": 0, "key": 7, "words": [...], "variables": {...}, "cwd": ...}
    {"do": "signal", "key": 7, "number": 15}
    {"do": "begin"}                     from here on servers of the job are those of this run
    {"do": "end"}                       {"event": "gone"}, and it ends

and at any time what an agent reports, with {"event": "line"}, {"event": "ended"} and
{"event": "failed"}; what a process says of its training, with {"event": "journal"}; or that the
agent is no more: {"event": "lost", "host": 1, "alive": whether its host still is}, after which
nothing of what it ran exists. `life` is how often that was said of the host before: what was meant
for an agent that has died since is not for the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, TextIO, TypeAlias

from paramesh._compat import ray as ray_inside
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.cluster_hosts import hosts_of
from paramesh.ps.deployment.host_agent import HostAgent
from paramesh.ps.deployment.journals import EVERY
from paramesh.ps.deployment.spread import ClusterHost
from paramesh.ps.deployment.status import connect, end_servers

#: Seconds until an agent that was asked is asked again, between two tries, and for an agent to
#: start and answer.
_ANSWER, _PAUSE, _START = 20.0, 0.5, 90.0
#: Calls that an agent has at a time: some of them wait.
_CALLS = 8

Commands: TypeAlias = "queue.SimpleQueue[tuple[Any, ...]]"


class RemoteMethod(Protocol):
    """A method of an actor, as Ray has it."""

    def remote(self, *args: object) -> object:
        """A reference to what a call gives."""
        ...


class AgentHandle(Protocol):
    """Ray's handle of a `HostAgent`: what is called here."""

    facts: RemoteMethod
    see: RemoteMethod
    tell: RemoteMethod
    follow: RemoteMethod
    journals: RemoteMethod


class Post:
    """One host: its agent, what it is told, and what it reports.

    Args:
        ray: connected to the cluster.
        at: the number of the host.
        host: which it is.
        out: gets the events.
    """

    def __init__(self, ray: ModuleType, at: int, host: ClusterHost, out: Events) -> None:
        self._ray, self._at, self._host, self._out = ray, at, host, out
        self._commands: Commands = queue.SimpleQueue()
        self._agent: AgentHandle | None = None
        self._life = 0
        self._changing = threading.Lock()

    def begin(self) -> None:
        """Start the agent there."""
        ray = self._ray
        options = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": _CALLS}
        strategy = ray_inside.only_at(self._host.node)
        made = ray.remote(HostAgent).options(**options, scheduling_strategy=strategy)
        self._agent = agent = made.remote()
        self._commands, gone = queue.SimpleQueue(), threading.Event()
        threading.Thread(target=self._follow, args=(agent, gone), daemon=True).start()
        threading.Thread(target=self._tell, args=(agent, gone, self._commands), daemon=True).start()

    def see(self, asked: Mapping[str, Any]) -> None:
        """Ask whether the host has what a run needs; the answer is an event."""
        agent = self._agent
        assert agent is not None, "begin() comes first"

        def ask() -> None:
            try:
                facts = self._ray.get(agent.facts.remote(), timeout=_START)
                arguments = [asked[name] for name in ("folder", "token", "program", "cwd")]
                saw = self._ray.get(agent.see.remote(*arguments), timeout=_START)
            except self._ray.exceptions.GetTimeoutError:
                text = f"no process could be started there within {_START:g} s"
                self._out.put("unseen", host=self._at, text=text)
            except self._ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                self._out.put("unseen", host=self._at, text=lines[-1].strip())
            else:
                self._out.put("seen", host=self._at, facts=facts, saw=saw)

        threading.Thread(target=ask, daemon=True).start()

    def start(self, life: int, key: int, what: Mapping[str, Any]) -> None:
        """Have the agent start a process, unless it has died since that was wanted."""
        with self._changing:
            if life == self._life:
                self._commands.put(("start", key, what))

    def signal(self, key: int, number: int) -> None:
        """Have the agent send a process a signal."""
        with self._changing:
            self._commands.put(("signal", key, number))

    def _tell(self, agent: AgentHandle, gone: threading.Event, commands: Commands) -> None:
        number = 0
        while not gone.is_set():
            try:
                command = commands.get(timeout=_PAUSE)
            except queue.Empty:
                continue
            number += 1
            while not gone.is_set():
                try:
                    if self._ray.get(agent.tell.remote(number, command), timeout=_ANSWER) >= number:
                        break
                except self._ray.exceptions.RayError:  # `_follow` tells whether it is dead
                    time.sleep(_PAUSE)

    def _follow(self, agent: AgentHandle, gone: threading.Event) -> None:
        exceptions = self._ray.exceptions
        seen, answered = 0, False
        while True:
            try:
                reports = self._ray.get(agent.follow.remote(seen), timeout=_ANSWER)
                answered = True
            except (exceptions.ActorUnavailableError, exceptions.GetTimeoutError):
                time.sleep(_PAUSE)  # the answer was lost, or is late: it is asked again
                continue
            except exceptions.RayError:  # of several kinds: it was killed for want of memory, too
                gone.set()
                with self._changing:
                    self._life += 1
                    # One that could not even start would not the next time.
                    alive = answered and self._begun_again()
                    self._out.put("lost", host=self._at, alive=alive)
                return
            for number, report in reports:
                if number > seen:
                    seen = number
                    self._out.report(report)

    def _watch(self, agent: AgentHandle, gone: threading.Event) -> None:
        last: dict[int, bytes] = {}
        while not gone.wait(EVERY):
            with contextlib.suppress(self._ray.exceptions.RayError):  # the next time
                found = self._ray.get(agent.journals.remote(), timeout=_ANSWER)
                for key, content in found.items():
                    if content != last.get(key):
                        self._out.put("journal", key=key, text=content.decode())
                last = found

    def _begun_again(self) -> bool:
        alive = any(
            node["NodeID"] == self._host.node and node["Alive"] for node in self._ray.nodes()
        )
        if alive:
            self.begin()
        return alive

    def end(self) -> None:
        """End the agent, and with it what it runs."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._agent)


class Events:
    """Writes events, from several threads.

    Args:
        out: gets a line for each.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._writing = threading.Lock()

    def put(self, event: str, **facts: object) -> None:
        """Write one."""
        line = json.dumps({"event": event, **facts})
        # A launcher that is gone is noticed by its end of the other pipe.
        with self._writing, contextlib.suppress(OSError, ValueError):
            print(line, file=self._out, flush=True)

    def report(self, report: tuple[Any, ...]) -> None:
        """Write what an agent reports."""
        match report:
            case ("line", key, stream, text):
                shown = text.decode(errors="surrogateescape")
                self.put("line", key=key, stream=stream, text=shown)
            case ("ended", key, code, said):
                self.put("ended", key=key, code=code, report=said)
            case ("failed", key, why):
                self.put("failed", key=key, text=why)
            case _:
                raise AssertionError(report)


def hosts_event(ray: ModuleType) -> dict[str, Any]:
    """The first event; see the module."""
    context, nodes = ray.get_runtime_context(), ray.nodes()
    mine = context.get_node_id()
    address = next(node["NodeManagerAddress"] for node in nodes if node["NodeID"] == mine)
    return {
        "address": context.gcs_address,
        "here": [mine, address],
        "hosts": [host._asdict() for host in hosts_of(nodes)],
    }


def main(words: Sequence[str], source: TextIO, out: TextIO) -> None:
    """See the module.

    Args:
        words: the address, and the job.
        source: what to do, line by line; at its end the run ends too.
        out: gets the events.
    """
    address, job = words
    events = Events(out)
    posts: dict[int, Post] = {}
    places: dict[int, int] = {}
    try:
        ray = connect(address, None)
        said = hosts_event(ray)
    except ParameterServerError as error:
        events.put("error", text=str(error))
        return
    events.put("hosts", **said)
    hosts = [ClusterHost(**host) for host in said["hosts"]]

    def post(at: int) -> Post:
        if at not in posts:
            posts[at] = Post(ray, at, hosts[at], events)
            posts[at].begin()
        return posts[at]

    begun = False
    for line in source:
        order = json.loads(line)
        match order["do"]:
            case "see":
                post(order["host"]).see(order)
            case "start":
                places[order["key"]] = order["host"]
                what = {name: order[name] for name in ("words", "variables", "cwd")}
                post(order["host"]).start(order["life"], order["key"], what)
            case "signal":
                if order["key"] in places:
                    post(places[order["key"]]).signal(order["key"], order["number"])
            case "begin":
                begun = True
            case _:
                break
    for one in posts.values():
        one.end()
    if begun:
        with contextlib.suppress(ParameterServerError, ray.exceptions.RayError, OSError):
            end_servers(address, job)
    events.put("gone")


if __name__ == "__main__":
    # What Ray writes is not for the launcher.
    mine = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(sys.argv[1:], sys.stdin, mine)
    os._exit(0)  # Ray would take its time, and speak
