"""Which calls of an operator are one compiled call outside of programs, and which are kept.

A compiled call is kept for each operator and its settings. Settings are part of what is compiled,
so those that change in every call, such as a number that a script computes, must not compile
something every time: the first few are compiled at once, others when they come a second time, and
from a number of them on no more are.

A function of JAX's is one compiled call already, except in a gradient: `in_gradient` and
`of_operands` are for these. `as_one` is for the computations of an operator that has to read or
write Parameters besides.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh._compat.jax import outside_of_transforms
from paramesh.array_types import ArrayLike, Tree
from paramesh.dtype import DType
from paramesh.tensor.one_call import REFUSALS, OneCall, possible

#: So many settings of an operator are compiled when they come the first time.
AT_ONCE = 8
#: So many are kept.
MOST = 64

_EXACT = (int, bool, str, type(None), DType)
#: An array in the place of an argument, or several.
_ARRAY = object()


class Arguments:
    """What an operator was given, as arrays and settings.

    Args:
        values: the arguments by name.
        lists: names of those that are tuples of arrays.
        numbers: names of those of which numbers are as good as arrays: their element type is known
            to be that of an array beside them, and no shape depends on them.

    Attributes:
        arrays: the raw arrays, in order.
        settings: equal for calls that compute the same of their arrays; None if that cannot be
            told, because of functions, Parameters or other objects among the arguments.
    """

    __slots__ = ("_places", "arrays", "settings")

    def __init__(
        self, values: Mapping[str, Any], lists: Sequence[str] = (), numbers: Sequence[str] = ()
    ) -> None:
        self.arrays: list[Any] = []
        self._places: list[tuple[str, Any]] = []
        self.settings: tuple[Hashable, ...] | None = None
        settings: list[Hashable] = []
        for name, value in values.items():
            if isinstance(value, jax.Array) or (name in numbers and type(value) in (float, int)):
                self.arrays.append(value)
                self._places.append((name, _ARRAY))
                settings.append(name if isinstance(value, jax.Array) else (name, type(value)))
            elif name in lists and type(value) is tuple:
                self.arrays.extend(value)
                self._places.append((name, [_ARRAY] * len(value)))
                settings.append((name, len(value)))
            else:
                mark = _mark(value)
                if mark is None:
                    return
                self._places.append((name, value))
                settings.append((name, mark))
        self.settings = tuple(settings)

    def filled(self) -> Callable[..., dict[str, Any]]:
        """From arrays to all arguments; it holds none of the arrays of this call."""
        places = self._places

        def fill(arrays: Sequence[Any]) -> dict[str, Any]:
            given = iter(arrays)
            return {
                name: next(given)
                if value is _ARRAY
                else tuple(next(given) for _ in value)
                if type(value) is list and value[:1] == [_ARRAY]
                else value
                for name, value in places
            }

        return fill


def _mark(value: object) -> Hashable | None:
    """What tells a setting from others, 1 from True and 0.0 from -0.0 too; None: nothing does."""
    kind = type(value)
    if kind in _EXACT:
        return kind, value
    if kind is float:
        return kind, repr(value)
    if isinstance(value, tuple | list) and kind in (tuple, list):
        marks = tuple(map(_mark, value))
        return None if None in marks else (kind, marks)
    return None


class Calls:
    """The compiled calls of one operator.

    Args:
        name: of the operator.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._made: dict[Hashable, OneCall | None] = {}
        self._seen: set[Hashable] = set()

    def of(
        self, key: Hashable, compute: Callable[[dict[str, Any]], Any], arguments: Arguments
    ) -> OneCall | None:
        """The compiled call for some settings; None where each part is to be called by itself.

        Args:
            key: the settings, and whatever else the result depends on.
            compute: takes all arguments by name.
            arguments: of this call.
        """
        call = self._made.get(key, self)
        if not isinstance(call, Calls):
            return call
        if len(self._made) >= AT_ONCE and key not in self._seen:
            if len(self._seen) < MOST:
                self._seen.add(key)
            return None
        if len(self._made) >= MOST:
            return None
        fill = arguments.filled()
        made = OneCall(lambda *arrays: compute(fill(arrays)), self._name)
        return self._made.setdefault(key, made)

    def refuse(self, key: Hashable) -> None:
        """Never again make one call of these settings."""
        self._made[key] = None

    def made(self) -> list[OneCall]:
        """Those that there are."""
        return [call for call in self._made.values() if call is not None]


class Apart:
    """In the place of a result: each part of the operator is to be called by itself.

    Args:
        refuse: called by `done`, after a call was tried; None: none was.
    """

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None] | None = None) -> None:
        self._refuse = refuse

    def done(self) -> None:
        """The parts gave a result, no error: one call of these settings is not tried again."""
        if self._refuse is not None:
            self._refuse()


#: Where no call was tried.
APART = Apart()


def in_one_call(
    calls: Calls,
    beside: Hashable,
    compute: Callable[[dict[str, Any]], Any],
    arguments: Arguments,
) -> Any:
    """What an operator gives, by one compiled call; an `Apart` if that cannot be.

    It is not computed here then, so that errors have no more frames than they need.

    Args:
        calls: of the operator.
        beside: what the result depends on besides the arguments.
        compute: takes all arguments by name.
        arguments: as arrays and settings.
    """
    if arguments.settings is None or not arguments.arrays:
        return APART
    key = arguments.settings, beside
    call = calls.of(key, compute, arguments)
    if call is None:
        return APART
    try:
        return call(arguments.arrays)
    except REFUSALS:
        return Apart(lambda: calls.refuse(key))


#: Of functions that modules define, of JAX or here.
_calls: dict[Callable[..., Any], Calls] = {}


def in_gradient(fn: Callable[..., Any], *args: Tree, **kwargs: Tree) -> Any:
    """`fn(*args, **kwargs)`: in a gradient that is not compiled, one compiled call.

    Args:
        fn: of a module; others, which are made anew in each call, are just called.
        *args: raw arrays, numbers and settings.
        **kwargs: likewise.
    """
    if outside_of_transforms() or not possible() or not _lasts(fn):
        return fn(*args, **kwargs)
    return _kept(fn, {f"{i}": arg for i, arg in enumerate(args)} | kwargs, ())


def as_one(fn: Callable[..., Any], *args: Tree, **kwargs: Tree) -> Any:
    """`fn(*args, **kwargs)`: outside of programs one compiled call.

    Args:
        fn: of a module, with several computations inside.
        *args: raw arrays, and settings.
        **kwargs: likewise.
    """
    if not possible() or not _lasts(fn):
        return fn(*args, **kwargs)
    return _kept(fn, {f"{i}": arg for i, arg in enumerate(args)} | kwargs, ())


def of_operands(fn: Callable[[Any, Any], Any], a: ArrayLike, b: ArrayLike) -> Any:
    """`fn(a, b)` for operands of one element type; numbers are not part of what is compiled."""
    if outside_of_transforms() or not possible() or not _lasts(fn):
        return fn(a, b)
    # A whole number as an exponent is a product, and another function.
    return _kept(fn, {"0": a, "1": b}, () if fn is jnp.power else ("0", "1"))


def _kept(fn: Callable[..., Any], values: dict[str, Any], numbers: Sequence[str]) -> Any:
    calls = _calls.get(fn)
    if calls is None:
        calls = _calls.setdefault(fn, Calls(fn.__name__))

    def compute(values: dict[str, Any]) -> Any:
        positional = [value for name, value in values.items() if name.isdigit()]
        return fn(*positional, **{n: value for n, value in values.items() if not n.isdigit()})

    result = in_one_call(calls, None, compute, Arguments(values, (), numbers))
    if isinstance(result, Apart):
        apart, result = result, compute(values)
        apart.done()
    return result


def _lasts(fn: Callable[..., Any]) -> bool:
    return "<" not in getattr(fn, "__qualname__", "<")
