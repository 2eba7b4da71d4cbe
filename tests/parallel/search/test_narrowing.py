"""What TPUs round to bfloat16 before they keep or send it: what only products of Float32 use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.parallel.search.graph import graph_of, live
from paramesh.parallel.search.machine import TARGETS, machine
from paramesh.parallel.search.narrowing import Narrowing
from paramesh.parallel.search.plan import Given, Program, find
from paramesh.parallel.search.resharding import REPLICATED, SUM, sent

HIGHEST = jax.lax.Precision.HIGHEST


def joined(x: Any, w: Any) -> Any:
    return jnp.concatenate([jnp.tanh(x).reshape(8, 16), jnp.tanh(x).T.reshape(8, 16)], 1) @ w


def twice_used(x: Any, w: Any) -> Any:
    h = jnp.tanh(x)
    return h @ w, h + 1.0


def in_a_loop(x: Any, w: Any) -> Any:
    return jax.lax.scan(lambda c, row: (c + row[None] @ w, None), jnp.zeros((1, 8)), jnp.tanh(x))[0]


@pytest.mark.parametrize(
    ("fn", "shapes", "narrow"),
    [
        (lambda x, w: jnp.tanh(x) @ w, ((16, 8), (8, 8)), True),
        (lambda x, w: jnp.dot(jnp.tanh(x), w, precision=HIGHEST), ((16, 8), (8, 8)), False),
        (joined, ((16, 8), (32, 8)), True),
        (twice_used, ((16, 8), (8, 8)), False),
        (in_a_loop, ((16, 8), (8, 8)), True),
        (lambda x, w: (jnp.tanh(x), w), ((16, 8), (8, 8)), False),
    ],
)
def test_what_only_products_use_is_rounded(
    fn: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], narrow: bool
) -> None:
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    graph = graph_of(live(jax.make_jaxpr(fn)(*args)), ["x", "w"])
    found = Narrowing(graph)
    made = [op.outputs[0][0] for op in graph.operators if op.name == "tanh"]
    assert [found.everywhere(tensor) for tensor in made] == [narrow] * len(made)


def test_other_element_types_are_not_rounded() -> None:
    args = [jax.ShapeDtypeStruct((8, 8), dtype) for dtype in ("bfloat16", "bfloat16")]
    graph = graph_of(jax.make_jaxpr(lambda x, w: jnp.tanh(x) @ w)(*args), ["x", "w"])
    assert not any(Narrowing(graph).everywhere(n) for n in range(len(graph.tensors)))


def test_sums_are_sent_in_full_and_what_follows_in_half() -> None:
    on = machine((8,), TARGETS["v5e"])
    assert [one.nbytes for one in sent(on, (0,), (REPLICATED,), 800, narrow=True)] == [350]
    assert [one.nbytes for one in sent(on, (SUM,), (0,), 800, narrow=True)] == [700]


@pytest.mark.parametrize(("target", "part"), [("v5e", 2), ("h100", 1)])
def test_a_plan_for_tpus_gathers_operands_of_products_in_half(target: str, part: int) -> None:
    def step(w: Any, x: Any) -> Any:
        return jnp.mean((x @ w) ** 2)

    args = [jax.ShapeDtypeStruct((size, 64), jnp.float32) for size in (64, 8192)]
    closed = live(jax.make_jaxpr(step)(*args))
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    rows = Given(NamedSharding(mesh, PartitionSpec("d", None)), "the test")
    program = Program(closed, ("w", ""), {}, {0: rows, 1: rows}, tuple(range(8)))
    plan = find(program, TARGETS[target], sizes=(8,))
    gathers = [one.nbytes for one in plan.collectives() if one.kind == "all-gather"]
    assert gathers == [64 * 64 * 4 * 7 / 8 / part]


def test_the_sum_of_a_large_product_is_scattered_in_a_ring_on_tpus() -> None:
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    specs = (PartitionSpec(None, "d"), PartitionSpec("d", None), PartitionSpec("d", None))
    x_lies, w_lies, out_lies = (NamedSharding(mesh, spec) for spec in specs)

    def step(x: Any, w: Any) -> Any:
        return jax.lax.with_sharding_constraint(jnp.tanh(x) @ w, out_lies)

    def sends(summed: int, target: str) -> dict[str, float]:
        shapes = ((8192, summed), (summed, 1024))
        args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        given = {0: Given(x_lies, "the test"), 1: Given(w_lies, "the test")}
        closed = live(jax.make_jaxpr(step)(*args))
        program = Program(closed, ("", ""), {}, given, tuple(range(8)))
        return find(program, TARGETS[target], sizes=(8,)).sent()

    scattered = 8192 * 1024 * 4 * 7 / 8
    # As libtpu compiles it.
    assert sends(8192, "v5e") == {"reduce-scatter": scattered}
    assert sends(16384, "v5e") == {"collective-permute": pytest.approx(scattered * 9 / 7)}
    assert sends(16384, "h100") == {"reduce-scatter": scattered}
