"""Conditions of a script on MindSpore's version, decided without running the script.

A script that runs with several versions chooses by `mindspore.__version__`; what it does for
others is not used here.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from paramesh import mindspore_version

_PATHS = frozenset({"mindspore.__version__", "mindspore.version.__version__"})
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
_METHODS = frozenset({"split", "startswith", "endswith", "strip", "replace"})


class _UndecidedError(Exception):
    """The condition depends on something else."""


def _parsed(text: object) -> tuple[int, ...]:
    """The numbers of a version; those of its pre-release or build do not count."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", str(text))
    return tuple(map(int, found[1].split("."))) if found else ()


_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    **dict.fromkeys(("parse", "Version", "LooseVersion", "StrictVersion"), _parsed),
}


def decided(test: ast.expr, symbol: Callable[[ast.expr], object]) -> bool | None:
    """Whether a condition on MindSpore's version holds for the version that paramesh follows.

    Args:
        test: the condition.
        symbol: the path of MindSpore that an expression stands for, or something else.

    Returns:
        None if the condition is of something else, or of something else, too.
    """
    asked = False

    def value(node: ast.expr | None) -> Any:
        nonlocal asked
        match node:
            case None:
                return None
            case ast.Constant(value=constant):
                return constant
            case ast.Name() | ast.Attribute() if symbol(node) in _PATHS:
                asked = True
                return mindspore_version.__version__
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return [value(part) for part in parts]
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not value(operand)
            case ast.BoolOp(op=kind, values=parts):
                known = [bool(value(part)) for part in parts]
                return all(known) if isinstance(kind, ast.And) else any(known)
            case ast.Compare(left=left, ops=[kind], comparators=[right]) if type(kind) in _COMPARED:
                return _COMPARED[type(kind)](value(left), value(right))
            case ast.Subscript(value=whole, slice=ast.Slice(lower=lower, upper=upper, step=None)):
                return value(whole)[value(lower) : value(upper)]
            case ast.Subscript(value=whole, slice=place):
                return value(whole)[value(place)]
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=arguments) if (
                name in _METHODS and not node.keywords
            ):
                return getattr(value(owner), name)(*(value(each) for each in arguments))
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[argument], keywords=[]
            ) if name in _FUNCTIONS:
                return _FUNCTIONS[name](value(argument))
            case _:
                raise _UndecidedError

    try:
        holds = bool(value(test))
    except (_UndecidedError, AttributeError, IndexError, TypeError, ValueError):
        return None
    return holds if asked else None
