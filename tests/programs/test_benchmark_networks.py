"""The networks of the benchmarks: pools change no loss, and what a start and a step cost, counted.

The networks are those of `benchmarks/networks`; the whole of them trains in the slow tests.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

from paramesh import context
from paramesh.parameter import Pool

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMPILED = "/jax/core/compile/backend_compile_duration"
_compiled: list[str] = []


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event == COMPILED:
        _compiled.append(str(kwargs.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def network(key: str) -> Any:
    """One of the networks; `a` is A with 12 layers."""
    definitions = importlib.import_module("networks.definitions")
    if key == "a":
        whole = definitions.NETWORKS["A"]
        weights = dict(list(whole.weights.items())[:24])
        return dataclasses.replace(whole, weights=weights)
    return definitions.NETWORKS[key]


def losses(key: str, setting: str, steps: int) -> tuple[list[np.float32], int]:
    """The loss of each step, and how many pools the step has."""
    definitions = importlib.import_module("networks.definitions")
    cells = importlib.import_module("networks.of_paramesh")
    context.set_context(flat_parameters=setting)
    of = network(key)
    net = cells.filled(of, definitions.start_values(of))
    step = cells.training(of, net, definitions.batch(of))
    found = [np.float32(step()) for _ in range(steps)]
    return found, len({p._slot.pool for p in net.get_parameters() if p._slot is not None})


def check_the_losses(key: str, steps: int) -> None:
    plain, none = losses(key, "never", steps)
    flat, pools = losses(key, "auto", steps)
    assert none == 0
    assert (pools > 0) == (key != "D")  # three large layers have nothing for a pool
    assert len(set(flat)) > steps // 2  # it learns
    # To the last bit: a pool changes where numbers lie, and no arithmetic.
    assert flat == plain


@pytest.mark.parametrize("key", ["a", pytest.param("B", marks=pytest.mark.slow)])
def test_the_same_losses_with_pools(key: str) -> None:
    check_the_losses(key, 20)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["A", "B", "C", "D"])
def test_the_same_losses_with_pools_for_100_steps(key: str) -> None:
    check_the_losses(key, 100)


def live_bytes() -> int:
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


@pytest.mark.slow
@pytest.mark.parametrize("key", "ABCD")
def test_a_network_weighs_nothing_until_it_is_used(key: str) -> None:
    cells = importlib.import_module("networks.of_paramesh")
    of = network(key)
    before = live_bytes()
    net = cells.CELLS[key](of)
    # Not of a weight, but of C's four masks.
    assert live_bytes() - before == (4 * 64 * 64 if key == "C" else 0)
    before = live_bytes()
    optimizer = cells.optimizer(of, net.trainable_params())
    # The state of 5 million weights, too; what it has are single numbers, such as its rate.
    assert live_bytes() - before <= 16
    assert all(p.has_init for p in net.get_parameters())
    assert sum(p.size for p in optimizer.get_parameters() if not p.has_init) <= 4


def test_programs_of_a_start_and_buffers_of_a_step() -> None:
    cells = importlib.import_module("networks.of_paramesh")
    definitions = importlib.import_module("networks.definitions")
    of = network("a")
    net = cells.CELLS["A"](of)
    adam = cells.optimizer(of, net.trainable_params())
    run = cells.training(of, net, definitions.batch(of), adam)
    del _compiled[:]
    run()
    # JAX compiles `stage` to copy an array of another shape; what is ours is one of each.
    ours = [name for name in _compiled if "stage" not in name]
    assert sorted(ours) in (["jit(paramesh_sample_rows)", "jit(step)"], ["jit(step)"])
    del _compiled[:]
    for _ in range(3):
        run()
    assert not _compiled
    pools = {s.name.partition(" ")[0] for s in pools_of(net, adam)}
    assert pools == {"Adam.parameters", "Adam.moment1", "Adam.moment2"}
    assert all(p._slot is not None for p in net.get_parameters())


def pools_of(*cells: Any) -> set[Pool]:
    params = [p for cell in cells for p in cell.get_parameters()]
    return {p._slot.pool for p in params if p._slot is not None}
