"""The index of a checkpoint, from the parts that servers have written.

Nothing but the headers of the parts is read: they say how many rows each has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.array_types import Json
from paramesh.checkpoint.formats.apart import IndexSlice
from paramesh.checkpoint.formats.boxes import full_box
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSource
from paramesh.checkpoint.formats.tables import Table
from paramesh.dtype import DType
from paramesh.errors import CheckpointError
from paramesh.ps.specification.checkpoints import PART, PartFacts

Listed = list[tuple[Entry, list[IndexSlice]]]


class Joined(NamedTuple):
    """What servers have written.

    Attributes:
        arrays: with the slices of each.
        tables: by name.
        texts: to be stored beside the arrays, by name.
        versions: of each server.
    """

    arrays: Listed
    tables: dict[str, Table]
    texts: dict[str, str]
    versions: list[int]


def joined_parts(paths: Sequence[Path], identity: str, first: int) -> Joined:
    """What the parts of all servers make together.

    Args:
        paths: of the parts, in the order of the servers.
        identity: of the checkpoint.
        first: the index of the first one among the files of the checkpoint.

    Raises:
        CheckpointError: a part is missing, or is not one of this checkpoint.
    """
    facts: list[PartFacts] = []
    stored: list[dict[str, Entry]] = []
    for server, path in enumerate(paths):
        found, entries = _read(path, identity, server, len(paths))
        facts.append(found)
        stored.append(entries)
    arrays: Listed = []
    for name, about in _all_dense(facts).items():
        arrays.append(_flat(name, about, stored, first))
    tables: dict[str, Table] = {}
    texts: dict[str, str] = {}
    for name, parts in _all_tables(facts, paths[0].parent).items():
        about = parts[0]
        ids, *columns = about["columns"]
        counts, *extras = about["extras"]
        for array in (ids, *columns, counts, *extras, about["totals"], about["kept"]):
            if array:
                arrays.append(_rows(array, stored, first))
        tables[name] = Table(
            ids, counts, tuple(columns), about["complete"], about["totals"], about["kept"]
        )
        clocks = [part["clock"] for part in parts if part["clock"] is not None]
        if clocks:
            texts[f"{name}.life"] = json.dumps({"clock": max(clocks)})
    return Joined(arrays, tables, texts, [one.version for one in facts])


def _read(
    path: Path, identity: str, server: int, servers: int
) -> tuple[PartFacts, dict[str, Entry]]:
    try:
        with SafetensorsSource(path) as source:
            facts = PartFacts(**json.loads(source.metadata[PART]))
            entries = {entry.name: entry for entry in source.entries()}
    except FileNotFoundError:
        raise CheckpointError(
            f"'{path.parent}' was not saved: server {server} has written '{path.name}', and this "
            "worker does not see it. Save into a folder that all hosts share."
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{path}' is not a server's part of a checkpoint.") from error
    if (facts.identity, facts.server, facts.servers) != (identity, server, servers):
        raise CheckpointError(f"'{path}' is the part of another checkpoint.")
    return facts, entries


def _all_dense(facts: Sequence[PartFacts]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for server, one in enumerate(facts):
        for name, about in one.dense.items():
            known = found.setdefault(name, {"shape": about["shape"], "pieces": []})
            known["pieces"] += [(start, stop, server) for start, stop in about["pieces"]]
    return found


def _flat(
    name: str, about: Json, stored: Sequence[Mapping[str, Entry]], first: int
) -> tuple[Entry, list[IndexSlice]]:
    """A dense Parameter, from its pieces."""
    slices: list[IndexSlice] = []
    dtypes: list[DType] = []
    for start, stop, server in sorted(about["pieces"]):
        part = stored[server][f"{name}/{start}:{stop}"]
        dtypes.append(part.dtype)
        slices.append(IndexSlice(first + server, part.name, ((start, stop),), True))
    return Entry.of(name, dtypes[0], about["shape"]), slices


def _all_tables(facts: Sequence[PartFacts], folder: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in facts:
        for name, about in one.tables.items():
            found.setdefault(name, []).append(about)
    for name, parts in found.items():
        alike = {json.dumps(part | {"clock": None}) for part in parts}
        if len(parts) != len(facts) or len(alike) > 1:
            raise CheckpointError(
                f"'{folder}' was not saved: the servers have different things of table '{name}'. "
                "Make a step, so that all of them have it, and save then; an increment may have to "
                "begin anew with a complete checkpoint."
            )
    return found


def _rows(
    array: str, stored: Sequence[Mapping[str, Entry]], first: int
) -> tuple[Entry, list[IndexSlice]]:
    """An array of which each server has some rows."""
    parts = [entries[f"{array}/{server}"] for server, entries in enumerate(stored)]
    rows = sum(part.shape[0] for part in parts)
    slices: list[IndexSlice] = []
    at = 0
    for server, part in enumerate(parts):
        stop = at + part.shape[0]
        if stop > at or (not rows and server == 0):  # an empty one has one slice
            box = ((at, stop), *full_box(part.shape[1:]))
            slices.append(IndexSlice(first + server, part.name, box))
        at = stop
    return Entry.of(array, parts[0].dtype, (rows, *parts[0].shape[1:])), slices
