"""Records what MindSpore's transforms give for the tables of `tests/support/transform_cases.py`.

Run it with a Python that has `mindspore==2.10.0` and `numpy<2`, in the root of the repository:

    python tests/golden/transforms/record.py

It writes `transforms.npz` and `refusals.json` beside itself. A case that MindSpore refuses is kept as
the name of its error's class.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "support"))

import mindspore as ms  # noqa: E402
import mindspore.dataset.audio as A  # noqa: E402
import mindspore.dataset.text as X  # noqa: E402
import mindspore.dataset.transforms as T  # noqa: E402
import mindspore.dataset.vision as V  # noqa: E402

import transform_cases as cases  # noqa: E402


def main() -> None:
    names = {"ms": ms, "np": np, "V": V, "T": T, "X": X, "A": A}
    files = cases.files()
    stored: dict[str, np.ndarray] = {f"file/{k}": v for k, v in files.items()}
    refused: dict[str, str] = {}
    for expression, inputs in cases.VISION + cases.FORCED + cases.COLUMNS:
        given = {**cases.arrays(), **files}
        key = f"{expression}/{inputs}"
        try:
            result = eval(expression, names)(*(given[i] for i in inputs.split(",")))
        except Exception as error:
            refused[key] = type(error).__name__
            continue
        for i, part in enumerate(cases.outputs(result)):
            stored[f"{key}/{i}"] = part
    np.savez_compressed(HERE / "transforms.npz", **stored)
    (HERE / "refusals.json").write_text(json.dumps(refused, indent=1, sort_keys=True) + "\n")
    print(len(stored), "arrays,", len(refused), "refused")


if __name__ == "__main__":
    main()
