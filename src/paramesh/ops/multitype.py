"""`MultitypeFuncGraph`: a function with several implementations, chosen by types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from paramesh import context
from paramesh.dtype import ALL, DType, to_dtype
from paramesh.tensor.base import Tensor
from paramesh.tensor.promotion import scalar_kind
from paramesh.tensor.row_tensor import RowTensor
from paramesh.tensor.sparse_tensors import COOTensor, CSRTensor

__all__ = ["MultitypeFuncGraph"]

_Fits = Callable[[Any], bool]

_IS: dict[str, _Fits] = {
    "Tensor": lambda v: isinstance(v, Tensor | jax.Array),
    "Number": lambda v: scalar_kind(v) is not None,
    "Bool": lambda v: isinstance(v, bool | np.bool_),
    "Tuple": lambda v: isinstance(v, tuple),
    "List": lambda v: isinstance(v, list),
    "Dictionary": lambda v: isinstance(v, dict),
    "String": lambda v: isinstance(v, str),
    "Slice": lambda v: isinstance(v, slice),
    "Function": callable,
    "None": lambda v: v is None,
    "Int": lambda v: scalar_kind(v) == "int" and not isinstance(v, bool),
    "Float": lambda v: scalar_kind(v) == "float",
    "Any": lambda v: True,
    "RowTensor": lambda v: isinstance(v, RowTensor),
    "COOTensor": lambda v: isinstance(v, COOTensor),
    "CSRTensor": lambda v: isinstance(v, CSRTensor),
    # There are no values of this kind here; scripts register it beside Tensors.
    "MapTensor": lambda v: False,
}


def _number_of(dtype: DType) -> _Fits:
    """Numbers of one element type; python's ints are Int64, its floats any type of floats."""
    if dtype.kind == "bool":
        return _IS["Bool"]

    def fits(value: Any) -> bool:
        if isinstance(value, np.generic):
            return value.dtype == dtype.np_dtype
        if type(value) is int:
            return dtype.long_name == "int64"
        if type(value) is complex:
            return dtype.kind == "complex"
        return type(value) is float and dtype.kind == "float"

    return fits


#: "Int64", "Float32", and the like, in both spellings.
_NUMBERS: dict[str, _Fits] = {
    name: _number_of(each)
    for each in ALL
    if each.kind != "bool"
    for name in (str(each), each.long_name)
}


def _of(kind: str | type | DType) -> _Fits | None:
    """Whether values are of a kind that `register` was given; None: it is unknown."""
    if isinstance(kind, DType):
        return _number_of(kind)
    if not isinstance(kind, str):
        return lambda value: isinstance(value, kind)
    known = _IS.get(kind) or _NUMBERS.get(kind)
    inner = re.fullmatch(r"(Tensor|Tuple|List)\[(.*)\]", kind)
    if known is not None or inner is None:
        return known
    outer, names = _IS[inner[1]], [name.strip() for name in inner[2].split(",")]
    if inner[1] == "Tensor":
        if names[0] not in _NUMBERS and names[0] != "Bool":
            return None
        dtype = to_dtype(names[0])
        return lambda value: outer(value) and to_dtype(value.dtype) == dtype
    each = [_of(name) for name in names]
    if any(fits is None for fits in each):
        return None
    checks = [fits for fits in each if fits is not None]
    return lambda value: (
        outer(value)
        and len(value) == len(checks)
        and all(fits(v) for fits, v in zip(checks, value, strict=True))
    )


class MultitypeFuncGraph:
    """A function with several implementations, chosen by the types of its arguments.

        add = MultitypeFuncGraph("add")

        @add.register("Number", "Number")
        def _(x, y):
            return x + y

    Args:
        name: for errors.
        read_value: accepted as in MindSpore; Parameters are always read.
    """

    def __init__(self, name: str, read_value: bool = False) -> None:
        self.name = name
        self._entries: list[
            tuple[tuple[str | type | DType, ...], tuple[_Fits, ...], Callable[..., Any]]
        ] = []

    def register(
        self, *types: str | type | DType
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A decorator for the implementation for arguments of these types.

        Args:
            types: names (`Tensor`, `Number`, `Int`, `Float`, `Bool`, `Tuple`, `List`,
                `Dictionary`, `String`, `Slice`, `Function`, `None`, `RowTensor`, `COOTensor`,
                `CSRTensor`, `Any`), names of element types for numbers (`Int64`, `Float32`: a
                python float is of every type of floats, as in MindSpore), `Tensor[Float32]`
                and `Tuple[Int64, Tensor]`, element types, or classes. `MapTensor` is accepted,
                and fits nothing.

        Raises:
            ValueError: an unknown name.
        """
        checks: list[_Fits] = []
        for each in types:
            fits = _of(each)
            if fits is None:
                raise ValueError(
                    f"{self.name}: {each!r} is not a known type; expected one of "
                    f"{', '.join(_IS)}, an element type such as Int64, or Tensor[Float32]."
                )
            checks.append(fits)

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            self._entries.append((types, tuple(checks), fn))
            return fn

        return decorate

    def __call__(self, *args: object) -> Any:
        """Call the implementation for these arguments, the one registered last if several fit.

        In PyNative mode the only implementation is called without a look at types, as in MindSpore.

        Raises:
            TypeError: none fits.
        """
        for _, checks, fn in reversed(self._entries):
            if len(checks) == len(args) and all(
                fits(arg) for fits, arg in zip(checks, args, strict=True)
            ):
                return fn(*args)
        if len(self._entries) == 1 and context.get_context("mode") == context.PYNATIVE_MODE:
            return self._entries[0][2](*args)
        given = ", ".join(type(a).__name__ for a in args)
        known = "; ".join(", ".join(map(_type_name, types)) for types, _, _ in self._entries)
        raise TypeError(f"{self.name} has nothing for ({given}), only for ({known or 'nothing'}).")

    def __repr__(self) -> str:
        return f"MultitypeFuncGraph({self.name!r}, {len(self._entries)} implementations)"


def _type_name(kind: str | type | DType) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
