"""`paramesh ps status`: the runs of this user on this host, and the servers of one."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from paramesh.cli.errors import CommandError
from paramesh.ps.partition import Partition
from paramesh.ps.registry import Run, runs
from paramesh.ps.status import RunEnded, find_servers, look, rates
from paramesh.ps.watching import lag

#: Characters of the words that started a run.
_MOST = 60

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def _shards(now: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many virtual shards each server has, by name."""
    numbers = {one["name"]: int(one["name"].split("-")[1]) for one in now}
    partition = Partition(max(numbers.values(), default=0) + 1)
    return {name: len(partition.shards_of(number)) for name, number in numbers.items()}


#: Columns, and in which order they are left out where the terminal is too narrow.
_COLUMNS = (
    "server",
    "starts",
    "shards",
    "version",
    "behind",
    "ahead",
    "rows",
    "held",
    "log",
    "updates/s",
    "pushed/s",
    "pulled/s",
    "waiting",
    "last snapshot",
)
_LESS = ("shards", "starts", "log", "waiting", "ahead", "behind", "pulled/s", "pushed/s", "held")


def table_of(
    before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], without: Sequence[str] = ()
) -> Table:
    """The table of two looks at the same servers, without some of its columns."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    shown = [name for name in _COLUMNS if name not in without]
    for name in shown:
        side = "left" if name in ("server", "waiting", "last snapshot") else "right"
        table.add_column(name, justify=side, no_wrap=True)
    shards = _shards(now)
    newest = max((one["version"] for one in now if "version" in one), default=0)
    for old, new in zip(before, now, strict=True):
        # Of two, either may serve: their own names say nothing.
        server = "-".join(new["name"].split("-")[:2])
        cells = {"server": server, "version": "no answer"}
        if new.get("role") == "standby":
            cells |= {"server": f"{server} (standby)", "version": str(new["version"])}
            cells |= {"behind": str(newest - new["version"]), "last snapshot": new["trouble"]}
        elif not new.get("silent"):
            cells |= _cells(old, new, newest) | {"shards": str(shards[new["name"]])}
        style = "red" if new.get("silent") else None
        table.add_row(*(cells.get(name, "") for name in shown), style=style)
    return table


def _cells(old: Mapping[str, Any], new: Mapping[str, Any], newest: int) -> dict[str, str]:
    rate = rates(old, new)
    snapshot = new["last_snapshot"]
    last = "failed" if "failed" in snapshot else "none"
    if "version" in snapshot:
        last = f"at {snapshot['version']:.0f}, {time.time() - snapshot['time']:.0f} s ago"
    staged = sorted({worker for workers in new["staged"].values() for worker in workers})
    return {
        "starts": str(new["incarnation"]),
        "version": str(new["version"]),
        "behind": str(newest - new["version"]),
        "ahead": str(lag(new)),
        "rows": f"{new['rows']:,}",
        "held": size(new["bytes"]),
        "log": size(new["bytes_logged"]),
        "updates/s": f"{rate['updates']:.1f}",
        "pushed/s": size(rate["bytes"]),
        "pulled/s": size(rate["bytes_pulled"]),
        "waiting": " ".join(map(str, staged)) or "-",
        "last snapshot": last,
    }


def fitting(
    console: Console, before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]
) -> Table:
    """The table with as many columns as the console has room for."""
    for count in range(len(_LESS)):
        table = table_of(before, now, _LESS[:count])
        if console.measure(table, options=console.options.update(max_width=1000)).maximum <= (
            console.width
        ):
            return table
    return table_of(before, now, _LESS)


def as_json(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> str:
    """One line of JSON for two looks: the time, and what there is of each server."""
    servers: list[dict[str, Any]] = []
    shards = _shards(now)
    for old, new in zip(before, now, strict=True):
        facts = {key: value for key, value in new.items() if key != "seen"}
        facts["shards"] = shards[new["name"]]
        if "staged" in new:
            per_second = rates(old, new)
            facts |= {"lag": lag(new)} | {f"{k}_per_second": v for k, v in per_second.items()}
        servers.append(facts)
    return json.dumps({"time": time.time(), "servers": servers}, allow_nan=False)


def choose(address: str | None, job: str | None) -> list[Run]:
    """The runs of this user on this host that are meant; none that live are known: an empty list.

    Args:
        address: of the Ray cluster; None: any.
        job: name of the run; None: any.
    """
    return [run for run in runs() if address in (None, run.address) and job in (None, run.job)]


def runs_table(found: Sequence[Run]) -> Table:
    """The table of runs."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("address", "job", "servers", "workers", "process", "began", "wal_dir", "program"):
        side = "right" if name in ("servers", "workers", "process") else "left"
        table.add_column(name, justify=side, overflow="fold")
    for run in found:
        table.add_row(
            run.address,
            run.job,
            str(run.servers),
            str(run.workers),
            str(run.pid),
            ago(time.time() - run.started),
            run.wal_dir or "(temporary)",
            run.program if len(run.program) <= _MOST else run.program[: _MOST - 1] + "…",
        )
    return table


def ago(seconds: float) -> str:
    """How long ago, for people."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def show_status(
    address: str | None,
    job: str | None,
    every: float | None,
    console: Console,
    *,
    json_lines: bool = False,
) -> None:
    """Print the table of a run once, or keep it up to date every so many seconds until Ctrl-C.

    Where several runs may be meant, the table of these.

    Args:
        address: of the Ray cluster; None: that of a run of this user on this host.
        job: which run on it; None: the only one that is known, or "default".
        every: seconds; None: once.
        console: where to.
        json_lines: a line of JSON for each look, in place of the table.

    Raises:
        CommandError: no address, and no run of this user on this host.
        ParameterServerError: no cluster, another token, or no servers.
    """
    known = choose(address, job)
    if address is None and not known:
        raise CommandError(
            "no run with servers of this user is on this host"
            + ("" if job is None else f" by the job {job!r}")
            + "; for one elsewhere, give its --address HOST:PORT"
        )
    if len(known) > 1:
        if json_lines:
            line = {"time": time.time(), "runs": [run.public() for run in known]}
            console.out(json.dumps(line, allow_nan=False), highlight=False)
            return
        console.print(runs_table(known))
        alike = len({run.address for run in known}) < len(known)
        console.print(
            f"{len(known)} runs are here. Choose one: paramesh ps status --address "
            f"{known[-1].address}" + (f" --job {known[-1].job}" if alike else ""),
            highlight=False,
            soft_wrap=True,
        )
        return
    run = known[0] if known else None
    where = run.address if run is not None else address
    assert where is not None
    name = job or (run.job if run is not None else "default")
    servers = find_servers(where, name, None if run is None else run.token)
    try:
        _show(servers, every, console, json_lines=json_lines)
    except RunEnded as ended:
        if every is None:
            raise
        console.print(str(ended), highlight=False, soft_wrap=True)


def _show(
    servers: Sequence[tuple[str, Any]],
    every: float | None,
    console: Console,
    *,
    json_lines: bool,
) -> None:
    before = look(servers)
    time.sleep(min(every or 1.0, 1.0))
    now = look(servers)
    if json_lines:
        while True:
            console.out(as_json(before, now), highlight=False)
            if every is None:
                return
            time.sleep(every)
            before, now = now, look(servers)
    if every is None:
        console.print(fitting(console, before, now))
        return
    with Live(fitting(console, before, now), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            before, now = now, look(servers)
            live.update(fitting(console, before, now), refresh=True)
