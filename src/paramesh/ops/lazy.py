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

from paramesh import lazy_names

#: Names of other modules of this package that MindSpore has at these modules too.
_BESIDE = {
    "paramesh.ops.composite": "add_flags batch_dot count_nonzero dot matmul mm multinomial normal"
    " repeat_elements repeat_interleave sequence_mask tensor_dot uniform",
    "paramesh.ops.operations": "ReduceOp identity",
}

#: {name: the module that has it}.
UPPER = lazy_names.homes(
    {
        "paramesh.transforms": """
            GradOperation fori_loop grad jvp scan value_and_grad vjp vmap while_loop
        """,
        "paramesh.transforms.higher_derivatives": "derivative jet",
        "paramesh.transforms.loop_classes": "ForiLoop Scan WhileLoop",
        "paramesh.mindspore_inner_operators": """
            CombinedNonMaxSuppression FusedAdaFactor FusedAdaFactorWithGlobalNorm MatrixLogarithm
            UpdateCache
        """,
        "paramesh.mindspore_primitives": """
            PrimitiveWithCheck PrimitiveWithInfer prim_attr_register
        """,
    }
)


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
        if name in _BESIDE.get(module, "").split():
            return getattr(importlib.import_module("paramesh.ops"), name)
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
