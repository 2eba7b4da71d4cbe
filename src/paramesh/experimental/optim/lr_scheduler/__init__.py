"""Schedulers of the optimizers with groups: `scheduler.step()` gives each group its next rate.

    scheduler = lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    for epoch in range(90):
        ...
        scheduler.step()

The rate is a Parameter, which a compiled training step reads anew each time: nothing is compiled
again. A step may also be made inside of a compiled function. The arithmetic is in Float32, from the
present rate where there is a recursion, as in MindSpore.
"""

from paramesh.experimental.optim.lr_scheduler.base import LRScheduler
from paramesh.experimental.optim.lr_scheduler.cycles import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
)
from paramesh.experimental.optim.lr_scheduler.decays import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from paramesh.experimental.optim.lr_scheduler.plateau import ReduceLROnPlateau
from paramesh.experimental.optim.lr_scheduler.sequence import SequentialLR

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
