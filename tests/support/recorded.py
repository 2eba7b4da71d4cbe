"""Running the records of behaviour.json against paramesh.

A record's `code` runs with the names that its README lists; the value of its last expression, put
into JSON by `plain`, is what the record calls `result`.
"""

from __future__ import annotations

import ast
import collections
import copy
import pickle
import re
from typing import Any

import numpy as np

import goldens
import paramesh as ms
from paramesh import dtype as mstype
from paramesh import initializer as initializers
from paramesh import nn, ops
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor import Tensor

_MOST_VALUES = 32


def names() -> dict[str, Any]:
    """What is in scope of a record's code; new for every record."""
    return {
        "np": np,
        "ms": ms,
        "mstype": mstype,
        "Tensor": Tensor,
        "Parameter": Parameter,
        "ParameterTuple": ParameterTuple,
        "nn": nn,
        "ops": ops,
        "I": initializers,
        "initializer": initializers.initializer,
        "copy": copy,
        "pickle": pickle,
        "collections": collections,
        "OrderedDict": collections.OrderedDict,
    }


def run(record: dict[str, Any]) -> Any:
    """The value of the last expression of a record's code."""
    before = ""
    if "prefetch_program" in record:
        before = next(
            r["code"]
            for r in goldens.records("_prefetch_program")
            if r["case"] == record["prefetch_program"]
        )
    tree = ast.parse(f"{before}\n{record['code']}")
    scope = names()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<record>", "exec"), scope)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "<record>", "eval"), scope)


def outcome(record: dict[str, Any], run_recipes: bool = False) -> dict[str, Any]:
    """`{"result": …}` or `{"error": class name}` of a record's code; says and classes of an error.

    Args:
        record: has `code`, and maybe `prefetch_program`.
        run_recipes: whether Tensors of the result that hold a recipe are computed first.
    """
    try:
        return {"result": plain(run(record), run_recipes)}
    except Exception as error:
        classes = [cls.__name__ for cls in type(error).__mro__]
        return {"error": type(error).__name__, "says": str(error), "classes": classes}


def agrees(got: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether an outcome is the expected one; an error may be of a class derived from it."""
    if "error" in expected:
        return expected["error"] in got.get("classes", ())
    return "result" in got and got["result"] == expected["result"]


def plain(value: Any, run_recipes: bool = False) -> Any:
    """A value as the records write it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _without_addresses(value)
    if isinstance(value, np.generic):
        return {"type": f"np.{type(value).__name__}", "value": _number(value.item())}
    if isinstance(value, float | complex):
        return _number(value)
    if isinstance(value, Tensor):
        return _tensor(value, run_recipes)
    if isinstance(value, np.ndarray):
        return {
            "type": "ndarray",
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "value": _nested(value.tolist()),
        }
    if isinstance(value, dict):
        return {
            _without_addresses(str(key)): plain(item, run_recipes) for key, item in value.items()
        }
    if isinstance(value, ParameterTuple):
        return {"type": "ParameterTuple", "items": [plain(item, run_recipes) for item in value]}
    if isinstance(value, list | tuple):
        return [plain(item, run_recipes) for item in value]
    if isinstance(value, type):
        return f"<class {value.__name__}>"
    return _without_addresses(str(value))


def _tensor(value: Tensor, run_recipes: bool) -> dict[str, Any]:
    if run_recipes:
        value.init_data()
    about: dict[str, Any] = {
        "type": "Parameter" if isinstance(value, Parameter) else "Tensor",
        "shape": list(value.shape),
        "dtype": str(value.dtype),
    }
    if isinstance(value, Parameter):
        about |= {"name": value.name, "requires_grad": value.requires_grad}
    if value.has_init:
        about["has_init"] = True
    elif value.size <= _MOST_VALUES:
        about["value"] = _nested(value.tolist())
    return about


def _nested(value: Any) -> Any:
    return [_nested(item) for item in value] if isinstance(value, list) else _number(value)


def _number(value: Any) -> Any:
    if isinstance(value, complex):
        return {"re": value.real, "im": value.imag}
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    return value


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
