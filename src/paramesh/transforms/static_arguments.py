"""Arguments that are constants of a program, and programs that are kept with their function.

A program is made for one value of each constant, so a constant must be hashable, and must not hold
Tensors: the program would keep their values of the time when it was traced.
"""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import numpy as np

from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor
from paramesh.transforms.reachability import is_cell

_PLAIN = (int, bool, str, bytes, type(None))
#: How deep containers in an object's attributes are looked into.
_DEPTH = 2
#: Of this many transforms of one function the programs are kept.
_KEPT = 8
_SHELF = "_paramesh_programs"


def checked(fn: Callable[..., Any], value: Hashable, name: str | int | None = None) -> Hashable:
    """An argument as a constant of a program.

    Args:
        fn: the compiled function.
        value: the argument.
        name: of the argument, if it is static.

    Raises:
        TypeError: it is not hashable, an array of what are no numbers, or an object that holds
            Tensors.
    """
    if type(value) in _PLAIN:
        return value
    which = "" if name is None else f" {name!r}"
    try:
        hash(value)
    except TypeError:
        if isinstance(value, np.ndarray) and name is None:
            raise TypeError(
                f"'{fn.__name__}': an argument, or a part of one, is an array of dtype "
                f"{value.dtype}, and arrays of a compiled program hold numbers."
            ) from None
        raise TypeError(
            f"'{fn.__name__}': argument{which} of type {type(value).__name__} is a constant of the "
            "compiled program and must be hashable. Pass arrays as Tensors, containers as tuples, "
            "lists or dicts of Tensors."
        ) from None
    if callable(value) or isinstance(value, Tensor) or is_cell(value) or _is_method_of(fn, value):
        return value
    for attribute in _arrays(value):
        raise TypeError(
            f"'{fn.__name__}': argument{which} is an object of class {type(value).__name__}, whose "
            f"attribute '{attribute}' is a Tensor. An object is a constant of the compiled "
            "program, and what changes in it would not be seen. Pass its Tensors (in a tuple or a "
            "dict), or tell JAX how to take the class apart: "
            "jax.tree_util.register_dataclass or register_pytree_node."
        )
    return value


def _is_method_of(fn: object, value: object) -> bool:
    """Whether `fn` is a method of the class of `value`, which is its `self` then."""
    return any(item is fn for base in type(value).__mro__ for item in vars(base).values())


def _arrays(value: object) -> Iterator[str]:
    """The attributes of an object that hold Tensors or arrays; Parameters are none."""
    fields = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot):
                fields.setdefault(slot, getattr(value, slot))
    for name, item in fields.items():
        if _holds_array(item, _DEPTH):
            yield name


def _holds_array(item: object, depth: int) -> bool:
    if isinstance(item, Tensor | jax.Array | np.ndarray):
        return not isinstance(item, Parameter)
    if depth and isinstance(item, list | tuple | set):
        return any(_holds_array(part, depth - 1) for part in item)
    if depth and isinstance(item, dict):
        return any(_holds_array(part, depth - 1) for part in item.values())
    return False


class _Shelf:
    """The programs of one function, by the way in which a transform was made of it."""

    def __init__(self, fn: object) -> None:
        self.of = weakref.ref(fn)
        self.programs: OrderedDict[Hashable, dict[Hashable, Any]] = OrderedDict()

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _no_shelf, ()  # programs stay in the process that compiled them


def _no_shelf() -> None:
    return None


def programs_of(fn: object, way: Hashable) -> dict[Hashable, Any]:
    """The programs of a function, stored with it so that they outlive one call of `jit` or `grad`.

    `paramesh.grad(f)` in a loop makes a new object each time, but compiles once.

    Args:
        fn: a function or Cell; its programs live as long as it does.
        way: what else they depend on.
    """
    if not isinstance(fn, types.FunctionType) and not is_cell(fn):
        return {}
    shelf = fn.__dict__.get(_SHELF)
    if not isinstance(shelf, _Shelf) or shelf.of() is not fn:  # functools.wraps copies it
        shelf = fn.__dict__[_SHELF] = _Shelf(fn)
    programs = shelf.programs.get(way)
    if programs is None:
        programs = shelf.programs[way] = {}
        if len(shelf.programs) > _KEPT:
            shelf.programs.popitem(last=False)
    return programs
