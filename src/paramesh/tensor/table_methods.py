"""The methods of Tensor that come from the tables of `method_table`, as a mixin.

Type checkers read what each takes and gives in `src/paramesh-stubs`, which `make stubs` writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from paramesh import dtype as _dtype
from paramesh.array_types import Array, Tree
from paramesh.dtype import to_dtype, x64
from paramesh.errors import ValueNeededError
from paramesh.tensor import method_errors
from paramesh.tensor.method_table import MAKES, WRITES, adjoint, number
from paramesh.tensor.promotion import align, broadcasting, cast

#: What JAX raises where a program has yet to compute what decides a shape.
_NEEDING_VALUES = (
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.ConcretizationTypeError,
)


#: Names of one argument, of which a function has one.
_ALIKE = (("axis", "dim"), ("keepdims", "keepdim", "keep_dims"))


class TableMethods:
    """The methods of the tables, and what they leave out."""

    __slots__ = ()
    _get: Callable[[], Tree]
    _put: Callable[[Array], None]
    _wrap: Callable[[Array], Tree]
    _operand: Any
    assign_value: Callable[[Tree], Tree]

    def is_contiguous(self) -> bool:
        """True: values lie row by row, or XLA sees to it."""
        return True

    def is_floating_point(self) -> bool:
        """Whether the elements are floating numbers."""
        return to_dtype(self._get().dtype).is_floating()

    def is_signed(self) -> bool:
        """Whether the elements may be negative."""
        return to_dtype(self._get().dtype).kind not in ("bool", "uint")

    @property
    def data(self) -> Any:
        """This Tensor itself; what is assigned to it is its new value."""
        return self

    @data.setter
    def data(self, value: Tree) -> None:
        self.assign_value(value)

    @property
    def H(self) -> Any:  # noqa: N802 - MindSpore's name
        """A matrix transposed and conjugated.

        Raises:
            ValueError: another number of axes than 0 or 2.
        """
        value = self._get()
        if value.ndim not in (0, 2):
            raise ValueError(
                f"Tensor.H: a matrix is needed, got shape {tuple(value.shape)}: see adjoint()."
            )
        return self._wrap(adjoint(value) if value.ndim else jnp.conj(value))

    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return to_dtype(self._get().dtype).kind == "complex"

    def nelement(self) -> int:
        """The number of elements."""
        return int(self._get().size)

    def ndimension(self) -> int:
        """The number of axes."""
        return self._get().ndim

    def type(self, dtype: _dtype.DTypeLike | None = None) -> Any:
        """The element type's name, such as "Float32"; with `dtype`, a Tensor of it."""
        value = self._get()
        return (
            str(to_dtype(value.dtype))
            if dtype is None
            else self._wrap(cast(value, to_dtype(dtype)))
        )

    def double(self) -> Any:
        """Cast to Float64."""
        return self._wrap(cast(self._get(), _dtype.float64))

    def bfloat16(self) -> Any:
        """Cast to BFloat16."""
        return self._wrap(cast(self._get(), _dtype.bfloat16))

    def short(self) -> Any:
        """Cast to Int16."""
        return self._wrap(cast(self._get(), _dtype.int16))

    def byte(self) -> Any:
        """Cast to UInt8."""
        return self._wrap(cast(self._get(), _dtype.uint8))

    def allclose(self, other: object, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
        """Whether all elements are close to those of another Tensor; outside of programs only."""
        value, given = align(self._get(), number(_inside(self, other)))
        return bool(jnp.allclose(value, given, rtol, atol))


def _inside(self: Any, value: object) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_inside(self, part) for part in value)
    found = self._operand(value)
    return value if found is NotImplemented else found  # an element type, a name


def _leaves(given: Iterable[Any]) -> Iterator[Any]:
    """Arguments, and those that are inside of tuples."""
    for value in given:
        if isinstance(value, tuple):
            yield from _leaves(value)
        else:
            yield value


def _outside(self: Any, result: object) -> Any:
    if isinstance(result, tuple):
        return tuple(self._wrap(part) for part in result)
    return self._wrap(result)


def _other_names(fn: Callable[..., Any]) -> dict[str, str]:
    """{another name of an argument: the name that the function has for it}."""
    try:
        own = inspect.signature(fn).parameters
    except ValueError:  # a function of C
        return {}
    found: dict[str, str] = {}
    for names in _ALIKE:
        for name in own.keys() & set(names):
            found.update({other: name for other in names if other not in own})
    return found


def _method(name: str, fn: Callable[..., Any], writes: bool) -> Callable[..., Any]:
    others = _other_names(fn)

    def call(self: Any, *args: object, **kwargs: object) -> Any:
        value = self._get()
        for other in others.keys() & kwargs.keys():
            kwargs[others[other]] = kwargs.pop(other)
        given = [_inside(self, a) for a in args]
        named = {k: _inside(self, a) for k, a in kwargs.items()}
        try:
            with x64(value, *_leaves(given), *_leaves(named.values())), broadcasting():
                result = fn(value, *given, **named)
        except _NEEDING_VALUES as error:
            raise ValueNeededError(
                f"Tensor.{name}: the shape of the result depends on values, which a compiled "
                "program cannot have. Call it outside the program (or in PYNATIVE_MODE)."
            ) from error
        except Exception as error:
            better = method_errors.of_method(error, name, self, args, kwargs)
            if better is None:
                raise
            raise better from error
        if not writes:
            return _outside(self, result)
        if result.shape != value.shape:
            raise ValueError(
                f"Tensor.{name}: the result {result.shape} does not fit into {value.shape}."
            )
        self._put(cast(result, to_dtype(value.dtype)))
        return self

    call.__name__, call.__qualname__ = name, f"Tensor.{name}"
    call.__module__ = __name__
    what = "Changes this Tensor in place, and gives it" if writes else "Gives a Tensor"
    call.__doc__ = f"{what}: MindSpore's method `{name}`, of this Tensor and the arguments."
    return call


for _name, _fn in MAKES.items():
    setattr(TableMethods, _name, _method(_name, _fn, False))
for _name, _fn in WRITES.items():
    setattr(TableMethods, _name, _method(_name, _fn, True))
