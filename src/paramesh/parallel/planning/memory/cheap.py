"""Operators that compilers compute again rather than keep what they give."""

from __future__ import annotations

from paramesh.parallel.search.graph import BARRIER, Operator

_REDUCES = ("reduce_", "argmax", "argmin")


def is_cheap(operator: Operator) -> bool:
    """Whether compilers compute it again rather than keep what it gives."""
    return operator.joins or operator.name in ("reshape", "slice", "rev", "sharding_constraint")


def is_elementwise(operator: Operator) -> bool:
    """Whether it is cheap, and makes nothing smaller."""
    return (
        is_cheap(operator) and operator.name != BARRIER and not operator.name.startswith(_REDUCES)
    )
