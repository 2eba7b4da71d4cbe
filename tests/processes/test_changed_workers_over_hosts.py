"""A worker that joins a live run from another host of a Ray cluster, and one that leaves.

The bits are those of a run that was ended at each of these steps, and got the other number of
workers at rest.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_cluster import HostCluster, Launched
from network_hosts import Network, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates need openssl"),
]

PROGRAM = """
import hashlib, os, sys, time
import numpy as np
import paramesh
from paramesh import Tensor, context, nn
from paramesh.train import divided, pending_steps

steps, pause = int(sys.argv[1]), float(sys.argv[2])
context.set_ps_context(enable_ps=True, timeout=280)
paramesh.set_seed(3)

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.item = nn.EmbeddingLookup(10**9, 4)
        self.out = nn.Dense(4, 1)

    def construct(self, ids):
        return ((self.out(self.item(ids)) - 1) ** 2).mean()

net = Net()
net.set_param_ps(init_in_server=True)
step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.1))
whole = (np.random.default_rng(i).integers(0, 10**9, 12) for i in range(steps))
for mine in pending_steps(divided(whole)):
    step(Tensor(mine))
    print("step of", len(mine), "rows", flush=True)
    time.sleep(0.0 if os.path.exists(sys.argv[3]) else pause)
client = paramesh.ps.integration.session.running().client
found = [client.dump(name) for name in ("item.embedding_table", "out.weight", "out.bias")]
digest = hashlib.sha256(b"".join(f[k].tobytes() for f in found for k in sorted(f))).hexdigest()
print("final", digest, flush=True)
"""
#: More than there is time for before the last change; from then on steps do not pause.
STEPS = 400


class Cluster(HostCluster):
    """With a script, and a folder that all hosts share."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self.script, self.fast = folder / "train.py", folder / "fast"
        self.script.write_text(PROGRAM)

    @contextmanager
    def run(self, name: str, steps: int, workers: int, pause: float = 0.0) -> Generator[Launched]:
        where = ["--servers", "2", "--workers", str(workers), "--wal-dir", str(self.folder / name)]
        words = [*where, "--job", name, str(self.script), str(steps), str(pause), str(self.fast)]
        with (
            (self.folder / f"{name}.out").open("w") as output,
            self.launched(output, words) as launched,
        ):
            yield launched

    def change(self, host: str, name: str, workers: int) -> int:
        """The first step with another number of workers, which is asked for on a host."""
        wanted = ["ps", "workers", str(self.folder / name), "--workers", str(workers)]
        told = self.paramesh_on(host, *wanted)
        found = re.search(r"from step (\d+) on", told.stdout)
        assert found is not None, told
        return int(found[1])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path("/tmp") / f"pm-{secrets.token_hex(4)}"  # the paths of sockets are short by law
    folder.mkdir(mode=0o700)
    try:
        with Network("abc") as network:
            made = Cluster(network, folder)
            made.begin()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digest_of(launched: Launched) -> str:
    """What worker 0 has found on the servers in the end."""
    assert launched.end() == 0, launched.said
    found = re.search(r"^\[worker 0 on \w\] final (\w+)$", launched.said, re.MULTILINE)
    assert found is not None, launched.said
    return found[1]


def test_a_worker_joins_from_another_host(cluster: Cluster) -> None:
    with cluster.run("live", STEPS, 2, 0.2) as launched:
        launched.awaited("[worker 1 on a] step of 6 rows")
        second = cluster.change("a", "live", 3)
        launched.awaited("[worker 2 on b] step of 4 rows")
        third = cluster.change("c", "live", 1)
        launched.awaited("worker 2 has no more steps")
        cluster.fast.touch()
        found = digest_of(launched)
    assert 0 < second < third < STEPS
    for workers, first, last in ((2, 0, second), (3, second, third), (1, third, STEPS)):
        if first:
            assert cluster.change("b", "ended", workers) == first
        with cluster.run("ended", last, workers) as launched:
            expected = digest_of(launched)
    assert found == expected
