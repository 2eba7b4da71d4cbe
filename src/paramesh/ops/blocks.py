"""Blocks of images as entries of the batch, and back; patches of images.

Source: MindSpore's operators of these names, which are TensorFlow's.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.array import ints
from paramesh.ops.conv import pair
from paramesh.ops.rearranging import fold, unfold
from paramesh.ops.table import Array, function, operator_of, primitive
from paramesh.tensor.argument_types import Ints

__all__ = [
    "BatchToSpace",
    "BatchToSpaceND",
    "ChannelShuffle",
    "Col2Im",
    "Im2Col",
    "SpaceToBatch",
    "SpaceToBatchND",
    "batch_to_space_nd",
    "channel_shuffle",
    "col2im",
    "im2col",
    "space_to_batch_nd",
]

Pairs = Sequence[Sequence[int]]


def _sizes(x: jax.Array, block_shape: Ints, pairs: Pairs, what: str) -> tuple[list[int], Any]:
    """The size of blocks along each of the last axes, and the pairs of these axes."""
    found = [ints(pair) for pair in pairs]
    if any(len(pair) != 2 or min(pair) < 0 for pair in found) or not found:
        raise ValueError(f"{what} must be pairs of ints from 0 on, got {pairs}.")
    sizes = list(ints(block_shape))
    sizes = sizes * len(found) if len(sizes) == 1 else sizes
    if len(sizes) != len(found) or min(sizes) < 1 or len(sizes) >= x.ndim:
        raise ValueError(
            f"block_shape must have an int from 1 on for each pair of {what}, at most "
            f"{x.ndim - 1}, got {block_shape} and {pairs}."
        )
    return sizes, found


@function
def batch_to_space_nd(input_x: Array, block_shape: Ints, crops: Pairs) -> Any:
    """Entries of the batch put together as blocks: (n * b0 * b1, c, h, w) -> (n, c, h*b0, w*b1).

    Args:
        input_x: (batch, ..., *spatial).
        block_shape: the size of blocks along each of the last axes, or one for all of them.
        crops: (before, after) of each of these axes, which are cut off in the end.

    Raises:
        ValueError: the batch does not make whole blocks, or more is cut off than there is.
    """
    sizes, cut = _sizes(input_x, block_shape, crops, "crops")
    batch, many = input_x.shape[0], math.prod(sizes)
    if batch % many:
        raise ValueError(f"a batch of {batch} does not make blocks of {many}.")
    first = input_x.ndim - len(sizes)
    x = input_x.reshape(*sizes, batch // many, *input_x.shape[1:])
    order = list(range(len(sizes), len(sizes) + first))
    for i in range(len(sizes)):
        order += [len(sizes) + first + i, i]
    shape = [n * b for n, b in zip(input_x.shape[first:], sizes, strict=True)]
    x = jnp.transpose(x, order).reshape(batch // many, *input_x.shape[1:first], *shape)
    for axis, (size, (before, after)) in enumerate(zip(shape, cut, strict=True), first):
        if before + after >= size:
            raise ValueError(f"crops {before} and {after} leave nothing of {size} elements.")
        x = jax.lax.slice_in_dim(x, before, size - after, axis=axis)
    return x


@function
def space_to_batch_nd(input_x: Array, block_size: Ints, paddings: Pairs) -> Any:
    """Elements at one place of all blocks as entries of the batch, the inverse of the other one.

    Args:
        input_x: (batch, ..., *spatial).
        block_size: the size of blocks along each of the last axes, or one for all of them.
        paddings: (before, after) of each of these axes: zeros that are added first.

    Raises:
        ValueError: the padded sizes do not make whole blocks.
    """
    sizes, pads = _sizes(input_x, block_size, paddings, "paddings")
    first = input_x.ndim - len(sizes)
    x = jnp.pad(input_x, [(0, 0)] * first + pads)
    if any(n % b for n, b in zip(x.shape[first:], sizes, strict=True)):
        raise ValueError(f"sizes {x.shape[first:]} with their padding do not make blocks {sizes}.")
    shape = [n // b for n, b in zip(x.shape[first:], sizes, strict=True)]
    parts = [part for n, b in zip(shape, sizes, strict=True) for part in (n, b)]
    blocks = [first + 2 * i + 1 for i in range(len(sizes))]
    rest = [*range(first), *(first + 2 * i for i in range(len(sizes)))]
    x = jnp.transpose(x.reshape(*x.shape[:first], *parts), [*blocks, *rest])
    return x.reshape(-1, *input_x.shape[1:first], *shape)


BatchToSpaceND = primitive(
    "BatchToSpaceND",
    batch_to_space_nd,
    lambda block_shape, crops: {"block_shape": block_shape, "crops": crops},
)
BatchToSpace = primitive(
    "BatchToSpace",
    batch_to_space_nd,
    lambda block_size, crops: {"block_shape": block_size, "crops": crops},
)
SpaceToBatchND = primitive(
    "SpaceToBatchND",
    space_to_batch_nd,
    lambda block_shape, paddings: {"block_size": block_shape, "paddings": paddings},
)
SpaceToBatch = primitive(
    "SpaceToBatch",
    space_to_batch_nd,
    lambda block_size, paddings: {"block_size": block_size, "paddings": paddings},
)


@function
def im2col(x: Array, ksizes: Ints, strides: Ints = 1, dilations: Ints = 1, pads: Ints = 0) -> Any:
    """Patches of images: (n, c, h, w) -> (n, c, kh * kw, patches).

    Args:
        x: the images.
        ksizes: size of a patch, one int or (kh, kw).
        strides: distance of the patches.
        dilations: distance of the points of a patch.
        pads: zeros around the image: one number or (h, w).
    """
    kernel = pair("ksizes", ksizes)
    found = operator_of(unfold).compute(x, kernel, dilations, pads, strides)
    return found.reshape(*x.shape[:2], kernel[0] * kernel[1], -1)


Im2Col = primitive(
    "Im2Col",
    im2col,
    lambda ksizes, strides=1, dilations=1, pads=0: dict(
        ksizes=ksizes, strides=strides, dilations=dilations, pads=pads
    ),
)


@function
def col2im(
    input_x: Array,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints,
    padding_value: Ints,
    stride: Ints,
) -> Any:
    """Images from columns, which add up where they overlap; `im2col` turned around.

    Args:
        input_x: (n, c, kh * kw, number of patches).
        output_size: (h, w).
        kernel_size: (kh, kw), or one number, like the others.
        dilation: between elements of a patch.
        padding_value: zeros around the images.
        stride: between patches.

    Raises:
        ValueError: another number of axes, or of patches.
    """
    if input_x.ndim != 4:
        raise ValueError(f"input_x must be (n, c, kh * kw, patches), got {tuple(input_x.shape)}.")
    images = operator_of(fold).compute
    return images(input_x, output_size, kernel_size, dilation, padding_value, stride)


@function
def channel_shuffle(x: Array, groups: int) -> Any:
    """Channels of groups mixed, one of each in turn (Zhang et al. 2018): (n, c, ...).

    Args:
        x: channels in axis 1.
        groups: how many groups the channels make.

    Raises:
        ValueError: the channels do not make that many groups.
    """
    if x.ndim < 2 or groups < 1 or x.shape[1] % groups:
        channels = x.shape[1] if x.ndim > 1 else 0
        raise ValueError(f"{channels} channels do not make {groups} groups.")
    apart = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return apart.swapaxes(1, 2).reshape(x.shape)


Col2Im = primitive(
    "Col2Im",
    col2im,
    lambda kernel_size, dilation=1, padding=0, stride=1: {
        "kernel_size": kernel_size,
        "dilation": dilation,
        "padding_value": padding,
        "stride": stride,
    },
)
ChannelShuffle = primitive("ChannelShuffle", channel_shuffle, lambda group: {"groups": group})
