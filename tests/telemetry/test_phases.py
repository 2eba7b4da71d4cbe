"""The time of a step by phase: nothing twice, nothing of other threads, nothing when it is off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from paramesh.telemetry import phases
from paramesh.telemetry.phases import acting_for, phase, taken, waiting_for


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(time, "perf_counter", found)
    phases.start()
    yield found
    phases.stop()


def spent() -> dict[str, float]:
    return {name: seconds for name, seconds in taken().items() if seconds}


def test_an_inner_phase_interrupts_the_outer_one(clock: Clock) -> None:
    with phase("push"):
        clock.now += 1
        with phase("wait"):
            clock.now += 4
        clock.now += 2
        with phase("wait"):
            clock.now += 8
    clock.now += 100
    assert spent() == {"push": 3, "wait": 12}
    assert spent() == {}


def test_an_open_phase_counts_up_to_now(clock: Clock) -> None:
    with phase("pull"):
        clock.now += 1
        assert spent() == {"pull": 1}
        clock.now += 2
    assert spent() == {"pull": 2}


def test_an_error_ends_a_phase(clock: Clock) -> None:
    def save() -> None:
        with phase("save"):
            clock.now += 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save()
    clock.now += 5
    assert spent() == {"save": 1}


def test_waiting_for_batches(clock: Clock) -> None:
    def batches() -> Iterator[int]:
        for at in range(3):
            clock.now += 1
            yield at
        clock.now += 10

    for _ in waiting_for(batches()):
        clock.now += 100
    assert spent() == {"data": 13}


def test_other_threads_and_nobody(clock: Clock) -> None:
    def pull() -> None:
        with phase("pull"):
            clock.now += 1

    def elsewhere(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    elsewhere(pull)
    assert spent() == {}
    mine = threading.get_ident()
    elsewhere(lambda: acting_for(mine, pull))
    assert spent() == {"pull": 1}
    elsewhere(lambda: acting_for(mine + 1, pull))
    assert spent() == {}
    with phase("push"):
        clock.now += 1
    assert spent() == {"push": 1}
    phases.stop()
    pull()
    with phase("push"):  # opened while nobody measured
        phases.start()
        clock.now += 1
    assert spent() == {}
