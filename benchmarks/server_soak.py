"""Whether a long run stays as it is: `python benchmarks/server_soak.py --steps 50000`.

A worker makes steps over servers in processes of their own (a dense Parameter, and a table of which
each step touches some rows), with a log and snapshots. Every so many steps it prints what every
process of the run holds (memory and open files, Ray's own processes too), and the files of the run:
those of `wal_dir`, and those of Ray's session.

At the end it compares the second quarter of the run with the last one, and ends with code 1 if one
of the numbers has grown by more than `--share` of itself and more than its allowance: 4 MiB of
memory, 4 open files, 4 files, 4 MiB on the disk (code 2 if there were too few looks to tell). The
table has all its rows after about 10,000 steps: in a shorter run it is seen to grow. Linux only;
needs paramesh[ps].
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import record
from paramesh.initializer import initializer
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.specification.initial_values import start_of

SIZE, ROWS, WIDTH, TOUCHED = 20_000, 100_000, 8, 64
SGD = {"rule": "SGD", "momentum": 0.0, "dampening": 0.0, "nesterov": False}
RATE = {"learning_rate": 1e-3}
MIB = 1 << 20
#: Looks that it takes to tell a trend from snapshots that come and go.
LOOKS = 24
#: What a number may grow by, whatever it is.
ALLOWANCE = {"memory": 4 * MIB, "open": 4, "files": 4, "bytes": 4 * MIB}


def family() -> dict[int, str]:
    """This process and what it has started, by number: their names."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [os.getpid()]
    while waiting:
        pid = waiting.pop()
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found[pid] = name_of(pid, words)
        waiting += children.get(pid, [])
    return found


def name_of(pid: int, words: list[str]) -> str:
    if pid == os.getpid():
        return "worker"
    if words[0].startswith("ray::"):
        return words[0].removeprefix("ray::").split(".")[0].split(" ")[0]
    scripts = [os.path.basename(word) for word in words if word.endswith(".py")]
    return scripts[0] if scripts else os.path.basename(words[0])


def memory_of(pid: int) -> int:
    """Bytes in memory, without what is shared with other processes by a file."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def files_of(folder: str) -> tuple[int, int]:
    """How many files are in a folder, and their bytes."""
    count = size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(where, name)).st_size
            except OSError:  # dropped meanwhile
                continue
            count += 1
    return count, size


def sample(folders: dict[str, str]) -> dict[str, float]:
    """Everything that should not grow, by name: of each kind of process the sum of all."""
    found: dict[str, float] = {}
    for pid, name in family().items():
        try:
            memory, files = memory_of(pid), len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
        for what, number in ((f"{name} memory", memory), (f"{name} open", files)):
            found[what] = found.get(what, 0) + number
    for name, folder in folders.items():
        found[f"{name} files"], found[f"{name} bytes"] = files_of(folder)
    return found


def specs() -> list[dict[str, Any]]:
    recipe = initializer("normal", (ROWS, WIDTH), "float32").recipe
    assert recipe is not None
    dense = {"name": "w", "kind": "dense", "shape": [SIZE], "dtype": "float32", "recipe": None}
    table = {"name": "t", "kind": "rows", "row_shape": [WIDTH], "rows": ROWS, "dtype": "float32"}
    return [
        dense | {"optimizer": SGD},
        table | {"recipe": start_of("t", recipe), "optimizer": SGD},
    ]


def steps(client: RayClient, first: int, count: int) -> None:
    grad = np.full(SIZE, 1e-3, np.float32)
    for step in range(first, first + count):
        rng = np.random.default_rng(step)
        ids = np.unique(rng.integers(0, ROWS, TOUCHED))
        rows = client.pull_rows(step, "t", ids)
        updates = {"w": {"grad": grad}, "t": {"ids": ids, "grad": rows * np.float32(0.1)}}
        client.step(step, updates, RATE, ["w"])


def grown(samples: list[dict[str, float]], share: float) -> Iterator[str]:
    """What has grown from the second quarter of the run to the last one."""
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    for what in samples[-1]:
        # What is on the disk rises and falls with every snapshot: its crests are compared.
        typical = max if what.split()[-1] in ("files", "bytes") else statistics.median
        first = typical(one.get(what, 0) for one in before)
        last = typical(one.get(what, 0) for one in after)
        if last - first > max(share * first, ALLOWANCE[what.split()[-1]]):
            yield f"{what} has grown from {shown(what, first)} to {shown(what, last)}"


def shown(what: str, number: float) -> str:
    return f"{number / MIB:.1f}" if what.split()[-1] in ("memory", "bytes") else f"{number:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--every", type=int, help="steps between two looks; 1/40 of all")
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--standby", action="store_true")
    parser.add_argument("--snapshot-every", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--json", action="store_true", help="a line for each look")
    parser.add_argument("--folder", help="for the files of the servers")
    given = parser.parse_args()
    every = given.every or max(1, given.steps // 40)
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rules = {"workers": 1, "snapshot_every": given.snapshot_every}
        cluster = Cluster(given.servers, rules, folder=folder, job="soak", standby=given.standby)
        client = RayClient(cluster)
        try:
            client.declare(specs(), {"w": np.zeros(SIZE, np.float32)})
            folders = {"wal_dir": folder}
            if cluster._scratch is not None:
                folders["Ray"] = str(cluster._scratch / "ray")
            began = time.monotonic()
            for first in range(0, given.steps, every):
                steps(client, first, min(every, given.steps - first))
                samples.append(sample(folders))
                seconds = time.monotonic() - began
                if given.json:
                    print(json.dumps({"step": first + every, "seconds": seconds, **samples[-1]}))
                else:
                    gcs = samples[-1].get("gcs_server memory", 0) / MIB
                    wal = samples[-1]["wal_dir bytes"] / MIB
                    print(
                        f"step {first + every}, {seconds:.0f} s: gcs_server {gcs:.1f} MiB, "
                        f"wal_dir {wal:.1f} MiB"
                    )
                sys.stdout.flush()
        finally:
            client.close()
    quarter = max(1, len(samples) // 4)
    table = Table("what (memory and bytes in MiB)", title=f"{given.steps} steps")
    marks = [0, quarter, 2 * quarter, 3 * quarter, len(samples) - 1]
    for mark in marks:
        table.add_column(f"{min(given.steps, (mark + 1) * every)}", justify="right")
    for what in samples[-1]:
        table.add_row(what, *(shown(what, samples[mark].get(what, 0)) for mark in marks))
    Console(width=100).print(table)
    if len(samples) < LOOKS:
        print(f"too few looks ({len(samples)}, not {LOOKS}) to say whether it is flat")
        sys.exit(2)
    found = list(grown(samples, given.share))
    for line in found:
        print(line)
    print("not flat" if found else "all is flat")
    sys.exit(bool(found))


if __name__ == "__main__":
    record.run(main)
