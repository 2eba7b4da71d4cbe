"""Records results of MindSpore 2.10 for the cases of `tests/support/name_cases.py`.

    python tests/golden/generate_names.py      # with mindspore==2.10.0 and numpy<2 installed
    python tests/golden/generate_names.py --new    # only cases that have no record yet

What MindSpore cannot do on a CPU is listed in `names.json` with its error, and not compared.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import name_cases  # noqa: E402

MODULES = ("nn_ops", "image_ops", "array_ops", "math_ops", "sparse_ops", "_grad_ops", "random_ops")


def _primitive(name: str) -> Any:
    """A class of operators, in whichever module MindSpore has it."""
    for module in ("", *MODULES):
        path = f"mindspore.ops.operations.{module}".rstrip(".")
        found = getattr(importlib.import_module(path), name, None)
        if found is not None:
            return found
    raise AttributeError(name)


def main() -> None:
    mindspore = importlib.import_module("mindspore")
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE, device_target="CPU")
    scope = name_cases.scope(
        mindspore.Tensor,
        _primitive,
        ms=mindspore,
        ops=mindspore.ops,
        nn=mindspore.nn,
        mint=importlib.import_module("mindspore.mint"),
        mnp=mindspore.numpy,
    )
    arrays: dict[str, np.ndarray] = {}
    counts: dict[str, Any] = {}
    if "--new" in sys.argv:
        arrays = dict(np.load(HERE / "names.npz"))
        arrays.pop("allow_pickle", None)  # numpy 1 takes the setting below for an array
        counts = json.loads((HERE / "names.json").read_text())
    for group, codes in name_cases.CASES.items():
        for code in codes:
            if code in counts:
                continue
            try:
                found = name_cases.flat(eval(code, scope))
            except Exception as error:
                counts[code] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
                print(group, code, counts[code])
                continue
            counts[code] = len(found)
            arrays |= {f"{len(counts) - 1}_{at}": a for at, a in enumerate(found)}
    np.savez_compressed(HERE / "names.npz", allow_pickle=True, **arrays)
    (HERE / "names.json").write_text(json.dumps(counts, indent=0) + "\n")


if __name__ == "__main__":
    main()
