"""Which server of which run a folder belongs to, and that it is this user's own.

server-0/server.json            {"run": "5f3c…", "server": 0}
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import write_atomically
from paramesh.files.ownership import own_folder
from paramesh.ps.durability import marks

RUN, SERVER = "run.json", "server.json"
#: Folders of servers, and of those that have taken their place, in that of a run.
SERVER_FOLDER = re.compile(r"server-(\d+)")
RESIZED_FOLDER = re.compile(r"resized-(\d+)")


def own(folder: Path, *, make: bool = False) -> None:
    """As `own_folder`.

    Raises:
        ParameterServerError: it is not this user's own.
        OSError: from the file system.
    """
    try:
        own_folder(folder, make=make)
    except PermissionError as error:
        raise ParameterServerError(f"servers cannot use a folder: {error.strerror}") from None


def write_server(place: Path, run: str, server: int) -> None:
    """Write into its folder which server of which run a server is."""
    say_in(place / SERVER, {"run": run, "server": server})


def check_server(place: Path, run: str, server: int) -> None:
    """Raise ParameterServerError unless a folder is that of a server of a run, and this user's."""
    if place.is_dir():
        own(place)
    check_belongs(place, run, server)


def check_belongs(place: Path, run: str, server: int) -> None:
    """Raise ParameterServerError unless a folder is that of a server of a run."""
    if not place.is_dir():
        raise ParameterServerError(
            f"'{place}', the folder of server {server}, does not exist, although the run has "
            f"started: it was removed, or this host does not share the wal_dir with the worker. "
            f"Restore the complete wal_dir, or remove it and start from a checkpoint."
        )
    said = marks.read(place / SERVER)
    if said is None or said.get("run") != run:
        raise ParameterServerError(
            f"'{place}' does not belong to the run in '{place.parent}': it was copied there from "
            f"another run. Restore the folders of all servers from the same backup."
        )
    if said.get("server") != server:
        raise ParameterServerError(
            f"'{place}' is the folder of server {said.get('server')}, not of server {server}: "
            f"folders were swapped or renamed. The file {SERVER} in each folder has the number "
            f"of its server: restore the names of the folders."
        )


def say_in(path: Path, content: dict[str, Any]) -> None:
    """Write what a file says, all at once; for its owner alone."""
    write_atomically(path, (json.dumps(content) + "\n").encode())
    path.chmod(0o600)
