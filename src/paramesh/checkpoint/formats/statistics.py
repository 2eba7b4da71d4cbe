"""Statistics of arrays in a checkpoint, computed a part at a time.

However large an array is, no more than a few megabytes of it are in memory at once.

Glossary
    part        consecutive elements of an array in row-major order
    finite      neither NaN nor infinite; minimum, maximum, mean and deviation are of these alone
    magnitude   what stands for a complex number: its absolute value

Parts are added up by Chan, Golub and LeVeque's formula ("Updating formulae and a pairwise algorithm
for computing sample variances", 1979), so that a large mean does not cost the deviation its digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramesh.checkpoint.formats.interface import Source

#: Elements of one part.
PART = 1 << 19


@dataclass(frozen=True)
class Statistics:
    """What an array's elements are like.

    Args:
        count: number of elements.
        nans: how many are NaN (complex: in either component).
        infinities: how many are infinite.
        zeros: how many are 0.
        low: the smallest finite element; an int for integers and bools, else a float. None if
            there is no finite element.
        high: the largest.
        mean: of the finite elements, in float64.
        std: their standard deviation, with n as the divisor.
    """

    count: int = 0
    nans: int = 0
    infinities: int = 0
    zeros: int = 0
    low: int | float | None = None
    high: int | float | None = None
    mean: float | None = None
    std: float | None = None

    @property
    def finite(self) -> int:
        """How many elements are finite."""
        return self.count - self.nans - self.infinities


def parts(source: Source, name: str, length: int = PART) -> Iterator[tuple[int, Any]]:
    """An array in parts: (place of the part's first element, its elements).

    A part is for use until the next one is asked for; then its pages are let go.
    """
    size = source.entry(name).size
    for start in range(0, size, length):
        yield start, source.read_flat(name, start, min(start + length, size))
        source.forget()


def reals(part: Any) -> Any:
    """Elements as numpy can compute with them: complex numbers as magnitudes, small floats wider.

    Integers stay as they are; float16, bfloat16 and float8 become float32.
    """
    if part.dtype.kind == "c":
        with np.errstate(over="ignore", invalid="ignore"):
            return np.abs(part)
    if part.dtype.kind in "biuf" and part.dtype.itemsize >= 4:
        return part
    if part.dtype.kind == "b":
        return part.view(np.uint8)
    return part if part.dtype.kind in "iu" else part.astype(np.float32)


def statistics(source: Source, name: str) -> Statistics:
    """The statistics of one array; of a complex one those of its magnitudes.

    Raises:
        KeyError: the file has no array of this name.
    """
    found = _Sums()
    for _, part in parts(source, name):
        found.add(reals(part))
    return found.result()


class _Sums:
    """Statistics while they grow."""

    def __init__(self) -> None:
        self.count = self.nans = self.infinities = self.zeros = self.finite = 0
        self.mean = self.squares = 0.0
        self.low: Any = None
        self.high: Any = None

    def add(self, part: Any) -> None:
        self.count += part.size
        self.zeros += part.size - int(np.count_nonzero(part))
        if part.dtype.kind == "f":
            part = self._finite(part)
        if not part.size:
            return
        low, high = part.min().item(), part.max().item()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        self._moments(part)

    def _finite(self, part: Any) -> Any:
        usable = np.isfinite(part)
        if usable.all():
            return part
        nans = int(np.count_nonzero(np.isnan(part)))
        self.nans += nans
        self.infinities += part.size - int(np.count_nonzero(usable)) - nans
        return part[usable]

    def _moments(self, part: Any) -> None:
        n = part.size
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(part.mean(dtype=np.float64))
            away = np.subtract(part, mean, dtype=np.float64)
            squares = float(np.dot(away, away))
            step, total = mean - self.mean, self.finite + n
            self.squares += squares + step * step * self.finite * n / total
        self.mean += step * n / total
        self.finite = total

    def result(self) -> Statistics:
        mean = std = None
        if self.finite:
            mean, std = self.mean, math.sqrt(self.squares / self.finite)
            # Sums of numbers near the end of float64's range may overflow; then nothing is known.
            mean = mean if math.isfinite(mean) else None
            std = std if math.isfinite(std) else None
        return Statistics(
            self.count, self.nans, self.infinities, self.zeros, self.low, self.high, mean, std
        )


def histogram(source: Source, name: str, low: float, high: float, bins: int) -> list[int]:
    """How many elements fall into each of `bins` equal intervals from `low` to `high`.

    What is not finite, or outside, is not counted.

    Args:
        source: the checkpoint.
        name: of the array.
        low: where the first interval begins.
        high: where the last one ends, this end included; if it is `low` there is one interval that
            matters, the first.
        bins: number of intervals.

    Raises:
        KeyError: the file has no array of this name.
        ValueError: `low` and `high` are not finite and in order, or `bins` is below 1.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high and bins >= 1):
        raise ValueError(f"histogram: no {bins} intervals from {low} to {high}.")
    counts = np.zeros(bins, np.int64)
    # The whole range of float64 has a width that overflows: halves do not.
    half = 0.5 if math.isinf(high - low) else 1.0
    width = high * half - low * half
    for _, part in parts(source, name):
        values = reals(part).astype(np.float64)
        inside = (values >= low) & (values <= high)
        if not inside.all():
            values = values[inside]
        if half != 1.0:
            values *= half
        values -= low * half
        if width:  # in two steps: bins / width may be infinite
            values /= width
            values *= bins
        places = values.astype(np.intp)
        np.minimum(places, bins - 1, out=places)
        counts += np.bincount(places, minlength=bins)
    return counts.tolist()
