"""`paramesh inspect --html`: one page about a checkpoint, which needs nothing from elsewhere.

The page is a template with the data, the style and the script put in. What it shows is computed
here: statistics and a histogram for every parameter, and which device holds which slice, if a
strategy file or a sharded checkpoint says so.

Glossary
    placement   how arrays of one shape lie on the devices: the slices, and who holds each;
                parameters with the same placement share its entry
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from paramesh.checkpoint.formats.interface import Entry, Source
from paramesh.checkpoint.formats.statistics import Statistics, histogram, statistics
from paramesh.cli.errors import CommandError
from paramesh.errors import CheckpointError, LayoutError
from paramesh.files.atomic import write_atomically
from paramesh.parallel.layouts.layout import Layout, Placed, replicated
from paramesh.parallel.layouts.strategy_file import load_strategy

#: Intervals of a histogram; fewer for arrays of few elements.
BINS = 48
_PARTS = {"STYLE": "report.css", "SCRIPT": "report.js"}


@dataclass
class Devices:
    """Where the parameters of a checkpoint lie.

    Attributes:
        held: bytes that each device holds.
        placements: every placement once: `axes` in words, and `slices`, each with the bounds
            `index` for every axis and the `ranks` of the devices that hold it.
        of: which placement a parameter has.
        names: of the devices, for people; those that are missing are called by their rank.
        kind: what they are: "device", or "file".
    """

    held: list[int] = field(default_factory=list)
    placements: list[dict[str, Any]] = field(default_factory=list)
    of: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    kind: str = "device"


def read_strategy(path: Path) -> dict[str, Placed]:
    """A strategy file, with errors of one line.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return load_strategy(path)
    except FileNotFoundError as error:
        raise CommandError(f"There is no strategy file '{path}'.") from error
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CommandError(" ".join(str(error).split())) from error


def place(entries: Sequence[Entry], strategy: Mapping[str, Placed]) -> Devices:
    """Where parameters lie by a strategy; those that it does not name are held whole by all.

    Raises:
        CommandError: the strategy does not fit the shapes, or is for different numbers of devices.
    """
    layouts = {name: placed.layout for name, placed in strategy.items() if placed.layout}
    counts = {layout.device_num for layout in layouts.values()}
    if len(counts) > 1:
        raise CommandError(
            f"the strategy file has layouts for different numbers of devices: {sorted(counts)}"
        )
    count = max((rank + 1 for layout in layouts.values() for rank in layout.rank_list), default=1)
    found = Devices(held=[0] * count)
    known: dict[tuple[tuple[int, ...], Layout], int] = {}
    for entry in entries:
        layout = layouts.get(entry.name) or replicated(len(entry.shape), count)
        key = entry.shape, layout
        if key not in known:
            known[key] = len(found.placements)
            found.placements.append(_placement(entry, layout))
        found.of[entry.name] = known[key]
        for piece in found.placements[known[key]]["slices"]:
            size = math.prod(high - low for low, high in piece["index"]) * entry.dtype.itemsize
            for rank in piece["ranks"]:
                found.held[rank] += size
    return found


def _placement(entry: Entry, layout: Layout) -> dict[str, Any]:
    try:
        shards = layout.shards(entry.shape, entry.name)
    except LayoutError as error:
        raise CommandError(f"the strategy does not fit the checkpoint: {error}") from error
    slices: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for rank, index in shards.items():
        bounds = tuple(s.indices(n)[:2] for s, n in zip(index, entry.shape, strict=True))
        slices.setdefault(bounds, []).append(rank)
    return {
        "axes": repr(layout),
        "slices": [{"index": index, "ranks": sorted(ranks)} for index, ranks in slices.items()],
    }


def report_data(
    source: Source,
    entries: Sequence[Entry],
    devices: Devices | None = None,
    advance: Callable[[int], None] = lambda nbytes: None,
) -> dict[str, Any]:
    """What the page shows, as JSON has it.

    Args:
        source: the checkpoint.
        entries: which of its parameters.
        devices: where the parameters lie; None: nothing is said of devices.
        advance: is told the bytes that are done.
    """
    devices = devices or Devices()
    parameters: list[dict[str, Any]] = []
    for entry in entries:
        found = statistics(source, entry.name)
        parameters.append(
            {
                "name": entry.name,
                "shape": list(entry.shape),
                "dtype": str(entry.dtype),
                "elements": entry.size,
                "bytes": entry.nbytes,
                "stats": _for_script(found),
                "histogram": _histogram(source, entry, found),
                "note": "Statistics of magnitudes." if entry.dtype.is_complex() else "",
                "placement": devices.of.get(entry.name),
            }
        )
        advance(entry.nbytes)
    return {
        "title": source.path.name,
        "path": str(source.path),
        "format": source.format,
        "file_bytes": source.path.stat().st_size if source.path.is_file() else None,
        "metadata": dict(source.metadata),
        "append_dict": {
            name: value if _sayable(value) else str(value)
            for name, value in source.appended.items()
        },
        "parameters": parameters,
        "devices": devices.held,
        "device_kind": devices.kind,
        "device_names": devices.names or [f"device {rank}" for rank in range(len(devices.held))],
        "placements": devices.placements,
    }


def _for_script(found: Statistics) -> dict[str, Any]:
    """Statistics as the script can hold them: it has no integers beyond 2**53."""
    return {
        name: value if value is None or abs(value) < 2**53 else float(value)
        for name, value in asdict(found).items()
    }


def _sayable(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _histogram(source: Source, entry: Entry, found: Statistics) -> list[int]:
    if found.low is None or found.high is None:
        return []
    bins = min(BINS, max(8, math.isqrt(4 * found.finite)))
    return histogram(source, entry.name, float(found.low), float(found.high), bins)


def page(data: Mapping[str, Any]) -> str:
    """The page, with everything in it."""
    folder = resources.files("paramesh.cli") / "page"
    text = (folder / "report.html").read_text(encoding="utf-8")
    # Within a script a "<" could end it, wherever it stands.
    said = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    parts = {mark: (folder / name).read_text(encoding="utf-8") for mark, name in _PARTS.items()}
    for mark, part in {**parts, "DATA": said}.items():
        text = text.replace(f"/*{mark}*/", part)
    return text


def write_page(path: Path, data: Mapping[str, Any]) -> int:
    """Write the page atomically; returns its bytes.

    Raises:
        CommandError: the file cannot be written.
    """
    content = page(data).encode()
    if path.is_dir():
        raise CommandError(f"--html {path}: is a folder; give the path of a file")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CommandError(
            f"--html {path}: cannot be written: {error.strerror or error}"
        ) from error
    return len(content)
