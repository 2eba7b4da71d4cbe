"""`paramesh ps …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paramesh.ps.specification.partition import SHARDS
from paramesh.ps.specification.worker_sets import MOST_WORKERS


def add_to(app: typer.Typer) -> None:
    """Add the group of these commands to the command line."""
    group = typer.Typer(
        name="ps", help="The parameter server.", no_args_is_help=True, callback=_servers
    )
    group.command("status")(_status)
    group.command("export")(_export)
    group.command("resize")(_resize)
    group.command("workers")(_workers)
    group.command("compact")(_compact)
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
    from rich.console import Console

    from paramesh.cli.servers import show_status

    show_status(address, job, every, Console(), json_lines=json)


def _export(
    wal_dir: Annotated[Path, typer.Argument(metavar="WAL_DIR", help="Of the run.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The file, or the folder of Parquet files.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="Only this Parameter; may be repeated."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="safetensors or parquet. Default: safetensors if OUT ends with it, otherwise "
            "parquet.",
        ),
    ] = None,
) -> None:
    """Write what a run on servers has trained, from its wal_dir, for other programs.

    The run may be live: no step waits, and its files are only read. A
    safetensors file has NAME.ids and NAME.rows of each table and the
    values of every other Parameter; a folder of Parquet files has a file
    for each table (columns id and vector).
    """
    from rich.console import Console

    from paramesh.cli.export_run import export_run

    export_run(wal_dir, out, names, format, Console())


def _resize(
    wal_dir: Annotated[Path, typer.Argument(metavar="WAL_DIR", help="Of the run.")],
    servers: Annotated[
        int,
        typer.Option("--servers", min=1, max=SHARDS, metavar="N", help="How many servers it gets."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the run with N servers into this folder, which must not exist or be "
            "empty, and leave WAL_DIR as it is. Default: WAL_DIR itself.",
        ),
    ] = None,
) -> None:
    """Change the number of servers of a run, live or at rest.

    Values, optimizer state, versions and what servers know of the workers
    move; the run goes on as if it always had that number. It takes the disk
    space of the run once more, and the memory of one of its servers. If it
    is killed, WAL_DIR has the former run or the new one: repeat the command.

    A run that is going on pauses meanwhile, at the border of a step, and its
    workers go on by themselves. One that has ended or was killed goes on
    when it is started with that number. With --out it must not be live.
    """
    from rich.console import Console

    from paramesh.cli.resize_run import resize_run

    resize_run(wal_dir, servers, out, Console())


def _workers(
    wal_dir: Annotated[Path, typer.Argument(metavar="WAL_DIR", help="Of the run.")],
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=1, max=MOST_WORKERS, metavar="N", help="How many workers it gets."
        ),
    ],
    timeout: Annotated[
        float,
        typer.Option(
            min=1.0, metavar="SECONDS", help="Give up if not all that join are there by then."
        ),
    ] = 300.0,
) -> None:
    """Change the number of workers of a run, live or at rest, at the border of a step.

    `paramesh launch`, which has started the run, starts those that join. When
    they are there, the run goes on with N workers from a step on that this
    command prints; until then it is not held up. Those that leave are the
    last ones: they end with exit code 0. From that step on, the run has the
    bits of one that has N workers there. In mode async every worker comes to
    that step of its own.

    The script of a live run has to divide its batches anew
    (paramesh.train.divided, or worker_share). A run that has ended or was
    killed goes on with N workers when it is started with that number.
    """
    from rich.console import Console

    from paramesh.cli.change_workers import change_workers

    change_workers(wal_dir, workers, timeout, Console())


def _compact(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The folder of an increment.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the complete checkpoint into this folder, which must not exist, and leave "
            "CHECKPOINT as it is. Default: it takes the place of CHECKPOINT.",
        ),
    ] = None,
) -> None:
    """Make a complete checkpoint of an increment and those before it.

    The checkpoints that CHECKPOINT goes on from are not needed any more, and
    those that go on from it stay valid. Only a few megabytes of it are in
    memory at a time. If it is killed, CHECKPOINT is as it was, or complete.
    """
    from rich.console import Console

    from paramesh.cli.compact_checkpoint import compact_checkpoint

    compact_checkpoint(checkpoint, out, Console())
