"""What one training step costs: paramesh beside hand-written JAX and its peers, on four networks.

Run `python benchmarks/step.py [--network A|B|C|D|all] [--steps N] [--only KEY ...] [--pair KEY]
[--mindspore-python PATH] [--json FILE]`. The networks are in `networks/definitions.py`. All
contestants train from the same weights on the same batch, in turns of ten steps, so that whatever
else the machine does meets all alike; a first turn does not count, and every step is waited for.
The table has medians and their ratio to hand-written JAX (below 1: faster), and the loss after
twenty steps; a loss further than a thousandth from that of hand-written JAX is marked, since then
another thing was measured. Contestants in one process share its memory, its threads and the
processor's caches: `--pair KEY` runs hand-written JAX and that one alone. MindSpore runs in a
process of its own, with the python that `--mindspore-python` names, in the same turns.

How long the first step takes is in `start.py`: in one process the second JAX program finds much of
its work done by the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

import harness
import record
from harness import TOLERANCE, InProcess, Runner
from networks.contestants import BASE, BY_KEY, Contestant, Unavailable
from networks.definitions import Network

TURN = 10
CHECKED = 20
STEPS = {"A": 200, "B": 400, "C": 50, "D": 50}


def ready(contestant: Contestant, network: Network, python: str | None, batches: Any) -> Runner:
    """The contestant with its network built and its first step made.

    Raises:
        Unavailable: it cannot take part.
    """
    if contestant.key == "mindspore":
        from networks.of_mindspore import Process

        return Process(network, python, batches.path(network))
    return InProcess(contestant, network)


def measure(
    network: Network, contestants: list[Contestant], steps: int, python: str | None
) -> list[dict[str, Any]]:
    """A row for each contestant: times and losses, or why there are none."""
    runners: dict[str, Runner] = {}
    rows: list[dict[str, Any]] = [
        {"key": c.key, "contestant": c.title, "network": network.key} for c in contestants
    ]
    with harness.Batches() as batches:
        try:
            for contestant, row in zip(contestants, rows, strict=True):
                try:
                    runner = ready(contestant, network, python, batches)
                    row["version"] = runner.version
                    row["loss"] = runner.turn(CHECKED)[1]
                    runners[contestant.key] = runner
                except Unavailable as reason:
                    row["unavailable"] = str(reason)
            times, losses = harness.in_turns(runners, steps, TURN)
        finally:
            for runner in runners.values():
                runner.close()
    base = harness.median(times.get(BASE, []))
    expected = next(row["loss"] for row in rows if row["key"] == BASE)
    for row in rows:
        key = row["key"]
        if key in runners:
            row["steps"] = len(times[key])
            row["step_s"] = harness.median(times[key])
            row["fastest_s"] = min(times[key])
            row["ratio"] = harness.ratio(row["step_s"], base)
            row["last_loss"] = losses[key]
            row["agrees"] = abs(row["loss"] - expected) <= TOLERANCE * abs(expected)
    return rows


def show(console: Console, network: Network, rows: list[dict[str, Any]]) -> None:
    columns = ("", "version", "step (ms)", "ratio", f"loss after {CHECKED}", "remark")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        remark = row.get("unavailable", "")
        if not row.get("agrees", True):
            remark = "ITS LOSS DISAGREES"
        lines.append(
            (
                row["contestant"],
                row.get("version", ""),
                harness.shown(row.get("step_s"), ".2f", 1e3),
                harness.shown(row.get("ratio")),
                harness.shown(row.get("loss"), ".6f"),
                remark,
            )
        )
    console.print(harness.table(f"{network.key}: {network.title}", columns, lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="all", help="A, B, C, D, several letters, or all")
    parser.add_argument("--steps", type=int, help="that count, of each; default by network")
    parser.add_argument("--only", nargs="+", choices=BY_KEY, metavar="KEY")
    parser.add_argument("--pair", choices=BY_KEY, metavar="KEY")
    parser.add_argument("--mindspore-python", metavar="PATH", help="a python that has MindSpore")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    contestants = harness.chosen([options.pair] if options.pair else options.only)
    console = harness.console()
    results: list[dict[str, Any]] = []
    for network in harness.networks(options.network):
        steps = options.steps or STEPS[network.key]
        rows = measure(network, contestants, steps, options.mindspore_python)
        show(console, network, rows)
        results += rows
        harness.write_json(options.json, "step", results)


if __name__ == "__main__":
    record.run(main)
