"""Making a complete checkpoint of an increment and those that it goes on from.

Only blocks of rows are in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from paramesh.checkpoint.formats.apart import IndexSlice, Served
from paramesh.checkpoint.formats.boxes import Box, full_box
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.safetensors_pieces import PiecewiseSink
from paramesh.checkpoint.formats.tables import BLOCK
from paramesh.checkpoint.sharded.increments import IncrementSource, open_sharded
from paramesh.checkpoint.sharded.index import (
    index_bytes,
    new_token,
    part_name,
)
from paramesh.checkpoint.sharded.sink import SinkFolder, check_folder
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.errors import CheckpointError

Readable = ShardedSource | IncrementSource


def compact(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Make a complete checkpoint of an increment and the checkpoints that it goes on from.

    It is the same checkpoint afterwards: increments that go on from it go on from the complete one.

    Args:
        path: the folder of the increment.
        out: a new folder for the complete checkpoint; None: it takes the place of the increment, in
            one step.

    Returns:
        The folder of the complete checkpoint. One that was complete is left as it is, if `out` is
        None.

    Raises:
        CheckpointError: servers have not written it; or it, or one that it goes on from, is not
            valid, not complete, missing, or another checkpoint.
        FileExistsError: `out` exists.
        OSError: from the file system. What was there is as it was.
    """
    target = Path(path if out is None else out)
    with open_sharded(Path(path)) as source:
        if not source.identity:
            raise CheckpointError(
                f"Checkpoint '{path}' was not written by servers: there is nothing to compact."
            )
        if isinstance(source, ShardedSource) and out is None:
            return target
        check_folder(target, overwrite=out is None)
        _write(source, target)
    return target


def _write(source: Readable, path: Path) -> None:
    newest = source.chain[0] if isinstance(source, IncrementSource) else source
    count = max(1, len(newest.files()))
    of_tables = {name for table in source.tables.values() for name in (*table.names, table.counts)}
    others = [entry for entry in source.entries() if entry.name not in of_tables]
    token = new_token().hex()
    files = [part_name(token, part) for part in range(count)]
    parts: list[list[Entry]] = [[] for _ in range(count)]
    slices: dict[str, list[IndexSlice]] = {entry.name: [] for entry in source.entries()}

    def add(part: int, entry: Entry, box: Box) -> None:
        shape = tuple(stop - start for start, stop in box)
        stored = Entry.of(f"{entry.name}/{part}", entry.dtype, shape)
        parts[part].append(stored)
        slices[entry.name].append(IndexSlice(part, stored.name, box))

    for entry in others:
        add(0, entry, full_box(entry.shape))
    for name, table in source.tables.items():
        counts = source.counts(name)
        first = 0
        for part, (start, stop) in enumerate(_ranges(len(counts), count)):
            rows = int(counts[start:stop].sum())
            if start < stop:
                add(part, source.entry(table.counts), ((start, stop),))
            if rows or (part == 0 and not counts.sum()):
                for column in table.names:
                    entry = source.entry(column)
                    add(part, entry, ((first, first + rows), *full_box(entry.shape[1:])))
            first += rows
    listed = [(entry, slices[entry.name]) for entry in source.entries()]
    served = Served(source.identity, source.tables)
    index = index_bytes(files, listed, source.appended, source.metadata, (), served)
    folder = SinkFolder(path, token, index)
    try:
        for part, name in enumerate(files):
            folder.parts[part] = sink = PiecewiseSink(path / name, parts[part], {}, {})
            if part == 0:
                for entry in others:
                    _copy(source, entry, sink)
            for table, (start, stop) in _table_ranges(source, part, count):
                _copy_groups(source, table, start, stop, part, sink)
        folder.commit()
    except BaseException:
        folder.discard()
        raise


def _ranges(groups: int, count: int) -> list[tuple[int, int]]:
    return [(groups * i // count, groups * (i + 1) // count) for i in range(count)]


def _table_ranges(source: Readable, part: int, count: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in source.tables:
        yield name, _ranges(len(source.counts(name)), count)[part]


def _copy(source: Readable, entry: Entry, sink: PiecewiseSink) -> None:
    name = f"{entry.name}/0"
    if not entry.shape:
        sink.write(name, source.read(entry.name))
        return
    step = max(1, BLOCK // max(1, entry.nbytes // max(1, entry.shape[0])))
    for first in range(0, entry.shape[0], step):
        stop = min(first + step, entry.shape[0])
        sink.put(name, first, source.read_rows(entry.name, first, stop))
    source.forget()


def _copy_groups(
    source: Readable, table: str, start: int, stop: int, part: int, sink: PiecewiseSink
) -> None:
    about = source.tables[table]
    if start < stop:
        sink.put(f"{about.counts}/{part}", 0, source.counts(table)[start:stop])
    at = 0
    for block in source.blocks(table, start, stop):
        for name, rows in block.items():
            sink.put(f"{name}/{part}", at, rows)
        at += len(block[about.ids])
        source.forget()
