"""Names of upper floors that MindSpore has among its operators (`ops.grad`, `C.GradOperation`).

They are looked up when somebody asks for them, so that this floor imports none above it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import Any

#: Name -> the module that has it.
UPPER = {
    "ForiLoop": "paramesh.transforms.loop_classes",
    "GradOperation": "paramesh.transforms",
    "Scan": "paramesh.transforms.loop_classes",
    "WhileLoop": "paramesh.transforms.loop_classes",
    "fori_loop": "paramesh.transforms",
    "grad": "paramesh.transforms",
    "scan": "paramesh.transforms",
    "value_and_grad": "paramesh.transforms",
    "vmap": "paramesh.transforms",
    "while_loop": "paramesh.transforms",
}


def upper(module: str, names: Iterable[str], known: Iterable[str]) -> Callable[[str], Any]:
    """A `__getattr__` for a module that offers these names of upper floors.

    Args:
        module: its name, for errors.
        names: which names of `UPPER`.
        known: the module's other names, which an error may propose.
    """

    def get(name: str) -> Any:
        if name in names:
            return getattr(importlib.import_module(UPPER[name]), name)
        if name.startswith("_"):
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        if hasattr(sys.modules[module], "__path__"):
            path = f"{module}.{name}"  # one of MindSpore's modules below this one
            if importlib.util.find_spec(path) is not None:
                return importlib.import_module(path)
        near = difflib.get_close_matches(name, [*known, *names], 3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise AttributeError(
            f"'{module}' has no operator '{name}'.{hint} They are listed in the reference."
        )

    return get
