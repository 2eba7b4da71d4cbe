"""A worker's side of the servers: what is cut for which server, and what may have to be sent again.

Glossary
    held        the pushes that some server may have to be sent again
    flying      a push in stale mode that was sent, and whose answer no step has needed yet

The same push is repeated bit by bit, from memory.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps import environment
from paramesh.ps.actors import Reply
from paramesh.ps.cluster import Cluster, check_address, ray_module
from paramesh.ps.delivery import Call, Delivery, Sent
from paramesh.ps.identity import Identity
from paramesh.ps.node import wait_for_cluster
from paramesh.ps.partition import Partition
from paramesh.ps.refresh import Refresh, join_news, split_watches
from paramesh.ps.run_folder import RunFolder
from paramesh.ps.specs import check_same, known_among
from paramesh.ps.watching import WorkerWatch

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]

#: Seconds that a worker that ends waits for a server.
GOODBYE = 10.0


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

    _delivery: type[Delivery] = Delivery

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
        self._cluster = cluster
        self.rank = rank
        self.workers = workers
        #: In async mode an answer says that the push was applied, whatever the version.
        self.eager = eager
        self.staleness = staleness
        self.waited = 0
        #: By step: the calls, how they were sent, and what was wanted.
        self._flying: dict[int, tuple[dict[int, Call], dict[Any, Sent], list[str]]] = {}
        self._servers = count = len(cluster.actors)
        self.partition = Partition(count)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._held: list[dict[int, tuple[Any, Any]]] = [{} for _ in range(count)]
        self._failed = False
        self.rows_pulled = 0
        self._watcher = WorkerWatch(cluster.folder, rank, cluster.job)
        #: How calls get to the servers.
        self.delivery = self._delivery(
            ray_module(),
            cluster.pairs(),
            rank=rank,
            workers=workers,
            timeout=timeout,
            note=self._watcher.events.note,
        )
        first = self._call({0: ("hello", (rank, None))})[0]
        self.incarnation: int = first["worker"]
        self.delivery.incarnation = self.incarnation
        hello = ("hello", (rank, self.incarnation))
        found = self._call({i: hello for i in range(count)})
        self.start: int = min(said["next"] for said in found.values())
        #: The version up to which each server has told this worker which rows moved.
        self._told = [peer.version for peer in self.delivery.peers]
        atexit.register(self.close)

    @property
    def retries(self) -> int:
        """How many calls were sent again."""
        return self.delivery.retries

    # What a session needs.

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """As in `Client`."""
        there = self._call({i: ("known", ()) for i in range(self._servers)})
        check_same(self.partition, specs, [there[i] for i in sorted(there)])
        mine = self.partition.split_spec
        pieces = [[] for _ in range(self._servers)]
        for spec in specs:
            for server, part in enumerate(mine(spec)):
                pieces[server] += part
            if spec["kind"] == "dense":
                self._shapes[spec["name"]] = tuple(spec["shape"])
        given: list[dict[str, Array]] = [{} for _ in range(self._servers)]
        for name, array in values.items() if self.rank == 0 else ():
            for server, part in enumerate(self.partition.split_values(name, array)):
                given[server].update(part)
        self._call({i: ("declare", (pieces[i], given[i])) for i in range(len(pieces)) if pieces[i]})

    def known(self, specs: list[dict[str, Any]]) -> list[str]:
        """As in `Client`."""
        there = self._call({i: ("known", ()) for i in range(self._servers)})
        names = known_among(self.partition, specs, [there[i] for i in sorted(there)])
        for spec in specs:
            if spec["kind"] == "dense" and spec["name"] in names:
                self._shapes[spec["name"]] = tuple(spec["shape"])
        return names

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
            watches = None if asked is None else asked[server]
            told = self._told[server]
            push = (self.rank, self.incarnation, step, mine, numbers)
            calls[server] = ("step", (*push, names[server], reader, watches, told))
        self._flying[step] = (calls, self.delivery.send(calls), wanted)
        needed = step - self.staleness if refresh is None else step
        for old in [s for s in self._flying if s < needed]:
            del self._flying[old]
        if needed not in self._flying:  # of the first steps: nobody has sent a push for them
            return self.pull(step + 1, wanted)
        return self._landed(needed, wanted, refresh)

    def _landed(self, step: int, wanted: list[str], refresh: Refresh | None) -> dict[str, Array]:
        """What a flying push is answered with."""
        calls, sent, asked = self._flying.pop(step)
        there, _ = self.delivery.wait(list(sent), len(sent), 0)
        self.waited += len(there) < len(sent)
        replies = self._call(calls, sent)
        if refresh is not None:
            refresh.news = join_news(reply.news for reply in replies.values())
            self.rows_pulled += sum(len(news.ids) for news in refresh.news.values())
        self._watcher.stepped(step + 1, self.delivery.retries, self.rows_pulled)
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
        self.rows_pulled += len(ids)
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
            pieces: list[dict[str, dict[str, Array]]] = [{} for _ in range(self._servers)]
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
        calls = {i: ("dump", ([name],)) for i in range(self._servers)}
        answers = self._call(calls)
        tables = [answers[i][name] for i in sorted(answers)]
        order = np.argsort(np.concatenate([table["ids"] for table in tables]))
        return {
            field: np.concatenate([table[field] for table in tables])[order] for field in tables[0]
        }

    def stats(self) -> list[dict[str, Any]]:
        """Of each server, as `Server.stats`."""
        found = self._call({i: ("stats", ()) for i in range(self._servers)})
        return [found[i] for i in sorted(found)]

    def close(self) -> None:
        """Say goodbye to the servers; the last worker ends those that this run started.

        In stale mode some of this worker's pushes may be staged: if a server died now, nobody could
        send them again. So it stays until they are applied, unless a call has failed before.
        """
        atexit.unregister(self.close)
        try:
            last = self._goodbye() if self.workers > 1 else not self.delivery.gone
        except ParameterServerError:
            last = False  # who cannot be asked is left alone: others may be at work with it
        finally:
            self._failed = True
        self._cluster.close(servers=last)

    def _goodbye(self) -> bool:
        if self.delivery.gone or not self.delivery.ray.is_initialized():
            return False
        if self._failed:
            self.delivery.timeout = min(self.delivery.timeout, GOODBYE)
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
        names: list[list[str]] = [[] for _ in range(self._servers)]
        for name in wanted:
            for part in self.partition.pieces(name, math.prod(self._shapes[name])):
                names[part.server].append(part.name)
        return names

    def _joined(self, wanted: Iterable[str], replies: dict[int, Reply]) -> dict[str, Array]:
        pieces = {name: a for reply in replies.values() for name, a in reply.values.items()}
        return {n: self.partition.join_values(n, self._shapes[n], pieces) for n in wanted}

    def _call(
        self, calls: Mapping[int, Call], sent: Mapping[Any, Sent] | None = None
    ) -> dict[int, Any]:
        """One call for each server, or what was sent before; the answers of all."""
        try:
            return self.delivery.call(calls, self._earlier, sent)
        except BaseException:
            self._failed = True
            raise

    def _earlier(self, server: int, call: Call) -> list[Call]:
        """The pushes before the present one, in order, for a server that may have lost them."""
        method, arguments = call
        held = self._held[server]
        return [
            ("push", (self.rank, self.incarnation, step, *held[step]))
            for step in sorted(held)
            if method != "step" or step < arguments[2]
        ]


def connect(settings: Mapping[str, Any]) -> RayClient:
    """A worker's client, with the servers that the settings of `set_ps_context` ask for.

    The environment tells several workers which they are, and which run is theirs on a cluster that
    others use too (see `environment`).

    Raises:
        ParameterServerError: several workers without a cluster to meet on; a `wal_dir` of another
            run, or of one that is going on; as `Cluster` and `RayClient`.
    """
    workers = settings["worker_num"]
    if workers > 1 and settings["address"] is None:
        raise ParameterServerError(
            f"set_ps_context: worker_num={workers} workers meet on a Ray cluster: start them with "
            "`paramesh launch --servers N --workers N`, or give the address of a cluster."
        )
    rank = settings["rank"] if "rank" in settings else environment.rank(workers)
    if settings["address"] is not None:
        check_address(settings["address"])
        wait_for_cluster(settings["address"], settings["timeout"])
    stale = settings["mode"] == "stale"
    rules = {
        "workers": workers,
        "mode": settings["mode"],
        "staleness": settings["staleness"] if stale else 0,
        "snapshot_every": settings["snapshot_every"],
    }
    servers = settings["server_num"] or 1
    run = None
    if settings["wal_dir"] is not None:
        mine = Identity(servers, workers, settings["mode"], rules["staleness"])
        placed = "rank" in settings or environment.is_placed()
        run = RunFolder(settings["wal_dir"], mine, None if placed else rank)
        run.check()
    cluster = Cluster(
        servers,
        rules,
        address=settings["address"],
        folder=None if run is None else str(run.path),
        job=environment.job(),
        standby=bool(settings["standby"]),
        fsync=settings["fsync"],
        run=run,
    )
    try:
        return RayClient(
            cluster,
            rank=rank,
            workers=workers,
            timeout=settings["timeout"],
            eager=settings["mode"] == "async",
            staleness=rules["staleness"],
        )
    except BaseException:
        cluster.close(servers=workers == 1)
        raise
