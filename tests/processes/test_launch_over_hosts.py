"""`paramesh launch --address` over several hosts that are cut off, removed and far away.

The hosts are network namespaces with a Ray node each, which asks for a token and encrypts. Whatever
happens to them, the servers have to end with the bits of a run in which nothing did.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_cluster import HostCluster, Launched, awaited
from network_hosts import Network, why_no_delay, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates need openssl"),
]

STEPS, BEFORE = 120, 20

#: So many steps; says which it has made, and in the end what the servers have.
PROGRAM = """
import hashlib, os, sys, time
import numpy as np
import paramesh
from paramesh import Tensor, context, nn
from paramesh.train import first_step, pending_steps

steps, standby = int(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ["PARAMESH_PS_RANK"])
context.set_ps_context(enable_ps=True, timeout=280, standby=standby, snapshot_every=25)
paramesh.set_seed(3)

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.item = nn.EmbeddingLookup(10**9, 4)
        self.out = nn.Dense(4, 1)

    def construct(self, ids, label):
        return ((self.out(self.item(ids)) - label) ** 2).mean()

def batches():
    for i in range(steps):
        rng = np.random.default_rng([i, rank])
        time.sleep(0.02)
        yield (Tensor(rng.integers(0, 10**9, 8)),
               Tensor(rng.standard_normal((8, 1)).astype(np.float32)))

net = Net()
net.set_param_ps(init_in_server=True)
step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.1))
for at, batch in enumerate(pending_steps(batches()), first_step()):
    step(*batch)
    print("step", at, "done", flush=True)
client = paramesh.ps.integration.session.running().client
found = [client.dump(name) for name in ("item.embedding_table", "out.weight", "out.bias")]
digest = hashlib.sha256(b"".join(f[k].tobytes() for f in found for k in sorted(f))).hexdigest()
print("final", digest, flush=True)
"""


class Cluster(HostCluster):
    """With a script, a shared folder for runs, and what a run without disturbance comes to."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self.script = folder / "train.py"
        self.script.write_text(PROGRAM)
        self._calm = ""

    def words(self, name: str, steps: int = STEPS, standby: int = 0) -> list[str]:
        where = ["--servers", "2", "--workers", "3", "--wal-dir", str(self.folder / name)]
        return [*where, "--job", name, str(self.script), str(steps), str(standby)]

    @contextmanager
    def run(self, name: str, steps: int = STEPS, standby: int = 0) -> Generator[Launched]:
        with (
            (self.folder / f"{name}.out").open("w") as output,
            self.launched(output, self.words(name, steps, standby)) as launched,
        ):
            yield launched

    @property
    def calm(self) -> str:
        """What the servers have after a run without disturbance."""
        if not self._calm:
            with self.run("calm") as launched:
                assert launched.end() == 0, launched.said
                self._calm = digest_of(launched)
        return self._calm

    def processes(self, host: str) -> list[str]:
        """What of a run is on a host."""
        words = ("ServerActor", "HostAgent", "crew_process", "processes.worker")
        listed = self.network.run(host, ["ps", "ax", "-o", "args"]).stdout.splitlines()
        return [line for line in listed if any(word in line for word in words)]


@contextmanager
def cluster_of(names: Sequence[str], delay: float = 0.0) -> Generator[Cluster]:
    folder = Path("/tmp") / f"pm-{secrets.token_hex(4)}"  # the paths of sockets are short by law
    folder.mkdir(mode=0o700)
    try:
        with Network(names, delay) as network:
            cluster = Cluster(network, folder)
            cluster.begin()
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of("abc") as made:
        yield made


def digest_of(launched: Launched) -> str:
    """What all three workers have found on the servers."""
    found = re.findall(r"^\[worker (\d) on \w\] final (\w+)$", launched.said, re.MULTILINE)
    assert sorted(rank for rank, _ in found) == ["0", "1", "2"], launched.said
    (digest,) = {digest for _, digest in found}
    return digest


def test_servers_and_workers_are_spread_and_their_logs_are_together(cluster: Cluster) -> None:
    with cluster.run("spread", 100_000, standby=1) as launched:
        launched.awaited(f"step {BEFORE} done")
        told = cluster.paramesh(
            "ps", "status", "--json", "--address", cluster.address, "--job", "spread"
        )
        servers = json.loads(told.stdout)["servers"]
        homes = [(one["name"], one["host"]) for one in servers]
        assert homes == [
            ("server-0", "a"), ("server-0-standby", "b"),
            ("server-1", "b"), ("server-1-standby", "c"),
        ]  # fmt: skip
        shown = cluster.paramesh("ps", "status", "--address", cluster.address, "--job", "spread")
        assert "workers: 0 on c; 1 on a; 2 on b" in shown.stdout, shown.stderr
        logs = cluster.folder / "spread" / "logs"
        names = {path.name for path in logs.iterdir()}
        assert names >= {"worker-0.log", "worker-1.log", "worker-2.log", "server-0.a.log"}
        assert " b step 3 done" in (logs / "worker-2.log").read_text()
        assert "[server 0 on a] started: " in launched.said
        # One Ctrl-C ends all of it, everywhere.
        launched.send(signal.SIGINT)
        assert launched.end() == 130
        awaited(lambda: not any(map(cluster.processes, "abc")), "the end of all processes")


def test_a_launcher_that_is_killed_leaves_nothing(cluster: Cluster) -> None:
    with cluster.run("killed", 100_000) as launched:
        launched.awaited(f"step {BEFORE} done")
    awaited(lambda: not any(map(cluster.processes, "abc")), "the end of all processes")


def test_a_wal_dir_that_is_another_folder_on_one_host(cluster: Cluster) -> None:
    folder = cluster.folder / "apart"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "apart", str(folder)]
    cluster.network.run("b", mount).check_returncode()
    done = cluster.paramesh("launch", "--address", cluster.address, *cluster.words("apart"))
    assert done.returncode == 2
    assert f"host b (10.77.0.2): wal_dir='{folder}' is another folder there" in done.stderr
    assert "final" not in done.stdout
    assert not (folder / "run.json").exists()


def test_a_partition_of_10_seconds(cluster: Cluster) -> None:
    with cluster.run("ten") as launched:
        launched.awaited(f"step {BEFORE} done")
        cluster.network.cut("b")
        time.sleep(10)
        cluster.network.mend("b")
        assert launched.end() == 0, launched.said
        assert digest_of(launched) == cluster.calm


def test_a_partition_of_60_seconds(cluster: Cluster) -> None:
    """Ray gives the host up, or does not: how long that takes is its own."""
    with cluster.run("sixty") as launched:
        launched.awaited(f"step {BEFORE} done")
        cluster.network.cut("b")
        time.sleep(60)
        cluster.network.mend("b")
        assert launched.end() == 0, launched.said
        assert digest_of(launched) == cluster.calm


def removed(standby: int) -> Callable[[Cluster], None]:
    def check(cluster: Cluster) -> None:
        name = f"removed-{standby}"
        with cluster.run(name, standby=standby) as launched:
            launched.awaited(f"step {BEFORE} done")
            cluster.network.remove("b")
            assert launched.end() == 0, launched.said
            said = launched.said
            assert digest_of(launched) == cluster.calm
        assert "[cluster] host b (10.77.0.2) is lost: what ran there is started again" in said
        lost = r"\[worker 2 on b\] was lost with its host b .*: restarted \(1 of 3\)"
        assert re.search(lost, said)
        assert "[server 1 on c] recovered: " in said or "[server 1 on a] recovered: " in said

    return check


@pytest.mark.parametrize("standby", [0, 1])
def test_a_host_that_is_removed(standby: int) -> None:
    with cluster_of("abc") as cluster:
        removed(standby)(cluster)


@pytest.mark.skipif(why_no_delay() is not None, reason=str(why_no_delay()))
def test_hosts_that_are_20_milliseconds_apart(cluster: Cluster) -> None:
    # A packet passes two wires: from its host to the switch, and from there to the other one.
    with cluster_of("abc", delay=0.01) as far, far.run("far") as launched:
        assert launched.end() == 0, launched.said
        assert digest_of(launched) == cluster.calm
