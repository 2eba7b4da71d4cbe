"""How long training takes to start: from the launch of the process to the end of the first step.

Run `python benchmarks/start.py [--network A|B|C|D|all] [--runs N] [--only KEY ...] [--cached]
[--mindspore-python PATH] [--json FILE]`. Every start is a fresh process, in turns, so that
whatever else the machine does meets all alike; the table has medians. Imports count, the first
weights (each library's own, by the laws of `networks/definitions.py` where it lets one say so), the
optimizer's state, tracing, compiling, and one step. Hand-written JAX is given twice: with all first
weights drawn by one jitted function, and by one call for each, as networks are mostly written; the
ratios are to the faster of the two.

`--cached` measures second starts: each contestant that has JAX underneath gets a folder for JAX's
persistent compilation cache, a first start that does not count fills it, and those that count find
it. In paramesh it is `context.set_context(compilation_cache_dir=…)`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import harness
import record
from networks.contestants import BASE, BY_KEY, Contestant, Unavailable
from networks.definitions import Network

RUNS = 3
PARTS = ("imports", "built", "first")
#: Contestants without JAX's compilation cache.
UNCACHED = ("torch", "torch-compile", "mindspore")


def ways(contestant: Contestant) -> list[tuple[str, str]]:
    """(title, how first weights are drawn) of the rows of a contestant."""
    if contestant.key != BASE:
        return [(contestant.title, "")]
    return [
        (f"{contestant.title}, one jit", "together"),
        (f"{contestant.title}, one by one", "singly"),
    ]


def of_mindspore(network: Network, python: str | None, file: Path) -> dict[str, Any]:
    """One start of MindSpore, in a process of its own python."""
    from networks.of_mindspore import Process

    launched = time.monotonic()
    process = Process(network, python, file)
    try:
        built = time.monotonic() - launched
        _, loss = process.turn(1)
        first = time.monotonic() - launched
    finally:
        process.close()
    return {"version": process.version, "built": built, "first": first, "loss": loss}


def one(
    contestant: Contestant,
    network: Network,
    drawn: str,
    file: Path,
    cache: str | None,
    python: str | None,
) -> dict[str, Any]:
    """One start.

    Raises:
        Unavailable: the contestant cannot take part.
    """
    if contestant.key == "mindspore":
        return of_mindspore(network, python, file)
    asked = {
        "key": contestant.key,
        "network": network.key,
        "file": str(file),
        "drawn": drawn,
        "cache": cache,
    }
    return harness.fresh("one_start", [json.dumps(asked)])


def slow(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Whether the contestant has another way that takes a third of the time; once is enough."""
    others = [other for other in rows if other["key"] == row["key"]]
    if not all(other["starts"] for other in others):
        return False
    return row["starts"][0]["first"] > 3 * min(other["starts"][0]["first"] for other in others)


def measure(
    network: Network, contestants: list[Contestant], runs: int, cached: bool, python: str | None
) -> list[dict[str, Any]]:
    """A row for each contestant and way: medians, or why there are none."""
    rows: list[dict[str, Any]] = [
        {"key": c.key, "contestant": title, "drawn": drawn, "network": network.key, "starts": []}
        for c in contestants
        for title, drawn in ways(c)
    ]
    with harness.Batches() as batches, tempfile.TemporaryDirectory() as folder:
        file = batches.path(network, start=False)
        for turn in range(runs + cached):
            for number, row in enumerate(rows):
                if "unavailable" in row or slow(row, rows):
                    continue
                cache = str(Path(folder) / str(number)) if cached else None
                try:
                    contestant = BY_KEY[row["key"]]
                    found = one(contestant, network, row["drawn"], file, cache, python)
                except Unavailable as reason:
                    row["unavailable"] = str(reason)
                    continue
                if turn >= cached:
                    row["starts"].append(found)
    for row in rows:
        starts = row["starts"]
        if starts:
            row["version"] = starts[0]["version"]
            for part in PARTS:
                row[part] = harness.median([s[part] for s in starts if part in s])
    base = min(row["first"] for row in rows if row["key"] == BASE)
    for row in rows:
        row["ratio"] = harness.ratio(row.get("first"), base)
    return rows


def show(console: Console, network: Network, rows: list[dict[str, Any]], cached: bool) -> None:
    columns = ("", "version", "imported (s)", "built (s)", "first step (s)", "ratio", "remark")
    lines = [
        (
            row["contestant"],
            row.get("version", ""),
            *(harness.shown(row.get(part)) for part in PARTS),
            harness.shown(row.get("ratio")),
            row.get("unavailable", ""),
        )
        for row in rows
    ]
    second = "second start, compilation cache on: " if cached else ""
    console.print(harness.table(f"{second}{network.key}: {network.title}", columns, lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="all", help="A, B, C, D, several letters, or all")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--only", nargs="+", choices=BY_KEY, metavar="KEY")
    parser.add_argument("--cached", action="store_true", help="second starts, with JAX's cache")
    parser.add_argument("--mindspore-python", metavar="PATH", help="a python that has MindSpore")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    contestants = harness.chosen(options.only)
    if options.cached:
        contestants = [c for c in contestants if c.key not in UNCACHED]
    console = harness.console()
    results: list[dict[str, Any]] = []
    for network in harness.networks(options.network):
        rows = measure(network, contestants, options.runs, options.cached, options.mindspore_python)
        show(console, network, rows, options.cached)
        results += rows
        harness.write_json(options.json, "start", results)


if __name__ == "__main__":
    record.run(main, variants=["--cached"])
