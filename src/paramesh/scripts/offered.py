"""Lookup of a path of MindSpore in paramesh itself, not in a list."""

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
    """The result of a lookup.

    Args:
        value: the object at the longest prefix of the path that exists.
        path: that prefix.
        rest: the remaining names, which do not exist; or empty.
    """

    value: object
    path: str
    rest: str = ""


@functools.cache
def find(path: str) -> Found:
    """Look up a dotted path of MindSpore, as far as it exists.

    Args:
        path: begins with `mindspore`.

    Returns:
        The result. Attributes of classes are looked up; those of other objects that are not modules
        are assumed to exist, since they are known only at run time.
    """
    value: object = paramesh
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


def _get(owner: object, path: str, name: str, default: object) -> Any:
    if not isinstance(owner, types.ModuleType):
        return getattr(owner, name, default)
    rest = f"{path}.{name}".partition(".")[2]
    if rest in compat.PATHS:
        # A module of ours may have the name of a path, and only a part of its names.
        return importlib.import_module(f"paramesh.{rest}")
    if name.startswith("__") and not hasattr(owner, name):
        return default
    value = getattr(owner, name, default)
    # Names that a module imports for its own use are not public.
    if isinstance(value, types.ModuleType) and not value.__name__.startswith("paramesh"):
        return default
    return value


@functools.cache
def names(path: str) -> frozenset[str]:
    """The names of a package, by MindSpore's path; empty if the package does not exist."""
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


#: Packages whose `dir` lists their public names.
_FACES = frozenset({TOP, f"{TOP}.nn"})
