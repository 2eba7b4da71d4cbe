"""`paramesh ps …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from paramesh.cli.servers import show_status


def add_to(app: typer.Typer) -> None:
    """Add the group of these commands to the command line."""
    group = typer.Typer(
        name="ps", help="The parameter server.", no_args_is_help=True, callback=_servers
    )
    group.command("status")(_status)
    app.add_typer(group)


def _servers() -> None:
    """The parameter server."""


def _status(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Ray cluster of the servers. Default: that of this user's run on this host, or a "
            "list of the runs if there are several.",
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the run, as in PARAMESH_PS_JOB. Default: the only run known at the "
            "address, or 'default'.",
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Refresh the table until Ctrl-C."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON per refresh instead of a table.")
    ] = False,
) -> None:
    """Show the servers of a run: versions, memory, rates, and the last snapshots.

    A run that this user has started on this host is found automatically,
    with its token. For any other run, give --address, and set its token
    in RAY_AUTH_TOKEN.

    Columns: how often a server was started; its virtual shards; the number
    of updates that it has applied, and how many it is behind the most
    recent server; steps that the fastest worker is ahead of it; rows of
    tables, bytes in memory and bytes of its log; bytes received and sent;
    workers whose gradients wait for those of others; the last snapshot.
    """
    show_status(address, job, every, Console(), json_lines=json)
