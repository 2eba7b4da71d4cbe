"""What it costs to bring a tensor from one layout to another, and by which steps.

Glossary
    spec        how a tensor lies: for each axis of the mesh the dimension that it shards,
                REPLICATED, or SUM: each device along the axis has a summand
    step        one collective; the layout between two steps is pinned in the program, since XLA
                gathers the full tensor where it has to jump
    order       several axes that shard one dimension lie in an order, the first in the largest
                parts; layouts have the order of the mesh, steps on the way may have another

Bytes are those that one device sends, with rings: an all-gather of n bytes over k devices sends
n (k - 1) / k, a reduce-scatter the same, an all-reduce twice as much, an all-to-all of a part of p
bytes p (k - 1) / k, and a permutation p.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from typing import NamedTuple

from paramesh.parallel.search.machine import Machine

REPLICATED, SUM = -1, -2
_SUMS = ("all-reduce", "reduce-scatter")
Spec = tuple[int, ...]
#: For each sharded dimension, the axes of the mesh that shard it, in order.
Order = dict[int, tuple[int, ...]]


class Step(NamedTuple):
    """One collective.

    Attributes:
        kind: as in XLA's programs; "slice" sends nothing.
        sent: bytes that one device sends for each byte of the full tensor.
        axes: that it goes over.
        after: how the tensor lies then.
    """

    kind: str
    sent: float
    axes: tuple[int, ...]
    after: Order


@functools.lru_cache(maxsize=1 << 16)
def steps(sizes: tuple[int, ...], start: Spec, end: Spec) -> tuple[Step, ...]:
    """The steps from one layout to another, over a mesh of these sizes.

    Sums first, as their parts are the largest; then what makes parts smaller, what moves parts
    between dimensions, and what gathers. Where an axis to be gathered or moved is not the last of
    its dimension, or the order at the end is not that of the mesh, a permutation comes in between.
    """
    if start == end:
        return ()
    return tuple(_Walk(sizes, start, end).steps)


class _Walk:
    """A tensor on its way."""

    def __init__(self, sizes: tuple[int, ...], start: Spec, end: Spec) -> None:
        self.sizes, self.start, self.end = sizes, start, end
        self.steps: list[Step] = []
        self.sharded: dict[int, list[int]] = defaultdict(list)
        for axis, dim in enumerate(start):
            if dim >= 0:
                self.sharded[dim].append(axis)
        self._add_up()
        self._slice()
        self._move()
        self._gather()
        wrong = [dim for dim, axes in self.sharded.items() if axes != sorted(axes)]
        for dim in wrong:
            self.sharded[dim].sort()
        if wrong:
            self._take("collective-permute", self._part(), tuple(range(len(sizes))))

    def _count(self, axes: list[int]) -> int:
        return math.prod(self.sizes[axis] for axis in axes)

    def _part(self) -> float:
        """The part of the tensor that a device has."""
        return 1.0 / self._count([axis for axes in self.sharded.values() for axis in axes])

    def _take(self, kind: str, sent: float, axes: tuple[int, ...]) -> None:
        after = {dim: tuple(own) for dim, own in self.sharded.items() if own}
        self.steps.append(Step(kind, sent, axes, after))

    def _add_up(self) -> None:
        summands = [axis for axis, dim in enumerate(self.start) if dim == SUM]
        if not summands:
            return
        kept = [axis for axis in summands if self.end[axis] >= 0]
        count, part = self._count(summands), self._part()
        for axis in kept:
            self.sharded[self.end[axis]].append(axis)
        if len(kept) == len(summands):
            self._take("reduce-scatter", part * (count - 1) / count, tuple(summands))
        else:
            self._take("all-reduce", 2 * part * (count - 1) / count, tuple(summands))

    def _slice(self) -> None:
        new = [a for a, d in enumerate(self.start) if d == REPLICATED and self.end[a] >= 0]
        for axis in new:
            self.sharded[self.end[axis]].append(axis)
        if new:
            self._take("slice", 0.0, ())

    def _move(self) -> None:
        moves: dict[tuple[int, int], list[int]] = defaultdict(list)
        for axis, dim in enumerate(self.start):
            if dim >= 0 and self.end[axis] >= 0 and dim != self.end[axis]:
                moves[dim, self.end[axis]].append(axis)
        for (old, new), axes in moves.items():
            self._put_last(old, axes)
            del self.sharded[old][-len(axes) :]
            count = self._count(axes)
            self.sharded[new] += axes
            self._take("all-to-all", self._part() * (count - 1) / count, tuple(axes))

    def _gather(self) -> None:
        gone: dict[int, list[int]] = defaultdict(list)
        for axis, dim in enumerate(self.start):
            if dim >= 0 and self.end[axis] == REPLICATED:
                gone[dim].append(axis)
        for dim, axes in gone.items():
            self._put_last(dim, axes)
            del self.sharded[dim][-len(axes) :]
            count = self._count(axes)
            self._take("all-gather", self._part() * (count - 1) / count, tuple(axes))

    def _put_last(self, dim: int, axes: list[int]) -> None:
        own = self.sharded[dim]
        rest = [axis for axis in own if axis not in axes]
        if own[len(rest) :] != axes:
            own[:] = rest + axes
            self._take("collective-permute", self._part(), tuple(own))


class Sent(NamedTuple):
    """A collective of a plan: its kind, the bytes that one device sends, and its seconds."""

    kind: str
    nbytes: float
    seconds: float


def seconds(machine: Machine, start: Spec, end: Spec, nbytes: int, narrow: bool = False) -> float:
    """Seconds from one layout to another, of a tensor of so many bytes; `narrow` as in `sent`."""
    return sum(one.seconds for one in sent(machine, start, end, nbytes, narrow))


def sent(machine: Machine, start: Spec, end: Spec, nbytes: int, narrow: bool = False) -> list[Sent]:
    """The collectives from one layout to another.

    Args:
        machine: whose devices send.
        start: the layout before.
        end: the layout after.
        nbytes: of the full tensor.
        narrow: whether what is no sum is sent in half of its bytes (`narrowing.py`).
    """
    found: list[Sent] = []
    for step in steps(machine.sizes, start, end):
        if step.sent:
            own = step.sent * nbytes
            if narrow and step.kind not in _SUMS:
                own /= 2
            took = machine.sending_seconds(step.kind, step.axes, own)
            found.append(Sent(step.kind, own, took))
    return found


def local(machine: Machine, nbytes: float, spec: Spec) -> float:
    """Bytes of the part that one device has."""
    for dim, size in zip(spec, machine.sizes, strict=True):
        if dim >= 0:
            nbytes /= size
    return nbytes
