"""Loops of a worker that may be restarted in the middle: the steps that are still pending.

Glossary
    share       the part of a batch that is this worker's. With another number of workers it is
                another one, from the step on with which they join or leave
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import numpy as np

from paramesh import context
from paramesh.array_types import Tree
from paramesh.errors import WorkerLeft
from paramesh.tensor.base import Tensor

if TYPE_CHECKING:
    from paramesh.ps.integration.step_synchronization import StepSynchronizer

T = TypeVar("T")


class WorkerShare(NamedTuple):
    """Which part of a batch is a worker's.

    Attributes:
        rank: of the worker, from 0.
        size: how many workers there are.
    """

    rank: int
    size: int

    def rows(self, count: int) -> slice:
        """The rows of this worker, of so many: parts in the order of the ranks.

        Args:
            count: of the rows of a batch.

        Raises:
            ValueError: there are fewer rows than workers.
        """
        if count < self.size:
            raise ValueError(
                f"a batch of {count} rows cannot be divided among {self.size} workers: each needs "
                "a row. Use larger batches, or fewer workers."
            )
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)


def pace() -> StepSynchronizer | None:
    """Which step this worker is at; None where no worker is restarted.

    Raises:
        ParameterServerError: the servers cannot be reached.
        WorkerLeft: the run has no steps for this worker.
    """
    if not context.get_ps_context("enable_ps"):
        return None
    return importlib.import_module(
        "paramesh.ps.integration.step_synchronization"
    ).step_synchronizer()


def first_step() -> int:
    """The first pending step of this worker, counted from 0 at the top of the script.

    0 in a run that begins, and without servers in processes of their own. To be asked before the
    first step.

    Raises:
        ParameterServerError: the servers cannot be reached.
    """
    mine = pace()
    return 0 if mine is None else mine.passed


def worker_share() -> WorkerShare:
    """Which part of the batch of the step that comes next is this worker's.

    A script that asks before each batch, and takes its part by the answer, can get workers, and
    lose them, while it runs (`paramesh ps workers`). The answer may be another one after each step.
    All workers have to see the same batches in the same order.

    Returns:
        (0, 1) without servers in processes of their own; for processes that JAX has joined their
        place among them, which never changes.

    Raises:
        ParameterServerError: the servers cannot be reached.
        WorkerLeft: the run has no more steps for this worker.
    """
    mine = pace()
    if mine is not None:
        mine.divide()
        check_stays(mine)
    return share_of(mine)


def share_of(mine: StepSynchronizer | None, ahead: int = 0) -> WorkerShare:
    """As `worker_share`, for who knows its pace.

    Args:
        mine: the pace.
        ahead: 0 for the step that comes next, 1 for the one after it.
    """
    if mine is None:
        return WorkerShare(jax.process_index(), jax.process_count())
    return WorkerShare(*mine.share(ahead))


class Divided:
    """A dataset of whole batches, of which each worker takes its share (see `divided`).

    Args:
        dataset: see `batches.py`.
    """

    def __init__(self, dataset: Tree) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(self.dataset)


def divided(batches: Tree) -> Divided:
    """Batches, or a dataset, that workers divide among them: each takes its share of the rows.

    For `Model.train` and `pending_steps`. Every worker iterates over the whole batches, and takes
    of each array the rows `rank * n // size` to `(rank + 1) * n // size`. With the same batches in
    all of them, a step sees the same rows whatever their number is, and workers can join and leave
    while the script runs (`paramesh ps workers`). A gradient is averaged over the workers, so with
    a number that does not divide n, rows of smaller parts count for a little more.

    Args:
        batches: what `Model.train` takes, or an iterable for `pending_steps`. The arrays of a batch
            have its rows along their first axis; what is no array, or has no axis, is left whole.
    """
    return Divided(batches)


def part_of(batch: Tree, share: WorkerShare) -> Tree:
    """The rows of a batch that are in a share; the batch itself if there is one worker.

    Raises:
        ValueError: arrays of different lengths, or fewer rows than workers.
    """
    if share.size == 1:
        return batch
    lengths = sorted(set(_lengths(batch)))
    if len(lengths) != 1:
        raise ValueError(
            "a batch that workers divide must have arrays of one length along their first axis, "
            f"got {lengths or 'no array'}."
        )
    return _cut(batch, share.rows(lengths[0]))


def _lengths(value: Tree) -> Iterator[int]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for one in value:
            yield from _lengths(one)
    elif isinstance(value, np.ndarray | jax.Array | Tensor) and value.ndim:
        yield value.shape[0]


def _cut(value: Tree, rows: slice) -> Tree:
    if isinstance(value, Mapping):
        return {key: _cut(one, rows) for key, one in value.items()}
    if isinstance(value, tuple | list):
        parts = [_cut(one, rows) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, np.ndarray | jax.Array | Tensor) and value.ndim:
        return value[rows]
    return value


def check_stays(mine: StepSynchronizer) -> None:
    """Raise WorkerLeft, and say so, if the run goes on without this worker."""
    if mine.has_left:
        rank, workers = mine.share()
        left = WorkerLeft(rank, f"it has {workers} worker{'s' * (workers > 1)} from here on")
        print(f"paramesh: {left}", file=sys.stderr, flush=True)
        raise left


def pending_steps(batches: Iterable[T] | Divided) -> Iterator[T]:
    """The batches of the pending steps of a loop, each with its random numbers.

    For a loop written by hand; `Model.train` does this by itself. Each batch has to be one step.
    Batches whose step was pushed before are taken and passed over, so that whatever makes them
    stays in order. Without servers in processes of their own, these are all batches.

    Args:
        batches: of the full run, or of a section of it: the next call continues from there. Of
            batches that are `divided` this worker's shares.

    Raises:
        ParameterServerError: the servers cannot be reached.
        ParameterStateError: a batch was not exactly one push.
        WorkerLeft: the run has no more steps for this worker.
    """
    mine = pace()
    divides = isinstance(batches, Divided)
    if mine is not None and divides:
        mine.divide()
    for batch in batches:
        if mine is not None and mine.passed:
            mine.pass_over(1)
            continue
        if mine is not None:
            mine.begin()
        yield part_of(batch, share_of(mine)) if divides else batch
        if mine is not None:
            mine.end()
            check_stays(mine)
