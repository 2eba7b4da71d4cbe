"""From one checkpoint file to another: format, element type, names and layouts.

Arrays go through memory one at a time, a part at a time, so that no more than the largest of them
has to be in memory, whatever the size of the file.
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
from paramesh.checkpoint.formats.interface import Source
from paramesh.checkpoint.formats.statistics import PART
from paramesh.checkpoint.opening import FORMATS, format_named, open_sink, open_source
from paramesh.checkpoint.sharded.sink import check_folder
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.dtype import DType
from paramesh.errors import CheckpointError

#: Where a file keeps the kinds of layers that its names do not tell; JSON of {prefix: kind}.
KINDS_KEY = "paramesh.layers"
#: Arrays of at most so many bytes are read as a whole where nothing changes.
_SMALL = 16 << 20


@dataclass(frozen=True)
class Conversion:
    """What to do on the way.

    Args:
        format: of the new file; None: what its name ends with.
        dtype: of all floating-point arrays in the new file; None: as they are.
        to: "torch" (and HuggingFace) or "flax": paramesh's names and layouts become that library's.
        back: the library whose names and layouts become paramesh's; with `to`, those of `back`
            become those of `to`.
        layers: {prefix of a layer in the source: kind}, where guessing would go wrong.
        rename: gives a name, after those changes, its new one.
        wanted: which arrays are converted, by their names in the source.
        checksums: keep checksums in the new file.
        overwrite: whether a file that is there already may be replaced.
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
    """What was done.

    Attributes:
        path: the new file.
        format: its format.
        arrays: how many it has.
        nbytes: bytes of all of them.
        changed: {new name: the names in the source} where they differ.
        unknown: {new name: why}: what no name rule is for, and is there as it was.
        overflow: {new name: how many finite elements are infinite in the new element type}.
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
    """Convert a checkpoint; the new file is there as a whole, or not at all.

    Args:
        source: a checkpoint.
        target: the new file.
        conversion: what to change; None: the format alone.
        advance: is told (bytes done, bytes in all) from time to time.

    Raises:
        FileNotFoundError: there is no source, or no folder for the target.
        FileExistsError: the target is there, and `overwrite` is not set; or it is the source.
        CheckpointError: the source is damaged.
        ValueError: a format, library, kind or name that cannot be; nothing was written.
        OSError: from the file system.
    """
    wishes = conversion or Conversion()
    place = Path(target)
    format = target_format(wishes.format, place)
    check_target(Path(source), place, format, wishes.overwrite)
    with open_source(source) as opened:
        return convert_opened(opened, place, wishes, advance)


def convert_opened(
    opened: Source,
    place: Path,
    wishes: Conversion,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Convert an open checkpoint; `convert` says the rest.

    Raises:
        CheckpointError, ValueError, OSError: as `convert`; the target is not looked at before.
    """
    format = target_format(wishes.format, place)
    if wishes.to is not None and wishes.back is not None:
        return _through(opened, place, wishes, advance)
    plan = _plan(opened, wishes)
    found = Converted(
        place,
        format,
        unknown=dict(plan.unknown),
        skipped={name: kind for name, kind in opened.skipped.items() if wishes.wanted(name)},
        dropped=dict(plan.dropped),
        architecture=plan.architecture,
    )
    arrays = [_cast(planned, wishes.dtype) for planned in plan.arrays]
    total = sum(planned.entry.nbytes for planned in arrays)
    appended = {
        wishes.rename(name): value for name, value in opened.appended.items() if wishes.wanted(name)
    }
    metadata = {k: v for k, v in opened.metadata.items() if k != KINDS_KEY}
    if plan.kinds:
        metadata[KINDS_KEY] = json.dumps(plan.kinds)
    entries = [planned.entry for planned in arrays]
    with open_sink(place, format, entries, appended, metadata, wishes.checksums) as sink:
        for planned in arrays:
            array, overflow = assemble(opened, planned)
            sink.write(planned.entry.name, array)
            del array
            opened.forget()
            _note(found, planned, overflow)
            advance(found.nbytes, total)
    return found


def _through(
    opened: Source, place: Path, wishes: Conversion, advance: Callable[[int, int], None]
) -> Converted:
    """From one library to another, by way of the names and layouts here."""
    first = _plan(opened, replace(wishes, to=None, rename=str))
    between = PlannedSource(opened, first, assemble)
    between.appended = {name: v for name, v in opened.appended.items() if wishes.wanted(name)}
    second = replace(wishes, back=None, layers={}, wanted=lambda name: True)
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
    found.skipped = {name: kind for name, kind in opened.skipped.items() if wishes.wanted(name)}
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
    """The format of a new checkpoint: the wanted one, or what its name ends with.

    Raises:
        ValueError: there is no such format, or no such ending.
    """
    if wanted is not None:
        return format_named(wanted).name
    for known in FORMATS:
        if target.suffix == known.suffix:
            return known.name
    suffixes = " and ".join(known.suffix for known in FORMATS)
    names = ", ".join(name for known in FORMATS for name in known.names)
    raise ValueError(
        f"'{target}' has none of the endings that tell the format ({suffixes}): give the format "
        f"({names})."
    )


def check_target(source: Path, target: Path, format: str, overwrite: bool) -> None:
    """Refuse what cannot become the new checkpoint, before anything is written.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is the source, or a folder instead of a file or the other way round, or
            it is there and not to be replaced.
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
            raise FileNotFoundError(f"There is no folder '{target.parent}'; make it first.")
        return
    if target.is_dir():
        raise FileExistsError(f"'{target}' is a folder: give the path of a file.")
    if not overwrite:
        raise FileExistsError(f"'{target}' is there already, and was left as it is.")


def _plan(source: Source, wishes: Conversion) -> ConversionPlan:
    entries = [entry for entry in source.entries() if wishes.wanted(entry.name)]
    if wishes.layers and wishes.to is None and wishes.back is None:
        raise ValueError("Kinds of layers are for a change of names: say to or from which library.")
    library = wishes.to or wishes.back
    if library is None:
        plan = plain_plan(entries)
        plan.kinds = _kept_kinds(source)
    else:
        given = dict(wishes.layers)
        architecture = None
        if isinstance(source, PlannedSource):
            given |= source.kinds
        if wishes.back is not None:
            architecture = (
                architecture_of([e.name for e in entries]) if library == "torch" else None
            )
            names = {entry.name.rpartition(".")[0] for entry in entries}
            kept = _kept_kinds(source)
            # What the file says, for layers that are still there.
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
        plan = name_plan(entries, library, wishes.back is not None, given)
        plan.unknown = {name: why for name, why in plan.unknown.items() if name not in known}
        plan.dropped = dropped
        plan.architecture = None if architecture is None else architecture.name
    names = {p.entry.name: wishes.rename(p.entry.name) for p in plan.arrays}
    for old, new in names.items():
        if not new:
            raise ValueError(f"The rules leave no name for '{old}'.")
    return renamed(plan, names)


def _kept_kinds(source: Source) -> dict[str, str]:
    try:
        found: Any = json.loads(source.metadata.get(KINDS_KEY, "{}"))
        if isinstance(found, dict) and all(isinstance(kind, str) for kind in found.values()):
            return found
    except ValueError:
        pass
    raise CheckpointError(
        f"Checkpoint '{source.path}': its metadata '{KINDS_KEY}' is no JSON of prefixes and kinds."
    )


def _cast(planned: Planned, dtype: DType | None) -> Planned:
    entry = planned.entry
    if dtype is None or not entry.dtype.is_floating():
        return planned
    return replace(planned, entry=entry.of(entry.name, dtype, entry.shape))


def assemble(source: Source, planned: Planned) -> tuple[Any, int]:
    """A planned array, and how many of its elements became infinite.

    Besides the array no more than a part of the source is in memory.
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
    whole: Any = np.empty(entry.shape, entry.dtype.np_dtype)
    overflow = 0
    for move in planned.moves:
        share = whole if move.into is None else whole[slice(*move.into)]
        view = (move.arrangement.there if move.back else move.arrangement.back)(share)
        for index, part in _blocks(source, move):
            with np.errstate(over="ignore"):
                new = part if part.dtype == whole.dtype else part.astype(whole.dtype)
            if new is not part and entry.dtype.is_floating():
                overflow += _infinite(new) - _infinite(part)
            view[index] = new
            source.forget()
    return whole, overflow


def _infinite(part: Any) -> int:
    wide = part if part.dtype.kind == "f" else part.astype(np.float32)
    return int(np.count_nonzero(np.isinf(wide)))


def _blocks(source: Source, move: Move) -> Iterator[tuple[Any, Any]]:
    """The rows of an array in blocks of at most PART elements: (index, elements)."""
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
    while math.prod(shape[axis + 1 :]) > PART:
        axis += 1
    below = math.prod(shape[axis + 1 :])
    step = max(1, PART // max(below, 1))
    for outer in np.ndindex(shape[:axis]):
        for low in range(0, shape[axis], step):
            high = min(low + step, shape[axis])
            part = source.read_flat(move.source, start, start + (high - low) * below)
            start += (high - low) * below
            yield (*outer, slice(low, high)), part.reshape(high - low, *shape[axis + 1 :])
