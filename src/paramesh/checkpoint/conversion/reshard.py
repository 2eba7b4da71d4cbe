"""Resharding: from any checkpoint to a sharded one, with other slices and part files.

One slice is in memory at a time, whatever the size of the arrays.
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

#: Arrays of at most so many bytes are not sharded unless they have a layout.
_SMALL = 1 << 16


@dataclass(frozen=True)
class Resharding:
    """How to slice a checkpoint.

    Args:
        processes: number of part files; that of process i has the slices of its devices.
        devices: number of devices of the layouts; None: one per process.
        strategy: layouts by name.
        layouts: {pattern of names: number of slices along each axis}; they precede the strategy,
            and the first pattern that matches applies.
        wanted: which arrays, by their names.
        checksums: store checksums of all slices.
        overwrite: whether an existing sharded checkpoint may be replaced.
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
    """The result of resharding.

    Attributes:
        path: the new folder.
        arrays: number of its arrays.
        slices: number of their slices.
        nbytes: bytes of all of them.
        part_bytes: bytes of the slices in each part file.
    """

    path: Path
    arrays: int
    slices: int
    nbytes: int
    part_bytes: tuple[int, ...]


def reshard(
    source: Source,
    target: Path,
    options: Resharding,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Resharded:
    """Write a sharded checkpoint; it appears atomically.

    An array with a layout is sliced by it, and each slice goes to one of the processes whose
    devices have it: the one with the fewest bytes so far. A large array without a layout is sliced
    along axis 0 into nearly equal slices, one per process; a small one goes to the process with the
    fewest bytes.

    Args:
        source: any checkpoint.
        target: the folder.
        options: how to slice it.
        advance: called with (bytes done, bytes in total) after each array.

    Raises:
        FileNotFoundError, FileExistsError: the folder cannot be created there.
        ValueError: contradictory numbers; a pattern that no name matches.
        LayoutError, StrategyFileError: a layout does not fit its array.
        OSError: from the file system.
    """
    check_folder(target, options.overwrite)
    entries = [
        Entry.of(entry.name, entry.dtype, entry.shape)
        for entry in source.entries()
        if options.wanted(entry.name)
    ]
    appended = {name: v for name, v in source.appended.items() if options.wanted(name)}
    check_entries(target, format_named("sharded"), entries, appended)
    slices, part_bytes = _plan(entries, options)
    done, total = 0, sum(entry.nbytes for entry in entries)
    sink = ShardedSink(target, entries, appended, source.metadata, options.checksums, slices)
    with sink:
        for entry in entries:

            def read(box: Box, name: str = entry.name) -> Array:
                source.forget()
                return source.read_box(name, box)

            sink.write_slices(entry.name, read)
            done += entry.nbytes
            advance(done, total)
    return Resharded(target, len(entries), sum(map(len, slices.values())), total, tuple(part_bytes))


def _plan(
    entries: list[Entry], options: Resharding
) -> tuple[dict[str, list[tuple[int, Box]]], list[int]]:
    """The slices of all arrays with their processes, and the bytes of each process."""
    strategy, devices = options.strategy, options.devices
    if devices is None:
        devices = options.processes if strategy is None else strategy.device_num
    if strategy is not None and strategy.device_num != devices:
        raise ValueError(
            f"{strategy.where} is for {strategy.device_num} devices, not for {devices}."
        )
    if options.processes < 1 or devices % options.processes:
        raise ValueError(
            f"{devices} devices cannot be divided among {options.processes} processes evenly."
        )
    unused = [
        pattern
        for pattern in options.layouts
        if not any(fnmatchcase(entry.name, pattern) for entry in entries)
    ]
    if unused:
        raise ValueError(f"No parameter matches the layout's pattern {unused[0]!r}.")
    each = devices // options.processes
    part_bytes = [0] * options.processes
    slices: dict[str, list[tuple[int, Box]]] = {}
    for entry in entries:
        found = slices[entry.name] = []
        for box, owners in _slices(entry, options, devices, each):
            owner = min(owners, key=lambda process: (part_bytes[process], process))
            size = entry.dtype.itemsize
            for n in sizes(box):
                size *= n
            part_bytes[owner] += size
            found.append((owner, box))
    return slices, part_bytes


def _slices(
    entry: Entry, options: Resharding, devices: int, each: int
) -> list[tuple[Box, list[int]]]:
    """The slices of an array, and the processes whose devices have them."""
    layout = _layout(entry, options, devices)
    everywhere = list(range(options.processes))
    if layout is not None:
        rules = RankStrategy({entry.name: layout}, "the layout")
        return [
            (box, sorted({rank // each for rank in ranks}))
            for box, ranks in rules.boxes(entry.name, entry.shape).items()
        ]
    count = min(options.processes, entry.shape[0]) if entry.shape else 1
    if count < 2 or entry.nbytes <= _SMALL:
        return [(full_box(entry.shape), everywhere)]
    ends = [entry.shape[0] * i // count for i in range(count + 1)]
    rest = full_box(entry.shape[1:])
    rows = itertools.pairwise(ends)
    return [(((start, stop), *rest), [i]) for i, (start, stop) in enumerate(rows)]


def _layout(entry: Entry, options: Resharding, devices: int) -> Layout | None:
    for pattern, counts in options.layouts.items():
        if fnmatchcase(entry.name, pattern):
            try:
                return layout_of(counts, entry.shape, devices, entry.name)
            except TypeError as error:
                raise LayoutError(f"Parameter '{entry.name}': {error}") from error
    return None if options.strategy is None else options.strategy.layouts.get(entry.name)
