"""Collectives that a compiler of GPUs makes one of, so that fewer have to be started.

XLA combines collectives of one kind over the same devices, in the order in which the results of the
program ask for them, until the results have 30 MiB or one waits for another. All that a combined
collective reads is there until the last of it is made, and all that it makes comes at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from paramesh.parallel.planning.kernel import Kernel, in_order

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
    open_ones = {id(kernel) for kernel in left if _may_be(kernel)}
    while open_ones:
        group = _next_group(left, open_ones)
        open_ones -= {id(kernel) for kernel in group}
        if len(group) < 2:
            continue
        members = {id(kernel) for kernel in group}
        last = max(at for at, kernel in enumerate(left) if id(kernel) in members)
        left[last] = _as_one(group)
        left = in_order([kernel for kernel in left if id(kernel) not in members])
    return left


def _may_be(kernel: Kernel) -> bool:
    return kernel.sends is not None and kernel.sends[0] in _KINDS


def _next_group(kernels: Sequence[Kernel], open_ones: set[int]) -> list[Kernel]:
    """The collectives that are combined with the first that still may be."""
    makers = {buffer: at for at, kernel in enumerate(kernels) for buffer in kernel.makes}
    group: list[Kernel] = []
    #: Of each kernel that is known: whether it waits for a member.
    waits: dict[int, bool] = {}
    nbytes = 0.0
    for at, kernel in enumerate(kernels):
        after = any(waits[makers[buffer]] for buffer in kernel.reads if buffer in makers)
        waits[at] = after
        if id(kernel) not in open_ones or (group and kernel.sends != group[0].sends):
            continue
        nbytes += sum(kernel.makes.values())
        if group and (after or nbytes > _MOST):
            break
        group.append(kernel)
        waits[at] = True
    return group


def _as_one(group: Sequence[Kernel]) -> Kernel:
    return dataclasses.replace(
        group[-1],
        reads=set().union(*(kernel.reads for kernel in group)),
        makes={buffer: size for kernel in group for buffer, size in kernel.makes.items()},
        replaces=frozenset().union(*(kernel.replaces for kernel in group)),
        seconds=sum(kernel.seconds for kernel in group),
    )
