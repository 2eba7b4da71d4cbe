"""Statistics of arrays in a checkpoint, computed in chunks.

Only a few megabytes of an array are in memory at once, whatever its size.

Glossary
    chunk        consecutive elements of an array in row-major order
    finite      neither NaN nor infinite; minimum, maximum, mean and deviation are of these alone
    magnitude   the absolute value of a complex number, which stands for it

Chunks are combined by Chan, Golub and LeVeque's formula ("Updating formulae and a pairwise
algorithm for computing sample variances", 1979), so that the deviation is accurate even if the mean
is large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramesh.array_types import HostArray
from paramesh.checkpoint.formats.interface import Source

#: Number of elements of a chunk.
CHUNK = 1 << 19


@dataclass(frozen=True)
class Statistics:
    """Statistics of the elements of an array.

    Args:
        count: number of elements.
        nans: number of NaN (complex: in either component).
        infinities: number of infinite elements.
        zeros: number of zeros.
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
        """The number of finite elements."""
        return self.count - self.nans - self.infinities


def chunks(source: Source, name: str, length: int = CHUNK) -> Iterator[tuple[int, Any]]:
    """An array in chunks: (index of the first element, elements).

    A chunk is valid until the next one is requested; then its pages are released.
    """
    size = source.entry(name).size
    for start in range(0, size, length):
        yield start, source.read_flat(name, start, min(start + length, size))
        source.forget()


def reals(chunk: HostArray) -> Any:
    """Elements as real numbers that numpy computes with: magnitudes, and small floats as float32.

    Integers are unchanged; float16, bfloat16 and float8 become float32.
    """
    if chunk.dtype.kind == "c":
        with np.errstate(over="ignore", invalid="ignore"):
            return np.abs(chunk)
    if chunk.dtype.kind in "biuf" and chunk.dtype.itemsize >= 4:
        return chunk
    if chunk.dtype.kind == "b":
        return chunk.view(np.uint8)
    return chunk if chunk.dtype.kind in "iu" else chunk.astype(np.float32)


def statistics(source: Source, name: str) -> Statistics:
    """The statistics of one array; of a complex one those of its magnitudes.

    Raises:
        KeyError: the file has no array of this name.
    """
    found = _Sums()
    for _, chunk in chunks(source, name):
        found.add(reals(chunk))
    return found.result()


class _Sums:
    """Statistics that accumulate chunks."""

    def __init__(self) -> None:
        self.count = self.nans = self.infinities = self.zeros = self.finite = 0
        self.mean = self.squares = 0.0
        self.low: Any = None
        self.high: Any = None

    def add(self, chunk: HostArray) -> None:
        self.count += chunk.size
        self.zeros += chunk.size - int(np.count_nonzero(chunk))
        if chunk.dtype.kind == "f":
            chunk = self._finite(chunk)
        if not chunk.size:
            return
        low, high = chunk.min().item(), chunk.max().item()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        self._moments(chunk)

    def _finite(self, chunk: HostArray) -> Any:
        usable = np.isfinite(chunk)
        if usable.all():
            return chunk
        nans = int(np.count_nonzero(np.isnan(chunk)))
        self.nans += nans
        self.infinities += chunk.size - int(np.count_nonzero(usable)) - nans
        return chunk[usable]

    def _moments(self, chunk: HostArray) -> None:
        n = chunk.size
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(chunk.mean(dtype=np.float64))
            away = np.subtract(chunk, mean, dtype=np.float64)
            squares = float(np.dot(away, away))
            step, total = mean - self.mean, self.finite + n
            self.squares += squares + step * step * self.finite * n / total
        self.mean += step * n / total
        self.finite = total

    def result(self) -> Statistics:
        mean = std = None
        if self.finite:
            mean, std = self.mean, math.sqrt(self.squares / self.finite)
            # Sums near the limits of float64 may overflow; then the result is unknown.
            mean = mean if math.isfinite(mean) else None
            std = std if math.isfinite(std) else None
        return Statistics(
            self.count, self.nans, self.infinities, self.zeros, self.low, self.high, mean, std
        )


def histogram(source: Source, name: str, low: float, high: float, bins: int) -> list[int]:
    """The number of elements in each of `bins` equal intervals from `low` to `high`.

    Elements that are not finite, or out of the range, are not counted.

    Args:
        source: the checkpoint.
        name: of the array.
        low: start of the first interval.
        high: end of the last one, inclusive; if it equals `low`, all elements are in the first.
        bins: number of intervals.

    Raises:
        KeyError: the file has no array of this name.
        ValueError: `low` and `high` are not finite and in order, or `bins` is below 1.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high and bins >= 1):
        raise ValueError(f"histogram: cannot make {bins} intervals from {low} to {high}.")
    counts = np.zeros(bins, np.int64)
    # The width of the full float64 range overflows; that of the halves does not.
    half = 0.5 if math.isinf(high - low) else 1.0
    width = high * half - low * half
    for _, chunk in chunks(source, name):
        values = reals(chunk).astype(np.float64)
        inside = (values >= low) & (values <= high)
        if not inside.all():
            values = values[inside]
        if half != 1.0:
            values *= half
        values -= low * half
        if width:  # in two steps, since bins / width may be infinite
            values /= width
            values *= bins
        places = values.astype(np.intp)
        np.minimum(places, bins - 1, out=places)
        counts += np.bincount(places, minlength=bins)
    return counts.tolist()
