"""The compiled program of a Cell's call, as text, and what is in it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from paramesh import Tensor
from paramesh.state import placement
from paramesh.transforms.executable import ZERO


def text_of(cell: Any, *inputs: Any) -> str:
    """The program that `cell(*inputs)` runs."""
    entry = cell._program().trace(*map(Tensor, inputs))
    entry.run([np.asarray(x) for x in inputs])
    arrays = [[p._concrete() for p in states] for states in (entry.donated, entry.kept)]
    leaves = placement.current().place_inputs(list(inputs))
    leaves += [ZERO] if entry.pooled else []
    return entry.program.lower(*arrays, leaves).compile().as_text()


def sizes(text: str, operation: str) -> list[int]:
    """The elements that each operation of a name gives."""
    found: list[int] = []
    for result in re.findall(rf"= (.+?) {operation}(?:-start)?\(", text):
        shapes = re.findall(r"\w+\[([\d,]*)\]", result)
        found += [math.prod(int(n) for n in shape.split(",") if n) for shape in shapes]
    return found
