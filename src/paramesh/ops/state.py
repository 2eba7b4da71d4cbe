"""Operators that write Parameters: assignments, and scattering into one.

Each gives the new value as a Tensor. In a compiled program the Parameter becomes one of its
outputs; outside it changes at once. As in `set_data`, a value whose element type comes later in
MindSpore's order than the Parameter's is refused, an earlier one is cast.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import to_dtype, x64
from paramesh.errors import ParameterShapeError
from paramesh.ops.table import Array, function, primitive
from paramesh.parameter import Parameter, check_storable
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import as_value, raw
from paramesh.tensor.promotion import cast, scalar_dtype, scalar_kind

# fmt: off
__all__ = [
    "assign", "assign_add", "assign_sub", "Assign", "AssignAdd", "AssignSub", "scatter_update",
    "scatter_add", "scatter_nd_update", "scatter_nd_add", "ScatterUpdate", "ScatterAdd",
    "ScatterNdUpdate", "ScatterNdAdd",
]
# fmt: on


Index = jax.Array | tuple[jax.Array, ...]


def as_parameter(variable: object) -> Parameter:
    if not isinstance(variable, Parameter):
        raise TypeError(
            f"variable must be a Parameter, which this operator writes, got "
            f"{type(variable).__name__}."
        )
    return variable


def fitting(param: Parameter, value: NumberLike) -> jax.Array:
    """A value in the Parameter's element type; refused if it would lose what it says."""
    given = raw(value)
    kind = scalar_kind(given)
    if kind is not None:
        wanted = scalar_dtype(param.dtype, kind)
        check_storable(param.name, param.dtype, wanted, given)
        return as_value(given, param.dtype)
    check_storable(param.name, param.dtype, to_dtype(given.dtype))
    return cast(given, param.dtype)


def written(param: Parameter, value: jax.Array) -> jax.Array:
    param.assign(value)
    return raw(param)


@function
def assign(variable: Parameter, value: NumberLike) -> Any:
    """Another value for a Parameter, of its shape.

    Args:
        variable: the Parameter.
        value: a Tensor of its shape, or a number for shape ().

    Returns:
        The new value.

    Raises:
        TypeError: `variable` is not a Parameter; ParameterDtypeError: the value's type is refused.
        ParameterShapeError: the value has another shape.
    """
    param = as_parameter(variable)
    return written(param, fitting(param, value))


def _updated(
    variable: Parameter, value: NumberLike, fn: Callable[[Any, Any], jax.Array]
) -> jax.Array:
    param = as_parameter(variable)
    change = fitting(param, value)
    with x64(change):
        if change.ndim and tuple(change.shape) != param.shape:
            raise ParameterShapeError(
                f"Parameter '{param.name}' has shape {param.shape}; the value must have it too, "
                f"or be a number, got {tuple(change.shape)}."
            )
        new = fn(raw(param), change)
    return written(param, new)


@function
def assign_add(variable: Parameter, value: NumberLike) -> Any:
    """A Parameter increased by a value.

    Args:
        variable: the Parameter.
        value: a Tensor of its shape, or a number.

    Returns:
        The new value.

    Raises:
        TypeError: `variable` is not a Parameter; ParameterDtypeError: the value's type is refused.
        ParameterShapeError: the value has another shape.
    """
    return _updated(variable, value, jnp.add)


@function
def assign_sub(variable: Parameter, value: NumberLike) -> Any:
    """A Parameter decreased by a value.

    Args:
        variable: the Parameter.
        value: a Tensor of its shape, or a number.

    Returns:
        The new value.

    Raises:
        TypeError: `variable` is not a Parameter; ParameterDtypeError: the value's type is refused.
        ParameterShapeError: the value has another shape.
    """
    return _updated(variable, value, jnp.subtract)


Assign = primitive("Assign", assign)
AssignAdd = primitive("AssignAdd", assign_add)
AssignSub = primitive("AssignSub", assign_sub)


def _scattered(variable: Parameter, index: Index, updates: NumberLike, how: str) -> jax.Array:
    param = as_parameter(variable)
    change = fitting(param, updates)
    with x64(change):
        new = getattr(raw(param).at[index], how)(change, mode="drop")
    return written(param, new)


@function
def scatter_update(input_x: Parameter, indices: Array, updates: NumberLike) -> Any:
    """Other rows for a Parameter: (n, d), indices (...), updates (..., d).

    Args:
        input_x: the Parameter.
        indices: integers, positions on its first axis; those outside are left out.
        updates: the rows.

    Returns:
        The new value.
    """
    return _scattered(input_x, indices, updates, "set")


@function
def scatter_add(input_x: Parameter, indices: Array, updates: NumberLike) -> Any:
    """Rows added to those of a Parameter: (n, d), indices (...), updates (..., d).

    Args:
        input_x: the Parameter.
        indices: integers, positions on its first axis; those outside are left out.
        updates: the rows; several for one position add up.

    Returns:
        The new value.
    """
    return _scattered(input_x, indices, updates, "add")


def positions(indices: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(indices[..., i] for i in range(indices.shape[-1]))


@function
def scatter_nd_update(input_x: Parameter, indices: Array, updates: NumberLike) -> Any:
    """Other elements for a Parameter at positions (..., k) on its first k axes.

    Args:
        input_x: the Parameter.
        indices: integers; the last axis holds a position; those outside are left out.
        updates: what to put there.

    Returns:
        The new value.
    """
    return _scattered(input_x, positions(indices), updates, "set")


@function
def scatter_nd_add(input_x: Parameter, indices: Array, updates: NumberLike) -> Any:
    """Values added to a Parameter at positions (..., k) on its first k axes.

    Args:
        input_x: the Parameter.
        indices: integers; the last axis holds a position; those outside are left out.
        updates: what to add; several for one position add up.

    Returns:
        The new value.
    """
    return _scattered(input_x, positions(indices), updates, "add")


def locking(use_locking: bool = True) -> dict[str, Any]:
    return {}


ScatterUpdate = primitive("ScatterUpdate", scatter_update, locking)
ScatterAdd = primitive("ScatterAdd", scatter_add, locking)
ScatterNdUpdate = primitive("ScatterNdUpdate", scatter_nd_update, locking)
ScatterNdAdd = primitive("ScatterNdAdd", scatter_nd_add, locking)
