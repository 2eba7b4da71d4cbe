"""Rows of steps: requested when their batch is announced, and the way that is the fastest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.ps.client.ways import Way
from paramesh.ps.integration import session as sessions
from server_loops import LoopClient, LoopServer

ROWS, BATCH, STEPS = 50, 10, 7


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


class Net(nn.Cell):
    """Two tables, one looked up twice, one with padding."""

    def __init__(self, cached: int) -> None:
        super().__init__()
        self.user = nn.EmbeddingLookup(10**9, 4, vocab_cache_size=cached)
        self.item = nn.EmbeddingLookup(ROWS, 3, padding_idx=ROWS)
        self.out = nn.Dense(10, 1)

    def construct(self, users: Any, items: Any, label: Any) -> Any:
        rows = (self.user(users), self.item(items), self.item((items * 3) % ROWS))
        return ((self.out(ops.concat(rows, 1)) - label) ** 2).mean()


def batches(steps: int) -> list[tuple[Tensor, ...]]:
    rng = np.random.default_rng(5)
    return [
        (
            Tensor(rng.zipf(1.4, BATCH) % 10**9),
            Tensor(rng.integers(0, ROWS + 1, BATCH).astype(np.int32)),
            Tensor(rng.standard_normal((BATCH, 1)).astype(np.float32)),
        )
        for _ in range(steps)
    ]


class Run:
    """Steps over servers on loops in this process.

    Args:
        folder: of the logs.
        patch: of the test.
        cached: as `vocab_cache_size`.
        trials: as `row_trials`.
        config: of the run.
    """

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        cached: int = 0,
        trials: bool = True,
        **config: Any,
    ) -> None:
        self.servers = [LoopServer(folder / f"server-{n}", **config) for n in range(2)]
        staleness = config.get("staleness", 0)
        eager = config.get("mode") == "async"
        self.client: Any = None

        def connect(settings: dict[str, Any]) -> Any:
            self.client = LoopClient(self.servers, "ray", eager=eager, staleness=staleness)
            return self.client

        patch.setattr(sessions, "connect", connect)
        context.reset_ps_context()
        context.set_ps_context(enable_ps=True, server_num=2, row_trials=trials, **config)
        paramesh.set_seed(2)
        net = Net(cached)
        net.set_param_ps(init_in_server=True)
        optimizer = nn.Adagrad(net.trainable_params(), learning_rate=0.1)
        self.step = nn.TrainOneStepCell(net, optimizer)

    def train(self, listed: list[Any], announced: str = "none") -> list[float]:
        """The losses. `announced`: "none", "right", or "wrong" for another batch than follows."""
        losses: list[float] = []
        for number, batch in enumerate(listed):
            if announced == "right" and number + 1 < len(listed):
                self.step.prefetch(*listed[number + 1])
            elif announced == "wrong":
                self.step.prefetch(*listed[number - 1])
            losses.append(float(self.step(*batch)))
        return losses

    def pulls(self) -> int:
        """Requests for rows to the first server."""
        return self.servers[0].calls.count("pull_tables")

    def close(self) -> None:
        sessions.end()
        for server in self.servers:
            server.close()


@pytest.mark.parametrize(
    "config",
    [{}, {"mode": "stale", "staleness": 1}, {"mode": "async"}],
    ids=["sync", "stale", "async"],
)
def test_announced_rows_are_requested_once_and_change_no_bit(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = batches(STEPS)
    found: dict[str, list[float]] = {}
    for announced in ("none", "right", "wrong"):
        run = Run(tmp_path / announced, monkeypatch, **config)
        found[announced] = run.train(listed, announced)
        asked = run.pulls()
        session = sessions.running()
        assert session is not None
        if announced == "right":
            assert session.rows.ways.way == Way(False, True)
            assert asked == STEPS
        elif announced == "wrong":
            # There is no connection yet that the first announcement could use.
            assert asked == STEPS + STEPS - 1
        run.close()
    assert found["right"] == found["none"] == found["wrong"]


def test_batches_of_two_sizes_have_programs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks for its own rows: the keys of one program are no inputs of another."""
    whole = batches(2)
    halves = [tuple(part[: BATCH // 2] for part in batch) for batch in whole]
    run = Run(tmp_path, monkeypatch)
    losses = run.train([whole[0], halves[0], whole[1], halves[1]])
    assert all(np.isfinite(losses))
    assert len(set(losses)) == 4


def test_ids_that_are_no_rows_are_an_error_of_their_own_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch)
    listed = batches(3)
    wrong = (listed[0][0], Tensor(np.full(BATCH, ROWS + 7, np.int32)), listed[0][2])
    run.train(listed[:2])
    run.step.prefetch(*wrong)
    before = run.pulls()
    run.step(*listed[2])
    assert run.pulls() == before + 1  # its own: nothing is requested ahead
    with pytest.raises(ValueError, match="10 of 10 ids are out of range"):
        run.step(*wrong)
    run.step(*listed[0])
    run.close()


def test_a_trial_turns_off_what_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock says that the cache takes long: it rests, and no bit changes."""
    listed = batches(60)
    run = Run(tmp_path / "plain", monkeypatch)
    expected = run.train(listed)
    run.close()
    run = Run(tmp_path / "cached", monkeypatch, cached=40)
    run.train(listed[:1])
    session = sessions.running()
    assert session is not None
    noted: list[Any] = []
    monkeypatch.setattr(session, "note", lambda event, **facts: noted.append((event, facts)))
    rows = session.rows
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += {True: 9.0, False: 1.0}[rows.ways.way.cached]
        return now

    rows._clock = clock
    found: list[float] = []
    for number, batch in enumerate(listed[1:], 1):
        if number + 1 < len(listed):
            run.step.prefetch(*listed[number + 1])
        found.append(float(run.step(*batch)))
    assert found == expected[1:]
    assert rows.ways.choice == Way(False, True)
    assert session.caches["user.embedding_table"].resting
    assert [event for event, _ in noted] == ["rows"]
    assert noted[0][1]["way"] == "rows ahead"
    assert noted[0][1]["ms"]["cache and rows ahead"] > noted[0][1]["ms"]["rows ahead"]
    hits = run.step.network.user.counts()["hits"]
    run.step(*listed[0])
    assert run.step.network.user.counts()["hits"] == hits
    run.close()


def test_without_trials_everything_stays_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, cached=40, trials=False)
    run.train(batches(4), "right")
    session = sessions.running()
    assert session is not None
    assert session.rows.ways.way == Way(True, True)
    for _ in range(100):
        session.rows.ways.took(1.0)
    assert session.rows.ways.way == Way(True, True)
    assert session.rows.ways.facts() == {}
    run.close()
