"""How fast several processes write and read a sharded checkpoint, beside orbax.

Run `python benchmarks/sharded.py [--processes N] [--megabytes N] [--tensors N] [--rounds N]
[--folder PATH] [--orbax-python PATH] [--json FILE]`. Every process has a row of every array, and
reads it back; a round takes as long as the slowest process. paramesh and orbax take turns, each
with processes of its own that wait meanwhile. Numbers are medians, in GB/s of all values together.
`--orbax-python` names a python that has orbax and JAX; without it, orbax is looked for here.

The folder is in /dev/shm where there is one, see `checkpoint.py`; `--folder` names one on a disk.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import record
from checkpoint import folder
from networks.contestants import Unavailable

WORKER = Path(__file__).parent / "networks" / "sharded_worker.py"


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


class Group:
    """The processes of one contestant."""

    def __init__(self, kind: str, python: str, options: argparse.Namespace, place: Path) -> None:
        each = round(options.megabytes * 1e6 / 4 / options.tensors)
        address = f"127.0.0.1:{free_port()}"
        words = [python, str(WORKER), kind, address, str(options.processes)]
        rest = [str(options.tensors), str(each), str(place)]
        self._logs = [(place / f"{kind}-{i}.log").open("w+") for i in range(options.processes)]
        self._processes = [
            subprocess.Popen(
                [*words, str(i), *rest],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            for i, log in enumerate(self._logs)
        ]
        self.version = self._answers()[0]["version"]

    def _answers(self) -> list[Any]:
        found: list[Any] = []
        for process, log in zip(self._processes, self._logs, strict=True):
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                last = log.read().strip().splitlines()[-1:] or ["it ended"]
                self.close()
                raise Unavailable(last[0][:100])
            found.append(json.loads(line))
        return found

    def round(self) -> tuple[float, float]:
        """(seconds of a save, seconds of a load) of the slowest process."""
        for process in self._processes:
            assert process.stdin is not None
            print("go", file=process.stdin, flush=True)
        save, load = zip(*self._answers(), strict=True)
        return max(save), max(load)

    def close(self) -> None:
        """End all processes."""
        for process, log in zip(self._processes, self._logs, strict=True):
            process.kill()
            process.communicate()
            log.close()


def measured(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """A row for each contestant: GB/s of saving and loading, or why there are none."""
    pythons = {"paramesh": sys.executable, "orbax": options.orbax_python or sys.executable}
    rows: dict[str, dict[str, Any]] = {kind: {"contestant": kind} for kind in pythons}
    groups: dict[str, Group] = {}
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in pythons}
    try:
        for kind, python in pythons.items():
            try:
                groups[kind] = Group(kind, python, options, place)
                rows[kind]["version"] = groups[kind].version
            except Unavailable as reason:
                rows[kind]["unavailable"] = str(reason)
        for number in range(options.rounds + 1):
            for kind, group in groups.items():
                taken = group.round()
                if number:  # the first is for warming up
                    seconds[kind].append(taken)
    finally:
        for group in groups.values():
            group.close()
    for kind, taken in seconds.items():
        for part, times in zip(("save", "load"), zip(*taken, strict=True), strict=False):
            rows[kind][part] = options.megabytes / 1e3 / harness.median(times)
    for part in ("save", "load"):
        rows["paramesh"][f"{part} ratio"] = harness.ratio(
            rows["paramesh"].get(part), rows["orbax"].get(part)
        )
    return list(rows.values())


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--megabytes", type=float, default=420.0, help="of 10^6 bytes")
    parser.add_argument("--tensors", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where files are written")
    parser.add_argument("--orbax-python", metavar="PATH", help="a python that has orbax and JAX")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(words)
    with folder(options.folder) as place:
        rows = measured(options, place)
    title = (
        f"{options.megabytes:.0f} MB in {options.tensors} tensors, {options.processes} processes"
    )
    harness.console().print(harness.save_and_load(title, rows))
    harness.write_json(options.json, "sharded", rows)


if __name__ == "__main__":
    record.run(main)
