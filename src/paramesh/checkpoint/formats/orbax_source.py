"""Orbax's checkpoints, to read; `orbax_folder` says what they look like.

How arrays are kept (chunks, compressed, in a database or in files) is the business of
`tensorstore`, the library that orbax keeps them with. Orbax itself is not needed.

Chunks are compressed, so that the smallest part that can be read is a chunk: where less is asked
for, the rows that its chunks hold stay in memory until others are asked for.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.checkpoint.formats.boxes import Box, sizes, within
from paramesh.checkpoint.formats.interface import (
    MOST_AXES,
    MOST_BYTES,
    ORIGIN,
    Array,
    Entry,
    Source,
    frozen,
)
from paramesh.checkpoint.formats.orbax_folder import Item, damage, items_of
from paramesh.checkpoint.formats.storage_dtypes import at_rest
from paramesh.errors import CheckpointError

FORMAT = "orbax"
#: Metadata that names the items that have no arrays.
LEFT_OUT = "orbax.left_out"
_NEEDS_TENSORSTORE = (
    "Checkpoint '{}' is orbax's, which is read by tensorstore, and that is not installed: pip "
    "install 'paramesh[orbax]'. Nothing was loaded."
)
#: Arrays of at most so many bytes are held as a whole.
_SMALL = 16 << 20
_NODES = "cache_pool#nodes"
#: The inner nodes of a database are kept in memory; without, each array would read them again. More
#: threads than processors make many small reads slower.
_CONTEXT = {
    _NODES: {"total_bytes_limit": 64 << 20},
    "file_io_concurrency": {"limit": max(2, os.cpu_count() or 1)},
}
_LONGEST_WORDS = 300


class OrbaxSource(Source):
    """A checkpoint of orbax open for reading.

    Its names are the keys of the tree, joined by dots, after the item's name if several items have
    arrays. Leaves that are str are in `appended`; numbers are arrays of shape (); None is nothing.
    A random key comes as its numbers.

    Raises:
        CheckpointError: it was not finished, or is damaged; tensorstore is not installed.
    """

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrays: dict[str, Any] = {}
        self._held: tuple[str, int, int, Array] | None = None
        self._closed = False
        items, others = items_of(path)
        try:
            self._library: Any = importlib.import_module("tensorstore")
        except ImportError as error:
            raise CheckpointError(_NEEDS_TENSORSTORE.format(path)) from error
        self.scalars_may_be_appended = True
        self.metadata = {ORIGIN: "orbax"} | ({LEFT_OUT: ", ".join(others)} if others else {})
        strings: dict[str, str] = {}
        for prefix, item in items.items():
            front = f"{prefix}." if prefix else ""
            self._open(front, item)
            strings |= {front + name: text for name, text in item.strings.items()}
        self.appended = strings

    def _open(self, front: str, item: Item) -> None:
        context = self._library.Context(_CONTEXT)
        opening = {
            name: self._library.open(_place(item, name), open=True, read=True, context=context)
            for name in item.arrays
        }
        for name, future in opening.items():
            with self._errors(front + name):
                array = future.result()
                shape, kind = tuple(array.shape), at_rest(np.dtype(array.dtype.numpy_dtype))
                entry = Entry.of(front + name, kind, shape)
            if len(shape) > MOST_AXES or entry.nbytes >= MOST_BYTES:
                raise damage(self.path, f"no array has the shape {list(shape)}", entry.name)
            if entry.name in self._arrays:
                raise damage(self.path, "the name is there twice", entry.name)
            self._entries[entry.name] = entry
            self._arrays[entry.name] = array

    @contextmanager
    def _errors(self, name: str) -> Generator[None]:
        """Whatever the library cannot do, as one error that says of which array."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RuntimeError, OSError, NotImplementedError) as e:
            words = " ".join(str(e).split())
            if len(words) > _LONGEST_WORDS:
                words = words[:_LONGEST_WORDS] + "…"
            raise CheckpointError(
                f"Checkpoint '{self.path}': '{name}' cannot be read: {words.removesuffix('.')}. "
                "Nothing was loaded."
            ) from e

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        entry = self._with_elements(name, start, stop)
        if start == stop:
            return frozen(np.empty(0, entry.dtype.np_dtype))
        if not entry.shape:
            return self._read(name, ()).reshape(1)
        row = math.prod(entry.shape[1:])
        first, last = start // row, -(-stop // row)
        low, rows = self._rows(entry, first, last)
        flat = rows.reshape(-1)[start - low * row : stop - low * row]
        return frozen(flat)

    def _rows(self, entry: Entry, first: int, last: int) -> tuple[int, Array]:
        """(a row, rows from it on), among which are those from `first` to `last`."""
        if self._held is not None:
            name, low, high, rows = self._held
            if name == entry.name and low <= first and last <= high:
                return low, rows
        self._held = None  # first, so that not both are in memory
        count = entry.shape[0]
        step = self._array(entry.name).chunk_layout.read_chunk.shape[0]
        if entry.nbytes <= _SMALL:
            step = count
        low, high = first // step * step, min(-(-last // step) * step, count)
        rows = self._read(entry.name, ((low, high), *((0, size) for size in entry.shape[1:])))
        if (low, high) != (first, last):
            self._held = (entry.name, low, high, rows)
        return low, rows

    def read_box(self, name: str, box: Box) -> Array:
        """The part of an array in a box; only the chunks that have some of it are read."""
        entry = self._with_box(name, box)
        if 0 < entry.nbytes <= _SMALL and box:
            low, rows = self._rows(entry, 0, entry.shape[0])
            return rows[within(box, ((low, low + len(rows)), *((0, n) for n in entry.shape[1:])))]
        return self._read(name, box)

    def _read(self, name: str, box: Box) -> Array:
        entry, array = self._entries[name], self._array(name)
        self._check_memory(entry, box)
        with self._errors(name):
            found = array[tuple(slice(*part) for part in box)].read().result()
        return frozen(np.ascontiguousarray(found).reshape(sizes(box)))

    def _array(self, name: str) -> Any:
        if self._closed:
            raise ValueError(
                f"Checkpoint '{self.path}' is closed; '{name}' cannot be read from it."
            )
        return self._arrays[name]

    def _check_memory(self, entry: Entry, box: Box) -> None:
        """Refuse sizes that no memory has; the library would end the process."""
        chunk = self._array(entry.name).chunk_layout.read_chunk.shape or ()
        for shape in (sizes(box), chunk):
            nbytes = math.prod(shape) * entry.dtype.itemsize
            try:
                np.empty(min(nbytes, MOST_BYTES - 1), np.uint8)
            except MemoryError:
                raise damage(
                    self.path,
                    f"there is no memory for {nbytes} bytes, which a part of it would take",
                    entry.name,
                ) from None

    def verify(self) -> bool:
        """Nothing: checksums, where there are some, are compared whenever something is read."""
        return False

    def close(self) -> None:
        """Close it; arrays that were handed out stay valid."""
        self._closed = True
        self._arrays.clear()
        self._held = None


def _place(item: Item, name: str) -> dict[str, Any]:
    """Where an array is, in tensorstore's words."""
    folder: dict[str, Any] = {"driver": "file", "path": f"{item.folder.absolute()}/"}
    if item.ocdbt:
        store = {"driver": "ocdbt", "base": folder, "path": f"{name}/", "cache_pool": _NODES}
    else:
        store = folder | {"path": f"{folder['path']}{name}/"}
    return {
        "driver": "zarr3" if item.zarr3 else "zarr",
        "kvstore": store,
        # What is missing would otherwise be zeros.
        "fill_missing_data_reads": not item.complete,
        "recheck_cached_data": False,
        "recheck_cached_metadata": False,
    }
