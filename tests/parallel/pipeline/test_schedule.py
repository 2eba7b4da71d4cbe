"""Schedules as tables: every pass after what it needs, and as much alive and idle as published."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.parallel.pipeline.schedule import (
    SCHEDULERS,
    Table,
    Work,
    bubble_of,
    forward_table,
    most_alive,
    order_of,
    table_of,
)
from type_checks import wrong

SIZES = {"stages": st.integers(1, 9), "micro_batches": st.integers(1, 24)}


def times(table: Table) -> dict[tuple[int, Work], int]:
    """{(stage, work): its tick}."""
    return {
        (stage, work): at
        for at, tick in enumerate(table)
        for stage, work in enumerate(tick)
        if work is not None
    }


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(**SIZES)
def test_every_pass_comes_once_and_after_what_it_needs(
    scheduler: str, stages: int, micro_batches: int
) -> None:
    table = table_of(scheduler, stages, micro_batches)
    at = times(table)
    assert sum(work is not None for tick in table for work in tick) == len(at)
    assert len(at) == 2 * stages * micro_batches
    for stage in range(stages):
        for number in range(micro_batches):
            forward, backward = Work(True, number), Work(False, number)
            assert at[stage, forward] < at[stage, backward]
            if stage:
                assert at[stage - 1, forward] < at[stage, forward]
                assert at[stage, backward] < at[stage - 1, backward]


@given(**SIZES)
def test_1f1b_keeps_the_activations_of_few_micro_batches(stages: int, micro_batches: int) -> None:
    table = table_of("1f1b", stages, micro_batches)
    for stage in range(stages):
        assert most_alive(table, stage) == min(stages - stage, micro_batches)
        assert most_alive(table_of("gpipe", stages, micro_batches), stage) == micro_batches


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(**SIZES)
def test_the_bubble_is_the_published_one(scheduler: str, stages: int, micro_batches: int) -> None:
    table = table_of(scheduler, stages, micro_batches)
    if scheduler == "gpipe" or micro_batches >= stages:
        assert len(table) == 2 * (micro_batches + stages - 1)
        assert bubble_of(table) == pytest.approx((stages - 1) / (micro_batches + stages - 1))
    forward = forward_table(stages, micro_batches)
    assert len(forward) == micro_batches + stages - 1


def test_a_table_of_three_stages() -> None:
    def text(work: Work | None) -> str:
        return "--" if work is None else ("f" if work.forward else "b") + str(work.micro_batch)

    lines = [" ".join(text(tick[s]) for tick in table_of("1f1b", 3, 4)) for s in range(3)]
    assert lines == [
        "f0 f1 f2 -- -- b0 f3 b1 -- b2 -- b3",
        "-- f0 f1 -- b0 f2 b1 f3 b2 -- b3 --",
        "-- -- f0 b0 f1 b1 f2 b2 f3 b3 -- --",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zigzag", 2, 0, 4), "scheduler='zigzag' must be one of 1f1b, gpipe"),
        (("1f1b", 0, 0, 4), "needs stages and micro-batches: got stages=0"),
        (("1f1b", 2, 2, 4), "stage=2"),
        (("gpipe", 2, 0, 0), "micro_batches=0"),
    ],
)
def test_mistakes(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        order_of(*wrong(arguments))
