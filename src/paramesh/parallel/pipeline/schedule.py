"""Schedules: which stage does what at which tick.

Glossary
    micro-batch     a part of the batch that goes through the stages by itself
    work            the forward or the backward pass of one micro-batch in one stage
    tick            the time of one work; a schedule is a table of ticks and stages
    bubble          the share of a table that is idle

Sources: GPipe (Huang et al. 2019, arXiv:1811.06965), 1F1B (PipeDream-Flush, Narayanan et al. 2021,
arXiv:2006.09503). Both have 2 (m + p - 1) ticks for m micro-batches and p stages, and a bubble of
(p - 1) / (m + p - 1); stage s of 1F1B holds the activations of at most p - s micro-batches, GPipe
those of all.
"""

from __future__ import annotations

from typing import NamedTuple

#: The values of `pipeline_scheduler`.
SCHEDULERS = ("1f1b", "gpipe")


class Work(NamedTuple):
    """One cell of a table.

    Attributes:
        forward: whether it is the forward pass.
        micro_batch: its number, from 0.
    """

    forward: bool
    micro_batch: int


#: For each tick, for each stage: its work, or None where it is idle.
Table = tuple[tuple[Work | None, ...], ...]


def order_of(scheduler: str, stages: int, stage: int, micro_batches: int) -> tuple[Work, ...]:
    """What one stage does, in order.

    Args:
        scheduler: one of `SCHEDULERS`.
        stages: how many stages there are.
        stage: which one, from 0.
        micro_batches: how many micro-batches there are.

    Raises:
        ValueError: another scheduler, or numbers below 1.
    """
    if scheduler not in SCHEDULERS:
        raise ValueError(f"scheduler={scheduler!r} must be one of {', '.join(SCHEDULERS)}.")
    if stages < 1 or micro_batches < 1 or not 0 <= stage < stages:
        raise ValueError(
            f"A schedule needs stages and micro-batches: got stages={stages}, stage={stage}, "
            f"micro_batches={micro_batches}."
        )
    forward = [Work(True, number) for number in range(micro_batches)]
    backward = [Work(False, number) for number in range(micro_batches)]
    if scheduler == "gpipe":
        return (*forward, *backward)
    ahead = min(stages - 1 - stage, micro_batches)
    order = forward[:ahead]
    for number in range(micro_batches - ahead):
        order += [forward[ahead + number], backward[number]]
    return (*order, *backward[micro_batches - ahead :])


def table_of(scheduler: str, stages: int, micro_batches: int) -> Table:
    """The table of a step: each stage keeps its order, and starts a work as soon as it can.

    Args:
        scheduler: one of `SCHEDULERS`.
        stages: how many stages there are.
        micro_batches: how many micro-batches there are.

    Raises:
        ValueError: as `order_of`.
    """
    return _table([order_of(scheduler, stages, s, micro_batches) for s in range(stages)])


def forward_table(stages: int, micro_batches: int) -> Table:
    """The table of forward passes alone.

    Args:
        stages: how many stages there are.
        micro_batches: how many micro-batches there are.
    """
    return _table([[Work(True, number) for number in range(micro_batches)]] * stages)


def _table(orders: list[tuple[Work, ...]] | list[list[Work]]) -> Table:
    last = len(orders) - 1
    done: list[set[Work]] = [set() for _ in orders]
    at = [0] * len(orders)

    def ready(stage: int, work: Work) -> bool:
        if work.forward:
            return stage == 0 or work in done[stage - 1]
        own = Work(True, work.micro_batch) in done[stage]
        return own and (stage == last or work in done[stage + 1])

    ticks: list[tuple[Work | None, ...]] = []
    while any(i < len(order) for i, order in zip(at, orders, strict=True)):
        tick: list[Work | None] = []
        for stage, order in enumerate(orders):
            work = order[at[stage]] if at[stage] < len(order) else None
            tick.append(work if work is not None and ready(stage, work) else None)
        if not any(tick):
            raise RuntimeError(f"The orders of the stages wait for each other: {orders}.")
        for stage, work in enumerate(tick):
            if work is not None:
                done[stage].add(work)
                at[stage] += 1
        ticks.append(tuple(tick))
    return tuple(ticks)


def bubble_of(table: Table) -> float:
    """The share of a table that is idle, from 0 to 1."""
    cells = [work for tick in table for work in tick]
    return cells.count(None) / len(cells)


def most_alive(table: Table, stage: int) -> int:
    """Of how many micro-batches a stage holds activations at most."""
    alive = most = 0
    for tick in table:
        work = tick[stage]
        if work is not None:
            alive += 1 if work.forward else -1
            most = max(most, alive)
    return most
