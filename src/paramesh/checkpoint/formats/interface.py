"""The interface of all checkpoint formats: a Source to read, a Sink to write.

Glossary
    entry       one array of a file: its name, element type, shape, and where its bytes begin
    piece       a contiguous run of an array's bytes in the file; safetensors has one for each
                array, MindSpore splits long arrays into several
    appended    the entries of `append_dict`: numbers, bools and strings that belong to no network
    flat        the elements of an array in row-major order, as if it had one axis

A Source maps its file into memory, so that opening costs the same whatever its size, and only the
pages that are accessed are read. It returns read-only views of the map, without a copy, where an
array is one piece. A map has one hazard: if another program truncates the file (writes into it
instead of replacing it), access to the lost pages kills the process. paramesh never changes files
in place: a file that is replaced while it is read stays readable.
"""

from __future__ import annotations

import abc
import math
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from paramesh.checkpoint.formats.boxes import Box, full_box, sizes, within
from paramesh.dtype import DType
from paramesh.errors import CheckpointError
from paramesh.files.atomic import AtomicFile, remove_leftovers

Appended = bool | int | float | str
Array = np.ndarray[Any, Any]
Pieces = tuple[tuple[int, int], ...]

_NOTHING_LOADED = "Nothing was loaded."

#: Metadata key which says that numbers of `append_dict` are arrays of shape (), as in MindSpore's
#: files; a conversion keeps it.
ORIGIN = "origin"
#: Elements that are not contiguous in a file are read in blocks of at most so many bytes.
BLOCK_BYTES = 16 << 20
#: The limits of numpy, and of the address space.
MOST_AXES = 64
MOST_BYTES = 1 << 63


@dataclass(frozen=True, slots=True)
class Entry:
    """One array of a file.

    Args:
        name: its full name.
        dtype: its element type; it may exist only in files (see `storage_dtypes`).
        shape: sizes of its axes.
        nbytes: bytes of all elements in memory.
        offset: of its first byte in the file; -1 if it is not known yet.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    offset: int = -1

    @classmethod
    def of(cls, name: str, dtype: DType, shape: Iterable[int], offset: int = -1) -> Entry:
        """The entry of an array; one that is not written yet has no offset."""
        sizes = tuple(shape)
        return cls(name, dtype, sizes, math.prod(sizes) * dtype.itemsize, offset)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Source(abc.ABC):
    """A checkpoint open for reading; a context manager. Made by `open_source`.

    Attributes:
        path: the file, or the folder of a sharded checkpoint.
        format: "safetensors", "ckpt", "sharded", "orbax" or "huggingface".
        appended: the entries of `append_dict` that the format separates from Parameters.
        metadata: other metadata of the file, as strings.
        scalars_may_be_appended: the format stores numbers of `append_dict` as arrays of shape (),
            so that such an array may or may not be a Parameter.
        skipped: arrays that cannot be read, with the file's description: {name: "F4 (8, 16)"}.
    """

    format: str = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.appended: Mapping[str, Appended] = {}
        self.metadata: Mapping[str, str] = {}
        self.scalars_may_be_appended = False
        self.skipped: Mapping[str, str] = {}
        self._entries: dict[str, Entry] = {}

    def names(self) -> list[str]:
        """The names of all arrays, in the file's order."""
        return list(self._entries)

    def entries(self) -> list[Entry]:
        """All arrays, in the file's order."""
        return list(self._entries.values())

    def entry(self, name: str) -> Entry:
        """The entry of one array.

        Raises:
            KeyError: the file has no array of this name.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise KeyError(
                f"Checkpoint '{self.path}' has no array named '{name}'; it has "
                f"{len(self._entries)}, see names()."
            ) from None

    def read(self, name: str) -> Array:
        """One array, read-only; a view of the file's map if it is one piece.

        Raises:
            KeyError: the file has no array of this name.
        """
        entry = self.entry(name)
        return self.read_flat(name, 0, entry.size).reshape(entry.shape)

    @abc.abstractmethod
    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop` of an array in row-major order, of shape (stop - start,).

        It is read-only, and a view where the elements are contiguous: statistics of an array of any
        size need no more memory than the elements that are read.

        Raises:
            KeyError: the file has no array of this name.
            IndexError: not 0 <= start <= stop <= the number of elements.
            ValueError: the file is closed.
        """

    def _with_elements(self, name: str, start: int, stop: int) -> Entry:
        entry = self.entry(name)
        if not 0 <= start <= stop <= entry.size:
            raise IndexError(
                f"Checkpoint '{self.path}': '{name}' has {entry.size} elements; elements "
                f"{start} to {stop} are out of range."
            )
        return entry

    def read_rows(self, name: str, start: int, stop: int) -> Array:
        """Rows `start` to `stop` (along axis 0) of an array, as `read_flat` gives them.

        Raises:
            KeyError: the file has no array of this name.
            IndexError: not 0 <= start <= stop <= the size of axis 0, or there is no axis.
        """
        shape = self.entry(name).shape
        if not shape or not 0 <= start <= stop <= shape[0]:
            raise IndexError(
                f"Checkpoint '{self.path}': '{name}' has shape {list(shape)}; rows {start} to "
                f"{stop} are out of range."
            )
        row = math.prod(shape[1:])
        return self.read_flat(name, start * row, stop * row).reshape(stop - start, *shape[1:])

    def read_box(self, name: str, box: Box) -> Array:
        """The elements of an array in a box, read-only; a view where they are contiguous.

        Besides these elements, no more than a few megabytes are in memory.

        Args:
            name: of the array.
            box: (start, stop) for each axis.

        Raises:
            KeyError: there is no array of this name.
            IndexError: the box is out of range.
            ValueError: the checkpoint is closed.
        """
        entry = self._with_box(name, box)
        if box[1:] == full_box(entry.shape[1:]):
            return self.read_rows(name, *box[0]) if box else self.read(name)
        return self._gathered(entry, box)

    def _gathered(self, entry: Entry, box: Box) -> Array:
        """A box that is not made of full rows, read in runs of full rows along some axis."""
        shape, itemsize = entry.shape, entry.dtype.itemsize
        axis = 0
        while axis + 1 < len(shape) and math.prod(shape[axis + 1 :]) * itemsize > BLOCK_BYTES:
            axis += 1
        below = math.prod(shape[axis + 1 :])
        step = max(1, BLOCK_BYTES // max(1, below * itemsize))
        rest = (slice(None), *within(box[axis + 1 :], full_box(shape[axis + 1 :])))
        first, last = box[axis]
        full = np.empty(sizes(box), entry.dtype.np_dtype)
        for outer in np.ndindex(full.shape[:axis]):
            place = tuple(at + low for at, (low, _) in zip(outer, box, strict=False))
            before = int(np.ravel_multi_index(place, shape[:axis])) * shape[axis] if axis else 0
            for start in range(first, last, step):
                stop = min(start + step, last)
                run = self.read_flat(entry.name, (before + start) * below, (before + stop) * below)
                into = (*outer, slice(start - first, stop - first))
                full[into] = run.reshape(stop - start, *shape[axis + 1 :])[rest]
        return frozen(full)

    def _with_box(self, name: str, box: Box) -> Entry:
        entry = self.entry(name)
        if len(box) != len(entry.shape) or not all(
            0 <= start <= stop <= size for (start, stop), size in zip(box, entry.shape, strict=True)
        ):
            raise IndexError(
                f"Checkpoint '{self.path}': '{name}' has shape {list(entry.shape)}; the box "
                f"{list(box)} is out of range."
            )
        return entry

    @abc.abstractmethod
    def verify(self) -> bool:
        """Verify the checksums in the file; False if it has none.

        Raises:
            CheckpointError: a checksum does not match.
        """

    def parts(self) -> Sequence[Source]:
        """The checkpoints that this one consists of; itself if there are no others."""
        return [self]

    def forget(self) -> None:
        """Release the memory of what was read; it is read again at the next access.

        To be called now and then while a file larger than memory is read.
        """
        return

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file. Views that were returned stay valid."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class MappedSource(Source):
    """A Source of one file that is mapped into memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pieces: dict[str, Pieces] = {}
        self._closed = False
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            self.nbytes = os.fstat(fd).st_size
            self._map: mmap.mmap | bytes = (
                mmap.mmap(fd, self.nbytes, access=mmap.ACCESS_READ) if self.nbytes else b""
            )
        finally:
            os.close(fd)  # the map has its own descriptor

    def _add(self, entry: Entry, pieces: Pieces) -> None:
        sizes = [size for size in entry.shape if size]
        if len(entry.shape) > MOST_AXES or math.prod(sizes) * entry.dtype.itemsize >= MOST_BYTES:
            raise self.damage(
                f"{len(entry.shape)} axes of such sizes are not a valid shape",
                entry.name,
                entry.offset,
            )
        self._entries[entry.name] = entry
        self._pieces[entry.name] = pieces

    def damage(self, what: str, name: str | None = None, offset: int | None = None) -> Exception:
        """The error to raise for an invalid file."""
        of = "" if name is None else f": '{name}'"
        at = "" if offset is None else f" at byte {offset}"
        return CheckpointError(
            f"Checkpoint '{self.path}' is not a valid {self.format} file{of}{at}: "
            f"{what}. {_NOTHING_LOADED}"
        )

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        entry = self._with_elements(name, start, stop)
        if self._closed:
            raise ValueError(
                f"Checkpoint '{self.path}' is closed; '{name}' cannot be read from it."
            )
        kind = entry.dtype.np_dtype
        first, last = start * kind.itemsize, stop * kind.itemsize
        if first == last:
            return frozen(np.empty(0, kind))
        found = list(_within(self._pieces[name], first, last))
        if len(found) == 1:
            at, _ = found[0]
            return np.frombuffer(self._map, kind, stop - start, at)
        full = np.empty(stop - start, kind)
        view, done = full.view(np.uint8), 0
        for at, length in found:
            view[done : done + length] = np.frombuffer(self._map, np.uint8, length, at)
            done += length
        return frozen(full)

    def _gathered(self, entry: Entry, box: Box) -> Array:
        if len(self._pieces[entry.name]) > 1:
            return super()._gathered(entry, box)
        return self.read(entry.name)[within(box, full_box(entry.shape))]

    def forget(self) -> None:
        """Release the pages of the file; see `Source.forget`."""
        advice = getattr(mmap, "MADV_DONTNEED", None)  # not everywhere
        if advice is not None and isinstance(self._map, mmap.mmap):
            self._map.madvise(advice)

    def close(self) -> None:
        """Close the file; the map lives until the last view of it is gone."""
        if self._closed:
            return
        self._closed = True
        mapped, self._map = self._map, b""
        if not isinstance(mapped, bytes):
            try:
                mapped.close()
            except BufferError:  # views of it are in use
                return


def _within(pieces: Pieces, first: int, last: int) -> Iterable[tuple[int, int]]:
    """Where bytes `first` to `last` of an array are: (offset in the file, length)."""
    begin = 0
    for at, length in pieces:
        low, high = max(first - begin, 0), min(last - begin, length)
        if low < high:
            yield at + low, high - low
        begin += length


def frozen(array: Array) -> Array:
    """Make an array read-only, and return it."""
    array.flags.writeable = False
    return array


class Place(Protocol):
    """Where a checkpoint is written: it appears complete, or nothing changes."""

    def commit(self) -> None:
        """Make the checkpoint appear."""
        ...

    def discard(self) -> None:
        """Remove what was written."""
        ...


class Sink(abc.ABC):
    """A checkpoint being written; a context manager. Made by `open_sink`.

    Every entry is written once, in order. When the context ends without an error, the file appears
    under its name, complete; otherwise an existing file is unchanged. Only the array that is being
    written has to be in memory.
    """

    format: str = ""

    def __init__(self, path: Path, entries: Sequence[Entry], place: Place | None = None) -> None:
        self.path = path
        self._expected = list(entries)
        self._done = 0
        self._place: Place = self._open_file() if place is None else place

    def _open_file(self) -> Place:
        self._file = AtomicFile(self.path)
        return self._file

    def write(self, name: str, array: Array) -> None:
        """Write the next entry.

        Raises:
            ValueError: it is not the next one, or the array has another element type or shape.
            OSError: from the file system.
        """
        entry = self._check(name, array.dtype, array.shape)
        self._write(entry, raw_bytes(array))
        self._done += 1

    def _check(self, name: str, *given: Any) -> Entry:
        """The next entry, which must have this name and, if given, numpy dtype and shape."""
        if self._done == len(self._expected):
            raise ValueError(f"'{self.path}': all entries are written; '{name}' is not among them.")
        entry = self._expected[self._done]
        kind = (entry.dtype.np_dtype, entry.shape)
        if name != entry.name or (given and given != kind):
            got = f"'{name}'" + (f", {given[0]}{list(given[1])}" if given else "")
            raise ValueError(
                f"'{self.path}': the next entry is '{entry.name}', {kind[0]}{list(kind[1])}; got "
                f"{got}."
            )
        return entry

    @abc.abstractmethod
    def _write(self, entry: Entry, data: memoryview) -> None:
        """Write the bytes of an array."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """Write what comes after the last array."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._place.discard()
            return
        try:
            if self._done < len(self._expected):
                missing = self._expected[self._done].name
                raise ValueError(
                    f"'{self.path}': '{missing}' was not written; no file was written."
                )
            self._finish()
            self._place.commit()
            remove_leftovers(self.path.parent)
        except BaseException:
            self._place.discard()
            raise


def number_array(
    value: bool | int | float, int_dtype: type[np.integer[Any]] | None = None
) -> Array:
    """A number of `append_dict` as an array of shape ().

    Args:
        value: a bool; an int of at most 64 bits; a float.
        int_dtype: the element type of ints; None for Int32, or Int64 if it does not fit. Floats
            become Float32, or Float64 if they would lose digits.
    """
    if isinstance(value, bool):
        return np.array(value, np.bool_)
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            exact = float(np.float32(value)) == value or value != value
        return np.array(value, np.float32 if exact else np.float64)
    fits = -(2**31) <= value < 2**31
    return np.array(value, int_dtype or (np.int32 if fits else np.int64))


def raw_bytes(array: Array) -> memoryview:
    """The bytes of an array in row-major, little-endian order; copied if they are not already."""
    contiguous: Any = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if contiguous.dtype.byteorder == ">":
        contiguous = contiguous.astype(contiguous.dtype.newbyteorder("<"))
    return memoryview(contiguous.reshape(-1).view(np.uint8))


class OpenSink(Protocol):
    """Opens a file of one format for writing; see `open_sink`."""

    def __call__(
        self,
        path: Path,
        entries: Sequence[Entry],
        appended: Mapping[str, Appended],
        metadata: Mapping[str, str],
        checksums: bool = False,
    ) -> Sink:
        """Open the file; the arguments are those of `open_sink`."""
        ...
