"""What the devices can do in a mesh: the numbers that the cost model counts with.

Glossary
    target      a kind of device by name, with published figures (`targets.py`)
    axis        of the mesh; a collective over it has the bandwidth of its links
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from paramesh.parallel.layouts.mesh import prime_factors
from paramesh.parallel.search.targets import TARGETS, Target, target_of

__all__ = ["TARGETS", "Machine", "Target", "machine", "meshes", "target_of"]


@dataclass(frozen=True)
class Machine:
    """Devices in a mesh, as the cost model sees them.

    Attributes:
        sizes: of the axes of the mesh.
        bandwidths: bytes in a second along each axis.
        target: the kind of the devices.
    """

    sizes: tuple[int, ...]
    bandwidths: tuple[float, ...]
    target: Target

    @property
    def count(self) -> int:
        """How many devices there are."""
        return math.prod(self.sizes)

    def work_seconds(self, flops: float, local_bytes: float) -> float:
        """Seconds of an operator on one device: what it computes, or what it reads and writes."""
        return max(flops / self.target.flops, local_bytes / self.target.memory_bandwidth)


def machine(sizes: tuple[int, ...], target: Target, hosts: int = 1) -> Machine:
    """Devices of so many hosts in a mesh whose first axes go over the hosts.

    An axis that goes over hosts, even in part, has the bandwidth of the network.
    """
    bandwidths: list[float] = []
    left = hosts
    for size in sizes:
        bandwidths.append(target.network if left > 1 else target.link)
        left = -(-left // size)
    return Machine(tuple(sizes), tuple(bandwidths), target)


def meshes(count: int, hosts: int = 1, most_axes: int = 3) -> list[tuple[int, ...]]:
    """The meshes to search on: as many axes as there may be, so that no other mesh refines them.

    The axes are runs of the prime factors of the number, the largest first, as in the mesh of all
    layouts (`parallel/mesh.py`). With several hosts the first axis goes over them. (2, 2, 2) is the
    only one for 8 devices in one host; 64 have (4, 4, 4), (2, 4, 8) and (2, 2, 16).
    """
    if hosts > 1 and count % hosts == 0 and hosts < count and most_axes > 1:
        return [(hosts, *rest) for rest in meshes(count // hosts, 1, most_axes - 1)]
    primes = prime_factors(count) or (1,)
    axes = min(len(primes), most_axes)
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for cuts in itertools.combinations(range(1, len(primes)), axes - 1):
        ends = (0, *cuts, len(primes))
        sizes = tuple(math.prod(primes[a:b]) for a, b in itertools.pairwise(ends))
        alike = tuple(sorted(sizes))
        found[alike] = min(sizes, found.get(alike, sizes))
    return sorted(found.values())
