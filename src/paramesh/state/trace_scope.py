"""The border of a running trace: what was made inside it, and what it did to things outside.

A traced function may make Cells and Tensors and do with them what it likes, as long as no traced
value is left in something that outlives the trace: it would be a value that nobody ever computes.
What a function does to such things is noted here while it runs, and looked at when it ends.

Glossary
    border      the notes of one trace, on one thread; borders nest as traces do
    crossing    a traced value that is found, after the trace, in something outside
"""

from __future__ import annotations

import gc
import linecache
import os
import sys
import threading
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import jax
import jax.core
import numpy as np

from paramesh.errors import TraceError

#: The whole package, wherever in it this module is.
_HERE = (
    os.path.dirname(os.path.abspath(str(sys.modules[__name__.partition(".")[0]].__file__))) + os.sep
)
_JAX = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep for path in (jax.__file__, np.__file__)
)
#: How deep containers in attributes are looked into for traced values.
_DEPTH = 3


class Attribute:
    """A plain attribute of a Cell that a trace assigned to."""

    __slots__ = ("before", "cell", "name", "where")

    def __init__(self, cell: Any, name: str, before: Any, where: str) -> None:
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

    def take_back(self) -> None:
        """Give it the value that it had before."""
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


class Border:
    """What one trace made, and what it did to things that may be outside of it.

    Args:
        name: of the function that is traced, for messages.
        compiled: whether it is compiled; an eager gradient has a border too.
        parent: the border around it.
    """

    def __init__(self, name: str, compiled: bool, parent: Border | None = None) -> None:
        self.name, self.compiled, self.parent = name, compiled, parent
        self._made: dict[Any, None] = {}
        self._attributes: dict[tuple[int, str], Attribute] = {}
        self._tensors: list[tuple[weakref.ref[Any], Any, str]] = []

    # While it runs.

    def made(self, thing: Any) -> None:
        """A Parameter or Cell is made by the function."""
        self._made[thing] = None

    def has_made(self, thing: Any) -> bool:
        """Whether the function, or one around it, made a Parameter or Cell."""
        return thing in self._made or (self.parent is not None and self.parent.has_made(thing))

    def attribute(self, cell: Any, name: str, before: Any) -> None:
        """A plain attribute of a Cell is about to be assigned to; `before` may be MISSING."""
        if not self.has_made(cell) and (id(cell), name) not in self._attributes:
            self._attributes[id(cell), name] = Attribute(cell, name, before, user_line())

    def tensor(self, tensor: Any, before: Any) -> None:
        """A Tensor with the plain value `before` is given a traced one."""
        self._tensors.append((weakref.ref(tensor), before, user_line()))

    # When it has run.

    def changed_attributes(self) -> list[Attribute]:
        """Attributes that are not what they were."""
        return [a for a in self._attributes.values() if not _same(a.before, a.now)]

    def crossing_attributes(self) -> list[Attribute]:
        """Attributes that hold traced values."""
        return [a for a in self._attributes.values() if _traced(a.now, _DEPTH)]

    def take_back(self) -> None:
        """Give attributes and Tensors the values that they had before."""
        for attribute in self._attributes.values():
            attribute.take_back()
        for ref, before, _ in self._tensors:
            tensor = ref()
            if tensor is not None:
                tensor._contents = before

    def check(self, cells: Iterable[Any] = ()) -> None:
        """See that no traced value is left outside.

        Args:
            cells: Cells that the function went through.

        Raises:
            TraceError: one is; attributes and Tensors are as before then.
        """
        error = self._crossed_attribute(cells) or self._crossed_tensor()
        if error is not None:
            self.take_back()
            raise TraceError(error)

    def _crossed_attribute(self, cells: Iterable[Any]) -> str | None:
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

    def _crossed_tensor(self) -> str | None:
        for attempt in range(2):
            left = [(ref(), where) for ref, _, where in self._tensors]
            left = [(t, where) for t, where in left if t is not None and _traced(t, 1)]
            if not left:
                return None
            shape, where = tuple(left[0][0]._value.shape), left[0][1]
            del left
            if attempt == 0:
                gc.collect()  # a Tensor of the function's own may be in a cycle
                continue
            return _TENSOR.format(fn=self.name, shape=shape, where=where)
        return None


class _Thread(threading.local):
    border: Border | None = None


#: What this thread is in; `tracing.door` puts it back.
thread = _Thread()


def current() -> Border | None:
    """The innermost border of this thread; None outside every trace."""
    return thread.border


@contextmanager
def around(name: str, compiled: bool | None = None) -> Generator[Border]:
    """Note what a function does to things outside of it.

    Args:
        name: of the function.
        compiled: None: as the border around this one.
    """
    outer = thread.border
    if compiled is None:
        compiled = outer is not None and outer.compiled
    border = thread.border = Border(name, compiled, outer)
    try:
        yield border
    except BaseException:
        border.take_back()
        raise
    finally:
        thread.border = outer
        if outer is not None:
            outer._made.update(border._made)
            for key, attribute in border._attributes.items():
                if not outer.has_made(attribute.cell):
                    outer._attributes.setdefault(key, attribute)


def made(thing: Any) -> None:
    """A Parameter or Cell is made, inside a trace or not."""
    border = thread.border
    if border is not None:
        border.made(thing)


def refuse_made(param: Any, owner: str, cells: Iterable[Any] = ()) -> None:
    """See that a Parameter which is used was not made by the function that is being compiled.

    Args:
        param: the Parameter.
        owner: the class of the Cell or optimizer that it belongs to; '' if it is not known.
        cells: where to look for its owner then.

    Raises:
        TraceError: it was.
    """
    border = thread.border
    if border is None or not border.compiled or not border.has_made(param):
        return
    owners = [type(c).__name__ for c in cells if any(p is param for p in c._params.values())]
    owner = owner or next(iter(owners), "")
    what = (
        f"a {owner} (with the Parameter '{param.name}')" if owner else f"Parameter '{param.name}'"
    )
    raise TraceError(_MADE.format(fn=border.name, what=what, where=user_line()))


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
    held = getattr(type(value), "_value", None)  # a slot of Tensors; Parameters hold no tracers
    return held is not None and isinstance(value._value, jax.core.Tracer)


def _purge(value: Any) -> None:
    """Take traced values out of a container that a function appended them to."""
    if isinstance(value, list):
        value[:] = [item for item in value if not _traced(item, _DEPTH)]
    elif isinstance(value, set):
        value.difference_update([item for item in value if _traced(item, _DEPTH)])
    else:
        for key in [key for key, item in value.items() if _traced(item, _DEPTH)]:
            del value[key]


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
    # Two objects of a class that says nothing of when they are equal: taken for the same.
    return type(a).__eq__ is object.__eq__ or bool(a == b)


# Where the user's code is.


def user_line() -> str:
    """The line of the user's code that runs now: `  File "f.py", line 3, in g` and its text."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((_HERE, *_JAX)) and not path.startswith("<frozen"):
            line = linecache.getline(path, frame.f_lineno).strip()
            place = f'\n  File "{path}", line {frame.f_lineno}, in {frame.f_code.co_name}'
            return f"{place}\n    {line}" if line else place
        frame = frame.f_back
    return ""


def no_value(what: str, value: Any) -> TraceError:
    """The error for a value that is asked for while it is not known.

    Args:
        what: what was asked for, such as `bool()`.
        value: the tracer.
    """
    about = f"shape {tuple(value.shape)}, dtype {value.dtype}"
    return TraceError(_NO_VALUE.format(what=what, about=about, where=user_line()))


_ATTRIBUTE = (
    "'{fn}' leaves a traced value in the attribute {path}: while a function is compiled or "
    "differentiated its Tensors have no numbers yet, and they have none afterwards. Return the "
    "Tensor, or make the attribute a Parameter (requires_grad=False) and assign to that.{where}"
)
_TENSOR = (
    "'{fn}' assigned to elements of a Tensor of shape {shape} that was made outside of it. That "
    "Tensor is a constant of the program, and the new value has no numbers outside. Make the "
    "Tensor a Parameter (requires_grad=False), or copy it inside (t = t.copy()) and return it."
    "{where}"
)
_MADE = (
    "'{fn}' makes {what} while it is compiled. The function runs once, when it is traced, so each "
    "trace would make another one. Make it outside of the function and use it inside.{where}"
)
_NO_VALUE = (
    "{what} of a Tensor that is traced ({about}): while a function is compiled (or mapped, or "
    "differentiated by JAX) a Tensor has no numbers yet.{where}\n"
    "Ways out: choose between values with ops.where(condition, a, b), between computations with "
    "paramesh.cond(condition, f, g, *inputs), repeat with paramesh.while_loop(...); or run without "
    "compiling: paramesh.set_context(mode=paramesh.PYNATIVE_MODE)."
)
