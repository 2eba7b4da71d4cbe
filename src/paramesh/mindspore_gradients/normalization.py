"""Of normalizations."""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.mindspore_gradients.classes import computation, gradient, pulled
from paramesh.ops import nn_ops, volumes
from paramesh.ops.array import Ints, axis_in
from paramesh.ops.table import Array, Floating

__all__: list[str] = []


def _layer_norm(
    x: Array,
    dy: Array,
    variance: Array,
    mean: Array,
    gamma: Array,
    begin_norm_axis: int,
    begin_params_axis: int,
) -> Any:
    """LayerNorm: takes (x, dy, variance, mean, gamma); gives those of x, gamma and beta."""
    axes = tuple(range(axis_in(begin_norm_axis, x.ndim), x.ndim))
    outer = tuple(range(axis_in(begin_params_axis, x.ndim)))
    scale = jax.lax.rsqrt(variance + _LAYER_NORM_EPSILON)
    normal = (x - mean) * scale
    inner = dy * gamma
    along = jnp.mean(inner * normal, axes, keepdims=True)
    # The last part is 0 for the input's own mean; MindSpore has it for any other, too.
    dx = scale * (inner - jnp.mean(inner, axes, keepdims=True) - normal * along)
    dx = dx + scale * along * jnp.mean(normal, axes, keepdims=True)
    return dx.astype(x.dtype), jnp.sum(dy * normal, outer), jnp.sum(dy, outer)


#: What MindSpore's kernel adds to the variance that it is given.
_LAYER_NORM_EPSILON = 1e-12
gradient(
    globals(),
    "LayerNormGrad",
    _layer_norm,
    lambda begin_norm_axis=1, begin_params_axis=1: dict(
        begin_norm_axis=begin_norm_axis, begin_params_axis=begin_params_axis
    ),
)


def _l2_normalize(x: Floating, out: Floating, dout: Floating, axis: Ints, epsilon: float) -> Any:
    """L2Normalize(axis, epsilon): takes (x, y, dy), y being the output."""
    return pulled(lambda v: computation(nn_ops.l2_normalize)(v, axis, epsilon), dout, x)


gradient(
    globals(),
    "L2NormalizeGrad",
    _l2_normalize,
    lambda axis=0, epsilon=1e-4: {"axis": axis, "epsilon": epsilon},
)


def _lrn(grad: Floating, x: Floating, y: Floating, **settings: object) -> Any:
    """LRN(settings): takes (dy, x, y), y being the output."""
    return pulled(lambda v: computation(volumes.lrn)(v, **settings), grad, x)


gradient(
    globals(),
    "LRNGrad",
    _lrn,
    lambda depth_radius=5, bias=1.0, alpha=1.0, beta=0.5: dict(
        depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta
    ),
)
