"""The methods of Tensor that compute (`sum`, `reshape`, `astype`, …), as a mixin.

Each takes and gives what MindSpore's method of that name does. Axes are ints or tuples of ints;
`axis=None` or `()` means all axes. Integer sums and products are Int64, means of integers Float32.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from paramesh import dtype as _dtype
from paramesh.array_sizes import check_countable
from paramesh.array_types import Array, Tree
from paramesh.dtype import DTypeLike, to_dtype, x64
from paramesh.tensor import borders
from paramesh.tensor.axis_names import other_names, with_indices_of
from paramesh.tensor.kept_calls import in_gradient
from paramesh.tensor.method_errors import name_errors_of
from paramesh.tensor.operators import Arithmetic, Operand, T
from paramesh.tensor.promotion import broadcasting, cast, floating

Axis = int | Sequence[int] | None
#: What other libraries take in place of an element type.
_DEVICES = ("cuda", "gpu", "cpu", "tpu", "mps", "npu", "ascend")


class HasShape(Protocol):
    """A Tensor or an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        ...


def _axes(axis: Axis) -> int | tuple[int, ...] | None:
    if axis is None or isinstance(axis, int):
        return axis
    if isinstance(axis, str) or not hasattr(axis, "__iter__"):
        return operator.index(axis)  # type: ignore[arg-type]
    return tuple(operator.index(a) for a in axis) or None


def _shape(args: tuple[int | Sequence[int] | None, ...]) -> tuple[int, ...]:
    sizes: Any = args[0] if len(args) == 1 and not isinstance(args[0], int | str) else args
    return tuple(operator.index(n) for n in sizes)


def _accumulator(value: Array) -> Array:
    kind = to_dtype(value.dtype).kind
    return cast(value, _dtype.int64) if kind in ("bool", "int") else value


def _refuse_out(name: str, out: object) -> None:
    if out is not None:
        raise TypeError(f"Tensor.{name} takes no `out`: Tensors are not written into.")


@name_errors_of
class ArrayMethods(Arithmetic[T]):
    """Computing methods in terms of `_get` and `_wrap`."""

    __slots__ = ()

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        value = self._get()
        with x64(value), broadcasting():
            return self._wrap(in_gradient(fn, value, *args, **kwargs))

    def _raw(self, value: object) -> Any:
        """The raw value of an argument."""
        found = self._operand(value)
        if found is NotImplemented:
            raise TypeError(
                f"expected a Tensor, an array or a number, got {value!r} ({type(value).__name__})."
            )
        return found

    def _apply_float(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        value = floating(self._get())
        with x64(value), broadcasting():
            return self._wrap(in_gradient(fn, value, *args, **kwargs))

    def astype(self, dtype: DTypeLike, copy: bool = True) -> T:
        """A Tensor of these values in another element type."""
        return self._wrap(cast(self._get(), to_dtype(dtype)))

    def to(self, dtype: DTypeLike) -> T:
        """The same as `astype`."""
        if isinstance(dtype, str) and dtype.partition(":")[0].lower() in _DEVICES:
            raise TypeError(
                f"to() takes an element type, got the device {dtype!r}. Arrays lie on the backend "
                "that JAX has; JAX_PLATFORMS chooses it, and paramesh.device_put() a device of it."
            )
        return self.astype(dtype)

    def bool(self) -> T:
        """Cast to Bool."""
        return self.astype(_dtype.bool_)

    def int(self) -> T:
        """Cast to Int32."""
        return self.astype(_dtype.int32)

    def long(self) -> T:
        """Cast to Int64."""
        return self.astype(_dtype.int64)

    def half(self) -> T:
        """Cast to Float16."""
        return self.astype(_dtype.float16)

    def float(self) -> T:
        """Cast to Float32."""
        return self.astype(_dtype.float32)

    def reshape(self, *shape: int | Sequence[int]) -> T:
        """The same elements in another shape; one size may be -1."""
        value, wanted = self._get(), _shape(shape)
        known = math.prod(n for n in wanted if n != -1)
        total = math.prod(value.shape)
        if wanted.count(-1) > 1 or (
            total != known if -1 not in wanted else known == 0 or total % known
        ):
            raise ValueError(
                f"reshape: {total} elements of shape {tuple(value.shape)} do not fit {wanted}."
            )
        return self._apply(jnp.reshape, wanted)

    def view(self, *shape: int | Sequence[int]) -> T:
        """The same as `reshape`."""
        return self.reshape(*shape)

    def view_as(self, other: HasShape) -> T:
        """Reshaped to the shape of `other`."""
        return self.reshape(tuple(other.shape))

    def transpose(self, *axes: int | Sequence[int] | None) -> T:
        """Axes in another order; without arguments, reversed.

        Raises:
            ValueError: these are not all axes, each once.
        """
        order = _shape(axes) if axes and axes[0] is not None else None
        ndim = self._get().ndim
        if order is not None and sorted(n + ndim * (n < 0) for n in order) != [*range(ndim)]:
            raise ValueError(
                f"transpose: the axes {order} are not an order of the {ndim} axes of shape "
                f"{tuple(self._get().shape)}: every axis is needed once."
            )
        return self._apply(jnp.transpose, order)

    def permute(self, *axes: int | Sequence[int] | None) -> T:
        """The same as `transpose` with axes."""
        return self.transpose(*axes)

    @property
    def T(self) -> T:  # noqa: N802 - the name that numpy and MindSpore give it
        """All axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> T:  # noqa: N802 - MindSpore's name
        """The last two axes exchanged.

        Raises:
            ValueError: there are less than two axes.
        """
        if self._get().ndim < 2:
            raise ValueError(
                f"mT needs two axes or more, got the shape {tuple(self._get().shape)}."
            )
        return self.swapaxes(-1, -2)

    @property
    def mH(self) -> T:  # noqa: N802 - MindSpore's name
        """The last two axes exchanged, and complex numbers conjugated; see `mT`."""
        return self._wrap(jnp.conj(self.mT._get()))

    def __round__(self, ndigits: SupportsIndex | None = None) -> T:
        """Python's `round`: the nearest number with this many decimals, the even one of two."""
        return self._apply(jnp.round, 0 if ndigits is None else operator.index(ndigits))

    def swapaxes(self, axis0: int, axis1: int) -> T:
        """Two axes exchanged."""
        return self._apply(jnp.swapaxes, axis0, axis1)

    def squeeze(self, axis: Axis = None) -> T:
        """Without the axes of size 1 (all, or those given)."""
        return self._apply(jnp.squeeze, axis=_axes(axis))

    def expand_dims(self, axis: int) -> T:
        """With a new axis of size 1 at `axis`."""
        return self._apply(jnp.expand_dims, axis)

    def unsqueeze(self, dim: int) -> T:
        """The same as `expand_dims`."""
        return self.expand_dims(dim)

    def flatten(self, order: str = "C") -> T:
        """All elements in one axis, row by row (`"C"`) or column by column (`"F"`)."""
        if order not in ("C", "F"):
            raise ValueError(f"flatten: order must be 'C' or 'F', got {order!r}.")
        return self._apply(jnp.ravel, order=order)

    def ravel(self) -> T:
        """All elements in one axis, row by row."""
        return self._apply(jnp.ravel)

    def broadcast_to(self, shape: Sequence[int]) -> T:
        """Repeated along new and size-1 axes up to `shape`."""
        check_countable(shape, "broadcast_to(shape)")
        return self._apply(jnp.broadcast_to, tuple(shape))

    def expand_as(self, other: HasShape) -> T:
        """Broadcast to the shape of `other`."""
        return self.broadcast_to(tuple(other.shape))

    def repeat(self, repeats: int, axis: int | None = None) -> T:
        """Each element `repeats` times along `axis` (None: of the flattened Tensor)."""
        return self._apply(jnp.repeat, repeats, axis)

    def tile(self, reps: Sequence[int]) -> T:
        """The whole Tensor repeated `reps[i]` times along axis i."""
        check_countable((reps,) if isinstance(reps, int) else reps, "tile(reps)")
        return self._apply(jnp.tile, reps)

    # numpy's functions (np.sum(tensor)) call these methods, and give `dtype` and `out` by name.

    @other_names
    def sum(
        self,
        axis: Axis = None,
        dtype: DTypeLike | builtins.bool | None = None,
        keepdims: builtins.bool = False,
        *,
        out: None = None,
    ) -> T:
        """Sum over axes. bool and signed integers are summed as Int64."""
        _refuse_out("sum", out)
        if isinstance(dtype, builtins.bool):  # torch's order, which MindSpore takes too
            dtype, keepdims = None, dtype
        value = _accumulator(self._get()) if dtype is None else cast(self._get(), to_dtype(dtype))
        with x64(value):
            total = jnp.sum(value, _axes(axis), value.dtype, keepdims=keepdims)
            return self._wrap(total)

    @other_names
    def prod(
        self,
        axis: Axis = None,
        dtype: DTypeLike | builtins.bool | None = None,
        keepdims: builtins.bool = False,
        *,
        out: None = None,
    ) -> T:
        """Product over axes. bool and signed integers are multiplied as Int64."""
        _refuse_out("prod", out)
        if isinstance(dtype, builtins.bool):  # torch's order, which MindSpore takes too
            dtype, keepdims = None, dtype
        value = _accumulator(self._get()) if dtype is None else cast(self._get(), to_dtype(dtype))
        with x64(value):
            return self._wrap(jnp.prod(value, _axes(axis), value.dtype, keepdims=keepdims))

    @other_names
    def mean(
        self,
        axis: Axis = None,
        keepdims: bool = False,
        *,
        dtype: DTypeLike | None = None,
        out: None = None,
    ) -> T:
        """Mean over axes; of integers, a Float32. `dtype`: elements are cast first."""
        _refuse_out("mean", out)
        return self._cast_first(dtype)._apply_float(jnp.mean, _axes(axis), keepdims=keepdims)

    @other_names
    def var(
        self,
        axis: Axis = None,
        ddof: int = 0,
        keepdims: bool = False,
        *,
        dtype: DTypeLike | None = None,
        out: None = None,
    ) -> T:
        """Variance over axes, divided by n - ddof. `dtype`: elements are cast first."""
        _refuse_out("var", out)
        cast = self._cast_first(dtype)
        return cast._apply_float(jnp.var, _axes(axis), ddof=ddof, keepdims=keepdims)

    @other_names
    def std(
        self,
        axis: Axis = None,
        ddof: int = 0,
        keepdims: bool = False,
        *,
        dtype: DTypeLike | None = None,
        out: None = None,
    ) -> T:
        """Standard deviation over axes, divided by n - ddof. `dtype`: elements are cast first."""
        _refuse_out("std", out)
        cast = self._cast_first(dtype)
        return cast._apply_float(jnp.std, _axes(axis), ddof=ddof, keepdims=keepdims)

    @with_indices_of("argmax")
    def max(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> T:
        """Largest element over axes."""
        _refuse_out("max", out)
        fn = borders.first_largest if isinstance(axis, int) else jnp.max
        return self._apply(fn, _axes(axis), keepdims=keepdims)

    @with_indices_of("argmin")
    def min(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> T:
        """Smallest element over axes."""
        _refuse_out("min", out)
        fn = borders.first_smallest if isinstance(axis, int) else jnp.min
        return self._apply(fn, _axes(axis), keepdims=keepdims)

    def _cast_first(self, dtype: DTypeLike | None) -> ArrayMethods[T]:
        return self if dtype is None else self._wrap(cast(self._get(), to_dtype(dtype)))

    @other_names
    def argmax(self, axis: int | None = None, keepdims: bool = False) -> T:
        """Index (Int64) of the largest element, of the first where several are equal."""
        return self._index_of(jnp.argmax, axis, keepdims)

    @other_names
    def argmin(self, axis: int | None = None, keepdims: bool = False) -> T:
        """Index (Int32, as in MindSpore) of the smallest element, of the first of equal ones."""
        return self._index_of(jnp.argmin, axis, keepdims, _dtype.int32)

    def _index_of(
        self,
        fn: Callable[..., Any],
        axis: int | None,
        keepdims: bool,
        dtype: DTypeLike = _dtype.int64,
    ) -> T:
        value = self._get()
        with x64(value):
            index = fn(value, axis, keepdims=keepdims)
        return self._wrap(cast(index, to_dtype(dtype)))

    @other_names
    def cumsum(self, axis: int | None = None, dtype: DTypeLike | None = None) -> T:
        """Running sum along `axis` (None: of the flattened Tensor); truths are counted as Int32."""
        value = self._get()
        if dtype is not None or value.dtype == bool:
            value = cast(value, to_dtype(_dtype.int32 if dtype is None else dtype))
        with x64(value):
            return self._wrap(jnp.cumsum(value, axis, value.dtype))

    @other_names
    def all(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> T:
        """Whether all elements are true, over axes."""
        _refuse_out("all", out)
        return self._apply(jnp.all, _axes(axis), keepdims=keepdims)

    @other_names
    def any(self, axis: Axis = None, keepdims: bool = False, *, out: None = None) -> T:
        """Whether any element is true, over axes."""
        _refuse_out("any", out)
        return self._apply(jnp.any, _axes(axis), keepdims=keepdims)

    def clip(self, min: Operand | None = None, max: Operand | None = None) -> T:
        """Elements limited to the interval [min, max]; None is open."""
        low, high = (self._raw(v) if v is not None else None for v in (min, max))
        return self._apply(borders.clipped, low, high)

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> T:
        """The same as `clip`."""
        return self.clip(min, max)

    def abs(self) -> T:
        """Absolute values."""
        return abs(self)

    def sqrt(self) -> T:
        """Square roots."""
        return self._apply_float(jnp.sqrt)

    def rsqrt(self) -> T:
        """1 / square roots."""
        return self._apply_float(jax.lax.rsqrt)

    def square(self) -> T:
        """Squares."""
        return self._apply(jnp.square)

    def exp(self) -> T:
        """Exponentials."""
        return self._apply_float(jnp.exp)

    def log(self) -> T:
        """Natural logarithms."""
        return self._apply_float(jnp.log)

    def sin(self) -> T:
        """Sines."""
        return self._apply_float(jnp.sin)

    def cos(self) -> T:
        """Cosines."""
        return self._apply_float(jnp.cos)

    def tanh(self) -> T:
        """Hyperbolic tangents."""
        return self._apply_float(jnp.tanh)

    def sigmoid(self) -> T:
        """Logistic functions."""
        return self._apply_float(jax.nn.sigmoid)

    def pow(self, exponent: Operand) -> T:
        """To the power of `exponent`."""
        return self**exponent

    def isnan(self) -> T:
        """Bool: is NaN."""
        return self._apply(jnp.isnan)

    def isfinite(self) -> T:
        """Bool: is neither infinite nor NaN."""
        return self._apply(jnp.isfinite)

    def matmul(self, other: Operand) -> T:
        """Matrix product with `other`."""
        return self @ other

    def take(self, indices: Operand, axis: int | None = None) -> T:
        """Elements (of the flattened Tensor) or slices along `axis` at `indices`."""
        value, index = self._get(), self._raw(indices)
        with x64(value, index):
            return self._wrap(jnp.take(value, index, axis))

    def itemset(self, *args: int | float | tuple[int, ...]) -> T:
        """A copy with another element: `itemset(index, number)`, or `itemset(number)` of one.

        As in MindSpore, and unlike numpy, this Tensor stays as it is. An index is an int (of the
        flattened Tensor) or a tuple of ints.

        Raises:
            TypeError: no number, or an index of another type.
            IndexError: no index and several elements; an index out of range.
        """
        if len(args) not in (1, 2):
            raise TypeError(
                f"itemset takes (number) or (index, number), got {len(args)} arguments."
            )
        here = self._get()
        if len(args) == 1 and here.size != 1:
            raise IndexError(
                f"itemset: {here.size} elements, and no index. Give itemset(index, number)."
            )
        index = 0 if len(args) == 1 else args[0]
        whole = index if isinstance(index, tuple) else (index,)
        if any(isinstance(i, bool) or not isinstance(i, int) for i in whole):
            raise TypeError(f"itemset: an index is an int or a tuple of ints, got {index!r}.")
        sizes = here.shape if isinstance(index, tuple) else (here.size,)
        if len(whole) != len(sizes) or any(
            not -size <= i < size for i, size in zip(whole, sizes, strict=False)
        ):
            raise IndexError(
                f"itemset: index {index} is out of range for shape {tuple(here.shape)}."
            )
        number: Tree = args[-1]
        traced = isinstance(number, Tracer) and number.ndim == 0  # a program's argument
        if not traced and not isinstance(number, bool | int | float):
            raise TypeError(f"itemset: expected a number, got {type(number).__name__}.")
        with x64(here):
            given: Tree = number if traced else np.asarray(number)
            changed = here.reshape(sizes).at[whole].set(given.astype(here.dtype))
            return self._wrap(changed.reshape(here.shape))

    def masked_fill(self, mask: Operand, value: Operand) -> T:
        """`value` where `mask` is true, these elements elsewhere."""
        here = self._get()
        where, fill = self._raw(mask), self._raw(value)
        with x64(here), broadcasting():
            fill = jnp.asarray(fill, here.dtype)
            return self._wrap(jnp.where(where, fill, here))

    def split(
        self,
        split_size: int | Sequence[int] | None = None,
        axis: int = 0,
        output_num: int | None = None,
    ) -> tuple[T, ...]:
        """Split along `axis` into pieces of `split_size` (the last may be shorter) or given
        sizes; with `output_num`, MindSpore 1.x's argument, into so many of one size.

        Raises:
            TypeError: neither or both are given. ValueError: sizes that do not fit the axis.
        """
        value = self._get()
        total = value.shape[axis]
        if (split_size is None) == (output_num is None):
            raise TypeError(
                f"split: give split_size or output_num, got {split_size!r} and {output_num!r}."
            )
        if output_num is not None:
            if output_num < 1 or total % output_num:
                raise ValueError(
                    f"split: axis {axis} has {total}, which {output_num} pieces do not divide."
                )
            split_size = total // output_num
        assert split_size is not None
        if isinstance(split_size, int):
            cuts = list(range(split_size, total, split_size))
        else:
            if sum(split_size) != total:
                raise ValueError(
                    f"split: sizes {list(split_size)} add up to {sum(split_size)}, "
                    f"but axis {axis} has {total}."
                )
            cuts = [sum(split_size[: i + 1]) for i in range(len(split_size) - 1)]
        with x64(value):
            return tuple(self._wrap(piece) for piece in jnp.split(value, cuts, axis))

    def sort(self, axis: int = -1, descending: bool = False) -> tuple[T, T]:
        """Sorted values along `axis` and their indices (Int32)."""
        value = self._get()
        with x64(value):
            order = jnp.argsort(value, axis, descending=descending)
            picked = jnp.take_along_axis(value, order, axis)
        return self._wrap(picked), self._wrap(cast(order, _dtype.int32))

    def argsort(self, axis: int = -1, descending: bool = False) -> T:
        """Indices (Int32) that sort along `axis`."""
        return self.sort(axis, descending)[1]

    def topk(self, k: int) -> tuple[T, T]:
        """The k largest values along the last axis and their indices (Int32)."""
        value = self._get()
        with x64(value):
            values, indices = jax.lax.top_k(value, k)
        return self._wrap(values), self._wrap(cast(indices, _dtype.int32))
