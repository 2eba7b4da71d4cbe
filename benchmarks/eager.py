"""What a forward and backward pass costs when nothing is compiled as a whole (PyNative mode).

Run `python benchmarks/eager.py [--network B] [--train] [--passes N] [--only KEY ...]
[--mindspore-python PATH] [--json FILE]`. All contestants have the same weights and batch, and
compute the loss and the gradients of all weights, operator by operator: paramesh and MindSpore in
PyNative mode, the others without `jit`. They take turns of ten passes; a first turn does not count,
and results are waited for. The table has medians, and their ratio to plain JAX. With `--train` a
pass is a training step: the optimizer is called too, as in a script's own loop, and the loss read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import harness
import record
from harness import TOLERANCE
from networks import definitions
from networks.contestants import BASE, BY_KEY, Contestant, Unavailable
from networks.definitions import Network

TURN = 10
PASSES = {"A": 20, "B": 100, "C": 20, "D": 20}
#: What the others are called where nothing is compiled.
TITLES = {
    "jax": "plain JAX",
    "paramesh": "paramesh, PyNative mode",
    "nnx-cached": "flax nnx",
    "equinox": "equinox",
    "torch": "torch eager",
    "mindspore": "MindSpore, PyNative mode",
}


class Here:
    """A contestant that runs in this process."""

    def __init__(self, contestant: Contestant, network: Network, train: bool) -> None:
        self.version = contestant.version()
        start, batch = definitions.start_values(network), definitions.batch(network)
        made = contestant.eager_training if train else contestant.eager
        self._run = made(network, start, batch)

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run passes, as many as steps says; (the seconds of each, the loss)."""
        times: list[float] = []
        loss: Any = None
        for _ in range(steps):
            begin = time.perf_counter()
            loss, _ = self._run()
            times.append(time.perf_counter() - begin)
        return times, float(loss)

    def close(self) -> None:
        """Nothing is held but memory."""


class PyNative:
    """MindSpore in PyNative mode, in a process of its own."""

    def __init__(self, network: Network, python: str | None, file: Path) -> None:
        from networks.of_mindspore import Process

        self._process = Process(network, python, file, mode="pynative")
        self.version = self._process.version

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run passes, as many as steps says; (the seconds of each, the loss)."""
        answer = self._process.ask(do="forward", count=steps)
        return answer["times"], answer["loss"]

    def close(self) -> None:
        """End its process."""
        self._process.close()


def measure(
    network: Network,
    contestants: list[Contestant],
    passes: int,
    python: str | None,
    train: bool = False,
) -> list[dict[str, Any]]:
    """A row for each contestant: times and loss, or why there are none."""
    runners: dict[str, harness.Runner] = {}
    rows: list[dict[str, Any]] = [
        {"key": c.key, "contestant": TITLES[c.key], "network": network.key} for c in contestants
    ]
    with harness.Batches() as batches:
        try:
            for contestant, row in zip(contestants, rows, strict=True):
                try:
                    if contestant.key == "mindspore" and train:
                        raise Unavailable("measured without its optimizer only")
                    if contestant.key == "mindspore":
                        runner = PyNative(network, python, batches.path(network))
                    else:
                        runner = Here(contestant, network, train)
                    row["version"] = runner.version
                    row["loss"] = runner.turn(TURN)[1]
                    runners[contestant.key] = runner
                except Unavailable as reason:
                    row["unavailable"] = str(reason)
            times, _ = harness.in_turns(runners, passes, TURN)
        finally:
            for runner in runners.values():
                runner.close()
    base = harness.median(times.get(BASE, []))
    expected = next(row["loss"] for row in rows if row["key"] == BASE)
    for row in rows:
        if row["key"] in runners:
            row["pass_s"] = harness.median(times[row["key"]])
            row["ratio"] = harness.ratio(row["pass_s"], base)
            row["agrees"] = abs(row["loss"] - expected) <= TOLERANCE * abs(expected)
    return rows


def show(console: Console, network: Network, rows: list[dict[str, Any]], what: str) -> None:
    lines: list[tuple[str, ...]] = []
    for row in rows:
        remark = row.get("unavailable", "")
        if not row.get("agrees", True):
            remark = "ITS LOSS DISAGREES"
        lines.append(
            (
                row["contestant"],
                row.get("version", ""),
                harness.shown(row.get("pass_s"), ".2f", 1e3),
                harness.shown(row.get("ratio")),
                harness.shown(row.get("loss"), ".6f"),
                remark,
            )
        )
    columns = ("", "version", f"{what} (ms)", "ratio", "loss", "remark")
    console.print(harness.table(f"eager, {network.key}: {network.title}", columns, lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="B", help="A, B, C, D, several letters, or all")
    parser.add_argument("--train", action="store_true", help="training steps, with the optimizer")
    parser.add_argument("--passes", type=int, help="that count, of each; default by network")
    parser.add_argument("--only", nargs="+", choices=BY_KEY, metavar="KEY")
    parser.add_argument("--mindspore-python", metavar="PATH", help="a python that has MindSpore")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    contestants = [c for c in harness.chosen(options.only) if c.key in TITLES]
    console = harness.console()
    results: list[dict[str, Any]] = []
    for network in harness.networks(options.network):
        passes = options.passes or PASSES[network.key]
        rows = measure(network, contestants, passes, options.mindspore_python, options.train)
        what = "training step" if options.train else "forward and backward"
        show(console, network, rows, what)
        results += rows
        harness.write_json(options.json, "eager", results)


if __name__ == "__main__":
    record.run(main, ["--train"])
