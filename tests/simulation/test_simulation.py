"""The protocol under faults, in one process on virtual time; and errors that it must find."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from simulation.configs import changed, draw, resized
from simulation.mutations import MUTATIONS, Mutation, mutated
from simulation.run import Failed, Result, Run, simulate
from simulation.world import World

#: Seeds of `make test`: in which errors are looked for, and those that all run; and faults of `make
#: test-slow`; each in so many parts.
SEEDS, RUN, FAULTS = 2000, 160, 1_000_000
PARTS, SLOW_PARTS = 2, 10
#: A run of the slow test begins with another seed than all of the quick one.
FIRST = 1_000_000
QUICK = [one for one in MUTATIONS if not one.seldom]


def run_all(seeds: range, faults: int | None = None) -> list[Result]:
    found: list[Result] = []
    counted = 0
    for seed in seeds:
        found.append(result := simulate(seed))
        counted += result.faults.total()
        if faults is not None and counted >= faults:
            break
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_seeds(part: int) -> None:
    each = RUN // PARTS
    results = run_all(range(part * each, (part + 1) * each))
    # It would show nothing if there were no faults, or if runs ended early.
    faults = sum((one.faults for one in results), Counter[str]())
    assert len(faults) >= 15, faults
    assert faults.total() > 15 * len(results)
    assert sum(not one.ended for one in results) > 0.9 * len(results)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(SLOW_PARTS))
def test_a_million_faults(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    first, began = FIRST * (part + 1), time.process_time()
    results = run_all(range(first, first + FIRST), FAULTS // SLOW_PARTS)
    seconds = time.process_time() - began
    faults = sum((one.faults for one in results), Counter[str]())
    assert faults.total() >= FAULTS // SLOW_PARTS
    events = sum(one.events for one in results)
    with capsys.disabled():
        print(
            f"\nseeds {first} to {results[-1].seed}: {faults.total()} faults, {events} events in "
            f"{seconds:.0f} s of the processor ({events / seconds:.0f} a second), of them"
        )
        print("  " + ", ".join(f"{count} {kind}" for kind, count in faults.most_common()))


def find(mutation: Mutation, seeds: range) -> int | None:
    """The first seed that finds an error."""
    with mutated(mutation):
        for seed in seeds:
            config = mutation.made_for(draw(seed))
            if mutation.shows(config):
                try:
                    simulate(seed, config)
                except Failed:
                    return seed
    return None


@pytest.mark.parametrize("mutation", QUICK, ids=lambda one: one.name)
def test_errors_are_found(mutation: Mutation) -> None:
    assert find(mutation, range(SEEDS)) is not None


@pytest.mark.parametrize("count", [2, pytest.param(150, marks=pytest.mark.slow)])
def test_what_is_made_for_an_error_is_right_without_it(count: int) -> None:
    made = [one.made_for for one in MUTATIONS if one.made_for(draw(0)) != draw(0)]
    assert made
    for make in made:
        results = [simulate(seed, make(draw(seed))) for seed in range(count)]
        assert all(one.faults and not one.ended for one in results)


@pytest.mark.parametrize("seed", [1302, 1515, 1537])
def test_moves_that_once_failed(seed: int) -> None:
    """A hole in a log, a server that was fenced while it started, a mover that was overtaken."""
    assert not simulate(seed, resized(draw(seed), random.Random(seed))).ended


@pytest.mark.parametrize("seed", [817, 1271])
def test_changes_that_once_failed(seed: int) -> None:
    """A mover whose move was ended while it was frozen; a server of a run that has ended dies."""
    assert not simulate(seed, changed(draw(seed), random.Random(seed))).ended


@pytest.mark.parametrize("seed", [1_002_166, 1_002_359])
def test_saves_that_once_failed(seed: int) -> None:
    """A worker wakes up after its commit, and two others have saved into the folder; one that is
    started again saves before the push that one of two servers has already.
    """
    result = simulate(seed)
    assert result.saved
    assert not result.ended


@pytest.mark.slow
def test_moves_to_other_numbers_of_servers(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(2000)
    results = [simulate(seed, resized(draw(seed), random.Random(seed))) for seed in seeds]
    faults = sum((one.faults for one in results), Counter[str]())
    moved = sum(one.moved for one in results)
    assert moved > len(results) / 2
    assert faults["mover killed"] > len(results) / 4
    assert faults["mover frozen"] > len(results) / 10
    with capsys.disabled():
        print(f"\n{len(results)} runs, {moved} moves, {faults.total()} faults: {faults}")


@pytest.mark.slow
def test_other_numbers_of_workers(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(1500)
    results = [simulate(seed, changed(draw(seed), random.Random(seed))) for seed in seeds]
    faults = sum((one.faults for one in results), Counter[str]())
    changes = sum(one.changed for one in results)
    assert changes > len(results) / 2
    assert sum(one.moved for one in results) > len(results) / 20
    with capsys.disabled():
        print(f"\n{len(results)} runs, {changes} changes, {faults.total()} faults: {faults}")


@pytest.mark.slow
def test_seldom_errors_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    # Fewer seeds than those of a million faults.
    found = {one.name: find(one, range(SEEDS * 10)) for one in MUTATIONS}
    with capsys.disabled():
        for name, seed in found.items():
            print(f"\n{name}: found by seed {seed}", end="")
    assert None not in found.values(), found


def test_a_seed_gives_the_same_again() -> None:
    for seed in range(15):
        first, second = Run(seed), Run(seed)
        first.run()
        second.run()
        assert list(first.world.trace) == list(second.world.trace)
        assert first.world.events == second.world.events
        assert first.world.faults == second.world.faults


def test_a_failure_names_its_seed_and_says_what_happened() -> None:
    (mutation,) = [one for one in MUTATIONS if one.name == "acknowledged early"]
    seed = find(mutation, range(SEEDS))
    assert seed is not None
    with mutated(mutation), pytest.raises(Failed, match=rf"^seed {seed}: .*\n.*mode=") as found:
        simulate(seed)
    assert "started" in str(found.value)


def test_the_page_of_servers_names_all_errors() -> None:
    page = Path(__file__).parents[2] / "docs" / "internals" / "testing-the-servers.md"
    text = page.read_text()
    for one in MUTATIONS:
        assert f"| {one.name} | {one.what} |" in text


def test_time_passes_in_order_and_within_naps() -> None:
    world, seen = World(1), []
    for seconds in (3.0, 1.0, 2.0):
        world.after(seconds, seen.append, seconds)
    world.run(2.5)
    assert seen == [1.0, 2.0]
    assert world.now == 2.5
