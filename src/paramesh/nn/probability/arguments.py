"""What parameters of distributions and bijectors may be, and their common type.

Source: MindSpore's rules. Parameters of double precision are computed in single precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from paramesh.dtype import DType, float32, float64, int_type, to_dtype, uint_type
from paramesh.tensor.base import Tensor

_INTS = (*int_type, *uint_type)

#: A parameter as it is given: a Tensor, an array, a number, or numbers in lists.
ParameterLike: TypeAlias = Tensor | np.ndarray[Any, Any] | float | Sequence[Any]


def common_dtype(values: Mapping[str, Any], hint: DType | None) -> DType:
    """The float type of parameters: that of the arrays among them, or the hint.

    Args:
        values: parameters by name; numbers, lists and None have no type of their own.
        hint: what is taken without arrays; ints, float64 and None stand for float32.

    Raises:
        TypeError: arrays of different types.
    """
    found: DType | None = None
    for name, value in values.items():
        if not isinstance(value, Tensor | np.ndarray):
            continue
        dtype = value.dtype if isinstance(value, Tensor) else to_dtype(value.dtype)
        if found is not None and dtype != found:
            raise TypeError(f"{name} has dtype {dtype}, the parameters before it have {found}.")
        found = dtype
    wanted = hint if found is None else found
    return float32 if wanted is None or wanted in (*_INTS, float64) else wanted


def as_tensor(owner: str, name: str, value: object, dtype: DType) -> Tensor:
    """A parameter as a Tensor of this type; a Parameter stays itself.

    Raises:
        TypeError: it is neither a number, nor a list or array of numbers.
    """
    if isinstance(value, Tensor):
        return value if value.dtype == dtype else value.astype(dtype)
    if isinstance(value, bool) or not isinstance(value, int | float | list | tuple | np.ndarray):
        raise TypeError(f"{owner}: {name} must be a number, list, array or Tensor, got {value!r}.")
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{owner}: {name} must be of numbers, got {value!r}.")
    return Tensor(array, dtype)


def check_tensor(owner: str, name: str, value: object) -> Tensor:
    """The value, if it is a Tensor.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner}: {name} must be a Tensor, got {value!r}.")
    return value


def check_name(owner: str, name: object) -> str:
    """The name, if it is a text.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(name, str):
        raise TypeError(f"{owner}: name must be a str, got {name!r}.")
    return name


def broadcast_shape(owner: str, values: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape that all parameters have together; None if one is not given.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if any(value is None for value in values.values()):
        return None
    shapes = {k: tuple(np.shape(v)) for k, v in values.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(
            f"{owner}: the parameters' shapes do not fit together: {shapes}."
        ) from None
