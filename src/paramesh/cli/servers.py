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
from paramesh.cli.runs import ago, choose, fits, runs_table
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.metrics import lag
from paramesh.ps.deployment.status import RunEnded, rates
from paramesh.ps.deployment.status_process import Looker
from paramesh.ps.specification.partition import Partition

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
    "host",
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
    "transport",
    "last snapshot",
)
_LESS = (
    "transport",
    "shards",
    "starts",
    "log",
    "waiting",
    "ahead",
    "behind",
    "pulled/s",
    "pushed/s",
    "held",
)


def left_out(order: Sequence[str], servers: Sequence[Mapping[str, Any]]) -> list[str]:
    """An order of columns that are left out, with the host: first where all have the same one.

    Args:
        order: of the others.
        servers: what there is of each.
    """
    several = len({server["host"] for server in servers if "host" in server}) > 1
    return [*order, "host"] if several else ["host", *order]


def table_of(
    before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], without: Sequence[str] = ()
) -> Table:
    """The table of two looks at the same servers, without some of its columns."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    shown = [name for name in _COLUMNS if name not in without]
    for name in shown:
        left = ("server", "host", "waiting", "transport", "last snapshot")
        side = "left" if name in left else "right"
        table.add_column(name, justify=side, no_wrap=True)
    shards = _shards(now)
    newest = max((one["version"] for one in now if "version" in one), default=0)
    for old, new in zip(before, now, strict=True):
        # Of two, either may serve: their own names say nothing.
        server = "-".join(new["name"].split("-")[:2])
        cells = {"server": server, "host": str(new.get("host", "")), "version": "no answer"}
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
        since = max(0.0, time.time() - snapshot["time"])  # clocks are set back
        last = f"at {snapshot['version']:.0f}, {since:.0f} s ago"
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
        "transport": _transport(new),
        "last snapshot": last,
    }


def places_in_words(places: Sequence[str]) -> str:
    """Which workers are on which host: "0 and 2 on node-a, 1 on node-b".

    Args:
        places: the host of each worker.
    """
    workers: dict[str, list[str]] = {}
    for worker, host in enumerate(places):
        workers.setdefault(host, []).append(str(worker))
    said: list[str] = []
    for host, ranks in workers.items():
        *before, last = ranks
        said.append(f"{', '.join(before)} and {last} on {host}" if before else f"{last} on {host}")
    return "; ".join(said)


def _transport(stats: Mapping[str, Any]) -> str:
    """What carries the steps of the workers to a server."""
    direct, workers = len(stats["over_zmq"]), stats["workers"]
    if not direct:
        return "ray"
    return "zmq" if direct >= workers else f"zmq {direct}, ray {workers - direct}"


def fitting(
    console: Console, before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]
) -> Table:
    """The table with as many columns as the console has room for."""
    less = left_out(_LESS, now)
    for count in range(len(less)):
        table = table_of(before, now, less[:count])
        if fits(console, table):
            return table
    return table_of(before, now, less)


def as_facts(
    before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What there is of each server, from two looks."""
    servers: list[dict[str, Any]] = []
    shards = _shards(now)
    for old, new in zip(before, now, strict=True):
        facts = {key: value for key, value in new.items() if key != "seen"}
        facts["shards"] = shards[new["name"]]
        if "staged" in new:
            per_second = rates(old, new)
            facts |= {"lag": lag(new)} | {f"{k}_per_second": v for k, v in per_second.items()}
        servers.append(facts)
    return servers


def as_json(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> str:
    """One line of JSON for two looks: the time, and what there is of each server."""
    return json.dumps({"time": time.time(), "servers": as_facts(before, now)}, allow_nan=False)


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
            "this user has no run with servers on this host"
            + ("" if job is None else f" by the job {job!r}")
            + "; for one elsewhere, give its --address HOST:PORT"
        )
    if len(known) > 1:
        if json_lines:
            line = {"time": time.time(), "runs": [run.public() for run in known]}
            console.out(json.dumps(line, allow_nan=False), highlight=False)
            return
        console.print(runs_table(known, console))
        alike = len({run.address for run in known}) < len(known)
        console.print(
            f"{len(known)} runs are on this host. Choose one: paramesh ps status --address "
            f"{known[-1].address}" + (f" --job {known[-1].job}" if alike else ""),
            highlight=False,
            soft_wrap=True,
        )
        return
    run = known[0] if known else None
    where = run.address if run is not None else address
    assert where is not None
    token = next((one.token for one in choose(where, None) if one.token is not None), None)
    with Looker(where, job or (run.job if run is not None else "default"), token) as looker:
        try:
            before = looker.look()
        except ParameterServerError:
            if run is not None and run not in choose(run.address, run.job):
                raise RunEnded(f"the run at {run.address} has ended.") from None
            raise
        if run is not None and not json_lines:
            folder = run.wal_dir or "-"
            console.print(
                f"job {run.job} at {run.address}, process {run.pid}, began "
                f"{ago(time.time() - run.started)}, wal_dir {folder}",
                highlight=False,
                soft_wrap=True,
            )
            if run.places:
                told = f"workers: {places_in_words(run.places)}"
                console.print(told, highlight=False, soft_wrap=True)
        try:
            _show(looker, before, every, console, json_lines=json_lines)
        except RunEnded as ended:
            if every is None:
                raise
            text = json.dumps({"time": time.time(), "ended": str(ended)})
            console.print(text if json_lines else str(ended), highlight=False, soft_wrap=True)


def _show(
    looker: Looker,
    before: list[dict[str, Any]],
    every: float | None,
    console: Console,
    *,
    json_lines: bool,
) -> None:
    time.sleep(min(every or 1.0, 1.0))
    now = looker.look()
    if json_lines:
        while True:
            console.out(as_json(before, now), highlight=False)
            if every is None:
                return
            time.sleep(every)
            before, now = now, looker.look()
    if every is None:
        console.print(fitting(console, before, now))
        return
    with Live(fitting(console, before, now), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            before, now = now, looker.look()
            live.update(fitting(console, before, now), refresh=True)
