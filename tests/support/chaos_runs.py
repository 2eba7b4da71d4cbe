"""Runs of workers and servers in processes of their own, with a killer, and what they must compute.

Glossary
    event       a thing that the killer does when the slowest worker is at a step: see `EVENTS`
    point       a place where a server (`paramesh.ps.server.server.POINTS`) or a worker
                (`chaos_worker.WORKER_POINTS`) kills itself
    effective   a kill of a process that was at work: the run had to go on with another one
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from chaos_worker import (
    NETWORK_POINTS,
    SPECS,
    START,
    WORKER_POINTS,
    Job,
    digest,
    hyper_of,
    update_of,
    work,
)
from paramesh.ps.durability.log import latest_incarnation, read_log
from paramesh.ps.durability.record import arrays_to_updates
from paramesh.ps.integration.local_client import LocalClient
from paramesh.ps.server.server import Server
from paramesh.ps.server.sums import reduce_updates
from paramesh.ps.specification.protocol import POINTS, RunConfig
from server_runs import ROWS, ids_of, table_spec

EVENTS = {  # and how often each is drawn
    "server": 0.3,
    "again": 0.15,
    "worker": 0.2,
    "both": 0.15,
    "freeze server": 0.1,
    "freeze worker": 0.05,
    "replace worker": 0.05,
}
#: With standbys, in the place of half of the first.
STANDBY_EVENTS = EVENTS | {"server": 0.1, "standby": 0.1, "pair": 0.1}


class RunFailed(AssertionError):
    """A run that did not come to its end."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What happens in a run: events at steps, and the deaths at points that `Job` has."""

    events: tuple[tuple[int, float, str, int, int], ...] = ()


NOTHING = Plan()


def random_plan(job: Job, events: int, points: int, deaths: int) -> tuple[Job, Plan]:
    """A plan from the job's seed: so many events, servers' and workers' deaths at points."""
    random = np.random.default_rng([job.seed, 99])
    drawn = STANDBY_EVENTS if job.standby else EVENTS
    whole = [
        (
            int(random.integers(1, job.steps)),
            float(random.uniform(0, 0.03)),
            str(random.choice(list(drawn), p=list(drawn.values()))),
            int(random.integers(job.servers)),
            int(random.integers(job.workers)),
        )
        for _ in range(events)
    ]
    kills: dict[int, list[tuple[str, int, int]]] = {}
    for server in range(job.servers):
        mine = kills.setdefault(server, [])
        for life in range(1, 1 + points):
            starts = ("claimed", "caught up") if job.standby else ("recovering",)
            possible = [
                *(point for point in POINTS if point not in ("recovering", "snapshot")),
                *(["snapshot"] if job.config.get("snapshot_every") else []),
                *(starts if life > 1 else ()),
            ]
            point = possible[int(random.integers(len(possible)))]
            # Each life of a server gets some way before it dies.
            at = 0 if point in starts else life * job.steps // (points + 1)
            mine.append((point, at, life))
    died: dict[tuple[int, int], tuple[str, int]] = {}
    for rank in range(job.workers):
        for life in range(deaths):
            point = str(random.choice(NETWORK_POINTS if job.network else WORKER_POINTS))
            early = point in ("starting", "greeted", "declared")
            died[rank, life] = (point, 0 if early else (life + 1) * job.steps // (deaths + 1))
    return dataclasses.replace(job, kills=kills, deaths=died), Plan(tuple(sorted(whole)))


@functools.cache
def fork_server() -> Any:
    """Where workers' processes come from: it has imported what they need, which takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chaos_worker"])
    return context


def server_process(job: Job, server: int) -> int | None:
    """The newest process that has files of a server open."""
    folder = str(job.folder / "servers" / f"server-{server}") + "/"
    found: list[int] = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if b"ServerActor" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                continue
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            if any(link.startswith(folder) for link in links):
                found.append(pid)
    return max(found, default=None)


def standby_process(job: Job, server: int) -> int | None:
    """The process of the standby of a server, if it answers."""
    space = f"paramesh-{job.name}"
    names = (f"server-{server}", f"server-{server}-standby")
    refs: list[Any] = [ray.get_actor(name, namespace=space).look.remote() for name in names]
    ready, _ = ray.wait(refs, num_returns=2, timeout=2.0)
    for ref in ready:
        with contextlib.suppress(RayError):
            said = ray.get(ref)
            if said["role"] == "standby":
                return said["pid"]
    return None


def signalled(pid: int | None, number: int) -> bool:
    """Send a signal; whether there was a process."""
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Run:
    """Workers that are started again when they were killed, and a killer.

    Attributes:
        landed: how many deaths of which kind there were.
        seconds: how long the run took.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan = NOTHING,
        *,
        limit: float = 240.0,
        absent: frozenset[int] = frozenset(),
    ) -> None:
        self.job, self.plan, self.limit = job, plan, limit
        self._present = [rank for rank in range(job.workers) if rank not in absent]
        self.landed: Counter[str] = Counter()
        self.seconds = 0.0
        self._killed: set[tuple[int, int]] = set()
        self._struck: set[tuple[int, int]] = set()
        self._lives = [0] * job.workers
        self._processes: list[Any] = [None] * job.workers
        self._replaced: list[tuple[int, int, Any]] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._record_failure: list[str] = []
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "progress").write_bytes(bytes(8 * job.workers))
        self.progress = np.memmap(job.folder / "progress", np.int64, "r", shape=(job.workers,))

    # Workers.

    def _start(self, rank: int) -> None:
        process = fork_server().Process(target=work, args=(self.job, rank, self._lives[rank]))
        process.start()
        self._processes[rank] = process

    def _end_of(self, rank: int, life: int) -> dict[str, Any]:
        path = self.job.folder / f"end-{rank}-{life}.json"
        if path.exists():
            return json.loads(path.read_text())
        return {"error": f"it ended with code {self._processes[rank].exitcode}", "replaced": False}

    def ends(self) -> list[str]:
        """How the last life of each worker ended: an error, or nothing."""
        return [self._end_of(rank, self._lives[rank]).get("error", "") for rank in self._present]

    def run(self) -> Run:
        """Until all workers have done all steps.

        Raises:
            RunFailed: a worker ended with an error, or the run took too long.
        """
        began = time.monotonic()
        deadline = began + self.limit
        for rank in self._present:
            self._start(rank)
        killer = threading.Thread(target=self._kill_all, daemon=True)
        killer.start()
        try:
            while not all([self._done(rank) for rank in self._present]):
                if time.monotonic() > deadline:
                    raise RunFailed(f"not over after {self.limit} s: {self._where()}")
                time.sleep(0.02)
        finally:
            self._over.set()
            killer.join(30)
            everyone = [*self._processes, *(process for _, _, process in self._replaced)]
            for process in filter(None, everyone):
                if process.is_alive() and time.monotonic() < deadline:
                    process.join(6)
                if process.is_alive():
                    os.kill(process.pid, signal.SIGCONT)
                    process.kill()
                    process.join(10)
        self.seconds = time.monotonic() - began
        self._count()
        for rank, life, process in self._replaced:
            said = self._end_of(rank, life)
            failed = "error" in said and not said["replaced"]
            if process.exitcode == 0 and failed and not self._after_all(rank, life):
                raise RunFailed(f"replaced worker {rank}: {said['error']}")
        if self._record_failure:
            raise RunFailed("; ".join(self._record_failure))
        return self

    def _after_all(self, rank: int, life: int) -> bool:
        """Whether a life ended when all workers had all steps: servers end then, also for it."""
        folder = self.job.folder
        trained = [(folder / f"dump-{each}.npz").stat().st_mtime_ns for each in self._present]
        return (folder / f"end-{rank}-{life}.json").stat().st_mtime_ns >= max(trained)

    def _where(self) -> str:
        versions = [
            latest_incarnation(self.job.folder / "servers" / f"server-{i}")
            for i in range(self.job.servers)
        ]
        return f"workers at {self.progress.tolist()}, lives {self._lives}, starts {versions}"

    def _done(self, rank: int) -> bool:
        with self._lock:
            process = self._processes[rank]
            if process.is_alive():
                return False
            if process.exitcode == -signal.SIGKILL:
                planned = self.job.deaths.get((rank, self._lives[rank]))
                if (rank, self._lives[rank]) not in self._struck:
                    name = planned[0] if planned else "unknown"
                    self.landed[f"worker at point '{name}'"] += 1
                self._lives[rank] += 1
                self._start(rank)
                return False
            said = self._end_of(rank, self._lives[rank])
            if "error" in said:
                raise RunFailed(f"worker {rank}: {said['error']}")
            return True

    # The killer.

    def _kill_all(self) -> None:
        for step, delay, kind, server, rank in self.plan.events:
            while self.progress.min() < step:
                if self._over.wait(0.005):
                    return
            if self._over.wait(delay) or self.progress.min() >= self.job.steps:
                return
            try:
                self._happen(kind, server, rank)
            except Exception as error:
                self._record_failure.append(f"the killer: {error!r}")

    def _happen(self, kind: str, server: int, rank: int) -> None:
        if kind == "server":
            self._kill_server(server, "server at a random moment")
        elif kind == "again":
            life = self._kill_server(server, "server at a random moment")
            self._await_start(server, life)
            self._kill_server(server, "server again while it recovers")
        elif kind == "standby":
            self._kill_standby(server, "standby at a random moment")
        elif kind == "pair":
            self._kill_standby(server, "standby together with its server")
            self._kill_server(server, "server together with its standby")
        elif kind == "worker":
            self._kill_worker(rank, "worker at a random moment")
        elif kind == "both":
            self._kill_server(server, "server together with a worker")
            self._kill_worker(rank, "worker together with a server")
        elif kind == "freeze server":
            self._freeze_server(server)
        elif kind == "freeze worker":
            pid = self._processes[rank].pid
            signalled(pid, signal.SIGSTOP)
            self._over.wait(0.7)
            signalled(pid, signal.SIGCONT)
            self.landed["worker frozen for 0.7 s"] += 1
        elif kind == "replace worker":
            self._replace_worker(rank)
        else:
            assert kind == "full disk"
            pid = server_process(self.job, server)
            assert pid is not None
            size = sum(path.stat().st_size for path in self._folder(server).glob("log-*.bin"))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, size + 100))

    def _folder(self, server: int) -> Path:
        return self.job.folder / "servers" / f"server-{server}"

    def _kill_server(self, server: int, kind: str) -> int:
        life = latest_incarnation(self._folder(server))
        if signalled(server_process(self.job, server), signal.SIGKILL):
            self._killed.add((server, life))
            self.landed[kind] += 1
        return life

    def _kill_standby(self, server: int, kind: str) -> None:
        if signalled(standby_process(self.job, server), signal.SIGKILL):
            self.landed[kind] += 1

    def _await_start(self, server: int, life: int) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not self._over.wait(0.002):
            if latest_incarnation(self._folder(server)) > life:
                return

    def _kill_worker(self, rank: int, kind: str) -> None:
        with self._lock:
            process = self._processes[rank]
            if process.is_alive() and signalled(process.pid, signal.SIGKILL):
                process.join(10)
                self._struck.add((rank, self._lives[rank]))
                self.landed[kind] += 1

    def _freeze_server(self, server: int) -> None:
        life = latest_incarnation(self._folder(server))
        pid = server_process(self.job, server)
        if not signalled(pid, signal.SIGSTOP):
            return
        deadline = time.monotonic() + 12  # a worker kills what is frozen for so long
        while time.monotonic() < deadline and not self._over.wait(0.05):
            if latest_incarnation(self._folder(server)) > life:
                self._killed.add((server, life))
                self.landed["server frozen, killed by a worker"] += 1
                break
        else:
            signalled(pid, signal.SIGCONT)
            self.landed["server frozen that woke up"] += 1

    def _replace_worker(self, rank: int) -> None:
        """A frozen worker is replaced, and then wakes up."""
        with self._lock:
            process = self._processes[rank]
            if not process.is_alive() or not signalled(process.pid, signal.SIGSTOP):
                return
            self._replaced.append((rank, self._lives[rank], process))
            self._lives[rank] += 1
            self._start(rank)
        self._over.wait(2.0)
        signalled(process.pid, signal.SIGCONT)
        self.landed["worker frozen, replaced, that woke up"] += 1

    def _count(self) -> None:
        for server in range(self.job.servers):
            planned = {life: point for point, _, life in self.job.kills.get(server, ())}
            for life in range(1, latest_incarnation(self._folder(server))):
                if (server, life) in self._killed:
                    continue  # by this harness, which has counted it
                point = planned.get(life)
                kind = f"server at point '{point}'" if point else "server slow, taken for frozen"
                self.landed[kind] += 1

    @property
    def kills(self) -> int:
        """Effective kills."""
        return sum(
            n for kind, n in self.landed.items() if "woke up" not in kind and "0.7" not in kind
        )

    # What it came to.

    def dumps(self) -> list[dict[str, np.ndarray]]:
        """What each worker found on the servers at its end."""
        found = []
        for rank in range(self.job.workers):
            with np.load(self.job.folder / f"dump-{rank}.npz") as file:
                found.append(dict(file))
        return found

    def seen(self, rank: int) -> Iterator[list[str]]:
        """The notes of a worker."""
        for line in (self.job.folder / f"seen-{rank}").read_text().splitlines():
            yield line.split()

    def losses(self) -> dict[tuple[int, int], set[str]]:
        """Of a network, by worker and step: what each life that made the step has seen."""
        found: dict[tuple[int, int], set[str]] = {}
        for rank in range(self.job.workers):
            for words in self.seen(rank):
                if words[0] == "loss":
                    found.setdefault((rank, int(words[1])), set()).add(words[2])
        return found

    def check_as(self, undisturbed: Run) -> None:
        """Raise AssertionError unless a network has come to what it came to in another run."""
        for rank, (found, expected) in enumerate(
            zip(self.dumps(), undisturbed.dumps(), strict=True)
        ):
            self._check_seen(rank)
            check_same(found, expected, f"worker {rank}")
        # A worker that dies between its answer and its note has seen a loss that nobody knows of.
        found = self.losses()
        different = {
            at: found[at]
            for at, loss in undisturbed.losses().items()
            if found.get(at, loss) != loss
        }
        assert not different, f"other losses at (worker, step): {different}"
        assert len(found) > 0.8 * self.job.steps * self.job.workers

    def check(self) -> None:
        """Raise AssertionError unless the run came to what it must."""
        for rank in range(self.job.workers):
            self._check_seen(rank)
        if self.job.eager:
            self._check_async()
            return
        expected = model(self.job)
        for rank, found in enumerate(self.dumps()):
            check_same(found, expected, f"worker {rank}")

    def _check_seen(self, rank: int) -> None:
        last: dict[tuple[str, str], tuple[int, int]] = {}
        for words in self.seen(rank):
            if words[0] in ("pushes", "loss"):
                continue
            life, server, *numbers = words
            # Two lives of a replaced worker overlap; each of them sees no fall.
            now = (int(numbers[0]), int(numbers[1]))
            before = last.get((life, server), (0, 0))
            assert now[0] >= before[0]
            assert now[1] >= before[1], f"worker {rank} saw versions {before} and then {now}"
            last[life, server] = now

    def _check_async(self) -> None:
        """Nothing lost, nothing twice, and the state is the replay of the log."""
        job = self.job
        pushed: dict[tuple[int, int, int], set[str]] = {}
        for rank in range(job.workers):
            for words in self.seen(rank):
                if words[0] == "pushes":
                    for server, text in enumerate(words[2:]):
                        pushed.setdefault((server, rank, int(words[1])), set()).add(text)
        replayed = LocalClient(job.servers)
        replayed.declare([*SPECS, table_spec()], START)
        for server, store in enumerate(replayed.stores):
            recovered = Server(self._folder(server), RunConfig(**job.config))
            mine = {key: array.tobytes() for key, array in recovered.store.dump()}
            assert recovered.workers.next_push == dict.fromkeys(range(job.workers), job.steps)
            recovered.close()
            following = [0] * job.workers
            version = 0
            for record in read_log(self._folder(server), 0):
                if record.meta["kind"] != "update":
                    continue
                rank = record.meta["worker"]
                updates = arrays_to_updates(record.arrays)
                assert record.meta["version"] == version
                assert digest(updates) in pushed[server, rank, following[rank]]
                store.apply(version, updates, record.meta["hyper"])
                following[rank] += 1
                version += 1
            assert following == [job.steps] * job.workers
            assert {key: array.tobytes() for key, array in store.dump()} == mine
        # The worker that ended last saw all of it.
        expected = contents(replayed)
        assert any(
            all(found[key].tobytes() == array.tobytes() for key, array in expected.items())
            for found in self.dumps()
        )


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], who: str) -> None:
    """Raise AssertionError unless these are the same bits."""
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        assert found[key].shape == array.shape, f"{who} ends with {key} of {found[key].shape}"
        different = int((found[key] != array).sum())
        assert found[key].tobytes() == array.tobytes(), (
            f"{who} ends with other bits in {key}: {different} elements differ"
        )


def contents(client: LocalClient) -> dict[str, np.ndarray]:
    """As `chaos_worker.work` notes it."""
    return {
        f"{name}.{field}": array
        for name in ("v", "t")
        for field, array in client.dump(name).items()
    }


def model(job: Job) -> dict[str, np.ndarray]:
    """What a run in sync or stale mode must end with; no servers, no processes."""
    config = RunConfig(**job.config)
    client = LocalClient(job.servers)
    client.declare([*SPECS, table_spec()], START)
    everything = np.arange(ROWS)
    versions: list[Any] = []
    for step in range(job.steps):
        dense = client.pull(step, ["v"])["v"]
        versions.append((dense, client.pull_tables(step, {"t": everything})["t"]))
        values, rows = versions[config.version_read(step)]
        pushed = [
            update_of(job, step, rank, values, rows[ids_of(step, rank)])
            for rank in range(job.workers)
        ]
        client.step(step, reduce_updates(pushed), hyper_of(step), [])
    return contents(client)


def end_servers(job: Job) -> None:
    """Those that a run which failed has left."""
    for server in range(job.servers):
        for name in (f"server-{server}", f"server-{server}-standby"):
            with contextlib.suppress(ValueError):
                actor = ray.get_actor(name, namespace=f"paramesh-{job.name}")
                ray.kill(actor, no_restart=True)


def job_on(address: str, folder: Path, config: dict[str, Any], **more: Any) -> Job:
    """A job for the cluster that this process is connected to."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # of answers that nobody waits for
    return Job(folder.name, folder, address, environment, config, **more)


def summary(runs: Iterable[Run]) -> str:
    """How many deaths of which kind landed."""
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run.landed)
    lines = [f"{number:5d}  {kind}" for kind, number in sorted(total.items())]
    return "\n".join(lines)
