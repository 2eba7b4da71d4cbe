"""A worker's connection to the servers of a cluster: the operations of `worker`, over Ray."""

from __future__ import annotations

import functools
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from paramesh import own_exit
from paramesh.errors import ParameterServerError, WorkerLeft
from paramesh.ps.client import checkpoints
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.exchange import Call
from paramesh.ps.client.fan_out import FanOut, Operation
from paramesh.ps.client.moving import persistently
from paramesh.ps.client.worker import Worker
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.cluster import Cluster, check_address, ray_module
from paramesh.ps.deployment.delivery import Delivery
from paramesh.ps.deployment.metrics import WorkerWatch
from paramesh.ps.deployment.node import wait_for_cluster
from paramesh.ps.deployment.package_versions import check_versions
from paramesh.ps.deployment.transport import RayTransport, Transport
from paramesh.ps.deployment.transports import check_carried, transport_for
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.server.refresh import Refresh
from paramesh.ps.server.update_rules import make_update_rule
from paramesh.ps.specification.checkpoints import LoadOrder, SaveOrder
from paramesh.ps.specification.id_range import NO_ID
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import Moving
from paramesh.ps.specification.specs import owner_of
from paramesh.telemetry.journal import Json
from paramesh.telemetry.phases import phase

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]
T = TypeVar("T")

#: Seconds until what a server has seen of a move is to be seen by its workers, and between looks.
_SEEN, _PAUSE = 30.0, 0.1

#: Seconds that a worker that ends waits for a server.
GOODBYE = 10.0


class RayClient:
    """One worker's connection to the servers of a `Cluster` (see `client.Client`).

    Args:
        cluster: of the run.
        rank: of this worker.
        workers: how many there are, or were when it was started.
        timeout: seconds until a call that is not answered is an error.
        eager: the servers are in async mode.
        staleness: of the servers, in stale mode.
        transport: what carries the calls of steps, "ray", "zmq" or "auto" (see `transports`).

    Attributes:
        start: the step that this worker goes on from: the least that a server waits for.
        waited: how many steps had to wait for an answer; in stale mode it may be there already.

    Raises:
        ParameterServerError: a server cannot start, or does not answer in time.
        WorkerLeft: the run has no steps for this worker.
    """

    _delivery: type[Delivery] = Delivery
    #: Whether a thread is in the middle of an operation.
    _talks = False

    def __init__(
        self,
        cluster: Cluster,
        *,
        rank: int = 0,
        workers: int = 1,
        timeout: float = 300.0,
        eager: bool = False,
        staleness: int = 0,
        transport: str = "ray",
    ) -> None:
        self._cluster = cluster
        self.rank = rank
        self.workers = workers
        self.waited = 0
        self._failed = False
        #: One thread's operation at a time: answers belong to the round that asked.
        self._turn = threading.RLock()
        self._watcher = WorkerWatch(cluster.folder, rank, cluster.job)
        #: How calls get to the servers.
        self._fields: dict[str, list[str]] = {}
        self._carried_by = transport
        #: Of calls to former servers.
        self._retries = 0
        self._generation = cluster.generation
        actors = cluster.pairs()
        self.delivery = self._delivery_to(
            actors, transport_for(transport, ray_module(), actors, rank), timeout
        )
        life = secrets.randbits(63) | 1
        self.worker = Worker(self.delivery.caller, life, eager=eager, staleness=staleness)
        self._greet()
        #: Others may join, or have left.
        self._placed = workers > 1 or environment.is_placed()
        own_exit.register(self.close)
        why = self._run(self.worker.join)
        if why:
            self.close()
            left = WorkerLeft(rank, why)
            print(f"paramesh: {left}", file=sys.stderr, flush=True)
            raise left
        self.start = self.worker.start
        # Its script may have changed since; that of a worker that was killed has not.
        self.worker.compares = cluster.resumed and self.start > 0
        needed = self.worker.sets.at(self.start)
        if cluster.fixed_workers and needed > workers:
            self.close()
            raise ParameterServerError(
                f"step {self.start} of the run in '{cluster.folder}' has {needed} workers (it has "
                f"{self.worker.sets}), and {workers} were started. Start it with "
                f"worker_num={needed}; those that it does not need later end by themselves."
            )
        if transport == "zmq":
            check_carried(self.delivery.transport)

    @property
    def retries(self) -> int:
        """How many calls were sent again."""
        return self._retries + self.delivery.caller.retries

    @property
    def incarnation(self) -> int:
        """Of this worker."""
        return self.worker.incarnation

    @property
    def partition(self) -> Partition:
        """How Parameters are partitioned over the servers."""
        return self.worker.partition

    @property
    def rows_pulled(self) -> int:
        """How many rows of tables this worker was sent."""
        return self.worker.rows_pulled

    def _greet(self) -> None:
        self._run(self.worker.greet)
        check_versions(self.worker.packages)

    def _delivery_to(
        self, actors: list[list[Any]], transport: Transport, timeout: float
    ) -> Delivery:
        return self._delivery(
            ray_module(),
            [len(mine) for mine in actors],
            transport,
            rank=self.rank,
            workers=self.workers,
            timeout=timeout,
            note=self._watcher.events.note,
        )

    def _follow(self, error: Exception) -> tuple[Caller, Partition] | None:
        """As `moving.Follow`: the servers that the run has moved to, if it has."""
        if self.delivery.gone or not self._moved_on(self._generation, error):
            return None
        began = time.monotonic()
        cluster, timeout = self._cluster, self.delivery.timeout
        self._retries = self.retries
        self.delivery.close()
        self._generation = cluster.generation
        actors = cluster.pairs()
        transport = transport_for(self._carried_by, ray_module(), actors, self.rank)
        self.delivery = self._delivery_to(actors, transport, timeout)
        facts = {"servers": len(actors), "seconds": time.monotonic() - began}
        self._watcher.events.note("moved", generation=self._generation, **facts)
        return self.delivery.caller, Partition(len(actors))

    def _moved_on(self, generation: int, error: Exception) -> bool:
        """Whether the run has other servers than those of a generation, or a server says so."""
        until = time.monotonic() + _SEEN
        while not self._cluster.move_on(generation):
            # A server may have seen on its host what is not to be seen on this one yet.
            if not isinstance(error, Moving) or time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        return True

    def _run(self, begin: Callable[[], Operation[T]]) -> T:
        """Have what the worker says carried out, after what other threads have begun.

        Raises:
            ParameterServerError: this thread is in the middle of an operation, which a signal
                handler has interrupted.
        """
        with self._turn:
            self._check_turn()
            try:
                self._talks = True
                found = carried_out(persistently(self.worker, begin, self._follow), self._answers)
            except BaseException:
                self._failed = True
                raise
            finally:
                self._talks = False
            self.delivery.carry_out()
            return found

    def _check_turn(self) -> None:
        if self._talks:
            raise ParameterServerError(
                "a signal handler has asked the servers while the thread that it interrupts waits "
                "for their answers. Set a flag in the handler, and ask in the training loop."
            )

    def _answers(self, turn: FanOut) -> dict[int, Any]:
        if turn.sent is not None:
            self.delivery.carry_out()
            if not turn.ahead:
                self.waited += turn.fresh or not self.delivery.answered(turn.sent)
        with phase("wait"):
            return self.delivery.call(turn.calls, self.worker.earlier, turn.sent)

    # What a session needs.

    def workers_at(self, step: int) -> int:
        """As in `Client`."""
        return self.worker.sets.at(step)

    def divide(self) -> None:
        """As in `Client`."""
        self.worker.divides = True

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """As in `Client`."""
        self._run(lambda: self.worker.declare(specs, values))

    def known(self, specs: list[dict[str, Any]]) -> list[str]:
        """As in `Client`."""
        return self._run(lambda: self.worker.known(specs))

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
        values = self._run(lambda: self.worker.step(step, updates, hyper, wanted, refresh))
        self._watcher.stepped(step + 1, self.retries, self.rows_pulled)
        if self.workers_at(step) != self.workers_at(step + 1):
            self._cluster.staff(self.workers_at(step + 1))
        return values

    def pull(self, step: int, wanted: Iterable[str]) -> dict[str, Array]:
        """As in `Client`."""
        wanted = list(wanted)
        return self._run(lambda: self.worker.pull(step, wanted))

    def pull_tables(self, step: int, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """As in `Client`."""
        return self._run(lambda: self.worker.pull_tables(step, wanted))

    def ask_ahead(self, step: int, wanted: Mapping[str, Array]) -> None:
        """As in `Client`."""
        with self._turn:
            self._check_turn()
            self.worker.ask_ahead(step, wanted)
            self.delivery.carry_out()

    def pull_rows(self, step: int, name: str, ids: Array) -> Array:
        """As `pull_tables`, of one table."""
        return self.pull_tables(step, {name: ids})[name]

    def items(self, name: str, count: int) -> Iterator[tuple[Array, Array]]:
        """As in `Client`, at the version after all of this worker's pushes."""
        self._run(self.worker.settle)
        generation = self._generation
        for server in range(self.worker.servers):
            after, version = NO_ID, None
            while True:
                reply = self._run(
                    functools.partial(self.worker.pull_items, name, server, after, count)
                )
                if self._generation != generation:
                    raise ParameterServerError(
                        f"Parameter '{name}' was iterated, and the run has another number of "
                        "servers now: begin the iteration again."
                    )
                if version not in (None, reply.version) and not self.worker.eager:
                    raise ParameterServerError(
                        f"Parameter '{name}' was iterated at version {version}, and server "
                        f"{server} is at version {reply.version} now: finish the iteration before "
                        "the next step."
                    )
                version, ids = reply.version, reply.values["ids"]
                if len(ids):
                    yield ids, reply.values["rows"]
                if len(ids) < count:
                    break
                after = int(ids[-1])

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> None:
        """As in `Client`."""
        self._run(lambda: self.worker.put(name, fields, ids))

    def dump(self, name: str) -> dict[str, Array]:
        """As in `Client`, at the version after all of this worker's pushes."""
        return self._run(lambda: self.worker.dump(name))

    def fields(self, name: str) -> list[str]:
        """As in `Client`."""
        if name not in self._fields:
            for spec in self._run(self.worker.specs):
                slots = make_update_rule(spec["name"], spec["optimizer"]).slots
                self._fields[owner_of(spec)] = ["value", *slots]
        return self._fields.get(name, [])

    def save(self, orders: Sequence[SaveOrder]) -> None:
        """As in `Client`, at the version after all of this worker's pushes."""
        self._run(lambda: checkpoints.save(self.worker, orders))

    def saved(self, identity: str) -> dict[int, str]:
        """As in `Client`."""
        while True:
            # By a caller of its own: this may be another thread than that of the steps.
            generation, actors = self._cluster.generation, self._cluster.pairs()
            transport = RayTransport(ray_module(), actors)
            delivery = self._delivery_to(actors, transport, self.delivery.timeout)
            try:
                operation = checkpoints.saved(identity, range(len(actors)))
                return carried_out(operation, functools.partial(_asked, delivery))
            except (ParameterServerError, OSError) as error:
                # The servers that the run has moved to know what the former ones have saved.
                if not self._moved_on(generation, error):
                    raise
            finally:
                delivery.close()

    def load(self, order: LoadOrder) -> None:
        """As in `Client`."""
        self._run(lambda: checkpoints.load(self.worker, order))

    def stats(self) -> list[dict[str, Any]]:
        """Of each server, as `Server.stats`."""
        return self._run(self.worker.stats)

    def note(self, event: str, **facts: object) -> None:
        """As in `Client`."""
        self._watcher.events.note(event, **facts)

    def place(self) -> dict[str, Json]:
        """As in `Client`."""
        cluster = self._cluster
        return {"address": cluster.address, "job": cluster.job, "wal_dir": cluster.folder}

    def close(self) -> None:
        """Sign off from the servers; the last worker stops those that this run started.

        In stale mode some of this worker's pushes may be staged: if a server died now, nobody could
        send them again. So it stays until they are applied, unless a call has failed before.
        """
        own_exit.unregister(self.close)
        try:
            last = self._goodbye() if self._placed else not self.delivery.gone
        except ParameterServerError:
            last = False  # who cannot be asked is left alone: others may be at work with it
        finally:
            self._failed = True
            self.delivery.close()
        self._cluster.close(servers=last)

    def _goodbye(self) -> bool:
        if self.delivery.gone or not self.delivery.ray.is_initialized():
            return False
        if self._failed:
            self.delivery.timeout = min(self.delivery.timeout, GOODBYE)
        else:
            self._run(self.worker.settle)
        return self._run(self.worker.leave)


def carried_out(operation: Operation[T], answers: Callable[[FanOut], dict[int, Any]]) -> T:
    """What an operation comes to, whose fan-outs are answered.

    Raises:
        Exception: what the operation raises about an error of a fan-out.
    """
    try:
        turn = next(operation)
        while True:
            try:
                found = answers(turn)
            except Exception as error:
                turn = operation.throw(error)
            else:
                turn = operation.send(found)
    except StopIteration as end:
        return end.value


def _asked(delivery: Delivery, turn: FanOut) -> dict[int, Any]:
    return delivery.call(turn.calls, _nothing)


def _nothing(server: int, call: Call) -> Iterable[Call]:
    return ()


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
            f"set_ps_context: worker_num={workers} workers need a Ray cluster: start them with "
            "`paramesh launch --servers N --workers N`, or give the address of a cluster."
        )
    rank = settings["rank"] if "rank" in settings else environment.rank(workers)
    if settings["address"] is not None:
        check_address(settings["address"])
        wait_for_cluster(settings["address"], settings["timeout"])
    stale = settings["mode"] == "stale"
    config = {
        "workers": workers,
        "mode": settings["mode"],
        "staleness": settings["staleness"] if stale else 0,
        "snapshot_every": settings["snapshot_every"],
    }
    servers = settings["server_num"] or 1
    run = None
    if settings["wal_dir"] is not None:
        mine = Identity(servers, workers, settings["mode"], config["staleness"])
        placed = "rank" in settings or environment.is_placed()
        run = RunFolder(settings["wal_dir"], mine, None if placed else rank)
        run.check()
    cluster = Cluster(
        servers,
        config,
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
            staleness=config["staleness"],
            transport=settings["transport"],
        )
    except BaseException:
        cluster.close(servers=workers == 1 and not environment.is_placed())
        raise
