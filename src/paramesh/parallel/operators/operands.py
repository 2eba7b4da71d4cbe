"""The Tensors among the arguments of an operator's call.

Glossary
    operand     a Tensor among the arguments of a call, also one in a tuple or list of them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paramesh.array_types import Tree
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor


class Operand(NamedTuple):
    """A Tensor among the arguments of a call.

    Attributes:
        at: (position of the argument, position in it or None).
        value: the Tensor.
    """

    at: tuple[int, int | None]
    value: Tree


def operands_of(args: Sequence[Any]) -> list[Operand]:
    """The Tensors among the arguments, those in tuples and lists too."""
    found: list[Operand] = []
    for i, arg in enumerate(args):
        if _is_array(arg):
            found.append(Operand((i, None), arg))
        elif isinstance(arg, tuple | list):
            found += [Operand((i, j), item) for j, item in enumerate(arg) if _is_array(item)]
    return found


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "shape"))


def name_of(value: object) -> str:
    """The name of an operand that is a Parameter, "" for others."""
    return value.name if isinstance(value, Parameter) else ""


def replaced(args: Sequence[Any], values: Mapping[tuple[int, int | None], Any]) -> tuple[Any, ...]:
    """The arguments with other values for some operands."""
    new = list(args)
    for (i, j), value in values.items():
        if j is None:
            new[i] = value
        else:
            items = list(new[i])
            items[j] = value
            new[i] = type(new[i])(items)
    return tuple(new)
