"""State with one number for each row of a Parameter; the first axis has the rows."""

from __future__ import annotations

import weakref

import jax.numpy as jnp

from paramesh.array_types import Array
from paramesh.initializer import initializer
from paramesh.initializer.structured import Constant
from paramesh.parameter import Parameter


def mean_squares(g: Array) -> Array:
    """The mean of the squares of each row of (rows, …), as (rows, 1, …)."""
    return jnp.mean(g * g, axis=tuple(range(1, g.ndim)), keepdims=True)


def state_of_rows(optimizer: str, slot: str, param: Parameter, value: float) -> Parameter:
    """The state of a Parameter of shape (rows, …): `slot.NAME` of shape (rows, 1, …).

    Args:
        optimizer: whose state it is, for the error.
        slot: what the state is called.
        param: the Parameter.
        value: what the state starts from.

    Raises:
        ValueError: the Parameter has no axes.
    """
    if not param.shape:
        raise ValueError(
            f"{optimizer}: Parameter '{param.name}' has no axes, and no rows. Put it into "
            "another optimizer."
        )
    shape = (param.shape[0], *[1] * (len(param.shape) - 1))
    init = initializer(Constant(value), shape, param.dtype)
    state = Parameter(init, name=f"{slot}.{param.name}", requires_grad=False)
    state._original = weakref.ref(param)
    return state
