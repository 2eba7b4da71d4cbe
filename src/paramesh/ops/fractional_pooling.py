"""Fractional pooling: windows whose places are drawn, so that sizes need not divide.

Glossary
    sample    a number from 0 to 1 for each axis of each channel, which decides where windows begin
    sequence  where the windows along an axis begin, and where the last one ends

Source: Graham (2014), and MindSpore's operators of these names.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import random
from paramesh.array_types import Tree
from paramesh.dtype import int64
from paramesh.ops.array import Ints
from paramesh.ops.conv import pair
from paramesh.ops.table import Array, other_function, primitive, tuple_function
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "fractional_max_pool2d", "fractional_max_pool3d", "fractional_max_pool_fixed",
    "FractionalMaxPoolWithFixedKsize", "FractionalMaxPool3DWithFixedKsize",
    "fractional_max_pool_fixed_3d", "fractional_pool", "FractionalMaxPool", "FractionalAvgPool",
]
# fmt: on

Ratio = float | Sequence[float] | None

# Windows of one size.


def _starts(samples: jax.Array, size: int, out: int, kernel: int) -> Any:
    """Where windows begin along an axis: samples (n, c) -> (n, c, out)."""
    last = jnp.full((*samples.shape, 1), size - kernel, jnp.int32)
    if out == 1:
        return last
    step = jnp.asarray((size - kernel) / (out - 1), samples.dtype)
    at = (jnp.arange(out - 1, dtype=samples.dtype) + samples[..., None]) * step
    first = (samples * step).astype(jnp.int32)[..., None]
    return jnp.concatenate([at.astype(jnp.int32) - first, last], -1)


def _largest(
    x: jax.Array,
    samples: jax.Array,
    kernel: tuple[int, ...],
    out: tuple[int, ...],
    order: Sequence[int],
) -> Any:
    """(the largest of each window, its place in the image): (n, c, *axes) -> (n, c, *out), twice.

    `order`: which sample is that of each axis.
    """
    n = len(kernel)
    sizes = x.shape[2:]
    if x.ndim != n + 2 or tuple(samples.shape) != (*x.shape[:2], n):
        raise ValueError(
            f"expected an input with {n + 2} axes, (n, c, …), and samples (n, c, {n}), got "
            f"{tuple(x.shape)} and {tuple(samples.shape)}."
        )
    if any(k + o - 1 > s for k, o, s in zip(kernel, out, sizes, strict=True)):
        raise ValueError(f"an input {tuple(sizes)} has no {out} windows of {kernel}.")
    places = jnp.zeros((), jnp.int32)
    for axis, size in enumerate(sizes):
        starts = _starts(samples[..., order[axis]], size, out[axis], kernel[axis])
        at = starts[..., None] + jnp.arange(kernel[axis], dtype=jnp.int32)
        shape = [1] * (2 * n)
        shape[axis], shape[n + axis] = out[axis], kernel[axis]
        places = places * size + at.reshape(*x.shape[:2], *shape)
    flat = x.reshape(*x.shape[:2], -1)
    windows = places.reshape(*x.shape[:2], math.prod(out), math.prod(kernel))
    values = jnp.take_along_axis(flat[:, :, None], windows, -1)
    best = jnp.argmax(jax.lax.stop_gradient(values), -1, keepdims=True)
    found = jnp.take_along_axis(values, best, -1).reshape(*x.shape[:2], *out)
    return found, jnp.take_along_axis(windows, best, -1).reshape(found.shape)


def _largest_drawn(
    x: jax.Array, kernel: tuple[int, ...], out: tuple[int, ...], samples: jax.Array | None
) -> Any:
    """`_largest` of x (n, c, *axes), n may be missing; None for `samples` draws them."""
    axes = len(kernel)
    alone = x.ndim == axes + 1
    value = x[None] if alone else x
    if samples is None:
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
        samples = jax.random.uniform(random.next_key(), (*value.shape[:2], axes), dtype)
    elif alone:
        samples = samples.reshape(*value.shape[:2], axes)
    # Of an image the first sample is that of the columns.
    order = (1, 0) if axes == 2 else range(axes)
    found, places = _largest(value, samples, kernel, out, order)
    return (found[0], places[0]) if alone else (found, places)


@tuple_function
def fractional_max_pool_fixed(
    input_x: Array, random_samples: Array, ksize: Ints, output_shape: Ints
) -> Any:
    """The largest of windows of one size whose places are drawn: (n, c, h, w) -> (n, c, h', w').

    Args:
        input_x: the images.
        random_samples: (n, c, 2), from 0 to 1: for the columns and the rows of each channel.
        ksize: (kh, kw), or one number.
        output_shape: (h', w'), or one number.

    Returns:
        (the largest elements; their places in h * w, Int64).
    """
    kernel, out = pair("ksize", ksize), pair("output_shape", output_shape)
    found, places = _largest(input_x, random_samples, kernel, out, (1, 0))
    return found, cast(places, int64)


@tuple_function
def fractional_max_pool_fixed_3d(
    x: Array, random_samples: Array, ksize: Ints, output_shape: Ints, data_format: str = "NCDHW"
) -> Any:
    """The largest of windows of one size whose places are drawn: (n, c, d, h, w), n may be missing.

    Args:
        x: the volumes.
        random_samples: (n, c, 3), from 0 to 1: for the three axes of each channel.
        ksize: (kd, kh, kw), or one number.
        output_shape: (d', h', w'), or one number.
        data_format: `NCDHW`, or `NDHWC` with the channels last.

    Returns:
        (the largest elements; their places in d * h * w, Int64).
    """
    if data_format not in ("NCDHW", "NDHWC"):
        raise ValueError(f"data_format must be 'NCDHW' or 'NDHWC', got {data_format!r}.")
    last = data_format == "NDHWC"
    channels = x.ndim - 4  # their axis when they come first
    volumes = jnp.moveaxis(x, -1, channels) if last else x
    kernel, out = pair("ksize", ksize, 3), pair("output_shape", output_shape, 3)
    found, places = _largest_drawn(volumes, kernel, out, random_samples)
    if last:
        found, places = jnp.moveaxis(found, channels, -1), jnp.moveaxis(places, channels, -1)
    return found, cast(places, int64)


def _fixed_settings(ksize: Ints, output_shape: Ints, data_format: str = "NCHW") -> dict[str, Any]:
    if data_format != "NCHW":
        raise ValueError(f"data_format must be 'NCHW', got {data_format!r}.")
    return dict(ksize=ksize, output_shape=output_shape)


FractionalMaxPoolWithFixedKsize = primitive(
    "FractionalMaxPoolWithFixedKsize", fractional_max_pool_fixed, _fixed_settings
)
FractionalMaxPool3DWithFixedKsize = primitive(
    "FractionalMaxPool3DWithFixedKsize",
    fractional_max_pool_fixed_3d,
    lambda ksize, output_shape, data_format="NCDHW": dict(
        ksize=ksize, output_shape=output_shape, data_format=data_format
    ),
)


def _wanted(sizes: Sequence[int], output_size: Ints | None, output_ratio: Ratio) -> tuple[int, ...]:
    n = len(sizes)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            f"give either output_size or output_ratio, got {output_size} and {output_ratio}."
        )
    if output_size is not None:
        return pair("output_size", output_size, n)
    given: Tree = output_ratio
    ratios = given if isinstance(given, tuple | list) else (given,) * n
    if len(ratios) != n or not all(0 < ratio < 1 for ratio in ratios):
        raise ValueError(f"output_ratio must be {n} numbers between 0 and 1, got {output_ratio}.")
    return tuple(int(size * ratio) for size, ratio in zip(sizes, ratios, strict=True))


@other_function
def fractional_max_pool2d(
    input: Array,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: Ratio = None,
    return_indices: bool = False,
    _random_samples: Array = None,
) -> Any:
    """The largest of windows of one size whose places are drawn: (n, c, h, w), n may be missing.

    Args:
        input: the images.
        kernel_size: (kh, kw), or one number.
        output_size: (h', w'), or one number.
        output_ratio: instead of `output_size`, its parts of h and w: between 0 and 1.
        return_indices: also where the elements were, in h * w, Int64.
        _random_samples: (n, c, 2), from 0 to 1, for the columns and rows; None: drawn.

    Raises:
        ValueError: both or neither of `output_size` and `output_ratio`, or sizes that do not fit.
    """
    out = _wanted(input.shape[-2:], output_size, output_ratio)
    kernel = pair("kernel_size", kernel_size)
    found, places = _largest_drawn(input, kernel, out, _random_samples)
    return (found, cast(places, int64)) if return_indices else found


@other_function
def fractional_max_pool3d(
    input: Array,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: Ratio = None,
    return_indices: bool = False,
    _random_samples: Array = None,
) -> Any:
    """The largest of windows of one size whose places are drawn: (n, c, d, h, w), n may be missing.

    Args:
        input: the volumes.
        kernel_size: (kd, kh, kw), or one number.
        output_size: (d', h', w'), or one number.
        output_ratio: instead of `output_size`, its parts of d, h and w: between 0 and 1.
        return_indices: also where the elements were, in d * h * w, Int64.
        _random_samples: (n, c, 3), from 0 to 1; None: drawn.

    Raises:
        ValueError: both or neither of `output_size` and `output_ratio`, or sizes that do not fit.
    """
    out = _wanted(input.shape[-3:], output_size, output_ratio)
    kernel = pair("kernel_size", kernel_size, 3)
    found, places = _largest_drawn(input, kernel, out, _random_samples)
    return (found, cast(places, int64)) if return_indices else found


# Windows of two sizes.


def _sequence(key: jax.Array, size: int, out: int, pseudo_random: bool) -> Any:
    """Where windows begin, and the end: (out + 1,), from 0 to `size`."""
    if size % out == 0:
        return jnp.arange(out + 1, dtype=jnp.int32) * (size // out)
    if pseudo_random:
        alpha, k = size / out, size // out
        most = min((k + 2) / alpha - 1, (size + 1 - k) / alpha - (out - 1))
        u = jax.random.uniform(key, ()) * most
        ends = jnp.ceil(alpha * (jnp.arange(1, out) + u)).astype(jnp.int32) - 1
    else:
        more = jax.random.permutation(key, jnp.arange(out) < size % out)
        ends = jnp.cumsum(size // out + more.astype(jnp.int32))[:-1].astype(jnp.int32)
    edges = jnp.zeros(1, jnp.int32), jnp.full(1, size, jnp.int32)
    return jnp.concatenate([edges[0], ends, edges[1]])


def pooled_by(
    x: jax.Array, sequences: Sequence[jax.Array], overlapping: bool, largest: bool
) -> Any:
    """The largest, or the mean, of windows: (n, h, w, c) -> (n, h', w', c).

    Args:
        x: the images.
        sequences: where windows begin along h and along w, each with the end of the last one.
        overlapping: whether the border of a window is part of it.
        largest: the largest (the first of equal ones); False: the mean.
    """
    places, inside = [], []
    for axis, sequence in zip((1, 2), sequences, strict=True):
        size, out = x.shape[axis], sequence.shape[0] - 1
        reach = size if out == 1 else size // out + 1
        at = sequence[:-1, None] + jnp.arange(reach + 1, dtype=sequence.dtype)
        inside.append((at < sequence[1:, None] + int(overlapping)) & (at < size))
        places.append(jnp.minimum(at, size - 1))
    windows = x[:, places[0][:, :, None, None], places[1]]  # (n, h', rows, w', columns, c)
    covered = (inside[0][:, :, None, None] & inside[1])[None, ..., None]
    n, high, _, wide, _, channels = windows.shape
    shape = n, high, wide, -1, channels
    flat = jnp.moveaxis(windows, 2, 3).reshape(shape)
    chosen = jnp.moveaxis(jnp.broadcast_to(covered, windows.shape), 2, 3).reshape(shape)
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    if largest:
        lowest = -np.inf if floats else jnp.iinfo(x.dtype).min
        kept = jnp.where(chosen, jax.lax.stop_gradient(flat), jnp.asarray(lowest, x.dtype))
        return jnp.take_along_axis(flat, jnp.argmax(kept, 3, keepdims=True), 3)[:, :, :, 0]
    total = jnp.where(chosen, flat, jnp.zeros((), x.dtype)).sum(3, dtype=x.dtype)
    count = chosen.sum(3, dtype=jnp.int32).astype(x.dtype)
    return total / count if floats else jax.lax.div(total, count)


@tuple_function
def fractional_pool(
    x: Array,
    pooling_ratio: Sequence[float],
    pseudo_random: bool = False,
    overlapping: bool = False,
    seed: int = 0,
    seed2: int = 0,
    largest: bool = True,
) -> Any:
    """The largest, or the mean, of windows of two sizes, drawn by chance: (n, h, w, c).

    Args:
        x: the images.
        pooling_ratio: how often the input is as large as the output, for each of its four axes; 1.0
            for the first and the last.
        pseudo_random: windows follow each other evenly, from a random start.
        overlapping: windows share their borders.
        seed: as that of other operators: a stream of its own.
        seed2: likewise.
        largest: the largest; False: the mean, of whole numbers rounded towards 0.

    Returns:
        (the images (n, h', w', c); where windows begin along h, and where they end: Int64
        (h' + 1,); the same along w).

    Raises:
        ValueError: no images, or ratios below 1.
    """
    if x.ndim != 4 or len(pooling_ratio) != 4 or min(pooling_ratio) < 1:
        raise ValueError(
            f"expected (n, h, w, c) and four ratios from 1 on, got {tuple(x.shape)} and "
            f"{pooling_ratio}."
        )
    if pooling_ratio[0] != 1 or pooling_ratio[3] != 1:
        raise ValueError(f"the first and the last ratio must be 1.0, got {pooling_ratio}.")
    key = random.next_key()
    if seed or seed2:
        key = jax.random.fold_in(jax.random.fold_in(key, seed), seed2)
    sequences = []
    for axis, along in zip((1, 2), jax.random.split(key), strict=True):
        out = math.floor(x.shape[axis] / pooling_ratio[axis])
        sequences.append(_sequence(along, x.shape[axis], out, pseudo_random))
    found = pooled_by(x, sequences, overlapping, largest)
    return found, *(cast(sequence, int64) for sequence in sequences)


def _pool_settings(largest: bool) -> Any:
    def init(
        pooling_ratio: Sequence[float],
        pseudo_random: bool = False,
        overlapping: bool = False,
        deterministic: bool = False,
        seed: int = 0,
        seed2: int = 0,
    ) -> dict[str, Any]:
        if not deterministic and (seed or seed2):
            raise ValueError("seed and seed2 need deterministic=True.")
        return dict(
            pooling_ratio=pooling_ratio,
            pseudo_random=pseudo_random,
            overlapping=overlapping,
            seed=seed,
            seed2=seed2,
            largest=largest,
        )

    return init


FractionalMaxPool = primitive("FractionalMaxPool", fractional_pool, _pool_settings(True))
FractionalAvgPool = primitive("FractionalAvgPool", fractional_pool, _pool_settings(False))
