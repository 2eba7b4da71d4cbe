"""Tensors in other shapes and orders: reshaped, concatenated, split, repeated, padded."""

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int64, to_dtype
from paramesh.ops.table import (
    Array,
    Arrays,
    alias,
    function,
    operator_of,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import Ints, TensorLike
from paramesh.tensor.base import as_value
from paramesh.tensor.known import known_values

# fmt: off
__all__ = [
    "shape", "dyn_shape", "size", "rank", "dtype", "Shape", "TensorShape", "DynamicShape", "Size",
    "Rank", "DType", "reshape", "flatten", "squeeze", "expand_dims", "broadcast_to", "Reshape",
    "Flatten", "Squeeze", "ExpandDims", "BroadcastTo", "unsqueeze", "transpose", "swapaxes",
    "movedim", "flip", "roll", "Transpose", "ReverseV2", "permute", "swapdims", "reverse",
    "concat", "stack", "unstack", "split", "split_equally", "split_by_sizes", "chunk",
    "Concat", "ParallelConcat",
    "Stack", "Pack", "Unstack", "Unpack", "Split", "SplitV", "cat", "unbind", "tile",
    "repeat_interleave", "repeat_elements",
    "pad", "pad_axes", "mirror_pad", "Tile", "Pad", "MirrorPad",
]
# fmt: on


def ints(values: Any) -> tuple[int, ...]:
    """Sizes or axes as a tuple of ints, from an int, a tuple, list, range or Tensor of them."""
    if hasattr(values, "tolist"):
        values = known_values(values, "sizes or axes are values of a Tensor").tolist()
    if isinstance(values, tuple | list | range):
        return tuple(operator.index(n) for n in values)
    return (operator.index(values),)


def axis_in(axis: SupportsIndex, ndim: int) -> int:
    """An axis counted from the front.

    Raises:
        ValueError: `axis` is out of range.
    """
    found = operator.index(axis)
    if not -ndim <= found < ndim:
        raise ValueError(
            f"axis {found} is outside the {ndim} axes: expected {-ndim} to {ndim - 1}."
        )
    return found % ndim


# What a Tensor is.


@other_function
def shape(input_x: Array) -> Any:
    """The sizes of the axes, as a tuple of ints."""
    return tuple(input_x.shape)


@function
def dyn_shape(input_x: Array) -> Any:
    """The sizes of the axes, as an Int64 Tensor (number of axes,)."""
    return as_value(np.asarray(input_x.shape, np.int64), int64)


@other_function
def size(input_x: Array) -> Any:
    """The number of elements, as an int."""
    return int(input_x.size)


@other_function
def rank(input_x: Array) -> Any:
    """The number of axes, as an int."""
    return int(input_x.ndim)


@other_function
def dtype(input_x: Array) -> Any:
    """The element type, as a DType."""
    return to_dtype(input_x.dtype)


Shape = primitive("Shape", shape)
TensorShape = primitive("TensorShape", dyn_shape)
DynamicShape = alias("DynamicShape", TensorShape)
Size = primitive("Size", size)
Rank = primitive("Rank", rank)
DType = primitive("DType", dtype)

# Other shapes.


@function
def reshape(input: Array, shape: Ints) -> Any:
    """The same elements, row by row, in another shape; one size may be -1.

    Raises:
        ValueError: the shape has another number of elements.
    """
    wanted = ints(shape)
    known = math.prod(n for n in wanted if n != -1)
    unknown = wanted.count(-1)
    fits = input.size == known if not unknown else known and not input.size % known
    if unknown > 1 or not fits:
        raise ValueError(f"{input.size} elements do not fit the shape {wanted}.")
    return jnp.reshape(input, wanted)


@function
def flatten(input: Array, order: str = "C", *, start_dim: int = 1, end_dim: int = -1) -> Any:
    """Axes `start_dim` to `end_dim` joined into one: (n, c, h, w) -> (n, c*h*w) by default.

    Args:
        input: (...).
        order: `"C"`: the last axis varies fastest; `"F"`: the first.
        start_dim: the first of the axes that are joined.
        end_dim: the last of them.

    Raises:
        ValueError: an unknown order, no such axis, or `start_dim` after `end_dim`.
    """
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F', got {order!r}.")
    if input.ndim < 2:
        return jnp.reshape(input, (-1,))
    first, last = axis_in(start_dim, input.ndim), axis_in(end_dim, input.ndim)
    if first > last:
        raise ValueError(f"start_dim {start_dim} comes after end_dim {end_dim}.")
    if order == "F":
        turned = (*range(first), *reversed(range(first, last + 1)), *range(last + 1, input.ndim))
        input = jnp.transpose(input, turned)
        sizes = tuple(input.shape)
        return jnp.reshape(input, (*sizes[:first], -1, *sizes[last + 1 :]))
    sizes = tuple(input.shape)
    joined = int(np.prod(sizes[first : last + 1], dtype=np.int64))
    return jnp.reshape(input, (*sizes[:first], joined, *sizes[last + 1 :]))


@function
def squeeze(input: Array, axis: Ints | None = None) -> Any:
    """Without axes of size 1: those given, or all for None and ()."""
    axes = None if axis is None else ints(axis) or None
    return jnp.squeeze(input, axes)


@function
def expand_dims(input_x: Array, axis: int) -> Any:
    """With a new axis of size 1 at `axis`: (a, b) -> (a, 1, b) for 1."""
    return jnp.expand_dims(input_x, operator.index(axis))


@function
def broadcast_to(input: Array, shape: Ints) -> Any:
    """Repeated along new axes and axes of size 1 up to `shape`; -1 keeps the size of that axis."""
    wanted = ints(shape)
    new = len(wanted) - input.ndim
    if min(wanted[: max(new, 0)], default=0) < 0 or min(wanted, default=0) < -1:
        raise ValueError(
            f"shape {wanted} has sizes below 0; -1 keeps an axis, and the first {new} are new."
        )
    sizes = [input.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(wanted)]
    return jnp.broadcast_to(input, sizes)


Reshape = primitive("Reshape", reshape)
Flatten = primitive("Flatten", flatten)
Squeeze = primitive("Squeeze", squeeze, lambda axis=(): {"axis": axis})
ExpandDims = primitive("ExpandDims", expand_dims)
BroadcastTo = primitive("BroadcastTo", broadcast_to, lambda shape: {"shape": shape})


@function
def unsqueeze(input: Array, dim: int) -> Any:
    """A new axis of size 1, `expand_dims` by torch's names: (...) -> (..., 1, ...)."""
    return operator_of(expand_dims).compute(input, dim)


# Other orders.


@function
def transpose(input: Array, input_perm: Ints) -> Any:
    """Axes in another order: axis i of the result is axis `input_perm[i]` of the input."""
    return jnp.transpose(input, ints(input_perm))


@function
def swapaxes(input: Array, axis0: int, axis1: int) -> Any:
    """Two axes exchanged."""
    return jnp.swapaxes(input, axis0, axis1)


@function
def movedim(x: Array, source: Ints, destination: Ints) -> Any:
    """Axes moved to other places, the others keeping their order."""
    return jnp.moveaxis(x, ints(source), ints(destination))


@function
def flip(input: Array, dims: Ints) -> Any:
    """Reversed along axes."""
    return jnp.flip(input, ints(dims))


@function
def roll(input: Array, shifts: Ints, dims: Ints | None = None) -> Any:
    """Shifted along axes (None: as one row), what leaves at one end coming back at the other."""
    return jnp.roll(input, ints(shifts), None if dims is None else ints(dims))


Transpose = primitive("Transpose", transpose)
ReverseV2 = primitive("ReverseV2", flip, lambda axis: {"dims": axis})
permute = alias("permute", transpose)
swapdims = alias("swapdims", swapaxes)
reverse = alias("reverse", flip)

# Concatenated and split.


def _one_dtype(tensors: tuple[Any, ...]) -> None:
    if not tensors:
        raise ValueError("expected at least one Tensor, got none.")
    found = {str(to_dtype(tensor.dtype)) for tensor in tensors}
    if len(found) > 1:
        raise TypeError(
            f"expected one element type, got {', '.join(sorted(found))}: cast the Tensors first."
        )


@function
def concat(tensors: Arrays, axis: int = 0) -> Any:
    """Tensors one after the other along an axis: (a, n), (b, n) -> (a + b, n) for axis 0.

    Raises:
        TypeError: the element types differ.
        ValueError: the other sizes differ, or there is not a Tensor.
    """
    _one_dtype(tensors)
    where = axis_in(axis, tensors[0].ndim)
    rest = [(*tensor.shape[:where], *tensor.shape[where + 1 :]) for tensor in tensors]
    if any(tensor.ndim != tensors[0].ndim for tensor in tensors) or len(set(rest)) > 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"shapes may differ along axis {axis} alone, got {shapes}.")
    return jnp.concatenate(tensors, axis)


@function
def stack(tensors: Arrays, axis: int = 0) -> Any:
    """Tensors of one shape side by side along a new axis: n of (a, b) -> (n, a, b) for axis 0.

    Raises:
        TypeError: the element types differ.
        ValueError: the shapes differ, or there is not a Tensor.
    """
    _one_dtype(tensors)
    return jnp.stack(tensors, axis)


@tuple_function
def unstack(input_x: Array, axis: int = 0, *, num: int | None = None) -> Any:
    """A tuple of the slices along an axis, which is gone: (n, a) -> n of (a,) for axis 0.

    Args:
        input_x: (...).
        axis: the axis.
        num: how many slices there should be; None: not checked.

    Raises:
        ValueError: there are not `num` slices.
    """
    n = input_x.shape[axis_in(axis, input_x.ndim)]
    if num not in (None, n):
        raise ValueError(f"axis {axis} has {n} slices, expected num={num}.")
    return tuple(jnp.unstack(input_x, axis=axis))


@tuple_function
def split(
    tensor: Array,
    split_size_or_sections: Ints | None = None,
    axis: int = 0,
    *,
    output_num: int | None = None,
) -> Any:
    """A tuple of pieces along an axis.

    Args:
        tensor: (...).
        split_size_or_sections: the size of each piece (the last may be smaller), or all sizes.
        axis: the axis.
        output_num: MindSpore 1.x's `split(x, axis, output_num=)`: so many pieces of one size.

    Raises:
        ValueError: the sizes do not add up to that of the axis; neither sizes nor a number.
        TypeError: an axis of 1.x that is no int.
    """
    if output_num is not None:
        former = axis if split_size_or_sections is None else split_size_or_sections
        if not isinstance(former, int):
            raise TypeError(f"with output_num, the second argument is the axis, got {former!r}.")
        return _equal_pieces(tensor, former, output_num)
    if split_size_or_sections is None:
        raise ValueError("give split_size_or_sections: the size of each piece, or all sizes.")
    total = tensor.shape[axis_in(axis, tensor.ndim)]
    if isinstance(split_size_or_sections, int):
        if split_size_or_sections < 1:
            raise ValueError(f"the size of a piece must be positive, got {split_size_or_sections}.")
        bounds = list(range(split_size_or_sections, total, split_size_or_sections))
    else:
        sizes = ints(split_size_or_sections)
        if sum(sizes) != total:
            raise ValueError(f"sizes {sizes} add up to {sum(sizes)}, but axis {axis} has {total}.")
        bounds = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return tuple(jnp.split(tensor, bounds, axis))


@tuple_function
def split_equally(input_x: Array, axis: int = 0, output_num: int = 1) -> Any:
    """A tuple of `output_num` pieces of one size along an axis.

    Raises:
        ValueError: `output_num` does not divide the axis.
    """
    return _equal_pieces(input_x, axis, output_num)


def _equal_pieces(array: Array, axis: int, count: int) -> tuple[Array, ...]:
    total = array.shape[axis_in(axis, array.ndim)]
    if count < 1 or total % count:
        raise ValueError(f"axis {axis} has {total}, which {count} pieces do not divide.")
    return tuple(jnp.split(array, count, axis))


@tuple_function
def split_by_sizes(input_x: Array, size_splits: Ints, split_dim: int, num_split: int) -> Any:
    """A tuple of `num_split` pieces of the given sizes along an axis; one may be -1, what is left.

    Raises:
        ValueError: there is another number of sizes, or they do not add up to the axis.
    """
    sizes, total = list(ints(size_splits)), input_x.shape[axis_in(split_dim, input_x.ndim)]
    if len(sizes) != num_split:
        raise ValueError(f"size_splits has {len(sizes)} sizes, but num_split is {num_split}.")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = total - sum(sizes) - 1
    if sum(sizes) != total or min(sizes, default=0) < 0:
        raise ValueError(
            f"size_splits {size_splits} does not divide axis {split_dim}, which has {total}."
        )
    return tuple(
        jnp.split(input_x, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)], split_dim)
    )


@tuple_function
def chunk(input: Array, chunks: int, axis: int = 0) -> Any:
    """A tuple of at most `chunks` pieces along an axis, the last of which may be smaller."""
    total = input.shape[axis_in(axis, input.ndim)]
    piece = max(1, -(-total // operator.index(chunks)))
    return tuple(jnp.split(input, list(range(piece, total, piece)), axis))


Concat = primitive("Concat", concat, lambda axis=0: {"axis": axis})
ParallelConcat = primitive("ParallelConcat", concat)
Stack = primitive("Stack", stack, lambda axis=0: {"axis": axis})
Pack = alias("Pack", Stack)
Unstack = primitive("Unstack", unstack, lambda axis=0, num=None: {"axis": axis, "num": num})
Unpack = alias("Unpack", Unstack)
Split = primitive(
    "Split", split_equally, lambda axis=0, output_num=1: {"axis": axis, "output_num": output_num}
)
SplitV = primitive(
    "SplitV",
    split_by_sizes,
    lambda size_splits, split_dim, num_split: {
        "size_splits": size_splits,
        "split_dim": split_dim,
        "num_split": num_split,
    },
)
cat = alias("cat", concat)


@tuple_function
def unbind(input: Array, dim: int = 0) -> Any:
    """The parts along an axis, without it; `unstack` by torch's names."""
    return operator_of(unstack).compute(input, dim)


# Repeated and padded.


@function
def tile(input: Array, dims: Ints) -> Any:
    """The Tensor repeated `dims[i]` times along axis i: (a, b) -> (a*dims[0], b*dims[1])."""
    return jnp.tile(input, ints(dims))


@function
def repeat_interleave(input: Array, repeats: Ints, axis: int | None = None) -> Any:
    """Each slice along an axis (None: each element) repeated, one after the other."""
    times = ints(repeats)
    return jnp.repeat(input, times[0] if len(times) == 1 else np.asarray(times), axis)


@function
def repeat_elements(x: Array, rep: int, axis: int = 0) -> Any:
    """Each slice along an axis repeated `rep` times, one after the other."""
    return jnp.repeat(x, operator.index(rep), axis)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@function
def pad(input_x: Array, padding: Ints, mode: str = "constant", value: float | None = None) -> Any:
    """More elements at both ends of the last axes.

    Args:
        input_x: (...).
        padding: (before, after) of the last axis, then of the one before it, and so on, in one
            flat tuple of ints; negative numbers remove elements. Or a pair for each axis, from the
            first on, as in MindSpore 1.x.
        mode: `constant`, `reflect` (mirrored without the edge), `replicate` (the edge) or
            `circular`.
        value: what `constant` fills in, 0 if None.

    Raises:
        ValueError: an unknown mode, an odd number of paddings, or more than there are axes.
    """
    nested: Any = padding
    if isinstance(nested, tuple | list) and nested and isinstance(nested[0], tuple | list):
        # MindSpore 1.x: ((before, after), ...) from the first axis on.
        nested = [size for pair in reversed(nested) for size in pair]
    flat = ints(nested)
    if len(flat) % 2 or len(flat) > 2 * input_x.ndim:
        raise ValueError(
            f"padding must be pairs (before, after) for at most {input_x.ndim} axes, got {flat}."
        )
    if mode not in _PAD_MODES:
        raise ValueError(f"mode must be one of {', '.join(_PAD_MODES)}, got {mode!r}.")
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    full = [(0, 0)] * (input_x.ndim - len(pairs)) + pairs[::-1]
    kept = tuple(
        slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(full, input_x.shape, strict=True)
    )
    grown = [(max(0, a), max(0, b)) for a, b in full]
    options = {"constant_values": 0 if value is None else value} if mode == "constant" else {}
    return jnp.pad(input_x[kept], grown, _PAD_MODES[mode], **options)


@function
def pad_axes(input_x: Array, paddings: TensorLike | Sequence[Ints], mode: str = "CONSTANT") -> Any:
    """More elements at both ends of every axis.

    Args:
        input_x: (...).
        paddings: ((before, after), …), one pair for each axis.
        mode: `CONSTANT` (zeros), `REFLECT` (mirrored without the edge) or `SYMMETRIC` (with it).

    Raises:
        ValueError: an unknown mode, a negative padding, or not one pair for each axis.
    """
    given: Any = paddings
    if hasattr(given, "tolist"):
        given = known_values(given, "paddings are values of a Tensor").tolist()
    pairs = [ints(pair) for pair in given]
    wrong = any(len(pair) != 2 or min(pair) < 0 for pair in pairs)
    if wrong or len(pairs) != input_x.ndim:
        raise ValueError(
            f"paddings must be {input_x.ndim} pairs (before, after) of ints >= 0, got {paddings}."
        )
    if mode not in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        raise ValueError(f"mode must be CONSTANT, REFLECT or SYMMETRIC, got {mode!r}.")
    return jnp.pad(input_x, pairs, mode.lower())


Tile = primitive("Tile", tile)
mirror_pad = alias("mirror_pad", pad_axes)
Pad = primitive("Pad", pad_axes, lambda paddings: {"paddings": paddings})
MirrorPad = primitive("MirrorPad", pad_axes, lambda mode="REFLECT": {"mode": mode})
