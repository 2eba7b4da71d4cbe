"""How long MindSpore takes to save and load a checkpoint: run by a python that has it.

`python mindspore_files.py TENSORS ELEMENTS FOLDER` prints its version as JSON, and then for every
line of its input the seconds of a save and of a load.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# What MindSpore prints must not get into the answer.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy as np  # noqa: E402


def network(ms: Any, values: list[np.ndarray[Any, Any]]) -> Any:
    """A Cell with one Parameter for each value."""
    cell = ms.nn.Cell()
    for i, value in enumerate(values):
        cell.insert_param_to_cell(f"w{i}", ms.Parameter(ms.Tensor(value), name=f"w{i}"))
    return cell


def main() -> None:
    tensors, elements, folder = sys.argv[1:]
    import mindspore as ms

    numbers = np.random.default_rng(0)
    values = [numbers.random(int(elements), np.float32) for _ in range(int(tensors))]
    full, other = network(ms, values), network(ms, values)
    path = Path(folder) / "mindspore.ckpt"
    print(json.dumps(ms.__version__), file=ANSWERS, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        ms.save_checkpoint(full, str(path))
        saved = time.perf_counter()
        ms.load_checkpoint(str(path), other)
        loaded = time.perf_counter()
        os.chmod(path, 0o600)  # MindSpore leaves it read-only
        path.unlink()
        print(json.dumps([saved - start, loaded - saved]), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
