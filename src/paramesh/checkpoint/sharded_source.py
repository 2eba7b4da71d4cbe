"""Sharded checkpoints, to read: a folder of safetensors files and an index that names their slices.

    index.json                          the commit: without it the folder is no checkpoint
    part-TOKEN-00000.safetensors        what process 0 wrote; TOKEN is another at every save

The index is JSON:

    format, version     "paramesh-sharded", 1
    files               the names of the part files
    append_dict         the entries of `append_dict`
    devices             the process of each device, by rank; not in older files
    arrays              {name: {"dtype", "shape", "slices": […]}}, each slice with
        file            its place in `files`
        name            of the array in that file
        ranges          [start, stop] for each axis; or
        flat            [start, stop] of the elements in row-major order (divided optimizer state)
        ranks           of the devices that held it; not in older files

The slices of an array fill it without gap or overlap, which is checked when it is opened.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.checkpoint.boxes import (
    Box,
    boxes_of_range,
    common,
    full_box,
    is_grid,
    sizes,
    within,
)
from paramesh.checkpoint.safetensors_file import SafetensorsSource
from paramesh.checkpoint.storage import MOST_AXES, Appended, Array, Entry, Source
from paramesh.dtype import ALL
from paramesh.errors import CheckpointError

FORMAT = "sharded"
SUFFIX = ".sharded"
INDEX = "index.json"
INDEX_FORMAT, VERSION = "paramesh-sharded", 1
PART = re.compile(r"part-[0-9a-f]{8}-\d{5,}\.safetensors")

_DTYPES = {kind.long_name: kind for kind in ALL}


def is_sharded(path: Path) -> bool:
    """Whether a path is a sharded checkpoint, complete or not."""
    if not path.is_dir():
        return False
    return (path / INDEX).is_file() or any(map(PART.fullmatch, (p.name for p in path.iterdir())))


@dataclass(frozen=True, slots=True)
class _Slice:
    """A stored slice: where it lies in the array, and where in the files."""

    box: Box
    file: int
    name: str
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cut:
    """How an array is cut: its own shape, or (elements,) if it was cut as a flat one."""

    shape: tuple[int, ...]
    slices: tuple[_Slice, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A stored slice, for those who want to know where it was.

    Args:
        box: (start, stop) for each axis of the cut array.
        ranks: of the devices that held it when it was saved; () if the index does not say.
        file: the place of its file among `ShardedSource.files`.
    """

    box: Box
    ranks: tuple[int, ...]
    file: int


class ShardedSource(Source):
    """A sharded checkpoint open for reading.

    Attributes:
        bytes_read: bytes of all elements that were handed out so far.
        devices: the process of each device by rank, when it was saved; () if the index does not
            say.
    """

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.bytes_read = 0
        self.devices: tuple[int, ...] = ()
        self._cuts: dict[str, _Cut] = {}
        self._parts: list[SafetensorsSource] = []
        self._closed = False
        text = self._index()
        try:
            while not self._open(text):
                # Replaced since the index was read, or damaged: the index tells.
                before, text = text, self._index()
                if before == text:
                    raise self._damage("a file that its index names is missing")
        except BaseException:
            self.close()
            raise

    def _index(self) -> bytes:
        try:
            return (self.path / INDEX).read_bytes()
        except FileNotFoundError:
            raise CheckpointError(
                f"'{self.path}' has no {INDEX}, so it is no checkpoint: saving it never ended, or "
                "goes on still. Use an earlier checkpoint. Nothing was loaded."
            ) from None
        except NotADirectoryError:
            raise CheckpointError(
                f"Checkpoint '{self.path}' is a file, but a sharded checkpoint is a folder. "
                "Nothing was loaded."
            ) from None

    def _damage(self, what: str, name: str | None = None) -> CheckpointError:
        of = "" if name is None else f": '{name}'"
        return CheckpointError(
            f"Checkpoint '{self.path}' is damaged{of}: {what}. Nothing was loaded."
        )

    def _open(self, text: bytes) -> bool:
        """Read the index and open the files; False if one is missing."""
        try:
            index: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damage(f"{INDEX} is no JSON ({error})") from error
        if not isinstance(index, dict) or index.get("format") != INDEX_FORMAT:
            raise self._damage(f"{INDEX} does not say that its format is {INDEX_FORMAT!r}")
        if index.get("version") != VERSION:
            raise CheckpointError(
                f"Checkpoint '{self.path}' has version {index.get('version')!r}; this paramesh "
                f"reads version {VERSION}. Nothing was loaded."
            )
        files, arrays = index.get("files"), index.get("arrays")
        if not isinstance(files, list) or not isinstance(arrays, dict):
            raise self._damage(f"{INDEX} must give files and arrays")
        for part in self._parts:
            part.close()
        self._parts = []
        for name in files:
            if not isinstance(name, str) or not PART.fullmatch(name):
                raise self._damage(f"{INDEX} names a file {name!r}")
            try:
                self._parts.append(SafetensorsSource(self.path / name))
            except FileNotFoundError:
                return False
        held = [{entry.name: entry for entry in part.entries()} for part in self._parts]
        for name, about in arrays.items():
            self._add(name, about, held)
        appended = index.get("append_dict", {})
        if not isinstance(appended, dict) or not all(
            isinstance(value, Appended) and name not in arrays for name, value in appended.items()
        ):
            raise self._damage("its append_dict is wrong")
        self.appended = appended
        try:
            self.devices = tuple(map(_natural, index.get("devices", ())))
        except (TypeError, ValueError) as error:
            raise self._damage(f"its devices are wrong ({error})") from error
        return True

    def _add(self, name: str, about: Any, held: list[dict[str, Entry]]) -> None:
        try:
            kind = _DTYPES[about["dtype"]]
            shape = tuple(map(_natural, about["shape"]))
            slices = about["slices"]
            flat = any("flat" in one for one in slices)
            cut = (math.prod(shape),) if flat else shape
            found = tuple(self._slice(one, flat) for one in slices)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damage(f"{INDEX} describes it wrongly ({error!r})", name) from error
        if len(shape) > MOST_AXES or not is_grid((one.box for one in found), cut):
            raise self._damage(f"its slices do not fill the shape {list(shape)}", name)
        for one in found:
            entry = held[one.file].get(one.name)
            if entry is None or (entry.dtype, entry.shape) != (kind, sizes(one.box)):
                part = self._parts[one.file].path.name
                raise self._damage(
                    f"'{part}' does not have its slice {list(one.box)} as '{one.name}'", name
                )
        self._entries[name] = Entry.of(name, kind, shape)
        self._cuts[name] = _Cut(cut, found)

    def _slice(self, about: Any, flat: bool) -> _Slice:
        ranges = [about["flat"]] if flat else about["ranges"]
        box = tuple((_natural(start), _natural(stop)) for start, stop in ranges)
        file = _natural(about["file"])
        if file >= len(self._parts):
            raise ValueError(f"there is no file {file}")
        return _Slice(box, file, about["name"], tuple(map(_natural, about.get("ranks", ()))))

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        self._with_elements(name, start, stop)
        cut = self._cuts[name].shape
        parts = [self._gather(name, box).reshape(-1) for box in boxes_of_range(cut, start, stop)]
        if len(parts) == 1:
            return parts[0]
        whole = np.concatenate(parts) if parts else self._gather(name, ((0, 0),))
        whole.flags.writeable = False
        return whole

    def read_box(self, name: str, box: Box) -> Array:
        """The part of an array in a box: only its bytes are read, a view if one slice has them.

        Of an array that was cut as a flat one, the rows along axis 0 are read.

        Args:
            name: of the array.
            box: (start, stop) for each axis.

        Raises:
            KeyError: there is no array of this name.
            IndexError: the box is not inside of the array.
            ValueError: the checkpoint is closed.
        """
        shape = self.entry(name).shape
        if len(box) != len(shape) or not all(
            0 <= start <= stop <= size for (start, stop), size in zip(box, shape, strict=True)
        ):
            raise IndexError(
                f"Checkpoint '{self.path}': '{name}' has shape {list(shape)}; there is no box "
                f"{list(box)}."
            )
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
                # The Ellipsis keeps what has no axes an array.
                held = self._parts[one.file].read(one.name)[(*within(shared, one.box), ...)]
                if shared == box:
                    return held
                if whole is None:
                    whole = np.empty(shape, kind)
                whole[within(shared, box)] = held
        found = np.empty(shape, kind) if whole is None else whole
        found.flags.writeable = False
        return found

    def slices(self, name: str) -> list[tuple[Path, Box]]:
        """The slices of an array: the file of each, and its box (of the flat array, if cut so)."""
        self.entry(name)
        return [(self._parts[one.file].path, one.box) for one in self._cuts[name].slices]

    def files(self) -> list[str]:
        """The names of the part files."""
        return [part.path.name for part in self._parts]

    def held(self, name: str) -> tuple[tuple[int, ...], list[Held]]:
        """The shape that was cut (the array's, or (elements,) of a flat one), and its slices."""
        self.entry(name)
        cut = self._cuts[name]
        return cut.shape, [Held(one.box, one.ranks, one.file) for one in cut.slices]

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


def _natural(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no natural number")
    return number
