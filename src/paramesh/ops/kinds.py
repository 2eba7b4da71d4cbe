"""Kinds of arguments: what the table of operators does with each before the computation sees it.

The marks (`Array`, `Operand`, …) are the annotations of an operator's arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from paramesh.dtype import to_dtype, x64
from paramesh.tensor.base import as_value, raw
from paramesh.tensor.promotion import (
    align,
    cast,
    floating,
    result_dtype,
    scalar_dtype,
    scalar_kind,
)


class Kind(Enum):
    """What the table does with an argument; None is always left alone."""

    ARRAY = "same"  # a raw value of the element type that was given
    OPERAND = "promote"  # meets the other operands by MindSpore's promotion; numbers stay numbers
    FLOATING = "float"  # integers and bool become Float32
    ARRAYS = "arrays"  # a tuple of raw values, from a tuple or list of Tensors
    DTYPE = "dtype"  # a DType, from anything that means one


Array = Annotated[Any, Kind.ARRAY]
Operand = Annotated[Any, Kind.OPERAND]
Floating = Annotated[Any, Kind.FLOATING]
Arrays = Annotated[Any, Kind.ARRAYS]
Dtype = Annotated[Any, Kind.DTYPE]


def _array(value: object) -> jax.Array:
    given = raw(value)
    return given if isinstance(given, jax.Array) else as_value(given)


def _floating(value: object) -> jax.Array:
    return floating(_array(value))


def _arrays(values: object) -> tuple[jax.Array, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"expected a tuple or list of Tensors, got {type(values).__name__}.")
    return tuple(_array(value) for value in values)


#: How an argument of each kind becomes what the computation sees.
CONVERT: dict[Kind, Callable[[Any], Any]] = {
    Kind.ARRAY: _array,
    Kind.OPERAND: raw,
    Kind.FLOATING: _floating,
    Kind.ARRAYS: _arrays,
    Kind.DTYPE: to_dtype,
}


#: What an argument of each kind takes, for errors.
TAKEN: dict[Kind, str] = {
    Kind.ARRAY: "a Tensor, an array or a number",
    Kind.OPERAND: "a Tensor, an array or a number",
    Kind.FLOATING: "a Tensor, an array or a number",
    Kind.ARRAYS: "a tuple or list of Tensors",
    Kind.DTYPE: "",  # its own error has more to say
}


def meet(values: Sequence[Any]) -> Sequence[Any]:
    """Operands in their common element type; numbers stay numbers, unless all are."""
    if len(values) == 2 and all(isinstance(v, jax.Array) for v in values):
        return values if values[0].dtype == values[1].dtype else align(*values)
    kinds = [scalar_kind(value) for value in values]
    if values and None not in kinds:
        values = [as_value(values[0]), *values[1:]]
        kinds[0] = None
    if len(values) == 2:
        return align(*values)
    dtypes = [to_dtype(v.dtype) for v, kind in zip(values, kinds, strict=True) if kind is None]
    dtype = functools.reduce(result_dtype, dtypes)
    dtype = functools.reduce(scalar_dtype, filter(None, kinds), dtype)
    with x64(dtype):
        return [
            jnp.asarray(v, dtype.np_dtype) if kind else cast(v, dtype)
            for v, kind in zip(values, kinds, strict=True)
        ]
