"""Functions of integers whose gradients MindSpore 2.10 was asked for (`integer_gradients.json`).

python tests/support/integer_gradient_cases.py     # records; with mindspore==2.10.0, numpy<2
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Expressions of `i`, `j` (Int32), `f` (Float32), `b` (Bool), `ms` and `ops`, by the arguments.
CASES: dict[str, str] = {
    "x * y": "i f",
    "y * x": "f i",
    "x - y * 2": "i j",
    "x * x": "i",
    "x + y": "b f",
    "x / y": "j i",
    "x ** 2": "i",
    "x * 2.5": "i",
    "(x + x) * y": "i f",
    "(x * y).sum()": "b f",
    "x.astype(ms.float32) * 1.5": "i",
    "x.astype(ms.float32).mean()": "i",
    "ops.matmul(x.reshape(1, 3), y.reshape(3, 1)) * 2.0": "i j",
    "(x.reshape(3, 1) * y).sum()": "j f",
    "ops.where(x > 2, x, y)": "j f",
    "ops.gather(x, y - 1, 0)": "f i",
    "ops.gather(x, y - 1, 0) * z": "j i f",
    "y * 1.5": "i f",
    "(x > y).astype(ms.float32) * y": "j f",
    "ops.tile(x, (2,)).sum() * y": "i f",
    "x[1:] * y[:2]": "i f",
    "ops.square(x) * y": "i f",
    "-ops.abs(x) * y": "i f",
    "ops.maximum(x, y) * z": "i j f",
    "x.sum()": "i",
    "x": "i",
}
VALUES = {"i": [1, 2, 3], "j": [2, 3, 1], "f": [0.5, -1.75, 3.25], "b": [True, False, True]}


def function(code: str, ms: Any) -> Callable[..., Any]:
    """The expression as a function of x, y and z."""
    scope = {"ms": ms, "ops": ms.ops}
    return lambda *args: eval(code, {**scope, **dict(zip("xyz", args, strict=False))})


def gradients(code: str, ms: Any) -> list[dict[str, Any]]:
    """Dtype and values of the gradient by each argument of a case."""
    dtypes = {"i": ms.int32, "j": ms.int32, "f": ms.float32, "b": ms.bool_}
    args = [ms.Tensor(VALUES[a], dtypes[a]) for a in CASES[code].split()]
    found = ms.ops.GradOperation(get_all=True)(function(code, ms))(*args)
    return [{"dtype": str(g.dtype), "value": g.asnumpy().tolist()} for g in found]


def main() -> None:
    ms = importlib.import_module("mindspore")
    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    found = {code: gradients(code, ms) for code in CASES}
    rows = ",\n".join(f" {json.dumps(code)}: {json.dumps(g)}" for code, g in found.items())
    path = Path(__file__).parents[1] / "golden" / "integer_gradients.json"
    path.write_text("{\n" + rows + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
