"""The time of a modelled step: computing, memory, network."""

from __future__ import annotations

import math
from typing import NamedTuple

from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.resharding import REPLICATED


class StepTime(NamedTuple):
    """Seconds of a step, as modelled.

    Attributes:
        compute: of the operators that wait for their arithmetic.
        memory: of those that wait for what they read and write.
        network: of what the devices send each other.
    """

    compute: float
    memory: float
    network: float

    @property
    def step(self) -> float:
        """Of the full step: the model has nothing overlap."""
        return self.compute + self.memory + self.network


def step_time_of(plan: Plan) -> StepTime:
    """The times of a plan's step; they add up to `plan.seconds`."""
    problem, machine = plan.problem, plan.machine
    compute = memory = 0.0
    for node, chosen in zip(problem.nodes, plan.solution.choice, strict=True):
        sums = node.sums[chosen] if node.sums else ()
        sending = sum(one.seconds for one in sums) * node.times
        own = max(float(node.seconds[chosen]) - sending, 0.0)
        operators = [problem.graph.operators[i] for i in node.operators]
        devices = math.prod(
            size
            for factor, size in zip(node.strategies[chosen], machine.sizes, strict=True)
            if factor != REPLICATED
        )
        alone = sum(op.flops / machine.target.peak(op.dtype) for op in operators)
        computing = node.times * alone / devices
        if computing >= own * (1 - 1e-6):
            compute += own
        else:
            memory += own
    return StepTime(compute, memory, max(plan.seconds - compute - memory, 0.0))
