"""From any checkpoint to a sharded one, cut otherwise and into another number of part files.

Slices go through memory one at a time, whatever the size of the arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from paramesh.checkpoint.formats.boxes import Box, full_box, sizes
from paramesh.checkpoint.formats.interface import Array, Entry, Source
from paramesh.checkpoint.opening import check_entries, format_named
from paramesh.checkpoint.ranks.strategy import RankStrategy
from paramesh.checkpoint.sharded.sink import ShardedSink, check_folder
from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.strategy import layout_of

#: Arrays of at most so many bytes stay whole where nothing is said of them.
_SMALL = 1 << 16


@dataclass(frozen=True)
class Resharding:
    """What to do.

    Args:
        processes: how many part files; process i has those of its devices.
        devices: for how many devices layouts are; None: one for each process.
        strategy: layouts by name.
        layouts: {pattern of names: parts of each axis}, before the strategy; the first counts.
        wanted: which arrays, by their names.
        checksums: keep checksums of all slices.
        overwrite: whether a sharded checkpoint that is there may be replaced.
    """

    processes: int = 1
    devices: int | None = None
    strategy: RankStrategy | None = None
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    wanted: Callable[[str], bool] = lambda name: True
    checksums: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Resharded:
    """What was done.

    Attributes:
        path: the new folder.
        arrays: how many it has.
        slices: how many slices of them.
        nbytes: bytes of all of them.
        held: bytes that each part file has.
    """

    path: Path
    arrays: int
    slices: int
    nbytes: int
    held: tuple[int, ...]


def reshard(
    source: Source,
    target: Path,
    wishes: Resharding,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Resharded:
    """Write a sharded checkpoint; it is there as a whole, or not at all.

    An array that has a layout is cut by it, and each slice goes to one of the processes whose
    devices hold it, that with the least so far. Of the others, large ones are cut along axis 0 into
    nearly equal parts, one for each process; small ones go to the process with the least.

    Args:
        source: any checkpoint.
        target: the folder.
        wishes: what to do.
        advance: is told (bytes done, bytes in all) from time to time.

    Raises:
        FileNotFoundError, FileExistsError: the folder cannot be made there.
        ValueError: numbers that contradict each other; a pattern that no name matches.
        LayoutError, StrategyFileError: a layout does not fit its array.
        OSError: from the file system.
    """
    check_folder(target, wishes.overwrite)
    entries = [
        Entry.of(entry.name, entry.dtype, entry.shape)
        for entry in source.entries()
        if wishes.wanted(entry.name)
    ]
    appended = {name: v for name, v in source.appended.items() if wishes.wanted(name)}
    check_entries(target, format_named("sharded"), entries, appended)
    cuts, held = _plan(entries, wishes)
    done, total = 0, sum(entry.nbytes for entry in entries)
    sink = ShardedSink(target, entries, appended, source.metadata, wishes.checksums, cuts)
    with sink:
        for entry in entries:

            def read(box: Box, name: str = entry.name) -> Array:
                source.forget()
                return source.read_box(name, box)

            sink.write_slices(entry.name, read)
            done += entry.nbytes
            advance(done, total)
    return Resharded(target, len(entries), sum(map(len, cuts.values())), total, tuple(held))


def _plan(
    entries: list[Entry], wishes: Resharding
) -> tuple[dict[str, list[tuple[int, Box]]], list[int]]:
    """The slices of all arrays with their processes, and the bytes that each process has."""
    strategy, devices = wishes.strategy, wishes.devices
    if devices is None:
        devices = wishes.processes if strategy is None else strategy.device_num
    if strategy is not None and strategy.device_num != devices:
        raise ValueError(
            f"{strategy.where} is for {strategy.device_num} devices, not for {devices}."
        )
    if wishes.processes < 1 or devices % wishes.processes:
        raise ValueError(
            f"{devices} devices cannot be divided among {wishes.processes} processes evenly."
        )
    unused = [
        pattern
        for pattern in wishes.layouts
        if not any(fnmatchcase(entry.name, pattern) for entry in entries)
    ]
    if unused:
        raise ValueError(f"No parameter matches the layout's pattern {unused[0]!r}.")
    each = devices // wishes.processes
    held = [0] * wishes.processes
    cuts: dict[str, list[tuple[int, Box]]] = {}
    for entry in entries:
        found = cuts[entry.name] = []
        for box, owners in _slices(entry, wishes, devices, each):
            owner = min(owners, key=lambda process: (held[process], process))
            size = entry.dtype.itemsize
            for n in sizes(box):
                size *= n
            held[owner] += size
            found.append((owner, box))
    return cuts, held


def _slices(
    entry: Entry, wishes: Resharding, devices: int, each: int
) -> list[tuple[Box, list[int]]]:
    """The slices of an array, and the processes that hold each."""
    layout = _layout(entry, wishes, devices)
    everywhere = list(range(wishes.processes))
    if layout is not None:
        rules = RankStrategy({entry.name: layout}, "the layout")
        return [
            (box, sorted({rank // each for rank in ranks}))
            for box, ranks in rules.boxes(entry.name, entry.shape).items()
        ]
    count = min(wishes.processes, entry.shape[0]) if entry.shape else 1
    if count < 2 or entry.nbytes <= _SMALL:
        return [(full_box(entry.shape), everywhere)]
    ends = [entry.shape[0] * i // count for i in range(count + 1)]
    rest = full_box(entry.shape[1:])
    rows = itertools.pairwise(ends)
    return [(((start, stop), *rest), [i]) for i, (start, stop) in enumerate(rows)]


def _layout(entry: Entry, wishes: Resharding, devices: int) -> Layout | None:
    for pattern, parts in wishes.layouts.items():
        if fnmatchcase(entry.name, pattern):
            try:
                return layout_of(parts, entry.shape, devices, entry.name)
            except TypeError as error:
                raise LayoutError(f"Parameter '{entry.name}': {error}") from error
    return None if wishes.strategy is None else wishes.strategy.layouts.get(entry.name)
