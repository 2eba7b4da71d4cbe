"""What was freed goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from paramesh.ps.processes import freed_memory

#: Too short for memory of their own: they lie one after another.
SIZE, COUNT = 100_000, 400


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
@pytest.mark.skipif(freed_memory._trim() is None, reason="this C library cannot")
def test_what_was_freed_goes_back_though_something_behind_it_is_in_use() -> None:
    arrays = [np.ones(SIZE, np.uint8) for _ in range(COUNT)]
    last = arrays[-1]
    arrays = [last]
    before = resident()
    freed_memory.give_back()
    assert resident() < before - SIZE * COUNT // 2
    assert last.all()
