"""Arrays in slices, each of which is an array of another file: to read as if they were whole.

Only the slices that share elements with what is asked for are looked at, and only those elements.
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
    """A stored slice: where it lies in the array, and where in the files.

    Args:
        box: of the array, or of the flat array.
        file: the place of its file among the parts.
        name: of the array in that file.
        ranks: of the devices that held it, as far as the checkpoint says.
    """

    box: Box
    file: int
    name: str
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """How an array is cut: its own shape, or (elements,) if it was cut as a flat one."""

    shape: tuple[int, ...]
    slices: tuple[Slice, ...]


class CutSource(Source):
    """A checkpoint whose arrays lie in slices in several files.

    Attributes:
        bytes_read: bytes of all elements that were handed out so far.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.bytes_read = 0
        self._cuts: dict[str, Cut] = {}
        self._parts: Sequence[Source] = []
        self._closed = False

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        self._with_elements(name, start, stop)
        cut = self._cuts[name].shape
        parts = [self._gather(name, box).reshape(-1) for box in boxes_of_range(cut, start, stop)]
        if len(parts) == 1:
            return parts[0]
        return frozen(np.concatenate(parts)) if parts else self._gather(name, ((0, 0),))

    def read_box(self, name: str, box: Box) -> Array:
        """The part of an array in a box: only its bytes are read, a view if one slice has them.

        Of an array that was cut as a flat one, the rows along axis 0 are read.
        """
        shape = self._with_box(name, box).shape
        if self._cuts[name].shape == shape:
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
        whole: Array | None = None
        if math.prod(shape):
            for one in self._cuts[name].slices:
                shared = common(one.box, box)
                if shared is None:
                    continue
                held = self._held(one, shared)
                if shared == box:
                    return held
                if whole is None:
                    whole = np.empty(shape, kind)
                whole[within(shared, box)] = held
        return frozen(np.empty(shape, kind) if whole is None else whole)

    def _held(self, one: Slice, shared: Box) -> Array:
        inside = tuple(
            (start - first, stop - first)
            for (start, stop), (first, _) in zip(shared, one.box, strict=True)
        )
        return self._parts[one.file].read_box(one.name, inside)

    def parts(self) -> Sequence[Source]:
        """The checkpoints that the slices lie in."""
        return self._parts

    def slices(self, name: str) -> list[tuple[Path, Box]]:
        """The slices of an array: the file of each, and its box (of the flat array, if cut so)."""
        self.entry(name)
        return [(self._parts[one.file].path, one.box) for one in self._cuts[name].slices]

    def verify(self) -> bool:
        """Compare the checksums of all files; see `Source.verify`."""
        return bool(self._parts) and all([part.verify() for part in self._parts])

    def forget(self) -> None:
        """Let go of the pages of all files; see `Source.forget`."""
        for part in self._parts:
            part.forget()

    def close(self) -> None:
        """Close all files; views of them stay valid."""
        self._closed = True
        for part in self._parts:
            part.close()

    def _add_cut(self, entry: Entry, cut: Cut) -> None:
        self._entries[entry.name] = entry
        self._cuts[entry.name] = cut
