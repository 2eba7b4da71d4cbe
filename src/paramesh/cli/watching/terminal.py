"""A run on a terminal: the numbers, the loss as a curve, shares of time, servers, events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from paramesh.cli.errors import CommandError
from paramesh.cli.runs import ago, fits
from paramesh.cli.servers import left_out, places_in_words, size
from paramesh.cli.watching.gathering import Gatherer
from paramesh.train.facts import duration

#: Idle seconds from which a process is said to be stopped or in a long step.
IDLE = 10.0
_BLOCKS = "▁▂▃▄▅▆▇█"
_COLORS = {
    "compute": "green",
    "data": "yellow",
    "pull": "cyan",
    "push": "blue",
    "wait": "magenta",
    "save": "white",
}
_EVENTS = 8


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last values as a curve of characters; a missing one is a space."""
    shown = list(values)[-width:]
    known = [value for value in shown if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    top = len(_BLOCKS) - 1
    return "".join(
        " " if value is None else _BLOCKS[round((value - low) / span * top)] for value in shown
    )


def number(value: float | str | None, digits: int = 4) -> str:
    """A number for people; a dash for what is not known."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.{digits}g}"


def numbers_line(run: Mapping[str, Any]) -> Text:
    """Step, loss, rates, time left, memory."""
    told = run["numbers"]
    parts: list[tuple[str, str]] = []
    if run["step"] is not None:
        parts.append(("step", f"{run['step']:,}"))
    if "epoch" in told:
        of = f"/{told['epochs']:.0f}" if "epochs" in told else ""
        parts.append(("epoch", f"{told['epoch']:.0f}{of}"))
    parts.append(("loss", number(run["loss"])))
    parts.append(("steps/s", number(run["steps_per_second"], 3)))
    if run["examples_per_second"]:
        parts.append(("examples/s", number(run["examples_per_second"], 4)))
    if isinstance(told.get("left"), float):
        parts.append(("left", duration(told["left"])))
    if run["memory"]:
        parts.append(("memory", size(run["memory"])))
    known = {"epoch", "epochs", "step_in_epoch", "batches", "left", "memory"}
    parts += [(name, number(value)) for name, value in told.items() if name not in known]
    line = Text()
    for name, value in parts:
        line.append(f"{name} ", style="dim")
        line.append(f"{value}   ", style="bold")
    return line


def shares_line(phases: Mapping[str, float], width: int) -> Text:
    """Where the time of a step goes: a bar, and its legend."""
    line = Text()
    for name, share in phases.items():
        line.append("█" * round(share * width), style=_COLORS[name])
    line.append("\n")
    for name, share in phases.items():
        line.append("■ ", style=_COLORS[name])
        line.append(f"{name} {share:.0%}   ")
    return line


def workers_table(run: Mapping[str, Any]) -> Table:
    """A row for each process."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    hits = any(worker["cache_hits"] is not None for worker in run["per_worker"])
    ways = any(worker["rows"] for worker in run["per_worker"])
    names = ["worker", "host", "process", "step", "loss", "steps/s", "examples/s"]
    more = [*(["cache hits"] if hits else []), *(["rows"] if ways else [])]
    for name in [*names, *more, "last step"]:
        table.add_column(name, justify="left" if name in ("worker", "host", "rows") else "right")
    for worker in run["per_worker"]:
        cells = [
            str(worker["rank"]),
            worker["host"],
            str(worker["pid"]),
            f"{worker['step']:,}",
            number(worker["loss"]),
            number(worker["steps_per_second"], 3),
            number(worker["examples_per_second"], 4),
        ]
        if hits:
            share = worker["cache_hits"]
            cells.append("-" if share is None else f"{share:.0%}")
        if ways:
            cells.append(worker["rows"] or "-")
        style = "red" if worker["idle"] >= IDLE else None
        table.add_row(*cells, f"{worker['idle']:.0f} s ago", style=style)
    return table


#: Columns of the table of servers, and in which order they are left out.
_COLUMNS = ("server", "host", "version", "rows", "held", "log", "updates/s", "lag", "last snapshot")
_LESS = ("log", "lag", "last snapshot", "held")


def servers_table(run: Mapping[str, Any], console: Console) -> Table:
    """A row for each server and standby, with as many columns as there is room for."""
    table = Table()
    less = left_out(_LESS, run["per_server"])
    for count in range(len(less) + 1):
        shown = [name for name in _COLUMNS if name not in less[:count]]
        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for name in shown:
            side = "left" if name in ("server", "host") else "right"
            table.add_column(name, justify=side, no_wrap=True)
        for server in run["per_server"]:
            cells = _server(server, run["time"])
            table.add_row(
                *(cells.get(name, "") for name in shown),
                style="red" if server.get("silent") else None,
            )
        if fits(console, table):
            break
    return table


def _server(server: Mapping[str, Any], now: float) -> dict[str, str]:
    name = "-".join(server["name"].split("-")[:2])
    if server.get("silent"):
        return {"server": name, "version": "no answer"}
    host = str(server.get("host", ""))
    if server.get("role") == "standby":
        who = f"{name} (standby)"
        return {"server": who, "host": host, "version": f"{server['version']:,}"}
    snapshot = server["last_snapshot"]
    last = "failed" if "failed" in snapshot else "none"
    if "version" in snapshot:
        last = f"at {snapshot['version']:.0f}, {ago(now - snapshot['time'])}"
    return {
        "server": name,
        "host": host,
        "version": f"{server['version']:,}",
        "rows": f"{server['rows']:,}",
        "held": size(server["bytes"]),
        "log": size(server["bytes_logged"]),
        "updates/s": f"{server['updates_per_second']:.1f}",
        "lag": str(server["lag"]),
        "last snapshot": last,
    }


def rendered(run: Mapping[str, Any], console: Console) -> RenderableType:
    """All of a run."""
    width = max(20, console.width - 2)
    began = ago(max(0.0, run["time"] - run["started"]))
    title = Text(run["program"], style="bold")
    title.append(f"  process {run['name']}, began {began}", style="dim")
    if run["ended"]:
        title.append("  ended", style="bold yellow")
    elif (run["idle"] or 0) >= IDLE:
        title.append(f"  no step for {duration(run['idle'])}", style="bold red")
    parts: list[RenderableType] = [title, numbers_line(run)]
    curve = sparkline(run["curves"].get("loss", []), width)
    if curve:
        parts += [Text("\nloss", style="dim"), Text(curve, style="green")]
    if run["phases"]:
        parts += [Text("\ntime of a step", style="dim"), shares_line(run["phases"], width)]
    workers = run["per_worker"]
    if len(workers) > 1 or any(w["cache_hits"] is not None or w["rows"] for w in workers):
        parts.append(workers_table(run))
    if len(run["places"] or ()) > len(run["per_worker"]):  # some do not report their steps
        parts.append(Text(f"\nworkers: {places_in_words(run['places'])}"))
    if run["per_server"]:
        parts.append(servers_table(run, console))
    elif run["servers_error"]:
        parts.append(Text(run["servers_error"], style="yellow"))
    elif run["servers"]:
        parts.append(Text("\nasking the servers …", style="dim"))
    if run["events"]:
        parts.append(Text())
    for event in run["events"][:_EVENTS]:
        line = Text(time.strftime("%H:%M:%S  ", time.localtime(event["time"])), style="dim")
        line.append(f"{event['who']}  ", style="cyan")
        line.append(event["text"][: max(20, width - 24)], style="default")
        parts.append(line)
    return Group(*parts)


def runs_table(state: Mapping[str, Any]) -> Table:
    """The runs that there are."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("run", "program", "began", "step", "workers", "servers"):
        table.add_column(name, justify="left" if name == "program" else "right")
    for run in state["runs"]:
        table.add_row(
            run["name"],
            run["program"],
            ago(max(0.0, state["time"] - run["started"])),
            "-" if run["step"] is None else f"{run['step']:,}",
            str(run["workers"]),
            "yes" if run["servers"] else "no",
        )
    return table


def show(gatherer: Gatherer, console: Console, every: float, *, once: bool) -> None:
    """Show the run that is meant: until it has ended, or once.

    Several runs: the table of them.

    Args:
        gatherer: of the run.
        console: where to.
        every: seconds between two updates.
        once: print it once, after the servers have answered.

    Raises:
        CommandError: there is no run.
    """
    state = gatherer.state()
    if not state["runs"]:
        raise CommandError(NO_RUN)
    if len(state["runs"]) > 1:
        console.print(runs_table(state))
        newest = state["runs"][-1]["name"]
        console.print(f"Choose one: paramesh watch {newest}", highlight=False)
        return
    name = state["run"]["name"]
    if once:
        console.print(rendered(_with_servers(gatherer, name, every), console))
        return
    with Live(rendered(state["run"], console), console=console, auto_refresh=False) as live:
        while not state["run"]["ended"]:
            time.sleep(every)
            state = gatherer.state(name)
            live.update(rendered(state["run"], console), refresh=True)


#: Seconds that `--once` waits for servers.
_PATIENCE = 30.0

NO_RUN = (
    "no training of this user runs on this host. A run is found after its first second, if it "
    "calls Model.train, or paramesh.train.report(loss) in its loop, or has parameter servers"
)


def _with_servers(gatherer: Gatherer, name: str, every: float) -> Mapping[str, Any]:
    until = time.monotonic() + _PATIENCE
    while True:
        run = gatherer.state(name)["run"]
        known = run["per_server"] or run["servers_error"] or not run["servers"]
        if known or run["ended"] or time.monotonic() > until:
            return run
        time.sleep(min(every, 0.5))
