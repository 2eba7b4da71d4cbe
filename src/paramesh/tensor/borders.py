"""Functions with a kink, whose gradient at the kink is MindSpore's.

Values at a kink are common: what a layer has cut off is exactly 0, images and paddings are 0, and
equal numbers are equally large. The derivative there is a convention. JAX halves a gradient between
equal arguments, and gives |x| the slope 1 at 0. These are MindSpore 2.10's, as measured on a CPU.

All work on raw arrays. An element that is NaN stays NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from paramesh.array_types import ArrayLike


def _real(x: jax.Array) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def absolute(x: jax.Array) -> jax.Array:
    """|x|; the slope at 0 is 0: (...) -> (...)."""
    if not _real(x):
        return jnp.abs(x)
    return x * jax.lax.stop_gradient(jnp.sign(x))


def clipped(x: jax.Array, low: ArrayLike | None = None, high: ArrayLike | None = None) -> jax.Array:
    """X cut to [low, high], None for open; the slope at both ends is 1: shapes broadcast."""
    if not _real(x):
        return jnp.clip(x, low, high)
    if low is not None:
        x = jnp.where(x < low, low, x)
    if high is not None:
        x = jnp.where(x > high, high, x)
    return x


def relu6(x: jax.Array) -> jax.Array:
    """X cut to [0, 6]; the slope is 0 at 0 and 1 at 6: (...) -> (...)."""
    below = jnp.where(x > 6, jnp.asarray(6, x.dtype), x)
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), below)


def hard_swish(x: jax.Array) -> jax.Array:
    """X * relu6(x + 3) / 6; the slope is that of the parabola at -3 and 3: (...) -> (...)."""
    inside = clipped(x, -3.0, 3.0)
    parabola = inside * (inside + 3) / 6
    return jnp.where(x < -3, jnp.zeros((), x.dtype), jnp.where(x > 3, x, parabola))


def leaky(x: jax.Array, alpha: float) -> jax.Array:
    """X above 0, alpha * x below; the slope at 0 is (1 + alpha) / 2: (...) -> (...)."""
    return (jnp.maximum if alpha <= 1 else jnp.minimum)(alpha * x, x)


def larger(a: jax.Array, b: jax.Array) -> jax.Array:
    """The larger number, of which NaN is none; of equal ones the first has the slope 1."""
    return jnp.where((a >= b) | jnp.isnan(b), a, b)


def smaller(a: jax.Array, b: jax.Array) -> jax.Array:
    """The smaller number, of which NaN is none; of equal ones the first has the slope 1."""
    return jnp.where((a <= b) | jnp.isnan(b), a, b)


def _first(
    index: Callable[..., jax.Array], best: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    @functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
    def chosen(x: jax.Array, axis: int, keepdims: bool) -> jax.Array:
        return best(x, axis, keepdims=keepdims)

    @chosen.defjvp
    def _slope(
        axis: int,
        keepdims: bool,
        primals: tuple[jax.Array],
        tangents: tuple[jax.Array],
    ) -> tuple[jax.Array, jax.Array]:
        (x,), (tangent,) = primals, tangents
        # A sum over a mask, and no gather: it stays where the parts of a sharded array are.
        at = index(x, axis, keepdims=True)
        here = jax.lax.broadcasted_iota(at.dtype, x.shape, axis % x.ndim) == at
        slope = jnp.sum(jnp.where(here, tangent, 0), axis, keepdims=keepdims)
        return chosen(x, axis, keepdims), slope

    def first(x: jax.Array, axis: int, keepdims: bool = False) -> jax.Array:
        return (chosen if _real(x) else best)(x, axis, keepdims=keepdims)

    return first


#: The largest element along an axis, of which the first has the whole gradient.
first_largest = _first(jnp.argmax, jnp.max)
#: The smallest element along an axis, of which the first has the whole gradient.
first_smallest = _first(jnp.argmin, jnp.min)
