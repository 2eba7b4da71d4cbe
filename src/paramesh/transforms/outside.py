"""What a script's functions read and change in python, outside of Cells and Tensors.

A program is traced once, with the values that global names, closures, attributes of plain objects
and generators of random numbers had then. In MindSpore's PyNative mode, where scripts begin, python
reads them in every step. So under `paramesh run` a function that draws numbers from `numpy.random`
or counts in a global is not compiled, and a program is not used once a number that it was traced
with has changed.

Glossary
    place       where a plain value lies: a global, a variable of a closure, an attribute, an entry
    plain       a number, text, None, a short tuple or list of them, an array, a Tensor
"""

from __future__ import annotations

import builtins
import dis
import functools
import random
import re
import sysconfig
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from paramesh.errors import TraceError
from paramesh.parameter import Parameter
from paramesh.state.protocols import VisitedCell
from paramesh.state.trace_scope import is_users
from paramesh.tensor.base import Tensor
from paramesh.transforms.reachability import cells_of, is_cell

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
#: Elements of a list or tuple that is looked at.
_SHORT = 64
#: How deep functions that call functions are followed.
_DEPTH = 6
_MISSING = object()
_OF_GLOBALS = ("LOAD_GLOBAL", "STORE_GLOBAL", "LOAD_NAME")
#: What functions that draw numbers are called.
_OF_RANDOM = re.compile("rand|choice|shuffle|sampl|normal|uniform|permut|gauss|binomial")
_LIBRARIES = tuple({sysconfig.get_path(name) + "/" for name in ("stdlib", "purelib", "platlib")})

#: (the object that holds it, how it is read, how it is written, what it is called).
Place = tuple[Callable[[], object], Callable[[object], None], str]
#: The state of what draws random numbers.
State: TypeAlias = Any
#: What draws random numbers.
Generators = np.random.Generator | np.random.RandomState | random.Random


class Outside:
    """The places that a function and the script's functions that it calls refer to.

    Args:
        thing: a function, a method, a Cell.
    """

    def __init__(self, thing: object) -> None:
        self._places: dict[tuple[int, object], Place] = {}
        self._generators: dict[int, Generators] = {}
        self._iterators: dict[int, str] = {}
        self._kept: list[object] = []  # so that no address is used again
        self._seen: set[int] = set()
        self._names: set[str] = set()
        self._follow(thing, _DEPTH)
        for cell in cells_of(thing):
            for part in _all_cells(cell):
                self._method(type(part), "construct", _DEPTH)

    def values(self) -> list[object]:
        """The plain values, as they are now."""
        return [read() for read, _, _ in self._places.values()]

    def restore(self, values: list[object]) -> None:
        """Write these values where they differ from the present ones."""
        for (read, write, _), value in zip(self._places.values(), values, strict=True):
            if not _same(read(), value):
                write(value.given() if isinstance(value, _Shown) else value)

    def changed(self, values: list[object]) -> str | None:
        """What one is called that has another value than here; None if there is none."""
        for (read, _, name), value in zip(self._places.values(), values, strict=True):
            if not _same(read(), value):
                return name
        return None

    # Random numbers.

    def may_draw(self) -> bool:
        """Whether the functions name something of random numbers.

        Threads that read a dataset draw from the global generators meanwhile.
        """
        return bool(self._generators) or any(_OF_RANDOM.search(name) for name in self._names)

    def random_states(self) -> list[Any]:
        """The states of the global generators of numpy and python, and of those referred to."""
        return [random.getstate(), np.random.get_state(), *map(_state, self._generators.values())]

    def restore_random(self, states: list[Any]) -> None:
        """Set these states."""
        random.setstate(states[0])
        np.random.set_state(states[1])
        for generator, state in zip(self._generators.values(), states[2:], strict=True):
            _set_state(generator, state)

    def iterators(self) -> list[str]:
        """The names of iterators that the functions refer to."""
        return list(self._iterators.values())

    # Finding places.

    def _follow(self, thing: object, depth: int) -> None:
        if depth < 0 or thing is None or id(thing) in self._seen:
            return
        if hasattr(type(thing), "_function_inside"):
            self._inside(thing, depth)
        elif isinstance(thing, functools.partial):
            for each in (thing.func, *thing.args):
                self._follow(each, depth)
        elif isinstance(thing, types.MethodType):
            owner, fn = thing.__self__, thing.__func__
            self._inside(owner, depth)
            self._follow(fn, depth)
            if isinstance(fn, types.FunctionType) and not is_cell(owner) and _of_a_script(fn):
                self._object(owner, "self", _names(fn), depth)
        elif isinstance(thing, types.FunctionType):
            self._function(thing, depth)

    def _inside(self, thing: object, depth: int) -> None:
        if hasattr(type(thing), "_function_inside"):
            self._follow(getattr(thing, "_function_inside")(), depth)  # noqa: B009

    def _function(self, fn: types.FunctionType, depth: int) -> None:
        fn = getattr(fn, "__wrapped__", fn)
        if not isinstance(fn, types.FunctionType) or not _of_a_script(fn):
            return
        if id(fn) in self._seen:
            return
        self._seen.add(id(fn))
        self._kept.append(fn)
        names = _names(fn)
        self._names |= names
        for name in _in_code(fn.__code__)[1]:
            if name in fn.__globals__ or not hasattr(builtins, name):
                self._entry(fn.__globals__, name, name, names, depth)
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            self._closure(cell, name, names, depth)

    def _entry(
        self, holder: dict[str, Any], key: str, called: str, names: frozenset[str], depth: int
    ) -> None:
        value = holder.get(key, _MISSING)
        if value is _MISSING or _is_plain(value):

            def write(value: object) -> None:
                if value is _MISSING:
                    holder.pop(key, None)
                else:
                    holder[key] = value

            self._add(holder, key, (lambda: _shown(holder.get(key, _MISSING)), write, called))
        else:
            self._referred(value, called, names, depth)

    def _closure(self, cell: types.CellType, name: str, names: frozenset[str], depth: int) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # not yet assigned
            return
        if _is_plain(value):
            place = (
                lambda: _shown(cell.cell_contents),
                functools.partial(setattr, cell, "cell_contents"),
            )
            self._add(cell, None, (*place, name))
        else:
            self._referred(value, name, names, depth)

    def _referred(self, value: object, called: str, names: frozenset[str], depth: int) -> None:
        if isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
            self._generators.setdefault(id(value), value)
        elif isinstance(value, Iterator):
            self._iterators.setdefault(id(value), called)
        elif isinstance(value, types.FunctionType | types.MethodType | functools.partial):
            self._follow(value, depth - 1)
        elif type(value) is dict and id(value) not in self._seen:
            self._seen.add(id(value))
            for key in names & value.keys():
                self._entry(value, key, f"{called}[{key!r}]", names, depth - 1)
        elif hasattr(type(value), "_function_inside"):
            self._follow(value, depth - 1)
        else:
            self._object(value, called, names, depth)

    def _object(self, value: object, called: str, names: frozenset[str], depth: int) -> None:
        kind = type(value)
        if (
            depth < 0
            or id(value) in self._seen
            or isinstance(value, Tensor | type | types.ModuleType)
            or is_cell(value)
            or not hasattr(value, "__dict__")
        ):
            return
        self._seen.add(id(value))
        self._fields(value, called, names, depth)
        for name in names:
            method = getattr(kind, name, None)
            if isinstance(method, types.FunctionType) and _of_a_script(method):
                self._follow(method, depth - 1)
                self._fields(value, called, _names(method), depth)

    def _fields(self, value: object, called: str, names: frozenset[str], depth: int) -> None:
        fields = vars(value)
        # A plain attribute of the class is a default, which an assignment hides.
        kind = type(value)
        defaults = {name for name in names if _is_plain(getattr(kind, name, _MISSING))}
        for name in names & fields.keys() | defaults:
            self._entry(fields, name, f"{called}.{name}", names, depth - 1)

    def _method(self, kind: type, name: str, depth: int) -> None:
        """Follow a method of a Cell, and those that it calls."""
        method = getattr(kind, name, None)
        method = getattr(method, "__wrapped__", method)
        if depth < 0 or not isinstance(method, types.FunctionType) or id(method) in self._seen:
            return
        self._follow(method, depth)
        for other in _names(method) if _of_a_script(method) else ():
            if isinstance(vars(kind).get(other), types.FunctionType):
                self._method(kind, other, depth - 1)

    def _add(self, holder: object, key: object, place: Place) -> None:
        if (id(holder), key) not in self._places:
            self._kept.append(holder)
            self._places[id(holder), key] = place


class Watch:
    """A trace of a function, and what it changes outside meanwhile.

    Args:
        name: of the function.
        thing: the function.
    """

    def __init__(self, name: str, thing: object) -> None:
        self._name = name
        self.outside = Outside(thing)
        self.values = self.outside.values()
        self._random = self.outside.random_states()

    def restore(self) -> None:
        """Put everything back."""
        self.outside.restore(self.values)
        if self.outside.may_draw() and self._has_drawn():
            self.outside.restore_random(self._random)

    def _has_drawn(self) -> bool:
        return not all(map(_same_state, self._random, self.outside.random_states()))

    def begin(self) -> None:
        """Look before the trace.

        Raises:
            TraceError: the function refers to an iterator, which cannot be put back.
        """
        for name in self.outside.iterators():
            raise self._error(f"goes on with the iterator {name}")

    def check(self) -> None:
        """Look at the end of the trace.

        Raises:
            TraceError: the function drew numbers or changed a value; all has been put back.
        """
        drawn = self.outside.may_draw() and self._has_drawn()
        changed = self.outside.changed(self.values)
        if drawn or changed is not None:
            self.restore()
            raise self._error(
                "draws random numbers of numpy or python" if drawn else f"changes {changed}"
            )

    def _error(self, what: str) -> TraceError:
        return TraceError(
            f"'{self._name}' {what}, which python would do once, while it is compiled."
        )


Listed = list[Any] | np.ndarray[Any, Any] | Tensor


class _Shown:
    """A list by its elements, an array or a Tensor by its identity and what is in it."""

    __slots__ = ("_held", "_value")

    def __init__(self, value: Listed) -> None:
        self._value = value
        self._held = (
            tuple(value)
            if isinstance(value, list)
            else _At(value._contents)
            if isinstance(value, Tensor)
            else value.tobytes()
            if value.size <= _SHORT
            else None
        )

    def given(self) -> Listed:
        """What was looked at."""
        return list(self._held) if isinstance(self._held, tuple) else self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Shown) or type(self._value) is not type(other._value):
            return False
        same = type(self._value) is list or self._value is other._value
        return same and self._held == other._held

    __hash__ = None  # type: ignore[assignment]


class _At:
    """An object that is equal to itself alone."""

    __slots__ = ("_object",)

    def __init__(self, thing: object) -> None:
        self._object = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _At) and self._object is other._object

    __hash__ = None  # type: ignore[assignment]


def _shown(value: object) -> object:
    return _Shown(value) if isinstance(value, list | np.ndarray | Tensor) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, (*_PLAIN, np.ndarray)):
        return True
    if isinstance(value, Tensor):
        return not isinstance(value, Parameter)
    if not isinstance(value, tuple | list) or type(value) not in (tuple, list):
        return False
    return len(value) <= _SHORT and all(isinstance(each, _PLAIN) for each in value)


def _same(a: object, b: object) -> bool:
    # nan is the same as nan, and 1 is not True.
    return a is b or (type(a) is type(b) and bool(a == b))


def _names(fn: types.FunctionType) -> frozenset[str]:
    """The names and texts in a function's code, and in that of functions inside it."""
    return _in_code(fn.__code__)[0]


@functools.lru_cache(maxsize=4096)
def _in_code(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """(All names and texts, the global names) of some code; `x.n` names no global `n`."""
    found: set[str] = set(code.co_names)
    used = {i.argval for i in dis.get_instructions(code) if i.opname in _OF_GLOBALS}
    for each in code.co_consts:
        if isinstance(each, str):
            found.add(each)
        elif isinstance(each, types.CodeType):
            names, globals_ = _in_code(each)
            found |= names
            used |= globals_
    return frozenset(found), frozenset(used)


def _of_a_script(fn: types.FunctionType) -> bool:
    path = fn.__code__.co_filename
    return is_users(path) and not path.startswith(_LIBRARIES)


def _all_cells(cell: VisitedCell) -> Iterator[Any]:
    named = getattr(cell, "cells_and_names", None)
    if named is not None:
        yield from (part for _, part in named())


def _state(generator: Generators) -> State:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_state(generator: Generators, state: State) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _same_state(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return all(_same_state(a[key], b[key]) for key in a)
    if (
        isinstance(a, tuple)
        and isinstance(b, tuple)
        and any(isinstance(each, np.ndarray) for each in a)
    ):
        return all(map(_same_state, a, b))
    return bool(a == b)
