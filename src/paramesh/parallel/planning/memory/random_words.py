"""What the random numbers of a program are made of, and how long that is kept.

Each random number is made from its place and a key, by 20 rounds of Threefry (Salmon et al. 2011).
JAX unrolls them for GPUs and TPUs: elementwise work, which GPUs do again wherever the numbers are
needed. TPUs do it once (`made_once`), and keep what is smallest on the way to where it is needed:
of dropout its mask, a byte for each number. For CPUs JAX makes them a loop, whose two words of 32
bits for each number are arrays. All of that is kept for as long as somebody needs the numbers: for
dropout, until the gradient has been masked.

Numbers of a normal distribution come from uniform ones by the inverse of the error function. For
CPUs that is a polynomial of a logarithm, or of its root (Giles 2010), and both are kept beside the
words.
"""

from __future__ import annotations

import collections
import math

from paramesh.parallel.planning.memory.cheap import is_elementwise
from paramesh.parallel.search.graph import Graph, Operator
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import Spec, local

#: Bytes of the words of a number, also of one that is smaller.
_OF_NUMBER = 8


def words_of(problem: Problem, operator: Operator, tensor: int, spec: Spec) -> float:
    """Bytes of the words of random numbers on one device; 0 for what are none.

    While the loop runs it takes as much again, for a copy: each of the two words that it makes
    needs both of those before.

    Args:
        problem: with the operator.
        operator: of any kind.
        tensor: its result.
        spec: how that is sharded.
    """
    if not is_random(operator):
        return 0.0
    numbers = math.prod(problem.graph.tensors[tensor].shape)
    return local(problem.machine, _OF_NUMBER * numbers, spec)


def is_random(operator: Operator) -> bool:
    """Whether it makes random numbers."""
    return operator.name == "random_bits"


def made_once(graph: Graph) -> set[int]:
    """What a TPU keeps of random numbers that several operators need (libtpu 0.0.42).

    Of all that is computed from random numbers alone, number by number, the smallest tensor before
    those operators, and of equal ones the last.
    """
    best: dict[int, int] = {}
    users: dict[int, set[int]] = collections.defaultdict(set)
    for number, operator in enumerate(graph.operators):
        own = [tensor for tensor, _ in operator.inputs]
        alone = is_elementwise(operator) and len(own) == 1 and own[0] in best
        if is_random(operator):
            best[operator.outputs[0][0]] = operator.outputs[0][0]
        elif alone and _is_as_many(graph, own[0], operator.outputs[0][0]):
            made = operator.outputs[0][0]
            smallest = best[own[0]]
            best[made] = min(made, smallest, key=lambda t: graph.tensors[t].nbytes)
        else:
            for tensor in own:
                if tensor in best:
                    users[best[tensor]].add(number)
    return {tensor for tensor, numbers in users.items() if len(numbers) > 1}


def _is_as_many(graph: Graph, before: int, after: int) -> bool:
    sizes = [math.prod(graph.tensors[tensor].shape) for tensor in (before, after)]
    return sizes[0] == sizes[1]


def beside_words(problem: Problem, operator: Operator, tensor: int, spec: Spec) -> float:
    """Bytes that the inverse of the error function keeps on one device; 0 for other operators.

    Args:
        problem: with the operator.
        operator: of any kind.
        tensor: its result.
        spec: how that is sharded.
    """
    if operator.name != "erf_inv":
        return 0.0
    return local(problem.machine, 2 * problem.graph.tensors[tensor].nbytes, spec)
