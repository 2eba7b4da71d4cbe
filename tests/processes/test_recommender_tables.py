"""Bags over tables that take any id, on servers in processes of their own that are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ps
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
    """Two features on one table, one of them of ragged bags, and a layer."""

    def __init__(self, **life: Any) -> None:
        super().__init__()
        pages = ps.Table("pages", None, 4, **life)
        self.features = ps.Features(
            [ps.Feature("seen", pages, "mean"), ps.Feature("now", pages)], joined=True
        )
        self.out = nn.Dense(8, 1)

    def construct(self, given: Any, label: Any) -> Any:
        return ((self.out(self.features(given)).squeeze(1) - label) ** 2).mean()


def batches(steps: int) -> list[tuple[Any, Tensor]]:
    rng = np.random.default_rng(1)
    names = rng.integers(-(2**63) + 1, 2**63, 400)
    found: list[tuple[Any, Tensor]] = []
    for _ in range(steps):
        seen = names[rng.zipf(1.3, 48) % 400]
        pair = Tensor(seen), Tensor(rng.integers(0, 4, 16))
        now = Tensor(names[rng.zipf(1.3, 16) % 400])
        found.append(
            ({"seen": pair, "now": now}, Tensor(rng.standard_normal(16).astype(np.float32)))
        )
    return found


def run(
    life: dict[str, Any], kills: tuple[int, ...] = (), **settings: Any
) -> tuple[list[float], dict[str, bytes], dict[str, Any]]:
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, **settings)
    paramesh.set_seed(0)
    net = Net(**life)
    net.features.put_on_servers()
    step = nn.TrainOneStepCell(net, nn.RowwiseAdam(net.trainable_params(), 0.05))
    losses: list[float] = []
    for number, batch in enumerate(batches(12)):
        session: Any = sessions.running()
        if number in kills:
            os.kill(session.client.stats()[number % 2]["pid"], signal.SIGKILL)
        losses.append(float(step(*batch)))
    session = sessions.running()
    dump = session.client.dump(net.features.table("pages").name)
    report = net.features.row_reports()["pages"]
    return losses, {field: array.tobytes() for field, array in dump.items()}, report


LIFE = {"admit_after": 2, "admit_probability": 0.8, "expire_after": 4}


def test_one_process_and_killed_servers_have_the_same_bits(tmp_path: Path) -> None:
    expected = run(LIFE)
    folder = str(tmp_path / "run")
    assert run(LIFE, (4, 7), server_num=2, timeout=60.0, wal_dir=folder) == expected
    assert all(expected[2][key] for key in ("rows", "admitted", "rejected", "expired"))


def test_capacity_survives_kills(tmp_path: Path) -> None:
    life = LIFE | {"max_rows": 30, "expire_after": 0}
    settings: dict[str, Any] = {"server_num": 2, "timeout": 60.0}
    expected = run(life, wal_dir=str(tmp_path / "plain"), **settings)
    killed = run(life, (5, 8), wal_dir=str(tmp_path / "killed"), **settings)
    assert killed == expected
    assert expected[2]["evicted"] > 0
    assert expected[2]["rows"] <= 30
