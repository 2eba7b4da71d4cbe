"""Rows on the worker's device, with servers in processes of their own that are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.ps.integration import session as sessions

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and the processes of its services to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:unclosed:ResourceWarning", "ignore:subprocess .* is still running:ResourceWarning"
    ),
]


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


class Net(nn.Cell):
    """A table and a layer."""

    def __init__(self, cached: int) -> None:
        super().__init__()
        self.item = nn.EmbeddingLookup(10**6, 4, vocab_cache_size=cached)
        self.out = nn.Dense(4, 1)

    def construct(self, items: Any, label: Any) -> Any:
        return ((self.out(self.item(items)) - label) ** 2).mean()


def run(cached: int, kills: bool, **settings: Any) -> tuple[list[float], dict[str, bytes]]:
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, server_num=2, timeout=60.0, **settings)
    paramesh.set_seed(0)
    net = Net(cached)
    net.set_param_ps(init_in_server=True, admit_after=2, expire_after=3)
    step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.05))
    rng = np.random.default_rng(1)
    batches = [
        (Tensor(rng.zipf(1.4, 32) % 10**6), Tensor(rng.standard_normal((32, 1)).astype("f4")))
        for _ in range(12)
    ]
    losses: list[float] = []
    for number, batch in enumerate(batches):
        if number + 1 < len(batches):
            step.prefetch(*batches[number + 1])
        if kills and number in (4, 7):
            session: Any = sessions.running()
            os.kill(session.client.stats()[number % 2]["pid"], signal.SIGKILL)
        losses.append(float(step(*batch)))
    if cached:
        assert net.item.counts()["hits"] > 0
    session = sessions.running()
    return losses, {
        field: array.tobytes()
        for field, array in session.client.dump(net.item.embedding_table.name).items()
    }


@pytest.mark.parametrize("settings", [{"mode": "sync"}, {"mode": "stale", "staleness": 2}])
def test_the_same_bits_with_and_without_a_cache(settings: Any, tmp_path: Path) -> None:
    expected = run(0, False, wal_dir=str(tmp_path / "plain"), **settings)
    assert run(200, True, wal_dir=str(tmp_path / "cached"), **settings) == expected


def test_async_of_one_worker_has_nothing_to_wait_for(tmp_path: Path) -> None:
    expected = run(0, False, wal_dir=str(tmp_path / "plain"), mode="async")
    assert run(200, False, wal_dir=str(tmp_path / "cached"), mode="async") == expected
