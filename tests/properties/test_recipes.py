"""The invariant of recipes: a slice computed alone is that slice of the full array, bit for bit.

So is what one device computes of a sharded array, and an array that is computed among many others.
"""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh import initializer as inits
from paramesh.dtype import DType, bfloat16, float32, float64
from paramesh.sampling.recipe import Initializer, Recipe, compute_many


class Wavy(Initializer):
    """What a user may write: indices, several draws and arithmetic of all kinds."""

    def draw(self, bits):
        angle = bits.rounded(bits.uniform() * bits.index(0)) + bits.normal(0.5, 2.0)
        return bits.rounded(angle * 0.3) + bits.index(-1).astype(bits.dtype)


class Filled(Initializer):
    """As in MindSpore."""

    def _initialize(self, arr):
        arr[:] = np.random.standard_normal(arr.shape)


EVERY = [
    inits.Zero(),
    inits.One(),
    inits.Constant(-1.7),
    inits.Uniform(5.0),
    inits.Normal(3.0, 1.0),
    inits.TruncatedNormal(1.0, 0.25, -1.0, 2.0),
    inits.XavierNormal(),
    inits.XavierUniform(),
    inits.HeNormal(),
    inits.HeUniform(),
    inits.VarianceScaling(),
    inits.VarianceScaling(2.0, "fan_avg", "uniform"),
    inits.Identity(),
    inits.Dirac(2),
    inits.Sparse(0.3, 1.0),
    inits.Orthogonal(),
    Wavy(),
    Filled(),
]
RANDOM = EVERY[3:6]
FLAT = (37, 61)
KERNEL = (6, 5, 3, 3)


def shape_of(init: Initializer) -> tuple[int, ...]:
    return KERNEL if isinstance(init, inits.Dirac | inits.HeNormal) else FLAT


@functools.cache
def whole(init: Initializer, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Recipe(init, (3, 1), shape, dtype).compute())


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def same(init: Initializer, dtype: DType, shape: tuple[int, ...], index: tuple[slice, ...]) -> None:
    part = np.asarray(Recipe(init, (3, 1), shape, dtype).compute(index))
    expected = whole(init, dtype, shape)[index]
    assert part.shape == expected.shape
    assert bits(part) == bits(expected)


@st.composite
def slices(draw: st.DrawFn, shape: tuple[int, ...], sizes: tuple[tuple[int, ...], ...]):
    """A slice with one of a few shapes (each is compiled once) anywhere in the array."""
    size = draw(st.sampled_from(sizes))
    starts = [draw(st.integers(0, n - m)) for n, m in zip(shape, size, strict=True)]
    return tuple(slice(s, s + m) for s, m in zip(starts, size, strict=True))


@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=str)
@pytest.mark.parametrize("init", EVERY, ids=repr)
@hypothesis.settings(max_examples=3)
@hypothesis.given(data=st.data())
def test_a_slice_alone_is_the_slice_of_the_full_array(init, dtype, data):
    shape = shape_of(init)
    sizes = ((1, 61), (5, 7)) if shape == FLAT else ((2, 5, 3, 3), (3, 2, 3, 1))
    same(init, dtype, shape, data.draw(slices(shape, sizes)))


@pytest.mark.parametrize(
    "init",
    [inits.Uniform(5.0), inits.Normal(3.0, 1.0), inits.TruncatedNormal(1.0, 0.25, -1.0, 2.0)],
    ids=repr,
)
@hypothesis.given(rows=st.integers(0, 37), start=st.integers(0, 37))
def test_any_run_of_rows(init, rows, start):
    # All of these are computed in the program that small arrays share.
    same(init, float32, FLAT, (slice(start, min(start + rows, 37)),))


# Large enough for programs of their own, of sizes that leave remainders in vector loops.
LARGE = (331, 1021)


@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=str)
@pytest.mark.parametrize(
    "init",
    [inits.Uniform(5.0), inits.Normal(3.0, 1.0), inits.TruncatedNormal(1.0, 0.25, -1.0, 2.0)],
    ids=repr,
)
def test_large_and_odd_slices(init, dtype):
    for index in [
        (slice(0, 99),),
        (slice(232, 331),),
        (slice(3, 4),),
        (slice(10, 331), slice(1, 1020)),
        (slice(0, 321), slice(2, 1021)),
        (slice(5, 6), slice(3, 20)),
    ]:
        same(init, dtype, LARGE, index)


@hypothesis.settings(max_examples=10)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1), counter=st.integers(0, 2**63 - 1), start=st.integers(0, 2**40)
)
def test_any_key_and_any_position(seed, counter, start):
    huge = Recipe(inits.Normal(1.0), (seed, counter), (2**40 + 8, 3), float32)
    part = np.asarray(huge.compute((slice(start, start + 8),)))
    again = np.asarray(huge.compute((slice(start + 3, start + 4),)))
    assert np.isfinite(part).all()
    assert bits(part[3:4]) == bits(again)


# The full array is computed alone, at once, on one device; nothing else may differ from it.


@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=str)
@hypothesis.settings(max_examples=5)
@hypothesis.given(data=st.data())
def test_among_many_others_is_the_same(dtype, data):
    # In any order and company, also where arrays of one kind share tables of rows.
    inits_drawn = data.draw(st.lists(st.sampled_from(EVERY), min_size=1, max_size=30))
    recipes = [Recipe(init, (3, 1), shape_of(init), dtype) for init in inits_drawn]
    for one, array in zip(recipes, compute_many(recipes), strict=True):
        assert bits(np.asarray(array)) == bits(whole(one.initializer, dtype, one.shape)), one


@pytest.mark.parametrize("init", RANDOM, ids=repr)
def test_arrays_that_do_not_fit_into_a_table_are_the_same(init):
    # Tables hold 1,024 rows of 1,024 elements: less than a table, exactly one, several, and parts.
    shapes = [(1024, 1023), (5, 7), (1024, 1024), (1025, 1024), (3,), (1733, 1301), (1024, 1024)]
    recipes = [Recipe(init, (3, n), shape, float32) for n, shape in enumerate(shapes)]
    for one, array in zip(recipes, compute_many(recipes), strict=True):
        assert bits(np.asarray(array)) == bits(np.asarray(one.compute())), one


SHARDED: dict[tuple[int, ...], tuple[int, ...]] = {FLAT: (16, 24), KERNEL: (8, 4, 3, 8)}


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("init", EVERY, ids=repr)
def test_over_any_number_of_devices_is_the_same(init, devices):
    shape = SHARDED[shape_of(init)]
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))
    expected = whole(init, float32, shape)
    for spec in (PartitionSpec("x"), PartitionSpec(*[None] * (len(shape) - 1), "x")):
        array = Recipe(init, (3, 1), shape, float32).compute_sharded(NamedSharding(mesh, spec))
        assert len(array.devices()) == devices
        assert bits(np.asarray(array)) == bits(expected)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("init", [*RANDOM, inits.Identity(), Wavy()], ids=repr)
def test_large_arrays_over_any_number_of_devices_are_the_same(init, devices):
    shape = (1024, 96)  # large enough for the program in which every device computes its shard
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))
    array = Recipe(init, (3, 1), shape, float32).compute_sharded(
        NamedSharding(mesh, PartitionSpec(None, "x"))
    )
    assert bits(np.asarray(array)) == bits(whole(init, float32, shape))


@pytest.mark.parametrize("init", RANDOM, ids=repr)
@hypothesis.settings(max_examples=5)
@hypothesis.given(
    start=st.integers(0, 300), odd=st.integers(1, 999), rows=st.sampled_from([1, 2, 3, 31])
)
def test_odd_offsets_in_a_large_array(init, start, odd, rows):
    same(init, float32, LARGE, (slice(start, start + rows), slice(odd, odd + 22)))
