"""Functions of MindSpore's `numpy` that have no line in the table: over slices, grids, types.

They are offered as `paramesh.numpy`'s. They take Tensors, arrays and lists of numbers, and give
Tensors.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array
from paramesh.dtype import DType, float32, int32, int64, to_dtype, x64
from paramesh.ops.array import axis_in
from paramesh.tensor.argument_types import DTypeLike, NumberLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast

__all__ = [
    "NINF",
    "PINF",
    "apply_along_axis",
    "apply_over_axes",
    "argwhere",
    "array_str",
    "asfarray",
    "fabs",
    "float_",
    "int_",
    "isscalar",
    "mgrid",
    "ogrid",
    "piecewise",
    "promote_types",
    "result_type",
    "sometrue",
]

NINF, PINF = -np.inf, np.inf
float_, int_ = float32, int32

#: What is made into an array.
Arrays = TensorLike | Sequence[float] | Sequence[Sequence[float]]


def _made(call: str, value: object) -> Array:
    """A raw array; python's numbers are Float32 and Int32."""
    if isinstance(value, Tensor):
        return raw(value)
    if not isinstance(value, np.ndarray | list | tuple | numbers.Number) and not hasattr(
        value, "__array__"
    ):
        raise TypeError(
            f"numpy.{call} takes a Tensor, an array, a list or a number, got "
            f"{type(value).__name__}."
        )
    with x64(*([value] if isinstance(value, np.ndarray) else [])):
        return jnp.asarray(value)


def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Arrays, *args: object, **kwargs: object
) -> Any:
    """A function of each slice along an axis.

    Args:
        func1d: takes a Tensor of one axis, and the other arguments; what it gives is put in the
            place of the axis.
        axis: which one.
        arr: an array.
        *args: for `func1d`.
        **kwargs: for `func1d`.

    Raises:
        ValueError: no such axis.
    """
    value = _made("apply_along_axis", arr)
    if not -value.ndim <= axis < value.ndim:
        raise ValueError(f"axis {axis} is out of bounds for array of dimension {value.ndim}")
    at = axis_in(axis, value.ndim)
    moved = jnp.moveaxis(value, at, -1)
    lead = moved.shape[:-1]
    rows = [
        jnp.asarray(raw(func1d(wrap(moved[place]), *args, **kwargs)))
        for place in itertools.product(*map(range, lead))
    ]
    whole = jnp.stack(rows).reshape(*lead, *rows[0].shape)
    new = rows[0].ndim
    return wrap(jnp.moveaxis(whole, range(len(lead), len(lead) + new), range(at, at + new)))


def apply_over_axes(func: Callable[..., Any], a: Arrays, axes: int | Sequence[int]) -> Any:
    """`func(a, axis)` with one axis after another; an axis that it removes stays with size 1.

    Raises:
        ValueError: what it gives has neither as many axes nor one less.
    """
    value = wrap(_made("apply_over_axes", a))
    for axis in (axes,) if isinstance(axes, int) else axes:
        found = wrap(jnp.asarray(raw(func(value, axis))))
        if found.ndim == value.ndim - 1:
            found = wrap(jnp.expand_dims(raw(found), axis))
        if found.ndim != value.ndim:
            raise ValueError(
                f"apply_over_axes: func gave {found.ndim} axes for {value.ndim}; it must keep them "
                "or remove the one that it was given."
            )
        value = found
    return value


def argwhere(a: Arrays) -> Any:
    """The places of elements that are not 0: Int64, (count, axes)."""
    found = jnp.nonzero(_made("argwhere", a))
    with x64(int64):
        return wrap(jnp.stack([cast(part, int64) for part in found], 1))


def array_str(a: Tensor) -> str:
    """The values of a Tensor as text.

    Raises:
        TypeError: not a Tensor.
    """
    if not isinstance(a, Tensor):
        raise TypeError(f"numpy.array_str takes a Tensor, got {type(a).__name__}.")
    return np.array_str(a.asnumpy())


def asfarray(a: Arrays, dtype: DTypeLike = float32) -> Any:
    """An array of a float type; Float32 where `dtype` is another one.

    Raises:
        TypeError: no array.
    """
    kind = to_dtype(dtype)
    return wrap(cast(_made("asfarray", a), kind if kind.is_floating() else float32))


def fabs(x: Arrays, dtype: DTypeLike | None = None) -> Any:
    """Absolute values, in the type of `x`, or in `dtype`."""
    found = jnp.abs(_made("fabs", x))
    return wrap(found if dtype is None else cast(found, to_dtype(dtype)))


def isscalar(element: object) -> bool:
    """Whether something is a number, a bool or a str (not a Tensor, not an array)."""
    if isinstance(element, complex):
        return False  # as in MindSpore
    return isinstance(element, numbers.Number | str | np.generic)


def sometrue(a: Arrays, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    """Whether any element is true, over all or some axes."""
    return wrap(jnp.any(_made("sometrue", a), axis, keepdims=keepdims))


def promote_types(type1: DTypeLike, type2: DTypeLike) -> DType:
    """The element type that values of two types meet in; floats stay as they are beside integers.

    Raises:
        TypeError: not an element type.
    """
    with x64(int64):
        return to_dtype(jnp.promote_types(to_dtype(type1).np_dtype, to_dtype(type2).np_dtype))


def result_type(*arrays_and_dtypes: NumberLike | DTypeLike) -> DType:
    """The element type that all of these meet in: Tensors, types and numbers.

    A python float counts as Float32, an int as Int32, as in MindSpore.

    Raises:
        ValueError: nothing is given. TypeError: neither an array nor an element type.
    """
    if not arrays_and_dtypes:
        raise ValueError("numpy.result_type needs at least one array or element type.")
    found: DType | None = None
    for given in arrays_and_dtypes:
        is_array = isinstance(given, Tensor | np.ndarray | numbers.Number) and not isinstance(
            given, type
        )
        kind = to_dtype(_made("result_type", given).dtype) if is_array else to_dtype(given)  # type: ignore[arg-type]
        found = kind if found is None else promote_types(found, kind)
    assert found is not None
    return found


def piecewise(
    x: Arrays,
    condlist: Arrays | Sequence[Arrays],
    funclist: Sequence[float | Callable[..., Any]],
    *args: object,
    **kw: object,
) -> Any:
    """Other values, or functions of `x`, where conditions hold.

    Args:
        x: an array.
        condlist: a list of conditions, Bool arrays of the shape of `x`; the last that holds counts.
        funclist: for each condition a number, or a function that takes all of `x` and the other
            arguments. One more is for where no condition holds; without it there is 0.
        *args: for the functions.
        **kw: for the functions.

    Returns:
        An array of the type that the values meet in, as in MindSpore.

    Raises:
        ValueError: another number of values.
    """
    value = _made("piecewise", x)
    single = not isinstance(condlist, list | tuple) or isinstance(condlist[0], bool | int)
    conditions = [
        _made("piecewise", one).astype(bool) for one in ([condlist] if single else condlist)
    ]
    count = len(conditions)
    if len(funclist) not in (count, count + 1):
        raise ValueError(
            f"numpy.piecewise: {count} conditions need {count} values, or one more for where none "
            f"holds; got {len(funclist)}."
        )
    chosen = [
        jnp.asarray(raw(one(wrap(value), *args, **kw)) if callable(one) else one)
        for one in funclist
    ]
    kind = result_type(*(to_dtype(one.dtype) for one in chosen))
    default = cast(chosen[count], kind) if len(chosen) > count else jnp.zeros((), kind.np_dtype)
    out = jnp.broadcast_to(default, value.shape)
    for condition, one in zip(conditions, chosen[:count], strict=True):
        out = jnp.where(condition, cast(one, kind), out)
    return wrap(out)


class _Grid:
    """Grids by slices: `start:stop:step`, or `start:stop:countj`, which includes the stop."""

    def __init__(self, name: str, sparse: bool) -> None:
        self._name, self._sparse = name, sparse

    def __getitem__(self, slices: slice | tuple[slice, ...]) -> Any:
        given = slices if isinstance(slices, tuple) else (slices,)
        lines = [self._line(one) for one in given]
        if not isinstance(slices, tuple):
            return wrap(lines[0])
        if self._sparse:
            count = len(lines)
            return [
                wrap(line.reshape((1,) * i + (-1,) + (1,) * (count - 1 - i)))
                for i, line in enumerate(lines)
            ]
        return wrap(jnp.stack(jnp.meshgrid(*lines, indexing="ij")))

    def _line(self, one: slice) -> Array:
        if not isinstance(one, slice) or one.stop is None:
            raise TypeError(
                f"numpy.{self._name} takes slices such as [0:3, 0:1:5j], each with an end; got "
                f"{one!r}."
            )
        start, step = one.start or 0, 1 if one.step is None else one.step
        if isinstance(step, complex):
            return jnp.linspace(start, one.stop, int(abs(step)), dtype=jnp.float32)
        whole = all(isinstance(number, int) for number in (start, one.stop, step))
        return jnp.arange(start, one.stop, step, jnp.int32 if whole else jnp.float32)

    def __repr__(self) -> str:
        return f"<numpy.{self._name}>"


#: A dense grid: an array with a row of coordinates for each axis.
mgrid = _Grid("mgrid", sparse=False)
#: An open grid: a list of arrays, each with the coordinates of one axis.
ogrid = _Grid("ogrid", sparse=True)
