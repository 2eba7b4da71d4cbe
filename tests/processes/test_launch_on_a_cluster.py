"""`paramesh launch --address`: workers and servers on a Ray cluster that is there, and stays."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from environments import without_virtual_devices
from paramesh.ps.deployment.access import token_variables
from paramesh.ps.deployment.cluster import HOST
from paramesh.ps.deployment.member_node import node_here
from paramesh.ps.deployment.node import free_port, wait_for_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="the folder of a node has POSIX's modes"),
]

PARAMESH = [sys.executable, "-c", "from paramesh.cli import main; main()"]
T = TypeVar("T")

#: Steps until the folder has a file "stop", or as many as are said; dies once where that is said.
PROGRAM = """
import hashlib, os, signal, sys, time
from pathlib import Path
import numpy as np
import paramesh
from paramesh import Tensor, context, nn
from paramesh.train import pending_steps

folder, steps, death = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
rank = int(os.environ["PARAMESH_PS_RANK"])
context.set_ps_context(enable_ps=True, timeout=120, snapshot_every=4)
paramesh.set_seed(3)

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.item = nn.EmbeddingLookup(10**9, 4)
        self.out = nn.Dense(4, 1)

    def construct(self, ids, label):
        return ((self.out(self.item(ids)) - label) ** 2).mean()

def batches():
    last = folder / "last"
    for i in range(steps or 10**6):
        if not steps:
            if rank == 0 and (folder / "stop").exists() and not last.exists():
                (folder / "new").write_text(str(i + 3))  # the other one is a step ahead at most
                (folder / "new").rename(last)
            if last.exists() and i >= int(last.read_text()):
                return
            time.sleep(0.02)
        rng = np.random.default_rng([i, rank])
        yield (Tensor(rng.integers(0, 10**9, 8)),
               Tensor(rng.standard_normal((8, 1)).astype(np.float32)))

net = Net()
net.set_param_ps(init_in_server=True)
step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.1))
for i, batch in enumerate(pending_steps(batches())):
    step(*batch)
    if death == [f"{rank}-{i}"] and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
client = paramesh.ps.integration.session.running().client
found = [client.dump(name) for name in ("item.embedding_table", "out.weight", "out.bias")]
digest = hashlib.sha256(b"".join(f[k].tobytes() for f in found for k in sorted(f))).hexdigest()
print("final", digest, flush=True)
"""


class Node(NamedTuple):
    """A Ray cluster of one node."""

    address: str
    environment: dict[str, str]
    metrics: int


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    folder = Path("/tmp") / f"pm-{secrets.token_hex(4)}"  # the paths of sockets are short by law
    folder.mkdir(mode=0o700)
    token, port, metrics = token_variables(), free_port(), free_port()
    options = {"RAY_metrics_report_interval_ms": "500"}
    with node_here(folder, token | options, port=port, metrics=metrics):
        address = f"{HOST}:{port}"
        wait_for_cluster(address, 60)
        yield Node(address, without_virtual_devices() | token, metrics)


def run(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PARAMESH, *words],
        capture_output=True,
        text=True,
        timeout=200,
        env=node.environment,
        check=False,
    )


def launch(node: Node, folder: Path, *words: str) -> list[str]:
    """The command that has two servers and two workers on the cluster."""
    script = folder / "train.py"
    script.write_text(PROGRAM)
    where = ["--address", node.address, "--wal-dir", str(folder / "servers"), "--job", folder.name]
    return ["launch", "--servers", "2", "--workers", "2", *where, str(script), str(folder), *words]


def digests(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^\[worker \d on \S+\] final (.*)$", done.stdout, re.MULTILINE)
    assert len(found) == 2
    return set(found)


def awaited(look: Callable[[], T]) -> T:
    """What a look finds once it finds something."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come")


def test_on_a_cluster_that_is_there(node: Node, tmp_path: Path) -> None:
    seen = []
    for name, death in (("calm", []), ("killed", ["1-3"])):
        folder = tmp_path / name
        folder.mkdir()
        done = run(node, *launch(node, folder, "8", *death))
        seen.append(digests(done))
        assert done.stderr.count("restarted") == len(death)
        # The servers are gone, the cluster is not.
        status = run(node, "ps", "status", "--address", node.address, "--job", name)
        assert status.returncode == 2
        assert f"there are no servers of the job '{name}'" in status.stderr
    assert len(seen[0]) == 1
    assert seen[0] == seen[1]


def test_without_its_token_a_cluster_lets_nobody_in(node: Node, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    stranger = node.environment | token_variables()
    done = run(node._replace(environment=stranger), *launch(node, tmp_path, "4"))
    assert done.returncode != 0
    assert "rejects the token of this process, which belongs to another cluster" in done.stderr
    assert "final" not in done.stdout
    assert not (tmp_path / "servers").exists()


def test_metrics_and_status_of_a_run(node: Node, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="Ray offers metrics with ray[default] alone")
    command = launch(node, tmp_path, "0")
    with (tmp_path / "output").open("w+") as output:
        launcher = subprocess.Popen(
            [*PARAMESH, *command], stdout=output, stderr=output, env=node.environment
        )
        try:
            expected = {("version", "server", f"server-{i}") for i in range(2)}
            expected |= {("worker_step", "worker", str(i)) for i in range(2)}

            def scraped() -> str:
                assert launcher.poll() is None, (tmp_path / "output").read_text()
                try:
                    url = f"http://{HOST}:{node.metrics}/metrics"
                    with urllib.request.urlopen(url, timeout=10) as answer:
                        text = answer.read().decode()
                except OSError:  # the agent is not up yet
                    return ""
                return text if expected <= numbers(text, tmp_path.name).keys() else ""

            text = awaited(scraped)
            found = numbers(text, tmp_path.name)
            assert all(found[one] >= 1 for one in expected)
            for name in ("incarnation", "rows", "bytes_held", "pushes", "bytes_logged", "lag"):
                assert (name, "server", "server-1") in found
            shown = run(node, "ps", "status", "--address", node.address, "--job", tmp_path.name)
            assert shown.returncode == 0, shown.stderr
            assert "server-1" in shown.stdout
            told = run(
                node, "ps", "status", "--json", "--address", node.address, "--job", tmp_path.name
            )
            servers = json.loads(told.stdout)["servers"]
            assert [one["name"] for one in servers] == ["server-0", "server-1"]
            assert all(one["updates_per_second"] > 0 for one in servers)
            assert all(one["version"] >= found["version", "server", one["name"]] for one in servers)
            (tmp_path / "stop").touch()
            assert launcher.wait(120) == 0
        finally:
            launcher.kill()
            launcher.wait()


def numbers(text: str, job: str) -> dict[tuple[str, str, str], float]:
    """By name, kind and name of who tells it: the metrics of a run, in Prometheus's text."""
    found: dict[tuple[str, str, str], float] = {}
    for name, tags, value in re.findall(
        r"^ray_paramesh_ps_(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE
    ):
        known = dict(re.findall(r'(\w+)="([^"]*)"', tags))
        if known.get("job") == job:
            kind = "server" if "server" in known else "worker"
            found[name, kind, known[kind]] = float(value)
    return found
