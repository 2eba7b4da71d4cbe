"""How much memory training takes: building and initialising a network, and training steps.

Run `python benchmarks/memory.py [--only KEY ...] [--layers N] [--runs N] [--json FILE]`. Figures
are resident memory of fresh processes (Linux counts it), less what the process holds with
everything imported and the device opened; the medians of some runs.

The first table builds a network of 1 GiB (64 x Dense 2048x2048) and brings its weights to life;
its ratio is the peak to the size of the weights, of which 1 is the least that is possible. The
others train: D made larger (16 layers, 256 MiB, SGD), and the networks A and C. There the peak is
that of three steps with all that came before them, compiling too, and "steps" that of two more,
when everything is there; ratios are to hand-written JAX, which gives its weights and its state away
to be overwritten.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

import harness
import record
from networks import definitions
from networks.contestants import BASE, BY_KEY, Contestant, Unavailable

LAYERS = 64
RUNS = 3
MIB = 1 << 20
#: What trains: a letter, and for D the number of layers.
TRAINED = (("D", 16), ("A", None), ("C", None))


def measured(
    contestants: list[Contestant], what: str, letter: str, layers: int | None, runs: int
) -> list[dict[str, Any]]:
    """A row for each contestant: medians, or why there are none."""
    rows: list[dict[str, Any]] = [
        {"key": c.key, "contestant": c.title, "what": what, "network": letter, "layers": layers}
        for c in contestants
    ]
    for row in rows:
        asked = json.dumps({key: row[key] for key in ("key", "what", "network", "layers")})
        try:
            found = [harness.fresh("one_memory", [asked]) for _ in range(runs)]
        except Unavailable as reason:
            row["unavailable"] = str(reason)
            continue
        row["version"], row["weights"] = found[0]["version"], found[0]["weights"]
        row["empty"] = harness.median([one["empty"] for one in found])
        for part in ("peak", "again", "held"):
            over = [one[part] - one["empty"] for one in found if part in one]
            row[part] = harness.median(over)
    base = next((row for row in rows if row["key"] == BASE), {})
    for row in rows:
        against = row.get("weights") if what == "start" else base.get("peak")
        row["ratio"] = harness.ratio(row.get("peak"), against)
        row["ratio_again"] = harness.ratio(row.get("again"), base.get("again"))
    return rows


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    trained = rows[0]["what"] == "step"
    columns = ["", "version", "empty (MiB)", "peak (MiB)", "ratio"]
    columns += ["steps (MiB)", "ratio"] if trained else []
    lines: list[tuple[str, ...]] = []
    for row in rows:
        line = [row["contestant"], row.get("version", "")]
        line += [harness.shown(row.get(part), ".0f", 1 / MIB) for part in ("empty", "peak")]
        line.append(harness.shown(row.get("ratio"), ".3f"))
        if trained:
            line.append(harness.shown(row.get("again"), ".0f", 1 / MIB))
            line.append(harness.shown(row.get("ratio_again"), ".3f"))
        lines.append((*line, row.get("unavailable", "")))
    console.print(harness.table(title, [*columns, "remark"], lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BY_KEY, metavar="KEY")
    parser.add_argument("--layers", type=int, default=LAYERS, help="of 16 MiB, to be built")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    console = harness.console()
    if not Path("/proc/self/clear_refs").exists():
        console.print("memory.py needs Linux: it reads /proc/self/status")
        return
    # MindSpore has no part: its process is not ours to look into. The others are there once.
    contestants = [c for c in harness.chosen(options.only) if c.package != "mindspore"]
    contestants = [c for c in contestants if c.key not in ("torch-compile", "nnx-jit")]
    results: list[dict[str, Any]] = []
    rows = measured(contestants, "start", "D", options.layers, options.runs)
    size = definitions.wide(options.layers).bytes / MIB
    show(console, f"build and initialise {size:.0f} MiB of weights", rows)
    results += rows
    for letter, layers in TRAINED:
        network = definitions.wide(layers) if layers else definitions.NETWORKS[letter]
        rows = measured(contestants, "step", letter, layers, options.runs)
        show(console, f"train {letter}: {network.title}", rows)
        results += rows
    harness.write_json(options.json, "memory", results)


if __name__ == "__main__":
    record.run(main)
