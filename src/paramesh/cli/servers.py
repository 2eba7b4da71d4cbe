"""`paramesh ps status`: a table of the servers of a run, once or live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from paramesh.ps.status import find_servers, look, rates

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def table_of(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> Table:
    """The table of two looks at the same servers."""
    columns = ("server", "starts", "version", "behind", "parameters", "rows", "held")
    table = Table(*columns, "updates/s", "pushed/s", "waiting", "last snapshot")
    newest = max((one["version"] for one in now if not one.get("silent")), default=0)
    for old, new in zip(before, now, strict=True):
        if new.get("silent"):
            table.add_row(new["name"], "no answer", style="red")
            continue
        if new["role"] == "standby":
            behind = str(newest - new["version"])
            unused = [""] * (len(table.columns) - 5)
            table.add_row(
                new["name"], "standby", str(new["version"]), behind, *unused, new["trouble"]
            )
            continue
        rate = rates(old, new)
        snapshot = new["last_snapshot"]
        last = "failed" if "failed" in snapshot else "none"
        if "version" in snapshot:
            last = f"version {snapshot['version']:.0f}, {time.time() - snapshot['time']:.0f} s ago"
        staged = sorted({worker for workers in new["staged"].values() for worker in workers})
        table.add_row(
            new["name"],
            str(new["incarnation"]),
            str(new["version"]),
            str(newest - new["version"]),
            str(new["parameters"]),
            str(new["rows"]),
            size(new["bytes"]),
            f"{rate['updates']:.1f}",
            size(rate["bytes"]),
            " ".join(map(str, staged)) or "-",
            last,
        )
    return table


def show_status(address: str, job: str, every: float | None, console: Console) -> None:
    """Print the table once, or keep it up to date every so many seconds until Ctrl-C.

    Raises:
        ParameterServerError: no cluster, or no servers.
    """
    servers = find_servers(address, job)
    before = look(servers)
    time.sleep(min(every or 1.0, 1.0))
    now = look(servers)
    if every is None:
        console.print(table_of(before, now))
        return
    with Live(table_of(before, now), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            before, now = now, look(servers)
            live.update(table_of(before, now), refresh=True)
