"""The operators of Tensor (`+`, `@`, `<`, `[]`, …), as a mixin that does not know how
values are stored.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh._compat.jax import eval_context, to_concrete_value
from paramesh.array_types import Array, ArrayLike, HostArray, Tree
from paramesh.dtype import DType, to_dtype, x64
from paramesh.errors import ValueNeededError, broadcast_error
from paramesh.state import trace_scope
from paramesh.tensor.borders import absolute
from paramesh.tensor.division import floor_divide
from paramesh.tensor.kept_calls import in_gradient, of_operands
from paramesh.tensor.promotion import align, bounds, broadcasting, cast, floating, scalar_kind

#: The class of what they give: Tensor, which this floor does not know.
T = TypeVar("T", bound="Arithmetic[Any]")
Operand: TypeAlias = "Arithmetic[Any] | ArrayLike | Sequence[object]"
IndexPart: TypeAlias = (
    "int | slice | EllipsisType | range | list[Any] | Arithmetic[Any] | Array | HostArray | None"
)
Index: TypeAlias = "IndexPart | tuple[IndexPart, ...]"


def binary(name: str, fn: Callable[[Any, Any], Any], a: Array | complex, b: Array | complex) -> Any:
    """`fn` over two raw operands that meet by MindSpore's type promotion."""
    try:
        a, b = align(a, b)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return _computed(fn, a, b)


def true_divide(a: Any, b: Any) -> Any:
    """Division; integers are divided as Float32."""
    a, b = align(a, b)
    a = a if scalar_kind(a) else floating(a)
    b = b if scalar_kind(b) else floating(b)
    return _computed(jnp.true_divide, a, b)


def _computed(fn: Callable[[Any, Any], Any], a: Tree, b: Tree) -> Any:
    with x64(a, b), broadcasting():
        try:
            return of_operands(fn, a, b)
        except (TypeError, ValueError) as error:
            better = broadcast_error(error)
            if better is None:
                raise
            raise better from None


class Arithmetic(Generic[T]):
    """Operators in terms of `_get` (the raw value), `_wrap` and `_put` (replace the value)."""

    __slots__ = ()

    #: numpy leaves `ndarray + Tensor` and `np.float32(1) + Tensor` to the Tensor.
    __array_priority__ = 200

    def _get(self) -> Array:
        raise NotImplementedError

    def _put(self, value: Array) -> None:
        raise NotImplementedError

    @staticmethod
    def _wrap(value: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def _operand(value: object) -> Any:
        """Raw value of an operand; NotImplemented if it is not one."""
        raise NotImplementedError

    def _binary(
        self, name: str, fn: Callable[[Any, Any], Any], other: object, swap: bool = False
    ) -> Any:
        b = self._operand(other)
        if b is NotImplemented:
            return NotImplemented
        a = self._get()
        return self._wrap(binary(name, fn, b, a) if swap else binary(name, fn, a, b))

    def _compare(
        self,
        name: str,
        fn: Callable[[Any, Any], Any],
        of_ints: Callable[[int, int], bool],
        other: Any,
    ) -> Any:
        if scalar_kind(other) == "int":
            value = self._get()
            dtype = to_dtype(value.dtype)
            if dtype.is_integer():
                low, high = bounds(dtype)
                if not low <= other <= high:  # the same answer for every element
                    answer = of_ints(0, 1 if other > high else -1)
                    return self._wrap(jnp.full(value.shape, answer, np.bool_))
        return self._binary(name, fn, other)

    def __add__(self, other: Operand) -> T:
        return self._binary("+", jnp.add, other)

    def __radd__(self, other: Operand) -> T:
        return self._binary("+", jnp.add, other, swap=True)

    def __sub__(self, other: Operand) -> T:
        return self._binary("-", _subtract, other)

    def __rsub__(self, other: Operand) -> T:
        return self._binary("-", _subtract, other, swap=True)

    def __mul__(self, other: Operand) -> T:
        return self._binary("*", jnp.multiply, other)

    def __rmul__(self, other: Operand) -> T:
        return self._binary("*", jnp.multiply, other, swap=True)

    def __truediv__(self, other: Operand) -> T:
        b = self._operand(other)
        return b if b is NotImplemented else self._wrap(true_divide(self._get(), b))

    def __rtruediv__(self, other: Operand) -> T:
        b = self._operand(other)
        return b if b is NotImplemented else self._wrap(true_divide(b, self._get()))

    def __floordiv__(self, other: Operand) -> T:
        return self._binary("//", floor_divide, other)

    def __rfloordiv__(self, other: Operand) -> T:
        return self._binary("//", floor_divide, other, swap=True)

    def __mod__(self, other: Operand) -> T:
        return self._binary("%", jnp.mod, other)

    def __rmod__(self, other: Operand) -> T:
        return self._binary("%", jnp.mod, other, swap=True)

    def __pow__(self, other: Operand) -> T:
        return self._binary("**", jnp.power, other)

    def __rpow__(self, other: Operand) -> T:
        return self._binary("**", jnp.power, other, swap=True)

    def __matmul__(self, other: Operand) -> T:
        b = self._operand(other)
        return b if b is NotImplemented else self._wrap(matmul(self._get(), b))

    def __rmatmul__(self, other: Operand) -> T:
        b = self._operand(other)
        return b if b is NotImplemented else self._wrap(matmul(b, self._get()))

    def __and__(self, other: Operand) -> T:
        return self._binary("&", jnp.bitwise_and, other)

    def __rand__(self, other: Operand) -> T:
        return self._binary("&", jnp.bitwise_and, other, swap=True)

    def __or__(self, other: Operand) -> T:
        return self._binary("|", jnp.bitwise_or, other)

    def __ror__(self, other: Operand) -> T:
        return self._binary("|", jnp.bitwise_or, other, swap=True)

    def __xor__(self, other: Operand) -> T:
        return self._binary("^", jnp.bitwise_xor, other)

    def __rxor__(self, other: Operand) -> T:
        return self._binary("^", jnp.bitwise_xor, other, swap=True)

    def __lshift__(self, other: Operand) -> T:
        return self._binary("<<", jnp.left_shift, other)

    def __rshift__(self, other: Operand) -> T:
        return self._binary(">>", jnp.right_shift, other)

    def __eq__(self, other: object) -> T:  # type: ignore[override]
        return self._compare("==", jnp.equal, operator.eq, other)

    def __ne__(self, other: object) -> T:  # type: ignore[override]
        return self._compare("!=", jnp.not_equal, operator.ne, other)

    def __lt__(self, other: Operand) -> T:
        return self._compare("<", jnp.less, operator.lt, other)

    def __le__(self, other: Operand) -> T:
        return self._compare("<=", jnp.less_equal, operator.le, other)

    def __gt__(self, other: Operand) -> T:
        return self._compare(">", jnp.greater, operator.gt, other)

    def __ge__(self, other: Operand) -> T:
        return self._compare(">=", jnp.greater_equal, operator.ge, other)

    def __hash__(self) -> int:
        return id(self) >> 4

    def __neg__(self) -> T:
        value = self._get()
        with x64(value):
            return self._wrap(in_gradient(jnp.negative, value))

    def __pos__(self) -> T:
        return self._wrap(self._get())

    def __abs__(self) -> T:
        value = self._get()
        with x64(value):
            return self._wrap(in_gradient(absolute, value))

    def __invert__(self) -> T:
        value = self._get()
        with x64(value):
            return self._wrap(jnp.invert(value))

    def __bool__(self) -> bool:
        value = self._get()
        if math.prod(value.shape) != 1:
            raise ValueError(
                f"The truth value of a Tensor of shape {tuple(value.shape)} is ambiguous: "
                "use .any() or .all()."
            )
        return _python(bool, value)

    def __float__(self) -> float:
        return _python(float, self._one_element("float"))

    def __int__(self) -> int:
        return _python(int, self._one_element("int"))

    def __index__(self) -> int:
        value = self._one_element("index")
        dtype = to_dtype(value.dtype)
        if not dtype.is_integer() and dtype.kind != "bool":  # python's own bools are 0 and 1, too
            raise TypeError(f"A {dtype} Tensor cannot be used as an index.")
        return _python(int, value)

    def __complex__(self) -> complex:
        return _python(complex, self._one_element("complex"))

    def _one_element(self, what: str) -> Array:
        value = self._get()
        if math.prod(value.shape) != 1:
            raise ValueError(
                f"{what}() needs a Tensor of one element, got shape {tuple(value.shape)}."
            )
        return value

    def __len__(self) -> int:
        shape = self._get().shape
        if not shape:
            raise TypeError("len() of a 0-d Tensor: it has no axis to count.")
        return shape[0]

    def __iter__(self) -> Iterator[T]:
        for i in range(len(self)):
            yield self[i]

    def __contains__(self, item: object) -> bool:
        return _python(bool, (self == item)._get().any(), "`in`")

    def __getitem__(self, index: Index) -> T:
        value = self._get()
        index = _index(index, value.shape)
        with x64(value, *_arrays(index)):
            try:
                return self._wrap(value[index])
            except jax.errors.NonConcreteBooleanIndexError:
                raise ValueNeededError(
                    "Elements that a Bool Tensor chooses have a shape that depends on the values, "
                    "which a compiled program cannot have. Use ops.where in it, or choose them "
                    "outside of it (or in PYNATIVE_MODE)."
                ) from None

    def __setitem__(self, index: Index, item: Operand) -> None:
        value = self._get()
        item_value = self._operand(_joined(item))
        if item_value is NotImplemented:
            raise TypeError(
                f"Cannot store {type(item).__name__} in a {to_dtype(value.dtype)} Tensor: "
                "expected a Tensor, an array or a number."
            )
        item_value = _storable(item_value, to_dtype(value.dtype))
        index = _index(index, value.shape)
        with x64(value, *_arrays(index)), broadcasting():
            try:
                changed = _masked(value, index, item_value)
                if changed is None:
                    changed = jnp.asarray(value).at[index].set(item_value)
            except ValueError:
                there = jax.eval_shape(lambda: jnp.asarray(value)[index]).shape
                more = np.ndim(item_value) - len(there)
                if more > 0 and set(np.shape(item_value)[:more]) == {1}:  # numpy takes it, too
                    self[index] = self._wrap(jnp.squeeze(item_value, tuple(range(more))))
                    return
                given = tuple(np.shape(item_value))
                raise ValueError(
                    f"Values of shape {given} cannot be stored in the elements of shape {there} "
                    f"that are selected of {_called(self)}, which has shape {tuple(value.shape)}."
                ) from None
            self._put(changed)


def _joined(item: Tree) -> Any:
    """A tuple or list that has Tensors as one array, with a first axis for its elements."""
    if isinstance(item, tuple | list) and any(isinstance(each, Arithmetic) for each in item):
        values = [each._get() if isinstance(each, Arithmetic) else each for each in item]
        with x64(*(v for v in values if isinstance(v, jax.Array))):
            return jnp.stack([jnp.asarray(v) for v in values])
    return item


def _masked(value: Array, mask: Tree, item: Tree) -> Array | None:
    """`value` with `item` where a mask of a program is true; None: this is another index.

    JAX counts the true elements of a mask, which it cannot in a program. Nobody needs the count
    where `item` is the same for each of them.
    """
    if not isinstance(mask, jax.core.Tracer) or mask.dtype != np.bool_:
        return None
    item, rest = jnp.asarray(item), value.ndim - mask.ndim
    if item.ndim == rest + 1 and item.shape[0] == 1:
        item = item[0]
    if item.ndim > rest:
        return None
    return jnp.where(mask.reshape(mask.shape + (1,) * rest), item, value)


def _called(tensor: Arithmetic) -> str:
    name = getattr(tensor, "name", None)
    return "the Tensor" if name is None else f"Parameter '{name}'"


def _python(kind: Callable[[Any], Any], value: Array, what: str = "") -> Any:
    """The python number of a raw value of one element.

    Raises:
        TraceError: it is traced and not known.
    """
    if isinstance(value, jax.core.Tracer):
        known = to_concrete_value(value)  # in a gradient that is not compiled
        value = value if known is None else known
    if value.shape and not isinstance(value, jax.core.Tracer):
        with eval_context():  # a known value stays known inside of a program
            value = value.reshape(())
    try:
        return kind(value.reshape(()) if value.shape else value)
    except jax.errors.ConcretizationTypeError:
        raise trace_scope.no_value(what or f"{kind.__name__}()", value) from None


def _storable(item: Any, dtype: DType) -> Any:
    """What is assigned to elements, in the element type of the Tensor."""
    kind = scalar_kind(item)
    if kind is None:
        if to_dtype(item.dtype).is_complex() and not dtype.is_complex():
            raise TypeError(f"Complex numbers cannot be stored in a {dtype} Tensor: use .real.")
        return cast(item, dtype)
    if kind == "complex" and not dtype.is_complex():
        raise TypeError(f"{item!r} cannot be stored in a {dtype} Tensor.")
    if kind == "int" and dtype.is_integer():
        low, high = bounds(dtype)
        if not low <= item <= high:
            raise OverflowError(f"{item} does not fit a {dtype} Tensor ({low} to {high}).")
    if kind == "float" and dtype.is_integer() and not math.isfinite(item):
        raise OverflowError(f"{item} cannot be stored in a {dtype} Tensor.")
    return np.asarray(item).astype(dtype.np_dtype)


def _index(index: Index, shape: tuple[int, ...]) -> Any:
    """An index as JAX takes it; ints, lists and numpy arrays are checked against the axes.

    JAX clamps an index out of range when it reads, and drops it when it writes. Indexes that are
    Tensors are left to that rule, because a look at their values would wait for the device.

    Raises:
        IndexError: out of range, or more indexes than axes.
    """
    parts = index if isinstance(index, tuple) else (index,)
    found = [_plain_index(part) for part in parts]
    taken = sum(_axes_of(part) for part in found)
    if taken > len(shape):
        raise IndexError(f"{taken} indexes for a Tensor of {len(shape)} axes, shape {shape}.")
    axis = 0
    for part in found:
        if part is Ellipsis:
            axis += len(shape) - taken
            continue
        _check_range(part, shape, axis)
        axis += _axes_of(part)
    return tuple(found) if isinstance(index, tuple) else found[0]


def _plain_index(part: IndexPart) -> Any:
    if isinstance(part, Arithmetic):
        return part._get()
    if isinstance(part, slice):
        limits = (part.start, part.stop, part.step)
        return slice(*(int(b) if isinstance(b, Arithmetic) else b for b in limits))
    if isinstance(part, list | range):
        items = [_plain_index(item) for item in part]
        return np.asarray(items) if items else np.zeros(0, np.int64)
    return part


def _arrays(index: Index) -> list[Array]:
    """The JAX arrays of an index: 64-bit ones need JAX's 64-bit mode."""
    parts = index if isinstance(index, tuple) else (index,)
    return [part for part in parts if isinstance(part, jax.Array)]


def _axes_of(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool | np.bool_):
        return 0
    if getattr(part, "dtype", None) == np.bool_:
        return part.ndim
    return 1


def _check_range(part: Any, shape: tuple[int, ...], axis: int) -> None:
    if _axes_of(part) == 0:
        return
    if getattr(part, "dtype", None) == np.bool_:
        there = shape[axis : axis + part.ndim]
        if tuple(part.shape) != there:
            raise IndexError(f"A mask of shape {tuple(part.shape)} for axes of sizes {there}.")
    elif isinstance(part, int | np.integer) or (isinstance(part, np.ndarray) and part.size):
        low, high = (part, part) if isinstance(part, int) else (part.min(), part.max())
        if low < -shape[axis] or high >= shape[axis]:
            wrong = low if low < -shape[axis] else high
            raise IndexError(f"Index {wrong} is out of range: axis {axis} has {shape[axis]}.")


def _subtract(a: Any, b: Any) -> Any:
    if a.dtype == np.bool_ if hasattr(a, "dtype") else isinstance(a, bool):
        return jnp.logical_xor(a, b)  # MindSpore keeps Bool; jnp refuses to subtract bools
    return jnp.subtract(a, b)


def matmul(a: Any, b: Any) -> Any:
    """Matrix product of raw values; both sides must have one element type, as in MindSpore.

    Raises:
        TypeError: the element types differ, or an operand is a number.
        ValueError: the inner sizes differ.
    """
    if scalar_kind(a) is not None or scalar_kind(b) is not None:
        raise TypeError("@ needs two Tensors of at least one axis, got a number.")
    if a.dtype != b.dtype:
        raise TypeError(
            f"@ needs operands of one element type, got {to_dtype(a.dtype)} and "
            f"{to_dtype(b.dtype)}: cast one side with .astype()."
        )
    if not a.shape or not b.shape or a.shape[-1] != b.shape[-2 if len(b.shape) > 1 else 0]:
        raise ValueError(
            f"@ cannot multiply shapes {tuple(a.shape)} and {tuple(b.shape)}: "
            "the last axis of the left must equal the second-last of the right."
        )
    with x64(a, b), broadcasting():
        return of_operands(jnp.matmul, a, b)
