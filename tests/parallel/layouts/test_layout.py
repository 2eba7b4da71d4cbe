"""Layouts: MindSpore's forms, which rank holds what, and what JAX makes of it."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.sharding import Mesh, PartitionSpec

from paramesh.context import set_auto_parallel_context
from paramesh.dtype import float32
from paramesh.errors import LayoutError
from paramesh.initializer import Normal, initializer
from paramesh.parallel.layouts.layout import Layout, replicated
from paramesh.parallel.layouts.layout_tuple import (
    from_tuple,
    merged,
    plain_map,
    to_nested_tuple,
    to_tuple,
    with_optimizer_shards,
)
from paramesh.parallel.layouts.mesh import (
    all_devices,
    boundaries,
    device_mesh,
    factor_sizes,
    grouping,
    prime_factors,
)
from paramesh.parameter import Parameter
from paramesh.parameter.slicing import rank_slice
from paramesh.sampling.recipe import Recipe

RECORDED = json.loads((Path(__file__).parent / "recorded_layouts.json").read_text())
CUBE = Layout((2, 2, 2), ("dp", "sp", "mp"))


def tuples(value: Any) -> Any:
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@st.composite
def layouts(draw: st.DrawFn, counts: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)) -> Layout:
    """A called layout: any device matrix, any axes on any of up to 3 axes of an array."""
    left = draw(st.sampled_from(counts))
    matrix = []
    while left > 1 or not matrix or (len(matrix) < 4 and draw(st.booleans())):
        size = draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0]))
        matrix.append(size)
        left //= size
        if len(matrix) == 3:
            matrix.append(left)
            break
    names = tuple("abcd"[: len(matrix)])
    ranks = draw(st.none() | st.permutations(range(math.prod(matrix))))
    axes: list[list[str]] = [[] for _ in range(draw(st.integers(0, 3)))]
    for name in draw(st.permutations(names)):
        if axes and draw(st.booleans()):
            axes[draw(st.integers(0, len(axes) - 1))].append(name)
    called = [
        names[0] if len(names) == 1 and draw(st.booleans()) else tuple(names) or "None"
        for names in axes
    ]
    return Layout(tuple(matrix), names, ranks)(*called)


@st.composite
def sharded_arrays(draw: st.DrawFn, counts: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)) -> Any:
    """A layout, and a shape that it fits."""
    layout = draw(layouts(counts))
    return layout, tuple(pieces * draw(st.integers(1, 3)) for pieces in layout.parts)


# MindSpore's forms.


@pytest.mark.parametrize("record", RECORDED["layouts"], ids=lambda r: str(r["axes"]))
def test_to_dict_is_mindspores(record: dict[str, Any]) -> None:
    base = Layout(tuple(record["device_matrix"]), tuple(record["alias_name"]), record["rank_list"])
    layout = base(*tuples(record["axes"]))
    expected = {k: tuples(v) for k, v in record["to_dict"].items()}
    assert layout.to_dict() == expected | {"rank_list": list(expected["rank_list"])}


@pytest.mark.parametrize("record", RECORDED["slices"], ids=lambda r: str(r["tensor_map"]))
def test_ranks_hold_what_mindspore_loads(record: dict[str, Any]) -> None:
    whole = np.arange(math.prod(record["shape"]), dtype=np.float32).reshape(record["shape"])
    layout = Layout.from_tensor_map(record["device_matrix"], record["tensor_map"])
    assert layout.device_num == len(record["by_rank"])
    for rank, part in enumerate(record["by_rank"]):
        np.testing.assert_array_equal(whole[layout.slice_index(whole.shape, rank)], part)


@pytest.mark.parametrize("record", RECORDED["optimizer_shards"], ids=lambda r: f"{r['step']}")
def test_the_parallel_optimizer_shards_as_mindspores(record: dict[str, Any]) -> None:
    whole = np.arange(math.prod(record["shape"]), dtype=np.float32).reshape(record["shape"])
    plain = Layout.from_tensor_map(record["device_matrix"], record["tensor_map"])
    layout = with_optimizer_shards(plain, record["step"], record["size"])
    for rank, part in enumerate(record["by_rank"]):
        np.testing.assert_array_equal(whole[layout.slice_index(whole.shape, rank)], part)


@pytest.mark.parametrize(
    ("matrix", "tensor_map", "step", "size"),
    [
        ((8,), (0,), 1, 2),  # no replicas
        ((2, 4), (0,), 2, 2),  # the ranks 0 and 2 hold different parts
        ((4, 2), (-1,), 3, 2),  # no axis has this step
        ((4, 2), (-1,), 1, 16),  # more than there are
        ((8,), (), 1, 2),  # no axis 0
        ((6,), (-1,), 2, 2),  # 4 does not divide 6
    ],
)
def test_no_such_optimizer_group(matrix: Any, tensor_map: Any, step: int, size: int) -> None:
    with pytest.raises(LayoutError, match=f"'w'.*{size} replicas whose ranks lie {step} apart"):
        with_optimizer_shards(Layout.from_tensor_map(matrix, tensor_map), step, size, "w")


def test_the_golden_layout_of_init_data() -> None:
    legacy = ([8], [0, -1], [2, 4], 0, True, "")
    layout = from_tuple(legacy, (16, 4), "w")
    assert layout.slice_shape((16, 4)) == (2, 4)
    assert to_tuple(layout, (16, 4)) == legacy
    set_auto_parallel_context(device_num=8, global_rank=3)
    param = Parameter(initializer(Normal(), [16, 4], float32), name="w")
    recipe = param._recipe
    assert recipe is not None
    expected = np.asarray(recipe.compute(layout.slice_index((16, 4), 3)))
    assert param.init_data(layout=legacy).asnumpy().tobytes() == expected.tobytes()


def test_a_tuple_of_axes_that_are_no_neighbours_is_nested() -> None:
    axes = Layout((2, 2, 2), ("dp", "sp", "mp"))
    nested = ([2, 2, 2], [(2, 0), -1], [4, 4], 0, True, "")
    assert to_nested_tuple(axes(("dp", "mp"), "None"), (16, 4)) == nested
    assert from_tuple(nested, (16, 4)).same_placement(axes(("dp", "mp"), "None"))
    plain = axes(("dp", "sp"), "None")
    assert to_nested_tuple(plain, (16, 4)) == to_tuple(plain, (16, 4))
    with pytest.raises(LayoutError, match="rank list of its own"):
        to_nested_tuple(Layout((2,), ("dp",), [1, 0])("dp"), (4,), "w")


@given(sharded_arrays())
def test_tuples_agree_with_rank_slice(cut: Any) -> None:
    layout, shape = cut
    groups = [axes for axes in layout.cuts if len(axes) > 1]
    skipped = [math.prod(layout.device_matrix[a[0] : a[-1] + 1]) for a in groups]
    cut_by = [math.prod(layout.device_matrix[axis] for axis in a) for a in groups]
    if not layout.in_order or skipped != cut_by or any(list(a) != sorted(a) for a in groups):
        with pytest.raises(LayoutError, match="'w'"):
            to_tuple(layout, shape, "w")
        return
    legacy = to_tuple(layout, shape, "w")
    assert from_tuple(legacy, shape).same_placement(layout)
    assert from_tuple(legacy).same_placement(layout)
    for rank in range(layout.device_num):
        expected = rank_slice(legacy, shape, rank, "w")
        assert layout.slice_index(shape, rank) == expected


@given(sharded_arrays())
def test_round_trips(cut: Any) -> None:
    layout, _ = cut
    copies = [
        Layout.from_dict(layout.to_dict()),
        Layout.from_dict(json.loads(json.dumps(layout.to_dict()))),
        pickle.loads(pickle.dumps(layout)),
        copy.deepcopy(layout),
        eval(repr(layout), {"Layout": Layout}),
        Layout(layout.device_matrix, layout.alias_name, layout.rank_list)(*layout.axes),
    ]
    for other in copies:
        assert other == layout
        assert hash(other) == hash(layout)
        assert other.same_placement(layout)


def test_a_layout_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CUBE.device_matrix = (8,)  # pyright: ignore
    assert CUBE("dp") == CUBE("dp") != CUBE("sp")
    assert CUBE.tensor_map == ()


def test_equivalent_layouts_are_one_placement() -> None:
    same = [
        CUBE(("dp", "sp"), "None"),
        Layout((4, 2), ("a", "b"))("a", None),
        Layout((4, 1, 2), ("a", "b", "c"))(("a", "b"), "None"),
        Layout((4, 2), ("a", "b"))(("None", "a"), ()),
        Layout((2, 4), ("b", "a"), [0, 2, 4, 6, 1, 3, 5, 7])("a", "None"),
    ]
    for one in same:
        assert all(one.same_placement(other) for other in same)
    for other in (CUBE(("sp", "dp"), "None"), CUBE("None", ("dp", "sp")), CUBE(("dp", "sp"))):
        assert not same[0].same_placement(other)


# Which rank holds which slice.


@given(sharded_arrays())
def test_slices_tile_the_array(cut: Any) -> None:
    layout, shape = cut
    counted = np.zeros(shape, int)
    for rank, index in layout.shards(shape).items():
        counted[index] += 1
        assert counted[index].shape == layout.slice_shape(shape)
        assert index == layout.slice_index(shape, rank)
    assert (counted == layout.replicas()).all()
    assert layout.replicas() * math.prod(layout.parts) == layout.device_num


@settings(max_examples=10)
@given(sharded_arrays((1, 2, 4, 6)), st.integers(0, 2**20))
def test_computed_slices_assemble_to_the_full_array(cut: Any, counter: int) -> None:
    layout, shape = cut
    recipe = Recipe(Normal(0.02), (7, counter), shape, float32)
    whole = np.asarray(recipe.compute())
    assembled = np.empty(shape, np.float32)
    for index in layout.shards(shape).values():
        assembled[index] = recipe.compute(index)
    assert assembled.tobytes() == whole.tobytes()


@settings(max_examples=60)
@given(sharded_arrays((1, 2, 3, 4, 6, 8)), st.booleans())
def test_jax_puts_the_same_slices_on_the_same_devices(cut: Any, with_mesh: bool) -> None:
    layout, shape = cut
    devices = all_devices()[: layout.device_num]
    sharding = layout.sharding(device_mesh(devices) if with_mesh else devices)
    indices = sharding.devices_indices_map(shape)
    for rank, device in enumerate(devices):
        bounds = tuple(
            slice(*part.indices(n)[:2]) for part, n in zip(indices[device], shape, strict=True)
        )
        assert bounds == layout.slice_index(shape, rank)
    assert sharding.shard_shape(shape) == layout.slice_shape(shape)


def test_a_recipe_is_computed_where_the_layout_says() -> None:
    layout = Layout((2, 4), ("dp", "mp"))("mp", "dp")
    recipe = Recipe(Normal(), (3, 4), (8, 6), float32)
    array = recipe.compute_sharded(layout.sharding(device_mesh()))
    whole = np.asarray(recipe.compute())
    ranks = {device: rank for rank, device in enumerate(all_devices())}
    for shard in array.addressable_shards:
        index = layout.slice_index((8, 6), ranks[shard.device])
        assert np.asarray(shard.data).tobytes() == whole[index].tobytes()


# The mesh.


@given(st.integers(1, 500))
def test_prime_factors(number: int) -> None:
    factors = prime_factors(number)
    assert math.prod(factors) == number
    assert all(f > 1 and all(f % d for d in range(2, f)) for f in factors)
    assert sorted(factors, reverse=True) == list(factors)


@given(layouts((2, 4, 8, 16, 32)))
def test_one_mesh_shows_every_matrix_of_a_power_of_two(layout: Layout) -> None:
    sizes = factor_sizes(layout.device_num)
    groups = grouping(sizes, layout.device_matrix)
    assert groups is not None
    assert [axis for group in groups for axis in group] == list(range(len(sizes)))
    made = [math.prod(sizes[axis] for axis in group) for group in groups]
    assert tuple(made) == layout.device_matrix


@given(st.lists(layouts((12,)), min_size=1, max_size=3))
def test_a_mesh_shows_the_matrices_it_was_made_for(some: list[Layout]) -> None:
    matrices = [layout.device_matrix for layout in some]
    steps = sorted({b for matrix in matrices for b in boundaries(matrix)})
    chain = all(high % low == 0 for low, high in itertools.pairwise(steps))
    if not chain:
        with pytest.raises(LayoutError, match="No single mesh of 12 devices shows"):
            factor_sizes(12, matrices)
        return
    sizes = factor_sizes(12, matrices)
    assert all(grouping(sizes, matrix) is not None for matrix in matrices)


def test_the_mesh_of_all_devices() -> None:
    mesh = device_mesh()
    assert dict(mesh.shape) == {"d0": 2, "d1": 2, "d2": 2}
    assert tuple(mesh.devices.flat) == tuple(jax.devices())
    assert dict(device_mesh(jax.devices()[:1]).shape) == {"d0": 1}
    assert factor_sizes(12) == (3, 2, 2)
    assert factor_sizes(12, [(2, 2, 3)]) == (2, 2, 3)
    with pytest.raises(LayoutError, match=r"\(3, 4\) is for 12 devices, but the mesh has 8"):
        factor_sizes(8, [(3, 4)])
    with pytest.raises(LayoutError, match="at least one device"):
        device_mesh([])


def test_shardings_use_the_mesh_they_are_given() -> None:
    mesh = device_mesh()
    assert CUBE(("dp", "sp"), "mp").sharding(mesh).mesh is mesh
    assert CUBE(("dp", "sp"), "mp").sharding(mesh).spec == PartitionSpec(("d0", "d1"), "d2")
    assert CUBE("None", "mp").partition_spec() == PartitionSpec(None, "mp")
    assert CUBE("mp").sharding().mesh.axis_names == ("dp", "sp", "mp")
    named = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
    assert Layout((2, 4), ("dp", "mp"))("mp").sharding(named).spec == PartitionSpec("y")


def test_layouts_that_one_mesh_cannot_show_meet_in_one_program() -> None:
    devices = all_devices()[:6]
    mesh = device_mesh(devices)
    first = Layout((3, 2), ("a", "b"))("a", "b").sharding(mesh)
    second = Layout((2, 3), ("a", "b"))("a", "b").sharding(mesh)
    assert first.mesh is mesh
    assert second.mesh is not mesh
    x = jax.device_put(jnp.arange(36.0).reshape(6, 6), first)
    y = jax.device_put(jnp.ones((6, 6)), second)
    out = jax.jit(lambda x, y: jax.lax.with_sharding_constraint(x + y, second))(x, y)
    np.testing.assert_array_equal(out, np.arange(36.0).reshape(6, 6) + 1)
    assert out.sharding.is_equivalent_to(second, 2)


def test_replicated() -> None:
    layout = replicated(2, 8)
    assert layout.replicas() == 8
    assert layout.slice_shape((3, 5)) == (3, 5)
    assert layout.sharding().is_fully_replicated
    assert replicated(0, 1).slice_index((), 0) == ()


# Errors say what is wrong with what.


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (((2, 2), ("a",)), LayoutError, r"2 sizes \(2, 2\) and 1 names"),
        (((), ()), LayoutError, "at least one axis"),
        (([2, 2], ("a", "b")), TypeError, "device_matrix must be a tuple, got list"),
        (((2, 2), ["a", "b"]), TypeError, "alias_name must be a tuple, got list"),
        (((2, 2.0), ("a", "b")), TypeError, "device_matrix must hold ints, got 2.0"),
        (((2, True), ("a", "b")), TypeError, "device_matrix must hold ints, got True"),
        (((2, 2), ("a", 3)), TypeError, "alias_name must hold str, got 3"),
        (((2, 2), ("a", "a")), LayoutError, "names that differ"),
        (((2, 2), ("a", "")), LayoutError, "not empty"),
        (((2, 2), ("a", "None")), LayoutError, "'None', which means that an axis is not sharded"),
        (((2, 0), ("a", "b")), LayoutError, r"axis 'b' of the device matrix \(2, 0\) has 0"),
        (((2, 2), ("interleaved_parallel", "a")), LayoutError, "must be the last name"),
        (((2, 2), ("a", "b"), [0, 1, 2]), LayoutError, "4 different ranks"),
        (((2, 2), ("a", "b"), [0, 1, 2, 2]), LayoutError, "4 different ranks"),
        (((2, 2), ("a", "b"), [0, 1, 2, -1]), LayoutError, "4 different ranks"),
        (((2, 2), ("a", "b"), "0123"), TypeError, "rank_list must be a list"),
        (((2, 2), ("a", "b"), [0, 1, 2, 3.0]), TypeError, "rank_list must hold ints, got 3.0"),
    ],
)
def test_bad_devices(arguments: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Layout(*arguments)


@pytest.mark.parametrize(
    ("axes", "kind", "message"),
    [
        (("dp", "zz"), LayoutError, r"'zz' \(axis 1 of the array\) is not an axis.*dp, sp, mp"),
        (("dp", "dp"), LayoutError, "'dp' cannot shard both axis 0 and axis 1"),
        ((("dp", "dp"),), LayoutError, "'dp' cannot shard both axis 0 and axis 0"),
        ((["dp"],), TypeError, "axis 0 of the array must be given as a name"),
        ((1,), TypeError, "axis 0 of the array must be given as a name"),
        (((("dp",),),), TypeError, "axis 0 of the array must be given as a name"),
    ],
)
def test_bad_axes(axes: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        CUBE(*axes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: CUBE("dp", ("sp", "mp")).slice_shape((4, 6), "fc.weight"),
            r"'fc.weight': axis 1 of shape \(4, 6\) has size 6.*4 equal shards \(sp=2 x mp=2 of",
        ),
        (
            lambda: CUBE("dp").slice_shape((4, 6), "fc.weight"),
            r"'fc.weight': .*arrays of 1 axes, but the shape is \(4, 6\)\.$",
        ),
        (lambda: CUBE.shards((4, 6)), "Call it with a name or 'None' for each axis"),
        (lambda: CUBE("dp").slice_index((4,), 8, "w"), "'w': .* ranks 0 to 7, but not 8"),
        (
            lambda: Layout((2,), ("a",), [3, 5])("a").slice_index((4,), 0, "w"),
            r"'w': .* ranks \[3, 5\], but not 0",
        ),
        (
            lambda: Layout((2, 2), ("a", "b"))("a").sharding(name="w"),
            "'w': .* for 4 devices, but there are 8",
        ),
        (
            lambda: Layout((2,), ("a",), [3, 5])("a").sharding(jax.devices()[:2], "w"),
            r"'w': .* ranks \[3, 5\], but not 0",
        ),
        (
            lambda: Layout.from_tensor_map((2, 4), (2, -1), name="w"),
            r"'w': tensor map \(2, -1\): entry 2 is no axis of \(2, 4\)",
        ),
        (
            lambda: Layout.from_tensor_map((2, 4), ((1, 0), 0), name="w"),
            "'w': .*entry 0 is used twice",
        ),
        (lambda: Layout.from_dict({"device_matrix": [2]}, "w"), "'w': a layout needs tensor_map"),
        (lambda: from_tuple(([8], [0]), name="w"), "'w': a layout tuple is"),
        (
            lambda: from_tuple(([8], [0], [2], 0, True, "8-1"), name="w"),
            "'w': .*optimizer shard group",
        ),
        (
            lambda: from_tuple(([8], [0, -1], [2, 3]), (16, 4), "w"),
            r"'w': .*slice's shape is \(2, 3\), but .* slices of \(2, 4\)",
        ),
        (lambda: from_tuple(([8], [0, -1], [2]), name="w"), "'w': .*arrays of 2 axes"),
        (
            lambda: merged(CUBE(("sp", "dp")), "w"),
            "'w': .*axes sp, dp shard one axis of the array, but are no neighbours",
        ),
        (lambda: merged(Layout((2,), ("a",), [1, 0])("a"), "w"), "'w': .*rank list of its own"),
    ],
)
def test_errors_name_the_parameter_and_the_axis(call: Any, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        call()


def test_neighbours_are_merged() -> None:
    layout = merged(CUBE(("dp", "sp"), "mp"))
    assert layout == Layout((4, 2), ("dp_sp", "mp"))("dp_sp", "mp")
    assert plain_map(layout) == [1, 0]
    apart = Layout((2, 1, 4), ("a", "b", "c"))(("a", "c"))
    assert merged(apart).same_placement(apart)
