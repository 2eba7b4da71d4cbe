"""Names of packages that are imported when they are used: of higher layers, and MindSpore's paths.

Glossary
    home    the module that has a name; it is imported when somebody asks for the name
    path    a module of MindSpore's below a package, such as `nn.loss` (see `compat`), which is an
            attribute of the package without being imported first
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def homes(table: Mapping[str, str]) -> dict[str, str]:
    """{name: its home}, from {home: names with white space between them}.

    The table is a dict of literal strings where it stands:
    `tests/test_lazy_imports.py` reads it from the source, and compares the homes with the floors.

    Raises:
        ValueError: a name has two homes.
    """
    found: dict[str, str] = {}
    for home, names in table.items():
        for name in names.split():
            if name in found:
                raise ValueError(f"'{name}' has two homes: {found[name]} and {home}.")
            found[name] = home
    return found


def opened(
    package: str,
    homes: Mapping[str, str],
    known: Callable[[], Iterable[str]],
    instead: Mapping[str, str] | None = None,
) -> Callable[[str], Any]:
    """A `__getattr__` for a package, or for a module.

    Args:
        package: its name.
        homes: {name: its home}.
        known: the names that an error may propose.
        instead: {a name of other libraries: what to use here}, for errors.
    """

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is not None:
            return getattr(importlib.import_module(home), name)
        if not name.startswith("_") and "__path__" in vars(sys.modules[package]):
            below = f"{package}.{name}"
            if importlib.util.find_spec(below) is not None:
                return importlib.import_module(below)
        raise AttributeError(missing(f"module '{package}'", name, known, instead))

    return get


def missing(
    owner: str,
    name: str,
    known: Callable[[], Iterable[str]],
    instead: Mapping[str, str] | None = None,
) -> str:
    """The message of an error about a name that does not exist.

    Args:
        owner: whose name it would be.
        name: the name.
        known: the names that may be proposed.
        instead: {a name of other libraries: what to use here}.
    """
    text = f"{owner} has no attribute '{name}'."
    if name.startswith("__"):
        return text
    if instead is not None and name in instead:
        advice = instead[name]
        # A sentence stands as it is; everything else is what to use.
        return f"{text} {advice}" if advice.endswith(".") else f"{text} Use {advice}."
    names = [n for n in known() if not n.startswith("_")]
    same = [n for n in names if n.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, names, 3, 0.7)
    return f"{text} Did you mean {', '.join(near)}?" if near else text


class _CallableModule(types.ModuleType):
    """A module that calls the function of its own name in it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]](*args, **kwargs)


def callable_module(name: str) -> None:
    """Make a module callable: MindSpore has a function of its name where the module is here."""
    sys.modules[name].__class__ = _CallableModule
