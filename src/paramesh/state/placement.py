"""The seam through which parallel modes and the parameter server reach compiled programs.

A placement answers two questions: where does each Parameter live, and who adds up its gradient?
The one here is the answer of a single device. Upper floors bring others: `providers` makes the one
for the parallel mode that is set, and `use` installs one by hand. The programs below know none of
them by name. `purposes` has the methods, by what they are for.

Glossary
    state           what programs take in and give out: a Parameter, a pool of them, or an implicit
                    value
    resharded       of an array: in the sharding that programs of the placement need
    participants    the devices that a collective operator is about, by the name of their group
    implicit value  a value that a placement has programs take in or give out besides the Parameters
    prefetch key    an implicit value of a program that has to be known before it runs
"""

from __future__ import annotations

from typing import Any

from paramesh import context
from paramesh.providers import Loaded, providers
from paramesh.state.implicit_values import ImplicitValue, PrefetchKey
from paramesh.state.participants import OTHER_WORLD, WORLD, Participants
from paramesh.state.purposes import (
    GradientPlacement,
    OperatorPlacement,
    OptimizerPlacement,
    ProgramPlacement,
    ValuePlacement,
)

__all__ = [
    "OTHER_WORLD",
    "WORLD",
    "GradientPlacement",
    "ImplicitValue",
    "Loaded",
    "OperatorPlacement",
    "OptimizerPlacement",
    "Participants",
    "Placement",
    "PrefetchKey",
    "ProgramPlacement",
    "ValuePlacement",
    "current",
    "strategies",
    "strategies_moved",
    "use",
]


class Placement(
    ProgramPlacement, GradientPlacement, OptimizerPlacement, OperatorPlacement, ValuePlacement
):
    """Everything on one device: there is nothing to reduce gradients over.

    Attributes:
        plain: whether it is this one itself.
    """

    plain = False


_single = Placement()
_single.plain = True


class _Choice:
    """The current placement, looked up again when a setting has changed."""

    by_hand: Placement | None = None
    current: Placement = _single
    settings: tuple[Any, ...] | None = None


_choice = _Choice()


_strategies = 0


def strategies_moved() -> None:
    """Record that an operator which programs use got another strategy: they are traced again."""
    global _strategies
    _strategies += 1
    _choice.settings = None


def strategies() -> int:
    """A counter that `strategies_moved` increases."""
    return _strategies


def current() -> Placement:
    """The current placement.

    Raises:
        ContextError: the parallel settings do not fit this machine.
    """
    settings = context.program_key()
    if settings is not _choice.settings:
        mode = context.get_auto_parallel_context("parallel_mode")
        if _choice.by_hand is not None:
            _choice.current = _choice.by_hand
        else:
            of_mode = _single if mode == "stand_alone" else providers.placement_of_mode(mode)
            _choice.current = providers.placement_around(of_mode)
        _choice.settings = settings
    return _choice.current


def use(placement: Placement | None) -> Placement | None:
    """Install a placement (None: what the settings say); returns what was installed before."""
    before = _choice.by_hand
    _choice.by_hand, _choice.settings = placement, None
    return before
