"""Conversion of a checkpoint file: format, element type, names and layouts.

Arrays are converted one at a time and read in blocks, so that only the largest array has to fit
into memory, whatever the size of the file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paramesh.array_types import HostArray, Json
from paramesh.checkpoint.conversion.architectures import architecture_of
from paramesh.checkpoint.conversion.name_plan import (
    ConversionPlan,
    Move,
    Planned,
    name_plan,
    plain_plan,
    renamed,
)
from paramesh.checkpoint.conversion.planned_source import PlannedSource
from paramesh.checkpoint.formats import huggingface_sink
from paramesh.checkpoint.formats.huggingface import FORMAT as HUGGINGFACE
from paramesh.checkpoint.formats.interface import Array, Source
from paramesh.checkpoint.formats.statistics import CHUNK
from paramesh.checkpoint.opening import FORMATS, format_named, open_sink, open_source
from paramesh.checkpoint.sharded.sink import check_folder
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.dtype import DType
from paramesh.errors import CheckpointError

#: Metadata key of the layer kinds that do not follow from the names; JSON of {prefix: kind}.
KINDS_KEY = "paramesh.layers"
#: Arrays of at most so many bytes are read at once if they do not change.
_SMALL = 16 << 20


@dataclass(frozen=True)
class Conversion:
    """What to change.

    Args:
        format: of the new file; None: by its suffix.
        dtype: of all floating-point arrays in the new file; None: unchanged.
        to: "torch" (and HuggingFace) or "flax": paramesh's names and layouts become that library's.
        back: the library whose names and layouts become paramesh's; with `to`, those of `back`
            become those of `to`.
        layers: {prefix of a layer in the source: kind}, where the guess would be wrong.
        rename: maps a name, after these changes, to the new one.
        wanted: which arrays are converted, by their names in the source.
        checksums: store checksums in the new file.
        overwrite: whether an existing file may be replaced.
    """

    format: str | None = None
    dtype: DType | None = None
    to: Literal["torch", "flax"] | None = None
    back: Literal["torch", "flax"] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    rename: Callable[[str], str] = str
    wanted: Callable[[str], bool] = lambda name: True
    checksums: bool = False
    overwrite: bool = False


@dataclass
class Converted:
    """The result of a conversion.

    Attributes:
        path: the new file.
        format: its format.
        arrays: number of its arrays.
        nbytes: bytes of all of them.
        changed: {new name: the names in the source} where they differ.
        unknown: {new name: why}, the arrays without a name rule, which are unchanged.
        overflow: {new name: number of finite elements that became infinite in the new element
            type}.
        skipped: {name: what it is}: arrays of the source that cannot be read or written.
        dropped: {name: why}: arrays of the source that no network wants, such as masks.
        architecture: of `transformers`, whose name rules were used; None: no such network.
    """

    path: Path
    format: str
    arrays: int = 0
    nbytes: int = 0
    changed: dict[str, list[str]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    overflow: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    architecture: str | None = None


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    conversion: Conversion | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Convert a checkpoint; the new file is written atomically.

    Args:
        source: a checkpoint.
        target: the new file.
        conversion: what to change; None: only the format.
        advance: called with (bytes done, bytes in total) after each array.

    Raises:
        FileNotFoundError: there is no source, or no folder for the target.
        FileExistsError: the target exists, and `overwrite` is not set; or it is the source.
        CheckpointError: the source is not valid.
        ValueError: an invalid format, library, kind or name; nothing was written.
        OSError: from the file system.
    """
    options = conversion or Conversion()
    place = Path(target)
    format = target_format(options.format, place)
    check_target(Path(source), place, format, options.overwrite)
    with open_source(source) as opened:
        return convert_opened(opened, place, options, advance)


def convert_opened(
    opened: Source,
    place: Path,
    options: Conversion,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Convert an open checkpoint; see `convert`.

    Raises:
        CheckpointError, ValueError, OSError: as `convert`; the target is not checked before.
    """
    format = target_format(options.format, place)
    if options.to is not None and options.back is not None:
        return _through(opened, place, options, advance)
    plan = _plan(opened, options)
    found = Converted(
        place,
        format,
        unknown=dict(plan.unknown),
        skipped={name: kind for name, kind in opened.skipped.items() if options.wanted(name)},
        dropped=dict(plan.dropped),
        architecture=plan.architecture,
    )
    arrays = [_cast(planned, options.dtype) for planned in plan.arrays]
    total = sum(planned.entry.nbytes for planned in arrays)
    appended = {
        options.rename(name): value
        for name, value in opened.appended.items()
        if options.wanted(name)
    }
    metadata = {k: v for k, v in opened.metadata.items() if k != KINDS_KEY}
    if plan.kinds:
        metadata[KINDS_KEY] = json.dumps(plan.kinds)
    entries = [planned.entry for planned in arrays]
    with open_sink(place, format, entries, appended, metadata, options.checksums) as sink:
        for planned in arrays:
            array, overflow = assemble(opened, planned)
            sink.write(planned.entry.name, array)
            del array
            opened.forget()
            _note(found, planned, overflow)
            advance(found.nbytes, total)
    return found


def _through(
    opened: Source, place: Path, options: Conversion, advance: Callable[[int, int], None]
) -> Converted:
    """From one library to another, by way of the names and layouts here."""
    first = _plan(opened, replace(options, to=None, rename=str))
    between = PlannedSource(opened, first, assemble)
    between.appended = {name: v for name, v in opened.appended.items() if options.wanted(name)}
    second = replace(options, back=None, layers={}, wanted=lambda name: True)
    found = convert_opened(between, place, second, advance)
    renamed_again = {source for sources in found.changed.values() for source in sources}
    origins = {p.entry.name: [move.source for move in p.moves] for p in first.arrays}
    found.changed = {
        name: [origin for source in sources for origin in origins[source]]
        for name, sources in found.changed.items()
    } | {
        name: origins[name]
        for name in origins
        if name not in renamed_again and origins[name] != [name]
    }
    found.unknown = {**first.unknown, **found.unknown}
    found.dropped, found.architecture = dict(first.dropped), first.architecture
    found.skipped = {name: kind for name, kind in opened.skipped.items() if options.wanted(name)}
    return found


def _note(found: Converted, planned: Planned, overflow: int) -> None:
    name = planned.entry.name
    found.arrays += 1
    found.nbytes += planned.entry.nbytes
    sources = [move.source for move in planned.moves]
    if sources != [name]:
        found.changed[name] = sources
    if overflow:
        found.overflow[name] = overflow


def target_format(wanted: str | None, target: Path) -> str:
    """The format of a new checkpoint: the given one, or that of its suffix.

    Raises:
        ValueError: the format or the suffix is unknown.
    """
    if wanted is not None:
        return format_named(wanted).name
    for known in FORMATS:
        if target.suffix == known.suffix:
            return known.name
    suffixes = " and ".join(known.suffix for known in FORMATS)
    names = ", ".join(name for known in FORMATS for name in known.names)
    raise ValueError(
        f"'{target}' has no suffix of a known format ({suffixes}): give the format ({names})."
    )


def check_target(source: Path, target: Path, format: str, overwrite: bool) -> None:
    """Check that a new checkpoint can be written there, before anything is written.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is the source, a folder instead of a file or the other way round, or it
            exists and may not be replaced.
    """
    if source.exists() and target.exists() and os.path.samefile(source, target):
        kind = "folder" if target.is_dir() else "file"
        raise FileExistsError(f"'{target}' is the source itself: give the new {kind} another name.")
    if format == SHARDED:
        check_folder(target, overwrite)
        return
    if format == HUGGINGFACE:
        huggingface_sink.check_folder(target, overwrite)
        return
    if not target.exists():
        if not target.parent.is_dir():
            raise FileNotFoundError(f"There is no folder '{target.parent}'; create it first.")
        return
    if target.is_dir():
        raise FileExistsError(f"'{target}' is a folder: give the path of a file.")
    if not overwrite:
        raise FileExistsError(f"'{target}' already exists, and was left unchanged.")


def _plan(source: Source, options: Conversion) -> ConversionPlan:
    entries = [entry for entry in source.entries() if options.wanted(entry.name)]
    if options.layers and options.to is None and options.back is None:
        raise ValueError("Layer kinds need a library to convert to or from.")
    library = options.to or options.back
    if library is None:
        plan = plain_plan(entries)
        plan.kinds = _kept_kinds(source)
    else:
        given = dict(options.layers)
        architecture = None
        if isinstance(source, PlannedSource):
            given |= source.kinds
        if options.back is not None:
            architecture = (
                architecture_of([e.name for e in entries]) if library == "torch" else None
            )
            names = {entry.name.rpartition(".")[0] for entry in entries}
            kept = _kept_kinds(source)
            # What the file says, for layers that still exist.
            given |= {
                prefix: kind
                for prefix, kind in kept.items()
                if prefix not in given
                and any(n == prefix or n.startswith(prefix + ".") for n in names)
            }
        else:
            # No layer here is of this kind: it is to be what it was.
            here = {entry.name for entry in entries}
            given |= {
                prefix: kind
                for prefix, kind in _kept_kinds(source).items()
                if kind == "Conv1D" and prefix not in given and f"{prefix}.weight" in here
            }
        dropped: dict[str, str] = {}
        known: set[str] = set()
        if architecture is not None:
            dropped = architecture.dropped([entry.name for entry in entries])
            entries = [entry for entry in entries if entry.name not in dropped]
            known = architecture.as_they_are([entry.name for entry in entries])
            given |= {k: v for k, v in architecture.kinds(entries).items() if k not in given}
        plan = name_plan(entries, library, options.back is not None, given)
        plan.unknown = {name: why for name, why in plan.unknown.items() if name not in known}
        plan.dropped = dropped
        plan.architecture = None if architecture is None else architecture.name
    names = {p.entry.name: options.rename(p.entry.name) for p in plan.arrays}
    for old, new in names.items():
        if not new:
            raise ValueError(f"The renaming rules leave an empty name for '{old}'.")
    return renamed(plan, names)


def _kept_kinds(source: Source) -> dict[str, str]:
    try:
        found: Json = json.loads(source.metadata.get(KINDS_KEY, "{}"))
        if isinstance(found, dict) and all(isinstance(kind, str) for kind in found.values()):
            return found
    except ValueError:
        pass
    raise CheckpointError(
        f"Checkpoint '{source.path}': its metadata '{KINDS_KEY}' is not a JSON object of "
        "prefixes and kinds."
    )


def _cast(planned: Planned, dtype: DType | None) -> Planned:
    entry = planned.entry
    if dtype is None or not entry.dtype.is_floating():
        return planned
    return replace(planned, entry=entry.of(entry.name, dtype, entry.shape))


def assemble(source: Source, planned: Planned) -> tuple[Any, int]:
    """A planned array, and how many of its elements became infinite.

    Besides the array, only a block of the source is in memory.
    """
    entry = planned.entry
    (first, *others) = planned.moves
    old = source.entry(first.source)
    if (
        not others
        and entry.nbytes <= _SMALL
        and first == Move(first.source)
        and old.dtype is entry.dtype
    ):
        return source.read(first.source), 0
    result: Array = np.empty(entry.shape, entry.dtype.np_dtype)
    overflow = 0
    for move in planned.moves:
        rows = result if move.into is None else result[slice(*move.into)]
        view = (move.arrangement.there if move.back else move.arrangement.back)(rows)
        for index, block in _blocks(source, move):
            with np.errstate(over="ignore"):
                cast = block if block.dtype == result.dtype else block.astype(result.dtype)
            if cast is not block and entry.dtype.is_floating():
                overflow += _infinite(cast) - _infinite(block)
            view[index] = cast
            source.forget()
    return result, overflow


def _infinite(part: HostArray) -> int:
    wide = part if part.dtype.kind == "f" else part.astype(np.float32)
    return int(np.count_nonzero(np.isinf(wide)))


def _blocks(source: Source, move: Move) -> Iterator[tuple[Any, Any]]:
    """The rows of an array in blocks of at most CHUNK elements: (index, elements)."""
    shape = source.entry(move.source).shape
    start = 0
    if move.rows is not None:
        start = move.rows[0] * math.prod(shape[1:])
        shape = (move.rows[1] - move.rows[0], *shape[1:])
    if not shape:
        yield (), source.read_flat(move.source, 0, 1).reshape(())
        return
    # Blocks are runs along the first axis below which there are few enough elements.
    axis = 0
    while math.prod(shape[axis + 1 :]) > CHUNK:
        axis += 1
    below = math.prod(shape[axis + 1 :])
    step = max(1, CHUNK // max(below, 1))
    for outer in np.ndindex(shape[:axis]):
        for low in range(0, shape[axis], step):
            high = min(low + step, shape[axis])
            part = source.read_flat(move.source, start, start + (high - low) * below)
            start += (high - low) * below
            yield (*outer, slice(low, high)), part.reshape(high - low, *shape[axis + 1 :])
