"""The files of the new servers: a snapshot of the base, and the updates of the window as a log.

A new server starts from them as from its own. What a former server has comes in pieces of a
snapshot view; only a piece is copied at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import directory_to_disk, write_atomically
from paramesh.ps.durability import whose_folder
from paramesh.ps.durability.log import Log
from paramesh.ps.durability.record import (
    Array,
    Record,
    arrays_to_updates,
    encoded,
    updates_to_arrays,
)
from paramesh.ps.durability.snapshot import snapshot_path
from paramesh.ps.durability.snapshot_view import Piece
from paramesh.ps.resizing.plan import Plan, overlaps
from paramesh.ps.server.row_life import LATEST
from paramesh.ps.specification.partition import Partition

#: The first record of the log; what was before it is in the snapshot.
_FIRST = 1
#: So many candidates are written at once.
_CANDIDATES = 1 << 16
#: Bytes that are collected for a file before they are written.
_BUFFER = 1 << 16


class _SnapshotFile:
    """A snapshot that is written piece by piece, in a folder that nobody uses yet."""

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self._file = path.open("xb", buffering=_BUFFER)
        path.chmod(0o600)
        self._count = 0
        self.add(meta, {})

    def add(self, said: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Write one piece."""
        for batch in encoded(self._count, said, arrays):
            for buffer in batch:
                self._file.write(buffer)
        self._count += 1

    def finish(self) -> None:
        """Write the last record, and bring the file to the disk."""
        self.add({"end": self._count}, {})
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        self._file.close()


class Targets:
    """The folders of the new servers.

    Args:
        place: the folder that has theirs; new, and nobody else's.
        run: the name of the run.
        after: the partition over the new servers.
        plan: what they have.
        meta: of their snapshots, but for what each has.
        incarnation: of the servers so far; the highest.

    Attributes:
        rows: of the tables, by name.
    """

    def __init__(
        self,
        place: Path,
        run: str,
        after: Partition,
        plan: Plan,
        meta: Mapping[str, Any],
        incarnation: int,
    ) -> None:
        self._after = after
        self._plan = plan
        self._incarnation = incarnation + 1
        self._folders = [place / f"server-{number}" for number in range(after.servers)]
        self._files: list[_SnapshotFile] = []
        self._begun: set[tuple[int, str]] = set()
        self._accounts: dict[str, list[Mapping[str, Array]]] = {}
        self.rows: dict[str, int] = {}
        for number, folder in enumerate(self._folders):
            whose_folder.own(folder, make=True)
            whose_folder.write_server(folder, run, number)
            counter = folder / "incarnation"
            write_atomically(counter, f"{self._incarnation}\n".encode())
            counter.chmod(0o600)
            mine = {"valued": plan.names(number, plan.valued)}
            mine |= {"given": plan.names(number, plan.given)}
            path = snapshot_path(folder, _FIRST, meta["version"])
            self._files.append(_SnapshotFile(path, {**meta, **mine}))

    def add(self, pieces: Iterable[Piece]) -> None:
        """Write what one former server has (see `SnapshotView.pieces`)."""
        for said, fields in pieces:
            name = said["spec"]["name"] if "spec" in said else said["name"]
            if name not in self._plan.owners:
                continue
            owner, start = self._plan.owners[name]
            if "spec" in said:
                self._declare(owner, said.get("rows", 0))
            elif "at" in said:
                self._add_elements(owner, start + said["at"], fields)
            elif "ids" in fields:
                self._add_rows(owner, fields)
            else:
                self._add_life(owner, fields)

    def _declare(self, name: str, rows: int) -> None:
        for number, (file, specs) in enumerate(
            zip(self._files, self._plan.specs[name], strict=True)
        ):
            for spec in specs:
                more = {"rows": -(-rows // self._after.servers)} if spec["kind"] == "rows" else {}
                # Of a table once for each former server, as room for its rows.
                if more or (number, spec["name"]) not in self._begun:
                    file.add({"spec": spec, **more}, {})
                    self._begun.add((number, spec["name"]))

    def _add_elements(self, name: str, start: int, fields: Mapping[str, Array]) -> None:
        size = self._plan.sizes[name]
        kept = dict(fields)
        recipe = next(spec["recipe"] for mine in self._plan.specs[name] for spec in mine)
        if name not in self._plan.valued and recipe is None:
            kept.pop("value", None)  # only some servers have values: they are sent again
        if not kept:
            return
        stop = start + len(next(iter(kept.values())))
        for piece, part, at in overlaps(self._after.pieces(name, size), start, stop):
            mine = {field: values[part] for field, values in kept.items()}
            self._files[piece.server].add({"name": piece.name, "at": at}, mine)

    def _add_rows(self, name: str, fields: Mapping[str, Array]) -> None:
        for file, places in zip(self._files, self._after.split_rows(fields["ids"]), strict=True):
            if len(places):
                file.add({"name": name}, {field: rows[places] for field, rows in fields.items()})

    def _add_life(self, name: str, fields: Mapping[str, Array]) -> None:
        met = {k: fields[k] for k in ("candidates", "meetings", "met_last") if k in fields}
        for first in range(0, len(met.get("candidates", ())), _CANDIDATES):
            some = {field: array[first : first + _CANDIDATES] for field, array in met.items()}
            parts = self._after.split_rows(some["candidates"])
            for file, places in zip(self._files, parts, strict=True):
                if len(places):
                    file.add({"name": name}, {f: array[places] for f, array in some.items()})
        if "offset" in fields:  # the same on all former servers
            for file in self._files:
                file.add({"name": name}, {"offset": fields["offset"]})
        if "account" in fields:
            self._accounts.setdefault(name, []).append(
                {field: fields[field].copy() for field in ("account", "admitted", "dropped")}
            )

    def count(self, stats: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the rows that a former server has at the end (see `Store.stats`)."""
        for name, said in stats.items():
            if said["kind"] == "rows" and name in self._plan.owners:
                owner, _ = self._plan.owners[name]
                self.rows[owner] = self.rows.get(owner, 0) + said["rows"]

    def finish(self) -> None:
        """End the snapshots and bring them to the disk."""
        for name, accounts in self._accounts.items():
            self._add_accounts(name, accounts)
        for file in self._files:
            file.finish()

    def _add_accounts(self, name: str, accounts: Sequence[Mapping[str, Array]]) -> None:
        """The latest events go with their ids; the counts, of which only the sum says something, to
        the first server.
        """
        counts = np.sum([account["account"] for account in accounts], axis=0)
        events: dict[str, Array] = {}
        for field in ("admitted", "dropped"):
            found = np.concatenate([account[field] for account in accounts])
            events[field] = found[np.argsort(found[:, 0], kind="stable")]
        for number, file in enumerate(self._files):
            mine: dict[str, Array] = {"account": counts if number == 0 else np.zeros_like(counts)}
            for field, found in events.items():
                home = self._after.servers_of_rows(found[:, 1])
                mine[field] = found[home == number][-LATEST:]
            file.add({"name": name}, mine)

    def log(self, number: int) -> Log:
        """The log of a new server, which has no record yet; to be closed."""
        return Log(self._folders[number], self._incarnation, _FIRST, fsync=True)

    def to_disk(self) -> None:
        """Bring the folders to the disk."""
        for folder in self._folders:
            directory_to_disk(folder)

    def close(self) -> None:
        """Close all files; what is incomplete stays so."""
        for file in self._files:
            file.close()


def merged_update(
    number: int, records: Iterable[Record], before: Partition, after: Partition, plan: Plan
) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a new server has of one update, as a record's meta and arrays.

    Args:
        number: of the new server.
        records: the same update of the former servers, in order; one is held at a time.
        before: the partition over the former servers.
        after: the one over the new ones.
        plan: what the new servers have.

    Raises:
        ParameterServerError: the records are not of one update.
    """
    meta: dict[str, Any] | None = None
    rows: dict[str, list[dict[str, Array]]] = {}
    dense: dict[str, Array] = {}
    filled: dict[str, int] = {}
    for record in records:
        said = {key: record.meta[key] for key in ("kind", "version", "hyper")}
        if meta is not None and meta != said:
            raise ParameterServerError(
                f"two servers have different updates of version {said['version']}: restore the "
                f"wal_dir from a backup."
            )
        meta = said
        for name, update in arrays_to_updates(record.arrays).items():
            if name not in plan.owners:
                raise ParameterServerError(
                    f"the update of version {said['version']} refers to '{name}', which not every "
                    f"server has: restore the wal_dir from a backup."
                )
            owner, start = plan.owners[name]
            grad = update["grad"]
            if "ids" in update:
                mine = after.split_rows(update["ids"])[number]
                rows.setdefault(owner, []).append({"ids": update["ids"][mine], "grad": grad[mine]})
                continue
            grad = grad.reshape(-1)
            pieces = after.pieces(owner, plan.sizes[owner])
            for piece, part, at in overlaps(pieces, start, start + len(grad)):
                if piece.server == number:
                    length = piece.stop - piece.start
                    target = dense.setdefault(piece.name, np.empty(length, grad.dtype))
                    target[at : at + part.stop - part.start] = grad[part]
                    filled[piece.name] = filled.get(piece.name, 0) + part.stop - part.start
    assert meta is not None
    short = [name for name, count in filled.items() if count != len(dense[name])]
    short += [name for name, parts in rows.items() if len(parts) != before.servers]
    if short:
        raise ParameterServerError(
            f"only some servers have the update of version {meta['version']} of '{short[0]}': "
            f"restore the wal_dir from a backup."
        )
    updates: dict[str, dict[str, Array]] = {name: {"grad": grad} for name, grad in dense.items()}
    for name, parts in rows.items():
        ids = np.concatenate([part["ids"] for part in parts])
        order = np.argsort(ids)
        grad = np.concatenate([part["grad"] for part in parts])
        updates[name] = {"ids": ids[order], "grad": grad[order]}
    return meta, updates_to_arrays(updates)
