"""What the devices can do in a mesh: the numbers that the cost model counts with.

A collective over devices of several hosts goes in rings that stay in a host as long as they can, as
NCCL's do with a network card for each device. With h hosts of m devices each, a device sends to
another host the share (h - 1) / (h m - 1) of its bytes of a gather or a sum, and m (h - 1) /
(h m - 1) of those of an exchange of all with all. The rest goes over the links inside of the host.

Glossary
    target      a kind of device by name, with published figures (`targets.py`)
    span        of an axis of the mesh: over how many hosts it goes
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from paramesh.parallel.layouts.mesh import prime_factors
from paramesh.parallel.search.targets import TARGETS, Target, target_of

__all__ = ["TARGETS", "Machine", "Target", "machine", "meshes", "target_of"]


@dataclass(frozen=True)
class Machine:
    """Devices in a mesh, as the cost model sees them.

    Attributes:
        sizes: of the axes of the mesh.
        spans: of the axes; see the glossary.
        target: the kind of the devices.
    """

    sizes: tuple[int, ...]
    spans: tuple[int, ...]
    target: Target

    @property
    def count(self) -> int:
        """How many devices there are."""
        return math.prod(self.sizes)

    def work_seconds(self, flops: float, local_bytes: float, dtype: str = "") -> float:
        """Seconds of an operator on one device: what it computes, or what it reads and writes.

        Args:
            flops: operations.
            local_bytes: that it reads and writes.
            dtype: the element type that it computes in; "" for the target's usual one.
        """
        return max(flops / self.target.peak(dtype), local_bytes / self.target.memory_bandwidth)

    def sending_seconds(self, kind: str, axes: Sequence[int], nbytes: float) -> float:
        """Seconds of one collective.

        Args:
            kind: as in XLA's programs.
            axes: of the mesh, that it goes over.
            nbytes: that one device sends.
        """
        out = _share_between_hosts(self.sizes, self.spans, kind, tuple(axes))
        target = self.target
        return target.latency + nbytes * ((1 - out) / target.link + out / target.network)


@functools.lru_cache(maxsize=1 << 12)
def _share_between_hosts(
    sizes: tuple[int, ...], spans: tuple[int, ...], kind: str, axes: tuple[int, ...]
) -> float:
    """The part of the bytes of a collective that goes to another host."""
    count = math.prod(sizes[axis] for axis in axes)
    hosts = math.prod(spans[axis] for axis in axes)
    if hosts == 1:
        return 0.0
    if kind == "collective-permute":
        return 1.0  # the slowest of its pairs
    if kind == "all-to-all":
        return (count - count // hosts) / (count - 1)
    return (hosts - 1) / (count - 1)


def machine(sizes: tuple[int, ...], target: Target, hosts: int = 1) -> Machine:
    """Devices of so many hosts in a mesh whose first axes go over the hosts.

    An axis whose devices are not in equal parts on its hosts counts as if each were on its own.
    """
    spans: list[int] = []
    left = hosts
    for size in sizes:
        own = min(left, size)
        spans.append(own if size % own == 0 else size)
        left = -(-left // size)
    return Machine(tuple(sizes), tuple(spans), target)


def meshes(
    count: int, hosts: int = 1, most_axes: int = 3, orders: bool = False
) -> list[tuple[int, ...]]:
    """The meshes to search on: as many axes as there may be, so that no other mesh refines them.

    The axes are runs of the prime factors of the number, the largest first, as in the mesh of all
    layouts (`parallel/mesh.py`). With several hosts the first axis goes over them. (2, 2, 2) is the
    only one for 8 devices in one host; 64 have (4, 4, 4), (2, 4, 8) and (2, 2, 16).

    Args:
        count: how many devices.
        hosts: how many hosts they are on.
        most_axes: how many axes a mesh may have.
        orders: whether meshes that differ in the order of their axes are two. They cost the same,
            but a layout that was given may be shown by one of them alone: (8, 2) by (4, 2, 2), and
            not by (2, 2, 4).
    """
    if hosts > 1 and count % hosts == 0 and hosts < count and most_axes > 1:
        return [(hosts, *rest) for rest in meshes(count // hosts, 1, most_axes - 1, orders)]
    primes = prime_factors(count) or (1,)
    axes = min(len(primes), most_axes)
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for cuts in itertools.combinations(range(1, len(primes)), axes - 1):
        ends = (0, *cuts, len(primes))
        sizes = tuple(math.prod(primes[a:b]) for a, b in itertools.pairwise(ends))
        alike = sizes if orders else tuple(sorted(sizes))
        found[alike] = min(sizes, found.get(alike, sizes))
    return sorted(found.values())
