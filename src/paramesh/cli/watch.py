"""`paramesh watch`: what a training is doing, on the terminal, as a page, or as JSON."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from rich.console import Console

from paramesh.cli.errors import CommandError
from paramesh.cli.watching.gathering import Gatherer
from paramesh.cli.watching.server import serve
from paramesh.cli.watching.terminal import NO_RUN, show


class Options(NamedTuple):
    """How a run is shown.

    Attributes:
        page: serve a page.
        host, port: where to.
        every: seconds between two updates.
        once: print once.
        json_lines: a line of JSON for each update.
    """

    page: bool
    host: str
    port: int
    every: float
    once: bool
    json_lines: bool


def watch(wanted: str | None, options: Options, console: Console) -> None:
    """Show the runs of this user on this host.

    Args:
        wanted: the number of a process, or a part of the program; None: any.
        options: how.
        console: where to.

    Raises:
        CommandError: options that contradict each other; no such run; the page cannot be served.
    """
    if options.page and (options.once or options.json_lines):
        raise CommandError("--page shows numbers by itself: leave out --once and --json")
    gatherer = Gatherer(wanted, options.every)
    try:
        if options.page:
            serve(gatherer, options.host, options.port, console)
            return
        if wanted is not None and not gatherer.runs() and Gatherer().runs():
            raise CommandError(f"no run on this host has {wanted!r} in its program or as a process")
        if options.json_lines:
            _lines(gatherer, options, console)
            return
        show(gatherer, console, options.every, once=options.once or not console.is_terminal)
    finally:
        gatherer.close()


def _lines(gatherer: Gatherer, options: Options, console: Console) -> None:
    state = gatherer.state()
    if not state["runs"]:
        raise CommandError(NO_RUN)
    while True:
        console.out(json.dumps(state, allow_nan=False), highlight=False)
        if options.once or not state["runs"]:
            return
        time.sleep(options.every)
        state = gatherer.state()
