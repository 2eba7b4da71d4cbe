"""What the random numbers of a program are made of, and how long that is kept.

Each random number is made from its place and a key, by 20 rounds of Threefry (Salmon et al. 2011).
JAX unrolls them for GPUs and TPUs: elementwise work, which is done again wherever the numbers are
needed, from a few words of a key. (A TPU that made the numbers of all devices kept a mask of them;
that of its own numbers it makes again: libtpu 0.0.42.) For CPUs it makes them a loop, whose two
words of 32 bits for each number are arrays. They are kept for as long as somebody needs the
numbers: for dropout, until the gradient has been masked.

Numbers of a normal distribution come from uniform ones by the inverse of the error function. For
CPUs that is a polynomial of a logarithm, or of its root (Giles 2010), and both are kept beside the
words.
"""

from __future__ import annotations

import math

from paramesh.parallel.search.graph import Operator
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
