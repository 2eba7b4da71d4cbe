"""What the benchmarks have in common: turns, fresh processes, tables.

Peers are optional: one that is not installed, or that cannot run here, is a line of the table that
says so.

Glossary
    turn        some steps of one contestant after another; turns alternate between contestants, so
                that whatever else the machine does meets all alike
    step        one training step, waited for
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from networks import definitions
from networks.contestants import BASE, BY_KEY, CONTESTANTS, Contestant, Unavailable
from networks.definitions import Network

HERE = Path(__file__).parent
#: A contestant whose loss is further from that of hand-written JAX does not do the same thing.
TOLERANCE = 1e-3


class Runner(Protocol):
    """A contestant with its network built."""

    version: str

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run steps; (the seconds of each, the last loss)."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class InProcess:
    """A contestant that runs here."""

    def __init__(self, contestant: Contestant, network: Network) -> None:
        self.version = contestant.version()
        start, batch = definitions.start_values(network), definitions.batch(network)
        self._step = contestant.build(network, start, batch)

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run steps; (the seconds of each, the last loss)."""
        times: list[float] = []
        loss: Any = None
        for _ in range(steps):
            begin = time.perf_counter()
            loss = self._step()
            times.append(time.perf_counter() - begin)
        return times, float(loss)

    def close(self) -> None:
        """Nothing is held but memory."""


def in_turns(
    runners: dict[str, Runner], steps: int, turn: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Run steps of every contestant, `turn` at a time: (the seconds of each, the last loss)."""
    times: dict[str, list[float]] = {key: [] for key in runners}
    losses: dict[str, float] = {}
    for _ in range(max(1, round(steps / turn))):
        for key, runner in runners.items():
            taken, losses[key] = runner.turn(turn)
            times[key] += taken
    return times, losses


def chosen(keys: Iterable[str] | None) -> list[Contestant]:
    """The contestants with these keys, hand-written JAX first; None: all."""
    wanted = {BASE, *(keys if keys is not None else BY_KEY)}
    return [contestant for contestant in CONTESTANTS if contestant.key in wanted]


def networks(key: str) -> list[Network]:
    """The networks that `--network` names: a letter, several, or `all`."""
    keys = definitions.NETWORKS if key == "all" else key.upper()
    return [definitions.NETWORKS[k] for k in keys]


def fresh(module: str, arguments: Sequence[str], limit: float = 600.0) -> dict[str, Any]:
    """Run a module of `networks` in a fresh interpreter; the object that it prints last, as JSON.

    Its last argument is the instant at which it was launched: the clock is the machine's
    (`time.monotonic`), so that it can tell how long its interpreter took to start.

    Raises:
        Unavailable: it says so, or did not end within `limit` seconds.
        RuntimeError: it failed; its last words.
    """
    command = [sys.executable, "-m", f"networks.{module}", *arguments, repr(time.monotonic())]
    try:
        done = subprocess.run(
            command, cwd=HERE, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"did not end within {limit:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "unavailable" in answer:
        raise Unavailable(answer["unavailable"])
    return answer


class Batches:
    """Files with the batches and first weights, for other processes; a context."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="paramesh-bench-")

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def path(self, network: Network, start: bool = True) -> Path:
        """The file of a network, written at first use."""
        name = f"{network.key}-{len(network.weights)}-{'start' if start else 'batch'}.npz"
        path = Path(self._folder.name) / name
        if not path.exists():
            definitions.write(network, path, start)
        return path


def median(values: Sequence[float]) -> float | None:
    """The median, None of nothing."""
    return statistics.median(values) if values else None


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is text, and the others numbers."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        left = number == 0 or column in ("version", "remark")
        made.add_column(column, justify="left" if left else "right", no_wrap=number == 0)
    for row in rows:
        made.add_row(*row)
    return made


def save_and_load(title: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """A table of how fast contestants save and load, or why there are no figures.

    Args:
        title: over it.
        rows: of each its `contestant`, and as far as there are any, `version`, `save` and `load`
            (GB/s), `save ratio` and `load ratio` (to a peer), and `unavailable`.
    """
    columns = ["", "version", "save (GB/s)", "ratio", "load (GB/s)", "ratio", "remark"]
    lines = [
        (
            row["contestant"],
            row.get("version", ""),
            *(shown(row.get(key)) for key in ("save", "save ratio", "load", "load ratio")),
            row.get("unavailable", ""),
        )
        for row in rows
    ]
    return table(title, columns, lines)


def shown(value: float | None, form: str = ".2f", scale: float = 1.0) -> str:
    """A number for a table; empty for None."""
    return "" if value is None else format(value * scale, form)


def ratio(value: float | None, base: float | None) -> float | None:
    """The value in terms of a base, None if there is none."""
    return value / base if value is not None and base else None


def console() -> Console:
    """Where results go; wide enough for the tables when it is no terminal."""
    found = Console()
    return found if found.is_terminal and found.width >= 110 else Console(width=120)


def write_json(path: Path | None, program: str, results: Any) -> None:
    """Write results with what they were measured on; nothing if there is no path."""
    if path is None:
        return
    packages = dict.fromkeys(contestant.package for contestant in CONTESTANTS)
    versions: dict[str, str] = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = {"system": platform.platform(), "processors": os.cpu_count(), "versions": versions}
    content = {"program": program, "machine": machine, "results": results}
    path.write_text(json.dumps(content, indent=1) + "\n")
