"""Collectives that a compiler of GPUs makes one of, so that fewer have to be started.

XLA combines collectives of one kind over the same devices, in the order in which the results of the
program ask for them, until the results have 30 MiB or one waits for another. All that a combined
collective reads is there until the last of it is made, and all that it makes comes at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from paramesh.parallel.planning.memory.kernel import Buffer, Kernel, in_order

#: Bytes of the results of a combined collective (jaxlib 0.10.2,
#: `xla_gpu_all_gather_combine_threshold_bytes` and those of other kinds).
_MOST = 31457287
#: The kinds that are combined.
_KINDS = ("all-gather", "all-reduce", "reduce-scatter")


def combined(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Kernels with collectives combined, each after those that make what it reads.

    Args:
        kernels: in the order of the program, without loops.
    """
    left = in_order(kernels)
    makers = _makers_of(left)
    open_ones = {id(kernel) for kernel in left if _may_be(kernel)}
    while open_ones:
        group = _next_group(left, makers, open_ones)
        members = {id(kernel) for kernel in group}
        open_ones -= members
        if len(group) < 2:
            continue
        last = max(at for at, kernel in enumerate(left) if id(kernel) in members)
        left[last] = _as_one(group)
        left = in_order([kernel for kernel in left if id(kernel) not in members])
        makers = _makers_of(left)
    return left


def _makers_of(kernels: Sequence[Kernel]) -> dict[Buffer, int]:
    return {buffer: at for at, kernel in enumerate(kernels) for buffer in kernel.makes}


def _may_be(kernel: Kernel) -> bool:
    return kernel.sends is not None and kernel.sends[0] in _KINDS


def _next_group(
    kernels: Sequence[Kernel], makers: Mapping[Buffer, int], open_ones: set[int]
) -> list[Kernel]:
    """The collectives that are combined with the first that still may be."""
    first = next(at for at, kernel in enumerate(kernels) if id(kernel) in open_ones)
    group = [kernels[first]]
    #: The kernels that wait for a member, and the members.
    after = {first}
    nbytes = sum(group[0].makes.values())
    for at in range(first + 1, len(kernels)):
        kernel = kernels[at]
        waits = any(makers.get(buffer) in after for buffer in kernel.reads)
        if waits:
            after.add(at)
        if id(kernel) not in open_ones or kernel.sends != group[0].sends:
            continue
        nbytes += sum(kernel.makes.values())
        if waits or nbytes > _MOST:
            break
        group.append(kernel)
        after.add(at)
    return group


def _as_one(group: Sequence[Kernel]) -> Kernel:
    return dataclasses.replace(
        group[-1],
        reads=set().union(*(kernel.reads for kernel in group)),
        makes={buffer: size for kernel in group for buffer, size in kernel.makes.items()},
        replaces=frozenset().union(*(kernel.replaces for kernel in group)),
        seconds=sum(kernel.seconds for kernel in group),
    )
