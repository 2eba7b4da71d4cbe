"""Which device held which slice of a sharded checkpoint, for the page about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from paramesh.checkpoint.formats.assembled_source import Slice
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.cli.figures import counted
from paramesh.cli.report import Devices


def saved_devices(source: ShardedSource, entries: Sequence[Entry]) -> Devices:
    """Where parameters lay when they were saved, as the index says.

    An index that does not know the devices (of an older paramesh, or of a checkpoint that was made
    of other files) still says which file has what; then the files stand for devices.
    """
    listed = {entry.name: source.slicing(entry.name) for entry in entries}
    known = bool(source.devices) and all(
        one.ranks and max(one.ranks) < len(source.devices)
        for cut in listed.values()
        for one in cut.slices
    )
    count = len(source.devices) if known else len(source.files())
    found = Devices(
        held=[0] * count,
        names=_names(source.devices) if known else [f"file {i}" for i in range(count)],
        kind="device" if known else "file",
    )
    places: dict[Any, int] = {}
    for entry in entries:
        cut = listed[entry.name]
        drawn = [(one, one.ranks if known else (one.file,)) for one in cut.slices]
        key = entry.shape, cut.shape, tuple((one.box, ranks) for one, ranks in drawn)
        if key not in places:
            places[key] = len(found.placements)
            found.placements.append(_placement(entry, cut.shape, drawn))
        found.of[entry.name] = places[key]
        for one, ranks in drawn:
            size = math.prod(stop - start for start, stop in one.box) * entry.dtype.itemsize
            for rank in ranks:
                found.held[rank] += size
    return found


def _placement(
    entry: Entry, cut: tuple[int, ...], drawn: list[tuple[Slice, tuple[int, ...]]]
) -> dict[str, Any]:
    about = counted(len(drawn), "slice") + f" in {counted(len({o.file for o, _ in drawn}), 'file')}"
    if cut != entry.shape:
        about += ", of the elements in row-major order (divided optimizer state)"
    return {
        "axes": about,
        "shape": list(cut),
        "slices": [{"index": one.box, "ranks": sorted(ranks)} for one, ranks in drawn],
    }


def _names(processes: Sequence[int]) -> list[str]:
    several = len(set(processes)) > 1
    return [
        f"device {rank}" + (f" (process {process})" if several else "")
        for rank, process in enumerate(processes)
    ]
