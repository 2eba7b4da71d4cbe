"""The differences between two checkpoints, by name; read in chunks.

Glossary
    different   of two elements: not equal; NaN equals NaN, and 0 equals -0
    tolerance   a difference up to `atol + rtol * |second|` is ignored, as in numpy
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paramesh.array_types import HostArray
from paramesh.checkpoint.formats.interface import Entry, Source
from paramesh.checkpoint.formats.statistics import CHUNK, chunks


@dataclass(frozen=True)
class ValueDifference:
    """The difference between the values of one array in two checkpoints.

    Args:
        name: of the array.
        count: number of elements that differ by more than the tolerance.
        size: number of elements.
        largest: the largest absolute difference; infinite where a value is infinite or NaN
            and the other one differs.
        relative: the largest absolute difference over the absolute value in the second file.
        place: index of the element with the largest difference.
        first: that element in the first file, as text.
        second: in the second.
    """

    name: str
    count: int
    size: int
    largest: float
    relative: float
    place: tuple[int, ...]
    first: str
    second: str


@dataclass
class Comparison:
    """All differences between two checkpoints.

    Attributes:
        only_first: arrays that are not in the second.
        only_second: arrays that are not in the first.
        shapes: pairs of the same name and different shapes; their values are not compared.
        dtypes: pairs of the same name and different element types; their values are compared.
        values: arrays with different values, the largest difference first.
        appended: {name: (first, second)} for different entries of `append_dict`; None if missing.
        same: number of arrays with equal shapes, element types and, within the tolerance, values.
    """

    only_first: list[Entry] = field(default_factory=list)
    only_second: list[Entry] = field(default_factory=list)
    shapes: list[tuple[Entry, Entry]] = field(default_factory=list)
    dtypes: list[tuple[Entry, Entry]] = field(default_factory=list)
    values: list[ValueDifference] = field(default_factory=list)
    appended: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    same: int = 0

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not (
            self.only_first
            or self.only_second
            or self.shapes
            or self.dtypes
            or self.values
            or self.appended
        )


def compare(
    first: Source,
    second: Source,
    wanted: Callable[[str], bool] = lambda name: True,
    rtol: float = 0.0,
    atol: float = 0.0,
    advance: Callable[[int], None] = lambda nbytes: None,
) -> Comparison:
    """Compare two checkpoints by name.

    Args:
        first: one checkpoint.
        second: the other.
        wanted: which names to compare.
        rtol: differences up to `atol + rtol * |second|` are ignored.
        atol: see `rtol`.
        advance: called with the number of bytes of the first checkpoint that were compared.
    """
    found = Comparison()
    others = set(second.names())
    for entry in first.entries():
        if not wanted(entry.name):
            continue
        if entry.name not in others:
            found.only_first.append(entry)
        else:
            _pair(found, first, second, entry, (rtol, atol))
        advance(entry.nbytes)
    mine = set(first.names())
    found.only_second = [e for e in second.entries() if e.name not in mine and wanted(e.name)]
    found.values.sort(key=lambda value: (-value.largest, value.name))
    for name in dict.fromkeys((*first.appended, *second.appended)):
        pair = first.appended.get(name), second.appended.get(name)
        alike = pair[0] == pair[1] or (pair[0] != pair[0] and pair[1] != pair[1])
        if wanted(name) and not (alike and type(pair[0]) is type(pair[1])):
            found.appended[name] = pair
    return found


def _pair(
    found: Comparison, first: Source, second: Source, entry: Entry, tolerance: tuple[float, float]
) -> None:
    other = second.entry(entry.name)
    if entry.shape != other.shape:
        found.shapes.append((entry, other))
        return
    if entry.dtype is not other.dtype:
        found.dtypes.append((entry, other))
    difference = _values(first, second, entry, tolerance)
    if difference is not None:
        found.values.append(difference)
    elif entry.dtype is other.dtype:
        found.same += 1


def _values(
    first: Source, second: Source, entry: Entry, tolerance: tuple[float, float]
) -> ValueDifference | None:
    rtol, atol = tolerance
    count, largest, relative = 0, -1.0, 0.0
    place, shown = 0, ("", "")
    for start, mine in chunks(first, entry.name, CHUNK):
        other = second.read_flat(entry.name, start, start + mine.size)
        if mine.dtype != other.dtype or mine.tobytes() != other.tobytes():
            apart, size = _apart(mine, other)
            with np.errstate(invalid="ignore", over="ignore"):
                beyond = (apart > atol + rtol * size) | np.isposinf(apart)
            if beyond.any():
                count += int(np.count_nonzero(beyond))
                at = int(np.where(beyond, apart, -1.0).argmax())
                if apart[at] > largest:
                    largest, place = float(apart[at]), start + at
                    shown = str(mine[at]), str(other[at])
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    ratios = (apart / size)[beyond]
                relative = max(relative, float(np.where(np.isnan(ratios), math.inf, ratios).max()))
        second.forget()
    if not count:
        return None
    index = tuple(int(i) for i in np.unravel_index(place, entry.shape)) if entry.shape else ()
    return ValueDifference(entry.name, count, entry.size, largest, relative, index, *shown)


def _apart(first: HostArray, second: HostArray) -> tuple[Any, Any]:
    """Absolute differences, and absolute values of `second`, in float64."""
    mine, other = _wide(first), _wide(second)
    size = np.abs(other)
    if first.dtype == second.dtype and first.dtype.kind in "iu":
        # float64 cannot represent large integers; their unsigned difference is exact.
        high, low = np.maximum(first, second), np.minimum(first, second)
        return (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64), size
    nans = np.isnan(mine) & np.isnan(other)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(mine - other)
    apart[(mine == other) | nans] = 0.0
    apart[np.isnan(apart)] = np.inf
    size[np.isnan(size)] = 0.0
    return apart, size


def _wide(part: HostArray) -> Any:
    return part.astype(np.complex128 if part.dtype.kind == "c" else np.float64)
