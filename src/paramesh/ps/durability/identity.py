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

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import write_atomically
from paramesh.files.ownership import own_folder
from paramesh.ps.durability import moves, worker_files
from paramesh.ps.durability.log import read_log
from paramesh.ps.durability.run_lock import session_in
from paramesh.ps.durability.snapshot import read_snapshot, snapshots
from paramesh.ps.specification.partition import LEAST, SHARDS, Partition
from paramesh.ps.specification.protocol import MODES
from paramesh.ps.specification.specs import owner_of

#: Of `run.json`: as a run begins, and once its number of servers was changed.
FORMAT, RESIZED_FORMAT = 1, 2
RUN, SERVER = "run.json", "server.json"
_SERVER_FOLDER = re.compile(r"server-(\d+)")
_RESIZED_FOLDER = re.compile(r"resized-(\d+)")

#: What a run keeps as long as its folder, by name in the file: what it is called in messages.
_KEPT = {
    "server_num": "server_num",
    "shards": "virtual shards",
    "least": "elements of a range",
    "worker_num": "worker_num",
    "mode": "mode",
    "staleness": "staleness",
}
_ELSEWHERE = (
    "To change these settings, save a checkpoint with the former ones, and load it into a run with "
    "a new wal_dir."
)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is by its settings.

    Attributes:
        server_num: how many servers.
        worker_num: how many push in each step.
        mode: "sync", "stale" or "async".
        staleness: in stale mode; otherwise 0.
        shards, least: how Parameters are partitioned, see `partition`.
    """

    server_num: int
    worker_num: int = 1
    mode: str = "sync"
    staleness: int = 0
    shards: int = SHARDS
    least: int = LEAST


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
    if not isinstance(name, str) or not _RESIZED_FOLDER.fullmatch(name):
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
    said = _said(folder / RUN)
    if said is not None:
        now = moves.current(folder, said)
        if now is not said:
            _write(folder / RUN, dict(now))
    moves.clear(folder)


def left_over(folder: Path) -> list[Path]:
    """Folders in that of a run that have no servers of it: of former ones, or of no run yet."""
    place = servers_place(folder)
    found: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            former = place != folder and _SERVER_FOLDER.fullmatch(entry.name)
            resized = entry.name != place.name and _RESIZED_FOLDER.fullmatch(entry.name)
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
        _check_former(folder, mine)
        return None
    if theirs.get("format") not in (FORMAT, RESIZED_FORMAT):
        raise _other_format(folder, theirs)
    _identity(folder, theirs)
    if mine.worker_num == theirs.get("workers_before"):
        theirs = {**theirs, "worker_num": mine.worker_num}
    _compare(folder, dataclasses.asdict(mine), theirs)
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


def write_server(place: Path, run: str, server: int) -> None:
    """Write into its folder which server of which run a server is."""
    _write(place / SERVER, {"run": run, "server": server})


def write_run(folder: Path, mine: Identity, run: str, place: str | None = None) -> None:
    """Write down what a run is, all at once: it is that from then on.

    Args:
        folder: of the run.
        mine: what it is.
        run: its name.
        place: the name of the folder in it that has the servers'; None: the folder itself.
    """
    _write(folder / RUN, said_of(mine, run, place))


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
    said = _said(place / SERVER)
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


def _compare(folder: Path, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    wrong = [key for key in _KEPT if theirs.get(key) != mine[key]]
    if wrong:
        said = ", ".join(f"{_KEPT[key]}={theirs.get(key)!r}" for key in wrong)
        asked = ", ".join(f"{_KEPT[key]}={mine[key]!r}" for key in wrong)
        raise ParameterServerError(
            f"'{folder}' has a run with {said}, but this start requests {asked}. These cannot "
            f"change during a run: start it again with {said}. {_remedy(folder, mine, wrong)}"
        )


def _remedy(folder: Path, mine: Mapping[str, Any], wrong: list[str]) -> str:
    place = shlex.quote(str(folder))
    said = {
        "server_num": f"`paramesh ps resize {place} --servers {mine['server_num']}`",
        "worker_num": f"`paramesh ps workers {place} --workers {mine['worker_num']}`",
    }
    ways = [f"To change {key}, run {way}." for key, way in said.items() if key in wrong]
    others = [key for key in wrong if key not in said]
    return " ".join([*ways, *([_ELSEWHERE] if others else [])])


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


def _run(folder: Path) -> Mapping[str, Any] | None:
    """What the run in a folder says of itself; None: nothing."""
    said = _said(folder / RUN)
    while said is not None:
        found = moves.current(folder, said)
        again = _said(folder / RUN)
        if again == said:  # or what it has taken over may have been removed meanwhile
            return worker_files.current(folder, found)
        said = again
    return None


def _said(path: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ParameterServerError(f"'{path}' is damaged: restore the wal_dir from a backup.")
    return said


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content) + "\n").encode())
    path.chmod(0o600)


# Runs from before there was a `run.json`.


def _check_former(folder: Path, mine: Identity) -> None:
    there: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _RESIZED_FOLDER.fullmatch(entry.name):
                raise ParameterServerError(
                    f"'{folder / RUN}' is missing, although the run in '{folder}' has servers: it "
                    f"was removed. Restore it, or the complete wal_dir, from a backup."
                )
            found = _SERVER_FOLDER.fullmatch(entry.name)
            if found is not None:
                own(Path(entry.path))
                if _has_begun(Path(entry.path)):
                    there[int(found[1])] = Path(entry.path)
    if not there:
        return
    count = max(there) + 1
    missing = sorted(set(range(count)) - set(there))
    if missing:
        raise ParameterServerError(
            f"'{folder}' has a folder of server {max(there)}, but none, or an empty one, for "
            f"server {missing[0]}. Restore the complete wal_dir, or remove it and start from a "
            f"checkpoint."
        )
    if count != mine.server_num:
        theirs = dataclasses.asdict(mine) | {"server_num": count}
        _compare(folder, dataclasses.asdict(mine), theirs)
    partition = Partition(count)
    pieces: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for server, place in there.items():
        for kind, said in _facts(place):
            if kind == "rules":
                _compare_rules(folder, mine, said)
            elif kind == "ids":
                name, ids = said
                elsewhere = np.flatnonzero(partition.servers_of_rows(np.asarray(ids)) != server)
                if len(elsewhere):
                    raise _misplaced(place, f"row {ids[elsewhere[0]]} of '{name}'", server, count)
            elif said.get("kind") == "dense":
                pieces.setdefault(owner_of(said), []).append((server, said))
    for name, found in pieces.items():
        # The full length is not written down: as far as the last piece goes.
        size = max(said.get("offset", 0) + said["shape"][0] for _, said in found)
        expected = {(part.server, part.name) for part in partition.pieces(name, size)}
        for server, said in found:
            if (server, said["name"]) not in expected:
                raise _misplaced(there[server], f"'{said['name']}'", server, count)


def _has_begun(place: Path) -> bool:
    names = os.listdir(place)
    return any(name.startswith(("log-", "snapshot-", "incarnation")) for name in names)


def _facts(place: Path) -> Iterator[tuple[str, Any]]:
    """What can be compared: ("rules", meta), ("spec", spec), and once ("ids", (name, ids))."""
    number = 0
    listed = snapshots(place)
    # What cannot be read is for the server to say: it may have an older snapshot.
    with contextlib.suppress(ParameterServerError):
        if listed:
            number = listed[0].number
            meta, pieces = read_snapshot(listed[0])
            yield "rules", meta
            for said, arrays in pieces:
                if "spec" in said:
                    yield "spec", said["spec"]
                elif "ids" in arrays:
                    yield "ids", (said["name"], arrays["ids"])
    with contextlib.suppress(ParameterServerError):
        for record in read_log(place, number, arrays=False):
            kind = record.meta.get("kind")
            if kind == "rules":
                yield "rules", record.meta
            for spec in record.meta.get("specs", ()) if kind == "declare" else ():
                yield "spec", spec
    with contextlib.suppress(ParameterServerError):
        for record in read_log(place, number):
            tables = {k: a for k, a in record.arrays.items() if k.partition("/")[0] == "ids"}
            if record.meta.get("kind") == "update" and tables:
                for key, ids in tables.items():
                    yield "ids", (key.partition("/")[2], ids)
                return


def _compare_rules(folder: Path, mine: Identity, said: Mapping[str, Any]) -> None:
    names = {"worker_num": "workers", "mode": "mode", "staleness": "staleness"}
    asked = dataclasses.asdict(mine)
    theirs = asked | {key: said[name] for key, name in names.items() if name in said}
    _compare(folder, asked, theirs)


def _misplaced(place: Path, what: str, server: int, count: int) -> ParameterServerError:
    return ParameterServerError(
        f"'{place}' has {what}, which does not belong to server {server} of {count}: folders were "
        "exchanged, the run had another server_num, or its network another shape at some time. "
        f"Restore the names of the folders, and start with the former server_num. {_ELSEWHERE}"
    )
