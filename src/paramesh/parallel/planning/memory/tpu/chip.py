"""What the memory on the chip of a TPU holds, and what is brought there and taken away.

The compiler gives that memory first to what gains the most by it: by the number of times that it
is read and written, times the root of its bytes (libtpu 0.0.42, `alt_mem_benefit` in its dump of
the assignment). A buffer that cannot stay there is brought for each use that comes long after the
one before.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paramesh.parallel.planning.memory.kernel import Buffer, Kernel

#: How many turns of each loop count, however many there are (libtpu 0.0.42,
#: `xla_tpu_memory_space_assignment_while_execution_count`).
TURNS = 5


class OnChip(NamedTuple):
    """Kernels, and what goes between the memory on the chip and the other.

    Attributes:
        kernels: without the bytes of the buffers that are on the chip for as long as they live.
        brought: bytes of each copy to the chip.
        taken: how many copies go from there.
    """

    kernels: list[Kernel]
    brought: list[float]
    taken: int


def on_chip(kernels: Sequence[Kernel], room: float, patience: float = math.inf) -> OnChip:
    """The kernels without the buffers that a memory on the chip holds.

    Args:
        kernels: in the order in which they run.
        room: bytes of that memory.
        patience: seconds that a buffer may wait there for its next use.
    """
    made = {buffer: at for at, kernel in enumerate(kernels) for buffer in kernel.makes}
    sizes = {buffer: size for kernel in kernels for buffer, size in kernel.makes.items()}
    uses: dict[Buffer, list[int]] = {buffer: [at] for buffer, at in made.items()}
    used = np.array([kernel.on_chip for kernel in kernels])
    depths = np.array([kernel.depth for kernel in kernels])
    ends = np.cumsum([kernel.seconds * TURNS**kernel.depth for kernel in kernels])
    for at, kernel in enumerate(kernels):
        for buffer in kernel.reads & made.keys():
            uses[buffer].append(at)

    def waits(first: int, next_use: int) -> float:
        """Seconds between two uses, as those see them that are in the same loops."""
        return (ends[next_use - 1] - ends[first]) / TURNS ** depths[first : next_use + 1].min()

    def gain(buffer: Buffer) -> float:
        return sum(TURNS ** depths[at] for at in uses[buffer]) * math.sqrt(sizes[buffer])

    there: set[Buffer] = set()
    brought: list[float] = []
    taken = 0
    for buffer in sorted(filter(sizes.get, made), key=gain, reverse=True):
        size, between = sizes[buffer], list(itertools.pairwise(uses[buffer]))
        soon = [(a, b) for a, b in between if a == b or waits(a, b) <= patience]
        first, last = uses[buffer][0], uses[buffer][-1]
        if len(soon) == len(between) and (used[first : last + 1] + size).max() <= room:
            used[first : last + 1] += size
            there.add(buffer)
            continue
        held = np.zeros(len(kernels), bool)
        for a, b in (*soon, *((at, at) for at in uses[buffer])):
            more = ~held[a : b + 1] * size
            if (used[a : b + 1] + more).max() <= room:
                used[a : b + 1] += more
                held[a : b + 1] = True
        starts = int(held[first]) + int((held[first + 1 :] & ~held[first:-1]).sum())
        taken += int(held[first])
        brought += [size] * (starts - int(held[first]))
    left = [
        dataclasses.replace(
            kernel, makes={b: 0.0 if b in there else n for b, n in kernel.makes.items()}
        )
        for kernel in kernels
    ]
    return OnChip(left, brought, taken)
