"""All rows of a table go to servers and come from them in blocks: no process has a second copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.client import whole_tables
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.peer import Reply
from paramesh.ps.client.worker import Worker


def blocks(worker: Worker, fields: dict[str, Any], ids: Any) -> list[dict[int, Any]]:
    """What the servers are given, by fan-out: (fields, ids) by server."""
    found: list[dict[int, Any]] = []
    operation = worker.put("t", fields, ids)
    for turn in operation:
        assert {call[0] for call in turn.calls.values()} == {"put"}
        found.append({server: call[1] for server, call in turn.calls.items()})
    return found


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("rows", [0, 1, 10, 11])
def test_every_row_goes_to_its_server_once(
    servers: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_tables, "BLOCK", 5 * (8 + 3 * 4 + 4))
    caller = Caller([1] * servers, rank=0, workers=1, timeout=60.0, clock=lambda: 0.0)
    worker = Worker(caller, 1)
    ids = np.arange(rows) * 7
    fields = {
        "value": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3),
        "row_accum": np.arange(rows, dtype=np.float32)[:, None],
    }
    given = blocks(worker, fields, ids)
    assert len(given) == max(1, -(-rows // 5))
    for turn in given:
        assert sum(len(mine) for _, mine in turn.values()) <= 5
    seen: list[int] = []
    for server in range(servers):
        for pieces, mine in (turn[server] for turn in given):
            assert (worker.partition.servers_of_rows(mine) == server).all()
            seen += mine.tolist()
            assert (pieces["t"]["value"] == fields["value"][mine // 7]).all()
            assert (pieces["t"]["row_accum"] == fields["row_accum"][mine // 7]).all()
    assert sorted(seen) == ids.tolist()


class Servers:
    """What servers answer to `dump_rows`.

    Args:
        parts: by server, its rows.
        steps: fan-outs after which somebody makes a step.
    """

    def __init__(self, parts: list[dict[str, Any]], steps: tuple[int, ...] = ()) -> None:
        self.parts, self.steps = parts, steps
        self.turns = 0
        self.most = 0

    def answers(self, turn: Any) -> dict[int, Reply]:
        self.turns += 1
        version = 5 + sum(step < self.turns for step in self.steps)
        found: dict[int, Reply] = {}
        for server, (method, (name, after, count)) in turn.calls.items():
            assert (method, name) == ("dump_rows", "t")
            left = np.flatnonzero(self.parts[server]["ids"] > after)
            values = {field: rows[left[:count]] for field, rows in self.parts[server].items()}
            self.most = max(self.most, sum(rows.nbytes for rows in values.values()))
            values["left"] = np.array([len(left)])
            found[server] = Reply(1, 1, version, values)
        return found

    def dumped(self, **more: Any) -> dict[str, Any]:
        operation = whole_tables.dump_rows(len(self.parts), "t", **more)
        turn = next(operation)
        while True:
            try:
                turn = operation.send(self.answers(turn))
            except StopIteration as end:
                return end.value


def parts_of(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    everything = np.random.default_rng(0).permutation(1000)[: sum(counts)] - 300
    ids = [np.sort(part) for part in np.split(everything, np.cumsum(counts)[:-1])]
    return [{"ids": mine, "value": np.stack([mine, -mine], 1).astype(np.float32)} for mine in ids]


@pytest.mark.parametrize("counts", [(0,), (17,), (40, 3), (0, 25), (5, 6, 7)])
@pytest.mark.parametrize("one_version", [True, False])
def test_all_rows_are_fetched_in_the_order_of_their_ids(
    counts: tuple[int, ...], one_version: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_tables, "FIRST", 2)
    monkeypatch.setattr(whole_tables, "FETCHED", 4 * 16 * len(counts))
    servers = Servers(parts_of(counts))
    found = servers.dumped(one_version=one_version)
    assert found["ids"].tolist() == sorted(int(i) for part in servers.parts for i in part["ids"])
    assert found["value"].shape == (sum(counts), 2)
    assert (found["value"][:, 0] == found["ids"]).all()
    assert (found["value"][:, 1] == -found["ids"]).all()
    if one_version:
        assert servers.most <= 4 * 16
    else:
        assert servers.turns == 1


def test_a_step_of_another_worker_meanwhile_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_tables, "FIRST", 2)
    servers = Servers(parts_of((17,)), steps=(1,))
    with pytest.raises(ParameterServerError, match="'t' was fetched at version 5 of server 0, and"):
        servers.dumped(one_version=True)
