"""Integer strategies: the device matrix of an operator, and which ranks its inputs lie on."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.mesh import all_devices, device_mesh
from paramesh.parallel.layouts.strategy import AxisRule, layout_of, layouts_of, plan_of
from strategies_of_operators import layouts, with_replicas
from type_checks import wrong

MATRICES = [(8, 16), (16, 32)]


def matrix_and_maps(layouts: tuple[Layout, ...]) -> Any:
    assert len({layout.device_matrix for layout in layouts}) == 1
    return layouts[0].device_matrix, [layout.tensor_map for layout in layouts]


# The device matrix and tensor maps of MindSpore's rules, worked out by hand.


@pytest.mark.parametrize(
    ("operator", "shapes", "strategy", "device_num", "matrix", "maps"),
    [
        ("MatMul", MATRICES, ((2, 1), (1, 4)), 8, (2, 1, 4), [(2, 1), (1, 0)]),
        ("MatMul", MATRICES, ((2, 4), (4, 1)), 8, (2, 4, 1), [(2, 1), (1, 0)]),
        ("MatMul", MATRICES, ((1, 1), (1, 1)), 1, (1, 1, 1), [(2, 1), (1, 0)]),
        # Devices that are left over hold replicas, in the last axis.
        ("MatMul", MATRICES, ((2, 1), (1, 2)), 8, (2, 1, 2, 2), [(3, 2), (2, 1)]),
        ("ReLU", [(8, 16)], ((2, 1),), 8, (2, 1, 4), [(2, 1)]),
        (
            "BatchMatMul",
            [(2, 4, 8, 16), (4, 16, 32)],
            ((2, 2, 1, 2), (2, 2, 1)),
            8,
            (2, 2, 1, 2, 1),
            [(4, 3, 2, 1), (3, 1, 0)],
        ),
        (
            "BatchMatMul",
            [(8, 16), (2, 4, 16, 32)],
            ((1, 2), (2, 2, 2, 1)),
            8,
            (2, 2, 1, 2, 1),
            [(2, 1), (4, 3, 1, 0)],
        ),
        ("Add", [(8, 16), (8, 16)], ((2, 4), (2, 4)), 8, (2, 4), [(1, 0), (1, 0)]),
        ("Mul", [(8, 16), (16,)], ((2, 4), (4,)), 8, (2, 4), [(1, 0), (0,)]),
        ("Mul", [(8, 1), (8, 16)], ((2, 1), (2, 4)), 8, (2, 4), [(1, -1), (1, 0)]),
        ("Add", [(8, 16), ()], ((2, 4), ()), 8, (2, 4), [(1, 0), ()]),
        ("BiasAdd", [*MATRICES[:1], (16,)], ((2, 4), (4,)), 8, (2, 4), [(1, 0), (0,)]),
        (
            "Conv2D",
            [(8, 4, 6, 6), (16, 4, 3, 3)],
            ((2, 2, 1, 1), (2, 2, 1, 1)),
            8,
            (2, 2, 1, 1, 2, 1, 1),
            [(6, 5, 4, 3), (2, 5, 1, 0)],
        ),
        (
            "Dense",
            [(8, 16), (32, 16), (32,)],
            ((2, 2), (2, 2), (2,)),
            8,
            (2, 2, 2),
            [(2, 1), (0, 1), (0,)],
        ),
        ("Concat", [(8, 3), (8, 5)], ((8, 1), (8, 1)), 8, (8, 1), [(1, 0), (1, -1)]),
        # Tables of embeddings: by rows, by columns (with replicas first), with the batch.
        ("Gather", [(16, 4), (6, 3)], ((8, 1), (1, 1)), 8, (8, 1, 1, 1), [(3, 2), (1, 0)]),
        ("Gather", [(16, 4), (6, 3)], ((4, 1), (1, 1)), 8, (2, 4, 1, 1, 1), [(3, 2), (1, 0)]),
        ("Gather", [(16, 4), (6, 3)], ((1, 1), (2, 1)), 8, (1, 1, 2, 1, 4), [(4, 3), (2, 1)]),
        ("Gather", [(16, 4), (6, 3)], ((1, 4), (2, 1)), 8, (1, 4, 2, 1), [(3, 2), (1, 0)]),
        ("EmbeddingLookup", [(16, 4), (6, 3)], ((4, 1), (2, 1)), 8, (2, 1, 4, 1), [(1, 0), (3, 2)]),
        # Boxes: MindSpore's matrices, and the axes that it refuses to shard.
        ("IOU", [(8, 4), (8, 4)], ((4, 1), (2, 1)), 8, (4, 1, 2, 1), [(3, 2), (1, 0)]),
        (
            "ROIAlign",
            [(2, 4, 8, 8), (6, 5)],
            ((2, 2, 1, 1), (2, 1)),
            8,
            (2, 2, 2, 1, 1, 1),
            [(5, 4, 2, 1), (3, 0)],
        ),
        (
            "CropAndResize",
            [(2, 8, 8, 4), (6, 4), (6,)],
            ((2, 1, 1, 2), (2, 1), (2,)),
            8,
            (2, 2, 2, 1, 1, 1),
            [(5, 2, 1, 4), (3, 0), (3,)],
        ),
    ],
)
def test_device_matrices(
    operator: str, shapes: Any, strategy: Any, device_num: int, matrix: Any, maps: Any
) -> None:
    found = layouts(operator, shapes, strategy, device_num)
    assert found[0].device_num == device_num
    found_matrix, found_maps = matrix_and_maps(found)
    assert found_matrix == matrix
    assert found_maps == [
        tuple(m if n > 1 else -1 for m, n in zip(expected, shape, strict=True))
        for expected, shape in zip(maps, shapes, strict=True)
    ]


def test_transposed_matrices() -> None:
    shapes = [(16, 8), (32, 16)]
    found = layouts("MatMul", shapes, ((2, 1), (4, 2)), transpose_a=True, transpose_b=True)
    assert matrix_and_maps(found) == ((2, 1, 4), [(2, 1), (0, 2)])


def test_the_output_follows_from_the_inputs() -> None:
    left, _ = layouts("MatMul", MATRICES, ((2, 1), (1, 4)))
    assert left("m", "n").slice_shape((8, 32)) == (4, 8)


def test_which_ranks_hold_what() -> None:
    """MatMul with ((2, 1), (1, 2)) on 8 devices: the device matrix is (2, 1, 2, replicas 2)."""
    left, right = layouts("MatMul", MATRICES, ((2, 1), (1, 2)))
    assert [left.slice_index((8, 16), r)[0].start for r in range(8)] == [0] * 4 + [4] * 4
    assert [right.slice_index((16, 32), r)[1].start for r in range(8)] == [0, 0, 16, 16] * 2
    left, right = with_replicas("MatMul", MATRICES, ((2, 1), (1, 2)), "first")
    assert left.device_matrix == (2, 2, 1, 2)
    assert [left.slice_index((8, 16), r)[0].start for r in range(8)] == [0, 0, 4, 4] * 2
    assert [right.slice_index((16, 32), r)[1].start for r in range(8)] == [0, 16] * 4


@st.composite
def products(draw: st.DrawFn) -> Any:
    """A strategy of a matrix product whose numbers multiply to a divisor of 8."""
    numbers = draw(
        st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3).filter(lambda n: math.prod(n) <= 8)
    )
    return numbers, tuple(n * draw(st.integers(1, 2)) for n in numbers)


@settings(max_examples=15)
@given(products(), st.booleans())
def test_a_sharded_product_is_the_product(case: Any, replicas_first: bool) -> None:
    (m, k, n), (M, K, N) = case
    strategy, shapes = ((m, k), (k, n)), [(M, K), (K, N)]
    replicas = "first" if replicas_first else "last"
    left, right = with_replicas("MatMul", shapes, strategy, replicas)
    assert left.parts == (m, k)
    assert right.parts == (k, n)
    # Ranks that hold the same loop indices hold parts that belong together.
    a, b = np.arange(M * K).reshape(M, K), np.arange(K * N).reshape(K, N)
    out = left("m", "n")
    total = np.zeros((M, N), int)
    for rank in range(8):
        part = a[left.slice_index(a.shape, rank)] @ b[right.slice_index(b.shape, rank)]
        total[out.slice_index(total.shape, rank)] += part
    np.testing.assert_array_equal(total * m * k * n, a @ b * 8)


def test_jax_computes_on_the_layouts_of_a_strategy() -> None:
    mesh = device_mesh()
    left, right = layouts("MatMul", MATRICES, ((2, 1), (1, 4)))
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 9, shape).astype(np.float32) for shape in MATRICES)
    out_sharding = left("m", "n").sharding(mesh)
    x, y = jax.device_put(a, left.sharding(mesh)), jax.device_put(b, right.sharding(mesh))
    out = jax.jit(jnp.matmul, out_shardings=out_sharding)(x, y)
    np.testing.assert_array_equal(out, a @ b)
    ranks = {device: rank for rank, device in enumerate(all_devices())}
    for shard in out.addressable_shards:
        index = left("m", "n").slice_index((8, 32), ranks[shard.device])
        np.testing.assert_array_equal(shard.data, (a @ b)[index])


# One array by itself, and plans.


def test_one_array() -> None:
    assert layout_of((1, 4), (8, 16), 8).device_matrix == (1, 4, 2)
    assert layout_of((1, 4), (8, 16), 8, replicas="first").device_matrix == (2, 1, 4)
    assert layout_of(None, (8, 16), 8).slice_shape((8, 16)) == (1, 16)
    assert layout_of(None, (), 8).replicas() == 8
    assert layout_of((), (), 1).replicas() == 1
    named = Layout((2, 4), ("dp", "mp"))("mp", "dp")
    assert layout_of(named, (8, 16), 8) is named


def test_a_parameter_plan() -> None:
    shapes = {"fc.weight": (16, 8), "fc.bias": (16,)}
    named = Layout((2, 4), ("dp", "mp"))("mp")
    plan = plan_of({"fc.weight": (4, 1), "fc.bias": named}, shapes, 8)
    assert plan["fc.weight"].slice_shape((16, 8)) == (4, 8)
    assert plan["fc.bias"] is named
    assert plan_of(None, shapes, 8) == {}


def test_named_layouts_as_a_strategy() -> None:
    base = Layout((2, 4), ("dp", "mp"))
    named = (base("dp", "None"), base("None", "mp"))
    assert layouts("MatMul", MATRICES, named) == named
    by_numbers = layouts("MatMul", MATRICES, ((2, 1), (1, 4)))
    assert all(a.same_placement(b) for a, b in zip(named, by_numbers, strict=True))


def test_a_custom_axis_rule() -> None:
    mine = AxisRule((("i", "j"), ("j",)), ("j", "i"))
    found = layouts_of(((2, 4), (4,)), [(8, 16), (16,)], 8, "Mine", mine)
    assert matrix_and_maps(found) == ((4, 2), [(0, 1), (1,)])
    with pytest.raises(
        LayoutError, match=r"Mine: the axis rule's inputs .* are not those of shapes"
    ):
        layouts_of(((2,),), [(8,)], 8, "Mine", mine)


# Errors name the operator, the input, the Parameter, the axis and the numbers.


@pytest.mark.parametrize(
    ("strategy", "kind", "message"),
    [
        ([(2, 1), (1, 4)], TypeError, "MatMul: a strategy must be a tuple .* got list"),
        (((2, 1), [1, 4]), TypeError, r"'w': input 1 .*tuple of ints, got \[1, 4\]"),
        (((2, 1), (1, 4.0)), TypeError, r"'w': input 1 .*tuple of ints, got \(1, 4.0\)"),
        (((2, 1), (1, True)), TypeError, "tuple of ints"),
        (((2, 1), None), TypeError, "tuple of ints, got None"),
        (((2, 1), Layout((8,), ("a",))("a", "None")), TypeError, "not both"),
        (((2, 1),), LayoutError, r"strategy \(\(2, 1\),\) has 1 entries, but there are 2 inputs"),
        (
            ((2, 1), (1, 4, 1)),
            LayoutError,
            r"Parameter 'w': input 1 of shape \(16, 32\): strategy \(1, 4, 1\) has 3 entries",
        ),
        (((2, 1), (1, 0)), LayoutError, "splits axis 1 into 0 shards"),
        (((2, 1), (1, -2)), LayoutError, "splits axis 1 into -2 shards"),
        (((3, 1), (1, 1)), LayoutError, r"MatMul: input 0 .*axis 0 has size 8.*3 equal shards"),
        (
            ((2, 2), (4, 1)),
            LayoutError,
            r"input 1 .*strategy \(4, 1\) splits axis 0 into 4 shards.* into 2: \(2, 2\), \(4, 1\)",
        ),
        (((4, 1), (1, 4)), LayoutError, r"needs 16 devices \(m=4 x n=4\), but there are 8"),
        (((1, 1), (1, 32)), LayoutError, r"needs 32 devices \(n=32\)"),
    ],
)
def test_bad_strategies(strategy: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        layouts("MatMul", MATRICES, strategy, names=("", "w"))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: layout_of((4,), (8,), 6, "w"),
            LayoutError,
            r"'w': shape \(8,\): strategy \(4,\) is for 4 devices .*does not divide the 6",
        ),
        (
            lambda: layout_of(Layout((4,), ("a",))("a"), (8,), 8, "w"),
            LayoutError,
            "'w': .* for 4 devices, but there are 8",
        ),
        (
            lambda: layout_of(None, (6,), 4, "w"),
            LayoutError,
            "'w': .*size 6, which strategy .* cannot split into 4",
        ),
        (
            lambda: layout_of((1,), (8,), 8, replicas=wrong("middle")),
            ValueError,
            "'first' or 'last'",
        ),
        (
            lambda: layouts(
                "Add",
                [(8,), (8,)],
                (Layout((8,), ("a",))("a"), Layout((8,), ("a",), [*range(7, -1, -1)])("a")),
            ),
            LayoutError,
            "Add: input 1 .* different orders",
        ),
        (
            lambda: layouts("ReLU", [(6,)], (Layout((8,), ("a",))("a"),)),
            LayoutError,
            "input 0 of ReLU.*size 6",
        ),
        (
            lambda: plan_of({"fc.weigth": (1,), "x": (1,)}, {"fc.weight": (8,)}, 8),
            LayoutError,
            "names fc.weigth, x, but the Parameters here are fc.weight",
        ),
        (lambda: plan_of(wrong([("a", (1,))]), {}, 8), TypeError, "{name: strategy}"),
        (
            lambda: plan_of({"w": (3,)}, {"w": (8,)}, 8),
            LayoutError,
            "'w': .*cannot split into 3",
        ),
    ],
)
def test_other_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
