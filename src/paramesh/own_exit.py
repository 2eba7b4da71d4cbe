"""What is done when this process ends, and not when a child ends that it has forked.

A child that ends as a script does (`os.fork()`, later `sys.exit()`) calls the `atexit` functions of
its parent. What these end is the parent's: servers, threads, files. The child would end it, or wait
for threads that it does not have.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

_functions: list[Callable[[], object]] = []


def register(function: Callable[[], object]) -> None:
    """Have a function called when this process ends."""
    _functions.append(function)
    atexit.register(function)


def unregister(function: Callable[[], object]) -> None:
    """Do not have it called any more, if it was to be."""
    _functions[:] = [other for other in _functions if other != function]
    atexit.unregister(function)


def _in_child() -> None:
    for function in _functions:
        atexit.unregister(function)
    _functions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
