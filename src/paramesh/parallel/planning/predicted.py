"""What a step will hold on each device, before anything is compiled.

Arguments are known to the byte: each state and each input has a layout.
"""

from __future__ import annotations

from paramesh.parallel.search.memory import held, liveness
from paramesh.parallel.search.plan import Plan
from paramesh.parallel.search.resharding import local


def arguments(plan: Plan) -> float:
    """Bytes that a device holds of the inputs of the program that are used."""
    problem = plan.problem
    graph = problem.graph
    return sum(
        local(problem.machine, graph.tensors[tensor].nbytes, plan.input_spec(number))
        for number, tensor in enumerate(graph.inputs)
        if number in problem.source
    )


def activations(plan: Plan) -> float:
    """Bytes of what passes between operators when most is held, inputs not counted."""
    problem = plan.problem
    most = max(held(problem, plan.solution.choice, liveness(problem)), default=0.0)
    return max(most - arguments(plan), 0.0)
