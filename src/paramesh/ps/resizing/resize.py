"""Give a run that is at rest another number of servers.

Virtual shards move complete, as `partition` says: rows and elements with their optimizer state, the
versions that workers may still read, which rows exist and which are being counted, and what servers
know of the workers. The run goes on as one that had that number of servers from its beginning.

The new folders are built beside the former ones. One rename, of `run.json`, moves the run to them:
until then it is the former run, from then on the new one. What a killed `resize` leaves is removed
by the next one.

The memory is that of one former server's share, and of a few blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import directory_to_disk
from paramesh.files.ownership import followed
from paramesh.ps.durability import identity, whose_folder
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.at_rest import at_rest
from paramesh.ps.resizing.build import (
    Point,
    Resized,
    build,
    new_name,
    remove,
    version_of,
    with_servers,
)
from paramesh.ps.specification.partition import Partition


def resize(
    wal_dir: str | os.PathLike[str],
    servers: int,
    out: str | os.PathLike[str] | None = None,
    *,
    point: Point = lambda name: None,
) -> Resized:
    """Give a run that is at rest another number of servers.

    Servers of a run that was killed may be at different versions: all go back to the one that its
    workers would go on from.

    Args:
        wal_dir: the folder of the run.
        servers: how many servers it gets, 1 to 256; as many as it has: nothing but leftovers of a
            killed `resize` is changed.
        out: a folder for the run with that number; `wal_dir` then stays as it is. It must not
            exist, or be empty.
        point: called with the name of every point that is reached.

    Raises:
        ValueError: a number of servers that there cannot be.
        RunTaken: somebody has the run (see `live`).
        ParameterServerError: it is not the folder of a run; its files are damaged, or it was begun
            by an earlier version of paramesh.
        FileExistsError: `out` is there.
        NotADirectoryError: a folder above `out` is a file.
        OSError: from the file system. The run is as it was.
    """
    try:
        folder = followed(Path(os.path.abspath(wal_dir)))
        mine = identity.read(folder)
        whose_folder.own(folder)
    except OSError as error:
        raise ParameterServerError(
            f"wal_dir='{wal_dir}' cannot be read: {error.strerror or error}"
        ) from error
    after = Partition(servers, mine.shards)
    target = None if out is None else Path(os.path.abspath(out))
    if target is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"'{target}' exists, and is not an empty folder.")
    if target is not None:
        above = next(parent for parent in target.parents if parent.exists())
        if not above.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR, f"'{above}' is a file, so that no folder can be in it", str(target)
            )
    with at_rest(folder, "servers"):
        point("locked")
        identity.settle(folder)
        mine = identity.read(folder)  # it may have been resized meanwhile
        identity.check(folder, mine)
        for left in identity.left_over(folder):
            remove(left, point)
        if target is None and mine.server_num == servers:
            return Resized(folder, servers, servers, version_of(folder, mine), {})
        if target is None:
            return _in_place(folder, mine, after, point)
        return _copied(folder, mine, after, target, point)


def _in_place(folder: Path, mine: Identity, after: Partition, point: Point) -> Resized:
    place = identity.next_place(folder)
    run = new_name(folder)
    try:
        whose_folder.own(place, make=True)
        version, rows = build(folder, mine, place, run, after, point)
        directory_to_disk(place)
        directory_to_disk(folder)
        point("built")
        identity.write_run(folder, with_servers(mine, after), run, place.name)
    except Exception:
        if identity.servers_place(folder) != place:  # the rename may have been done all the same
            shutil.rmtree(place, ignore_errors=True)
        raise
    point("moved")
    for left in identity.left_over(folder):
        with contextlib.suppress(OSError):  # the run is not there any more: the next time
            remove(left, point)
    return Resized(folder, mine.server_num, after.servers, version, rows)


def _copied(folder: Path, mine: Identity, after: Partition, target: Path, point: Point) -> Resized:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it is there in full or not at all.
    place = target.with_name(f".{target.name}.{secrets.token_hex(4)}.resizing")
    run = new_name(folder)
    try:
        whose_folder.own(place, make=True)
        version, rows = build(folder, mine, place, run, after, point)
        identity.write_run(place, with_servers(mine, after), run)
        directory_to_disk(place)
        point("built")
        place.rename(target)
    except Exception:
        shutil.rmtree(place, ignore_errors=True)
        raise
    directory_to_disk(target.parent)
    point("moved")
    return Resized(target, mine.server_num, after.servers, version, rows)
