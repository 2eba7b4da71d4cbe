"""A worker's side of the servers: every call is repeated until it is answered, or until time is up.

Glossary
    held        the pushes that some server may have to be sent again
    probe       a question to a server that has been silent, whether it is alive
    flying      a push in stale mode that was sent and whose answer no step has needed yet
    floor       the incarnation and version that a server was known to have when a call was sent

A reply is known to be lost only when the server has died, and then the call may have been carried
out or not. Repeating is safe: the server knows what it has applied (see `server`). The same push is
repeated bit by bit, from memory.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.actors import Reply
from paramesh.ps.cluster import Cluster, ray_module
from paramesh.ps.log import Fenced
from paramesh.ps.partition import Partition
from paramesh.ps.refresh import Refresh, join_news, split_watches
from paramesh.ps.server import PushesMissing

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]

#: Seconds of silence until a probe, until a probe's silence means that the server is frozen, and
#: between two tries.
PROBE, FROZEN, PAUSE = 2.0, 5.0, 0.02
#: Seconds without an answer from a server that is alive until a call counts as lost and is
#: repeated, and until a server that says it was replaced is believed: Ray needs a while to tell
#: where the successor is.
LOST, FENCED = 20.0, 10.0
#: Seconds that a worker that ends waits for a server.
GOODBYE = 10.0


class _Sent(NamedTuple):
    """To which server a call was sent, and the server's floor."""

    server: int
    floor: tuple[int, int]


class RayClient:
    """One worker's connection to the servers of a `Cluster` (see `session.Client`).

    Args:
        cluster: of the run.
        rank: of this worker.
        workers: how many there are.
        timeout: seconds until a call that is not answered is an error.
        eager: the servers are in async mode.
        staleness: of the servers, in stale mode.

    Attributes:
        start: the step that this worker goes on from: the least that a server waits for.
        waited: how many steps had to wait for an answer; in stale mode it may be there already.

    Raises:
        ParameterServerError: a server cannot start, or does not answer in time.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        rank: int = 0,
        workers: int = 1,
        timeout: float = 300.0,
        eager: bool = False,
        staleness: int = 0,
    ) -> None:
        self._ray = ray_module()
        self._cluster = cluster
        self.rank = rank
        self.workers = workers
        self.timeout = timeout
        #: In async mode an answer says that the push was applied, whatever the version.
        self.eager = eager
        self.staleness = staleness
        self.waited = 0
        #: By step: the calls, what they wait for with its server and floor, and what was wanted.
        self._flying: dict[int, tuple[Any, dict[Any, _Sent], list[str]]] = {}
        count = len(cluster.actors)
        self.partition = Partition(count)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._versions = [0] * count
        self._incarnations = [0] * count
        self._pids = [0] * count
        self._held: list[dict[int, tuple[Any, Any]]] = [{} for _ in range(count)]
        self._failed = False
        self._gone = False
        self.retries = 0
        first = self._call({0: ("hello", (rank, None))})[0]
        self.incarnation: int = first["worker"]
        hello = ("hello", (rank, self.incarnation))
        found = self._call({i: hello for i in range(count)})
        self.start: int = min(said["next"] for said in found.values())
        #: The version up to which each server has told this worker which rows moved.
        self._told = list(self._versions)
        atexit.register(self.close)

    # What a session needs.

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """As in `Client`."""
        mine = self.partition.split_spec
        pieces = [[] for _ in self._versions]
        for spec in specs:
            for server, part in enumerate(mine(spec)):
                pieces[server] += part
            if spec["kind"] == "dense":
                self._shapes[spec["name"]] = tuple(spec["shape"])
        given: list[dict[str, Array]] = [{} for _ in self._versions]
        for name, array in values.items() if self.rank == 0 else ():
            for server, part in enumerate(self.partition.split_values(name, array)):
                given[server].update(part)
        self._call({i: ("declare", (pieces[i], given[i])) for i in range(len(pieces)) if pieces[i]})

    def step(
        self,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        wanted: Iterable[str],
        refresh: Refresh | None = None,
    ) -> dict[str, Array]:
        """As in `Client`."""
        wanted = list(wanted)
        names = self._pieces(wanted)
        numbers = dict(hyper)
        asked = None if refresh is None else split_watches(self.partition, refresh.watches)
        calls: dict[int, tuple[str, tuple[Any, ...]]] = {}
        for server, mine in enumerate(self.partition.split_updates(updates)):
            self._held[server][step] = (mine, numbers)
            # What it answers with is read as many steps later as reads lag behind.
            reader = step + 1 + (self.staleness if asked is None else 0)
            calls[server] = (
                "step",
                (self.rank, self.incarnation, step, mine, numbers, names[server], reader),
            )
            if asked is not None:
                method, arguments = calls[server]
                calls[server] = method, (*arguments, asked[server], self._told[server])
        self._flying[step] = (calls, self._sent(calls), wanted)
        needed = step - self.staleness if refresh is None else step
        for old in [s for s in self._flying if s < needed]:
            del self._flying[old]
        if needed not in self._flying:  # of the first steps: nobody has sent a push for them
            return self.pull(step + 1, wanted)
        return self._landed(needed, wanted, refresh)

    def _landed(self, step: int, wanted: list[str], refresh: Refresh | None) -> dict[str, Array]:
        """What a flying push is answered with."""
        calls, sent, asked = self._flying.pop(step)
        there, _ = self._wait(list(sent), len(sent), 0)
        self.waited += len(there) < len(sent)
        replies = self._call(calls, sent)
        if refresh is not None:
            refresh.news = join_news(reply.news for reply in replies.values())
        for server, reply in replies.items():
            self._told[server] = reply.version
            held = self._held[server]
            for old in [s for s in held if s < (step + 1 if self.eager else reply.version)]:
                del held[old]
        if asked != wanted:  # others were declared meanwhile
            return self.pull(step + 1 + self.staleness, wanted)
        return self._joined(wanted, replies)

    def pull(self, step: int, wanted: Iterable[str]) -> dict[str, Array]:
        """As in `Client`."""
        wanted = list(wanted)
        names = self._pieces(wanted)
        calls = {i: ("pull", (step, mine)) for i, mine in enumerate(names) if mine}
        return self._joined(wanted, self._call(calls))

    def pull_rows(self, step: int, name: str, ids: Array) -> Array:
        """As in `Client`."""
        parts = self.partition.split_rows(ids)
        calls = {
            i: ("pull_rows", (step, name, ids[mine]))
            for i, mine in enumerate(parts)
            if len(mine) or i == 0
        }
        rows = {i: reply.values[name] for i, reply in self._call(calls).items()}
        if len(parts) == 1:
            return rows[0]
        out = np.empty((len(ids), *rows[0].shape[1:]), rows[0].dtype)
        for i, values in rows.items():
            out[parts[i]] = values
        return out

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> None:
        """As in `Client`."""
        calls: dict[int, tuple[str, tuple[Any, ...]]] = {}
        if ids is not None:
            for server, mine in enumerate(self.partition.split_rows(ids)):
                rows = {field: values[mine] for field, values in fields.items()}
                calls[server] = ("put", ({name: rows}, ids[mine]))
        else:
            pieces: list[dict[str, dict[str, Array]]] = [{} for _ in self._versions]
            for field, values in fields.items():
                for server, parts in enumerate(self.partition.split_values(name, values)):
                    for piece, part in parts.items():
                        pieces[server].setdefault(piece, {})[field] = part
            calls = {i: ("put", (mine, None)) for i, mine in enumerate(pieces) if mine}
        self._call(calls)

    def dump(self, name: str) -> dict[str, Array]:
        """As in `Client`, at the version after all of this worker's pushes."""
        self._settle()
        if name in self._shapes:
            names = self._pieces([name])
            calls = {i: ("dump", (mine,)) for i, mine in enumerate(names) if mine}
            found = {n: f for answer in self._call(calls).values() for n, f in answer.items()}
            fields = next(iter(found.values()))
            return {
                field: self.partition.join_values(
                    name, self._shapes[name], {piece: found[piece][field] for piece in found}
                )
                for field in fields
            }
        calls = {i: ("dump", ([name],)) for i in range(len(self._versions))}
        answers = self._call(calls)
        tables = [answers[i][name] for i in sorted(answers)]
        order = np.argsort(np.concatenate([table["ids"] for table in tables]))
        return {
            field: np.concatenate([table[field] for table in tables])[order] for field in tables[0]
        }

    def stats(self) -> list[dict[str, Any]]:
        """Of each server, as `Server.stats`."""
        found = self._call({i: ("stats", ()) for i in range(len(self._versions))})
        return [found[i] for i in sorted(found)]

    def close(self) -> None:
        """Say goodbye to the servers; the last worker ends those that this run started.

        In stale mode some of this worker's pushes may be staged: if a server died now, nobody could
        send them again. So it stays until they are applied, unless a call has failed before.
        """
        atexit.unregister(self.close)
        try:
            last = self._goodbye() if self.workers > 1 else not self._gone
        except ParameterServerError:
            last = False  # who cannot be asked is left alone: others may be at work with it
        finally:
            self._failed = True
        self._cluster.close(servers=last)

    def _goodbye(self) -> bool:
        if self._gone or not self._ray.is_initialized():
            return False
        if self._failed:
            self.timeout = min(self.timeout, GOODBYE)
        else:
            self._settle()
        return self._call({0: ("leave", (self.rank, self.incarnation))})[0] == 0

    def _settle(self) -> None:
        """Wait until all of this worker's pushes are applied; in stale mode replies come before."""
        calls = {
            server: ("settle", (self.rank, 1 + max(held)))
            for server, held in enumerate(self._held)
            if held and not self.eager
        }
        for server, reply in self._call(calls).items():
            held = self._held[server]
            for old in [s for s in held if s < reply.version]:
                del held[old]

    def _pieces(self, wanted: Iterable[str]) -> list[list[str]]:
        names: list[list[str]] = [[] for _ in self._versions]
        for name in wanted:
            for server, part in self.partition.ranges(name, math.prod(self._shapes[name])):
                names[server].append(part.name(name))
        return names

    def _joined(self, wanted: Iterable[str], replies: dict[int, Reply]) -> dict[str, Array]:
        pieces = {name: a for reply in replies.values() for name, a in reply.values.items()}
        return {n: self.partition.join_values(n, self._shapes[n], pieces) for n in wanted}

    # Calls.

    def _submit(self, server: int, call: tuple[str, tuple[Any, ...]]) -> Any:
        method, arguments = call
        try:
            return getattr(self._cluster.actors[server], method).remote(*arguments)
        except (OSError, self._ray.exceptions.RayError) as error:
            raise self._cluster_gone(error) from error

    def _wait(self, refs: list[Any], count: int, seconds: float) -> tuple[list[Any], list[Any]]:
        try:
            return self._ray.wait(refs, num_returns=count, timeout=max(0.0, seconds))
        except (OSError, self._ray.exceptions.RayError) as error:
            raise self._cluster_gone(error) from error

    def _cluster_gone(self, error: Exception) -> ParameterServerError:
        self._gone = True
        return ParameterServerError(
            f"worker {self.rank}: the Ray cluster is gone ({error}): its head, or the node on this "
            "host, has ended. Start it and the run again with the same wal_dir: it goes on from "
            "the last step that the servers have."
        )

    def _sent(self, calls: Mapping[int, tuple[str, tuple[Any, ...]]]) -> dict[Any, _Sent]:
        return {self._submit(i, call): _Sent(i, self._floor(i)) for i, call in calls.items()}

    def _floor(self, server: int) -> tuple[int, int]:
        return self._incarnations[server], self._versions[server]

    def _call(
        self,
        calls: Mapping[int, tuple[str, tuple[Any, ...]]],
        sent: dict[Any, _Sent] | None = None,
    ) -> dict[int, Any]:
        """One call for each server, or what was sent already; the answers of all."""
        try:
            return self._answers(calls, self._sent(calls) if sent is None else sent)
        except BaseException:
            self._failed = True
            raise

    def _answers(
        self, calls: Mapping[int, tuple[str, tuple[Any, ...]]], first: Mapping[Any, _Sent]
    ) -> dict[int, Any]:
        ray = self._ray
        began = time.monotonic()
        deadline = began + self.timeout
        waiting = {ref: server for ref, (server, _) in first.items()}
        floors = {server: floor for server, floor in first.values()}
        sent = dict.fromkeys(calls, began)
        fenced: dict[int, float] = {}
        again: list[int] = []
        # What a server that came back says of itself, against the version it had before.
        hellos: dict[Any, tuple[int, tuple[int, int]]] = {}
        answers: dict[int, Any] = {}
        trouble = "no answer"
        while waiting or again:
            if time.monotonic() > deadline:
                missing = sorted([*waiting.values(), *again])
                what = {calls[server][0] for server in missing}
                raise ParameterServerError(
                    f"worker {self.rank}: server {missing} did not answer {sorted(what)} within "
                    f"{self.timeout:g} s ({trouble}). Either a server cannot come back, or "
                    f"another of the {self.workers} workers has stopped."
                )
            for server in again:
                waiting[self._submit(server, calls[server])] = server
                floors[server] = self._floor(server)
                sent[server] = time.monotonic()
            again = []
            left = deadline - time.monotonic()
            ready, _ = self._wait([*waiting, *hellos], 1, min(PROBE, left))
            if not ready:
                again += self._probe(waiting, sent, deadline)
            for ref in ready:
                if ref in hellos:
                    self._check_return(ref, *hellos.pop(ref))
                    continue
                server = waiting.pop(ref)
                try:
                    answer = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    now = time.monotonic()
                    if isinstance(error.cause, Fenced):
                        if now - fenced.setdefault(server, now) > FENCED:
                            raise error.cause from None
                    elif not isinstance(error.cause, PushesMissing):
                        raise error.cause from None
                    trouble = str(error.cause)
                    again.append(server)
                except ray.exceptions.RayError as error:
                    self._check_restart(error, server)
                    trouble = f"{type(error).__name__}: the server was dying or starting"
                    again.append(server)
                else:
                    self._check_answer(server, answer, floors[server])
                    answers[server] = answer
            if again:
                self.retries += len(again)
                time.sleep(PAUSE)
                for server in again:
                    if self._incarnations[server]:
                        hello = self._submit(server, ("hello", (self.rank, self.incarnation)))
                        hellos[hello] = (server, self._floor(server))
                self._resend(again, calls)
        return answers

    def _resend(self, servers: list[int], calls: Mapping[int, Any]) -> None:
        """Send the pushes before the present one to servers that may have lost them."""
        for server in servers:
            method, arguments = calls[server]
            held = self._held[server]
            for step in sorted(s for s in held if method != "step" or s < arguments[2]):
                # In order, before the call itself; an answer is not waited for.
                mine, numbers = held[step]
                self._submit(server, ("push", (self.rank, self.incarnation, step, mine, numbers)))

    def _probe(self, waiting: dict[Any, int], sent: dict[int, float], deadline: float) -> list[int]:
        """Ask the silent servers whether they are alive: those to be called again.

        Those that were frozen are killed; of those that are well, a message may have been lost.
        """
        asked = {self._submit(server, ("ping", ())): server for server in set(waiting.values())}
        left = min(FROZEN, deadline - time.monotonic())
        ready, silent = self._wait(list(asked), len(asked), left)
        again: list[int] = []
        for ref in ready:
            if time.monotonic() - sent[asked[ref]] > LOST:
                again.append(asked[ref])
        for ref in silent if left == FROZEN else ():
            if self._kill(asked[ref]):  # or it is starting, or on another host: Ray looks after it
                again.append(asked[ref])
        for old in [ref for ref, server in waiting.items() if server in again]:
            del waiting[old]
        return again

    def _kill(self, server: int) -> bool:
        """Kill the process that answered last, if it is there: a frozen one does not hear Ray."""
        pid = self._pids[server]
        if not pid or not self._is_server(pid):
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _is_server(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return b"ServerActor" in file.read()
        except OSError:
            return False

    def _check_restart(self, error: Exception, server: int) -> None:
        text = str(error)
        if "creation task" in text or "ActorDiedError" in type(error).__name__:
            reason = text.strip().splitlines()[-1] if text.strip() else type(error).__name__
            raise ParameterServerError(
                f"server {server} cannot start, or was ended: {reason}"
            ) from error

    def _check_return(self, ref: Any, server: int, floor: tuple[int, int]) -> None:
        try:
            said = self._ray.get(ref)
        except self._ray.exceptions.RayError:
            return  # it died again; the call that was repeated tells
        if said["version"] < floor[1]:
            self._check_answer(server, said, floor)

    def _check_answer(self, server: int, answer: Any, floor: tuple[int, int]) -> None:
        if isinstance(answer, Reply):
            pid, incarnation, version = answer.pid, answer.incarnation, answer.version
        elif isinstance(answer, dict) and "incarnation" in answer:
            pid, incarnation, version = (answer[k] for k in ("pid", "incarnation", "version"))
        else:
            return
        if incarnation < floor[0] or version < floor[1]:
            raise ParameterServerError(
                f"server {server} was at version {floor[1]} (incarnation {floor[0]}) and answers "
                f"from version {version} (incarnation {incarnation}): its log was lost or "
                "replaced. Restore it, or start a new run."
            )
        # An answer that was waited for late says less than what is known.
        if (incarnation, version) >= self._floor(server):
            self._pids[server] = pid
            self._incarnations[server] = incarnation
            self._versions[server] = version


def connect(settings: Mapping[str, Any]) -> RayClient:
    """A worker's client, with the servers that the settings of `set_ps_context` ask for.

    `PARAMESH_PS_RANK` and `PARAMESH_PS_JOB` in the environment tell several workers which they are,
    and which run is theirs on a cluster that others use too.

    Raises:
        ParameterServerError: several workers without a cluster to meet on; `standby`, which is not
            there yet; as `Cluster` and `RayClient`.
    """
    workers = settings["worker_num"]
    if settings["standby"]:
        raise ParameterServerError(
            "set_ps_context: standby=1 is not there yet. A killed server is restarted from its "
            "log: use standby=0."
        )
    if workers > 1 and settings["address"] is None:
        raise ParameterServerError(
            f"set_ps_context: worker_num={workers} workers meet on a Ray cluster: give its address."
        )
    stale = settings["mode"] == "stale"
    rules = {
        "workers": workers,
        "mode": settings["mode"],
        "staleness": settings["staleness"] if stale else 0,
        "snapshot_every": settings["snapshot_every"],
    }
    cluster = Cluster(
        settings["server_num"] or 1,
        rules,
        address=settings["address"],
        folder=settings["wal_dir"],
        job=os.environ.get("PARAMESH_PS_JOB", "default"),
    )
    try:
        return RayClient(
            cluster,
            rank=settings.get("rank", int(os.environ.get("PARAMESH_PS_RANK", "0"))),
            workers=workers,
            timeout=settings["timeout"],
            eager=settings["mode"] == "async",
            staleness=rules["staleness"],
        )
    except BaseException:
        cluster.close(servers=workers == 1)
        raise
