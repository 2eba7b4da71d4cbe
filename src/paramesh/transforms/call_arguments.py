"""The arguments of a call: which are inputs of a program, and which are constants of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, cast

import jax
import jax.core
import numpy as np

from paramesh.array_types import ArrayLike
from paramesh.parameter import Parameter
from paramesh.transforms.static_arguments import checked

#: (key of the program, arrays and floats among the arguments, a function that makes the arguments
#: from other arrays in their places).
ParsedCall = tuple[
    Hashable,
    list[ArrayLike],
    Callable[[Sequence[ArrayLike]], tuple[tuple[Any, ...], dict[str, Any]]],
]


class HasStaticArguments(Protocol):
    """A function some of whose arguments are constants of its programs."""

    __name__: str
    static_argnums: frozenset[int]
    static_argnames: frozenset[str]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        ...


class _Dynamic:
    def __repr__(self) -> str:
        return "<array>"


#: Kinds of numpy's element types that JAX has no arrays of: objects, text, times.
_NO_NUMBERS = "OSUMm"

#: In a key, stands for an argument that is an input.
DYNAMIC = _Dynamic()


def parse_call(
    function: HasStaticArguments,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    abstract: bool = False,
) -> ParsedCall | None:
    """(key, dynamic leaves, rebuild), or None if there are tracers among the arguments.

    Args:
        function: what is called.
        args: of the call.
        kwargs: of the call.
        abstract: a `jax.ShapeDtypeStruct` is a leaf like an array.
    """
    static: list[tuple[int | str, Hashable]] = []
    if function.static_argnums or function.static_argnames:
        static = [(i, args[i]) for i in sorted(function.static_argnums) if i < len(args)]
        static += [(k, kwargs[k]) for k in sorted(function.static_argnames) if k in kwargs]
        args = tuple(None if i in function.static_argnums else a for i, a in enumerate(args))
        kwargs = {k: v for k, v in kwargs.items() if k not in function.static_argnames}
    flat, tree = jax.tree_util.tree_flatten((args, kwargs), is_leaf=_is_parameter)
    leaves: list[Any] = []
    shapes: list[Hashable] = []
    slots: list[Hashable] = []
    for leaf in flat:
        if isinstance(leaf, jax.Array):
            if isinstance(leaf, jax.core.Tracer):
                return None
            shapes.append((leaf.shape, leaf.dtype, leaf.aval.weak_type))
        elif isinstance(leaf, np.ndarray | np.generic):
            if leaf.dtype.kind in _NO_NUMBERS:
                slots.append(checked(function, cast(Hashable, leaf)))
                continue
            shapes.append((leaf.shape, leaf.dtype, False))
        elif isinstance(leaf, float | complex):
            shapes.append(type(leaf))
        elif abstract and isinstance(leaf, jax.ShapeDtypeStruct):
            shapes.append((leaf.shape, leaf.dtype, False))
        else:
            slots.append(checked(function, leaf))
            continue
        slots.append(DYNAMIC)
        leaves.append(leaf)
    for name, value in static:
        checked(function, value, name)
    # 1 == 1.0 == True, but they are different programs.
    kinds = tuple(type(s) for s in slots if s is not DYNAMIC)
    key = (tree, tuple(shapes), tuple(slots), kinds, tuple(static))

    def rebuild(values: Sequence[ArrayLike]) -> tuple[Any, Any]:
        rest = iter(values)
        filled = [next(rest) if slot is DYNAMIC else slot for slot in slots]
        new_args, new_kwargs = jax.tree_util.tree_unflatten(tree, filled)
        positions: dict[int | str, Hashable] = dict(static)
        new_args = tuple(positions.get(i, a) for i, a in enumerate(new_args))
        named = {k: v for k, v in static if isinstance(k, str)}
        return new_args, {**new_kwargs, **named}

    return key, leaves, rebuild


def parse_concrete(
    function: HasStaticArguments, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ParsedCall:
    """`parse_call` of arguments of which some may be a `jax.ShapeDtypeStruct`.

    Raises:
        TypeError: there are tracers among them.
    """
    call = parse_call(function, args, kwargs, abstract=True)
    if call is None:
        raise TypeError(f"'{function.__name__}': concrete arguments are needed, not tracers.")
    return call


def without_values(
    function: HasStaticArguments, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with a `jax.ShapeDtypeStruct` for each array: they hold no memory."""
    _, leaves, rebuild = parse_concrete(function, args, kwargs)
    shapes: list[Any] = [
        leaf
        if isinstance(leaf, bool | int | float | complex)
        else jax.ShapeDtypeStruct(
            np.shape(leaf), leaf.dtype, weak_type=bool(getattr(leaf, "weak_type", False))
        )
        for leaf in leaves
    ]
    return rebuild(shapes)


def _is_parameter(value: object) -> bool:
    return isinstance(value, Parameter)
