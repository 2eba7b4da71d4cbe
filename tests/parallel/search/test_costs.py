"""What the cost model counts: collectives within and between hosts, arithmetic, memory traffic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paramesh.parallel.search.machine import TARGETS, Target, machine
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
