"""Type promotion: the common element type of two operands, as in MindSpore, over raw JAX values.

MindSpore promotes by kind first (bool < integer < float < complex) and by width inside a kind: an
integer never widens a float, Int64 + Float16 is Float16. A python number takes the Tensor's
element type unless its kind is higher: an integer Tensor with a python float is Float32, a bool
Tensor with a python int Int64. uint16, uint32 and uint64 promote with themselves and bool only.
Source: areas `promotion.*` of the recorded behaviour of MindSpore 2.10.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from typing import cast as cast_type

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array, HostArray
from paramesh.dtype import (
    DType,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int16,
    int64,
    to_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
    x64,
)

_RANK = {"bool": 0, "int": 1, "uint": 1, "float": 2, "complex": 3}
_NOT_PROMOTED = (uint16, uint32, uint64)


@functools.cache
def result_dtype(a: DType, b: DType) -> DType:
    """The common element type of two Tensors.

    Raises:
        TypeError: one is uint16, uint32 or uint64 and the other neither that nor bool.
    """
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: (_RANK[d.kind], d.itemsize))
    if low is bool_:
        return high
    if low in _NOT_PROMOTED or high in _NOT_PROMOTED:
        raise TypeError(
            f"{a} and {b} have no common element type: UInt16, UInt32 and UInt64 combine with "
            "themselves and Bool only (as in MindSpore). Cast one side, e.g. "
            "x.astype(paramesh.int64)."
        )
    if high.kind == "complex":
        double = float64 in (a, b) or complex128 in (a, b)
        return complex128 if double else complex64
    if high.kind == "float":
        if {low, high} == {float16, bfloat16}:
            return float32
        return high
    if uint8 in (low, high):  # uint8 with a signed integer: the narrowest that holds both
        signed = high if low is uint8 else low
        return signed if signed.itemsize > 1 else int16
    return high


@functools.cache
def scalar_dtype(tensor: DType, kind: str) -> DType:
    """The element type of a Tensor with a python number of `kind` (bool, int, float, complex).

    Raises:
        TypeError: a uint16, uint32 or uint64 Tensor with a float or complex number.
    """
    if _RANK[kind] <= _RANK[tensor.kind]:
        return tensor
    if tensor in _NOT_PROMOTED:
        raise TypeError(
            f"{tensor} does not combine with a python {kind}: cast the Tensor first, "
            "e.g. x.astype(paramesh.float32)."
        )
    if kind == "int":
        return int64
    if kind == "float":
        return float32
    return complex128 if tensor is float64 else complex64


_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool, np.bool_), "bool"),
    ((int, np.integer), "int"),
    ((float, np.floating), "float"),
    ((complex, np.complexfloating), "complex"),
)


def scalar_kind(value: object) -> str | None:
    """`bool`, `int`, `float` or `complex` for a python or numpy number, None for anything else."""
    for types, kind in _KINDS:
        if isinstance(value, types):
            return kind
    return None


def cast(value: Array | HostArray, dtype: DType) -> Array:
    """A raw value in another element type; the value itself if it has it already.

    Complex numbers become real ones by dropping the imaginary part.
    """
    if value.dtype == dtype.np_dtype:
        return cast_type(Array, value)
    with x64(value, dtype):
        array = jnp.asarray(value)
        if array.dtype.kind == "c" and dtype.kind not in ("complex", "bool"):
            array = array.real
        return array.astype(dtype.np_dtype)


def align(a: Any, b: Any) -> tuple[Any, Any]:
    """Two operands, raw arrays or python numbers (not both numbers), in one element type.

    A python number stays one: JAX gives it the array's type.

    Raises:
        TypeError: there is no common element type.
        OverflowError: a python int does not fit the array's integer type.
    """
    if isinstance(a, jax.Array) and isinstance(b, jax.Array) and a.dtype == b.dtype:
        return a, b  # as mostly: in eager code the rest costs as much as a small addition
    kind_b = scalar_kind(b)
    if kind_b is not None:
        dtype = scalar_dtype(to_dtype(a.dtype), kind_b)
        return cast(a, dtype), _as_python(b, kind_b, dtype)
    kind_a = scalar_kind(a)
    if kind_a is not None:
        dtype = scalar_dtype(to_dtype(b.dtype), kind_a)
        return _as_python(a, kind_a, dtype), cast(b, dtype)
    if a.dtype == b.dtype:
        return a, b
    dtype = result_dtype(to_dtype(a.dtype), to_dtype(b.dtype))
    return cast(a, dtype), cast(b, dtype)


_PYTHON_TYPES: dict[str, Any] = {"bool": bool, "float": float, "complex": complex}


def _as_python(value: Any, kind: str, dtype: DType) -> Any:
    # numpy scalars are strongly typed for JAX and would win over the Tensor's element type.
    return _as_int(int(value), dtype) if kind == "int" else _PYTHON_TYPES[kind](value)


def _as_int(number: int, dtype: DType) -> Any:
    if not dtype.is_integer():
        return number if dtype is bool_ else float(number)  # JAX refuses ints beyond 64 bits
    low, high = bounds(dtype)
    if number > high or (number < low and dtype.kind == "int") or number < -high:
        raise OverflowError(
            f"{number} does not fit {dtype} ({low} to {high}): cast the Tensor to a "
            "wider type first."
        )
    if dtype.kind == "uint":
        number &= high  # -1 is 255, as in modular arithmetic
    # JAX takes a larger python int for a 32-bit one that overflows.
    return number if -(2**31) <= number < 2**31 else dtype.np_dtype.type(number)


def bounds(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    bits = 8 * dtype.itemsize
    return (0, 2**bits - 1) if dtype.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_NOTHING = nullcontext()


def broadcasting() -> AbstractContextManager[object]:
    """A context in which operands of different ranks broadcast, as in MindSpore's operators.

    With `jax_numpy_rank_promotion="raise"` JAX rejects that in its own functions; the setting is
    about what a user calls there.
    """
    # The attribute is created at run time, so type checkers do not know it.
    rule = jax.config.jax_numpy_rank_promotion  # pyright: ignore[reportAttributeAccessIssue]
    return _NOTHING if rule == "allow" else jax.numpy_rank_promotion("allow")


def floating(value: Array) -> Array:
    """A raw value for an operation that yields fractions: integers and bool become Float32."""
    if to_dtype(value.dtype).kind in ("float", "complex"):
        return value
    return cast(value, float32)
