"""The times that the compiler of GPUs counts with where it makes an order of kernels.

They are not those of the cost model (`search/machine.py`): what the compiler expects decides where
it starts collectives, and with it what lives how long. The figures were read from its log for eight
H100 (jaxlib 0.10.2, `sol_latency_estimator`), which has tables of measured products and
collectives.
"""

from __future__ import annotations

from paramesh.parallel.search.graph import Operator
from paramesh.parallel.search.resharding import Spec, steps
from paramesh.parallel.search.targets import Target

#: The part of the peak that large products in Float32 reach in its table.
_REACHED = 0.3
#: Seconds of any call of the library of convolutions.
_CONVOLVING = 1e-5
#: Seconds of a collective however small it is, down to so many bytes; less in proportion below.
_STARTING = 3e-5
_SMALLEST = 512
#: Bytes that a device sends in a second.
_SENDING = 2.8e11


def sending(sizes: tuple[int, ...], start: Spec, end: Spec, nbytes: float) -> float:
    """Seconds of the collectives from one layout to another, of a tensor of so many bytes."""
    found = [step for step in steps(sizes, start, end) if step.sent]
    starting = _STARTING * min(nbytes / _SMALLEST, 1.0)
    return sum(starting + step.sent * nbytes / _SENDING for step in found)


def running(operator: Operator, flops: float, moved: float, target: Target) -> float:
    """Seconds of a kernel on one device.

    Args:
        operator: the last in it.
        flops: that it computes of a product or a convolution; 0 for other kernels.
        moved: bytes that it reads and writes.
        target: the kind of the device.
    """
    if flops and operator.name == "conv_general_dilated":
        return _CONVOLVING
    return max(moved / target.memory_bandwidth, flops / target.peak(operator.dtype) / _REACHED)
