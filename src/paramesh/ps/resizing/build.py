"""Build the folders of another number of servers from those that a run had.

Virtual shards move complete, as `partition` says: rows and elements with their optimizer state, the
versions that workers may still read, which rows exist and which are being counted, and what servers
know of the workers.

The memory is that of one former server's share, and of a few blocks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, whose_folder
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.plan import make_plan
from paramesh.ps.resizing.sources import (
    Cut,
    NotYet,
    Source,
    check_saves,
    common_cut,
    merged_saves,
    merged_workers,
)
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


def with_servers(mine: Identity, after: Partition) -> Identity:
    """What a run is with another number of servers."""
    return dataclasses.replace(mine, server_num=after.servers)


def new_name(folder: Path) -> str:
    """A name for a run with another number of servers."""
    # Another one: a folder of a server from a backup of the former run is recognised by it.
    said = f"{identity.run_name(folder)}\n{secrets.token_hex(8)}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def remove(folder: Path, point: Point) -> None:
    """Remove a folder that is left over."""
    shutil.rmtree(folder)
    point("removed")


def sources_of(folder: Path, mine: Identity) -> tuple[list[Source], RunConfig]:
    """The servers of a run, and what they agree on."""
    config = RunConfig(mine.worker_num, mine.mode, mine.staleness)
    places = [identity.server_folder(folder, number) for number in range(mine.server_num)]
    return [Source(place, config) for place in places], config


def version_of(folder: Path, mine: Identity) -> int:
    """The version that its workers would go on from."""
    return common_cut(*sources_of(folder, mine)).version


def build(
    folder: Path,
    mine: Identity,
    place: Path,
    run: str,
    after: Partition,
    point: Point,
    *,
    live: bool = False,
) -> tuple[int, dict[str, int]]:
    """Write the folders of the new servers.

    Args:
        folder: of the run.
        mine: what it is.
        place: the folder that has the new servers'; this process's alone.
        run: the name of the run with them.
        after: the partition over them.
        point: called with the name of every point that is reached.
        live: its workers go on: they still wait for what the servers have saved.

    Returns:
        The version, and the rows of the tables.

    Raises:
        NotYet: `live`, and a checkpoint is being written; or a push that only some servers have
            cannot be left out.
        ParameterServerError: files are damaged.
        OSError: from the file system.
    """
    sources, config = sources_of(folder, mine)
    if live:
        check_saves(sources)
    before = Partition(mine.server_num, mine.shards)

    def attempt() -> tuple[int, dict[str, int]]:
        return _written(sources, config, _Order(folder, place, run, before, after), point, live)

    try:
        return attempt()
    except NotYet:
        raise
    except ParameterServerError:
        if not any([source.look_at_arrays() for source in sources]):
            raise
        shutil.rmtree(place)
        whose_folder.own(place, make=True)
        return attempt()


class _Order(NamedTuple):
    """What is wanted: see `build`."""

    folder: Path
    place: Path
    run: str
    before: Partition
    after: Partition


def _written(
    sources: list[Source], config: RunConfig, order: _Order, point: Point, live: bool
) -> tuple[int, dict[str, int]]:
    folder, place, run, before, after = order
    cut = common_cut(sources, config)
    plan = make_plan(folder, [source.facts(cut) for source in sources], before, after)
    meta = {
        "mode": config.mode,
        "staleness": config.staleness,
        "version": cut.base,
        **merged_workers(sources, cut, live=live),
    }
    if live:
        meta["saves"] = merged_saves(sources)
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
    # The later versions are copied as updates. Here they only say how many rows there are.
    for record in source.window(cut):
        server.replay(record)
    targets.count(server.store.stats())
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
