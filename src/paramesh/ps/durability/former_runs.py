"""Runs from before there was a `run.json`: whether what is in their logs fits the settings."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import read_log
from paramesh.ps.durability.run_settings import ELSEWHERE, Identity, compare
from paramesh.ps.durability.snapshot import read_snapshot, snapshots
from paramesh.ps.durability.whose_folder import (
    RESIZED_FOLDER,
    RUN,
    SERVER,
    SERVER_FOLDER,
    own,
)
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.specs import owner_of


def check_former(folder: Path, mine: Identity) -> None:
    """Raise ParameterServerError unless what is in a folder can be a run with these settings.

    Args:
        folder: has no `run.json`.
        mine: the run that wants to start.
    """
    there: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if RESIZED_FOLDER.fullmatch(entry.name):
                raise ParameterServerError(
                    f"'{folder / RUN}' is missing, although the run in '{folder}' has servers: it "
                    f"was removed. Restore it, or the complete wal_dir, from a backup."
                )
            found = SERVER_FOLDER.fullmatch(entry.name)
            if found is not None:
                own(Path(entry.path))
                if _has_begun(Path(entry.path)):
                    _check_nameless(folder, Path(entry.path))
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
        compare(folder, dataclasses.asdict(mine), theirs)
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


def _check_nameless(folder: Path, place: Path) -> None:
    """Raise ParameterServerError for a folder of a run that has, or had, a `run.json`.

    Of a copy of some servers' folders the number of servers cannot be told: it would go on without
    the rows of the others.
    """
    if (place / SERVER).exists():
        raise ParameterServerError(
            f"'{folder / RUN}' is missing, and the server of '{place}' has written for a run: only "
            f"a part of its wal_dir was copied here, or {RUN} was removed. Restore the complete "
            "wal_dir, or start with an empty one and load a checkpoint."
        )


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
    compare(folder, asked, theirs)


def _misplaced(place: Path, what: str, server: int, count: int) -> ParameterServerError:
    return ParameterServerError(
        f"'{place}' has {what}, which does not belong to server {server} of {count}: folders were "
        "exchanged, the run had another server_num, or its network another shape at some time. "
        f"Restore the names of the folders, and start with the former server_num. {ELSEWHERE}"
    )
