"""How a function of `mint` comes from one line over raw values.

`mint` has the names and arguments of torch (`dim`, `keepdim`), and what it computes is `ops`' and
`jax.numpy`'s: the tables of its modules say for each name which. What an argument is follows from
its name: `input`, `other` and their like are Tensors that meet by promotion, `tensors` several of
them, `dtype` an element type.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from paramesh.ops.table import Kind, Operator

_OPERANDS = frozenset(
    [
        "input",
        "other",
        "tensor1",
        "tensor2",
        "end",
        "mat1",
        "mat2",
        "batch1",
        "batch2",
        "vec",
        "vec1",
        "vec2",
        "mat",
        "exponent",
    ]
)
_ARRAYS = frozenset(
    ["index", "mask", "src", "target", "grid", "values", "sorted_sequence", "weights"]
)
_KINDS = {"tensors": Kind.ARRAYS, "dtype": Kind.DTYPE}


def made(name: str, compute: Callable[..., Any], doc: str, floating: bool = False) -> Any:
    """A function over Tensors of one over raw values.

    Args:
        name: its name.
        compute: over raw values; its arguments' names say what they are.
        doc: what it computes.
        floating: whether integers become Float32.
    """
    kinds = {}
    for each in inspect.signature(compute).parameters:
        if each in _OPERANDS:
            kinds[each] = Kind.FLOATING if floating else Kind.OPERAND
        elif each in _ARRAYS:
            kinds[each] = Kind.ARRAY
        elif each in _KINDS:
            kinds[each] = _KINDS[each]
    operator = Operator(f"mint.{name}", compute, kinds)

    @functools.wraps(compute)
    def call(*args: object, **kwargs: object) -> Any:
        return operator(f"mint.{name}", args, kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    call.__dict__["operator"] = operator
    return call


def fill(rows: Mapping[str, tuple[Callable[..., Any], str]], floating: bool = False) -> list[str]:
    """Put a table's functions into the module that calls this; their names."""
    module = sys._getframe(1).f_globals
    for name, (compute, doc) in rows.items():
        module[name] = made(name, compute, doc, floating)
        module[name].__module__ = module["__name__"]
    return list(rows)
