"""Atomic removal of checkpoints."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path


def remove(path: Path) -> None:
    """Delete a file, or atomically the folder of a sharded checkpoint.

    A process that is killed may leave the folder under a name that begins with a dot and ends with
    `.deleted`; the next call for a folder in the same place removes it.
    """
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(f".{path.name}.{secrets.token_hex(4)}.deleted"))
    for left in path.parent.glob(".*.deleted"):
        shutil.rmtree(left, ignore_errors=True)
