"""What a branch or body changes besides its names: nothing, or it cannot be converted.

Both branches of a converted `if` run in the trace, and the body of a `while` runs there once, or
twice. What one of them appends to a list, or assigns to an element or an attribute, would happen
whatever the Tensor says. Such changes are found here by comparing what the function can reach
before and after it ran, undone, and refused. The same goes for `raise`.

Not seen are files, iterators, arrays of numpy of more than 16 MiB, and objects that only a function
of another module reaches.
"""

from __future__ import annotations

import dis
import functools
import itertools
import types
from collections import deque
from collections.abc import Callable, Generator, Iterator, MutableSequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.core
import numpy as np

from paramesh.array_types import Tree
from paramesh.state import trace_scope
from paramesh.state.trace_scope import is_users
from paramesh.tensor.base import Tensor
from paramesh.transforms.reachability import is_cell

#: How deep objects in objects are looked into, and how many are.
_DEPTH, _MOST = 4, 10_000
#: An array with more bytes is not copied: it is data rather than something that a branch writes to.
_LARGEST = 2**24
#: Attributes of these are those of a program, or belong to no call.
_NOT_LOOKED_INTO = (types.ModuleType, type, str, bytes, int, float, complex)
_RAISES = dis.opmap["RAISE_VARARGS"]


class ControlFlowError(TypeError):
    """An `if` or `while` over Tensors that cannot be converted; says where, and why."""


@contextmanager
def refused(fn: Callable[..., Any], kind: str, where: str) -> Generator[None]:
    """Refuse what a branch or body changes besides its names, and what it raises.

    Args:
        fn: the branch or body, which runs in this context.
        kind: "if" or "while", for the message.
        where: file and line, for the message.

    Raises:
        ControlFlowError: it changed something, which is undone; or it got to a `raise`.
    """
    before = list(_reachable(fn))
    try:
        with trace_scope.enter(f"a branch of {where}") as scope:
            yield
            changed = [f"the attribute {a.path}" for a in scope.changed_attributes()]
            if changed:
                scope.restore()
    except Exception as error:
        _restore(before)
        if not _raised_by_user(error):
            raise
        raise ControlFlowError(
            f"{where}: this `{kind}` depends on a Tensor, so what is in it runs in the trace, "
            f"whatever the Tensor says, and there it raises {type(error).__name__}: {error}\n"
            "A program cannot raise where a Tensor decides: check the value before the call, mark "
            "it in the result (ops.where(..., float('nan'), ...)), or run without compiling: "
            "paramesh.set_context(mode=paramesh.PYNATIVE_MODE)."
        ) from error
    changed += _restore(before)
    if changed:
        raise ControlFlowError(
            f"{where}: this `{kind}` depends on a Tensor, so what is in it runs in the trace, "
            f"whatever the Tensor says. It changes {changed[0]}, which would happen in any case. "
            "Assign to a name instead (`rows = [*rows, x]`; `x = ops.where(...)` for elements of "
            "a Tensor), use a Parameter for what a Cell keeps, or run without compiling: "
            "paramesh.set_context(mode=paramesh.PYNATIVE_MODE)."
        )


def _raised_by_user(error: BaseException) -> bool:
    """Whether an exception comes from a `raise` or `assert` in the user's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    return is_users(code.co_filename) and code.co_code[trace.tb_lasti] == _RAISES


class _Seen:
    """An object that can change, with what it held."""

    __slots__ = ("held", "name", "thing")

    def __init__(self, name: str, thing: object) -> None:
        self.name, self.thing, self.held = name, thing, _held(thing)

    def restored(self) -> str | None:
        """What it is called, if it has changed; then it holds again what it held."""
        thing, held = self.thing, self.held
        if isinstance(thing, Tensor):
            now = thing._contents
            if now is held or not isinstance(now, jax.core.Tracer):
                return None  # a recipe that has run is no change
            thing._contents = held
            return f"elements of the Tensor '{self.name}'"
        if isinstance(thing, np.ndarray):
            if thing.tobytes() == held.tobytes():
                return None
            thing[...] = held
            return f"elements of the array '{self.name}'"
        now = _held(thing)
        if len(now) == len(held) and all(map(_is, _flat(now), _flat(held))):
            return None
        if isinstance(thing, MutableSequence):
            thing.clear()
            thing.extend(held)
        elif isinstance(thing, dict | set):
            thing.clear()
            thing.update(held)
        else:
            vars(thing).clear()
            vars(thing).update(held)
            return f"attributes of '{self.name}'"
        return f"the {type(thing).__name__} '{self.name}'"


def _held(thing: object) -> Any:
    if isinstance(thing, Tensor):
        return thing._contents
    if isinstance(thing, np.ndarray):
        return thing.copy()
    if isinstance(thing, MutableSequence):
        return list(thing)
    if isinstance(thing, dict):
        return dict(thing)
    if isinstance(thing, set):
        return set(thing)
    kind = type(thing)
    cached = functools.cached_property
    return {k: v for k, v in vars(thing).items() if not isinstance(getattr(kind, k, None), cached)}


def _flat(held: Tree) -> Iterator[Any]:
    if isinstance(held, dict):
        for pair in held.items():
            yield from pair
    else:
        yield from held


def _is(a: object, b: object) -> bool:
    plain = isinstance(a, bool | int | float | complex | str) and type(a) is type(b)
    return a is b or (plain and a == b)


def _restore(before: list[_Seen]) -> list[str]:
    return [name for name in [seen.restored() for seen in before] if name is not None]


def _reachable(fn: Callable[..., Any]) -> Iterator[_Seen]:
    """What a function can change by the names in it, each object once."""
    known: set[int] = set()
    ahead: deque[tuple[str, object, int]] = deque([("", fn, 0)])
    while ahead and len(known) < _MOST:
        name, thing, depth = ahead.popleft()
        if id(thing) in known or isinstance(thing, _NOT_LOOKED_INTO) or thing is None:
            continue
        known.add(id(thing))
        if isinstance(thing, types.FunctionType):
            ahead.extend((n, each, depth) for n, each in _names_of(thing))
            continue
        if isinstance(thing, types.MethodType):
            ahead.append((name, thing.__self__, depth))
            continue
        if _can_change(thing):
            yield _Seen(name, thing)
        if depth < _DEPTH:
            ahead.extend((n or name, each, depth + 1) for n, each in _inside(name, thing))


def _names_of(fn: types.FunctionType) -> Iterator[tuple[str, object]]:
    """The names that a function closes over, and the global ones that it uses, with their values.

    Global functions are left out: what they remember for the next call is their own affair.
    """
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # no value yet
            continue
    if is_users(fn.__code__.co_filename):
        for name in fn.__code__.co_names:
            value = fn.__globals__.get(name)
            if not callable(value):
                yield name, value


def _can_change(thing: object) -> bool:
    if isinstance(thing, Tensor):
        return type(thing) is Tensor  # what is written to Parameters is handed out
    if isinstance(thing, np.ndarray):
        return bool(thing.flags.writeable) and thing.nbytes <= _LARGEST
    if isinstance(thing, MutableSequence | dict | set):
        return not isinstance(thing, bytearray | memoryview)
    return _plain_object(thing)


def _plain_object(thing: object) -> bool:
    """Whether a thing is of a class of the user's, and no Cell (a scope records those)."""
    module = type(thing).__module__.partition(".")[0]
    return (
        hasattr(thing, "__dict__")
        and not is_cell(thing)
        and not isinstance(thing, jax.Array)
        and module not in ("paramesh", "jax", "numpy", "builtins", "functools")
    )


def _inside(name: str, thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, list | tuple | set | deque):
        for each in itertools.islice(thing, _MOST):
            yield "", each
    elif isinstance(thing, dict):
        for each in list(itertools.islice(thing.values(), _MOST)):
            yield "", each
    elif is_cell(thing) or _plain_object(thing):
        for attribute, each in list(vars(thing).items()):
            if attribute[0] != "_":
                yield f"{name}.{attribute}", each
