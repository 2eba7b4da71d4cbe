"""Of elementwise operators."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.mindspore_gradients.classes import computation, gradient, pulled
from paramesh.ops import activations
from paramesh.ops.table import Array, Floating
from paramesh.tensor import borders

__all__: list[str] = []


def _at_input(name: str, fn: Callable[[Any], Any], dy_first: bool = False) -> None:
    """The derivative at the input `x`."""

    def compute(x: Array, dy: Array) -> Any:
        return pulled(fn, dy, x)

    def turned(dy: Array, x: Array) -> Any:
        return pulled(fn, dy, x)

    chosen = turned if dy_first else compute
    chosen.__doc__ = f"{name[:-4]}: takes ({'dy, x' if dy_first else 'x, dy'}), x being the input."
    gradient(globals(), name, chosen)


def _at_output(name: str, fn: Callable[[Any, Any], Any], dy_first: bool = False) -> None:
    """The derivative as a function of the output `y` and of `dy`."""

    def compute(y: Array, dy: Array) -> Any:
        return fn(jnp.conj(y), dy)

    def turned(dy: Array, y: Array) -> Any:
        return fn(jnp.conj(y), dy)

    chosen = turned if dy_first else compute
    chosen.__doc__ = f"{name[:-4]}: takes ({'dy, y' if dy_first else 'y, dy'}), y being the output."
    gradient(globals(), name, chosen)


for _name, _fn in {
    "AbsGrad": borders.absolute,
    "ACosGrad": jnp.arccos,
    "AsinGrad": jnp.arcsin,
    "AtanGrad": jnp.arctan,
}.items():
    _at_input(_name, _fn)

for _name, _fn in {
    "HSigmoidGrad": jax.nn.hard_sigmoid,
    "HSwishGrad": borders.hard_swish,
    "ReLU6Grad": borders.relu6,
    "SiLUGrad": jax.nn.silu,
    "SoftplusGrad": computation(activations.softplus),
    "LogSigmoidGrad": jax.nn.log_sigmoid,
}.items():
    _at_input(_name, _fn, dy_first=True)

_at_output("AcoshGrad", lambda y, dy: dy / jnp.sinh(y))
_at_output("AsinhGrad", lambda y, dy: dy / jnp.cosh(y))
_at_output("InvGrad", lambda y, dy: -dy * y * y)
_at_output("ReciprocalGrad", lambda y, dy: -dy * y * y)
_at_output("RsqrtGrad", lambda y, dy: (dy * y * y * y / -2).astype(y.dtype))
_at_output("SigmoidGrad", lambda y, dy: dy * y * (1 - y))
_at_output("SqrtGrad", lambda y, dy: (dy / (2 * y)).astype(y.dtype))
_at_output("TanhGrad", lambda y, dy: dy * (1 - y * y))
_at_output("EluGrad", lambda y, dy: jnp.where(y < 0, dy * (y + 1), dy), dy_first=True)
_at_output("ReluGrad", lambda y, dy: jnp.where(y > 0, dy, 0), dy_first=True)


def _relu_by_mask(dy: Array, mask: Array) -> Any:
    """ReLUV2: takes (dy, mask), the mask that the forward operator gave."""
    return jnp.where(mask > 0, dy, 0)


gradient(globals(), "ReluGradV2", _relu_by_mask)


def _gelu(dy: Floating, x: Floating, y: Floating = None) -> Any:
    """GeLU by tanh: takes (dy, x, y), y being the output, which is not needed."""
    return pulled(lambda v: jax.nn.gelu(v, approximate=True), dy, x)


gradient(globals(), "GeLUGrad", _gelu)


def _lambd(lambd: float = 0.5) -> dict[str, Any]:
    return {"lambd": lambd}


def _hard_shrink(dy: Array, x: Array, lambd: float) -> Any:
    """HShrink(lambd): takes (dy, x)."""
    return jnp.where(jnp.abs(x) > lambd, dy, 0).astype(dy.dtype)


gradient(globals(), "HShrinkGrad", _hard_shrink, _lambd)
gradient(globals(), "SoftShrinkGrad", _hard_shrink, _lambd)


def _prelu(dy: Floating, x: Floating, weight: Floating) -> Any:
    """PReLU: takes (dy, x, weight); gives the gradients of x and of the weight."""
    return pulled(computation(activations.prelu), dy, x, weight)


gradient(globals(), "PReLUGrad", _prelu)


def _log_softmax(logits: Floating, grad: Floating, axis: int) -> Any:
    """LogSoftmax(axis): takes (logits, dy), logits being the output of LogSoftmax."""
    return grad - jnp.exp(logits) * jnp.sum(grad, axis, keepdims=True)


gradient(globals(), "LogSoftmaxGrad", _log_softmax, lambda axis=-1: {"axis": axis})


def _softmax(y: Floating, dy: Floating) -> Any:
    """Softmax along the last axis: takes (y, dy), y being the output."""
    return y * (dy - jnp.sum(y * dy, -1, keepdims=True))


gradient(globals(), "SoftmaxGrad", _softmax)


def _larger(smaller: bool) -> Callable[..., Any]:
    def compute(x: Array, y: Array, dy: Array, grad_x: bool, grad_y: bool) -> Any:
        # Where both are equal MindSpore gives all of it to x.
        to_x = x <= y if smaller else x >= y
        parts = jnp.where(to_x, dy, 0), jnp.where(to_x, 0, dy)
        wanted = [
            _summed(part, like).astype(like.dtype)
            for part, like, asked in zip(parts, (x, y), (grad_x, grad_y), strict=True)
            if asked
        ]
        return tuple(wanted)

    compute.__doc__ = "Takes (x, y, dy); gives the gradients of x and y, of their shapes."
    return compute


def _summed(value: jax.Array, like: jax.Array) -> jax.Array:
    """The sum over the axes along which `like` was broadcast."""
    extra = value.ndim - like.ndim
    total = jnp.sum(value, tuple(range(extra)))
    kept = tuple(i for i, n in enumerate(like.shape) if n == 1 and total.shape[i] != 1)
    return jnp.sum(total, kept, keepdims=True)


def _both(grad_x: bool = True, grad_y: bool = True) -> dict[str, Any]:
    return {"grad_x": grad_x, "grad_y": grad_y}


gradient(globals(), "MaximumGrad", _larger(smaller=False), _both)
gradient(globals(), "MinimumGrad", _larger(smaller=True), _both)


def _dropout(grad: Array, mask: Array, keep_prob: float) -> Any:
    """Dropout(keep_prob): takes (dy, mask), the mask that the forward operator gave."""
    return (grad * mask / keep_prob).astype(grad.dtype)


gradient(globals(), "DropoutGrad", _dropout, lambda keep_prob=0.5: {"keep_prob": keep_prob})


def _igamma_by_a(a: Floating, x: Floating) -> Any:
    """Igamma: takes (a, x); its derivative by a."""
    return jax.lax.igamma_grad_a(*jnp.broadcast_arrays(a, x.astype(a.dtype)))


gradient(globals(), "IgammaGradA", _igamma_by_a)
