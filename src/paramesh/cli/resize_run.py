"""`paramesh ps resize`: another number of servers for a run, live or at rest."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from paramesh.cli.errors import CommandError
from paramesh.errors import ParameterServerError
from paramesh.ps.durability.run_lock import RunTaken
from paramesh.ps.resizing.live import resize_live
from paramesh.ps.resizing.resize import resize


def resize_run(wal_dir: Path, servers: int, out: Path | None, console: Console) -> None:
    """Change the number of servers, and say what the run has.

    Raises:
        CommandError: it is not the folder of a run, or its files are damaged; somebody has the run,
            and `out` is given; somebody else is changing the number; a file cannot be written.
    """
    began, live = time.monotonic(), False
    try:
        try:
            done = resize(wal_dir, servers, out)
        except RunTaken:
            if out is not None:
                raise
            began, live = time.monotonic(), True
            done = resize_live(wal_dir, servers)
    except ParameterServerError as error:
        raise CommandError(str(error)) from error
    except FileExistsError:
        raise CommandError(
            f"{out}: exists, and is not an empty folder; choose another one, or remove it"
        ) from None
    except NotADirectoryError as error:
        raise CommandError(f"{out or wal_dir}: {error.strerror}; choose another folder") from None
    except OSError as error:
        raise CommandError(
            f"{out or wal_dir}: cannot be written: {error.strerror or error}. Repeat the "
            "command when it can: the run is complete, with the former number of servers or the new"
        ) from error
    if out is None and done.before == done.after:
        console.print(f"'{wal_dir}' has {_servers(done.after)} already", soft_wrap=True)
        return
    console.print(
        f"version {done.version} of '{wal_dir}', which had {_servers(done.before)}, is on "
        f"{_servers(done.after)} in '{done.path}'",
        highlight=False,
        soft_wrap=True,
    )
    for name, rows in done.rows.items():
        console.print(f"  {name}: {rows:,} rows", highlight=False, soft_wrap=True)
    if live:
        said = f"The run goes on with them. It was moved in {time.monotonic() - began:.1f} seconds."
        console.print(said, highlight=False, soft_wrap=True)
        said = f"Once it has ended, start it with server_num={done.after}."
        console.print(said, highlight=False, soft_wrap=True)
        return
    console.print(f"Start it with server_num={done.after}.", highlight=False, soft_wrap=True)


def _servers(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"
