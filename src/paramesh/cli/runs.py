"""The runs with servers of this user on this host, as `paramesh ps status` shows them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.registry import Run, runs

#: Characters of the words that started a run.
_MOST = 60


def choose(address: str | None, job: str | None) -> list[Run]:
    """The runs of this user on this host that are meant; none that live are known: an empty list.

    Args:
        address: of the Ray cluster; None: any.
        job: name of the run; None: any.

    Raises:
        ParameterServerError: no address, and the list of runs is not of this user alone.
    """
    try:
        found = runs()
    except ParameterServerError:
        if address is None:
            raise
        return []  # it can be reached without
    return [run for run in found if address in (None, run.address) and job in (None, run.job)]


#: Columns of the table of runs, and in which order they are left out.
_RUN = ("address", "job", "servers", "workers", "process", "began", "wal_dir", "program")
_LESS_OF_RUN = ("program", "workers", "servers", "process", "wal_dir")


def runs_table(found: Sequence[Run], console: Console) -> Table:
    """The table of runs, with as many columns as the console has room for."""
    table = Table()
    for count in range(len(_LESS_OF_RUN) + 1):
        without = _LESS_OF_RUN[:count]
        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        shown = [name for name in _RUN if name not in without]
        for name in shown:
            side = "right" if name in ("servers", "workers", "process") else "left"
            table.add_column(name, justify=side, no_wrap=True)
        for run in found:
            cells = {
                "address": run.address,
                "job": run.job,
                "servers": str(run.servers),
                "workers": str(run.workers),
                "process": str(run.pid),
                "began": ago(time.time() - run.started),
                "wal_dir": run.wal_dir or "-",
                "program": _cut(run.program),
            }
            table.add_row(*(cells[name] for name in shown))
        if fits(console, table):
            break
    return table


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def fits(console: Console, table: Table) -> bool:
    """Whether a console has room for a table."""
    wide = console.options.update(max_width=1000)
    return console.measure(table, options=wide).maximum <= console.width


def ago(seconds: float) -> str:
    """How long ago, for people."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
