"""More elementwise operators, and windows of signals: a table over `jax.numpy` and `jax.scipy`."""

import operator
from collections.abc import Callable
from math import ceil, log2
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as formulas
import numpy as np

from paramesh.dtype import complex128, float32, float64, x64
from paramesh.ops.table import (
    TABLE,
    Array,
    Dtype,
    Floating,
    Kind,
    binary,
    function,
    other_function,
    primitive,
    unary,
)
from paramesh.tensor import borders
from paramesh.tensor.argument_types import NumberLike, RawNumber
from paramesh.tensor.base import Tensor, as_value, raw
from paramesh.tensor.division import truncate_divide
from paramesh.tensor.promotion import cast

_before = set(TABLE)


def _gcd(a: jax.Array, b: jax.Array) -> Any:
    """Euclid's algorithm, for as many turns as two Fibonacci numbers of the type take.

    `jnp.gcd` runs until the last element is done. Then no device can go on by itself.
    """
    if not jnp.issubdtype(jnp.result_type(a, b), jnp.integer):
        raise TypeError(f"whole numbers are expected, got {a.dtype} and {b.dtype}.")
    a, b = jnp.broadcast_arrays(jnp.abs(a), jnp.abs(b))
    turns = ceil(jnp.iinfo(a.dtype).bits / log2((1 + 5**0.5) / 2)) + 1

    def turn(_: RawNumber, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        a, b = pair
        done = b == 0
        return jnp.where(done, a, b), jnp.where(done, 0, a % jnp.where(done, 1, b))

    return jax.lax.fori_loop(0, turns, turn, (a, b))[0]


def _lcm(a: jax.Array, b: jax.Array) -> Any:
    a, b = jnp.abs(a), jnp.abs(b)
    common = _gcd(a, b)
    return jnp.where(common == 0, 0, a * (b // jnp.maximum(common, 1)))


digamma, Digamma = unary(
    "digamma", "Digamma", formulas.digamma, "The logarithmic derivative of the gamma function."
)
lgamma, Lgamma = unary(
    "lgamma", "Lgamma", formulas.gammaln, "The logarithm of the absolute gamma function."
)
erfinv, Erfinv = unary("erfinv", "Erfinv", formulas.erfinv, "The inverse of the error function.")
exp2, Exp2 = unary("exp2", "Exp2", jnp.exp2, "2 to the power of x.")
log10, Log10 = unary("log10", "Log10", jnp.log10, "Logarithm to base 10.")
sinc, Sinc = unary("sinc", "Sinc", jnp.sinc, "sin(pi x) / (pi x), and 1 at 0.")
rad2deg, Rad2Deg = unary("rad2deg", "Rad2Deg", jnp.rad2deg, "Degrees of an angle in radians.")
deg2rad, Deg2Rad = unary("deg2rad", "Deg2Rad", jnp.deg2rad, "Radians of an angle in degrees.")
bessel_i0, BesselI0 = unary(
    "bessel_i0", "BesselI0", formulas.i0, "The modified Bessel function of order 0."
)
bessel_i0e, BesselI0e = unary(
    "bessel_i0e", "BesselI0e", formulas.i0e, "`bessel_i0` times exp(-|x|)."
)
bessel_i1, BesselI1 = unary(
    "bessel_i1", "BesselI1", formulas.i1, "The modified Bessel function of order 1."
)
bessel_i1e, BesselI1e = unary(
    "bessel_i1e", "BesselI1e", formulas.i1e, "`bessel_i1` times exp(-|x|)."
)
tanhshrink, TanhShrink = unary(
    "tanhshrink", "TanhShrink", lambda x: x - jnp.tanh(x), "x - tanh(x)."
)
frac, Frac = unary(
    "frac",
    "Frac",
    lambda x: x - jnp.trunc(x),
    "The part behind the point, with its sign.",
    Kind.ARRAY,
)
rint, Rint = unary(
    "rint", "Rint", jnp.rint, "The nearest integer, the even one of two, as it came.", Kind.ARRAY
)
signbit, Signbit = unary(
    "signbit", "Signbit", jnp.signbit, "Bool: the sign is a minus.", Kind.ARRAY
)
isneginf, IsNegInf = unary("isneginf", "IsNegInf", jnp.isneginf, "Bool: is -infinity.", Kind.ARRAY)
isposinf, IsPosInf = unary("isposinf", "IsPosInf", jnp.isposinf, "Bool: is infinity.", Kind.ARRAY)
isreal, IsReal = unary("isreal", "IsReal", jnp.isreal, "Bool: has no imaginary part.", Kind.ARRAY)
positive, Positive = unary("positive", "Positive", jnp.positive, "x itself.", Kind.ARRAY)
real, Real = unary("real", "Real", jnp.real, "The real part.", Kind.ARRAY)
imag, Imag = unary("imag", "Imag", jnp.imag, "The imaginary part.", Kind.ARRAY)
conj, Conj = unary("conj", "Conj", jnp.conj, "The complex conjugate.", Kind.ARRAY)
angle, Angle = unary("angle", "Angle", jnp.angle, "The angle of a complex number, in radians.")

heaviside, Heaviside = binary(
    "heaviside", "Heaviside", jnp.heaviside, "0 below 0, 1 above, `other` at 0."
)
hypot, Hypot = binary("hypot", "Hypot", jnp.hypot, "sqrt(input² + other²).")
lcm, Lcm = binary("lcm", "Lcm", _lcm, "The least common multiple.")
gcd, Gcd = binary("gcd", "Gcd", _gcd, "The greatest common divisor.")
logaddexp, LogAddExp = binary(
    "logaddexp", "LogAddExp", jnp.logaddexp, "log(exp(input) + exp(other))."
)
logaddexp2, LogAddExp2 = binary(
    "logaddexp2", "LogAddExp2", jnp.logaddexp2, "log2(2 ** input + 2 ** other)."
)
copysign, CopySign = binary(
    "copysign", "CopySign", jnp.copysign, "The size of input with the sign of other."
)
fmax, Fmax = binary(
    "fmax", "Fmax", borders.larger, "The larger of two elements; one that is NaN does not count."
)
fmin, Fmin = binary(
    "fmin", "Fmin", borders.smaller, "The smaller of two elements; one that is NaN does not count."
)


@jax.custom_jvp
def _next_number(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.nextafter(x, y)


_next_number.defjvp(lambda values, moves: (_next_number(*values), moves[0]))  # as in MindSpore


def _next_after(x: RawNumber, y: RawNumber) -> jax.Array:
    dtype = jax.eval_shape(jnp.nextafter, x, y).dtype
    return _next_number(*(a.astype(dtype) for a in jnp.broadcast_arrays(x, y)))


nextafter, NextAfter = binary(
    "nextafter", "NextAfter", _next_after, "The next number from input towards other."
)
ldexp, Ldexp = binary("ldexp", "Ldexp", lambda x, n: x * 2.0**n, "input * 2 ** other.")
truncate_div, TruncateDiv = binary(
    "truncate_div",
    "TruncateDiv",
    truncate_divide,
    "Quotient, rounded towards zero.",
)
truncate_mod, TruncateMod = binary(
    "truncate_mod", "TruncateMod", jnp.fmod, "Remainder of `truncate_div`."
)
xdivy, Xdivy = binary(
    "xdivy",
    "Xdivy",
    lambda x, y: jnp.where(x == 0, 0, x / jnp.where(x == 0, 1, y)),
    "input / other, and 0 where input is 0.",
)


@jax.custom_vjp
def _no_nan_product(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(y == 0, 0, x * y)


# The rule of the operator for what comes back too, as in MindSpore: no 0 times infinity.
_no_nan_product.defvjp(
    lambda x, y: (_no_nan_product(x, y), (x, y)),
    lambda kept, out: (_no_nan_product(out, kept[1]), _no_nan_product(kept[0], out)),
)


@function
def mul_no_nan(x: Array, y: Array) -> Any:
    """Product, and 0 where `y` is 0, whatever `x` is: (...) and (...) -> (...)."""
    dtype = jnp.result_type(x, y)
    return _no_nan_product(*jnp.broadcast_arrays(x.astype(dtype), y.astype(dtype)))


MulNoNan = primitive("MulNoNan", mul_no_nan)
bitwise_left_shift, LeftShift = binary(
    "bitwise_left_shift", "LeftShift", jnp.left_shift, "Bits moved to the left."
)
bitwise_right_shift, RightShift = binary(
    "bitwise_right_shift", "RightShift", jnp.right_shift, "Bits moved to the right."
)
igamma, Igamma = binary(
    "igamma", "Igamma", formulas.gammainc, "The lower regularised gamma function."
)
igammac, Igammac = binary(
    "igammac", "Igammac", formulas.gammaincc, "The upper regularised gamma function."
)
zeta, Zeta = binary("zeta", "Zeta", formulas.zeta, "Hurwitz' zeta function.")


@function
def logit(input: Floating, eps: float | None = None) -> Any:
    """log(x / (1 - x)), elementwise; with `eps`, of x cut to [eps, 1 - eps]."""
    if eps is not None and eps >= 0:
        input = jnp.clip(input, eps, 1 - eps)
    return jnp.log(input / (1 - input))


Logit = primitive("Logit", logit, lambda eps=-1.0: {"eps": eps})


@function
def float_power(input: Array, exponent: Array) -> Any:
    """Input to the power of exponent, in Float64 (Complex128 of complex numbers)."""
    wide = complex128 if jnp.iscomplexobj(input) or jnp.iscomplexobj(exponent) else float64
    with x64(wide):
        return jnp.power(cast(input, wide), cast(exponent, wide))


@function
def polar(abs: Floating, angle: Floating) -> Any:
    """Complex numbers of these sizes and angles: (...) and (...) -> (...)."""
    return jax.lax.complex(abs * jnp.cos(angle), abs * jnp.sin(angle))


@function
def complex_of(real: Floating, imag: Floating) -> Any:
    """Complex numbers of these parts: (...) and (...) -> (...)."""
    return jax.lax.complex(*jnp.broadcast_arrays(real, imag))


Polar = primitive("Polar", polar)
Complex = primitive("Complex", complex_of)


@function
def view_as_real(input: Array) -> Any:
    """Real and imaginary parts along a new last axis: (...) -> (..., 2)."""
    return jnp.stack([input.real, input.imag], -1)


@function
def softmin(x: Floating, axis: int = -1, *, dtype: Dtype = None) -> Any:
    """The softmax of -x along an axis."""
    return jax.nn.softmax(-(x if dtype is None else x.astype(dtype.np_dtype)), axis)


@function
def sgn(input: Array) -> Any:
    """-1, 0 or 1 by the sign; of complex numbers z / |z|, and 0 of 0."""
    return jnp.sign(input)


@function
def polygamma(n: NumberLike, input: Floating) -> Any:
    """The n-th derivative of `digamma`, of positive numbers: (...) -> (...).

    Args:
        n: from 0 on; an int, or a Tensor of one.
        input: positive numbers; JAX's series has no others.
    """
    order = jnp.asarray(raw(n))
    if not jnp.issubdtype(order.dtype, jnp.integer):
        raise TypeError(f"n must be a whole number, got {order.dtype}.")
    return formulas.polygamma(order, input)


Polygamma = primitive("Polygamma", polygamma)


@other_function
def is_floating_point(input: Array) -> Any:
    """bool: whether the elements are floating numbers."""
    return bool(jnp.issubdtype(input.dtype, jnp.floating))


@other_function
def is_complex(input: Array) -> Any:
    """bool: whether the elements are complex numbers."""
    return bool(jnp.iscomplexobj(input))


@other_function
def numel(input: Array) -> Any:
    """The number of elements, as an int."""
    return int(input.size)


# Windows.


def _window(
    length: int, periodic: bool, dtype: Any, make: Callable[..., Any], default: Any = float32
) -> Any:
    if isinstance(length, Tensor) and length.dtype.is_integer():
        length = operator.index(length)
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise ValueError(f"window_length must be an int from 0, got {length!r}.")
    if length < 2:
        values = np.ones(length)
    else:
        values = make(length + 1)[:-1] if periodic else make(length)
    return as_value(values, dtype or default)


@function
def hann_window(window_length: int, periodic: bool = True, *, dtype: Dtype = None) -> Any:
    """Hann's window, Float64 (window_length,); `periodic`: one longer, without its last point."""
    return _window(window_length, periodic, dtype, np.hanning, float64)


@function
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Dtype = None,
) -> Any:
    """Hamming's window alpha - beta cos, (window_length,); `periodic` as in `hann_window`."""

    def make(n: int) -> Any:
        return alpha - beta * np.cos(2 * np.pi * np.arange(n) / (n - 1))

    return _window(window_length, periodic, dtype, make)


@function
def blackman_window(window_length: int, periodic: bool = True, *, dtype: Dtype = None) -> Any:
    """Blackman's window, (window_length,); `periodic` as in `hann_window`."""
    return _window(window_length, periodic, dtype, np.blackman)


@function
def bartlett_window(window_length: int, periodic: bool = True, *, dtype: Dtype = None) -> Any:
    """Bartlett's window, (window_length,); `periodic` as in `hann_window`."""
    return _window(window_length, periodic, dtype, np.bartlett)


@function
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Dtype = None
) -> Any:
    """Kaiser's window, Float64 (window_length,); `periodic` as in `hann_window`."""
    return _window(window_length, periodic, dtype, lambda n: np.kaiser(n, beta), float64)


_CLASSES = """
    Digamma Lgamma Erfinv Exp2 Log10 Sinc Rad2Deg Deg2Rad BesselI0 BesselI0e BesselI1 BesselI1e
    TanhShrink Frac Rint Signbit IsNegInf IsPosInf IsReal Positive Real Imag Conj Angle Heaviside
    Hypot Lcm Gcd LogAddExp LogAddExp2 CopySign Fmax Fmin NextAfter Ldexp TruncateDiv TruncateMod
    Xdivy MulNoNan LeftShift RightShift Igamma Igammac Zeta Logit Polar Complex Polygamma
"""
__all__: list[str] = []
__all__ += [name for name in TABLE if name not in _before and name in globals()]
__all__ += _CLASSES.split()
