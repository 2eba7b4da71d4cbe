"""The folder of a sharded checkpoint: names of part files, the index, leftovers.

`source.py` describes the index.
"""

from __future__ import annotations

import contextlib
import json
import re
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
from paramesh.files.atomic import is_left_over, is_locked, made_locked

#: The token in the name of a part file, a mark, a ticket or a temporary file.
_TOKEN = re.compile(r"\.?(?:part|save)-([0-9a-f]{8})\b")


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


def make_mark(path: Path, token: str) -> int:
    """Make the mark of a save, which is locked while its file is open: it says that it runs.

    Returns:
        The open file, to be closed when the save has ended.

    Raises:
        OSError: from the file system.
    """
    return made_locked(path / f"{MARK}{token}")


def remove_others(path: Path, token: str) -> None:
    """Remove the files of earlier saves from a folder, and leftovers of killed ones.

    What the index names stays, and all files of other saves that run: they will commit, or remove
    their files themselves.

    Args:
        path: the folder.
        token: of the save that has ended, whose marks are removed.
    """
    names = [place.name for place in path.iterdir()]
    own = f"{MARK}{token}"
    marks = [name for name in names if name.startswith(MARK) and not name.startswith(own)]
    running = {_token_of(name) for name in marks if is_locked(path / name)}
    # After the locks: a save that has ended since then has put its files into the index.
    kept = _files_of(path)
    for name in names:
        if name in kept or _token_of(name) in running:
            continue
        if name.endswith(".tmp") and is_locked(path / name):
            continue
        # Files are made before they are locked: an index of a save that runs, and any mark.
        unsure = name.startswith(f".{MARK}") or (running and name.startswith(f".{INDEX}."))
        if unsure and not is_left_over(path / name):
            continue
        if is_leftover(name) or PART.fullmatch(name):
            with contextlib.suppress(OSError):  # leftovers do no harm
                (path / name).unlink()


def _token_of(name: str) -> str | None:
    found = _TOKEN.match(name)
    return None if found is None else found[1]


def _files_of(path: Path) -> set[str]:
    """The part files that the index names now."""
    return set(json.loads((path / INDEX).read_bytes())["files"])
