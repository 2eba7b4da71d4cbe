"""Deprecated names: what replaces each, since which version, and in which version it goes.

A module that has moved can still be imported by its old path until then. The import gives the
module at its new path, never a second copy, and a `DeprecationWarning` that says what to write
instead.
A release that reaches a version of `removed` deletes the entry (`tests/test_deprecations.py`).
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Deprecated:
    """A name that is going to be removed.

    Attributes:
        new: the full path of what replaces it.
        use: what a user should write instead.
        since: the version that deprecated it.
        removed: the version that removes it.
    """

    new: str
    use: str
    since: str = "0.2.0"
    removed: str = "0.4.0"

    def warn(self, old: str) -> None:
        """Tell the user's line that the name is deprecated."""
        # `warnings` itself leaves out the frames of the import system's frozen modules.
        depth, frame = 1, sys._getframe(0)
        while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
            depth += "_bootstrap" not in frame.f_code.co_filename
            frame = frame.f_back
        warnings.warn(
            f"{old} is deprecated since paramesh {self.since} and will be removed in "
            f"{self.removed}. Use {self.use}.",
            DeprecationWarning,
            stacklevel=depth,
        )


def _is_inside(module: str) -> bool:
    top = module.partition(".")[0]
    return top in ("importlib", "paramesh")


#: Old path of a module -> what replaces it.
MODULES: dict[str, Deprecated] = {
    "paramesh.recipe": Deprecated(
        "paramesh.sampling.recipe", "paramesh.Initializer, paramesh.Recipe and paramesh.set_seed"
    ),
    "paramesh.nest": Deprecated("paramesh.tensor.trees", "paramesh.values"),
    "paramesh.checkpoint.convert": Deprecated(
        "paramesh.checkpoint.conversion.converter", "paramesh.checkpoint.conversion"
    ),
    "paramesh.checkpoint.layer_kinds": Deprecated(
        "paramesh.checkpoint.conversion.layer_kinds", "paramesh.checkpoint.conversion"
    ),
    "paramesh.checkpoint.renaming": Deprecated(
        "paramesh.checkpoint.conversion.renaming", "paramesh.checkpoint.conversion"
    ),
}


def renamed(
    module: str, names: Mapping[str, Deprecated], otherwise: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """A `__getattr__` for a module some of whose names have other names now.

    Args:
        module: the module's name.
        names: old name -> what replaces it; `new` is its path.
        otherwise: the `__getattr__` for all other names.
    """

    def get(name: str) -> Any:
        deprecated = names.get(name)
        if deprecated is None:
            if otherwise is not None:
                return otherwise(name)
            raise AttributeError(f"module '{module}' has no attribute '{name}'.")
        deprecated.warn(f"{module}.{name}")
        home, _, new = deprecated.new.rpartition(".")
        return getattr(sys.modules[home], new)

    return get
