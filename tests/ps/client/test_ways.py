"""The way that a trial chooses, from times that are handed in."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from paramesh.ps.client.ways import Schedule, Way, Ways

CACHE, AHEAD, DEMAND = Way(True, True), Way(False, True), Way(False, False)
WAYS = (CACHE, AHEAD, DEMAND)
#: Milliseconds of a step of `benchmarks/server_delay.py` by way: on one host, and over a network
#: that delays by 20 ms, before rows were requested ahead and after.
RECORDED = {
    "one host, earlier": {CACHE: 105.0, AHEAD: 75.0, DEMAND: 41.0},
    "20 ms, earlier": {CACHE: 924.0, AHEAD: 313.0, DEMAND: 353.0},
    "about the same": {CACHE: 42.0, AHEAD: 41.5, DEMAND: 41.0},
}


def run(ways: Ways, times: dict[Way, float], steps: int, noise: float = 0.0) -> Counter[Way]:
    """How many steps were made by each way."""
    rng = random.Random(1)
    made: Counter[Way] = Counter()
    for _ in range(steps):
        made[ways.way] += 1
        took = times[ways.way] * rng.lognormvariate(0.0, noise)
        # Now and then a step has to wait for something else.
        ways.took(took + (20 * took if rng.random() < 0.03 else 0.0))
    return made


def offered(ways: tuple[Way, ...] = WAYS) -> Ways:
    found = Ways()
    found.offer(ways)
    return found


@pytest.mark.parametrize("noise", [0.0, 0.15])
@pytest.mark.parametrize("name", ["one host, earlier", "20 ms, earlier"])
def test_the_fastest_way_is_chosen_and_the_others_cost_little(name: str, noise: float) -> None:
    times = RECORDED[name]
    best = min(times, key=times.__getitem__)
    ways = offered()
    first = run(ways, times, 300, noise)
    made = run(ways, times, 10_000, noise)
    assert ways.choice == best
    assert sum(times[way] * count for way, count in made.items()) < 1.05 * times[best] * 10_000
    # Of the way that is by far the slowest, those before the first trial and two blocks of it.
    slowest = max(times, key=times.__getitem__)
    assert first[slowest] <= 16 + 2 * 8


def test_the_way_of_the_settings_stays_where_others_are_no_faster() -> None:
    ways = offered()
    run(ways, RECORDED["about the same"], 2_000)
    assert ways.choice == CACHE
    assert ways.changes == 0


def test_it_looks_again_when_the_network_has_changed() -> None:
    ways = offered()
    run(ways, RECORDED["one host, earlier"], 5_000, 0.1)
    assert ways.choice == DEMAND
    run(ways, RECORDED["20 ms, earlier"], 20_000, 0.1)
    assert ways.choice == AHEAD
    assert ways.changes == 2


def test_what_is_hopeless_is_left_out_of_the_rest_of_a_trial() -> None:
    schedule = Schedule(warm=1)
    ways = Ways(schedule)
    ways.offer(WAYS)
    times = {CACHE: 10.0, AHEAD: 11.0, DEMAND: 90.0}
    block = schedule.settle + schedule.counted
    made = run(ways, times, 1 + 5 * block)
    assert made[DEMAND] == block
    assert not ways.trying


def test_a_difference_that_chance_explains_changes_nothing() -> None:
    schedule = Schedule(warm=1, settle=0, counted=5, rounds=(1, 1))
    ways = Ways(schedule)
    ways.offer((CACHE, DEMAND))
    ways.took(0.0)
    for middle in (5.0, 4.5):
        for time in (1.0, 9.0, middle, 1.0, 9.0):
            ways.took(time)
    assert not ways.trying
    assert ways.choice == CACHE


def test_the_first_steps_of_a_block_do_not_count() -> None:
    # More than those that count, so that no median would hide them.
    schedule = Schedule(warm=1, settle=5, counted=4, rounds=(1, 1))
    ways = Ways(schedule)
    ways.offer((CACHE, DEMAND))
    ways.took(0.0)
    for way, time in ((CACHE, 2.0), (DEMAND, 1.0)):
        for at in range(schedule.settle + schedule.counted):
            assert ways.way == way
            ways.took(50.0 if at < schedule.settle and way == DEMAND else time)
    assert ways.choice == DEMAND
    assert ways.facts() == {
        "way": "rows on demand",
        "ms": {"cache and rows ahead": 2000.0, "rows on demand": 1000.0},
    }


def test_there_is_no_trial_of_one_way() -> None:
    ways = offered((DEMAND,))
    assert run(ways, {DEMAND: 1.0}, 1000) == {DEMAND: 1000}
    assert ways.found == {}


def test_other_ways_are_compared_anew() -> None:
    ways = offered((CACHE, DEMAND))
    run(ways, {CACHE: 2.0, DEMAND: 1.0}, 200)
    assert ways.choice == DEMAND
    ways.offer((CACHE, DEMAND))
    assert ways.choice == DEMAND
    ways.offer(WAYS)
    assert ways.way == CACHE
    run(ways, {CACHE: 2.0, AHEAD: 0.5, DEMAND: 1.0}, 200)
    assert ways.choice == AHEAD
