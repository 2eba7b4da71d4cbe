"""Full arrays assembled from slices, each of which is an array of another file.

Only the slices that overlap a request are read, and only the elements that overlap it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paramesh.checkpoint.formats.boxes import Box, boxes_of_range, common, full_box, sizes, within
from paramesh.checkpoint.formats.interface import Array, Entry, Source, frozen


@dataclass(frozen=True, slots=True)
class Slice:
    """A stored slice: its box in the array, and its place in the files.

    Args:
        box: of the array, or of the flat array.
        file: index of its file among the parts.
        name: of the array in that file.
        ranks: of the devices that had it, as far as the checkpoint says.
    """

    box: Box
    file: int
    name: str
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Slicing:
    """How an array is sliced: its own shape, or (elements,) if it was sliced as a flat array."""

    shape: tuple[int, ...]
    slices: tuple[Slice, ...]


class SlicedSource(Source):
    """A checkpoint whose arrays are stored as slices in several files.

    Attributes:
        bytes_read: bytes of all elements that were returned so far.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.bytes_read = 0
        self._slicings: dict[str, Slicing] = {}
        self._parts: Sequence[Source] = []
        self._closed = False

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        self._with_elements(name, start, stop)
        shape = self._slicings[name].shape
        runs = [self._gather(name, box).reshape(-1) for box in boxes_of_range(shape, start, stop)]
        if len(runs) == 1:
            return runs[0]
        return frozen(np.concatenate(runs)) if runs else self._gather(name, ((0, 0),))

    def read_box(self, name: str, box: Box) -> Array:
        """The elements in a box: only their bytes are read, as a view if one slice has them all.

        Of an array that was sliced as a flat array, full rows along axis 0 are read.
        """
        shape = self._with_box(name, box).shape
        if self._slicings[name].shape == shape:
            return self._gather(name, box)
        if not shape:
            return self._gather(name, ((0, 1),)).reshape(())
        rows = self.read_rows(name, *box[0])
        return rows[within(box, (box[0], *full_box(shape[1:])))]

    def _gather(self, name: str, box: Box) -> Array:
        if self._closed:
            raise ValueError(
                f"Checkpoint '{self.path}' is closed; '{name}' cannot be read from it."
            )
        kind = self._entries[name].dtype.np_dtype
        shape = sizes(box)
        self.bytes_read += math.prod(shape) * kind.itemsize
        gathered: Array | None = None
        if math.prod(shape):
            for one in self._slicings[name].slices:
                shared = common(one.box, box)
                if shared is None:
                    continue
                found = self._read_slice(one, shared)
                if shared == box:
                    return found
                if gathered is None:
                    gathered = np.empty(shape, kind)
                gathered[within(shared, box)] = found
        return frozen(np.empty(shape, kind) if gathered is None else gathered)

    def _read_slice(self, one: Slice, shared: Box) -> Array:
        inside = tuple(
            (start - first, stop - first)
            for (start, stop), (first, _) in zip(shared, one.box, strict=True)
        )
        return self._parts[one.file].read_box(one.name, inside)

    def parts(self) -> Sequence[Source]:
        """The checkpoints that have the slices."""
        return self._parts

    def slices(self, name: str) -> list[tuple[Path, Box]]:
        """The slices of an array: the file of each, and its box (of the flat array, if flat)."""
        self.entry(name)
        return [(self._parts[one.file].path, one.box) for one in self._slicings[name].slices]

    def verify(self) -> bool:
        """Compare the checksums of all files; see `Source.verify`."""
        return bool(self._parts) and all([part.verify() for part in self._parts])

    def forget(self) -> None:
        """Release the pages of all files; see `Source.forget`."""
        for part in self._parts:
            part.forget()

    def close(self) -> None:
        """Close all files; views of them stay valid."""
        self._closed = True
        for part in self._parts:
            part.close()

    def _add_sliced(self, entry: Entry, slicing: Slicing) -> None:
        self._entries[entry.name] = entry
        self._slicings[entry.name] = slicing
