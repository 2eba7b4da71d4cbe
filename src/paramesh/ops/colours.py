"""Colours of images.

Source: MindSpore's operator of this name; Smith (1978).
"""

from typing import Any

import jax.numpy as jnp

from paramesh.ops.table import Array, function, primitive

__all__ = ["RGBToHSV", "rgb_to_hsv"]


@function
def rgb_to_hsv(images: Array) -> Any:
    """Hue, saturation and value of colours, from 0 to 1: (..., 3) -> (..., 3).

    Args:
        images: red, green and blue from 0 to 1, along the last axis.

    Raises:
        ValueError: the last axis has another size.
    """
    if images.ndim < 1 or images.shape[-1] != 3:
        raise ValueError(f"expected (..., 3), got {tuple(images.shape)}.")
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    value = images.max(-1)
    range_ = value - images.min(-1)
    some = range_ > 0
    sixth = 1 / (6 * jnp.where(some, range_, 1))
    hue = jnp.where(
        red == value,
        sixth * (green - blue),
        jnp.where(green == value, sixth * (blue - red) + 2 / 6, sixth * (red - green) + 4 / 6),
    )
    hue = jnp.where(some, jnp.where(hue < 0, hue + 1, hue), 0)
    saturation = jnp.where(value > 0, range_ / jnp.where(value > 0, value, 1), 0)
    return jnp.stack([hue, saturation, value], -1).astype(images.dtype)


RGBToHSV = primitive("RGBToHSV", rgb_to_hsv)
