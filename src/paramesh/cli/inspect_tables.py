"""The tables of `paramesh inspect`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from paramesh.checkpoint.compare import Comparison
from paramesh.checkpoint.formats.interface import Entry, Source
from paramesh.checkpoint.formats.statistics import Statistics
from paramesh.cli.figures import counted, number, shape_text
from paramesh.cli.tree import Branch
from paramesh.parallel.modes.layout_table import byte_text

_BAD = "bold red"
_LONGEST_VALUE = 200


def _table(**settings: Any) -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, **settings)


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, "bold"), table)


def heading(source: Source, about: os.stat_result) -> Text:
    """The file, its format, and its size on the disk."""
    size = f", {byte_text(about.st_size)} on the disk" if source.path.is_file() else ""
    return Text.assemble((str(source.path), "bold"), f": {source.format}{size}")


def parameters(entries: Sequence[Entry], stats: Mapping[str, Statistics] | None) -> Table:
    """One row for each parameter, and the sums."""
    table = _table(show_footer=True)
    elements = sum(entry.size for entry in entries)
    table.add_column("parameter", footer=counted(len(entries), "parameter"), overflow="fold")
    table.add_column("shape", footer=counted(elements, "element"), overflow="fold")
    table.add_column("dtype")
    table.add_column(
        "bytes", footer=byte_text(sum(e.nbytes for e in entries)), justify="right", no_wrap=True
    )
    if stats is not None:
        for column in ("min", "max", "mean", "std", "NaN", "Inf"):
            table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        row: list[RenderableType] = [
            Text(entry.name),
            shape_text(entry.shape),
            str(entry.dtype),
            byte_text(entry.nbytes),
        ]
        if stats is not None:
            row += _statistics(stats[entry.name])
        table.add_row(*row)
    return table


def _statistics(found: Statistics) -> list[RenderableType]:
    numbers = [number(x) for x in (found.low, found.high, found.mean, found.std)]
    bad = [Text(f"{n:,}", _BAD if n else "") for n in (found.nans, found.infinities)]
    return [*numbers, *bad]


def warning(stats: Mapping[str, Statistics]) -> Text:
    """Which parameters hold NaN or infinities."""
    bad = [name for name, found in stats.items() if found.nans or found.infinities]
    if not bad:
        return Text("All elements are finite.")
    shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return Text(f"NaN or infinite elements in {counted(len(bad), 'parameter')}: {shown}", _BAD)


def totals(tree: Branch, depth: int) -> Group:
    """The totals of every prefix, down to some depth."""
    table = _table()
    table.add_column("prefix", overflow="fold")
    for column in ("parameters", "elements", "bytes", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for level, branch in tree.walk(depth):
        share = branch.nbytes / tree.nbytes if tree.nbytes else 0.0
        table.add_row(
            Text("  " * level + branch.name),
            f"{branch.parameters:,}",
            f"{branch.elements:,}",
            byte_text(branch.nbytes),
            f"{share:.1%}",
        )
    return _titled("totals by prefix", table)


def pairs(title: str, values: Mapping[str, Any]) -> Group:
    """Names and values: of `append_dict`, or of the metadata."""
    table = _table(show_header=False)
    table.add_column("name", overflow="fold")
    table.add_column("value", overflow="fold")
    for name, value in values.items():
        text = repr(value)
        cut = text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
        table.add_row(Text(name), Text(cut))
    return _titled(title, table)


def comparison(
    first: str, second: str, found: Comparison, largest: int | None
) -> Iterator[RenderableType]:
    """What is different, and a last line that sums it up.

    Args:
        first: path of the first checkpoint.
        second: of the second.
        found: the differences.
        largest: how many of the arrays with different values to show; None for all.
    """
    for path, entries in ((first, found.only_first), (second, found.only_second)):
        if entries:
            yield _only(path, entries)
    for title, listed in (("shape", found.shapes), ("dtype", found.dtypes)):
        if listed:
            yield _both(title, first, second, listed)
    if found.values:
        yield _values(first, second, found, largest)
    if found.appended:
        yield _appended(first, second, found.appended)
    yield _summary(found)


def _only(path: str, entries: Sequence[Entry]) -> Group:
    table = _table()
    for column in ("parameter", "shape", "dtype"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(Text(entry.name), shape_text(entry.shape), str(entry.dtype))
    return _titled(f"only in {path}", table)


def _both(what: str, first: str, second: str, listed: Sequence[tuple[Entry, Entry]]) -> Group:
    table = _table()
    for column in ("parameter", first, second):
        table.add_column(Text(column), overflow="fold")
    for mine, other in listed:
        if what == "shape":
            table.add_row(Text(mine.name), shape_text(mine.shape), shape_text(other.shape))
        else:
            table.add_row(Text(mine.name), str(mine.dtype), str(other.dtype))
    return _titled(f"another {what}", table)


def _values(first: str, second: str, found: Comparison, largest: int | None) -> Group:
    shown = found.values[:largest]
    more = f", the {len(shown)} largest of {len(found.values)}" if shown != found.values else ""
    table = _table()
    table.add_column("parameter", overflow="fold")
    for column in ("largest difference", "relative", "different", "of"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("at", first, second):
        table.add_column(Text(column), overflow="fold")
    for value in shown:
        table.add_row(
            Text(value.name),
            number(value.largest),
            number(value.relative),
            f"{value.count:,}",
            f"{value.size:,}",
            str(list(value.place)),
            value.first,
            value.second,
        )
    return _titled(f"other values{more}", table)


def _appended(first: str, second: str, found: Mapping[str, tuple[Any, Any]]) -> Group:
    table = _table()
    for column in ("name", first, second):
        table.add_column(Text(column), overflow="fold")
    for name, values in found.items():
        table.add_row(Text(name), *(Text("-" if v is None else repr(v)) for v in values))
    return _titled("append_dict", table)


def _summary(found: Comparison) -> Text:
    if found.equal:
        return Text(f"No difference: {counted(found.same, 'parameter')} the same.")
    said = [
        (len(found.only_first), "only in the first"),
        (len(found.only_second), "only in the second"),
        (len(found.shapes), "of another shape"),
        (len(found.dtypes), "of another element type"),
        (len(found.values), "with other values"),
        (len(found.appended), "other in append_dict"),
    ]
    parts = [f"{count:,} {what}" for count, what in said if count]
    return Text(f"{', '.join(parts)}; {counted(found.same, 'parameter')} the same.", "bold")
