"""The order in which a compiler of GPUs runs kernels, so that they hide the time of collectives.

XLA's latency hiding scheduler, imitated: it goes through the program from its end, and each time
takes the best of the kernels whose users all have their place. Where a collective has been ended it
looks for kernels to run before it has to be started. So what nobody waits for, such as gradients of
weights and their updates, moves to where something is sent, and what it is computed from lives as
long.

Glossary
    start, end  of a collective: two places in the order, of which the first makes its result, and
                between which it holds what it reads. One is on its way at a time
    depth       of a kernel: how many collectives, one after the other, it waits for
    waste       the time by which a kernel is longer or shorter than what the next start has to wait
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from paramesh.parallel.planning.memory.kernel import Buffer, Kernel

#: Seconds from one kernel to the next, and of a start or an end, as XLA counts them
#: (jaxlib 0.10.2, `LatencyEstimator::kLowLatency` and `kLowCost`, in microseconds).
_BETWEEN = 1e-6


class _Step(NamedTuple):
    """A kernel, or the start or the end of one that sends."""

    kernel: Kernel
    seconds: float
    is_start: bool = False
    is_end: bool = False


def hiding(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Kernels in the order in which they run; a collective as two, of which the first makes it.

    Args:
        kernels: in the order of the program, without loops.
    """
    steps, before = _steps_of(kernels)
    order = _Order(steps, before).run()
    return [_placed(steps[number]) for number in order]


def _placed(step: _Step) -> Kernel:
    if not step.is_end:
        return step.kernel
    kernel = step.kernel
    held = (kernel.reads - kernel.replaces) | set(kernel.makes)
    return dataclasses.replace(kernel, reads=held, makes={}, replaces=frozenset(), passing=0.0)


def _steps_of(kernels: Sequence[Kernel]) -> tuple[list[_Step], list[set[int]]]:
    """The steps, and of each those that it waits for."""
    steps: list[_Step] = []
    before: list[set[int]] = []
    makers: dict[Buffer, int] = {}
    number = -1
    for kernel in kernels:
        number += 2 if kernel.sends else 1
        makers.update(dict.fromkeys(kernel.makes, number))
    for kernel in kernels:
        waits = {
            makers[buffer] for buffer in kernel.reads - kernel.makes.keys() if buffer in makers
        }
        if kernel.sends:
            steps += [
                _Step(kernel, kernel.seconds, is_start=True),
                _Step(kernel, _BETWEEN, is_end=True),
            ]
            before += [waits, {len(steps) - 2}]
        else:
            steps.append(_Step(kernel, kernel.seconds))
            before.append(waits)
    return steps, before


class _Order:
    def __init__(self, steps: list[_Step], before: list[set[int]]) -> None:
        self._steps, self._before = steps, before
        count = len(steps)
        self._after: list[list[int]] = [[] for _ in range(count)]
        for number, waits in enumerate(before):
            for other in waits:
                self._after[other].append(number)
        self._depth = [0] * count
        for number, waits in enumerate(before):
            deepest = max((self._depth[other] for other in waits), default=0)
            self._depth[number] = deepest + steps[number].is_end
        self._unlocks = [any(steps[other].is_end for other in waits) for waits in before]
        self._missing = [len(after) for after in self._after]
        #: When the users of a step let it begin, in seconds from the end of the program.
        self._ready_at = [0.0] * count
        self._now = 0.0
        self._under_way = False

    def run(self) -> list[int]:
        """The numbers of the steps, in their order."""
        ready = [number for number, count in enumerate(self._missing) if not count]
        order: list[int] = []
        while ready:
            best = self._best(ready)
            ready.remove(best)
            order.append(best)
            ready += self._take(best)
        return order[::-1]

    def _best(self, ready: list[int]) -> int:
        """The step to take next, of those whose users have their places.

        An end comes before others, and then what has to wait least, what is not to be started for
        nothing, what another collective waits for, what waits for the most collectives, what fits
        best into the time that is left, and what lets most others come.
        """
        steps, at, now = self._steps, self._ready_at, self._now
        allowed = [n for n in ready if not (self._under_way and self._sends(n))]
        ends = [n for n in ready if steps[n].is_end]
        if ends and not self._under_way:
            allowed = ends
        least = max(min(at[n] for n in allowed), now)
        allowed = [n for n in allowed if at[n] <= least]
        if len(allowed) == 1:
            return allowed[0]
        later = min((at[n] for n in ready if at[n] > now), default=None)
        queued = bool(ends)

        def first(n: int) -> tuple[bool, bool, int]:
            is_start = steps[n].is_start
            useful = not is_start or queued or self._depth[n] > 0
            return useful, is_start and queued, self._depth[n]

        most = max(map(first, allowed))
        allowed = [n for n in allowed if first(n) == most]

        def then(n: int) -> tuple[float, bool, int, int]:
            waste = 0.0 if later is None else abs(later - now - steps[n].seconds)
            frees = sum(self._missing[other] == 1 for other in self._before[n])
            return -waste, self._unlocks[n], frees, n

        return max(allowed, key=then)

    def _sends(self, number: int) -> bool:
        step = self._steps[number]
        return step.is_end or step.kernel.has_collectives

    def _take(self, number: int) -> list[int]:
        """Give a step its place; the steps that have all their users placed now."""
        step = self._steps[number]
        if step.is_start or step.is_end:
            self._under_way = step.is_end
        starts = max(self._now, self._ready_at[number])
        self._ready_at[number] = starts
        cost = _BETWEEN if step.is_start else max(step.seconds, _BETWEEN)
        self._now = starts + cost
        free: list[int] = []
        for other in self._before[number]:
            self._missing[other] -= 1
            if self._missing[other]:
                continue
            self._ready_at[other] = max(
                self._now,
                *(self._ready_at[user] + self._between(other, user) for user in self._after[other]),
            )
            free.append(other)
        return free

    def _between(self, first: int, then: int) -> float:
        return self._steps[first].seconds if self._steps[then].is_end else _BETWEEN
