"""The click model by hand in JAX, its tables on the device; see `clicks`.

With "dense" as the second argument without tables: the rows are given.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clicks import (
    ACCUMULATOR,
    BATCH,
    BATCHES,
    BOTTOM,
    FIELDS,
    PAIRS,
    RATE,
    TOP,
    WIDTH,
    Compact,
    batch,
)
from driving import drive

#: Different rows are padded to a multiple, so that few programs are compiled.
STRIDE = 8192


def layers(rng: np.random.Generator, widths: tuple[int, ...]) -> Any:
    return [
        ((rng.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32), np.zeros(o, np.float32))
        for i, o in itertools.pairwise(widths)
    ]


def through(weights: Any, x: Any, last: bool) -> Any:
    for at, (w, b) in enumerate(weights):
        x = x @ w + b
        if last or at < len(weights) - 1:
            x = jax.nn.relu(x)
    return x


def loss(dense: Any, rows: Any, places: Any, numbers: Any, clicked: Any) -> Any:
    bottom, top = dense
    x = through(bottom, numbers, True)
    vectors = rows[places].reshape(FIELDS, BATCH, WIDTH)
    everything = jnp.concatenate([x[:, None], vectors.transpose(1, 0, 2)], 1)
    products = jnp.einsum("bik,bjk->bij", everything, everything)
    z = jnp.concatenate([x, products[:, PAIRS[0], PAIRS[1]]], 1)
    logit = through(top, z, False)[:, 0]
    return jnp.mean(jnp.maximum(logit, 0) - logit * clicked + jnp.log1p(jnp.exp(-jnp.abs(logit))))


def moved(value: Any, sums: Any, grad: Any) -> Any:
    """Adagrad, with the sums as they are after the gradient."""
    return value - RATE * grad / jnp.sqrt(sums)


def _step(state: Any, unique: Any, places: Any, numbers: Any, clicked: Any) -> Any:
    dense, sums, table, table_sums = state
    rows = table[unique]
    given = dense, rows, places, numbers, clicked
    value, (by_dense, by_rows) = jax.value_and_grad(loss, (0, 1))(*given)
    sums = jax.tree.map(lambda total, grad: total + grad * grad, sums, by_dense)
    dense = jax.tree.map(moved, dense, sums, by_dense)
    row_sums = table_sums[unique] + by_rows * by_rows
    table = table.at[unique].set(moved(rows, row_sums, by_rows), mode="drop", unique_indices=True)
    table_sums = table_sums.at[unique].set(row_sums, mode="drop", unique_indices=True)
    return value, (dense, sums, table, table_sums)


def _dense_step(state: Any, rows: Any, numbers: Any, clicked: Any) -> Any:
    dense, sums = state
    places = jnp.arange(len(rows))
    value, (by_dense, by_rows) = jax.value_and_grad(loss, (0, 1))(
        dense, rows, places, numbers, clicked
    )
    sums = jax.tree.map(lambda total, grad: total + grad * grad, sums, by_dense)
    return value, (jax.tree.map(moved, dense, sums, by_dense), sums), by_rows


def dense_alone(dense: Any, rng: np.random.Generator) -> Callable[[int], float]:
    """A step without tables."""
    sums = jax.tree.map(lambda a: np.full_like(a, ACCUMULATOR), dense)
    state = jax.tree.map(jnp.asarray, (dense, sums))
    rows = jnp.asarray((rng.standard_normal((FIELDS * BATCH, WIDTH)) * 0.01).astype(np.float32))
    inputs = [batch(number)[1:] for number in range(BATCHES)]
    step = jax.jit(_dense_step, donate_argnums=0)

    def run(at: int) -> float:
        nonlocal state
        value, state, by_rows = step(state, rows, *inputs[at % BATCHES])
        by_rows.block_until_ready()
        return float(value)

    return run


def main() -> None:
    compact = Compact()
    firsts = np.cumsum([0, *compact.rows[:-1]])[:, None]
    rng = np.random.default_rng(0)
    dense = (layers(rng, BOTTOM), layers(rng, TOP))
    if sys.argv[2:] == ["dense"]:
        drive(dense_alone(dense, rng))
        return
    table = (rng.standard_normal((sum(compact.rows), WIDTH)) * 0.01).astype(np.float32)
    state = jax.tree.map(
        jnp.asarray,
        (
            dense,
            jax.tree.map(lambda a: np.full_like(a, ACCUMULATOR), dense),
            table,
            np.full_like(table, ACCUMULATOR),
        ),
    )
    step = jax.jit(_step, donate_argnums=0)
    inputs: list[Any] = []
    for number in range(BATCHES):
        ids, numbers, clicked = batch(number)
        inputs.append(((compact.places(ids) + firsts).reshape(-1), numbers, clicked))

    def run(at: int) -> float:
        nonlocal state
        places, numbers, clicked = inputs[at % BATCHES]
        unique, inverse = np.unique(places, return_inverse=True)
        padded = np.full(-(-len(unique) // STRIDE) * STRIDE, len(table), np.int32)
        padded[: len(unique)] = unique
        # Places beyond the table are different too.
        padded[len(unique) :] += np.arange(len(padded) - len(unique), dtype=np.int32)
        value, state = step(state, padded, inverse.astype(np.int32), numbers, clicked)
        return float(value)

    drive(run)


if __name__ == "__main__":
    main()
