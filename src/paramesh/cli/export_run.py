"""`paramesh ps export`: what a run on servers has trained, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from paramesh.cli.errors import CommandError
from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.ps.reading.export import FORMATS, export
from paramesh.ps.reading.reader import connect


def export_run(
    wal_dir: Path, out: Path, names: Sequence[str] | None, format: str | None, console: Console
) -> None:
    """Write the files, and say what they have.

    Raises:
        CommandError: it is not the folder of a run, a Parameter does not exist, or a file cannot be
            written.
    """
    if format is None:
        format = "safetensors" if out.suffix == ".safetensors" else "parquet"
    if format not in FORMATS:
        raise CommandError(f"--format is {' or '.join(FORMATS)}; got {format!r}")
    try:
        with connect(wal_dir) as run:
            made = export(run, out, format=format, names=names or None)
    except (ParameterServerError, ParameterStateError) as error:
        raise CommandError(str(error)) from error
    except FileExistsError:
        raise CommandError(f"{out}: exists already; choose another folder, or remove it") from None
    except OSError as error:
        raise CommandError(f"{out}: cannot be written: {error.strerror or error}") from error
    console.print(f"version {made.version} of '{wal_dir}' in {made.path}", soft_wrap=True)
    for name, rows in made.rows.items():
        console.print(f"  {name}: {rows:,} rows", highlight=False, soft_wrap=True)
    if made.values:
        console.print(f"  and {len(made.values)} other Parameters", highlight=False)
