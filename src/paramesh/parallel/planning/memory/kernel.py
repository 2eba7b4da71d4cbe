"""What runs on a device, and the arrays that it reads and makes.

Glossary
    buffer      an array in memory: a tensor in one layout, on one device
    kernel      operators that run as one: one that computes much, or a chain of cheap ones whose
                tensors in between are never in memory
    loop        the operators of the body of a scan; by the path of the scan
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from paramesh.parallel.search.graph import Path

Buffer = tuple[Hashable, ...]


@dataclass
class Kernel:
    """See the glossary.

    Attributes:
        place: the number of its operator.
        reads: buffers, without arguments of the program.
        makes: buffer -> bytes; 0 for one that takes the place of an argument.
        replaces: the buffers among those that it reads whose place a result may take, if nobody
            needs them any more.
        passing: bytes that it needs while it runs.
        on_chip: bytes that it needs of the memory on the chip while it runs.
        seconds: that it takes in one turn of the loops around it, as modelled.
        sends: of a collective that runs beside others: its kind, and the axes that it goes over.
        has_collectives: whether it is a loop that sends, beside which nothing else is sent.
        is_ring: whether it is a product that is computed and scattered part by part.
        loop: see the glossary; None outside of loops.
        depth: how many loops are around it.
    """

    place: int
    reads: set[Buffer] = field(default_factory=set)
    makes: dict[Buffer, float] = field(default_factory=dict)
    replaces: frozenset[Buffer] = frozenset()
    passing: float = 0.0
    on_chip: float = 0.0
    seconds: float = 0.0
    sends: tuple[str, tuple[int, ...]] | None = None
    has_collectives: bool = False
    is_ring: bool = False
    loop: Path | None = None
    depth: int = 0


def in_order(kernels: Sequence[Kernel], first: Iterable[int] = ()) -> list[Kernel]:
    """Kernels, each after those that make what it reads.

    Args:
        kernels: in any order.
        first: the numbers of those that come first, with all that they need.
    """
    makers = {buffer: at for at, kernel in enumerate(kernels) for buffer in kernel.makes}
    order: list[Kernel] = []
    seen: set[int] = set()
    for root in (*first, *range(len(kernels))):
        todo = [(root, False)]
        while todo:
            at, is_done = todo.pop()
            if is_done:
                order.append(kernels[at])
            elif at not in seen:
                seen.add(at)
                todo.append((at, True))
                own = {makers[b] for b in kernels[at].reads if b in makers} - {at}
                todo += [(other, False) for other in sorted(own, reverse=True)]
    return order
