"""The Profiler writes what `jax.profiler` records, between its start and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import paramesh
from paramesh import ops, profiler


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What jax.profiler gets, in place of recording."""
    calls: list[Any] = []
    monkeypatch.setattr("jax.profiler.start_trace", calls.append)
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    return calls


@pytest.mark.slow
def test_it_writes_a_trace(tmp_path: Path) -> None:
    with paramesh.Profiler(output_path=tmp_path):
        ops.ones((2, 2)).asnumpy()
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_it_begins_at_once_and_ends_with_analyse(traced: list[Any], tmp_path: Path) -> None:
    found = paramesh.Profiler(output_path=tmp_path)
    assert traced == [str(tmp_path)]
    with pytest.raises(RuntimeError, match="it is recording already"):
        found.start()
    found.analyse()
    found.analyse()
    assert traced == [str(tmp_path), "stop"]
    with pytest.raises(RuntimeError, match="it does not record"):
        found.stop()


def test_settings_of_mindspores_are_named(
    traced: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paramesh.Profiler(
        output_path=tmp_path,
        start_profile=False,
        profile_memory=True,
        profiler_level=profiler.ProfilerLevel.Level1,
    )
    assert traced == []
    assert "without effect here: profile_memory, profiler_level" in caplog.text


def test_a_schedule_says_which_steps(traced: list[Any], tmp_path: Path) -> None:
    wanted = profiler.schedule(wait=1, warmup=1, active=2, repeat=1, skip_first=1)
    assert [step for step in range(10) if wanted(step)] == [3, 4]
    with profiler.profile(
        schedule=wanted, on_trace_ready=profiler.tensorboard_trace_handler(str(tmp_path))
    ) as found:
        for _ in range(8):
            traced.append("step")
            found.step()
    at = [i for i, call in enumerate(traced) if call == "stop"]
    assert traced.index(str(tmp_path)) == 3
    assert at == [6]
    with pytest.raises(ValueError, match="active from 1"):
        profiler.schedule(wait=0, active=0)
