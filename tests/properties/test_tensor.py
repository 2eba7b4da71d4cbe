"""Operators, indexing and item assignment of Tensor against numpy, over all element types.

One shape and its two broadcast forms serve all examples: JAX compiles each operation once for each
shape and element type.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramesh import dtype as dt
from paramesh.tensor import Tensor
from paramesh.tensor.promotion import result_dtype, scalar_dtype

SHAPES = [(2, 3), (3,), (2, 1)]
REAL = [d for d in dt.ALL if not d.is_complex()]

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

small = st.integers(0, 7)  # exact in every element type


def of(shape: tuple[int, ...], dtype: dt.DType) -> st.SearchStrategy[np.ndarray]:
    size = int(np.prod(shape))
    return st.lists(small, min_size=size, max_size=size).map(
        lambda values: np.array(values).reshape(shape).astype(dtype.np_dtype)
    )


@st.composite
def operands(draw: st.DrawFn, dtypes: Any = dt.ALL) -> tuple[np.ndarray, np.ndarray]:
    a = draw(of(draw(st.sampled_from(SHAPES)), draw(st.sampled_from(dtypes))))
    b = draw(of(draw(st.sampled_from(SHAPES)), draw(st.sampled_from(dtypes))))
    return a, b


def meeting(a: np.ndarray, b: np.ndarray) -> dt.DType | None:
    """The element type by MindSpore's table; None if there is none."""
    try:
        return result_dtype(dt.to_dtype(a.dtype), dt.to_dtype(b.dtype))
    except TypeError:
        return None


def by_numpy(fn: Any, name: str, a: np.ndarray, b: np.ndarray, dtype: dt.DType) -> np.ndarray:
    a, b = a.astype(dtype.np_dtype), b.astype(dtype.np_dtype)
    if name == "-" and dtype is dt.bool_:
        return a ^ b
    return fn(a, b)


@pytest.mark.parametrize("name", [*ARITHMETIC, *COMPARISONS])
@given(operands())
@settings(max_examples=25)
def test_operators(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    fn = (ARITHMETIC | COMPARISONS)[name]
    dtype = meeting(a, b)
    if dtype is None:
        with pytest.raises(TypeError, match="no common element type"):
            fn(Tensor(a), Tensor(b))
        return
    if dtype.is_complex() and name in ("<", "<=", ">", ">="):
        return
    out = fn(Tensor(a), Tensor(b))
    expected = by_numpy(fn, name, a, b, dtype)
    assert out.dtype is (dt.bool_ if name in COMPARISONS else dtype)
    np.testing.assert_array_equal(out.asnumpy(), expected)
    mirrored = fn(a, Tensor(b))  # numpy leaves it to the Tensor
    assert type(mirrored) is Tensor
    np.testing.assert_array_equal(mirrored.asnumpy(), expected)


@given(st.sampled_from(dt.ALL), st.sampled_from(dt.ALL), st.sampled_from(dt.ALL))
@settings(max_examples=300)
def test_promotion_is_symmetric_and_keeps_kinds(a: dt.DType, b: dt.DType, c: dt.DType) -> None:
    def meet(x: dt.DType | None, y: dt.DType | None) -> dt.DType | None:
        if x is None or y is None:
            return None
        try:
            return result_dtype(x, y)
        except TypeError:
            return None

    assert meet(a, b) is meet(b, a)
    assert meet(a, a) is a
    assert meet(dt.bool_, a) is a
    both = meet(a, b)
    if both is not None:
        assert meet(both, a) is both  # nothing more is gained by meeting again
        ranks = {"bool": 0, "int": 1, "uint": 1, "float": 2, "complex": 3}
        assert ranks[both.kind] == max(ranks[a.kind], ranks[b.kind])


NUMBERS = st.one_of(
    st.booleans(),
    st.integers(-3, 7),
    st.sampled_from([0.5, -1.0, 3.0]),
    st.sampled_from([1j, 2 - 1j]),
)


@given(of((2, 3), dt.uint8), st.sampled_from(dt.ALL), NUMBERS)
@settings(max_examples=40)
def test_python_numbers(values: np.ndarray, dtype: dt.DType, number: Any) -> None:
    array = values.astype(dtype.np_dtype)
    try:
        expected = scalar_dtype(dtype, type(number).__name__)
    except TypeError:
        with pytest.raises(TypeError, match="does not combine with a python"):
            Tensor(array) + number
        return
    for out in (Tensor(array) + number, number + Tensor(array)):
        assert out.dtype is expected
        wrapped = np.array(number).astype(expected.np_dtype)
        by_hand = array.astype(expected.np_dtype) + wrapped
        np.testing.assert_array_equal(out.asnumpy(), by_hand)


@given(operands(REAL))
@settings(max_examples=25)
def test_division_gives_fractions(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    dtype = meeting(a, b)
    if dtype is None:
        return
    out = Tensor(a) / Tensor(b)
    assert out.dtype is (dtype if dtype.is_floating() else dt.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = a.astype(np.float64) / b.astype(np.float64)
    np.testing.assert_allclose(out.asnumpy().astype(np.float64), expected, rtol=1e-2)


signed = st.integers(-9, 9)


@given(
    st.lists(signed, min_size=6, max_size=6),
    st.lists(signed.filter(bool), min_size=6, max_size=6),
    st.sampled_from([dt.int8, dt.int32, dt.int64, dt.float32, dt.float64]),
)
def test_floor_division_and_remainder_round_down(a: Any, b: Any, dtype: dt.DType) -> None:
    x = np.array(a).reshape(2, 3).astype(dtype.np_dtype)
    y = np.array(b).reshape(2, 3).astype(dtype.np_dtype)
    assert (Tensor(x) // Tensor(y)).tolist() == (x // y).tolist()
    assert (Tensor(x) % Tensor(y)).tolist() == (x % y).tolist()


@given(
    st.lists(small, min_size=6, max_size=6),
    st.lists(small, min_size=6, max_size=6),
    st.sampled_from([d for d in dt.ALL if d.is_integer()] + [dt.bool_]),
)
def test_bitwise(a: Any, b: Any, dtype: dt.DType) -> None:
    x = np.array(a).reshape(2, 3).astype(dtype.np_dtype)
    y = np.array(b).reshape(2, 3).astype(dtype.np_dtype)
    for fn in (operator.and_, operator.or_, operator.xor):
        out = fn(Tensor(x), Tensor(y))
        assert out.dtype is dtype
        assert out.tolist() == fn(x, y).tolist()
    assert (~Tensor(x)).tolist() == (~x).tolist()


# Indexing.

SHAPE = (4, 3)


def axis_index(size: int) -> st.SearchStrategy[Any]:
    bound = st.one_of(st.none(), st.integers(-size - 1, size + 1))
    slices = st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1]))
    return st.one_of(st.integers(-size, size - 1), slices)


@st.composite
def indexes(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["basic", "short", "ellipsis", "array", "arrays", "mask"]))
    if kind == "basic":
        return draw(axis_index(4)), draw(axis_index(3))
    if kind == "short":
        return draw(axis_index(4))
    if kind == "ellipsis":
        return ..., draw(axis_index(3))
    rows = st.lists(st.integers(-4, 3), min_size=2, max_size=2)
    if kind == "array":
        return np.array(draw(rows))
    if kind == "arrays":
        return draw(rows), draw(st.lists(st.integers(-3, 2), min_size=2, max_size=2))
    return np.array(draw(st.lists(st.booleans(), min_size=4, max_size=4)))


VALUES = np.arange(12, dtype=np.int64).reshape(SHAPE) * 2**33


@given(indexes())
@settings(max_examples=40)
def test_indexing(index: Any) -> None:
    out = Tensor(VALUES)[index]
    assert out.dtype is dt.int64
    np.testing.assert_array_equal(out.asnumpy(), VALUES[index])


def without_repeats(index: Any) -> bool:
    """Whether no element is written twice, when the last write decides in numpy alone."""
    counts = np.zeros(SHAPE, int)
    np.add.at(counts, index, 1)
    return bool(counts.max() <= 1)


@given(indexes().filter(without_repeats), st.integers(-(2**40), 2**40))
@settings(max_examples=40)
def test_item_assignment(index: Any, number: int) -> None:
    t, array = Tensor(VALUES), VALUES.copy()
    before = t.value()
    t[index] = number
    array[index] = number
    np.testing.assert_array_equal(t.asnumpy(), array)
    part = np.arange(array[index].size).reshape(array[index].shape)
    t[index] = Tensor(part)
    array[index] = part
    np.testing.assert_array_equal(t.asnumpy(), array)
    np.testing.assert_array_equal(before.asnumpy(), VALUES)


@given(st.integers(0, 1), st.integers(-12, 12))
def test_an_index_out_of_range_is_an_error(axis: int, i: int) -> None:
    t = Tensor(VALUES)
    index = (slice(None),) * axis + (i,)
    if -SHAPE[axis] <= i < SHAPE[axis]:
        assert t[index].tolist() == VALUES[index].tolist()
        return
    with pytest.raises(IndexError, match=f"Index {i} is out of range: axis {axis} has"):
        t[index]
    with pytest.raises(IndexError, match=f"Index {i} is out of range: axis {axis} has"):
        t[index] = 0
