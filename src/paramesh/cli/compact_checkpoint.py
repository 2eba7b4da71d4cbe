"""`paramesh ps compact`: a complete checkpoint of increments."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from paramesh.checkpoint.sharded.compaction import compact
from paramesh.cli.errors import CommandError
from paramesh.errors import CheckpointError


def compact_checkpoint(checkpoint: Path, out: Path | None, console: Console) -> None:
    """Make a complete checkpoint, and say where it is.

    Raises:
        CommandError: it is no checkpoint of servers, one that it goes on from is missing or another
            one, or a file cannot be written.
    """
    try:
        made = compact(checkpoint, out)
    except (CheckpointError, FileExistsError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(
            f"{out or checkpoint}: cannot be written: {error.strerror or error}. The checkpoint is "
            "as it was"
        ) from error
    console.print(f"'{made}' is a complete checkpoint", highlight=False, soft_wrap=True)
