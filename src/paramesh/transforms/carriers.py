"""What a compiled function returns with traced values in it, where the program cannot put numbers.

A program gives arrays, and they are put into the tuples, lists, dicts and other pytrees that the
function returned. An object of another class is handed out as it is: a Tensor in it would never get
a value. An iterator runs after the trace, and is used up after the first call.
"""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any

import jax.core
import numpy as np

from paramesh.array_types import Tree
from paramesh.errors import TraceError
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor
from paramesh.tensor.trees import Nest
from paramesh.transforms.reachability import is_cell

#: How deep objects in objects are looked into.
_DEPTH = 4
_LATER = (types.CoroutineType, types.AsyncGeneratorType, Iterator)
_VIEWS = (ValuesView, KeysView, ItemsView)
_ENDS = (str, bytes, bool, int, float, complex, type, types.ModuleType, np.ndarray, np.generic)


def _of_map(given: map[Any]) -> type:
    inputs = given.__reduce__()[1][1:]  # its iterators; no other way leads to them
    return list if all(isinstance(each, _LIST_ITERATOR) for each in inputs) else tuple


_LIST_ITERATOR = type(iter([]))

#: {type: what MindSpore's compiled functions return in its place, or a function that says it}.
_FINISHED: dict[type, type | Callable[[Any], type]] = {
    map: _of_map,
    zip: tuple,
    enumerate: tuple,
    range: tuple,
    type({}.keys()): tuple,
    type({}.values()): tuple,
    filter: list,
    type({}.items()): list,
}
#: How many elements of an iterator are returned; one that never ends is refused.
_MOST = 100_000


def finished(out: Tree, name: str) -> Tree:
    """What a function returned, with tuples and lists in place of iterators of python's own.

    As in MindSpore's compiled functions: a `map` of lists and a `filter` are lists, a `map` of
    anything else, `zip`, `enumerate`, `range` and a dict's keys and values are tuples. It runs
    them, so it has to be called where the function was.

    Raises:
        TraceError: an iterator has more than 100,000 elements.
    """
    leaves, tree = jax.tree_util.tree_flatten(out, is_leaf=runs_later)
    if not any(type(leaf) in _FINISHED for leaf in leaves):
        return out
    return jax.tree_util.tree_unflatten(tree, [_finished(leaf, name) for leaf in leaves])


def _finished(leaf: object, name: str) -> Tree:
    how = _FINISHED.get(type(leaf))
    if how is None or not isinstance(leaf, Iterable):
        return leaf
    kind = how if isinstance(how, type) else how(leaf)
    row = list(itertools.islice(leaf, _MOST + 1))
    if len(row) > _MOST:
        raise TraceError(
            f"'{name}' returns {_article(type(leaf).__name__)} of more than {_MOST:,} elements: a "
            "compiled function returns all of them. Return a part, or a Tensor."
        )
    return kind(finished(each, name) for each in row)


def refuse_carriers(leaf: object, name: str) -> None:
    """Check something that a function returned and that is no array or container.

    Args:
        leaf: it.
        name: of the function.

    Raises:
        TraceError: it has traced values in it, or it is an iterator.
    """
    if leaf is None or isinstance(leaf, _ENDS):
        return
    if isinstance(leaf, Nest):
        for each in leaf.static:
            refuse_carriers(each, name)
        return
    kind = type(leaf).__name__
    if isinstance(leaf, _LATER):
        raise TraceError(
            f"'{name}' returns {_article(kind)}, which would run after the trace, where Tensors "
            "have no values. A compiled function returns what is computed: make a list of it "
            "(no `yield` or `async` in a function or `construct` that is compiled), or run "
            "without compiling: paramesh.set_context(mode=paramesh.PYNATIVE_MODE)."
        )
    if _carries(leaf, _DEPTH, set()):
        raise TraceError(
            f"'{name}' returns {_article(kind)} with traced Tensors in it, which would never get "
            "values: a compiled program puts them into tuples, lists, dicts, namedtuples and "
            f"other pytrees alone. {_remedy(leaf)}"
        )


def runs_later(value: object) -> bool:
    """Whether JAX has a warning for a value among results: it is refused here, or finished."""
    return isinstance(value, (*_LATER, *_VIEWS))


def _remedy(leaf: object) -> str:
    kind = type(leaf)
    if kind.__module__ in ("builtins", "collections"):
        return "Return one of these."
    how = "register_dataclass" if dataclasses.is_dataclass(kind) else "register_pytree_node"
    apart = f"tell JAX how to take {kind.__name__} apart: jax.tree_util.{how}"
    return f"Return one of these, or {apart}."


def _carries(value: object, depth: int, seen: set[int]) -> bool:
    if value is None or isinstance(value, (*_ENDS, Parameter)) or id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, Tensor):
        return isinstance(value._contents, jax.core.Tracer)
    if isinstance(value, jax.core.Tracer):
        return True
    if depth < 0 or is_cell(value):
        return False
    return any(_carries(each, depth - 1, seen) for each in _inside(value))


def _inside(value: object) -> Sequence[Any]:
    if isinstance(value, dict):
        return [*value.values(), *_fields(value)]
    if isinstance(value, (list, tuple, set, frozenset, deque, *_VIEWS)):
        return [*value, *_fields(value)]
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        return [c.cell_contents for c in cells if c != types.CellType()]
    if isinstance(value, types.MethodType):
        return [value.__self__]
    return _fields(value)


def _fields(value: object) -> list[Any]:
    slots = [
        getattr(value, name)
        for kind in type(value).__mro__
        for name in _names(vars(kind).get("__slots__", ()))
        if hasattr(value, name)
    ]
    return [*vars(value).values(), *slots] if hasattr(value, "__dict__") else slots


def _names(slots: object) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots) if isinstance(slots, tuple) else []


def _article(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
