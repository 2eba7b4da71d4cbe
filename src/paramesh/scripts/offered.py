"""What paramesh has at a path of MindSpore's: looked up in paramesh itself, never in a list."""

from __future__ import annotations

import functools
import importlib
import types
from dataclasses import dataclass
from typing import Any

import paramesh
from paramesh import compat

TOP = "mindspore"


@dataclass(frozen=True)
class Found:
    """What a path leads to.

    Args:
        value: the last thing on the way that is there.
        path: the part of the path that leads to it.
        rest: the names behind it that are not there, or empty.
    """

    value: Any
    path: str
    rest: str = ""


@functools.cache
def find(path: str) -> Found:
    """Follow a dotted path of MindSpore's as far as it leads.

    Args:
        path: begins with `mindspore`.

    Returns:
        Where it ends. Names behind something that is no module are looked up on classes, and taken
        to be there on everything else: what an object has shows when the script runs.
    """
    value: Any = paramesh
    parts = path.split(".")
    for at, name in enumerate(parts[1:], 1):
        so_far = ".".join(parts[:at])
        if not isinstance(value, types.ModuleType | type):
            break
        nothing = object()
        below = _get(value, so_far, name, nothing)
        if below is nothing:
            return Found(value, so_far, ".".join(parts[at:]))
        value = below
    return Found(value, path)


def _get(owner: Any, path: str, name: str, default: Any) -> Any:
    if not isinstance(owner, types.ModuleType):
        return getattr(owner, name, default)
    rest = f"{path}.{name}".partition(".")[2]
    if rest in compat.PATHS:
        return getattr(owner, name, None) or importlib.import_module(f"paramesh.{rest}")
    if name.startswith("__") and not hasattr(owner, name):
        return default
    value = getattr(owner, name, default)
    # What a module imports for its own use is not what it offers.
    if isinstance(value, types.ModuleType) and not value.__name__.startswith("paramesh"):
        return default
    return value


@functools.cache
def names(path: str) -> frozenset[str]:
    """What a package has, by MindSpore's path; empty if it is not there itself."""
    found = find(path)
    if found.rest or not isinstance(found.value, types.ModuleType):
        return frozenset()
    module = found.value
    below = path.partition(".")[2]
    given = set(getattr(module, "__all__", ())) or {
        n
        for n in dir(module)
        if not n.startswith("_") and not isinstance(getattr(module, n), types.ModuleType)
    }
    for source in compat.PATHS.get(below, ()):
        given |= set(getattr(importlib.import_module(source), "__all__", ()))
    given |= {n for n in dir(module) if not n.startswith("_")} if path in _FACES else set()
    return frozenset(given)


#: Packages whose `dir` is what they offer.
_FACES = frozenset({TOP, f"{TOP}.nn"})
