"""The scope of a running trace: what was created inside it, and what it changed outside.

A traced function may create Cells and Tensors and use them freely, as long as no traced value is
left in something that outlives the trace: that value is never computed. What a function does to
objects outside of it is recorded here while it runs, and checked when it ends.

Glossary
    scope       the record of one trace, on one thread; scopes nest as traces do
    leak        a traced value that is found, after the trace, in an object outside
"""

from __future__ import annotations

import gc
import linecache
import os
import sys
import threading
import weakref
from collections.abc import Generator, Hashable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.core
import numpy as np

from paramesh.array_types import Tree
from paramesh.errors import TracedValueError, TraceError
from paramesh.state.protocols import State, VisitedCell

#: Where the files of paramesh are; not relative to this file, which may move.
SOURCE = os.path.dirname(os.path.abspath(str(sys.modules["paramesh"].__file__))) + os.sep
_JAX = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep for path in (jax.__file__, np.__file__)
)
#: How deep containers in attributes are looked into for traced values.
_DEPTH = 3


class Attribute:
    """A plain attribute of a Cell that a trace assigned to."""

    __slots__ = ("before", "cell", "name", "where")

    def __init__(self, cell: object, name: str, before: object, where: str) -> None:
        self.cell, self.name, self.before, self.where = cell, name, before, where

    @property
    def key(self) -> tuple[int, str]:
        """The Cell (by its address) and the name."""
        return id(self.cell), self.name

    @property
    def path(self) -> str:
        """The class and the name, for messages."""
        return f"{type(self.cell).__name__}.{self.name}"

    @property
    def now(self) -> Any:
        """The present value, or MISSING."""
        return self.cell.__dict__.get(self.name, MISSING)

    def restore(self) -> None:
        """Restore the value that it had before."""
        fields = self.cell.__dict__
        if self.before is MISSING:
            fields.pop(self.name, None)
        else:
            fields[self.name] = self.before


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


#: Stands for an attribute that was not there.
MISSING = _Missing()


class TraceScope:
    """What one trace created, and what it changed that may be outside of it.

    Args:
        name: of the function that is traced, for messages.
        compiled: whether it is compiled; an eager gradient has a scope too.
        parent: the scope around it.
    """

    def __init__(self, name: str, compiled: bool, parent: TraceScope | None = None) -> None:
        self.name, self.compiled, self.parent = name, compiled, parent
        self._created: dict[Hashable, None] = {}
        self._attributes: dict[tuple[int, str], Attribute] = {}
        self._tensors: list[tuple[weakref.ref[Any], Any, str]] = []
        self._containers: list[tuple[Any, Any]] = []

    # While it runs.

    def created(self, thing: Hashable) -> None:
        """Record a Parameter or Cell that the function creates."""
        self._created[thing] = None

    def has_created(self, thing: Hashable) -> bool:
        """Whether the function, or one around it, created a Parameter or Cell."""
        return thing in self._created or (
            self.parent is not None and self.parent.has_created(thing)
        )

    def attribute(self, cell: object, name: str, before: object) -> None:
        """Record a plain attribute of a Cell before it is assigned; `before` may be MISSING."""
        if not self.has_created(cell) and (id(cell), name) not in self._attributes:
            self._attributes[id(cell), name] = Attribute(cell, name, before, user_line())

    def tensor(self, tensor: object, before: object) -> None:
        """Record that a Tensor with the concrete value `before` gets a traced one."""
        self._tensors.append((weakref.ref(tensor), before, user_line()))

    def visited(self, cell: VisitedCell) -> None:
        """Record what lists, dicts and sets of a Cell hold before it runs."""
        if self.compiled and not self.has_created(cell):
            for name, value in cell.__dict__.items():
                if type(value) in (list, dict, set) and name[0] != "_":
                    self._containers.append((value, value.copy()))

    # When it has run.

    def changed_attributes(self) -> list[Attribute]:
        """Attributes that have another value than before."""
        return [a for a in self._attributes.values() if not _same(a.before, a.now)]

    def leaked_attributes(self) -> list[Attribute]:
        """Attributes that hold traced values."""
        return [a for a in self._attributes.values() if _traced(a.now, _DEPTH)]

    def restore(self) -> None:
        """Restore the values that attributes and Tensors had before."""
        for attribute in self._attributes.values():
            attribute.restore()
        for ref, before, _ in self._tensors:
            tensor = ref()
            if tensor is not None:
                tensor._contents = before
        self.restore_containers()

    def restore_containers(self) -> None:
        """Restore what lists, dicts and sets of Cells held before.

        What another thread has put into them since goes, too: nothing tells who did.
        """
        give_back(self._containers)

    def check(self, cells: Iterable[Any] = ()) -> None:
        """Check that no traced value is left outside.

        Args:
            cells: Cells that the function went through.

        Raises:
            TraceError: one is; attributes and Tensors are restored first.
        """
        error = self._leaked_attribute(cells) or self._leaked_tensor()
        if error is not None:
            self.restore()
            raise TraceError(error)

    def _leaked_attribute(self, cells: Iterable[Any]) -> str | None:
        for attribute in self._attributes.values():
            if _traced(attribute.now, _DEPTH):
                return _ATTRIBUTE.format(fn=self.name, path=attribute.path, where=attribute.where)
        for cell in cells:
            for name, value in cell.__dict__.items():
                if type(value) in (list, dict, set) and name[0] != "_" and _traced(value, _DEPTH):
                    _purge(value)
                    path = f"{type(cell).__name__}.{name}"
                    return _ATTRIBUTE.format(fn=self.name, path=path, where="")
        return None

    def _leaked_tensor(self) -> str | None:
        for attempt in range(2):
            leaked = [(ref(), where) for ref, _, where in self._tensors]
            leaked = [(t, where) for t, where in leaked if t is not None and _traced(t, 1)]
            if not leaked:
                return None
            shape, where = tuple(leaked[0][0]._value.shape), leaked[0][1]
            del leaked
            if attempt == 0:
                gc.collect()  # a Tensor of the function's own may be in a cycle
                continue
            return _TENSOR.format(fn=self.name, shape=shape, where=where)
        return None


def give_back(containers: Sequence[tuple[Any, Any]]) -> None:
    """Have lists, dicts and sets hold again what the copies beside them hold."""
    for container, before in reversed(containers):
        if not _holds(container, before):
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(before)


class _Thread(threading.local):
    scope: TraceScope | None = None


#: What this thread is in; `tracing.public_call` restores it.
thread = _Thread()


def current() -> TraceScope | None:
    """The innermost scope of this thread; None outside every trace."""
    return thread.scope


@contextmanager
def enter(name: str, compiled: bool | None = None) -> Generator[TraceScope]:
    """Record what a function does to objects outside of it.

    Args:
        name: of the function.
        compiled: None: inherited from the scope around this one.
    """
    outer = thread.scope
    if compiled is None:
        compiled = outer is not None and outer.compiled
    scope = thread.scope = TraceScope(name, compiled, outer)
    try:
        yield scope
    except BaseException:
        scope.restore()
        raise
    finally:
        thread.scope = outer
        if outer is not None:
            outer._created.update(scope._created)
            outer._containers.extend(scope._containers)
            for key, attribute in scope._attributes.items():
                if not outer.has_created(attribute.cell):
                    outer._attributes.setdefault(key, attribute)


def created(thing: Hashable) -> None:
    """Record a Parameter or Cell that is created, inside a trace or not."""
    scope = thread.scope
    if scope is not None:
        scope.created(thing)


def refuse_created(param: State, owner: str, cells: Iterable[Any] = ()) -> None:
    """Check that a Parameter in use was not created by the function that is being compiled.

    Args:
        param: the Parameter.
        owner: the class of the Cell or optimizer that it belongs to; '' if unknown.
        cells: where to look for its owner in that case.

    Raises:
        TraceError: it was.
    """
    scope = thread.scope
    if scope is None or not scope.compiled or not scope.has_created(param):
        return
    owners = [type(c).__name__ for c in cells if any(p is param for p in c._params.values())]
    owner = owner or next(iter(owners), "")
    what = (
        f"a {owner} (with the Parameter '{param.name}')" if owner else f"Parameter '{param.name}'"
    )
    raise TraceError(_CREATED.format(fn=scope.name, what=what, where=user_line()))


# Traced values.


def _traced(value: Any, depth: int) -> bool:
    if isinstance(value, jax.core.Tracer):
        return True
    if depth < 0:
        return False
    if isinstance(value, list | tuple | set):
        return any(_traced(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return any(_traced(item, depth - 1) for item in value.values())
    slot = getattr(type(value), "_value", None)  # a property of Tensors; Parameters hold no tracers
    return slot is not None and isinstance(value._value, jax.core.Tracer)


def _purge(value: list[Any] | set[Any] | dict[Any, Any]) -> None:
    """Remove traced values from a container that a function appended them to."""
    if isinstance(value, list):
        value[:] = [item for item in value if not _traced(item, _DEPTH)]
    elif isinstance(value, set):
        value.difference_update([item for item in value if _traced(item, _DEPTH)])
    else:
        for key in [key for key, item in value.items() if _traced(item, _DEPTH)]:
            del value[key]


def _holds(container: Tree, before: Tree) -> bool:
    """Whether a container holds what it held, the very same objects."""
    if len(container) != len(before):
        return False
    if isinstance(container, dict):
        return all(
            a is c and b is d
            for (a, b), (c, d) in zip(container.items(), before.items(), strict=True)
        )
    if isinstance(container, set):
        return {id(item) for item in container} == {id(item) for item in before}
    return all(a is b for a, b in zip(container, before, strict=True))


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if hasattr(a, "shape") and hasattr(a, "dtype"):
        if _traced(a, 0) or _traced(b, 0):
            return False
        one, other = np.asarray(a), np.asarray(b)
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(a, int | float | complex | str | bytes):
        return a == b
    # Two objects of a class that defines no equality are taken for the same.
    return type(a).__eq__ is object.__eq__ or bool(a == b)


# Where the user's code is.


def is_users(path: str) -> bool:
    """Whether the code of a file is the user's, and not paramesh's, JAX's, numpy's or python's."""
    return not path.startswith((SOURCE, *_JAX)) and not path.startswith("<frozen")


def user_line() -> str:
    """The line of user code that runs now: `  File "f.py", line 3, in g` and its text."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if is_users(path):
            line = linecache.getline(path, frame.f_lineno).strip()
            place = f'\n  File "{path}", line {frame.f_lineno}, in {frame.f_code.co_name}'
            return f"{place}\n    {line}" if line else place
        frame = frame.f_back
    return ""


def stacklevel() -> int:
    """The `stacklevel` with which a warning of the calling function shows the user's line."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and not is_users(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return level


def no_value(what: str, value: jax.Array) -> TracedValueError:
    """The error for a value that is needed while it is not known.

    Args:
        what: what was called, such as `bool()`.
        value: the tracer.
    """
    about = f"shape {tuple(value.shape)}, dtype {value.dtype}"
    return TracedValueError(_NO_VALUE.format(what=what, about=about, where=user_line()))


_ATTRIBUTE = (
    "'{fn}' leaves a traced value in the attribute {path}: while a function is compiled or "
    "differentiated its Tensors have no values yet, and this one never gets any. Return the "
    "Tensor, or make the attribute a Parameter (requires_grad=False) and assign to that.{where}"
)
_TENSOR = (
    "'{fn}' assigned to elements of a Tensor of shape {shape} that was made outside of it. That "
    "Tensor is a constant of the program, and the new value does not exist outside. Make the "
    "Tensor a Parameter (requires_grad=False), or copy it inside (t = t.copy()) and return it."
    "{where}"
)
_CREATED = (
    "'{fn}' creates {what} while it is compiled. The function runs once, when it is traced, so "
    "each trace would create another one. Create it outside of the function and use it inside."
    "{where}"
)
_NO_VALUE = (
    "{what} of a Tensor that is traced ({about}): while a function is compiled (or mapped, or "
    "differentiated by JAX) a Tensor has no values yet.{where}\n"
    "What to do: choose between values with ops.where(condition, a, b), between computations with "
    "paramesh.cond(condition, f, g, *inputs), repeat with paramesh.while_loop(...); or run without "
    "compiling: paramesh.set_context(mode=paramesh.PYNATIVE_MODE)."
)
