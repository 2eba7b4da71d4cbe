"""Fourier and cosine transforms, over `jax.numpy.fft` and `jax.scipy.fft`.

Integers and 16-bit floats are transformed as Float32, as in MindSpore. `norm` says which way is
divided by the number of points: "backward" (None) the inverse, "forward" the forward transform,
"ortho" each by the square root.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.fft

from paramesh.ops.table import Array, Dtype, function, primitive
from paramesh.tensor.base import as_value

# fmt: off
__all__ = [
    "fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fft2", "ifft2", "rfft2", "irfft2", "hfft2",
    "ihfft2", "fftn", "ifftn", "rfftn", "irfftn", "hfftn", "ihfftn", "fftshift", "ifftshift",
    "fftfreq", "rfftfreq", "stft", "dct", "idct", "dctn", "idctn", "FFT", "IFFT", "RFFT",
    "IRFFT", "HFFT",
    "IHFFT", "FFT2", "IFFT2", "RFFT2", "IRFFT2", "HFFT2", "IHFFT2", "FFTN", "IFFTN", "RFFTN",
    "IRFFTN", "HFFTN", "IHFFTN", "FFTShift", "IFFTShift", "DCT", "IDCT", "DCTN", "IDCTN",
]
# fmt: on

_SWAPPED = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}
_NORMS = ("backward", "forward", "ortho")


def _numbers(x: jax.Array, real: bool = False) -> jax.Array:
    if real and jnp.iscomplexobj(x):
        raise TypeError(f"input must be real, got {x.dtype}.")
    return x if x.dtype.itemsize >= 4 and jnp.issubdtype(x.dtype, jnp.inexact) else x.astype("f4")


def _norm(norm: str | None) -> str | None:
    if norm is not None and norm not in _NORMS:
        raise ValueError(f"norm must be one of {', '.join(_NORMS)} or None, got {norm!r}.")
    return norm


def _along_one(name: str) -> Callable[..., jax.Array]:
    transform = getattr(jnp.fft, name)
    real = name in ("rfft", "ihfft")

    def compute(x: jax.Array, n: int | None, dim: int, norm: str | None) -> jax.Array:
        return transform(_numbers(x, real), n, dim, _norm(norm))

    return compute


def _along_many(name: str) -> Callable[..., jax.Array]:
    """Along several axes; those of Hermitian symmetry by the real ones, the other way round."""
    if not name.startswith(("hfft", "ihfft")):
        transform, real = getattr(jnp.fft, name), name.startswith("rfft")
        return lambda x, s, dim, norm: transform(_numbers(x, real), s, dim, _norm(norm))
    if name.startswith("ihfft"):
        return lambda x, s, dim, norm: jnp.conj(
            jnp.fft.rfftn(_numbers(x, True), s, dim, _SWAPPED[_norm(norm)])
        )
    return lambda x, s, dim, norm: jnp.fft.irfftn(
        jnp.conj(_numbers(x)), s, dim, _SWAPPED[_norm(norm)]
    )


Lengths = Sequence[int] | None


@function
def fft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The discrete Fourier transform along an axis, of `n` points: (..., m) -> complex (..., n)."""
    return _along_one("fft")(input, n, dim, norm)


@function
def ifft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of `fft`: (..., m) -> complex (..., n)."""
    return _along_one("ifft")(input, n, dim, norm)


@function
def rfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The first half of `fft` of real numbers: (..., m) -> complex (..., n // 2 + 1)."""
    return _along_one("rfft")(input, n, dim, norm)


@function
def irfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of `rfft`: (..., m) -> real (..., n), by default n = 2 (m - 1)."""
    return _along_one("irfft")(input, n, dim, norm)


@function
def hfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """`fft` of a signal of which the first half is given, the rest conjugate: -> real (..., n)."""
    return _along_one("hfft")(input, n, dim, norm)


@function
def ihfft(input: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of `hfft`: real (..., m) -> complex (..., n // 2 + 1)."""
    return _along_one("ihfft")(input, n, dim, norm)


def _two(name: str) -> Any:
    compute = _along_many(name)

    def transform(
        input: Array, s: Lengths = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
    ) -> Any:
        return compute(input, s, dim, norm)

    transform.__name__ = transform.__qualname__ = name
    transform.__doc__ = f"`{name[:-1]}` along two axes, of `s` points."
    return function(transform)


def _several(name: str) -> Any:
    compute = _along_many(name)

    def transform(
        input: Array, s: Lengths = None, dim: Sequence[int] | None = None, norm: str | None = None
    ) -> Any:
        return compute(input, s, dim, norm)

    transform.__name__ = transform.__qualname__ = name
    transform.__doc__ = f"`{name[:-1]}` along several axes, by default all, of `s` points."
    return function(transform)


fft2, ifft2, rfft2 = _two("fft2"), _two("ifft2"), _two("rfft2")
irfft2, hfft2, ihfft2 = _two("irfft2"), _two("hfft2"), _two("ihfft2")
fftn, ifftn, rfftn = _several("fftn"), _several("ifftn"), _several("rfftn")
irfftn, hfftn, ihfftn = _several("irfftn"), _several("hfftn"), _several("ihfftn")


@function
def fftshift(input: Array, dim: int | Sequence[int] | None = None) -> Any:
    """Each axis rolled by half of its size: frequency 0 comes into the middle."""
    return jnp.fft.fftshift(input, dim)


@function
def ifftshift(input: Array, dim: int | Sequence[int] | None = None) -> Any:
    """The inverse of `fftshift`."""
    return jnp.fft.ifftshift(input, dim)


@function
def fftfreq(n: int, d: float = 1.0, *, dtype: Dtype = None) -> Any:
    """The frequencies of `fft` with `n` points, `d` apart: Float32 (n,) unless `dtype`."""
    return as_value(jnp.fft.fftfreq(n, d), dtype)


@function
def rfftfreq(n: int, d: float = 1.0, *, dtype: Dtype = None) -> Any:
    """The frequencies of `rfft`: Float32 (n // 2 + 1,) unless `dtype`."""
    return as_value(jnp.fft.rfftfreq(n, d), dtype)


# Cosines.


def _by_parts(compute: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    if not jnp.iscomplexobj(x):
        return compute(_numbers(x))
    return jax.lax.complex(compute(x.real), compute(x.imag))


def _cosines(
    x: jax.Array, type: int, s: Lengths, axes: Sequence[int] | None, norm: str | None, inverse: bool
) -> jax.Array:
    if type != 2:
        raise ValueError(f"type must be 2, the only cosine transform that is here, got {type}.")
    lower = None if norm is None else _norm(norm.lower())
    named = range(-len(s), 0) if s is not None and axes is None else axes
    axes = list(range(x.ndim)) if named is None else [axis % x.ndim for axis in named]
    counts = [x.shape[axis] for axis in axes] if s is None else list(s)
    transform = jax.scipy.fft.idctn if inverse else jax.scipy.fft.dctn
    base = "ortho" if lower == "ortho" else None
    found = _by_parts(lambda part: transform(part, 2, counts, axes, base), x)
    if lower != "forward":
        return found
    points = math.prod(2 * count for count in counts)
    return found * points if inverse else found / points


def _of_one(inverse: bool) -> Callable[..., Any]:
    def transform(
        x: Array, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
    ) -> Any:
        return _cosines(x, type, None if n is None else (n,), (axis,), norm, inverse)

    return transform


def _of_several(inverse: bool) -> Callable[..., Any]:
    def transform(
        x: Array,
        type: int = 2,
        s: Lengths = None,
        axes: Sequence[int] | None = None,
        norm: str | None = None,
    ) -> Any:
        return _cosines(x, type, s, axes, norm, inverse)

    return transform


def _cosines_of(name: str, compute: Callable[..., Any], doc: str) -> Any:
    compute.__name__ = compute.__qualname__ = name
    compute.__doc__ = doc
    return function(compute)


dct = _cosines_of("dct", _of_one(False), "The cosine transform of type 2 along an axis.")
idct = _cosines_of("idct", _of_one(True), "The inverse of `dct`.")
dctn = _cosines_of("dctn", _of_several(False), "The cosine transform of type 2 along axes.")
idctn = _cosines_of("idctn", _of_several(True), "The inverse of `dctn`.")

DCT, IDCT = primitive("DCT", dct), primitive("IDCT", idct)
DCTN, IDCTN = primitive("DCTN", dctn), primitive("IDCTN", idctn)
FFT, IFFT, RFFT = primitive("FFT", fft), primitive("IFFT", ifft), primitive("RFFT", rfft)
IRFFT, HFFT = primitive("IRFFT", irfft), primitive("HFFT", hfft)
IHFFT, FFT2 = primitive("IHFFT", ihfft), primitive("FFT2", fft2)
IFFT2, RFFT2 = primitive("IFFT2", ifft2), primitive("RFFT2", rfft2)
IRFFT2, HFFT2 = primitive("IRFFT2", irfft2), primitive("HFFT2", hfft2)
IHFFT2, FFTN = primitive("IHFFT2", ihfft2), primitive("FFTN", fftn)
IFFTN, RFFTN = primitive("IFFTN", ifftn), primitive("RFFTN", rfftn)
IRFFTN, HFFTN = primitive("IRFFTN", irfftn), primitive("HFFTN", hfftn)
IHFFTN = primitive("IHFFTN", ihfftn)
FFTShift, IFFTShift = primitive("FFTShift", fftshift), primitive("IFFTShift", ifftshift)


@function
def stft(
    x: Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Array = None,
    center: bool = True,
    pad_mode: str = "REFLECT",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Any:
    """Fourier transforms of windows of signals: (..., samples) -> (..., frequencies, windows).

    Args:
        x: signals (samples,) or (n, samples).
        n_fft: samples of a transform.
        hop_length: samples from one window to the next; None: n_fft // 4.
        win_length: samples of a window, at most n_fft, in the middle of it; None: n_fft.
        window: factors (win_length,); None: ones.
        center: whether windows stand around their sample, with n_fft // 2 more at both ends.
        pad_mode: `CONSTANT`, `REFLECT` or `SYMMETRIC`: what these are.
        normalized: divided by the square root of n_fft.
        onesided: the frequencies up to n_fft // 2 alone; None: if signals and window are real.
        return_complex: complex numbers; None: if signals or window are. Otherwise real and
            imaginary parts along a last axis.

    Raises:
        ValueError: sizes that do not fit, another `pad_mode`, `onesided` of complex numbers, or
            `return_complex=False` of complex ones.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    if x.ndim not in (1, 2):
        raise ValueError(f"x must be (samples,) or (n, samples), got {tuple(x.shape)}.")
    if n_fft < 1 or hop < 1 or not 1 <= length <= n_fft:
        raise ValueError(
            f"expected n_fft and hop_length of at least 1 and win_length up to n_fft, got {n_fft}, "
            f"{hop} and {length}."
        )
    if window is not None and window.shape != (length,):
        raise ValueError(f"window must be ({length},), got {tuple(window.shape)}.")
    if pad_mode.upper() not in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        raise ValueError(f"pad_mode must be CONSTANT, REFLECT or SYMMETRIC, got {pad_mode!r}.")
    signal = _numbers(x)
    factors = jnp.ones(length, signal.real.dtype) if window is None else _numbers(window)
    complex_given = jnp.iscomplexobj(signal) or jnp.iscomplexobj(factors)
    if onesided and complex_given:
        raise ValueError("onesided needs real signals and a real window.")
    before = (n_fft - length) // 2
    factors = jnp.pad(factors, (before, n_fft - length - before))
    if center:
        sides = [(0, 0)] * (signal.ndim - 1) + [(n_fft // 2, n_fft // 2)]
        signal = jnp.pad(signal, sides, pad_mode.lower())
    if signal.shape[-1] < n_fft:
        raise ValueError(f"{signal.shape[-1]} samples are less than n_fft, {n_fft}.")
    starts = jnp.arange(0, signal.shape[-1] - n_fft + 1, hop)
    parts = signal[..., starts[:, None] + jnp.arange(n_fft)] * factors
    norm = "ortho" if normalized else None
    real = not complex_given and onesided is not False
    found = (jnp.fft.rfft if real else jnp.fft.fft)(parts, axis=-1, norm=norm).swapaxes(-1, -2)
    if complex_given if return_complex is None else return_complex:
        return found
    if complex_given:
        raise ValueError("return_complex=False needs real signals and a real window.")
    return jnp.stack([found.real, found.imag], -1)
