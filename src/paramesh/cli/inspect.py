"""`paramesh inspect`: what is in a checkpoint, and what is different between two."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from paramesh.checkpoint.compare import Comparison, compare
from paramesh.checkpoint.formats.interface import Entry, Source
from paramesh.checkpoint.formats.statistics import Statistics, statistics
from paramesh.checkpoint.opening import open_source
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.cli import inspect_tables as tables
from paramesh.cli import report
from paramesh.cli.errors import CommandError
from paramesh.cli.figures import chooser, counted
from paramesh.cli.shard_map import saved_devices
from paramesh.cli.tree import tree_of
from paramesh.errors import CheckpointError
from paramesh.parallel.modes.layout_table import byte_text

#: Exit codes of the comparison, as those of `cmp` and `diff`.
SAME, DIFFERENT = 0, 1
_WIDE = 400

SORTS: dict[str, Callable[[Entry], Any] | None] = {
    "file": None,
    "name": lambda entry: entry.name,
    "size": lambda entry: (-entry.nbytes, entry.name),
}


@dataclass(frozen=True)
class View:
    """What to show of a checkpoint.

    Args:
        only: patterns of names; none for all.
        sort: one of `SORTS`.
        largest: show that many of the largest alone; None for all.
        depth: levels of the tree of totals; 0 for none.
        stats: whether every array is read for its statistics.
        json: whether the output is JSON.
    """

    only: Sequence[str] = ()
    sort: str = "file"
    largest: int | None = None
    depth: int = 2
    stats: bool = False
    json: bool = False


def console_for(stream: Any = None) -> Console:
    """A console on stdout, or on `stream`; on what is no terminal lines are never cut."""
    stream = stream or sys.stdout
    wide = None if stream.isatty() else _WIDE
    return Console(file=stream, width=wide, highlight=False)


@contextmanager
def opened(path: Path) -> Generator[Source]:
    """A checkpoint, with errors of one line.

    Raises:
        CommandError: there is none, or it cannot be read.
    """
    try:
        source = open_source(path)
    except (CheckpointError, FileNotFoundError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror or error}") from error
    with source:
        try:
            yield source
        except CheckpointError as error:  # compressed data is found to be damaged when it is read
            raise CommandError(" ".join(str(error).split())) from error


@contextmanager
def progress(what: str, nbytes: int) -> Generator[Callable[[int], None]]:
    """A bar on stderr for work on so many bytes; nothing where that is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    hidden = not sys.stderr.isatty()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=nbytes)
        yield lambda done: bar.advance(task, done)


def chosen(source: Source, view: View) -> list[Entry]:
    """The entries to show, in order.

    Raises:
        CommandError: the patterns match nothing.
    """
    wanted = chooser(view.only)
    found = [entry for entry in source.entries() if wanted(entry.name)]
    if view.only and not found:
        raise CommandError(
            f"{source.path}: none of its {len(source.names())} parameters matches "
            f"{' or '.join(map(repr, view.only))}"
        )
    key = SORTS[view.sort]
    if key is not None:
        found.sort(key=key)
    if view.largest is not None:
        kept = {e.name for e in sorted(found, key=lambda e: -e.nbytes)[: view.largest]}
        found = [entry for entry in found if entry.name in kept]
    return found


def statistics_of(source: Source, entries: Sequence[Entry]) -> dict[str, Statistics]:
    """The statistics of arrays, with a bar meanwhile."""
    found: dict[str, Statistics] = {}
    with progress("reading", sum(entry.nbytes for entry in entries)) as advance:
        for entry in entries:
            found[entry.name] = statistics(source, entry.name)
            advance(entry.nbytes)
    return found


def run_inspect(path: Path, view: View, console: Console | None = None) -> None:
    """Show what is in a checkpoint.

    Raises:
        CommandError: it cannot be read, or the patterns match nothing.
    """
    console = console or console_for()
    with opened(path) as source:
        entries = chosen(source, view)
        stats = statistics_of(source, entries) if view.stats else None
        if view.json:
            _write_json(_description(source, entries, stats), console)
            return
        console.print(tables.heading(source, os.stat(path)))
        console.print(tables.parameters(entries, stats))
        if stats is not None:
            console.print(tables.warning(stats))
        if view.depth:
            tree = tree_of(entries)
            if tree.branches:
                console.print(tables.totals(tree, view.depth))
        if source.skipped:
            console.print(tables.pairs("not read", source.skipped))
        if source.appended:
            console.print(tables.pairs("append_dict", source.appended))
        if source.metadata:
            console.print(tables.pairs("metadata", source.metadata))


def run_report(
    path: Path,
    page: Path,
    view: View,
    strategy: Path | None = None,
    console: Console | None = None,
) -> None:
    """Write a page about a checkpoint.

    Args:
        path: the checkpoint.
        page: where the page goes.
        view: which parameters, and their order.
        strategy: a strategy file, for the map of the devices; None: that of a sharded checkpoint
            is drawn as it was saved.
        console: where to say that it is done; None for stdout.

    Raises:
        CommandError: a file cannot be read or written, or they do not fit each other.
    """
    console = console or console_for()
    layouts = None if strategy is None else report.read_strategy(strategy)
    with opened(path) as source:
        entries = chosen(source, view)
        if layouts is not None and not any(entry.name in layouts for entry in entries):
            raise CommandError(f"{strategy} names none of the parameters of {path}")
        if page.exists() and os.path.samefile(path, page):
            raise CommandError(f"--html {page}: is the checkpoint itself")
        devices = None
        if layouts is not None:
            devices = report.place(entries, layouts)
        elif isinstance(source, ShardedSource):
            devices = saved_devices(source, entries)
        with progress("reading", sum(entry.nbytes for entry in entries)) as advance:
            data = report.report_data(source, entries, devices, advance)
    size = report.write_page(page, data)
    console.print(f"{page}: {counted(len(entries), 'parameter')}, {byte_text(size)}", markup=False)


def run_compare(
    first: Path,
    second: Path,
    view: View,
    rtol: float = 0.0,
    atol: float = 0.0,
    console: Console | None = None,
) -> int:
    """Show what is different between two checkpoints.

    Returns:
        `SAME` or `DIFFERENT`, the exit code.

    Raises:
        CommandError: one cannot be read, or the patterns match nothing in either.
    """
    console = console or console_for()
    with opened(first) as mine, opened(second) as other:
        wanted = chooser(view.only)
        names = [name for name in (*mine.names(), *other.names()) if wanted(name)]
        if view.only and not names:
            raise CommandError(
                f"neither {first} nor {second} has a parameter that matches "
                f"{' or '.join(map(repr, view.only))}"
            )
        total = sum(entry.nbytes for entry in mine.entries() if wanted(entry.name))
        with progress("comparing", total) as advance:
            found = compare(mine, other, wanted, rtol, atol, advance)
    if view.json:
        _write_json(_comparison(first, second, found), console)
    else:
        for part in tables.comparison(str(first), str(second), found, view.largest):
            console.print(part)
    return SAME if found.equal else DIFFERENT


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "shape": list(entry.shape),
        "dtype": entry.dtype.long_name,
        "bytes": entry.nbytes,
    }


def _description(
    source: Source, entries: Sequence[Entry], stats: dict[str, Statistics] | None
) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    for entry in entries:
        about = _entry(entry)
        if stats is not None:
            about["statistics"] = asdict(stats[entry.name])
        parameters.append(about)
    return {
        "path": str(source.path),
        "format": source.format,
        "metadata": dict(source.metadata),
        "append_dict": {name: plain(value) for name, value in source.appended.items()},
        "parameters": parameters,
        "totals": {
            "parameters": len(entries),
            "elements": sum(entry.size for entry in entries),
            "bytes": sum(entry.nbytes for entry in entries),
        },
    }


def _comparison(first: Path, second: Path, found: Comparison) -> dict[str, Any]:
    return {
        "first": str(first),
        "second": str(second),
        "equal": found.equal,
        "same": found.same,
        "only_first": [_entry(entry) for entry in found.only_first],
        "only_second": [_entry(entry) for entry in found.only_second],
        "shapes": [
            {"name": a.name, "first": list(a.shape), "second": list(b.shape)}
            for a, b in found.shapes
        ],
        "dtypes": [
            {"name": a.name, "first": a.dtype.long_name, "second": b.dtype.long_name}
            for a, b in found.dtypes
        ],
        "values": [
            {key: plain(value) for key, value in asdict(difference).items()}
            for difference in found.values
        ],
        "append_dict": {
            name: {"first": plain(a), "second": plain(b)} for name, (a, b) in found.appended.items()
        },
    }


def plain(value: object) -> Any:
    """What JSON can hold: numbers that it has no words for become strings."""
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)
    return value


def _write_json(value: object, console: Console) -> None:
    console.out(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False), highlight=False)
