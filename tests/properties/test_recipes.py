"""The invariant of recipes: a slice computed alone is that slice of the whole, bit for bit."""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from paramesh import initializer as inits
from paramesh.dtype import DType, bfloat16, float32, float64
from paramesh.recipe import Initializer, Recipe


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
    """A slice with one of a few shapes (each is compiled once) anywhere in the whole."""
    size = draw(st.sampled_from(sizes))
    starts = [draw(st.integers(0, n - m)) for n, m in zip(shape, size, strict=True)]
    return tuple(slice(s, s + m) for s, m in zip(starts, size, strict=True))


@pytest.mark.parametrize("dtype", [float32, float64, bfloat16], ids=str)
@pytest.mark.parametrize("init", EVERY, ids=repr)
@hypothesis.settings(max_examples=3)
@hypothesis.given(data=st.data())
def test_a_slice_alone_is_the_slice_of_the_whole(init, dtype, data):
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
