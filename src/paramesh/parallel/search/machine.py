"""What the devices can do: the numbers that the cost model counts with.

Glossary
    target      a kind of device by name, with published figures
    axis        of the mesh; a collective over it has the bandwidth of its links
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from paramesh.parallel.layouts.mesh import prime_factors


@dataclass(frozen=True)
class Target:
    """One kind of device.

    Attributes:
        name: such as "h100".
        flops: operations in a second, for the element type that networks are trained in.
        memory_bandwidth: bytes in a second between a device and its memory.
        link: bytes in a second that a device sends to others in the same host, or torus.
        network: the same to other hosts.
        latency: seconds that a collective takes however small it is.
        memory: bytes of a device; 0 where that is not known.
    """

    name: str
    flops: float
    memory_bandwidth: float
    link: float
    network: float
    latency: float
    memory: int = 0


_GB = 10**9

#: Published peaks: NVIDIA's data sheets of A100 (80 GB, SXM), H100 (SXM5) and H200, with dense BF16
#: and NVLink in one direction, and 400 Gb/s InfiniBand for each device between hosts; Google's
#: pages "TPU v5e" and "TPU v5p", with BF16 and the interconnect of a chip. "cpu" stands for
#: virtual devices of one host, which share its cores and memory: rough numbers of a small machine.
#: The latencies are guesses.
TARGETS = {
    target.name: target
    for target in (
        Target("cpu", 2e10, 5e9, 2e9, 1e9, 5e-5),
        Target("a100", 312e12, 2.039e12, 300e9, 50e9, 1e-5, 80 * _GB),
        Target("h100", 989e12, 3.35e12, 450e9, 50e9, 1e-5, 80 * _GB),
        Target("h200", 989e12, 4.8e12, 450e9, 50e9, 1e-5, 141 * _GB),
        Target("v5e", 197e12, 819e9, 200e9, 25e9, 5e-6, 16 * _GB),
        Target("v5p", 459e12, 2.765e12, 600e9, 25e9, 5e-6, 95 * _GB),
    )
}


#: What JAX calls the devices of a target, as far as it says it of no other.
_KINDS = {
    "A100": "a100",
    "H100": "h100",
    "H200": "h200",
    "v5 lite": "v5e",
    "v5e": "v5e",
    "v5": "v5p",
}


def target_of(platform: str, kind: str) -> Target:
    """The target for devices of JAX: `Device.platform` and `Device.device_kind`.

    An accelerator that is not in the table counts as the first of its platform that is.
    """
    for text, name in _KINDS.items():
        if text in kind:
            return TARGETS[name]
    return TARGETS[{"gpu": "h100", "cuda": "h100", "tpu": "v5e"}.get(platform, "cpu")]


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
