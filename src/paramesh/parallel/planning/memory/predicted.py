"""What a step will hold on each device, before anything is compiled.

Arguments are known to the byte: each state and each input has a layout. For the rest the work of a
compiler is imitated: which kernels it makes (`kernels.py`), in which order they run, and which
arrays take the place of others.

Glossary
    early       an order in which kernels run as soon as what they read is there, as XLA's compiler
                for CPUs has it: it goes through the program breadth first, so that copies of
                Parameters and of activations are made long before they are used
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

from paramesh.parallel.planning.memory.gpu.combining import combined
from paramesh.parallel.planning.memory.gpu.hiding import hiding
from paramesh.parallel.planning.memory.habits import HABITS, Habits
from paramesh.parallel.planning.memory.kernel import Buffer, Kernel
from paramesh.parallel.planning.memory.kernels import kernels_of
from paramesh.parallel.planning.memory.tpu.chip import on_chip
from paramesh.parallel.planning.memory.tpu.tables import tables
from paramesh.parallel.planning.memory.tpu.tiles import OF_CHIP, in_tiles
from paramesh.parallel.search.graph import Path
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.resharding import local

#: How often as long as the memory on the chip takes to be filled a buffer may wait there for its
#: next use (libtpu 0.0.42, `xla_msa_max_overlap_to_mem_size_async_copy_ratio`).
_PATIENCE = 8.0


def arguments(plan: Plan) -> float:
    """Bytes that a device holds of the inputs of the program that are used."""
    problem, machine = plan.problem, plan.machine
    tiled = _habits_of(plan).on_chip > 0
    total = 0.0
    for number, tensor in enumerate(problem.graph.inputs):
        if number not in problem.source:
            continue
        own, spec = problem.graph.tensors[tensor], plan.input_spec(number)
        size = local(machine, own.nbytes, spec)
        total += in_tiles(size, own.shape, spec, machine.sizes) if tiled else size
    return total


def _habits_of(plan: Plan) -> Habits:
    return HABITS.get(plan.machine.target.name, Habits())


def passing(plan: Plan) -> float:
    """Bytes that are live besides the arguments, at the peak."""
    habits = _habits_of(plan)
    kernels = kernels_of(plan)
    if habits.on_chip:
        room = OF_CHIP * habits.on_chip
        patience = _PATIENCE * habits.on_chip / plan.machine.target.memory_bandwidth
        placed = on_chip(updates_first(rings_last(kernels)), room, patience)
        return peak(placed.kernels) + tables(plan, placed)
    if habits.early:
        kernels = early(with_loops_as_one(kernels, early))
    if habits.hides:
        kernels = beside_collectives(with_loops_as_one(kernels, beside_collectives))
    return peak(kernels)


def beside_collectives(kernels: list[Kernel]) -> list[Kernel]:
    """The kernels in the order in which a GPU runs them, with collectives combined."""
    return hiding(combined(kernels))


Schedule = Callable[[list[Kernel]], list[Kernel]]


def with_loops_as_one(kernels: list[Kernel], order: Schedule) -> list[Kernel]:
    """The kernels of each loop as one, which needs what they need together at their peak.

    Args:
        kernels: in the order of the program.
        order: of the kernels in a loop.
    """
    loops: dict[Path, list[Kernel]] = collections.defaultdict(list)
    for kernel in kernels:
        if kernel.loop is not None:
            loops[kernel.loop].append(kernel)
    found: list[Kernel] = []
    for kernel in kernels:
        if kernel.loop is None:
            found.append(kernel)
        elif members := loops.pop(kernel.loop, None):
            outside = [k for k in kernels if k.loop != kernel.loop]
            found.append(_as_one(members, outside, order))
    return found


def _as_one(members: list[Kernel], outside: Iterable[Kernel], order: Schedule) -> Kernel:
    used = {buffer for kernel in outside for buffer in kernel.reads}
    made = {buffer: size for kernel in members for buffer, size in kernel.makes.items()}
    reads = {buffer for kernel in members for buffer in kernel.reads} - set(made)
    leaves = {buffer: size for buffer, size in made.items() if buffer in used}
    inner = [
        Kernel(
            kernel.place,
            kernel.reads & (set(made) - set(leaves)),
            {buffer: size for buffer, size in kernel.makes.items() if buffer not in leaves},
            kernel.replaces,
            kernel.passing,
            seconds=kernel.seconds,
            sends=kernel.sends,
        )
        for kernel in members
    ]
    replaces = frozenset().union(*(k.replaces for k in members)) & reads
    busy = any(kernel.sends is not None for kernel in members)
    return Kernel(
        members[0].place, reads, leaves, replaces, peak(order(inner)), has_collectives=busy
    )


def rings_last(kernels: list[Kernel]) -> list[Kernel]:
    """Kernels in their order, but for rings that updates alone wait for: those come last."""
    users, _ = _users_of(kernels)
    updates: set[int] = set()
    last: set[int] = set()
    for number in reversed(range(len(kernels))):
        kernel, own = kernels[number], users[number]
        if not updates.issuperset(own):
            continue
        if kernel.is_ring:
            last.add(number)
        elif not any(kernel.makes.values()):
            updates.add(number)
    for number in range(len(kernels)):
        if number in last:
            last.update(users[number])
    first = [kernel for number, kernel in enumerate(kernels) if number not in last]
    return first + [kernels[number] for number in sorted(last)]


def early(kernels: list[Kernel]) -> list[Kernel]:
    """Kernels in an order in which each runs as soon as it can; see the glossary."""
    users, missing = _users_of(kernels)
    ready = collections.deque(n for n, count in enumerate(missing) if not count)
    order: list[Kernel] = []
    while ready:
        number = ready.popleft()
        order.append(kernels[number])
        for user in users[number]:
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    return order


def updates_first(kernels: list[Kernel]) -> list[Kernel]:
    """Kernels in their order, but for those that make nothing new: they run as soon as they can."""
    users, missing = _users_of(kernels)
    order: list[Kernel] = []
    done: set[int] = set()
    for first in range(len(kernels)):
        todo = [] if first in done else [first]
        while todo:
            number = todo.pop()
            done.add(number)
            order.append(kernels[number])
            for user in users[number]:
                missing[user] -= 1
                if not missing[user] and not any(kernels[user].makes.values()):
                    todo.append(user)
    return order


def _users_of(kernels: list[Kernel]) -> tuple[dict[int, list[int]], list[int]]:
    """By number: the kernels that read what one makes, and how many make what one reads."""
    makers = {buffer: n for n, kernel in enumerate(kernels) for buffer in kernel.makes}
    users: dict[int, list[int]] = collections.defaultdict(list)
    missing = [0] * len(kernels)
    for number, kernel in enumerate(kernels):
        for maker in {makers[b] for b in kernel.reads if b in makers} - {number}:
            users[maker].append(number)
            missing[number] += 1
    return users, missing


def peak(kernels: list[Kernel]) -> float:
    """Bytes that are live at the peak of kernels in the order in which they run."""
    last: dict[Buffer, int] = {}
    for at, kernel in enumerate(kernels):
        for buffer in kernel.reads:
            last[buffer] = at
    live: dict[Buffer, float] = {}
    now = most = 0.0
    for at, kernel in enumerate(kernels):
        dying = [b for b in kernel.reads if last[b] == at and b in live]
        free = [b for b in dying if b in kernel.replaces and live[b]]
        for buffer, size in kernel.makes.items():
            now += size
            live[buffer] = size
            taken = next((b for b in free if live[b] == size), None) if size else None
            if taken is not None:
                free.remove(taken)
                live[taken] = 0.0
                now -= size
        most = max(most, now + kernel.passing)
        for buffer in (*dying, *(b for b in kernel.makes if b not in last)):
            if buffer in live:
                now -= live.pop(buffer)
    return most
