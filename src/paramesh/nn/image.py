"""How similar images are: SSIM, MSSSIM, PSNR.

Sources: Wang et al. 2004 (SSIM), Wang, Simoncelli and Bovik 2003 (MSSSIM); MindSpore's layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.dtype import DType, float16, float32, float64, uint8
from paramesh.nn.cell import Cell
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor, raw, wrap


def _above(owner: str, name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """The value, if it is of a kind and above 0."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{owner}: {name} must be {wanted}, got {value!r}.")
    if not value > 0:
        raise ValueError(f"{owner}: {name} must be above 0, got {value!r}.")
    return value


class _OfTwoImages(Cell):
    """A number for each pair of images of two batches."""

    DTYPES: tuple[DType, ...] = (float16, float32, float64, uint8)

    def __init__(self, max_val: float) -> None:
        super().__init__()
        self.max_val = _above(type(self).__name__, "max_val", max_val, (int, float))

    def _images(self, img1: Any, img2: Any) -> tuple[jax.Array, jax.Array, float]:
        """Both batches in Float32, and the greatest value; whole numbers are scaled to 1."""
        owner = type(self).__name__
        for name, image in (("img1", img1), ("img2", img2)):
            if not isinstance(image, Tensor):
                raise TypeError(f"{owner}: {name} must be a Tensor, got {image!r}.")
            if image.ndim != 4:
                raise ValueError(f"{owner}: {name} must be (N, C, H, W), got shape {image.shape}.")
        if img1.dtype != img2.dtype or img1.dtype not in self.DTYPES:
            raise TypeError(
                f"{owner}: both images must have one dtype, of {', '.join(map(str, self.DTYPES))}; "
                f"got {img1.dtype} and {img2.dtype}."
            )
        if img1.shape != img2.shape:
            raise ValueError(
                f"{owner}: both images must have one shape, got {img1.shape} and {img2.shape}."
            )
        unit = 255.0 if img1.dtype == uint8 else 1.0
        first, second = (raw(x).astype(jnp.float32) / unit for x in (img1, img2))
        return first, second, self.max_val / unit


class PSNR(_OfTwoImages):
    """The peak signal-to-noise ratio, in decibels: 10 log10(max_val² / mean square error).

    Args:
        max_val: the greatest value that an image can have.

    Raises:
        TypeError: `max_val` is no number; in the call, the images have different dtypes.
        ValueError: `max_val` is not above 0; in the call, the images are not (N, C, H, W), or have
            different shapes.
    """

    def __init__(self, max_val: float = 1.0) -> None:
        super().__init__(max_val)

    def construct(self, img1: TensorLike, img2: TensorLike) -> Tensor:
        """Two batches (N, C, H, W) of floats or UInt8 -> (N,), infinite for equal images."""
        first, second, top = self._images(img1, img2)
        error = jnp.mean((first - second) ** 2, axis=(1, 2, 3))
        return wrap(10 * jnp.log10(top**2 / error))


class SSIM(_OfTwoImages):
    """The structural similarity of images: 1 for equal ones.

    Args:
        max_val: the greatest value that an image can have.
        filter_size: of the Gaussian window, in pixels.
        filter_sigma: its standard deviation, in pixels.
        k1: of the stabiliser of the luminance's part.
        k2: of the stabiliser of the contrast's part.

    Raises:
        TypeError: an argument of another type; in the call, the images have different dtypes, or
            others than Float16 and Float32.
        ValueError: an argument that is not above 0; in the call, images that are not (N, C, H, W),
            are smaller than the window, or have different shapes.
    """

    DTYPES = (float16, float32)

    def __init__(
        self,
        max_val: float = 1.0,
        filter_size: int = 11,
        filter_sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
    ) -> None:
        super().__init__(max_val)
        owner = type(self).__name__
        self.filter_size = _above(owner, "filter_size", filter_size, (int,))
        self.filter_sigma = _above(owner, "filter_sigma", filter_sigma, (float,))
        for name, value in (("k1", k1), ("k2", k2)):
            if not isinstance(value, float):
                raise TypeError(f"{owner}: {name} must be a float, got {value!r}.")
        self.k1, self.k2 = k1, k2

    def _check_size(self, shape: Sequence[int], at: str = "") -> None:
        if min(shape[2:]) < self.filter_size:
            raise ValueError(
                f"{type(self).__name__}: images {tuple(shape)}{at} are smaller than the window of "
                f"filter_size={self.filter_size}."
            )

    def _smoothed(self, image: jax.Array) -> jax.Array:
        """The Gaussian-weighted mean around each pixel whose window is inside."""
        places = np.arange(-self.filter_size // 2 + 1, self.filter_size // 2 + 1)
        line = np.exp(-(places.astype(np.float64) ** 2) / (2 * self.filter_sigma**2))
        line = (line / line.sum()).astype(np.float32)
        single = image.reshape(-1, 1, *image.shape[2:])
        for kernel in (line[:, None], line[None]):
            single = lax.conv(single, kernel[None, None], (1, 1), "VALID", lax.Precision.HIGHEST)
        return single.reshape(*image.shape[:2], *single.shape[2:])

    def _parts(self, a: jax.Array, b: jax.Array, top: float) -> tuple[jax.Array, jax.Array]:
        """(similarity, its part of contrast and structure), each (N, C)."""
        c1, c2 = (self.k1 * top) ** 2, (self.k2 * top) ** 2
        mean_a, mean_b = self._smoothed(a), self._smoothed(b)
        squares = self._smoothed(a * a) + self._smoothed(b * b) - mean_a**2 - mean_b**2
        together = self._smoothed(a * b) - mean_a * mean_b
        contrast = (2 * together + c2) / (squares + c2)
        light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        return jnp.mean(light * contrast, axis=(2, 3)), jnp.mean(contrast, axis=(2, 3))

    def construct(self, img1: TensorLike, img2: TensorLike) -> Tensor:
        """Two batches (N, C, H, W) of Float16 or Float32 -> (N,)."""
        first, second, top = self._images(img1, img2)
        self._check_size(first.shape)
        return wrap(jnp.mean(self._parts(first, second, top)[0], axis=1))


class MSSSIM(SSIM):
    """The structural similarity over several scales, each half as large as the one before.

    Args:
        max_val: the greatest value that an image can have.
        power_factors: the exponent of each scale.
        filter_size: of the Gaussian window, in pixels.
        filter_sigma: its standard deviation, in pixels.
        k1: of the stabiliser of the luminance's part.
        k2: of the stabiliser of the contrast's part.

    Raises:
        TypeError, ValueError: as for `SSIM`, but UInt8 and Float64 images are taken, too (the
            latter are computed in Float32); `power_factors` is neither a tuple nor a list.
    """

    DTYPES = (float16, float32, float64, uint8)

    def __init__(
        self,
        max_val: float = 1.0,
        power_factors: Sequence[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
        filter_size: int = 11,
        filter_sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
    ) -> None:
        super().__init__(max_val, filter_size, filter_sigma, k1, k2)
        if not isinstance(power_factors, tuple | list) or not power_factors:
            raise TypeError(
                f"MSSSIM: power_factors must be a tuple or list of floats, got {power_factors!r}."
            )
        self.power_factors = tuple(power_factors)

    def construct(self, img1: TensorLike, img2: TensorLike) -> Tensor:
        """Two batches (N, C, H, W) -> (N,)."""
        first, second, top = self._images(img1, img2)
        found = jnp.ones(first.shape[:2], jnp.float32)
        for scale, power in enumerate(self.power_factors):
            if scale:
                first, second = _halved(first), _halved(second)
            self._check_size(first.shape, f" at scale {scale}")
            similarity, contrast = self._parts(first, second, top)
            last = scale == len(self.power_factors) - 1
            found = found * jax.nn.relu(similarity if last else contrast) ** np.float32(power)
        return wrap(jnp.mean(found, axis=1))


def _halved(image: jax.Array) -> jax.Array:
    """The mean of each 2 x 2 pixels; an odd row or column at the end is left out."""
    n, c, h, w = image.shape
    even = image[:, :, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
