"""The seam through which parallel modes and the parameter server reach a training program.

A placement answers two questions: where does each Parameter live, and who adds up its gradient?
The one here is the answer of a single device. Upper floors install another with `use`; the
programs below know none of them by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh.recipe import Recipe, compute_many


class Placement:
    """Everything on one device, nobody else to add gradients with."""

    #: Part of every compiled program's guard: another placement, another program.
    key: Any = ("single",)

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """The first arrays of Parameters, made from their recipes where each Parameter lives."""
        return list(compute_many(recipes))

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The raw inputs of a program, laid out over the devices."""
        return leaves

    def reduce_gradients(self, params: Sequence[Any], grads: Sequence[Any]) -> list[Any]:
        """Raw gradients of one device's part of the batch -> of the whole batch; traced."""
        return list(grads)

    def after_step(self, written: Sequence[Any]) -> None:
        """Called after every run of a compiled program with the Parameters it wrote."""


_single = Placement()
_current: Placement = _single


def current() -> Placement:
    """The placement in force."""
    return _current


def use(placement: Placement | None) -> Placement:
    """Install a placement (None: back to the single device); returns the one before."""
    global _current
    before = _current
    _current = _single if placement is None else placement
    return before
