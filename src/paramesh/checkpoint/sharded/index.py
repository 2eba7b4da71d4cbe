"""The folder of a sharded checkpoint: names of part files, the index, leftovers.

`source.py` describes the index.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramesh.checkpoint.formats.apart import IndexSlice, Served
from paramesh.checkpoint.formats.interface import Appended, Entry
from paramesh.checkpoint.sharded.source import (
    INCREMENT,
    INDEX,
    INDEX_FORMAT,
    MARK,
    PART,
    VERSION,
)


def new_token() -> bytes:
    """A random token, which makes the file names of one save unique."""
    return secrets.token_bytes(4)


def part_name(token: str, process: int) -> str:
    """The name of a process's file."""
    return f"part-{token}-{process:05d}.safetensors"


def index_bytes(
    files: Sequence[str],
    arrays: Iterable[tuple[Entry, Iterable[IndexSlice]]],
    appended: Mapping[str, Appended],
    metadata: Mapping[str, str],
    devices: Sequence[int] = (),
    served: Served | None = None,
) -> bytes:
    """The content of the index.

    Args:
        files: the names of the part files.
        arrays: with the slices of each.
        appended: the entries of `append_dict`.
        metadata: strings to store.
        devices: the process of each device, by rank.
        served: what servers have written.
    """
    base = None if served is None else served.base
    index: dict[str, Any] = {
        "format": INDEX_FORMAT,
        "version": VERSION if base is None else INCREMENT,
        "files": list(files),
        "append_dict": dict(appended),
    }
    if devices:
        index["devices"] = list(devices)
    if metadata:
        index["metadata"] = dict(metadata)
    if served is not None:
        index["identity"] = served.identity
        index["tables"] = {name: table.plain for name, table in served.tables.items()}
    if base is not None:
        index["base"] = base._asdict()
    index["arrays"] = {
        entry.name: {
            "dtype": entry.dtype.long_name,
            "shape": entry.shape,
            "slices": [
                {"file": one.file, "name": one.name}
                | ({"ranks": one.ranks} if one.ranks else {})
                | ({"flat": one.box[0]} if one.flat else {"ranges": one.box})
                for one in slices
            ],
        }
        for entry, slices in arrays
    }
    return json.dumps(index).encode()


def is_leftover(name: str) -> bool:
    """Whether a file of this name is a leftover of a killed save."""
    temporary = name.startswith((".part-", f".{INDEX}.", f".{MARK}")) and name.endswith(".tmp")
    return temporary or name.startswith(MARK)


def remove_marks(path: Path, token: str) -> None:
    """Remove what a save has left besides its part files."""
    for place in path.iterdir():
        if place.name.startswith(f"{MARK}{token}"):
            with contextlib.suppress(OSError):
                place.unlink()


def remove_others(path: Path, files: Iterable[str]) -> None:
    """Remove the files of earlier saves from a folder, and leftovers of killed ones."""
    kept = set(files)
    for place in path.iterdir():
        name = place.name
        if is_leftover(name) or (PART.fullmatch(name) and name not in kept):
            with contextlib.suppress(OSError):  # leftovers do no harm
                place.unlink()
