"""What a run on servers is, written into its folder: how many servers, and which folder is whose.

    wal_dir/run.json                {"format": 1, "run": "5f3c…", "server_num": 2, …}
    wal_dir/server-0/server.json    {"run": "5f3c…", "server": 0}

Where a Parameter's elements and rows are follows from the number of servers alone. A run that went
on with another number, or with folders that were exchanged, would not find them, and begin them
anew. So all of it is compared before a server is started, and what does not fit changes nothing.

The files are there before the first record of a log. `run.json` is written last: a folder without
it, in which no server has written anything, is a start that came to nothing. A folder without it in
which servers have written is of a run before there were such files, and gets them if what is in its
logs fits.

`paramesh ps resize` builds the folders of the new servers in `wal_dir/resized-K`, and replaces
`run.json` by one that names this folder (`"folder": "resized-1"`, format 2). That one replacement
moves the run; the folders of the former servers are left over from then on. A live run is moved by
the end of a move (see `moves`), which counts before `run.json` has been replaced. The number of
workers of a run that was changed is in a file of its own (see `worker_files`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import marks, moves, worker_files
from paramesh.ps.durability.former_runs import check_former
from paramesh.ps.durability.run_lock import session_in
from paramesh.ps.durability.run_settings import Identity, compare
from paramesh.ps.durability.whose_folder import (
    RESIZED_FOLDER,
    RUN,
    SERVER_FOLDER,
    check_server,
    own,
    say_in,
    write_server,
)
from paramesh.ps.specification.protocol import MODES

#: Of `run.json`: as a run begins, and once its number of servers was changed.
FORMAT, RESIZED_FORMAT = 1, 2


def read(folder: Path) -> Identity:
    """What the run in a folder is; nothing is changed.

    Raises:
        ParameterServerError: it is not the folder of a run, is damaged, or was written by another
            version of paramesh.
        OSError: from the file system.
    """
    said = _run(folder)
    if said is None:
        raise ParameterServerError(
            f"'{folder}' is not the wal_dir of a run on servers: it has no {RUN}."
        )
    if said.get("format") not in (FORMAT, RESIZED_FORMAT):
        raise _other_format(folder, said)
    return _identity(folder, said)


def _identity(folder: Path, said: Mapping[str, Any]) -> Identity:
    numbers = [field.name for field in dataclasses.fields(Identity) if field.name != "mode"]
    if (
        said.get("mode") not in MODES
        or not isinstance(said.get("run"), str)
        or any(type(said.get(name)) is not int or said[name] < 0 for name in numbers)
        or not all(said[name] for name in numbers if name != "staleness")
    ):
        raise ParameterServerError(
            f"'{folder / RUN}' is damaged: restore the wal_dir from a backup."
        )
    return Identity(**{name: said[name] for name in [*numbers, "mode"]})


def _other_format(folder: Path, said: Mapping[str, Any]) -> ParameterServerError:
    return ParameterServerError(
        f"'{folder}' was written by another version of paramesh (format "
        f"{said.get('format')!r}, expected {FORMAT} or {RESIZED_FORMAT}). Continue with that "
        "version, or transfer the values with a checkpoint."
    )


def server_folder(folder: Path, server: int) -> Path:
    """The folder of a server of the run in a folder.

    Raises:
        ParameterServerError: what the run says of itself is damaged.
        OSError: from the file system.
    """
    return servers_place(folder) / f"server-{server}"


def servers_place(folder: Path) -> Path:
    """The folder that has those of the servers: that of the run, unless it was resized.

    Raises:
        ParameterServerError, OSError: as `server_folder`.
    """
    name = (_run(folder) or {}).get("folder")
    if name is None:
        return folder
    if not isinstance(name, str) or not RESIZED_FOLDER.fullmatch(name):
        raise ParameterServerError(
            f"'{folder / RUN}' is damaged: restore the wal_dir from a backup."
        )
    return folder / name


def next_place(folder: Path) -> Path:
    """Where the servers of a run go when their number is changed."""
    return folder / f"resized-{moves.next_number(folder, generation(folder))}"


def generation(folder: Path) -> int:
    """How often the servers of a run were moved (see `moves`).

    Raises:
        ParameterServerError, OSError: as `read`.
    """
    return moves.generation_of(_run(folder) or {})


def settle(folder: Path) -> None:
    """Have `run.json` say what the run is, and remove what moves have left. For who has the run.

    Raises:
        ParameterServerError, OSError: as `read`.
    """
    number = moves.open_move(folder)
    if number:
        moves.abandon(folder, number, "the run was started again, or moved at rest")
    said = marks.read(folder / RUN)
    if said is not None:
        now = moves.current(folder, said)
        if now is not said:
            say_in(folder / RUN, dict(now))
    moves.clear(folder)


def left_over(folder: Path) -> list[Path]:
    """Folders in that of a run that have no servers of it: of former ones, or of no run yet."""
    place = servers_place(folder)
    found: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            former = place != folder and SERVER_FOLDER.fullmatch(entry.name)
            resized = entry.name != place.name and RESIZED_FOLDER.fullmatch(entry.name)
            if (former or resized) and entry.is_dir(follow_symlinks=False):
                found.append(Path(entry.path))
    return sorted(found)


def check(folder: Path, mine: Identity) -> str | None:
    """Compare a run with what its folder says; nothing is changed.

    Args:
        folder: of the run; it need not be there.
        mine: the run that wants to start.

    Returns:
        The name of the run that is there; None if there is none yet, or one without a name.

    Raises:
        ParameterServerError: it is another run, or folders of it are missing, exchanged, damaged or
            another user's.
        OSError: from the file system.
    """
    if not folder.exists():
        return None
    own(folder)
    theirs = _run(folder)
    if theirs is None:
        check_former(folder, mine)
        return None
    if theirs.get("format") not in (FORMAT, RESIZED_FORMAT):
        raise _other_format(folder, theirs)
    _identity(folder, theirs)
    if mine.worker_num == theirs.get("workers_before"):
        theirs = {**theirs, "worker_num": mine.worker_num}
    compare(folder, dataclasses.asdict(mine), theirs)
    check_servers(folder, str(theirs["run"]), mine.server_num)
    return str(theirs["run"])


def write(folder: Path, mine: Identity, session: str) -> str:
    """As `check`; a run that is not there yet is written down. Only for who holds the run's lock.

    Args:
        folder: of the run.
        mine: the run that starts.
        session: see `run_lock`. Its workers on hosts that do not see each other's locks write the
            same.

    Returns:
        The name of the run.

    Raises:
        ParameterServerError, OSError: as `check`.
    """
    name = check(folder, mine)
    if name is not None:
        return name
    name = hashlib.sha256(f"{session}\n{folder}".encode()).hexdigest()[:16]
    for server in range(mine.server_num):
        place = server_folder(folder, server)
        own(place, make=True)
        write_server(place, name, server)
    write_run(folder, mine, name)
    return name


def run_name(folder: Path) -> str:
    """The name of the run in a folder that `read` can read."""
    return str((_run(folder) or {}).get("run"))


def write_run(folder: Path, mine: Identity, run: str, place: str | None = None) -> None:
    """Write down what a run is, all at once: it is that from then on.

    Args:
        folder: of the run.
        mine: what it is.
        run: its name.
        place: the name of the folder in it that has the servers'; None: the folder itself.
    """
    say_in(folder / RUN, said_of(mine, run, place))


def said_of_moved(
    folder: Path, mine: Identity, run: str, place: str, session: str
) -> dict[str, Any]:
    """What `run.json` says of a run that was moved while a session went on; as for `write_run`.

    Args:
        folder: of the run, before.
        mine: what it is, after.
        run: its name, after.
        place: the folder that has the servers'.
        session: which (see `run_lock`): what was started with the former number is right in it.
    """
    before = _run(folder) or {}
    moved = before.get("moved", {})
    if moved.get("session") != session:
        moved = {"session": session, "from": before.get("server_num")}
    return said_of(mine, run, place) | ({"moved": moved} if session else {})


def moved_from(folder: Path, session: str | None) -> tuple[int, int] | None:
    """The numbers of servers that a run was started with in a session, and has by now.

    Args:
        folder: of the run; it need not be there.
        session: which; None: any that has not ended.

    Returns:
        None: it was not moved in that session.

    Raises:
        ParameterServerError: what the run says of itself is damaged.
        OSError: from the file system.
    """
    if not folder.exists():
        return None
    said = _run(folder) or {}
    moved = said.get("moved")
    if not isinstance(moved, dict) or moved.get("session") != (session or session_in(folder)):
        return None
    return int(moved["from"]), int(said["server_num"])


def said_of(mine: Identity, run: str, place: str | None = None) -> dict[str, Any]:
    """What `run.json` says of a run; as for `write_run`."""
    said: dict[str, Any] = {"format": FORMAT, "run": run, **dataclasses.asdict(mine)}
    if place is not None:
        said |= {"format": RESIZED_FORMAT, "folder": place}
    return said


def check_servers(folder: Path, run: str, count: int) -> None:
    """As `check_server`, for all servers of the run in a folder."""
    place = servers_place(folder)
    if place != folder and place.is_dir():
        own(place)
    for server in range(count):
        check_server(place / f"server-{server}", run, server)


def _run(folder: Path) -> Mapping[str, Any] | None:
    """What the run in a folder says of itself; None: nothing."""
    said = marks.read(folder / RUN)
    while said is not None:
        found = moves.current(folder, said)
        again = marks.read(folder / RUN)
        if again == said:  # or what it has taken over may have been removed meanwhile
            return worker_files.current(folder, found)
        said = again
    return None
