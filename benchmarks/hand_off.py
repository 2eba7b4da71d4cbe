"""What the hand-off of arrays costs: a step that computes next to nothing, beside plain `jax.jit`.

Run `python benchmarks/hand_off.py [--parameters N ...] [--steps N] [--json FILE]`. A step adds a
number to some Parameters of four elements each and gives one element, which is read. Hand-written
JAX has the same function under `jax.jit` with the arrays donated, and keeps the new ones in a list
by itself: an exception between the two loses them. They take turns of a hundred steps; a first turn
does not count. What remains is the call: finding the program, the locks, the references that are
looked at, and the new contents. The table has medians, their difference, and their ratio.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import harness
import paramesh
import record
from paramesh import Parameter, Tensor

TURN, STEPS = 100, 2000
PARAMETERS = (1, 32)
ROWS = ("hand-written JAX", "paramesh")


class Adding:
    """A contestant: `step` is one step, and gives a number of the host's."""

    version = jax.__version__

    def __init__(self, step: Callable[[], float]) -> None:
        self._step = step

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run steps; (the seconds of each, the last number)."""
        times: list[float] = []
        last = 0.0
        for _ in range(steps):
            begin = time.perf_counter()
            last = self._step()
            times.append(time.perf_counter() - begin)
        return times, last

    def close(self) -> None:
        """Nothing is held but memory."""


def by_hand(count: int) -> Callable[[], float]:
    """Plain JAX, with the arrays donated."""
    values = [jnp.zeros(4) for _ in range(count)]
    one = jnp.float32(1)

    @functools.partial(jax.jit, donate_argnums=0)
    def program(values: list[Any], x: Any) -> Any:
        new = [value + x for value in values]
        return new, new[0][0]

    def step() -> float:
        nonlocal values
        values, first = program(values, one)
        return float(np.asarray(first))

    return step


def with_parameters(count: int) -> Callable[[], float]:
    """The same with Parameters."""
    params = [Parameter(Tensor(np.zeros(4, np.float32)), name=f"p{i}") for i in range(count)]
    one = Tensor(np.float32(1))

    @paramesh.jit
    def program(x: Any) -> Any:
        for param in params:
            param.set_data(param + x)
        return params[0][0]

    return lambda: float(program(one).asnumpy())


def measure(count: int, steps: int) -> list[dict[str, Any]]:
    """A row for each contestant."""
    makers = (by_hand, with_parameters)
    runners: dict[str, Any] = {
        title: Adding(make(count)) for title, make in zip(ROWS, makers, strict=True)
    }
    for runner in runners.values():
        runner.turn(TURN)
    times, last = harness.in_turns(runners, steps, TURN)
    if len(set(last.values())) != 1:
        raise RuntimeError(f"they did not do the same: {last}")
    medians = {title: statistics.median(taken) for title, taken in times.items()}
    base = medians[ROWS[0]]
    return [
        {
            "parameters": count,
            "contestant": title,
            "step_us": medians[title] * 1e6,
            "more_us": (medians[title] - base) * 1e6,
            "ratio": harness.ratio(medians[title], base),
        }
        for title in ROWS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, nargs="+", default=list(PARAMETERS), metavar="N")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results = [row for count in options.parameters for row in measure(count, options.steps)]
    lines = [
        (
            str(row["parameters"]),
            row["contestant"],
            f"{row['step_us']:.1f}",
            f"{row['more_us']:.1f}",
            harness.shown(row["ratio"]),
        )
        for row in results
    ]
    columns = ("Parameters", "", "step (µs)", "more (µs)", "ratio")
    harness.console().print(harness.table("the hand-off alone", columns, lines))
    harness.write_json(options.json, "hand_off", results)


if __name__ == "__main__":
    record.run(main)
