"""Records what MindSpore's transforms give for the tables of `tests/support/transform_cases.py`.

Run it with a Python that has `mindspore==2.10.0` and `numpy<2`, in the root of the repository:

    python tests/golden/transforms/record.py

It writes `transforms.npz` and `refusals.json` beside itself. A case that MindSpore refuses is kept
as the name of its error's class.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "support"))

import transform_cases as cases  # noqa: E402


def main() -> None:
    """Write both files."""
    names = cases.names(importlib.import_module, "mindspore")
    files = cases.files()
    stored: dict[str, np.ndarray] = {f"file/{k}": v for k, v in files.items()}
    refused: dict[str, str] = {}
    given = cases.arrays()
    for expression, inputs in cases.ALL:
        key = f"{expression}/{inputs}"
        try:
            columns = {**given, **files}
            result = eval(expression, names)(*(columns[i] for i in inputs.split(",")))
        except Exception as error:
            refused[key] = type(error).__name__
            continue
        given = cases.arrays()
        for i, part in enumerate(cases.outputs(result)):
            stored[f"{key}/{i}"] = part
    for expression, inputs in cases.RANDOM:
        transform = eval(expression, names)
        rows = []
        for _ in range(cases.DRAWS):
            # Some of MindSpore's transforms change what they are given.
            columns = {**cases.arrays(), **files}
            rows.append(cases.summary(transform(*(columns[i] for i in inputs.split(",")))))
        stored[f"draws/{expression}/{inputs}"] = np.array(rows, np.float32)
    for expression in cases.REFUSED:
        try:
            eval(expression, names)
        except Exception as error:
            refused[expression] = type(error).__name__
        else:
            print("not refused:", expression)
    cases.write(HERE / "transforms.npz", stored)
    text = json.dumps(refused, indent=1, sort_keys=True)
    (HERE / "refusals.json").write_text(text + "\n", encoding="utf-8")
    print(len(stored), "arrays,", len(refused), "refused")


if __name__ == "__main__":
    main()
