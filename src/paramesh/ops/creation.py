"""New Tensors: constants, ranges, triangles; and casts."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_sizes import check_matrix
from paramesh.array_types import Tree
from paramesh.dtype import DType, float32, int64, to_dtype, x64
from paramesh.ops.array import ints
from paramesh.ops.table import (
    Array,
    Dtype,
    alias,
    function,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import Ints, NumberLike, TensorLike
from paramesh.tensor.base import as_value, raw
from paramesh.tensor.promotion import cast as _cast
from paramesh.tensor.promotion import scalar_kind

# fmt: off
__all__ = [
    "zeros", "ones", "full", "fill", "Zeros", "Ones", "Fill", "zeros_like", "ones_like",
    "full_like", "ZerosLike", "OnesLike", "eye", "Eye", "arange", "range", "Range", "linspace",
    "LinSpace", "tril", "triu", "Tril", "Triu", "diag", "Diag", "cast", "Cast",
    "scalar_to_tensor", "ScalarToTensor", "ScalarToArray", "scalar_cast", "ScalarCast",
    "tuple_to_array", "TupleToArray", "meshgrid", "Meshgrid", "identity", "Identity",
]
# fmt: on


def _filled(shape: Ints | TensorLike, value: NumberLike, dtype: DType) -> jax.Array:
    with x64(dtype):
        return jnp.full(ints(shape), raw(value), dtype.np_dtype)


@function
def zeros(size: Ints, dtype: Dtype = None) -> Any:
    """A Tensor of zeros.

    Args:
        size: its shape, or its length.
        dtype: its element type, Float32 if None.
    """
    return _filled(size, 0, dtype or float32)


@function
def ones(size: Ints, dtype: Dtype = None) -> Any:
    """A Tensor of ones.

    Args:
        size: its shape, or its length.
        dtype: its element type, Float32 if None.
    """
    return _filled(size, 1, dtype or float32)


@function
def full(size: Ints, fill_value: NumberLike, *, dtype: Dtype = None) -> Any:
    """A Tensor of one value.

    Args:
        size: its shape, or its length.
        fill_value: a number or a Tensor of shape ().
        dtype: its element type; None: that of the value (int: Int64, float: Float32).
    """
    return _filled(size, fill_value, dtype or _dtype_of(fill_value))


def _dtype_of(value: NumberLike) -> DType:
    given = raw(value)
    return to_dtype((as_value(given) if scalar_kind(given) else given).dtype)


@function
def fill(type: Dtype, shape: Ints, value: NumberLike) -> Any:
    """A Tensor of an element type and a shape, filled with one number."""
    return _filled(shape, value, type or _dtype_of(value))


Zeros = primitive("Zeros", zeros)
Ones = primitive("Ones", ones)
Fill = primitive("Fill", fill)


@function
def zeros_like(input: Array, *, dtype: Dtype = None) -> Any:
    """Zeros of the shape (and, unless `dtype` is given, of the element type) of a Tensor."""
    return _filled(input.shape, 0, dtype or to_dtype(input.dtype))


@function
def ones_like(input: Array, *, dtype: Dtype = None) -> Any:
    """Ones of the shape (and, unless `dtype` is given, of the element type) of a Tensor."""
    return _filled(input.shape, 1, dtype or to_dtype(input.dtype))


@function
def full_like(input: Array, fill_value: NumberLike, *, dtype: Dtype = None) -> Any:
    """One value in the shape (and, unless `dtype` is given, the element type) of a Tensor."""
    return _filled(input.shape, fill_value, dtype or to_dtype(input.dtype))


ZerosLike = primitive("ZerosLike", zeros_like)
OnesLike = primitive("OnesLike", ones_like)


@function
def eye(n: int, m: int | None = None, dtype: Dtype = None) -> Any:
    """Ones on the diagonal of (n, m), zeros elsewhere.

    Args:
        n: rows.
        m: columns; None: n.
        dtype: element type, Float32 if None.
    """
    wanted = dtype or float32
    check_matrix(n, m)
    with x64(wanted):
        return jnp.eye(n, m, dtype=wanted.np_dtype)


Eye = primitive("Eye", eye)


@function
def arange(
    start: NumberLike = 0,
    end: NumberLike | None = None,
    step: NumberLike = 1,
    *,
    dtype: Dtype = None,
) -> Any:
    """Numbers from `start` (inclusive) to `end` (exclusive) in steps: -> (n,).

    Args:
        start: the first number; with `end` None, they go from 0 to `start`.
        end: the first number too far.
        step: from each to the next, not 0.
        dtype: element type; None: Int64 for ints, Float32 for floats.

    Raises:
        TypeError: a bound is known only inside the program, so that the length is not.
    """
    low, high = (0, start) if end is None else (start, end)
    return _steps(low, high, step, dtype)


@function
def range(start: NumberLike, end: NumberLike, step: NumberLike, maxlen: int = 1000000) -> Any:
    """Numbers from `start` (inclusive) to `end` (exclusive) in steps: -> (n,).

    Args:
        start: the first number.
        end: the first number too far.
        step: from each to the next, not 0.
        maxlen: the most numbers there may be.

    Raises:
        ValueError: there are more than `maxlen`.
    """
    numbers = _steps(start, end, step, None)
    if numbers.size > maxlen:
        raise ValueError(f"{numbers.size} numbers are more than maxlen={maxlen}.")
    return numbers


Range = primitive("Range", range, lambda maxlen=1000000: {"maxlen": maxlen})


def _steps(start: NumberLike, end: NumberLike, step: NumberLike, dtype: DType | None) -> jax.Array:
    bounds = [number(value, "a bound of a range") for value in (start, end, step)]
    if bounds[2] == 0:
        raise ValueError("step must not be 0.")
    integral = all(isinstance(b, int) for b in bounds)
    return as_value(np.arange(*bounds), dtype or (int64 if integral else float32))


def number(value: NumberLike, what: str) -> int | float:
    """A python number from a number or a Tensor of one element, known before the program runs.

    Raises:
        TypeError: it is known only inside the program.
    """
    given = raw(value)
    try:
        return given if scalar_kind(given) in ("int", "float", "bool") else given.item()
    except Exception as error:
        raise TypeError(
            f"{what} has to be a number that is known before the program runs, got {given}."
        ) from error


@function
def linspace(start: NumberLike, end: NumberLike, steps: int) -> Any:
    """`steps` numbers (Float32) at equal distances from `start` to `end`, both inclusive."""
    ends = [raw(v) for v in (start, end)]
    dtype = next((to_dtype(v.dtype) for v in ends if not scalar_kind(v)), float32)
    dtype = dtype if dtype.kind == "float" else float32
    with x64(dtype):
        return jnp.linspace(ends[0], ends[1], operator.index(steps), dtype=dtype.np_dtype)


LinSpace = primitive("LinSpace", linspace)


@function
def tril(input: Array, diagonal: int = 0) -> Any:
    """The lower triangle of (..., n, m), zeros above diagonal number `diagonal`."""
    return jnp.tril(input, diagonal)


@function
def triu(input: Array, diagonal: int = 0) -> Any:
    """The upper triangle of (..., n, m), zeros below diagonal number `diagonal`."""
    return jnp.triu(input, diagonal)


def _diagonal(diagonal: int = 0) -> dict[str, Any]:
    return {"diagonal": diagonal}


Tril = primitive("Tril", tril, _diagonal)
Triu = primitive("Triu", triu, _diagonal)


@function
def diag(input: Array) -> Any:
    """The elements on the diagonal of an array of twice as many axes: (n,) -> (n, n).

    Of (n, m) it is (n, m, n, m): element (i, j) stands at (i, j, i, j). The diagonal of a matrix is
    `diag_part`, or `mint.diag`.
    """
    return jnp.diag(input.reshape(-1)).reshape(input.shape * 2)


Diag = primitive("Diag", diag)


@function
def cast(input: Array, dtype: Dtype) -> Any:
    """The values in another element type: (...) -> (...)."""
    return _cast(input, dtype)


Cast = primitive("Cast", cast)


@function
def scalar_to_tensor(input_x: NumberLike, dtype: Dtype = float32) -> Any:
    """A number as a Tensor of shape ()."""
    return as_value(input_x, dtype)


ScalarToTensor = primitive("ScalarToTensor", scalar_to_tensor)
ScalarToArray = alias("ScalarToArray", ScalarToTensor)


@other_function
def scalar_cast(input_x: NumberLike, input_y: Dtype) -> Any:
    """A python number as the python number that an element type holds: (3.7, int32) -> 3."""
    kind = {"bool": bool, "int": int, "uint": int, "float": float}[input_y.kind]
    return kind(number(input_x, "the scalar"))


ScalarCast = primitive("ScalarCast", scalar_cast)


@function
def tuple_to_array(input_x: Sequence[float]) -> Any:
    """A tuple of numbers as a Tensor (n,): ints Int64, floats Float32."""
    return as_value(list(input_x))


TupleToArray = primitive("TupleToArray", tuple_to_array)


@tuple_function
def meshgrid(*inputs: TensorLike | Sequence[TensorLike], indexing: str = "xy") -> Any:
    """Coordinate grids of vectors: n of (d_i,) -> a tuple of n Tensors.

    Args:
        inputs: the vectors, or one tuple of them.
        indexing: `"ij"`: of shape (d_0, d_1, …); `"xy"`: the first two axes exchanged.
    """
    vectors = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], tuple | list) else inputs
    values = [raw(vector) for vector in vectors]
    with x64(*values):
        return tuple(jnp.meshgrid(*values, indexing=indexing))


Meshgrid = primitive("Meshgrid", meshgrid, lambda indexing="xy": {"indexing": indexing})


@other_function
def identity(x: Tree) -> Any:
    """The same values: a Tensor, or a tuple or list of them as it is.

    Scripts set it as the reducer of their gradients where there is one device.
    """
    return x if isinstance(x, tuple | list) else as_value(x)


Identity = primitive("Identity", identity)
