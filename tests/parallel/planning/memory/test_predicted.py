"""What a plan is expected to hold besides its arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.parallel.planning.memory.predicted import passing
from paramesh.parallel.planning.memory.tpu.tiles import in_tiles
from paramesh.parallel.search.machine import TARGETS
from paramesh.parallel.search.plan import Given, Program, find

MIB = 1 << 20


def held(rows: int, target: str) -> float:
    """Bytes that pass in the update of a table of 64 numbers a row, cut by columns over eight."""

    def step(table: Any, ids: Any, updates: Any) -> Any:
        return 0.9 * table + 0.1 * jnp.zeros_like(table).at[ids].add(updates, mode="clip")

    shapes = [((rows, 64), "float32"), ((128,), "int32"), ((128, 64), "float32")]
    closed = jax.make_jaxpr(step)(*[jax.ShapeDtypeStruct(s, d) for s, d in shapes])
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    columns = NamedSharding(mesh, PartitionSpec(None, "d"))
    given = {n: Given(columns, "the test") for n in (0, 2)}
    program = Program(closed, ("table", "", ""), {0: 0}, given, tuple(range(8)))
    return passing(find(program, TARGETS[target], sizes=(8,)))


@pytest.mark.parametrize(
    ("rows", "target", "mib"),
    [
        # As libtpu compiles it: rows of 8 numbers fill 128, in memory where that is no less than
        # what is on the chip, and lie column by column where it is too much.
        (262_144, "v5e", 128),
        (131_072, "v5e", 0),
        (524_288, "v5e", 0),
        # Others keep the 8 numbers.
        (262_144, "h100", 8),
    ],
)
def test_sums_of_updates_of_narrow_rows_are_filled_up_on_tpus(
    rows: int, target: str, mib: int
) -> None:
    assert held(rows, target) / MIB == pytest.approx(mib, abs=0.1)


@pytest.mark.parametrize(
    ("shape", "spec", "more"),
    [
        ((64, 1000), (-1,), 1.024),
        ((32, 64, 64, 8), (0,), 2.0),  # 8 rows of 64 numbers, not 64 of 8
        ((1000, 1), (-1,), 1.024),
        ((64, 1024), (1,), 1.0),
        ((100,), (-1,), 1.0),
    ],
)
def test_arrays_of_tpus_are_filled_up_along_the_better_of_two_orders(
    shape: tuple[int, ...], spec: tuple[int, ...], more: float
) -> None:
    assert in_tiles(1.0, shape, spec, (8,)) == pytest.approx(more)
