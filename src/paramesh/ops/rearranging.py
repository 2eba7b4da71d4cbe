"""Parts of Tensors picked, joined and written: what `array` and `indexing` leave out."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int64, x64
from paramesh.ops.array import Ints, axis_in, ints
from paramesh.ops.conv import pads_of, pair
from paramesh.ops.table import (
    Array,
    Arrays,
    Floating,
    alias,
    function,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike, TensorLike
from paramesh.tensor.base import raw
from paramesh.tensor.known import known_values
from paramesh.tensor.promotion import cast

__all__ = [
    "narrow",
    "diagonal",
    "ravel",
    "moveaxis",
    "rot90",
    "fliplr",
    "flipud",
    "t",
    "expand",
    "vstack",
    "hstack",
    "dstack",
    "column_stack",
    "row_stack",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "tensor_split",
    "hsplit",
    "vsplit",
    "dsplit",
    "cartesian_prod",
    "combinations",
    "argwhere",
    "take",
    "tensor_scatter_elements",
    "TensorScatterElements",
    "scatter",
    "index_add",
    "IndexAdd",
    "index_fill",
    "IndexFill",
    "unique_consecutive",
    "UniqueConsecutive",
    "unfold",
    "fold",
    "scalar_to_array",
    "array_to_scalar",
    "Roll",
    "rolled",
    "select_scatter",
    "slice_scatter",
]


# Other views.


@function
def narrow(input: Array, axis: int, start: int, length: int) -> Any:
    """Elements start to start + length - 1 along an axis."""
    at = axis_in(axis, input.ndim)
    if not 0 <= start <= start + length <= input.shape[at]:
        raise ValueError(
            f"elements {start} to {start + length} are outside the {input.shape[at]} of axis {at}."
        )
    return jax.lax.slice_in_dim(input, start, start + length, axis=at)


@function
def diagonal(input: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonals of two axes, as a new last axis."""
    return jnp.diagonal(input, offset, dim1, dim2)


@function
def ravel(input: Array) -> Any:
    """All elements in one axis."""
    return jnp.ravel(input)


@function
def moveaxis(x: Array, source: Ints, destination: Ints) -> Any:
    """Axes moved to other places, the others keeping their order."""
    return jnp.moveaxis(x, ints(source), ints(destination))


@function
def rot90(input: Array, k: int, dims: Ints) -> Any:
    """Turned by k right angles in the plane of two axes."""
    return jnp.rot90(input, k, ints(dims))  # pyright: ignore[reportArgumentType]


@function
def fliplr(input: Array) -> Any:
    """Reversed along axis 1."""
    return jnp.fliplr(input)


@function
def flipud(input: Array) -> Any:
    """Reversed along axis 0."""
    return jnp.flipud(input)


@function
def t(input: Array) -> Any:
    """A matrix transposed: (n, m) -> (m, n); a vector as it is."""
    if input.ndim > 2:
        raise ValueError(f"t takes at most two axes, got {tuple(input.shape)}.")
    return input.T


@function
def expand(input_x: Array, size: Ints) -> Any:
    """Repeated along new axes and axes of size 1 up to `size`; -1 keeps the size of that axis."""
    wanted = ints(size)
    new = len(wanted) - input_x.ndim
    sizes = [input_x.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(wanted)]
    return jnp.broadcast_to(input_x, sizes)


def _atleast(fn: Callable[..., Any]) -> Any:
    def compute(inputs: tuple[Any, ...]) -> Any:
        if isinstance(inputs, tuple | list):
            return tuple(fn(raw(x)) for x in inputs)
        return fn(raw(inputs))

    compute.__name__ = compute.__qualname__ = fn.__name__
    compute.__module__ = __name__
    compute.__doc__ = f"At least {fn.__name__[8]} axes, new ones of size 1; of one or several."
    return other_function(compute)


atleast_1d, atleast_2d, atleast_3d = map(_atleast, (jnp.atleast_1d, jnp.atleast_2d, jnp.atleast_3d))


# Joined and cut.


@function
def vstack(inputs: Arrays) -> Any:
    """Joined along the first axis; vectors as rows."""
    return jnp.vstack(inputs)


row_stack = alias("row_stack", vstack)


@function
def hstack(tensors: Arrays) -> Any:
    """Joined along axis 1; vectors along their one."""
    return jnp.hstack(tensors)


@function
def dstack(tensors: Arrays) -> Any:
    """Joined along axis 2, which is made where it is not there."""
    return jnp.dstack(tensors)


@function
def column_stack(tensors: Arrays) -> Any:
    """Joined along axis 1; vectors as columns."""
    return jnp.column_stack(tensors)


@tuple_function
def tensor_split(input: Array, indices_or_sections: Ints, axis: int = 0) -> Any:
    """Cut along an axis: into so many parts, or in front of these elements."""
    return _cut(input, indices_or_sections, axis)


def _cut(x: jax.Array, where: Ints, axis: int) -> tuple[jax.Array, ...]:
    """As numpy cuts: a place beyond the end, or before the last one, gives an empty part."""
    if isinstance(where, int):
        return tuple(jnp.array_split(x, where, axis))
    at = axis_in(axis, x.ndim)
    starts = [0, *ints(where)]
    ends = [*starts[1:], x.shape[at]]
    whole = (slice(None),) * at
    return tuple(x[(*whole, slice(a, b))] for a, b in zip(starts, ends, strict=True))


@tuple_function
def hsplit(input: Array, indices_or_sections: Ints) -> Any:
    """`tensor_split` along axis 1; of vectors along their one."""
    return _cut(input, indices_or_sections, 1 if input.ndim > 1 else 0)


@tuple_function
def vsplit(input: Array, indices_or_sections: Ints) -> Any:
    """`tensor_split` along axis 0."""
    return _cut(input, indices_or_sections, 0)


@tuple_function
def dsplit(input: Array, indices_or_sections: Ints) -> Any:
    """`tensor_split` along axis 2."""
    return _cut(input, indices_or_sections, 2)


@function
def cartesian_prod(*inputs: object) -> Any:
    """All combinations of one element of each vector: (n,), (m,) -> (n * m, 2)."""
    values = [raw(x) for x in inputs]
    if len(values) == 1:
        return values[0]
    mesh = jnp.meshgrid(*values, indexing="ij")
    return jnp.stack([part.reshape(-1) for part in mesh], -1)


@function
def combinations(input: Array, r: int = 2, with_replacement: bool = False) -> Any:
    """All combinations of r elements of a vector: (n,) -> (number of them, r)."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input.shape[0]), r))
    return input[np.asarray(rows, np.int32).reshape(len(rows), r)]


# Picked and written.


@function
def argwhere(input: Array) -> Any:
    """The places of all elements but zeros: (n, axes), Int64; outside of programs only."""
    return cast(jnp.argwhere(input), int64)


@function
def take(input: Array, index: Array) -> Any:
    """Elements of the flattened Tensor: of the shape of `index`."""
    return jnp.take(input.reshape(-1), index)


def _scattered(x: jax.Array, axis: int, index: jax.Array, values: jax.Array, how: str) -> Any:
    axis = axis_in(axis, x.ndim)
    if how not in ("none", "add"):
        raise ValueError(f"reduction must be 'none' or 'add', got {how!r}.")
    at = list(jnp.indices(index.shape, sparse=True))
    at[axis] = jnp.where(index < 0, index + x.shape[axis], index)
    place = x.at[tuple(at)]
    values = values.astype(x.dtype)
    return place.add(values) if how == "add" else place.set(values)


@function
def tensor_scatter_elements(
    input_x: Array, indices: Array, updates: Array, axis: int = 0, reduction: str = "none"
) -> Any:
    """Elements written along an axis: out[..., indices[i, j], ...] = updates[i, j].

    Args:
        input_x: (...).
        indices: of as many axes, places along `axis`.
        updates: of the shape of `indices`.
        axis: the axis.
        reduction: `none`: written; `add`: added.
    """
    return _scattered(input_x, axis, indices, updates, reduction)


TensorScatterElements = primitive(
    "TensorScatterElements",
    tensor_scatter_elements,
    lambda axis=0, reduction="none": {"axis": axis, "reduction": reduction},
)


@function
def scatter(input: Array, axis: int, index: Array, src: Array) -> Any:
    """`tensor_scatter_elements` with its arguments in another order; `src` may be a number."""
    values = jnp.broadcast_to(src, index.shape) if src.ndim == 0 else src
    if values.shape != index.shape:
        values = values[tuple(slice(n) for n in index.shape)]
    return _scattered(input, axis, index, values, "none")


@function
def index_add(
    x: TensorLike,
    indices: Array,
    y: Array,
    axis: int,
    use_lock: bool = True,
    check_index_bound: bool = True,
) -> Any:
    """Parts added to those at `indices` along an axis; a Parameter `x` is written, as in MindSpore.

    Args:
        x: a Parameter or Tensor.
        indices: (n,).
        y: as `x`, with n along the axis.
        axis: the axis.
        use_lock: MindSpore's, without effect.
        check_index_bound: MindSpore's; indices outside are left out.
    """
    value = raw(x)
    at = axis_in(axis, value.ndim)
    where = (slice(None),) * at + (indices,)
    out = value.at[where].add(y.astype(value.dtype))
    if isinstance(x, Parameter):
        x.assign(out)
    return out


IndexAdd = primitive(
    "IndexAdd",
    index_add,
    lambda axis, use_lock=True, check_index_bound=True: dict(axis=axis),
)


@function
def index_fill(x: Array, axis: int, index: Array, value: NumberLike) -> Any:
    """One number written to all parts at `index` along an axis."""
    at = axis_in(axis, x.ndim)
    return x.at[(slice(None),) * at + (index,)].set(jnp.asarray(raw(value), x.dtype))


IndexFill = primitive("IndexFill", index_fill)


@function
def select_scatter(input: Array, src: Array, axis: int, index: int) -> Any:
    """`src` written to place `index` along an axis."""
    at = axis_in(axis, input.ndim)
    return input.at[(slice(None),) * at + (index,)].set(src.astype(input.dtype))


@function
def slice_scatter(
    input: Array,
    src: Array,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Any:
    """`src` written to a slice along an axis."""
    at = axis_in(axis, input.ndim)
    return input.at[(slice(None),) * at + (slice(start, end, step),)].set(src.astype(input.dtype))


@other_function
def unique_consecutive(
    input: Array, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The first of each run of equal elements (or parts along an axis); outside of programs only.

    Args:
        input: (...).
        return_inverse: also which run each element is in, Int64.
        return_counts: also how long each run is, Int64.
        dim: the axis; None: of the flattened Tensor.
    """
    value = known_values(input, "unique_consecutive gives a shape that depends on the values")
    parts = value.reshape(-1) if dim is None else np.moveaxis(value, dim, 0)
    rows = parts.reshape(parts.shape[0], -1)
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(1)
    out: list[Any] = [parts[new] if dim is None else np.moveaxis(parts[new], 0, dim)]
    if return_inverse:
        run = np.cumsum(new) - 1
        out.append((run.reshape(value.shape) if dim is None else run).astype(np.int64))
    if return_counts:
        out.append(np.diff(np.append(np.flatnonzero(new), len(rows))).astype(np.int64))
    with x64(int64):
        found = tuple(jnp.asarray(part) for part in out)
    return found[0] if len(found) == 1 else found


UniqueConsecutive = primitive(
    "UniqueConsecutive",
    unique_consecutive,
    lambda return_inverse=False, return_counts=False, dim=None: dict(
        return_inverse=return_inverse, return_counts=return_counts, dim=dim
    ),
)


@function
def scalar_to_array(input_x: object) -> Any:
    """A number as a Tensor of shape ()."""
    kind = np.float32 if isinstance(input_x, float) else None
    return jnp.asarray(raw(input_x), kind)


@other_function
def array_to_scalar(input_x: Array) -> Any:
    """A Tensor of one element as a number; outside of programs only."""
    return input_x.item()


@function
def rolled(input_x: Array, shift: Ints, axis: Ints | None = None) -> Any:
    """Moved along axes, what leaves at one end coming in at the other."""
    return jnp.roll(input_x, ints(shift), None if axis is None else ints(axis))


Roll = primitive("Roll", rolled, lambda shift, axis=None: {"shift": shift, "axis": axis})


# Patches.


@function
def unfold(
    input: Array, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1
) -> Any:
    """Patches of images as columns: (n, c, h, w) -> (n, c * kh * kw, number of patches).

    Args:
        input: the images.
        kernel_size: size of a patch, one int or (kh, kw).
        dilation: distance of its points.
        padding: zeros around the image: one number or (h, w).
        stride: distance of the patches.
    """
    n = input.shape[0]
    kernel = pair("kernel_size", kernel_size)
    patches = jax.lax.conv_general_dilated_patches(
        input,
        kernel,
        pair("stride", stride),
        pads_of("padding", padding),
        rhs_dilation=pair("dilation", dilation),
    )
    return patches.reshape(n, patches.shape[1], -1)


@function
def fold(
    input: Floating,
    output_size: Any,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> Any:
    """Images from columns, which add up where they overlap; `unfold` turned around.

    Args:
        input: (n, c * kh * kw, number of patches), or (n, c, kh * kw, number of patches).
        output_size: (h, w).
        kernel_size: as in `unfold`, like the others.
        dilation: see there.
        padding: see there.
        stride: see there.
    """
    kernel = pair("kernel_size", kernel_size)
    if input.ndim == 4:
        input = input.reshape(input.shape[0], -1, input.shape[3])
    n, channels = input.shape[0], input.shape[1] // (kernel[0] * kernel[1])
    settings = (pair("stride", stride), pads_of("padding", padding))
    steps = pair("dilation", dilation)

    def patches(x: jax.Array) -> Any:
        found = jax.lax.conv_general_dilated_patches(x, kernel, *settings, rhs_dilation=steps)
        return found.reshape(n, found.shape[1], -1)

    sizes = ints(output_size) if hasattr(output_size, "tolist") else output_size
    images = jax.ShapeDtypeStruct((n, channels, *pair("output_size", sizes)), input.dtype)
    made = jax.eval_shape(patches, images)
    if made.shape != input.shape:
        raise ValueError(f"images {images.shape} have patches {made.shape}, got {input.shape}.")
    return jax.linear_transpose(patches, images)(input)[0]
