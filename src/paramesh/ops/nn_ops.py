"""What layers are made of besides activations: normalisation, bias, embeddings."""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import x64
from paramesh.ops.activations import cast_like
from paramesh.ops.array import axis_in, ints
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import Ints, TensorLike
from paramesh.tensor.base import raw
from paramesh.tensor.kept_calls import as_one

# fmt: off
__all__ = [
    "batch_norm", "batch_norm_with_statistics", "BatchNorm", "layer_norm",
    "layer_norm_with_statistics", "LayerNorm", "group_norm", "l2_normalize", "L2Normalize",
    "bias_add", "BiasAdd", "embedding", "embedding_lookup", "EmbeddingLookup",
]
# fmt: on


# Normalisation.

#: Mean and variance.
Moments = tuple[jax.Array, jax.Array]


def _along(vector: jax.Array, axis: int, ndim: int) -> jax.Array:
    return vector.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _statistics(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, of half precision in Float32."""
    upcast = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.mean(upcast, axes), jnp.var(upcast, axes)


def _normalised(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    eps: float,
    axis: int,
) -> jax.Array:
    scale = jax.lax.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    # The mean goes off first: x * scale + (bias - mean * scale) would be two large numbers that
    # cancel where the mean is large beside the deviation, and its gradient too.
    out = (x - _along(mean, axis, x.ndim)) * _along(scale, axis, x.ndim)
    out = out if bias is None else out + _along(bias, axis, x.ndim)
    return out.astype(x.dtype)


def _check_channels(x: jax.Array, axis: int, **vectors: jax.Array | None) -> None:
    for name, vector in vectors.items():
        if vector is not None and tuple(vector.shape) != (x.shape[axis],):
            raise ValueError(
                f"{name} must be of shape ({x.shape[axis]},), one for each channel of the input "
                f"{tuple(x.shape)}, got {tuple(vector.shape)}."
            )


@function
def batch_norm(
    input_x: Floating,
    running_mean: TensorLike,
    running_var: TensorLike,
    weight: Floating = None,
    bias: Floating = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel (axis 1) with mean 0 and variance 1, then scaled and shifted: (n, c, ...).

    In training with the statistics of the batch, and `running_mean` and `running_var` that are
    Parameters are moved by `momentum` towards them (the variance unbiased).

    Args:
        input_x: (n, c, ...).
        running_mean: (c,).
        running_var: (c,).
        weight: (c,), or None for 1.
        bias: (c,), or None for 0.
        training: whether to use the statistics of the batch.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Raises:
        ValueError: a vector does not have one entry for each channel.
    """
    return _batch_norm(input_x, running_mean, running_var, weight, bias, training, momentum, eps)


def _batch_norm(
    input_x: jax.Array,
    running_mean: TensorLike,
    running_var: TensorLike,
    weight: jax.Array | None,
    bias: jax.Array | None,
    training: bool,
    momentum: float,
    eps: float,
) -> jax.Array:
    mean, variance = raw(running_mean), raw(running_var)
    _check_channels(input_x, 1, running_mean=mean, running_var=variance, weight=weight, bias=bias)
    if not training:
        return as_one(_normalised, input_x, mean, variance, weight, bias, eps, 1)
    out, moved = as_one(_trained, input_x, mean, variance, weight, bias, momentum, eps)
    for running, new in zip((running_mean, running_var), moved, strict=True):
        if isinstance(running, Parameter):
            running.assign(new)
    return out


def _trained(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    weight: jax.Array | None,
    bias: jax.Array | None,
    momentum: float,
    eps: float,
) -> tuple[jax.Array, list[jax.Array]]:
    """Normalised by the statistics of the batch, and the running ones moved towards them."""
    batch = _statistics(x, _all_but(1, x.ndim))
    moved = _moved(x, (mean, variance), batch, momentum)
    return _normalised(x, *batch, weight, bias, eps, 1), moved


def _all_but(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


def _moved(x: jax.Array, old: Moments, batch: Moments, momentum: float) -> list[jax.Array]:
    n = x.size // x.shape[1]
    unbiased = batch[0], batch[1] * (n / max(n - 1, 1))
    return [
        (a + momentum * (jax.lax.stop_gradient(b) - a)).astype(a.dtype)
        for a, b in zip(old, unbiased, strict=True)
    ]


@tuple_function
def batch_norm_with_statistics(
    input_x: Floating,
    scale: Floating,
    bias: Floating,
    mean: TensorLike,
    variance: TensorLike,
    is_training: bool = False,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    data_format: str = "NCHW",
) -> Any:
    """Batch normalisation that also gives the statistics it used.

    Args:
        input_x: (n, c, ...), or (n, ..., c) for `data_format="NHWC"`.
        scale: (c,).
        bias: (c,).
        mean: (c,), running; a Parameter is moved in training.
        variance: (c,), running; a Parameter is moved in training.
        is_training: whether to use the statistics of the batch.
        epsilon: added to the variance.
        momentum: weight of the batch in the running statistics.
        data_format: `NCHW` or `NHWC`.

    Returns:
        (output, mean, variance, mean, variance): the statistics that were used, twice.

    Raises:
        ValueError: a vector does not have one entry for each channel, or an unknown `data_format`.
    """
    _check_format(data_format)
    turned = data_format == "NHWC"
    x = jnp.moveaxis(input_x, -1, 1) if turned else input_x
    used = _statistics(x, _all_but(1, x.ndim)) if is_training else (raw(mean), raw(variance))
    out = _batch_norm(x, mean, variance, scale, bias, is_training, momentum, epsilon)
    return (jnp.moveaxis(out, 1, -1) if turned else out, *used, *used)


def _check_format(data_format: str) -> None:
    if data_format not in ("NCHW", "NHWC"):
        raise ValueError(f"data_format must be 'NCHW' or 'NHWC', got {data_format!r}.")


BatchNorm = primitive(
    "BatchNorm",
    batch_norm_with_statistics,
    lambda is_training=False, epsilon=1e-5, momentum=0.1, data_format="NCHW": dict(
        is_training=is_training, epsilon=epsilon, momentum=momentum, data_format=data_format
    ),
)


def _layer_norm(
    x: jax.Array,
    gamma: jax.Array | None,
    beta: jax.Array | None,
    axes: tuple[int, ...],
    first: int,
    eps: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    upcast = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(upcast, axes, keepdims=True)
    variance = jnp.var(upcast, axes, keepdims=True)
    out = (upcast - mean) * jax.lax.rsqrt(variance + eps)
    for name, vector in (("weight", gamma), ("bias", beta)):
        if vector is not None and tuple(vector.shape) != tuple(x.shape[first:]):
            raise ValueError(
                f"{name} must be of shape {tuple(x.shape[first:])}, got {tuple(vector.shape)}."
            )
    out = out if gamma is None else out * gamma
    out = out if beta is None else out + beta
    return out.astype(x.dtype), mean, variance


@function
def layer_norm(
    input: Floating,
    normalized_shape: Ints,
    weight: Floating = None,
    bias: Floating = None,
    eps: float = 1e-5,
) -> Any:
    """Last axes with mean 0 and variance 1, then scaled and shifted (Ba et al. 2016).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: sizes of the last axes, over which statistics are taken.
        weight: of that shape, or None for 1.
        bias: of that shape, or None for 0.
        eps: added to the variance.

    Raises:
        ValueError: the input does not end in `normalized_shape`, or a vector is of another shape.
    """
    sizes = ints(normalized_shape)
    first = input.ndim - len(sizes)
    if first < 0 or tuple(input.shape[first:]) != sizes:
        raise ValueError(f"the input {tuple(input.shape)} does not end in {sizes}.")
    return _layer_norm(input, weight, bias, tuple(range(first, input.ndim)), first, eps)[0]


@tuple_function
def layer_norm_with_statistics(
    input_x: Floating,
    gamma: Floating,
    beta: Floating,
    begin_norm_axis: int = 1,
    begin_params_axis: int = 1,
    epsilon: float = 1e-7,
) -> Any:
    """Layer normalisation that also gives the statistics it used.

    Args:
        input_x: (...).
        gamma: of the shape of the axes from `begin_params_axis` on.
        beta: of that shape.
        begin_norm_axis: statistics are taken over the axes from this one on.
        begin_params_axis: first axis of `gamma` and `beta`.
        epsilon: added to the variance.

    Returns:
        (output, mean, variance), the last two with axes of size 1.

    Raises:
        ValueError: an axis is out of range, or a vector is of another shape.
    """
    axes = tuple(range(axis_in(begin_norm_axis, input_x.ndim), input_x.ndim))
    first = axis_in(begin_params_axis, input_x.ndim)
    return _layer_norm(input_x, gamma, beta, axes, first, epsilon)


LayerNorm = primitive(
    "LayerNorm",
    layer_norm_with_statistics,
    lambda begin_norm_axis=1, begin_params_axis=1, epsilon=1e-7: dict(
        begin_norm_axis=begin_norm_axis, begin_params_axis=begin_params_axis, epsilon=epsilon
    ),
)


@function
def group_norm(
    input: Floating,
    num_groups: int,
    weight: Floating = None,
    bias: Floating = None,
    eps: float = 1e-5,
) -> Any:
    """Groups of channels with mean 0 and variance 1, then scaled and shifted (Wu and He 2018).

    Args:
        input: (n, c, ...).
        num_groups: how many groups the channels (axis 1) make.
        weight: (c,), or None for 1.
        bias: (c,), or None for 0.
        eps: added to the variance.

    Raises:
        ValueError: the channels do not make so many groups, or a vector is not of shape (c,).
    """
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{channels} channels do not make num_groups={num_groups} groups.")
    _check_channels(input, 1, weight=weight, bias=bias)
    grouped = input.reshape(input.shape[0], num_groups, -1)
    out = _layer_norm(grouped, None, None, (2,), 2, eps)[0].reshape(input.shape)
    out = out if weight is None else out * _along(weight, 1, input.ndim)
    out = out if bias is None else out + _along(bias, 1, input.ndim)
    return out.astype(input.dtype)


@function
def l2_normalize(input: Floating, axis: Ints = 0, epsilon: float = 1e-4) -> Any:
    """Of length 1, x / sqrt(max(sum(x²), epsilon)) along axes: (...) -> (...)."""
    total = jnp.sum(jnp.square(input), ints(axis), keepdims=True)
    return input * jax.lax.rsqrt(jnp.maximum(total, epsilon))


L2Normalize = primitive(
    "L2Normalize", l2_normalize, lambda axis=0, epsilon=1e-4: {"axis": axis, "epsilon": epsilon}
)

# Bias and embeddings.


@function
def bias_add(input_x: Array, bias: Array, data_format: str = "NCHW") -> Any:
    """A number added to each channel.

    Args:
        input_x: (n, c, ...), or (n, ..., c) for `data_format="NHWC"`.
        bias: (c,).
        data_format: `NCHW` or `NHWC`.

    Raises:
        ValueError: `bias` does not have one entry for each channel, or an unknown `data_format`.
    """
    _check_format(data_format)
    axis = 1 if data_format == "NCHW" else input_x.ndim - 1
    _check_channels(input_x, axis, bias=bias)
    return input_x + cast_like(_along(bias, axis, input_x.ndim), input_x)


BiasAdd = primitive("BiasAdd", bias_add, lambda data_format="NCHW": {"data_format": data_format})


@function
def embedding(input: Array, weight: Array, padding_idx: int | None = None) -> Any:
    """Rows of a table: indices (...) and (n, d) -> (..., d).

    Args:
        input: integers; one outside the table gives NaN.
        weight: (n, d).
        padding_idx: a row that gets no gradient.

    Raises:
        TypeError: the indices are not integers.
        ValueError: `weight` does not have two axes, or `padding_idx` is out of range.
    """
    if not jnp.issubdtype(input.dtype, jnp.integer):
        raise TypeError("the indices must be integers: cast them first.")
    if weight.ndim != 2:
        raise ValueError(f"weight must have two axes, got shape {tuple(weight.shape)}.")
    rows = jnp.take(weight, input, 0, mode="fill")
    if padding_idx is None:
        return rows
    padding = (input == axis_in(padding_idx, weight.shape[0]))[..., None]
    return jnp.where(padding, jax.lax.stop_gradient(rows), rows)


@function
def embedding_lookup(input_params: Array, input_indices: Array, offset: int = 0) -> Any:
    """Rows of a slice of a table: (n, d) and (...) -> (..., d); zeros for rows that are elsewhere.

    Args:
        input_params: rows `offset` to `offset + n - 1` of the table.
        input_indices: integers, positions in the table.
        offset: position of the first row.

    Raises:
        TypeError: the indices are not integers.
    """
    if not jnp.issubdtype(input_indices.dtype, jnp.integer):
        raise TypeError("the indices must be integers: cast them first.")
    with x64(input_indices):
        places = input_indices - jnp.asarray(raw(offset), input_indices.dtype)
        inside = (places >= 0) & (places < input_params.shape[0])
        rows = jnp.take(input_params, places, 0, mode="clip")
        shape = (*inside.shape, *[1] * (input_params.ndim - 1))
        return jnp.where(inside.reshape(shape), rows, jnp.zeros_like(rows))


EmbeddingLookup = primitive("EmbeddingLookup", embedding_lookup)
