"""Loops of a worker that may be restarted in the middle: the steps that are still pending."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from paramesh import context

if TYPE_CHECKING:
    from paramesh.ps.integration.step_synchronization import Pace

T = TypeVar("T")


def pace() -> Pace | None:
    """How far this worker is (`ps.pace.Pace`); None where no worker is started again.

    Raises:
        ParameterServerError: the servers cannot be reached.
    """
    if not context.get_ps_context("enable_ps"):
        return None
    return importlib.import_module("paramesh.ps.integration.step_synchronization").pace()


def first_step() -> int:
    """The first pending step of this worker, counted from 0 at the top of the script.

    0 in a run that begins, and without servers in processes of their own. To be asked before the
    first step.

    Raises:
        ParameterServerError: the servers cannot be reached.
    """
    mine = pace()
    return 0 if mine is None else mine.passed


def pending_steps(batches: Iterable[T]) -> Iterator[T]:
    """The batches of the pending steps of a loop, each with its random numbers.

    For a loop written by hand; `Model.train` does this by itself. Each batch has to be one step.
    Batches whose step was pushed before are taken and passed over, so that whatever makes them
    stays in order. Without servers in processes of their own, these are all batches.

    Args:
        batches: of the full run, or of a section of it: the next call continues from there.

    Raises:
        ParameterServerError: the servers cannot be reached.
        ParameterStateError: a batch was not exactly one push.
    """
    mine = pace()
    for batch in batches:
        if mine is None:
            yield batch
        elif mine.passed:
            mine.pass_over(1)
        else:
            mine.begin()
            yield batch
            mine.end()
