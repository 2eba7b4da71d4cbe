"""All rows of a table leave a server in blocks: what it takes for them besides."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from paramesh.initializer import initializer
from paramesh.ps.deployment import host as hosts
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.deployment.host import Host
from paramesh.ps.server.server import Server
from paramesh.ps.specification.id_range import NO_ID
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.protocol import RunConfig
from server_folders import ADAGRAD, RATE
from type_checks import present

ROWS, WIDTH = 200_000, 2
SPEC = {
    "name": "t",
    "kind": "rows",
    "dtype": "float32",
    "row_shape": [WIDTH],
    "rows": ROWS,
    "optimizer": ADAGRAD,
    "recipe": initial_values_of("t", present(initializer(0.5, (ROWS, WIDTH)).recipe)),
}


def trained(server: Server, rows: int) -> None:
    """Push all rows of a table, in another order than that of their ids, at random places."""
    incarnation = server.hello(0, None)["worker"]
    server.hello(0, incarnation)
    server.declare([SPEC], {})
    order = np.random.default_rng(0).permutation(rows).astype(np.int64)
    for step, ids in enumerate(np.array_split(order, 4)):
        grad = np.ones((len(ids), WIDTH), np.float32)
        server.push(0, incarnation, step, {"t": {"ids": np.sort(ids), "grad": grad}}, RATE)


def test_a_server_takes_the_sorted_ids_once_and_keeps_them_up_to_the_last_block(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, RunConfig())
    trained(server, ROWS)
    after, seen, block = NO_ID, 0, ROWS // 16
    fields: dict[str, Any] = {}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        while seen < ROWS:
            fields, left = server.dump_rows("t", after, block)
            assert left == ROWS - seen
            assert fields["ids"].tolist() == list(range(seen, min(seen + block, ROWS)))
            after, seen = int(fields["ids"][-1]), seen + len(fields["ids"])
        fields.clear()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    of_ids, of_block = 8 * ROWS, block * (8 + 2 * 4 * WIDTH)
    # Two copies of the ids while they are sorted, which of them are rows, and a block.
    assert peak - before < 2 * of_ids + ROWS + 4 * of_block
    assert now - before < of_ids // 2
    server.close()


@pytest.mark.parametrize(("count", "times"), [(ROWS, 0), (300, 2), (100, 2)])
def test_freed_memory_is_given_back_around_a_table_of_several_blocks(
    count: int, times: int, tmp_path: Path
) -> None:
    rows = 600
    given_back: list[bool] = []

    class Watched(Host):
        def watch(self, folder: Path, job: str) -> Any:
            return MagicMock()

        def give_back(self) -> None:
            given_back.append(True)

    async def run() -> int:
        actor = ServerActor(str(tmp_path), {"workers": 1}, host=Watched())
        trained(actor._state(), rows)
        given_back.clear()
        after, seen = NO_ID, 0
        said: list[int] = []
        before = actor._state().dump_rows
        at_first: list[int] = []

        def dump_rows(*asked: Any) -> Any:
            at_first.append(len(given_back))
            return before(*asked)

        actor._state().dump_rows = dump_rows  # type: ignore[method-assign]
        while seen < rows:
            block = (await actor.dump_rows("t", after, count)).values
            after, seen = int(block["ids"][-1]), seen + len(block["ids"])
            said.append(len(given_back))
        assert at_first[0] == (1 if len(said) > 1 else 0)  # before anything is taken for it
        assert said in ([0], [1, *[1] * (len(said) - 2), 2])
        return said[-1]

    assert asyncio.run(run()) == times


def test_freed_memory_is_given_back_while_the_blocks_of_a_table_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, block, row = 600, 60, 2 * 4 * WIDTH
    monkeypatch.setattr(hosts, "PASSED", 2 * block * row)
    given_back: list[int] = []

    class Watched(Host):
        def watch(self, folder: Path, job: str) -> Any:
            return MagicMock()

        def give_back(self) -> None:
            given_back.append(1)

        def give_back_soon(self) -> None:
            given_back.append(0)

    async def run() -> None:
        actor = ServerActor(str(tmp_path), {"workers": 1}, host=Watched())
        actor._state().declare([SPEC], {})
        given_back.clear()
        for first in range(0, rows, block):
            ids = np.arange(first, first + block)
            values = np.ones((block, WIDTH), np.float32)
            await actor.put({"t": {"value": values, "accum": values}}, ids)
        # Each time at the end, since nobody says which block is the last.
        assert given_back == [0, 1, 0] * (rows // block // 2)
        given_back.clear()
        after, said = NO_ID, list[int]()
        for _ in range(rows // block):
            after = int((await actor.dump_rows("t", after, block)).values["ids"][-1])
            said.append(len(given_back))
        assert said == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]

    asyncio.run(run())
