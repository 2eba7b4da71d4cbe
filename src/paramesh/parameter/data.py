"""What may become the data of a Parameter: when it is made, and when it is given other data."""

from __future__ import annotations

from typing import TypeAlias

import jax
import numpy as np

from paramesh.array_types import Array, HostArray
from paramesh.dtype import DType, float32, int32
from paramesh.errors import ParameterDtypeError
from paramesh.sampling.recipe import Initializer, Recipe
from paramesh.tensor.base import Tensor, as_value
from paramesh.tensor.conversion import DLPackArray
from paramesh.tensor.promotion import bounds, scalar_kind

# MindSpore 1.x's order, with the types that it did not have in it: bfloat16 has the rank of
# float16, and complex numbers are later than all real ones. uint16, uint32 and uint64 have no rank.
_ORDER = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
_RANKS = {name: rank for rank, name in enumerate(_ORDER)}
_RANKS["bfloat16"] = _RANKS["float16"]


#: What a Parameter is made from.
ParameterInput: TypeAlias = (
    Tensor | HostArray | jax.Array | DLPackArray | list[object] | int | float
)


def first_contents(data: ParameterInput, name: str) -> tuple[Array | None, Recipe | None]:
    """(value, None) or (None, recipe) of a new Parameter called `name`.

    Raises:
        TypeError: a Parameter cannot be made from `data`.
        ValueError: a bool, or an int outside Int32.
    """
    if isinstance(data, Tensor):
        recipe = data.recipe
        return (None, recipe) if recipe is not None else (as_value(data), None)
    if isinstance(data, bool):
        raise ValueError(
            f"Parameter '{name}': a bool is not valid data; pass Tensor({data}) for a Bool "
            "Parameter."
        )
    if isinstance(data, int):
        low, high = bounds(int32)
        if not low <= data <= high:
            raise ValueError(
                f"Parameter '{name}': {data} does not fit Int32, the type of a python int; "
                "pass Tensor(number, paramesh.int64)."
            )
        return as_value(data, int32), None
    if isinstance(data, float):
        return as_value(data, float32), None
    if isinstance(data, Initializer):
        raise TypeError(
            f"Parameter '{name}': an Initializer has no shape; "
            f"pass initializer({data!r}, shape, dtype)."
        )
    if isinstance(data, list | jax.Array | np.ndarray):
        return as_value(data), None
    if isinstance(data, DLPackArray):  # of another library
        return as_value(data), None
    raise TypeError(
        f"Parameter '{name}' is made from a Tensor, an initializer(...), an ndarray, a list of "
        f"numbers, an int or a float; got {type(data).__name__} ({data!r})."
    )


def next_contents(data: Tensor | float, name: str, dtype: DType) -> Tensor:
    """What `set_data` was given, as a Tensor; a number in the Parameter's type if it fits.

    Raises:
        TypeError: `data` is neither a Tensor nor a number.
        ParameterDtypeError: an int outside the Parameter's integer type.
    """
    if isinstance(data, Tensor):
        value = data._value
        return data if value is None or isinstance(value, jax.Array) else Tensor(data)
    if isinstance(data, int | float):
        return Tensor(data, dtype if _number_fits(data, name, dtype) else None)
    raise TypeError(
        f"Parameter '{name}': set_data takes a Tensor, an initializer(...), an int or a float, "
        f"got {type(data).__name__}. Wrap arrays and lists: Tensor(data)."
    )


def _number_fits(number: float, name: str, dtype: DType) -> bool:
    kind = scalar_kind(number)
    if dtype.kind == "bool":
        return kind == "bool"
    if not dtype.is_integer():
        return True
    if kind not in ("bool", "int"):
        return False
    low, high = bounds(dtype)
    if not low <= number <= high:
        raise ParameterDtypeError(
            f"Parameter '{name}' is {dtype}; set_data was given {number}, which is outside "
            f"{low} to {high}."
        )
    return True


def check_storable(name: str, here: DType, dtype: DType, data: object = None) -> None:
    """Reject data whose element type cannot be cast without loss, by MindSpore 1.x's order.

    Args:
        name: the Parameter's name.
        here: the Parameter's element type.
        dtype: the data's element type.
        data: the data, for the message.

    Raises:
        ParameterDtypeError: the type comes later in the order than the Parameter's, or is not in
            it.
    """
    if dtype is here:
        return
    mine, theirs = _RANKS.get(here.long_name), _RANKS.get(dtype.long_name)
    if mine is None or theirs is None or theirs >= mine:
        what = f"the number {data!r}" if isinstance(data, int | float) else f"{dtype} data"
        raise ParameterDtypeError(
            f"Parameter '{name}' is {here}; {what} cannot be stored in it without loss. "
            f"Cast it first: data.astype(paramesh.{here.long_name}), or cast the Parameter: "
            f"set_dtype(paramesh.{dtype.long_name})."
        )
