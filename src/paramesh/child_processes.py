"""What a process that paramesh starts has to do before it loads anything of the user's.

A seam: upper floors say by name what they have done to this process (`import mindspore` gives
paramesh, say), and workers of datasets do it too.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

#: "module:function", called without arguments in a new process, in this order.
STEPS: list[str] = []


def add(step: str) -> None:
    """One more step for processes that are started from now on."""
    if step not in STEPS:
        STEPS.append(step)


def follow(steps: Sequence[str]) -> None:
    """Do in this process what its parent has done."""
    for step in steps:
        module, _, function = step.partition(":")
        getattr(importlib.import_module(module), function)()
