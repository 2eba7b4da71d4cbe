"""Of operators that give Tensors another shape."""

from itertools import accumulate
from math import prod
from typing import Any

import jax.numpy as jnp

from paramesh.array_types import Tree
from paramesh.mindspore_gradients.classes import computation, gradient
from paramesh.ops import indexing
from paramesh.ops.array import Ints, axis_in, ints
from paramesh.ops.table import Array

__all__: list[str] = []


def _bias(dout: Array, data_format: str) -> Any:
    """BiasAdd(data_format): takes (dy,); gives the gradient of the bias."""
    channels = dout.ndim - 1 if data_format == "NHWC" else 1
    axes = tuple(axis for axis in range(dout.ndim) if axis != channels)
    return jnp.sum(dout, axes, dtype=dout.dtype)


gradient(globals(), "BiasAddGrad", _bias, lambda data_format="NCHW": {"data_format": data_format})


def _flat(x: Array, shape: Ints) -> Any:
    """Flatten: takes (dy, shape), the shape of the input."""
    return x.reshape(ints(shape))


gradient(globals(), "FlattenGrad", _flat)


def _slice(dy: Array, x: Array, begin: Ints, size: Ints) -> Any:
    """Slice: takes (dy, x, begin, size); x is the input."""
    sizes = zip(ints(begin), ints(size), x.shape, strict=True)
    places = tuple(slice(b, n if s == -1 else b + s) for b, s, n in sizes)
    return jnp.zeros(x.shape, dy.dtype).at[places].set(dy)


gradient(globals(), "SliceGrad", _slice)


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
    places = computation(indexing.strided_slice)(
        places, ints(begin), ints(end), ints(strides), **masks
    )
    zeros = jnp.zeros(prod(sizes), dy.dtype)
    return zeros.at[places.reshape(-1)].set(dy.reshape(-1)).reshape(sizes)


gradient(globals(), "StridedSliceGrad", _strided_slice, _masks)


def _concat_offset(*input_x: Tree, axis: int) -> Any:
    """Where each Tensor begins in their Concat(axis): takes Tensors; tuples of ints."""
    given = input_x[0] if len(input_x) == 1 and isinstance(input_x[0], tuple | list) else input_x
    shapes = [tuple(each.shape) for each in given]
    along = axis_in(axis, len(shapes[0]))
    starts = accumulate((shape[along] for shape in shapes[:-1]), initial=0)
    return tuple(
        tuple(start if i == along else 0 for i in range(len(shapes[0]))) for start in starts
    )


gradient(globals(), "ConcatOffset", _concat_offset, lambda N=2, axis=0: {"axis": axis})
