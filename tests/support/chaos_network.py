"""What a worker of a chaos run does as a user's script does it: a network and `TrainOneStepCell`.

Dropout, a schedule, a table that is cached on the worker and one that is not, dense layers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import paramesh
from environments import without_virtual_devices
from paramesh import Tensor, context, nn, ops
from paramesh.ps.deployment import connection as clients
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.integration import session as sessions
from paramesh.train import first_step, pending_steps

if TYPE_CHECKING:
    from chaos_worker import Chaos, Job

ROWS, BATCH = 10**9, 16


class Net(nn.Cell):
    """Matrix factorisation with a layer on top."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.EmbeddingLookup(ROWS, 8)
        self.item = nn.EmbeddingLookup(200, 8, vocab_cache_size=100)
        self.hidden, self.dropout = nn.Dense(8, 16), nn.Dropout(p=0.3)
        self.out = nn.Dense(16, 1)

    def construct(self, users: Any, items: Any, label: Any) -> Any:
        both = self.dropout(ops.tanh(self.hidden(self.user(users) * self.item(items))))
        return ((self.out(both) - label) ** 2).mean()


def batches(job: Job, rank: int) -> Iterator[tuple[Tensor, ...]]:
    """The worker's shard of the data, from its top."""
    for step in range(job.steps):
        random = np.random.default_rng([job.seed, step, rank, 3])
        yield (
            Tensor(random.integers(0, ROWS, BATCH)),
            Tensor(random.integers(0, 200, BATCH)),
            Tensor(random.standard_normal((BATCH, 1), np.float32)),
        )


def connect(job: Job, rank: int) -> None:
    """Settings as a script gives them, and planned deaths, which no script can ask for."""
    os.environ |= {"PARAMESH_PS_RANK": str(rank), "PARAMESH_PS_JOB": job.name}
    os.environ |= without_virtual_devices()
    clients.Cluster = functools.partial(Cluster, kills=job.kills)  # type: ignore[misc, assignment]
    context.set_ps_context(
        enable_ps=True,
        server_num=job.servers,
        worker_num=job.workers,
        address=job.address,
        wal_dir=str(job.folder / "servers"),
        mode=job.config["mode"],
        staleness=job.config.get("staleness", 1),
        snapshot_every=job.config.get("snapshot_every", 0),
        standby=int(job.standby),
        timeout=job.timeout,
    )
    paramesh.set_seed(job.seed)


def train(job: Job, rank: int, chaos: Chaos) -> tuple[Any, dict[str, Any]]:
    """All pending steps of this worker; its client, and what its servers have in the end."""
    connect(job, rank)
    net = Net()
    net.set_param_ps(init_in_server=True)
    rate = nn.ExponentialDecayLR(0.05, 0.9, 4)
    step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), rate))
    step.set_train()
    progress = np.memmap(job.folder / "progress", np.int64, "r+", shape=(job.workers,))
    chaos.now = first_step()
    for batch in pending_steps(batches(job, rank)):
        progress[rank] = chaos.now
        loss = float(step(*batch))
        chaos.write(f"loss {chaos.now} {loss.hex()}")
        chaos.at("answered")
        chaos.now += 1
    progress[rank] = job.steps
    session: Any = sessions.running()
    names = sorted(param.name for param in net.trainable_params())
    return session.client, {
        f"{name}.{field}": array
        for name in names
        for field, array in session.client.dump(name).items()
    }
