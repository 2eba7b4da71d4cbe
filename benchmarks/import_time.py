"""How long `import paramesh` takes beside `import jax`, and what it brings in.

Run `python benchmarks/import_time.py [--runs 7]`. Every import is a fresh interpreter, in turns;
the table has medians. paramesh needs jax, so the part that is its own is the difference.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

import record

PROGRAMS = {
    "python, nothing imported": "pass",
    "jax, jax.numpy": "import jax, jax.numpy",
    "jax, optax": "import jax, optax",
    "paramesh": "import paramesh",
    "paramesh with nn, ops, optim, train": (
        "import paramesh.nn, paramesh.ops, paramesh.optim, paramesh.train"
    ),
    "flax.nnx": "import flax.nnx",
    "torch": "import torch",
}
CLOCK = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
OPTIONAL = ("matplotlib", "sklearn", "ray", "tensorboardX", "typer", "torch", "flax")


def seconds(program: str) -> float | None:
    """Of one import in a fresh interpreter; None if it is not installed."""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK.format(program)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        if "ModuleNotFoundError" in done.stderr:
            return None
        raise RuntimeError(done.stderr)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(runs + 1):
        for name, program in PROGRAMS.items():
            taken = seconds(program)
            if taken is not None and turn:  # the first turn fills the page cache
                times[name].append(taken)
    console = Console(width=100)
    base = statistics.median(times["jax, jax.numpy"])
    table = Table(title=f"import, seconds (median of {runs})")
    for column in ("", "seconds", "ratio to jax"):
        table.add_column(column, justify="left" if not column else "right")
    for name, taken in times.items():
        if taken:
            median = statistics.median(taken)
            table.add_row(name, f"{median:.3f}", f"{median / base:.2f}")
        else:
            table.add_row(name, "not installed", "")
    console.print(table)
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, paramesh; print([m for m in {OPTIONAL!r} if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    console.print(f"optional packages that `import paramesh` loads: {loaded.stdout.strip()}")


if __name__ == "__main__":
    record.run(main)
