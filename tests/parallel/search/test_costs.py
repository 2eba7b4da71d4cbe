"""What the cost model counts: collectives within and between hosts, arithmetic, memory traffic."""

from __future__ import annotations

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paramesh.parallel.search.clusters import put_into_clusters
from paramesh.parallel.search.graph import Graph, graph_of, live
from paramesh.parallel.search.machine import TARGETS, Target, machine
from paramesh.parallel.search.traffic import Traffic
from search_cases import problem

#: A second for 100 bytes between hosts, and for 1000 inside of one.
SLOW = Target("slow network", 1e12, 1e12, 1e3, 1e2, 0.0)


@pytest.mark.parametrize(
    ("sizes", "axes"), [((8,), (0,)), ((2, 4), (0, 1)), ((2, 2, 2), (0, 1, 2))]
)
def test_a_ring_over_two_hosts_crosses_the_network_once(
    sizes: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    on = machine(sizes, SLOW, hosts=2)
    # A device sends 7 shards: 6 to its own host, which has 4 devices for 8 shards, and 1 beyond.
    assert on.sending_seconds("all-gather", axes, 7e3) == pytest.approx(6e3 / 1e3 + 1e3 / 1e2)
    # 3 of its 7 blocks are for its own host.
    assert on.sending_seconds("all-to-all", axes, 7e3) == pytest.approx(3e3 / 1e3 + 4e3 / 1e2)
    assert on.sending_seconds("collective-permute", axes, 1e3) == pytest.approx(1e3 / 1e2)


def test_steps_over_single_axes_add_up_to_one_over_all_of_them() -> None:
    on = machine((2, 4), SLOW, hosts=2)
    apart = on.sending_seconds("all-gather", (0,), 1e3) + on.sending_seconds(
        "all-gather", (1,), 6e3
    )
    assert on.sending_seconds("all-gather", (0, 1), 7e3) == pytest.approx(apart)


def test_within_a_host_all_bytes_go_over_its_links() -> None:
    on = machine((2, 4), SLOW, hosts=2)
    for kind in ("all-reduce", "all-to-all", "collective-permute"):
        assert on.sending_seconds(kind, (1,), 1e3) == pytest.approx(1.0)
    assert machine((8,), SLOW).sending_seconds("all-reduce", (0,), 1e3) == pytest.approx(1.0)


def test_hosts_that_an_axis_does_not_divide_count_as_single_devices() -> None:
    assert machine((3, 2), SLOW, hosts=2).spans == (3, 1)
    assert machine((2, 2, 2), SLOW, hosts=4).spans == (2, 2, 1)
    assert machine((8,), SLOW, hosts=2).spans == (2,)


def test_products_have_the_peak_of_their_element_type() -> None:
    def seconds(dtype: str) -> float:
        x = jax.ShapeDtypeStruct((8192, 8192), dtype)
        found = problem(jax.make_jaxpr(jnp.dot)(x, x), (8,), TARGETS["h100"])
        (node,) = (node for node in found.nodes if node.name == "dot_general")
        return float(np.min(node.seconds))

    flops, peaks = 2.0 * 8192**3 / 8, TARGETS["h100"].peaks
    assert seconds("bfloat16") == pytest.approx(flops / peaks["bfloat16"])
    assert seconds("float32") == pytest.approx(flops / peaks["float32"])


# What passes between devices and their memory.


def moved_by(fn: Any, *shapes: tuple[int, ...]) -> tuple[Traffic, Graph, dict[str, int]]:
    """The traffic of a program, and the bytes of all clusters that begin with an operator."""
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    closed = live(jax.make_jaxpr(fn)(*args))
    graph = graph_of(closed, [f"x{n}" for n in range(len(closed.jaxpr.invars))])
    put_into_clusters(graph)
    traffic = Traffic(graph)
    found: collections.Counter[str] = collections.Counter()
    for members in graph.clusters:
        moved = traffic.moved(members)
        found[graph.operators[members[0]].name] += sum(one.nbytes for one in moved)
    return traffic, graph, dict(found)


def test_exponentials_are_computed_again_for_the_gradient_of_a_softmax() -> None:
    def loss(w: Any, x: Any) -> Any:
        return jax.nn.logsumexp(x @ w, axis=-1).sum()

    rows, words = 64, 4096
    traffic, graph, found = moved_by(jax.grad(loss), (16, words), (rows, 16))
    exps = [op.outputs[0][0] for op in graph.operators if op.name == "exp"]
    assert exps
    assert not any(map(traffic.is_kept, exps))
    # The logits are written once, and read for the largest, the sum and the gradient, which is
    # written and read again.
    logits = rows * words * 4
    assert sum(found.values()) == pytest.approx(6 * logits, rel=0.15)


def test_an_update_reads_each_state_once_and_writes_it_once() -> None:
    def adam(w: Any, m: Any, v: Any, g: Any) -> Any:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - 1e-3 * m / (jnp.sqrt(v) + 1e-8), m, v

    _, _, found = moved_by(adam, *[(128, 64)] * 4)
    assert sum(found.values()) == 7 * 128 * 64 * 4


def test_a_lookup_reads_rows_and_not_the_table() -> None:
    def looked_up(table: Any) -> Any:
        return jnp.take(table, jnp.arange(4) * 3, axis=0, mode="clip")

    _, _, found = moved_by(lambda table, x: looked_up(table * 2.0) * x, (4096, 8), (4, 8))
    assert found["mul"] == 2 * 4096 * 8 * 4 + 3 * 4 * 8 * 4
    assert found["gather"] == 2 * 4 * 8 * 4


def test_sums_that_many_use_are_kept_however_deep_a_network_is() -> None:
    def deep(x: Any, *weights: Any) -> Any:
        for w in weights:
            x = x + jnp.tanh(x @ w)
        return x.sum()

    def per_layer(count: int) -> float:
        found = moved_by(deep, (64, 32), *[(32, 32)] * count)[2]
        return sum(found.values()) / count

    assert per_layer(24) <= 1.02 * per_layer(12)


def test_a_turn_of_a_loop_reads_and_writes_its_slices() -> None:
    def turns(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, row: (c + row, c @ w), x[0], x)[1]

    _, graph, found = moved_by(turns, (16, 8), (8, 8))
    assert graph.outputs
    row = 8 * 4
    assert found["slice of scan"] == found["stack of scan"] == 2 * row
    assert found["carry"] == 0
