"""`mint.nn.functional`: torch's functions of layers, over the operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from paramesh import ops
from paramesh.mint import arrays
from paramesh.mint.nn import further
from paramesh.mint.nn.further import *  # noqa: F403
from paramesh.mint.nn.inplace import with_inplace, written
from paramesh.mint.table import fill
from paramesh.ops.array import ints
from paramesh.ops.conv import pair
from paramesh.tensor.argument_types import Ints, Reduction, TensorLike
from paramesh.tensor.base import raw, wrap

_LIKE = "As torch's `{}`, over Tensors."


def _act(fn: Callable[..., Any]) -> Any:
    def compute(input: TensorLike, inplace: bool = False) -> Any:
        return fn(input)

    return compute


def _pad(input: jax.Array, pad: Ints, mode: str = "constant", value: float | None = None) -> Any:
    sizes = ints(pad)
    pairs = [sizes[i : i + 2] for i in range(0, len(sizes), 2)][::-1]
    widths = [(0, 0)] * (input.ndim - len(pairs)) + pairs
    if mode == "constant":
        number = jnp.asarray(0 if value is None else value, input.dtype)
        return jax.lax.pad(input, number, [(a, b, 0) for a, b in widths])
    names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in names:
        raise ValueError(f"mode must be one of constant, {', '.join(names)}, got {mode!r}.")
    return jnp.pad(input, widths, names[mode])


def _one_hot(input: jax.Array, num_classes: int = -1) -> Any:
    classes = int(input.max()) + 1 if num_classes == -1 else num_classes
    return jax.nn.one_hot(input, classes, dtype=input.dtype)


def _normalize(input: jax.Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    size = jnp.linalg.vector_norm(input, axis=dim, keepdims=True, ord=p)  # pyright: ignore[reportArgumentType]
    return input / jnp.maximum(size, eps)


__all__: list[str] = []
__all__ += fill(
    {
        "relu": (_act(jax.nn.relu), _LIKE.format("relu")),
        "relu6": (_act(jax.nn.relu6), _LIKE.format("relu6")),
        "silu": (_act(jax.nn.silu), _LIKE.format("silu")),
        "sigmoid": (lambda input: jax.nn.sigmoid(input), _LIKE.format("sigmoid")),
        "tanh": (lambda input: jnp.tanh(input), _LIKE.format("tanh")),
        "logsigmoid": (lambda input: jax.nn.log_sigmoid(input), _LIKE.format("logsigmoid")),
        "elu": (lambda input, alpha=1.0, inplace=False: jax.nn.elu(input, alpha),
                _LIKE.format("elu")),
        "gelu": (lambda input, *, approximate="none": jax.nn.gelu(input, approximate == "tanh"),
                 _LIKE.format("gelu")),
        "glu": (lambda input, dim=-1: jax.nn.glu(input, dim), _LIKE.format("glu")),
        "leaky_relu": (lambda input, negative_slope=0.01: jax.nn.leaky_relu(input, negative_slope),
                       _LIKE.format("leaky_relu")),
        "softplus": (lambda input, beta=1, threshold=20:
                     jnp.where(input * beta > threshold, input,
                               jax.nn.softplus(input * beta) / beta),
                     _LIKE.format("softplus")),
        "hardtanh": (lambda input, min_val=-1.0, max_val=1.0, inplace=False:
                     jnp.clip(input, min_val, max_val), _LIKE.format("hardtanh")),
        "threshold": (lambda input, threshold, value, inplace=False:
                      jnp.where(input > threshold, input, jnp.asarray(value, input.dtype)),
                      _LIKE.format("threshold")),
        "mish": (lambda input: input * jnp.tanh(jax.nn.softplus(input)), _LIKE.format("mish")),
        "normalize": (_normalize, _LIKE.format("normalize")),
    },
    floating=True,
)  # fmt: skip
__all__ += fill(
    {"pad": (_pad, _LIKE.format("pad")), "one_hot": (_one_hot, _LIKE.format("one_hot"))}
)
_INPLACE = {"relu": 1, "relu6": 1, "silu": 1, "elu": 2, "hardtanh": 3, "threshold": 3}
globals().update({name: with_inplace(globals()[name], at) for name, at in _INPLACE.items()})
softmax = arrays.softmax
log_softmax = arrays.log_softmax
flatten = arrays.flatten


def linear(input: TensorLike, weight: TensorLike | None, bias: TensorLike | None = None) -> Any:
    """Input @ weight.T + bias."""
    return ops.dense(input, weight, bias)


def embedding(
    input: TensorLike, weight: TensorLike | None, padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False,
) -> Any:  # fmt: skip
    """Rows of a table; `max_norm` and `scale_grad_by_freq` are not offered."""
    if max_norm is not None or scale_grad_by_freq:
        raise ValueError("embedding: max_norm and scale_grad_by_freq are not offered.")
    return ops.embedding(input, weight, padding_idx)


def dropout(input: TensorLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero with probability p, and x / (1 - p) otherwise, in training."""
    found = ops.dropout(input, p, training)
    return written("dropout", input, found) if inplace else found


def dropout2d(
    input: TensorLike, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Any:
    """Whole channels of zeros with probability p, in training."""
    if not training or p == 0:
        return input
    kept = ops.dropout(ops.ones(input.shape[:2], input.dtype), p)
    found = input * kept.reshape(*input.shape[:2], *[1] * (input.ndim - 2))
    return written("dropout2d", input, found) if inplace else found


def layer_norm(
    input: TensorLike,
    normalized_shape: Ints,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Any:
    """The last axes with mean 0 and variance 1, scaled and shifted."""
    return ops.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: TensorLike,
    num_groups: int,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Any:
    """Groups of channels with mean 0 and variance 1, scaled and shifted."""
    return ops.group_norm(input, num_groups, weight, bias, eps)


def batch_norm(
    input: TensorLike, running_mean: TensorLike, running_var: TensorLike,
    weight: TensorLike | None = None, bias: TensorLike | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """Channels with mean 0 and variance 1; running statistics that are Parameters are moved."""
    return ops.batch_norm(
        input, running_mean, running_var, weight, bias, training, momentum, eps
    )  # fmt: skip


def _conv(n: int) -> Any:
    def conv(
        input: TensorLike, weight: TensorLike | None, bias: TensorLike | None = None,
        stride: Ints | None = 1, padding: Ints | str = 0,
        dilation: Ints = 1, groups: int = 1,
    ) -> Any:  # fmt: skip
        if isinstance(padding, str):
            mode, pads = padding, 0
        else:
            sides = pair("padding", padding, n, 0)
            mode, pads = "pad", tuple(p for side in sides for p in (side, side))
        fn: Callable[..., Any] = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}[n]
        return fn(input, weight, bias, stride, mode, pads, dilation, groups)

    conv.__name__ = conv.__qualname__ = f"conv{n}d"
    conv.__doc__ = f"A convolution over {n} spatial axes; `padding`: numbers, 'same' or 'valid'."
    return conv


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)
conv_transpose2d = ops.conv_transpose2d
grid_sample = ops.grid_sample
interpolate = ops.interpolate
upsample = ops.interpolate
pixel_shuffle = ops.pixel_shuffle
unfold, fold = ops.unfold, ops.fold
adaptive_avg_pool1d, adaptive_avg_pool2d = ops.adaptive_avg_pool1d, ops.adaptive_avg_pool2d
adaptive_avg_pool3d = ops.adaptive_avg_pool3d
adaptive_max_pool1d, adaptive_max_pool2d = ops.adaptive_max_pool1d, ops.adaptive_max_pool2d


def max_pool2d(
    input: TensorLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest element of each window."""
    return ops.max_pool2d(input, kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _average(fn: Callable[..., Any], name: str) -> Any:
    def pool(
        input: TensorLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Any:  # fmt: skip
        steps = kernel_size if stride is None else stride
        more = (divisor_override or 0,) if name != "avg_pool1d" else ()
        return fn(input, kernel_size, steps, padding, ceil_mode, count_include_pad, *more)

    pool.__name__ = pool.__qualname__ = name
    pool.__doc__ = "The mean of each window; without `stride`, windows lie side by side."
    return pool


avg_pool1d = _average(ops.avg_pool1d, "avg_pool1d")
avg_pool2d = _average(ops.avg_pool2d, "avg_pool2d")
avg_pool3d = _average(ops.avg_pool3d, "avg_pool3d")
prelu = ops.prelu


def cross_entropy(
    input: TensorLike, target: TensorLike, weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean", label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """Cross entropy of logits and classes (or probabilities)."""
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Any:
    """Minus the log probability of the class."""
    return ops.nll_loss(input, target, weight, ignore_index, reduction)


def mse_loss(input: TensorLike, target: TensorLike, reduction: Reduction = "mean") -> Any:
    """Squared differences."""
    return ops.mse_loss(input, target, reduction)


def l1_loss(input: TensorLike, target: TensorLike, reduction: Reduction = "mean") -> Any:
    """Absolute differences."""
    return ops.l1_loss(input, target, reduction)


def smooth_l1_loss(
    input: TensorLike, target: TensorLike, reduction: Reduction = "mean", beta: float = 1.0
) -> Any:
    """Squared differences near 0, absolute ones beyond `beta`."""
    return ops.smooth_l1_loss(input, target, beta, reduction)


def kl_div(
    input: TensorLike,
    target: TensorLike,
    reduction: Reduction | Literal["batchmean"] = "mean",
    log_target: bool = False,
) -> Any:
    """Kullback and Leibler's divergence of log probabilities and probabilities (or their logs)."""
    wanted = ops.exp(target) if log_target else target
    return ops.kl_div(input, wanted, reduction)


def binary_cross_entropy(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    reduction: Reduction = "mean",
) -> Any:
    """Cross entropy of probabilities and 0 or 1."""
    return ops.binary_cross_entropy(input, target, weight, reduction)


def binary_cross_entropy_with_logits(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    reduction: Reduction = "mean",
    pos_weight: TensorLike | None = None,
) -> Any:
    """Cross entropy of logits and 0 or 1."""
    one = wrap(jnp.ones((), raw(input).dtype))
    return ops.binary_cross_entropy_with_logits(
        input, target, one if weight is None else weight, one if pos_weight is None else pos_weight,
        reduction,
    )  # fmt: skip


_HERE = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d avg_pool1d avg_pool2d avg_pool3d batch_norm binary_cross_entropy
    binary_cross_entropy_with_logits conv1d conv2d conv3d conv_transpose2d cross_entropy dropout
    dropout2d embedding flatten fold grid_sample group_norm interpolate kl_div l1_loss layer_norm
    linear log_softmax max_pool2d mse_loss nll_loss pixel_shuffle prelu smooth_l1_loss softmax
    unfold upsample
"""
__all__ += _HERE.split()
__all__ += further.__all__
