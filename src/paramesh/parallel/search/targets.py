"""The kinds of devices that are known by name, with what is published of each.

Glossary
    target      a kind of device by name, with published figures
    host        devices that share an interconnect of their own: a server of GPUs, or a slice of
                TPUs; between hosts there is the network

Rates are those of dense products, with results in Float32 where the hardware has that. Links and
networks are counted in one direction. Latencies are nowhere published: those here are rough, and
`paramesh plan --calibrate` measures them where the devices exist.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field


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
        peaks: operations in a second by element type, where they are known.
        per_host: how many devices share an interconnect, where that is fixed; 0: any number.
        narrows: whether it computes products of Float32 in one pass of bfloat16 (`narrowing.py`).
        rings: whether its compiler scatters the sum of a large product while it computes it, in a
            ring of permutations.
        reassociates: whether its compiler adds sums over devices to each other before it sends
            them.
    """

    name: str
    flops: float
    memory_bandwidth: float
    link: float
    network: float
    latency: float
    memory: int = 0
    peaks: Mapping[str, float] = field(default_factory=dict, hash=False, compare=False)
    per_host: int = 0
    narrows: bool = False
    rings: bool = False
    reassociates: bool = False

    def peak(self, dtype: str) -> float:
        """Operations in a second for an element type; `flops` where that has no peak of its own."""
        return self.peaks.get(dtype, self.flops)

    def of_dtype(self, dtype: str) -> Target:
        """The same with the peak of an element type ("float32", "bfloat16", …) as `flops`.

        An element type without a peak of its own counts as `flops` already says.
        """
        return dataclasses.replace(self, flops=self.peak(dtype))


_GB = 10**9
_GIB = 2**30
_T = 1e12


def _peaks(float32: float, half: float, eight: float, float64: float) -> dict[str, float]:
    return {
        "float32": float32,
        "bfloat16": half,
        "float16": half,
        "int8": eight,
        "float8_e4m3fn": eight,
        "float8_e5m2": eight,
        "float64": float64,
        "complex64": float32 / 4,
    }


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        # Virtual devices of one host share its cores and its memory: rough numbers of a small
        # machine, from no publication. `paramesh plan --calibrate` measures them.
        Target("cpu", 2e10, 5e9, 2e9, 1e9, 5e-5, peaks=_peaks(2e10, 1e10, 2e10, 1e10)),
        # NVIDIA A100 80GB SXM, from the data sheet (a100-datasheet-us-nvidia-1758950-r4) as
        # glennklockwood.com/garden/processors/A100 quotes it, without sparsity: BF16 312, TF32 156,
        # INT8 624 TOPS, FP64 tensor core 19.5; HBM2e 2,039 GB/s; NVLink 300 GB/s each way.
        # Network: 25 GB/s for each GPU (github.com/calculon-ai/calculon, systems/a100_80g.json), as
        # of the eight ConnectX-6 of 200 Gb/s in a DGX A100.
        Target(
            "a100",
            312 * _T,
            2.039 * _T,
            300e9,
            25e9,
            1e-5,
            80 * _GB,
            _peaks(156 * _T, 312 * _T, 624 * _T, 19.5 * _T),
            8,
            reassociates=True,
        ),
        # NVIDIA H100 SXM5 80GB, data sheet (2023), without sparsity: BF16 989, TF32 494.7, FP8
        # 1,979, FP64 tensor core 67; HBM3 3.35 TB/s; NVLink 900 GB/s both ways. Network: 400 Gb/s
        # for each GPU, DGX H100 data sheet (8 x ConnectX-7).
        Target(
            "h100",
            989 * _T,
            3.35 * _T,
            450e9,
            50e9,
            1e-5,
            80 * _GB,
            _peaks(494.7 * _T, 989 * _T, 1979 * _T, 67 * _T),
            8,
            reassociates=True,
        ),
        # NVIDIA H200 SXM 141GB, data sheet (2024): the peaks of H100; HBM3e 4.8 TB/s.
        Target(
            "h200",
            989 * _T,
            4.8 * _T,
            450e9,
            50e9,
            1e-5,
            141 * _GB,
            _peaks(494.7 * _T, 989 * _T, 1979 * _T, 67 * _T),
            8,
            reassociates=True,
        ),
        # cloud.google.com/tpu/docs/v5e: BF16 197, INT8 393; HBM2 16 GB, 819 GB/s; ICI of a chip
        # 400 GB/s both ways; network of a pod of 256 chips 6.4 Tb/s. JAX computes products of
        # Float32 in one pass of BF16, so they have the peak of that; there is no unit for Float64.
        Target(
            "v5e",
            197 * _T,
            819e9,
            200e9,
            3.125e9,
            5e-6,
            16 * _GB,
            _peaks(197 * _T, 197 * _T, 393 * _T, 197 * _T / 64),
            narrows=True,
            rings=True,
        ),
        # cloud.google.com/tpu/docs/v5p: BF16 459; HBM2e 95 GiB, 2,765 GB/s; ICI of a chip 1,200
        # GB/s both ways; network of a chip 50 Gb/s. INT8 918: announcement of TPU v5p (2023-12).
        Target(
            "v5p",
            459 * _T,
            2.765 * _T,
            600e9,
            6.25e9,
            5e-6,
            95 * _GIB,
            _peaks(459 * _T, 459 * _T, 918 * _T, 459 * _T / 64),
            narrows=True,
            rings=True,
        ),
        # cloud.google.com/tpu/docs/v6e: BF16 918, INT8 1,836; HBM 32 GB, 1,600 GB/s; ICI of a chip
        # 3,200 Gb/s one way; network of a pod of 256 chips 25.6 Tb/s.
        Target(
            "v6e",
            918 * _T,
            1.6 * _T,
            400e9,
            12.5e9,
            5e-6,
            32 * _GB,
            _peaks(918 * _T, 918 * _T, 1836 * _T, 918 * _T / 64),
            narrows=True,
            rings=True,
        ),
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
    "v6 lite": "v6e",
    "v6e": "v6e",
}


def target_of(platform: str, kind: str) -> Target:
    """The target for devices of JAX: `Device.platform` and `Device.device_kind`.

    An accelerator that is not in the table counts as the first of its platform that is.
    """
    for text, name in _KINDS.items():
        if text in kind:
            return TARGETS[name]
    return TARGETS[{"gpu": "h100", "cuda": "h100", "tpu": "v5e"}.get(platform, "cpu")]
