"""Bessel functions of the first and second kind, and modified ones of the second kind.

JAX has those of the first modified kind alone. The others are polynomials times what makes them
smooth: near 0 in x², with the logarithm taken out; far from 0 in 1 / x, with the oscillation or the
decay taken out. The polynomials are fitted in Float64 to SciPy's functions when one is first used,
and are exact to some 1e-13. Gradients follow from the derivatives' formulas.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions, chapter 9.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as formulas
import numpy as np
import scipy.special

from paramesh.dtype import to_dtype, x64
from paramesh.ops.table import unary

__all__ = [
    "BesselJ0",
    "BesselJ1",
    "BesselK0",
    "BesselK0e",
    "BesselK1",
    "BesselK1e",
    "BesselY0",
    "BesselY1",
    "bessel_j0",
    "bessel_j1",
    "bessel_k0",
    "bessel_k0e",
    "bessel_k1",
    "bessel_k1e",
    "bessel_y0",
    "bessel_y1",
]

#: Between the two ways to compute J and Y, and K.
_FAR_JY, _FAR_K = 8.0, 2.0
_DEGREE = 26

Fit = Callable[[np.ndarray], np.ndarray]


@functools.cache
def _series(name: str) -> np.ndarray:
    """Chebyshev's coefficients of a smooth part, which is a function of u in [-1, 1]."""
    places = np.cos(np.pi * (np.arange(_DEGREE) + 0.5) / _DEGREE)
    values = _PARTS[name]((places + 1) / 2)
    return np.polynomial.chebyshev.chebfit(places, values, _DEGREE - 1)


def _sum(name: str, t: jax.Array) -> jax.Array:
    """A smooth part at t in [0, 1], by Clenshaw's recurrence."""
    u = 2 * t - 1
    one, two = jnp.zeros_like(u), jnp.zeros_like(u)
    for c in _series(name)[:0:-1]:
        one, two = 2 * u * one - two + c, one
    return u * one - two + _series(name)[0]


def _near(fn: Callable[..., Any], edge: float) -> Fit:
    return lambda t: fn(np.sqrt(t) * edge)


def _oscillation(order: int, second: bool) -> Fit:
    """The slow factors P and Q of J and Y far from 0, as a function of t = (edge / x)²."""

    def fit(t: np.ndarray) -> np.ndarray:
        x = _FAR_JY / np.sqrt(t)
        phase = x - (2 * order + 1) * np.pi / 4
        j, y = scipy.special.jv(order, x), scipy.special.yv(order, x)
        scale = np.sqrt(np.pi * x / 2)
        if second:
            return scale * (y * np.cos(phase) - j * np.sin(phase)) * x
        return scale * (j * np.cos(phase) + y * np.sin(phase))

    return fit


def _y_without_logarithm(order: int) -> Fit:
    def part(x: np.ndarray) -> np.ndarray:
        y, j = scipy.special.yv(order, x), scipy.special.jv(order, x)
        if order == 0:
            return y - 2 / np.pi * np.log(x) * j
        return (y - 2 / np.pi * (np.log(x) * j - 1 / x)) / x

    return _near(part, _FAR_JY)


def _k_without_logarithm(order: int) -> Fit:
    def part(x: np.ndarray) -> np.ndarray:
        if order == 0:
            return scipy.special.k0(x) + np.log(x / 2) * scipy.special.i0(x)
        return (scipy.special.k1(x) - np.log(x / 2) * scipy.special.i1(x) - 1 / x) / x

    return _near(part, _FAR_K)


def _k_without_decay(fn: Callable[..., Any]) -> Fit:
    return lambda t: fn(_FAR_K / t) * np.sqrt(_FAR_K / t)


_PARTS: dict[str, Fit] = {
    "j0": _near(scipy.special.j0, _FAR_JY),
    "j1": _near(lambda x: scipy.special.j1(x) / x, _FAR_JY),
    "y0": _y_without_logarithm(0),
    "y1": _y_without_logarithm(1),
    **{f"p{n}": _oscillation(n, False) for n in (0, 1)},
    **{f"q{n}": _oscillation(n, True) for n in (0, 1)},
    "k0": _k_without_logarithm(0),
    "k1": _k_without_logarithm(1),
    "k0e": _k_without_decay(scipy.special.k0e),
    "k1e": _k_without_decay(scipy.special.k1e),
}


def _in_float64(
    fn: Callable[[jax.Array], jax.Array], derivative: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array], jax.Array]:
    """The function of any floating type: far from 0 Float32 has too few digits for the phase."""

    @jax.custom_jvp
    def call(x: jax.Array) -> jax.Array:
        with x64(to_dtype(np.float64)):
            return fn(x.astype(jnp.float64)).astype(x.dtype)

    def push(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
        (x,), (dx,) = primals, tangents
        with x64(to_dtype(np.float64)):
            slope = derivative(x.astype(jnp.float64)).astype(x.dtype)
        return call(x), slope * dx

    call.defjvp(push)
    return call


def _j(order: int) -> Callable[[jax.Array], jax.Array]:
    def fn(x: jax.Array) -> jax.Array:
        size = jnp.abs(x)
        inside = jnp.minimum(size, _FAR_JY)
        near = _sum(f"j{order}", (inside / _FAR_JY) ** 2)
        near = near * inside if order else near
        found = jnp.where(size < _FAR_JY, near, _far(order, size, jnp.cos, jnp.sin, -1))
        return found * jnp.sign(x) if order else found

    return fn


#: A cosine or a sine.
Wave = Callable[[jax.Array], jax.Array]


def _far(order: int, x: jax.Array, first: Wave, second: Wave, sign: int) -> jax.Array:
    x = jnp.maximum(x, _FAR_JY)
    phase = x - (2 * order + 1) * np.pi / 4
    t = (_FAR_JY / x) ** 2
    parts = _sum(f"p{order}", t) * first(phase) + sign * _sum(f"q{order}", t) / x * second(phase)
    return jnp.sqrt(2 / (np.pi * x)) * parts


def _y(order: int) -> Callable[[jax.Array], jax.Array]:
    def fn(x: jax.Array) -> jax.Array:
        inside = jnp.clip(x, 0, _FAR_JY)
        near = _sum(f"y{order}", (inside / _FAR_JY) ** 2)
        logarithm = jnp.log(inside) * _j(order)(inside)
        if order:
            near = near * inside + 2 / np.pi * (logarithm - 1 / inside)
        else:
            near = near + 2 / np.pi * logarithm
        found = jnp.where(x < _FAR_JY, near, _far(order, x, jnp.sin, jnp.cos, 1))
        return jnp.where(x == 0, -jnp.inf, jnp.where(x < 0, jnp.nan, found))

    return fn


def _k(order: int, scaled: bool) -> Callable[[jax.Array], jax.Array]:
    def fn(x: jax.Array) -> jax.Array:
        inside = jnp.clip(x, 0, _FAR_K)
        near = _sum(f"k{order}", (inside / _FAR_K) ** 2)
        logarithm = jnp.log(inside / 2)
        if order:
            near = near * inside + logarithm * formulas.i1(inside) + 1 / inside
        else:
            near = near - logarithm * formulas.i0(inside)
        outside = jnp.maximum(x, _FAR_K)
        far = _sum(f"k{order}e", _FAR_K / outside) / jnp.sqrt(outside)
        if scaled:
            near = near * jnp.exp(inside)
        else:
            far = far * jnp.exp(-outside)
        found = jnp.where(x < _FAR_K, near, far)
        return jnp.where(x == 0, jnp.inf, jnp.where(x < 0, jnp.nan, found))

    return fn


_j0, _j1, _y0, _y1 = _j(0), _j(1), _y(0), _y(1)
_k0, _k1, _k0e, _k1e = _k(0, False), _k(1, False), _k(0, True), _k(1, True)


def _j1_slope(x: jax.Array) -> jax.Array:
    safe = jnp.where(x == 0, 1, x)
    return jnp.where(x == 0, 0.5, _j0(x) - _j1(x) / safe)


bessel_j0, BesselJ0 = unary(
    "bessel_j0",
    "BesselJ0",
    _in_float64(_j0, lambda x: -_j1(x)),
    "The Bessel function of the first kind of order 0.",
)
bessel_j1, BesselJ1 = unary(
    "bessel_j1",
    "BesselJ1",
    _in_float64(_j1, _j1_slope),
    "The Bessel function of the first kind of order 1.",
)
bessel_y0, BesselY0 = unary(
    "bessel_y0",
    "BesselY0",
    _in_float64(_y0, lambda x: -_y1(x)),
    "The Bessel function of the second kind of order 0; NaN below 0.",
)
bessel_y1, BesselY1 = unary(
    "bessel_y1",
    "BesselY1",
    _in_float64(_y1, lambda x: _y0(x) - _y1(x) / x),
    "The Bessel function of the second kind of order 1; NaN below 0.",
)
bessel_k0, BesselK0 = unary(
    "bessel_k0",
    "BesselK0",
    _in_float64(_k0, lambda x: -_k1(x)),
    "The modified Bessel function of the second kind of order 0; NaN below 0.",
)
bessel_k0e, BesselK0e = unary(
    "bessel_k0e",
    "BesselK0e",
    _in_float64(_k0e, lambda x: _k0e(x) - _k1e(x)),
    "`bessel_k0` times exp(x).",
)
bessel_k1, BesselK1 = unary(
    "bessel_k1",
    "BesselK1",
    _in_float64(_k1, lambda x: -_k0(x) - _k1(x) / x),
    "The modified Bessel function of the second kind of order 1; NaN below 0.",
)
bessel_k1e, BesselK1e = unary(
    "bessel_k1e",
    "BesselK1e",
    _in_float64(_k1e, lambda x: _k1e(x) * (1 - 1 / x) - _k0e(x)),
    "`bessel_k1` times exp(x).",
)
