"""The tables in which a TPU's program has the addresses of what is in several parts.

Each copy to or from the memory on the chip has one, and so has each update of a Parameter and its
states. Other kernels with several results have one too, which is not counted. A copy of a large
array to the chip is four, of which each has two. Such a table has 512 bytes and takes 16 KiB, and
`memory_analysis` counts what it does not use of those twice (libtpu 0.0.42: 32,256 bytes for each,
of which its report on running out of memory lists 512). Where a program keeps nothing else outside
of the chip, it has none there; words of random keys are outside, a few bytes each.
"""

from __future__ import annotations

from paramesh.parallel.planning.memory.cheap import is_cheap
from paramesh.parallel.planning.memory.random_words import is_random
from paramesh.parallel.planning.memory.tpu.chip import OnChip
from paramesh.parallel.planning.memory.tpu.tiles import in_tiles
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.resharding import local

#: Bytes of a table: 16 KiB, and once more what of them is not used.
_BYTES = 2 * (16 << 10) - 512
#: From so many bytes on an array is brought to the chip in parts, and from so many on not at all.
_LARGE, _LARGEST = 1 << 20, 16 << 20
#: Tables of an array that is brought in four parts.
_IN_PARTS = 4 * 2
#: Tables of a product in a ring: of five permutations, its loop, what enters that, and its parts.
_OF_RING = 8
#: The part of a vector's old and new values that are copied: its states are read where they are.
_OF_VECTORS = 1 / 3


def tables(plan: Plan, placed: OnChip) -> float:
    """Bytes of the tables of a step's program.

    Args:
        plan: of the step.
        placed: its kernels.
    """
    outside = any(size for kernel in placed.kernels for size in kernel.makes.values())
    if not outside and not any(map(is_random, plan.problem.graph.operators)):
        return 0.0
    count = placed.taken + sum(map(_of_copy, placed.brought))
    count += _OF_RING * sum(kernel.is_ring for kernel in placed.kernels)
    return _BYTES * (count + _of_arguments(plan))


def _of_copy(size: float) -> int:
    return _IN_PARTS if size >= _LARGE else 1


def _of_arguments(plan: Plan) -> float:
    """How many are of Parameters, states and inputs, and of their new values."""
    problem, machine = plan.problem, plan.machine
    graph, tied = problem.graph, set(plan.program.tied.values())
    used = {t for op in graph.operators if not is_cheap(op) for t, _ in op.inputs}
    count = 0.0
    for number, tensor in enumerate(graph.inputs):
        if number not in problem.source:
            continue
        own, spec = graph.tensors[tensor], plan.input_spec(number)
        size = local(machine, own.nbytes, spec)
        size = in_tiles(size, own.shape, spec, machine.sizes)
        if number not in tied or tensor in used:
            count += _of_copy(size)
        if number in tied and size <= _LARGEST:
            count += (1 + _of_copy(size)) * (1.0 if len(own.shape) > 1 else _OF_VECTORS)
    return count + len(tied) / 3  # the update of a Parameter with two states has three results
