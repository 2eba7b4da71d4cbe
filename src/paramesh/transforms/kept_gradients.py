"""Parameters that keep what a backward pass gives them, in place of a place among the gradients.

A layer whose backward pass has to leave something behind (what a second-order optimizer asks for)
reads a Parameter of its own in its forward pass, by an operation whose gradient for that Parameter
is the value to be kept. `GradientFunction` differentiates by it too, and writes the gradient to the
Parameter itself; callers see the gradients that they asked for, and no other.
"""

from __future__ import annotations

from typing import Any

from paramesh.parameter import Parameter
from paramesh.transforms.reachability import parameters_of

_MARK = "_keeps_gradient"
_met = False


def expect() -> None:
    """Look for such Parameters from now on. Modules with layers that have them call it."""
    global _met
    _met = True


def keep_gradient(param: Parameter) -> Parameter:
    """Mark a Parameter; gives it back."""
    param.__dict__[_MARK] = True
    return param


def kept_by(fn: Any) -> list[Parameter]:
    """The marked Parameters of a Cell or function."""
    if not _met:
        return []
    return [param for param in parameters_of(fn) if param.__dict__.get(_MARK, False)]
