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
import dataclasses
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import directory_to_disk
from paramesh.files.ownership import followed
from paramesh.ps.durability import identity
from paramesh.ps.durability.identity import Identity
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.run_lock import RunLock, resizing
from paramesh.ps.resizing.plan import make_plan
from paramesh.ps.resizing.sources import Cut, Source, common_cut, merged_workers
from paramesh.ps.resizing.targets import Targets, merged_update
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import RunConfig

Point = Callable[[str], None]


class Resized(NamedTuple):
    """What was done.

    Attributes:
        path: the folder of the run that has the new number of servers.
        before, after: how many servers there were, and are.
        version: of the values; in async mode how many pushes there are.
        rows: of each table, by name.
    """

    path: Path
    before: int
    after: int
    version: int
    rows: dict[str, int]


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
        ParameterServerError: it is not the folder of a run, or somebody has the run; its files are
            damaged, or it was begun by an earlier version of paramesh.
        FileExistsError: `out` is there.
        OSError: from the file system. The run is as it was.
    """
    try:
        folder = followed(Path(os.path.abspath(wal_dir)))
        mine = identity.read(folder)
        identity.own(folder)
    except OSError as error:
        raise ParameterServerError(
            f"wal_dir='{wal_dir}' cannot be read: {error.strerror or error}"
        ) from error
    after = Partition(servers, mine.shards)
    target = None if out is None else Path(os.path.abspath(out))
    if target is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"'{target}' exists, and is not an empty folder.")
    with _locked(folder):
        point("locked")
        mine = identity.read(folder)  # it may have been resized meanwhile
        identity.check(folder, mine)
        for left in identity.left_over(folder):
            _remove(left, point)
        if target is None and mine.server_num == servers:
            return Resized(folder, servers, servers, _version(folder, mine), {})
        if target is None:
            return _in_place(folder, mine, after, point)
        return _copied(folder, mine, after, target, point)


def _in_place(folder: Path, mine: Identity, after: Partition, point: Point) -> Resized:
    place = identity.next_place(folder)
    run = _new_name(folder)
    try:
        identity.own(place, make=True)
        version, rows = _build(folder, mine, place, run, after, point)
        directory_to_disk(place)
        directory_to_disk(folder)
        point("built")
        identity.write_run(folder, _with(mine, after), run, place.name)
    except Exception:
        if identity.servers_place(folder) != place:  # the rename may have been done all the same
            shutil.rmtree(place, ignore_errors=True)
        raise
    point("moved")
    for left in identity.left_over(folder):
        with contextlib.suppress(OSError):  # the run is not there any more: the next time
            _remove(left, point)
    return Resized(folder, mine.server_num, after.servers, version, rows)


def _copied(folder: Path, mine: Identity, after: Partition, target: Path, point: Point) -> Resized:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it is there in full or not at all.
    place = target.with_name(f".{target.name}.{secrets.token_hex(4)}.resizing")
    run = _new_name(folder)
    try:
        identity.own(place, make=True)
        version, rows = _build(folder, mine, place, run, after, point)
        identity.write_run(place, _with(mine, after), run)
        directory_to_disk(place)
        point("built")
        place.rename(target)
    except Exception:
        shutil.rmtree(place, ignore_errors=True)
        raise
    directory_to_disk(target.parent)
    point("moved")
    return Resized(target, mine.server_num, after.servers, version, rows)


def _with(mine: Identity, after: Partition) -> Identity:
    return dataclasses.replace(mine, server_num=after.servers)


def _new_name(folder: Path) -> str:
    # Another one: a folder of a server from a backup of the former run is recognised by it.
    said = f"{identity.run_name(folder)}\n{secrets.token_hex(8)}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _remove(folder: Path, point: Point) -> None:
    shutil.rmtree(folder)
    point("removed")


def _sources(folder: Path, mine: Identity) -> tuple[list[Source], RunConfig]:
    config = RunConfig(mine.worker_num, mine.mode, mine.staleness)
    places = [identity.server_folder(folder, number) for number in range(mine.server_num)]
    return [Source(place, config) for place in places], config


def _version(folder: Path, mine: Identity) -> int:
    return common_cut(*_sources(folder, mine)).version


def _build(
    folder: Path, mine: Identity, place: Path, run: str, after: Partition, point: Point
) -> tuple[int, dict[str, int]]:
    """Write the folders of the new servers; the version, and the rows of the tables."""
    sources, config = _sources(folder, mine)
    cut = common_cut(sources, config)
    before = Partition(mine.server_num, mine.shards)
    plan = make_plan(folder, [source.facts(cut) for source in sources], before, after)
    meta = {
        "workers": config.workers,
        "mode": config.mode,
        "staleness": config.staleness,
        "version": cut.base,
        **merged_workers(sources, cut),
    }
    latest = max(source.incarnation for source in sources)
    targets = Targets(place, run, after, plan, meta, latest)
    try:
        point("begun")
        for source in sources:
            _copy_state(source, cut, targets)
            point("copied")
        targets.finish()
        point("snapshots")
        for number in range(after.servers):
            log = targets.log(number)
            try:
                for records in _updates(sources, cut):
                    log.append(*merged_update(number, records, before, after, plan))
            finally:
                log.close()
            point("log")
        targets.to_disk()
    finally:
        targets.close()
    return cut.version, targets.rows


def _copy_state(source: Source, cut: Cut, targets: Targets) -> None:
    server = source.state(cut)
    view = server.store.view()
    try:
        targets.add(view.pieces())
    finally:
        view.release()
        server.clear()


def _updates(sources: list[Source], cut: Cut) -> Iterator[Iterator[Record]]:
    """Of each update of the window the records of all sources, one read at a time."""
    windows = [source.window(cut) for source in sources]
    for version in range(cut.base, cut.version):
        yield (_next(window, version) for window in windows)


def _next(window: Iterator[Record], version: int) -> Record:
    record = next(window, None)
    if record is None or record.meta["version"] != version:
        raise ParameterServerError(
            f"the log of a server lacks the update of version {version}: restore the wal_dir from "
            f"a backup."
        )
    return record


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Have the run, so that neither a launcher nor a worker can start it."""
    place = resizing(folder)
    place.take()
    lock = RunLock(folder)
    try:
        try:
            lock.take(f"resize/{secrets.token_hex(8)}")
            lock.settle()
        except ParameterServerError as error:
            raise ParameterServerError(
                f"the number of servers can be changed only while no process has the run: {error}"
            ) from None
        lock.hold()
        yield
    finally:
        lock.release()
        place.release()
