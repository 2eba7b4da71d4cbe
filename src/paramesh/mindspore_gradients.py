"""MindSpore's operators of gradients (`ops.operations._grad_ops`), which scripts import.

They are the inside of MindSpore: its compiler puts them into the backward graph, and scripts call
them in a `bprop` of their own. Each is the product of a gradient `dy` with the derivative of an
operator, at the operator's input or output, whichever MindSpore keeps. JAX derives what it can.

Each class is made with its settings and called with Tensors, like those of `paramesh.ops`; its
docstring says in which order it takes them. Source: MindSpore's classes of these names.
"""

from collections.abc import Callable
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from paramesh.ops import activations, conv, indexing, nn_ops, pooling, resizing, volumes
from paramesh.ops.array import Ints, axis_in, ints
from paramesh.ops.table import Array, Floating, Kind, Operator, Primitive, operator_of

__all__: list[str] = []

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[Primitive]: ...


def _no_settings() -> dict[str, Any]:
    return {}


def _gradient(
    name: str, compute: Callable[..., Any], init: Callable[..., dict[str, Any]] = _no_settings
) -> None:
    """Offer a class; it is not in the table of operators, since it is no public operator."""
    kinds = {
        parameter: mark
        for parameter, hint in compute.__annotations__.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Kind)
    }
    globals()[name] = type(
        name,
        (Primitive,),
        {
            "__module__": __name__,
            "__doc__": compute.__doc__,
            "operator": Operator(name, compute, kinds),
            "_init": staticmethod(init),
        },
    )
    __all__.append(name)


def _pulled(fn: Callable[..., Any], dy: jax.Array, *at: jax.Array) -> Any:
    """`dy` times the derivatives of `fn` by each argument; one value for one argument."""
    out, back = jax.vjp(fn, *at)
    if tuple(out.shape) != tuple(dy.shape):
        raise ValueError(
            f"the gradient must be of the output's shape {tuple(out.shape)}, got {tuple(dy.shape)}."
        )
    # Of complex numbers MindSpore has the conjugate derivative.
    found = [jnp.conj(each) for each in back(jnp.conj(dy.astype(out.dtype)))]
    return found[0] if len(found) == 1 else tuple(found)


def _raw(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The computation of an operator on raw values."""
    return operator_of(fn).compute


# Elementwise.


def _at_input(name: str, fn: Callable[[Any], Any], dy_first: bool = False) -> None:
    """The derivative at the input `x`."""

    def compute(x: Array, dy: Array) -> Any:
        return _pulled(fn, dy, x)

    def turned(dy: Array, x: Array) -> Any:
        return _pulled(fn, dy, x)

    chosen = turned if dy_first else compute
    chosen.__doc__ = f"{name[:-4]}: takes ({'dy, x' if dy_first else 'x, dy'}), x being the input."
    _gradient(name, chosen)


def _at_output(name: str, fn: Callable[[Any, Any], Any], dy_first: bool = False) -> None:
    """The derivative as a function of the output `y` and of `dy`."""

    def compute(y: Array, dy: Array) -> Any:
        return fn(jnp.conj(y), dy)

    def turned(dy: Array, y: Array) -> Any:
        return fn(jnp.conj(y), dy)

    chosen = turned if dy_first else compute
    chosen.__doc__ = f"{name[:-4]}: takes ({'dy, y' if dy_first else 'y, dy'}), y being the output."
    _gradient(name, chosen)


for _name, _fn in {
    "AbsGrad": jnp.abs,
    "ACosGrad": jnp.arccos,
    "AsinGrad": jnp.arcsin,
    "AtanGrad": jnp.arctan,
}.items():
    _at_input(_name, _fn)

for _name, _fn in {
    "HSigmoidGrad": jax.nn.hard_sigmoid,
    "HSwishGrad": jax.nn.hard_swish,
    "ReLU6Grad": jax.nn.relu6,
    "SiLUGrad": jax.nn.silu,
    "SoftplusGrad": _raw(activations.softplus),
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


_gradient("ReluGradV2", _relu_by_mask)


def _gelu(dy: Floating, x: Floating, y: Floating = None) -> Any:
    """GeLU by tanh: takes (dy, x, y), y being the output, which is not needed."""
    return _pulled(lambda v: jax.nn.gelu(v, approximate=True), dy, x)


_gradient("GeLUGrad", _gelu)


def _lambd(lambd: float = 0.5) -> dict[str, Any]:
    return {"lambd": lambd}


def _hard_shrink(dy: Array, x: Array, lambd: float) -> Any:
    """HShrink(lambd): takes (dy, x)."""
    return jnp.where(jnp.abs(x) > lambd, dy, 0).astype(dy.dtype)


_gradient("HShrinkGrad", _hard_shrink, _lambd)
_gradient("SoftShrinkGrad", _hard_shrink, _lambd)


def _prelu(dy: Floating, x: Floating, weight: Floating) -> Any:
    """PReLU: takes (dy, x, weight); gives the gradients of x and of the weight."""
    return _pulled(_raw(activations.prelu), dy, x, weight)


_gradient("PReLUGrad", _prelu)


def _log_softmax(logits: Floating, grad: Floating, axis: int) -> Any:
    """LogSoftmax(axis): takes (logits, dy), logits being the output of LogSoftmax."""
    return grad - jnp.exp(logits) * jnp.sum(grad, axis, keepdims=True)


_gradient("LogSoftmaxGrad", _log_softmax, lambda axis=-1: {"axis": axis})


def _softmax(y: Floating, dy: Floating) -> Any:
    """Softmax along the last axis: takes (y, dy), y being the output."""
    return y * (dy - jnp.sum(y * dy, -1, keepdims=True))


_gradient("SoftmaxGrad", _softmax)


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


_gradient("MaximumGrad", _larger(smaller=False), _both)
_gradient("MinimumGrad", _larger(smaller=True), _both)


def _dropout(grad: Array, mask: Array, keep_prob: float) -> Any:
    """Dropout(keep_prob): takes (dy, mask), the mask that the forward operator gave."""
    return (grad * mask / keep_prob).astype(grad.dtype)


_gradient("DropoutGrad", _dropout, lambda keep_prob=0.5: {"keep_prob": keep_prob})


def _igamma_by_a(a: Floating, x: Floating) -> Any:
    """Igamma: takes (a, x); its derivative by a."""
    return jax.lax.igamma_grad_a(*jnp.broadcast_arrays(a, x.astype(a.dtype)))


_gradient("IgammaGradA", _igamma_by_a)

# Shapes.


def _bias(dout: Array, data_format: str) -> Any:
    """BiasAdd(data_format): takes (dy,); gives the gradient of the bias."""
    channels = dout.ndim - 1 if data_format == "NHWC" else 1
    axes = tuple(axis for axis in range(dout.ndim) if axis != channels)
    return jnp.sum(dout, axes, dtype=dout.dtype)


_gradient("BiasAddGrad", _bias, lambda data_format="NCHW": {"data_format": data_format})


def _flat(x: Array, shape: Ints) -> Any:
    """Flatten: takes (dy, shape), the shape of the input."""
    return x.reshape(ints(shape))


_gradient("FlattenGrad", _flat)


def _slice(dy: Array, x: Array, begin: Ints, size: Ints) -> Any:
    """Slice: takes (dy, x, begin, size); x is the input."""
    sizes = zip(ints(begin), ints(size), x.shape, strict=True)
    places = tuple(slice(b, n if s == -1 else b + s) for b, s, n in sizes)
    return jnp.zeros(x.shape, dy.dtype).at[places].set(dy)


_gradient("SliceGrad", _slice)


def _masks(
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> dict[str, Any]:
    return dict(locals())


def _strided_slice(
    dy: Array, shapex: Ints, begin: Ints, end: Ints, strides: Ints, **masks: int
) -> Any:
    """StridedSlice(masks): takes (dy, shape, begin, end, strides), the shape being the input's."""
    sizes = ints(shapex)
    # Of any element type, so by positions: JAX derives floats alone.
    places = jnp.arange(prod(sizes)).reshape(sizes)
    places = _raw(indexing.strided_slice)(places, ints(begin), ints(end), ints(strides), **masks)
    zeros = jnp.zeros(prod(sizes), dy.dtype)
    return zeros.at[places.reshape(-1)].set(dy.reshape(-1)).reshape(sizes)


_gradient("StridedSliceGrad", _strided_slice, _masks)

# Images.


def _windows(
    kernel_size: Ints = 1, strides: Ints = 1, pad_mode: str = "valid", data_format: str = "NCHW"
) -> dict[str, Any]:
    return dict(
        kernel_size=kernel_size,
        strides=strides,
        pad_mode=pad_mode.lower(),
        data_format=data_format,
    )


def _pooled(pool: Callable[..., Any]) -> Callable[..., Any]:
    def compute(x: Array, out: Array, grad: Array, **settings: object) -> Any:
        return _pulled(lambda v: _raw(pool)(v, **settings), grad, x)

    compute.__doc__ = f"{pool.__name__} with these settings: takes (x, y, dy), y being the output."
    return compute


def _pooled_twice(pool: Callable[..., Any]) -> Callable[..., Any]:
    def compute(x: Array, out: Array, grad: Array, **settings: object) -> Any:
        return jax.jvp(lambda v: _raw(pool)(v, **settings), (x,), (grad,))[1]

    compute.__doc__ = (
        f"The derivative of {pool.__name__}'s gradient by its dy: takes (x, y, grad), grad being "
        "of the shape of x."
    )
    return compute


_gradient("MaxPoolGrad", _pooled(pooling.max_pool), _windows)
_gradient("AvgPoolGrad", _pooled(pooling.avg_pool), _windows)
_gradient("MaxPoolGradGrad", _pooled_twice(pooling.max_pool), _windows)


def _by_position(x: Array, grad: Array, argmax: Array, **_: object) -> Any:
    """MaxPoolWithArgmax: takes (x, dy, argmax), the positions that the forward operator gave."""
    n, c = x.shape[:2]
    flat = jnp.zeros((n, c, prod(x.shape[2:])), grad.dtype)
    images, channels = jnp.arange(n)[:, None, None], jnp.arange(c)[None, :, None]
    found = flat.at[images, channels, argmax.reshape(n, c, -1)].add(grad.reshape(n, c, -1))
    return found.reshape(x.shape)


def _picked(x: Array, grad: Array, argmax: Array, **_: object) -> Any:
    """What MaxPoolWithArgmax picks of `grad`: takes (x, grad, argmax)."""
    n, c = x.shape[:2]
    picked = jnp.take_along_axis(grad.reshape(n, c, -1), argmax.reshape(n, c, -1), 2)
    return picked.reshape(argmax.shape)


_gradient("MaxPoolGradWithArgmax", _by_position, _windows)
_gradient("MaxPoolGradGradWithArgmax", _picked, _windows)


def _by_kernel(out: Array, x: Array, w_shape: Ints, **settings: object) -> Any:
    """Conv2D's gradient by the kernels: takes (dy, x, shape), the shape being the kernels'."""
    forward = _raw(conv.conv2d)
    kernels = jnp.zeros(ints(w_shape), x.dtype)
    return _pulled(lambda w: forward(x, w, **settings), out, kernels)


def _convolution(
    out_channel: int,
    kernel_size: Ints,
    pad_mode: str = "valid",
    pad: Ints = 0,
    pad_list: Ints = (0, 0, 0, 0),
    mode: int = 1,
    stride: Ints = (1, 1),
    dilation: Ints = (1, 1, 1, 1),
    group: int = 1,
    data_format: str = "NCHW",
) -> dict[str, Any]:
    if mode != 1:
        raise ValueError(f"mode must be 1, got {mode!r}.")
    return dict(
        stride=ints(stride)[-2:],
        pad_mode=pad_mode.lower(),
        padding=pad,
        dilation=ints(dilation)[-2:],
        groups=group,
        data_format=data_format,
    )


_gradient("Conv2DBackpropFilter", _by_kernel, _convolution)


def _places(align_corners: bool = False, half_pixel_centers: bool = False) -> dict[str, Any]:
    return dict(align_corners=align_corners, half_pixel_centers=half_pixel_centers)


def _bilinear(grad: Array, image: Array, **settings: object) -> Any:
    """ResizeBilinear(settings): takes (dy, x), x being the input."""
    forward = _raw(resizing.resize_bilinear_v2)
    return _pulled(lambda v: forward(v, grad.shape[2:], **settings), grad, image)


_gradient("ResizeBilinearGrad", _bilinear, _places)


def _nearest(grads: Array, size: Ints, **settings: object) -> Any:
    """ResizeNearestNeighbor(settings): takes (dy, size), (h, w) of the input."""
    shape = (*grads.shape[:2], *ints(size))
    places = jnp.arange(prod(shape)).reshape(shape)
    places = _raw(resizing.resize_nearest_neighbor)(places, grads.shape[2:], **settings)
    zeros = jnp.zeros(prod(shape), grads.dtype)
    return zeros.at[places.reshape(-1)].add(grads.reshape(-1)).reshape(shape)


_gradient("ResizeNearestNeighborGrad", _nearest, _places)

# Normalisation.


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
    centred = inner - jnp.mean(inner, axes, keepdims=True)
    dx = scale * (centred - normal * jnp.mean(inner * normal, axes, keepdims=True))
    return dx.astype(x.dtype), jnp.sum(dy * normal, outer), jnp.sum(dy, outer)


#: What MindSpore's kernel adds to the variance that it is given.
_LAYER_NORM_EPSILON = 1e-12
_gradient(
    "LayerNormGrad",
    _layer_norm,
    lambda begin_norm_axis=1, begin_params_axis=1: dict(
        begin_norm_axis=begin_norm_axis, begin_params_axis=begin_params_axis
    ),
)


def _l2_normalize(x: Floating, out: Floating, dout: Floating, axis: Ints, epsilon: float) -> Any:
    """L2Normalize(axis, epsilon): takes (x, y, dy), y being the output."""
    return _pulled(lambda v: _raw(nn_ops.l2_normalize)(v, axis, epsilon), dout, x)


_gradient(
    "L2NormalizeGrad",
    _l2_normalize,
    lambda axis=0, epsilon=1e-4: {"axis": axis, "epsilon": epsilon},
)


def _lrn(grad: Floating, x: Floating, y: Floating, **settings: object) -> Any:
    """LRN(settings): takes (dy, x, y), y being the output."""
    return _pulled(lambda v: _raw(volumes.lrn)(v, **settings), grad, x)


_gradient(
    "LRNGrad",
    _lrn,
    lambda depth_radius=5, bias=1.0, alpha=1.0, beta=0.5: dict(
        depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta
    ),
)

# Losses.


def _reduction(reduction: str = "mean") -> dict[str, Any]:
    return {"reduction": reduction}


def _kl_div(dy: Floating, x: Floating, y: Floating, reduction: str) -> Any:
    """KLDivLoss(reduction): takes (dy, x, y), y being the target."""
    change = jnp.where(y > 0, -y * dy, 0)
    if reduction == "mean":
        return change / x.size
    return change / x.shape[0] if reduction == "batchmean" else change


_gradient("KLDivLossGrad", _kl_div, _reduction)


def _binary_cross_entropy(
    x: Floating, y: Floating, dy: Floating, weight: Floating = None, *, reduction: str
) -> Any:
    """BinaryCrossEntropy(reduction): takes (x, y, dy, weight), y being the target."""
    change = (x - y) / jnp.maximum(x * (1 - x), 1e-12) * dy
    change = change if weight is None else change * weight
    return change / x.size if reduction == "mean" else change


_gradient("BinaryCrossEntropyGrad", _binary_cross_entropy, _reduction)


def _sigmoid_cross_entropy(logits: Floating, label: Floating, dout: Floating) -> Any:
    """SigmoidCrossEntropyWithLogits: takes (logits, label, dy)."""
    return (jax.nn.sigmoid(logits) - label) * dout


_gradient("SigmoidCrossEntropyWithLogitsGrad", _sigmoid_cross_entropy)


def _concat_offset(*input_x: jax.Array, axis: int) -> Any:
    """Where each Tensor begins in their Concat(axis): takes Tensors; tuples of ints."""
    given = input_x[0] if len(input_x) == 1 and isinstance(input_x[0], tuple | list) else input_x
    shapes = [tuple(each.shape) for each in given]
    along = axis_in(axis, len(shapes[0]))
    starts = accumulate((shape[along] for shape in shapes[:-1]), initial=0)
    return tuple(
        tuple(start if i == along else 0 for i in range(len(shapes[0]))) for start in starts
    )


_gradient("ConcatOffset", _concat_offset, lambda N=2, axis=0: {"axis": axis})
