"""JAX's part in Python's garbage collection, without an instruction of Python's.

JAX has Python's collector call a function of Python's before and after each collection. A signal
that comes meanwhile is handled in its first instruction, and what the handler raises there, Ctrl-C
for example, is printed as ignored and lost. A call in C has no such moment, so that signals are
handled behind the collection.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

from jax._src import lib as _lib

_NAME = "_xla_gc_callback"
#: None in a JAX that has it elsewhere.
_collect = getattr(vars(_lib).get("_jax"), "collect_garbage", None)


def _in_c(collect_garbage: Callable[[], object]) -> object:
    """What does the same as JAX's function, for the collector, which calls it by (phase, info)."""
    # Each is in C: `getattr` looks for an attribute of the phase's name, the property asks `next`,
    # and the iterator, which never ends, calls what it was made of.
    collect = partial(next, iter(collect_garbage, object()))
    phases = type("Phases", (), {"start": property(collect), "stop": property(collect)})
    return partial(getattr, phases())


def unbroken_collections() -> None:
    """Have signals handled behind collections, where JAX has the function that is known here."""
    for i, callback in enumerate(gc.callbacks):
        if getattr(callback, "__name__", "") == _NAME and _collect is not None:
            gc.callbacks[i] = _in_c(_collect)  # type: ignore[call-overload]
