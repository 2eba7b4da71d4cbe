"""Whole quotients of raw values, exact for integers of any size.

MindSpore's quotient of an integer and 0 is the largest number of the type, the lowest or 0, by the
sign of the integer, as a cast of an infinity or NaN would give. XLA has -1 there.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array, ArrayLike


def floor_divide(a: ArrayLike, b: ArrayLike) -> Array:
    """The quotient, rounded down."""
    if not jnp.issubdtype(jnp.result_type(a, b), jnp.integer):
        return jnp.floor_divide(a, b)
    a, b = _whole(a, b)
    return _by_zero(a, b, jnp.floor_divide(a, jnp.where(b == 0, 1, b)))


def truncate_divide(a: ArrayLike, b: ArrayLike) -> Array:
    """The quotient, rounded towards 0, in the operands' common element type."""
    dtype = jnp.result_type(a, b)
    if not jnp.issubdtype(dtype, jnp.integer):
        return jnp.trunc(jnp.true_divide(a, b)).astype(dtype)
    a, b = _whole(a, b)
    return _by_zero(a, b, jax.lax.div(a, jnp.where(b == 0, jnp.ones_like(b), b)))


def _whole(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    dtype = jnp.result_type(a, b)
    first, second = jnp.broadcast_arrays(jnp.asarray(a, dtype), jnp.asarray(b, dtype))
    return first, second


def _by_zero(a: Array, b: Array, quotient: Array) -> Array:
    # As arrays: a number of 64 bits is refused outside of JAX's 64-bit mode.
    low, none, high = (
        np.array(n, a.dtype) for n in (np.iinfo(a.dtype).min, 0, np.iinfo(a.dtype).max)
    )
    return jnp.where(b == 0, jnp.where(a > 0, high, jnp.where(a < 0, low, none)), quotient)
