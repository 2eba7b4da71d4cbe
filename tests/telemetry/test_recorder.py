"""Samples of a training: what they count, that they are bounded, and that nothing is waited for."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from paramesh.telemetry import recorder as recorders
from paramesh.telemetry.recorder import MOST_EVENTS, Recorder, Sample, thinned


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Later:
    """A loss that a device may still be computing."""

    def __init__(self, value: float, ready: bool) -> None:
        self.value, self.ready = value, ready

    def is_ready(self) -> bool:
        return self.ready

    def __float__(self) -> float:
        assert self.ready, "it was waited for"
        return self.value


def made(clock: Clock, every: float = 1.0) -> tuple[Recorder, list[int]]:
    flushed: list[int] = []
    found = Recorder(lambda r: flushed.append(len(r.samples)), dict, clock, clock, every)
    return found, flushed


def test_a_sample_a_second() -> None:
    clock = Clock()
    found, flushed = made(clock)
    for at in range(25):
        clock.now += 0.125
        found.step(float(at), 4, {"rate": 0.5})
    assert flushed == [1, 2, 3]
    assert [sample.step for sample in found.samples] == [8, 16, 24]
    assert [sample.examples for sample in found.samples] == [32, 64, 96]
    assert [sample.seconds for sample in found.samples] == [1.0, 1.0, 1.0]
    assert found.samples[-1].numbers == {"rate": 0.5}
    assert found.samples[-1].time == 103.0


def test_a_loss_is_not_waited_for() -> None:
    clock = Clock()
    found, _ = made(clock, every=0.0)
    slow = Later(1.5, ready=False)
    found.step(slow)
    found.step(Later(9.0, ready=True))
    assert [sample.loss for sample in found.samples] == [None, None]
    slow.ready = True
    found.step(Later(8.0, ready=False))
    found.step(None)
    assert [sample.loss for sample in found.samples[2:]] == [1.5, 1.5]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_know_is_text(value: float) -> None:
    found, _ = made(Clock(), every=0.0)
    found.step(value, numbers={"rate": value})
    assert found.samples[-1].loss == str(value)
    assert found.samples[-1].numbers == {"rate": str(value)}


def test_numbers_are_asked_for_with_a_sample_alone() -> None:
    clock = Clock()
    found, _ = made(clock)
    asked: list[int] = []

    def ask() -> dict[str, float]:
        asked.append(found.steps)
        return {"epoch": 3.0}

    found.ask = ask
    for _ in range(10):
        clock.now += 0.25
        found.step()
    assert asked == [4, 8]
    assert found.samples[-1].numbers == {"epoch": 3.0}


@given(
    st.lists(
        st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.booleans()), min_size=2, max_size=60
    )
)
def test_thinning_keeps_the_totals_and_the_last(told: list[tuple[float, float, bool]]) -> None:
    samples: list[Sample] = []
    for at, (seconds, data, pulled) in enumerate(told):
        phases = {"data": data, **({"pull": seconds} if pulled else {})}
        samples.append(Sample(float(at), at, at, seconds, None, {}, phases))
    found = thinned(samples)
    assert len(found) <= len(samples) // 2 + 1
    assert found[-1] == samples[-1]
    assert [one.step for one in found] == sorted({one.step for one in found})
    for name in ("data", "pull"):
        before, after = (sum(s.phases.get(name, 0.0) for s in them) for them in (samples, found))
        assert after == pytest.approx(before)
    assert sum(s.seconds for s in found) == pytest.approx(sum(s.seconds for s in samples))


def test_samples_and_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "MOST", 50)
    clock = Clock()
    found, _ = made(clock)
    most = 0
    for at in range(20_000):
        clock.now += 0.5
        found.step()
        most = max(most, len(found.samples))
        if at % 50 == 0:
            found.event(f"epoch {at}")
    assert most <= 51
    assert found.samples[-1].step > 19_000
    assert sum(sample.seconds for sample in found.samples) == found.samples[-1].time - 100.0
    assert len(found.events) == MOST_EVENTS
    assert found.events[-1].text == "epoch 19950"
