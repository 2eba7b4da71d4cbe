"""Random numbers as a pure function of a key and a position: Philox4x32-10.

Glossary
    word      one 32-bit unsigned integer
    counter   four words that say which random number is meant: the position in an array (64 bits)
              and what tells apart several numbers of one position
    key       two words that say which sequence
    zero      a word that is 0, but known only when the program runs (see `rounded`)

Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC'11. Every position has a counter of its own and uses its first word (float64 the first
two), so nothing of a neighbour is needed to compute one element.

Two programs that compute the same element must give the same bits, whatever their shapes and
wherever they run. Three things would break that, so they do not occur here:

* compilers join a product and a following sum into one operation that rounds once, in one program
  and not in another: every product that is added to goes through `rounded`;
* the libraries' logarithms differ between vector and scalar code, and between CPU and GPU: the
  logarithms here are made of sums and products;
* approximate square roots of GPUs: float32 square roots here are made of sums and products, too.

All functions work on arrays and tracers of any equal (or broadcastable) shapes, and have to be
called in JAX's 64-bit mode: products of words have 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.array_types import ArrayLike

Array = jax.Array
Words = tuple[Array, Array, Array, Array]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def _product_64bit(multiplier: int, word: ArrayLike) -> tuple[Array, Array]:
    product = jnp.uint64(multiplier) * jnp.asarray(word, jnp.uint32).astype(jnp.uint64)
    return (product >> jnp.uint64(32)).astype(jnp.uint32), product.astype(jnp.uint32)


def philox4x32(counter: Words, key: tuple[ArrayLike, ArrayLike]) -> Words:
    """Four random words for each counter under a key, by ten rounds of Philox4x32.

    Counter and key words are uint32 (arrays or numbers of broadcastable shapes).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = (jnp.asarray(k, jnp.uint32) for k in key)
    for _ in range(_ROUNDS):
        high0, low0 = _product_64bit(_MULTIPLIERS[0], c0)
        high1, low1 = _product_64bit(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + jnp.uint32(_KEY_STEPS[0]), k1 + jnp.uint32(_KEY_STEPS[1])
    return c0, c1, c2, c3


def rounded(product: Array, zero: ArrayLike) -> Array:
    """`product` (float32 or float64), rounded on its own before anything is added to it.

    The bits are combined with `zero` (uint32), whose value no compiler knows, so none can see that
    they do not change.
    """
    unsigned = jnp.uint64 if product.dtype == jnp.float64 else jnp.uint32
    bits = lax.bitcast_convert_type(product, unsigned) | jnp.asarray(zero).astype(unsigned)
    return lax.bitcast_convert_type(bits, product.dtype)


def _polynomial(coefficients: Sequence[float], x: Array, zero: ArrayLike) -> Array:
    """The polynomial with these coefficients, constant first, by Estrin's scheme (short chains)."""
    terms: list[Array] = [jnp.asarray(c, x.dtype) for c in coefficients]
    while len(terms) > 1:
        pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
        terms = [p[0] if len(p) == 1 else rounded(p[1] * x, zero) + p[0] for p in pairs]
        x = x * x
    return terms[0]


def uniform32(word: Array) -> Array:
    """float32 in [0, 1): the upper 24 bits of a word."""
    return (word >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)


def uniform64(word: Array, second: Array) -> Array:
    """float64 in [0, 1): 53 bits of two words, the first one leading (so `uniform32`, refined)."""
    bits = (word.astype(jnp.uint64) << jnp.uint64(21)) | (second >> jnp.uint32(11)).astype(
        jnp.uint64
    )
    return bits.astype(jnp.float64) * jnp.float64(2**-53)


# Relative error 3e-8: log2(1 + f) / f for 1 + f in [sqrt(1/2), sqrt(2)].
_LOG2 = (
    1.4426950036454165,
    -0.7213473468110867,
    0.4809106447356187,
    -0.36070368413023496,
    0.287916182912604,
    -0.23894473100192462,
    0.21571620461578406,
    -0.20727078741828986,
    0.12583670326999125,
)
# Relative error 4e-8: z / s, where P(|Z| < z) = x for a standard normal Z and
# s = sqrt(-log2(1 - x^2)), in the variable 2 s / 5.625 - 1.
_NORMAL = (
    1.0945608803813478,
    0.06839817222884222,
    -0.021667188449897793,
    -0.021516381504718393,
    0.03382695867596866,
    -0.008431587740507599,
    -0.02681132228100693,
    0.025144946744217224,
    0.016589166460311156,
    -0.031659285816796515,
    -0.006439974072331978,
    0.024746989015683753,
    0.0010243359507053319,
    -0.011218007413917366,
    6.938084008474004e-05,
    0.002234889955651017,
)
_LOG2_BASE = 0x3F3504F3  # the bits of sqrt(1/2)
_MAGNITUDE = 0x7FFFFFFF


def normal32(word: Array, zero: ArrayLike) -> Array:
    """Standard normal float32 by inverting the distribution at (word + 1/2) / 2^32.

    The word counts as a signed integer, so that the median is word 0. Relative error below 6e-7,
    also in the tails; the largest value is 6.34.
    """
    signed = lax.bitcast_convert_type(word, jnp.int32)
    magnitude = signed ^ (signed >> jnp.int32(31))
    # With x = P(|Z| < |z|): x and 1 - x in units of 2^-31, each without cancellation.
    x = magnitude.astype(jnp.float32) + jnp.float32(0.5)
    tail = (jnp.int32(_MAGNITUDE) - magnitude).astype(jnp.float32) + jnp.float32(0.5)
    y = tail * (jnp.float32(2**32) - tail)  # 1 - x^2 in units of 2^-62
    bits = lax.bitcast_convert_type(y, jnp.int32) - jnp.int32(_LOG2_BASE + (62 << 23))
    exponent = bits >> jnp.int32(23)
    mantissa = lax.bitcast_convert_type(
        (bits & jnp.int32(0x7FFFFF)) + jnp.int32(_LOG2_BASE), jnp.float32
    )
    f = jnp.where(
        exponent == jnp.int32(0), -(x * (x * jnp.float32(2**-62))), mantissa - jnp.float32(1)
    )
    w = -(exponent.astype(jnp.float32) + rounded(f * _polynomial(_LOG2, f, zero), zero))
    s = _square_root(w, zero)
    t = rounded(s * jnp.float32(2 / 5.625), zero) - jnp.float32(1)
    z = s * _polynomial(_NORMAL, t, zero)
    return lax.bitcast_convert_type(
        lax.bitcast_convert_type(z, jnp.uint32) | (word & jnp.uint32(1 << 31)), jnp.float32
    )


def _square_root(w: Array, zero: ArrayLike) -> Array:
    """The square root of a positive normal float32, to about 1e-7.

    A guess at 1 / sqrt(w) from the bits, a step of Newton's method with constants fitted to that
    guess (J. Kadlec), and one of Halley's.
    """
    bits = jnp.int32(0x5F1FFFF9) - (lax.bitcast_convert_type(w, jnp.int32) >> jnp.int32(1))
    r = lax.bitcast_convert_type(bits, jnp.float32)
    r = r * (jnp.float32(1.6819154) - rounded(jnp.float32(0.70395225) * w * r * r, zero))
    root = w * r
    h = rounded(root * r, zero)
    inner = jnp.float32(1.25) - rounded(jnp.float32(0.375) * h, zero)
    return root * (jnp.float32(1.875) - rounded(h * inner, zero))


# M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied
# Statistics 37 (1988), PPND16: numerator and denominator in each of three regions.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def normal64(word: Array, second: Array, zero: ArrayLike) -> Array:
    """Standard normal float64 from two words: the value of `normal32(word)`, refined.

    Relative error about 1e-15. The largest value is 9.2.
    """
    position = (word.astype(jnp.uint64) << jnp.uint64(32)) | second.astype(jnp.uint64)
    signed = lax.bitcast_convert_type(position, jnp.int64)
    magnitude = signed ^ (signed >> jnp.int64(63))
    half = jnp.float64(0.5)
    q = (magnitude.astype(jnp.float64) + half) * jnp.float64(2**-64)  # probability - 1/2
    tail = (jnp.int64(2**63 - 1) - magnitude).astype(jnp.float64) + half
    centre = q * _ratio(_CENTRE, jnp.float64(0.180625) - rounded(q * q, zero), zero)
    r = jnp.sqrt(-_log64(tail * jnp.float64(2**-64), zero))
    near = _ratio(_TAIL, r - jnp.float64(1.6), zero)
    far = _ratio(_FAR_TAIL, r - jnp.float64(5), zero)
    outer = jnp.where(r <= jnp.float64(5), near, far)
    z = jnp.where(q <= jnp.float64(0.425), centre, outer)
    return jnp.where(signed < jnp.int64(0), -z, z)


def _ratio(pair: tuple[Sequence[float], Sequence[float]], x: Array, zero: ArrayLike) -> Array:
    return _polynomial(pair[0], x, zero) / _polynomial(pair[1], x, zero)


def _log64(p: Array, zero: ArrayLike) -> Array:
    """The natural logarithm of a positive normal float64, by the series of 2 artanh."""
    base = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
    bits = lax.bitcast_convert_type(p, jnp.int64) - jnp.int64(base)
    exponent = bits >> jnp.int64(52)
    mantissa = lax.bitcast_convert_type(
        (bits & jnp.int64((1 << 52) - 1)) + jnp.int64(base), jnp.float64
    )
    f = (mantissa - jnp.float64(1)) / (mantissa + jnp.float64(1))
    series = _polynomial([2 / (2 * k + 1) for k in range(12)], f * f, zero)
    return rounded(exponent.astype(jnp.float64) * jnp.float64(np.log(2)), zero) + rounded(
        f * series, zero
    )


def truncated32(word: Array, low: ArrayLike, width: ArrayLike) -> Array:
    """A word whose position in the order of `normal32` lies in [low, low + width) of 2^32.

    `normal32(truncated32(word, low, width))` is a normal variate truncated to the values between
    the probabilities low / 2^32 and (low + width) / 2^32.
    """
    return truncated64(word, None, low, width)[0]


def truncated64(
    word: Array, second: Array | None, low: ArrayLike, width: ArrayLike
) -> tuple[Array, Array]:
    """`truncated32` for the two words of `normal64`."""
    top = jnp.uint32(1 << 31)  # turns the signed order into the unsigned one, and back
    width = jnp.asarray(width, jnp.uint64)
    place = (word ^ top).astype(jnp.uint64) * width
    if second is not None:
        place = place + ((second.astype(jnp.uint64) * width) >> jnp.uint64(32))
    place = place + (jnp.asarray(low, jnp.uint64) << jnp.uint64(32))
    return (place >> jnp.uint64(32)).astype(jnp.uint32) ^ top, place.astype(jnp.uint32)
