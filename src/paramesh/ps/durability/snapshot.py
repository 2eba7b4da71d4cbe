"""A server's state in one file, so that its log need not be kept from the beginning.

A snapshot is written beside its place, brought to the disk and renamed: it is there in full or
not at all. Its last record counts the others. A server must be able to read some versions back, so
a snapshot is used only if the log goes on for as many updates behind it; until then the one before
it is. That is why two are kept, and the log since the older one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import AtomicFile
from paramesh.ps.durability.record import Record, encoded, read_records
from paramesh.ps.durability.snapshot_view import Piece


class Snapshot(NamedTuple):
    """A snapshot by its name.

    Attributes:
        number: of the first record of the log that is not in it.
        version: of the server.
        path: of the file.
    """

    number: int
    version: int
    path: Path


def snapshots(folder: Path) -> list[Snapshot]:
    """Those of a folder, the newest first."""
    found: list[Snapshot] = []
    for path in folder.glob("snapshot-*.bin"):
        _, number, version = path.stem.split("-")
        found.append(Snapshot(int(number), int(version), path))
    return sorted(found, reverse=True)


def snapshot_path(folder: Path, number: int, version: int) -> Path:
    """Where a snapshot is (see `Snapshot`)."""
    return folder / f"snapshot-{number:016d}-{version:012d}.bin"


def write_snapshot(
    folder: Path,
    number: int,
    version: int,
    meta: dict[str, Any],
    pieces: Iterable[Piece],
) -> Snapshot:
    """Write a snapshot; `pieces` as from `SnapshotView.pieces`.

    Raises:
        OSError: from the file system; no file remains.
    """
    target = snapshot_path(folder, number, version)
    file = AtomicFile(target)
    try:
        end = count = 0
        for said, arrays in itertools.chain([(meta, {})], pieces):
            for batch in encoded(count, said, arrays):
                end = file.write_at(end, *batch)
            count += 1
        for batch in encoded(count, {"end": count}, {}):
            end = file.write_at(end, *batch)
        file.commit()
    except BaseException:
        file.discard()
        raise
    target.chmod(0o600)  # the folder is closed to others too
    return Snapshot(number, version, target)


def read_snapshot(
    snapshot: Snapshot, *, arrays: bool = True
) -> tuple[dict[str, Any], Iterator[Piece]]:
    """Meta and pieces of a snapshot.

    Args:
        snapshot: which.
        arrays: whether to read (and check) the arrays; without, pieces have none.

    Raises:
        ParameterServerError: the file is damaged; the pieces may raise it at their end.
    """
    records = read_records(snapshot.path, arrays=arrays)
    first = next(records, None)
    if first is None or first.number != 0:
        raise _damaged(snapshot)
    return first.meta, _pieces(snapshot, records)


def _pieces(snapshot: Snapshot, records: Iterator[Record]) -> Iterator[Piece]:
    for count, record in enumerate(records, start=1):
        if record.number != count or record.meta.get("end", count) != count:
            break
        if "end" in record.meta:
            return
        yield record.meta, record.arrays
    raise _damaged(snapshot)


def _damaged(snapshot: Snapshot) -> ParameterServerError:
    return ParameterServerError(f"the snapshot '{snapshot.path}' is not complete.")


def drop_snapshots(folder: Path, behind: int) -> Snapshot | None:
    """Remove the snapshots that recovery will not need.

    Args:
        folder: of the server.
        behind: how many versions a server must be able to read back.

    Returns:
        The oldest that is kept, if the log before it is not needed either.
    """
    kept: list[Snapshot] = []
    for snapshot in snapshots(folder):
        if _enough(kept, behind):
            snapshot.path.unlink(missing_ok=True)
        else:
            kept.append(snapshot)
    return kept[-1] if _enough(kept, behind) else None


def _enough(kept: list[Snapshot], behind: int) -> bool:
    # The older one has to give the versions that the newest one may have to be read back to.
    return len(kept) >= 2 and kept[-1].version <= max(0, kept[0].version - behind)
