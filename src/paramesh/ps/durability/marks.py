"""Small files in the folder of a run by which processes tell each other what was decided.

Each has a JSON object, and is there with its content or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import directory_to_disk


def names_in(folder: Path) -> list[str]:
    """The names of what is in a folder.

    Raises:
        OSError: from the file system.
    """
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def read(path: Path) -> dict[str, Any] | None:
    """What a file says; None: it is not there.

    Raises:
        ParameterServerError: it is damaged.
        OSError: from the file system.
    """
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise damaged(path)
    return said


def damaged(path: Path) -> ParameterServerError:
    """The error about a file that nobody can have written so."""
    return ParameterServerError(f"'{path}' is damaged: restore the wal_dir from a backup.")


def content(path: Path) -> bytes:
    """All bytes of a file; none if it is not there."""
    # Opened anew each time: over a network that is what brings the present content.
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def create(folder: Path, name: str, said: Mapping[str, Any]) -> bool:
    """Create a file with its content, at once; False: it is there.

    Raises:
        OSError: from the file system.
    """
    path, mark = folder / name, secrets.token_hex(8)
    text = (json.dumps({**said, "mark": mark}) + "\n").encode()
    beside = folder / f".{name}.{os.getpid()}-{mark[:8]}.tmp"
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, text)
            os.fsync(file)
        finally:
            os.close(file)
        try:
            os.link(beside, path)
            mine = True
        except FileExistsError:
            # On a network's file system this may be the answer to a repetition of what was done.
            mine = content(path) == text
    finally:
        beside.unlink(missing_ok=True)
    directory_to_disk(folder)
    return mine
