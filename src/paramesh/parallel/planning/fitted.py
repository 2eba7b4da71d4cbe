"""A table that keeps to the width of a terminal without cutting anything in two.

Texts are broken where people would break them, names after dots, chains of operators after plus
signs, calls after their bracket. If that is not enough, whole columns are left out. A column that
stays is readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

#: Columns between two of a table, and at its sides.
_BETWEEN, _SIDES = 2, 1


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its heading.
        right: whether its texts stand to the right.
        least: the width to which its texts are broken into lines if need be; 0 for never.
        dropped: columns with a number are left out if need be, the lowest first; 0 for never.
    """

    title: str
    right: bool = False
    least: int = 0
    dropped: int = 0


class FittedTable:
    """Rows of texts, for rich.

    Args:
        columns: from left to right.
        rows: a text for each column.
        narrow: what is shown in place of the table where it would have to be made narrower.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        narrow: FittedTable | None = None,
    ) -> None:
        self._columns, self._rows = tuple(columns), [tuple(row) for row in rows]
        self._narrow = narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        if self._narrow is not None and _whole(self._natural()) > options.max_width:
            yield from self._narrow.__rich_console__(console, options)
        else:
            yield self._table(options.max_width)

    def _table(self, width: int) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        widths = self._widths(width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for at, most in widths.items():
            column = self._columns[at]
            title = Text(_broken(column.title, most))
            table.add_column(title, justify="right" if column.right else "left", no_wrap=True)
        for row in self._rows:
            table.add_row(*(Text(_broken(row[at], most)) for at, most in widths.items()))
        return table

    def _natural(self) -> dict[int, int]:
        """The columns -> how wide their texts are."""
        return {
            at: max(len(column.title), *(len(row[at]) for row in self._rows), 0)
            for at, column in enumerate(self._columns)
        }

    def _widths(self, width: int) -> dict[int, int]:
        """The columns that are shown -> how wide."""
        widths = self._natural()
        leaving = sorted(
            (at for at, column in enumerate(self._columns) if column.dropped),
            key=lambda at: -self._columns[at].dropped,
        )
        while True:
            over = _whole(widths) - width
            fits = dict(widths)
            for at in sorted(widths, key=lambda at: -widths[at]):
                least = self._columns[at].least
                if over > 0 and 0 < least < widths[at]:
                    fits[at] = max(widths[at] - over, least)
                    over -= widths[at] - fits[at]
            if over <= 0 or not leaving:
                return fits
            del widths[leaving.pop()]


def _whole(widths: dict[int, int]) -> int:
    """The width of a table with columns of these."""
    return sum(widths.values()) + _BETWEEN * len(widths) + _SIDES


def _broken(text: str, width: int) -> str:
    """A text on lines of so many columns, broken after dots, plus signs and brackets."""
    lines = [""]
    for part in re.findall(r"[^.+( ]*[.+( ]+|[^.+( ]+", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.rstrip() for line in lines)
