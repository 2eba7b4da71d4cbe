"""`paramesh watch`."""

from __future__ import annotations

from typing import Annotated

import typer

_EXAMPLES = """Examples:

paramesh watch

paramesh watch --page

paramesh watch train.py --json
"""


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command("watch", epilog=_EXAMPLES)(_watch)


def _watch(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="The number of one of its processes, or a part of the program's words. Default: "
            "the only run of this user on this host, or a list of them.",
        ),
    ] = None,
    page: Annotated[
        bool,
        typer.Option("--page", help="Serve a page, and print its address, which has a token."),
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address that --page listens on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Of --page. Default: a free one.")
    ] = 0,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Between two updates.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print the numbers once.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON per update.")
    ] = False,
) -> None:
    """Show what a training is doing: steps, loss, where time goes, servers.

    Every training of this user on this host is found automatically: each
    one that calls Model.train, or paramesh.train.report(loss) in its own
    loop, and each one that has parameter servers.

    The terminal is updated until the run has ended. In a pipe, the numbers
    are printed once.
    """
    from rich.console import Console

    from paramesh.cli.watch import Options, watch

    watch(run, Options(page, host, port, every, once, json), Console())
