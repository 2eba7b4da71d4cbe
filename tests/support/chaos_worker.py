"""A worker process of a chaos run: it computes from (seed, step, rank), and may be asked to die.

Every life of a worker is a process. It notes what it was answered (`seen-RANK`), how far it is
(`progress`), and how it ended (`end-RANK-LIFE.json`, `dump-RANK.npz`), for `chaos_runs` to check.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

from paramesh.errors import ParameshError
from paramesh.ps.client.exchange import Call, Floor
from paramesh.ps.client.peer import Peer
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.deployment.delivery import Delivery
from paramesh.ps.specification.protocol import Replaced
from server_runs import MOMENTUM, ids_of, table_spec

SIZE = 70_000  # two ranges, one on each of two servers, too large to travel within a call of Ray
SPECS: list[dict[str, Any]] = [
    {
        "name": "v",
        "kind": "dense",
        "shape": [SIZE],
        "dtype": "float32",
        "recipe": None,
        "optimizer": MOMENTUM,
    },
]
START = {"v": np.linspace(-1, 1, SIZE).astype(np.float32)}

#: Where a worker can be asked to die; "between": its push has reached the first server alone.
WORKER_POINTS = (
    "starting", "greeted", "declared", "pulled", "between", "sent", "answered", "leaving",
)  # fmt: skip
#: Those of a worker that trains a network.
NETWORK_POINTS = tuple(name for name in WORKER_POINTS if name not in ("declared", "pulled"))


@dataclasses.dataclass(frozen=True)
class Job:
    """What all processes of a run know.

    Attributes:
        name: of the run on its cluster.
        folder: of the run: `servers` is the servers' own, the rest notes for `chaos_runs`.
        address: of the Ray cluster.
        environment: what a process needs to get in.
        config: the fields of `RunConfig`.
        kills: planned deaths of servers, by number (see `serving.Kill`).
        deaths: planned deaths of workers: (rank, life) -> (point, step).
        standby: every server has one.
        network: workers train one as a script does (see `chaos_network`), not by the bare client.
        mischief: the share of messages that are duplicated, delayed, lost, or repeated much later.
        timeout: of the clients, in seconds.
        transport: of the clients.
    """

    name: str
    folder: Path
    address: str
    environment: dict[str, str]
    config: dict[str, Any]
    servers: int = 2
    steps: int = 20
    seed: int = 0
    timeout: float = 90.0
    mischief: float = 0.0
    standby: bool = False
    network: bool = False
    transport: str = "ray"
    kills: dict[int, list[tuple[str, int, int]]] = dataclasses.field(default_factory=dict)
    deaths: dict[tuple[int, int], tuple[str, int]] = dataclasses.field(default_factory=dict)

    @property
    def workers(self) -> int:
        return self.config["workers"]

    @property
    def eager(self) -> bool:
        return self.config.get("mode") == "async"


def hyper_of(step: int) -> dict[str, float]:
    return {"learning_rate": 0.1 / (1 + step / 16), "momentum": 0.9}


def update_of(job: Job, step: int, rank: int, values: np.ndarray, rows: np.ndarray) -> Any:
    """What a worker pushes: from what it read, the seed, the step and its rank."""
    random = np.random.default_rng([job.seed, step, rank])
    noise = random.standard_normal(SIZE, np.float32)
    return {
        "v": {"grad": values * np.float32(0.3) + noise},
        "t": {"ids": ids_of(step, rank), "grad": rows * np.float32(0.5) + noise[: rows.shape[1]]},
    }


class Chaos:
    """What is wrong with the messages of one life of a worker, and when it dies.

    Messages are duplicated, late, lost, or there again long after.
    """

    def __init__(self, job: Job, rank: int, life: int) -> None:
        self.job, self.rank, self.life = job, rank, life
        self.random = np.random.default_rng([job.seed, rank, life, 7])
        self.late: list[Call] = []
        self.death = job.deaths.get((rank, life))
        #: The step that it is at.
        self.now = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.notes = os.open(job.folder / f"seen-{rank}", flags, 0o600)

    def at(self, point: str) -> None:
        """Die here, if that was planned."""
        if self.death is not None and self.death[0] == point and self.now >= self.death[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    def send(self, real: Callable[[Call], Any], server: int, call: Call) -> Any:
        """Send a call, or something else."""
        last = server == self.job.servers - 1
        if last and call[0] == "step":
            self._answered("between", real)
        if last and call[0] == "hello":
            self.at("greeted")
        ref = self._sent(real, call)
        if last and call[0] == "step":
            self._answered("sent", real)
        return ref

    def _answered(self, point: str, real: Callable[[Call], Any]) -> None:
        if self.death is not None and self.death[0] == point and self.now >= self.death[1]:
            time.sleep(0.2)  # for what was sent before
            ray.wait([real(("ping", ()))], timeout=2.0)
            self.at(point)

    def _sent(self, real: Callable[[Call], Any], call: Call) -> Any:
        share = self.job.mischief
        if call[0] not in ("step", "push", "pull", "pull_tables") or not share:
            return real(call)
        never = ("settle", (self.rank, 1 << 40)) if self.job.eager else ("pull", (1 << 40, ()))
        kind = self.random.random() / share
        if self.late and self.random.random() < 0.2:
            real(self.late.pop(0))  # from long ago; perhaps of the other server
        if kind < 0.3:
            real(call)
        elif kind < 0.6:
            time.sleep(float(self.random.uniform(0, 0.05)))
        elif kind < 0.8 and call[0] == "step":
            self.late.append(call)
        elif kind < 0.9:
            return real(never)  # lost
        elif kind < 1:
            real(call)  # its answer is lost
            return real(never)
        return real(call)

    def note(self, server: int, incarnation: int, version: int) -> None:
        """What the worker has seen of a server."""
        self.write(f"{self.life} {server} {incarnation} {version}")

    def write(self, line: str) -> None:
        """Note a line for `chaos_runs`."""
        os.write(self.notes, f"{line}\n".encode())

    def interpose(self) -> None:
        """Between this process's client and its servers, from now on."""
        chaos, sending, learning = self, Delivery.submit, Peer.learn

        def submit(way: Delivery, server: int, call: Call, at: int = 0) -> Any:
            return chaos.send(lambda call: sending(way, server, call, at), server, call)

        def learn(peer: Peer, answer: Any, floor: Floor) -> Any:
            found = learning(peer, answer, floor)
            chaos.note(peer.server, peer.incarnation, peer.version)
            return found

        Delivery.submit, Peer.learn = submit, learn  # type: ignore[method-assign]
        Delivery.timing = Delivery.timing._replace(probe=0.5, frozen=2.0, lost=3.0)


def connected(job: Job, rank: int) -> RayClient:
    """A worker's client; the first worker that comes starts the servers."""
    cluster = Cluster(
        job.servers,
        job.config,
        address=job.address,
        folder=str(job.folder / "servers"),
        job=job.name,
        kills=job.kills,
        standby=job.standby,
    )
    return RayClient(
        cluster,
        rank=rank,
        workers=job.workers,
        timeout=job.timeout,
        eager=job.eager,
        staleness=job.config.get("staleness", 0),
        transport=job.transport,
    )


def digest(update: Any) -> str:
    """Of the arrays of one server's share of a push."""
    found = hashlib.sha256()
    for name in sorted(update):
        for field in sorted(update[name]):
            array = np.ascontiguousarray(update[name][field])
            found.update(f"{name} {field} {array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()


def train(job: Job, rank: int, chaos: Chaos) -> tuple[RayClient, dict[str, Any]]:
    """All pending steps of this worker; its client, and what its servers have in the end."""
    client = connected(job, rank)
    progress = np.memmap(job.folder / "progress", np.int64, "r+", shape=(job.workers,))
    client.declare([*SPECS, table_spec()], START)
    chaos.now = client.start
    chaos.at("declared")
    values = client.pull(client.start, ["v"])["v"]
    for step in range(client.start, job.steps):
        chaos.now = step
        progress[rank] = step
        rows = client.pull_rows(step, "t", ids_of(step, rank))
        chaos.at("pulled")
        update = update_of(job, step, rank, values, rows)
        if job.eager:
            parts = client.partition.split_updates(update)
            chaos.write(" ".join(["pushes", str(step), *map(digest, parts)]))
        values = client.step(step, update, hyper_of(step), ["v"])["v"]
        chaos.at("answered")
    progress[rank] = job.steps
    return client, {
        f"{name}.{field}": array
        for name in ("v", "t")
        for field, array in client.dump(name).items()
    }


def work(job: Job, rank: int, life: int) -> None:
    """One life of a worker."""
    os.environ.update(job.environment)
    chaos = Chaos(job, rank, life)
    chaos.interpose()
    end: dict[str, Any] = {}
    began = time.monotonic()
    try:
        chaos.at("starting")
        if job.network:
            import chaos_network

            client, dumped = chaos_network.train(job, rank, chaos)
        else:
            client, dumped = train(job, rank, chaos)
        end["start"] = client.start
        stats = client.stats()
        end["versions"] = [said["version"] for said in stats]
        end["retries"] = client.retries
        np.savez(job.folder / f"dump-{rank}.npz", **dumped)
        chaos.at("leaving")
        client.close()
    except ParameshError as error:
        end["error"], end["replaced"] = str(error), isinstance(error, Replaced)
    end["seconds"] = time.monotonic() - began
    (job.folder / f"end-{rank}-{life}.json").write_text(json.dumps(end))
