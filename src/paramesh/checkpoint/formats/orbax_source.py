"""Reading orbax checkpoints; `orbax_folder` describes their structure.

`tensorstore`, the library with which orbax stores arrays, reads their compressed chunks from a
database or from files. Orbax itself is not needed.

The smallest unit that can be read is a chunk, since chunks are compressed: for a smaller request,
the rows of its chunks are cached until others are requested.
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
from paramesh.checkpoint.formats.storage_dtypes import storage_dtype
from paramesh.errors import CheckpointError

FORMAT = "orbax"
#: Metadata key of the names of the items without arrays.
LEFT_OUT = "orbax.left_out"
_NEEDS_TENSORSTORE = (
    "Checkpoint '{}' is orbax's, which is read by tensorstore, and that is not installed: pip "
    "install 'paramesh[orbax]'. Nothing was loaded."
)
#: Arrays of at most so many bytes are cached completely.
_SMALL = 16 << 20
_NODES = "cache_pool#nodes"
#: The inner nodes of a database are cached, or each array would read them again. More threads than
#: processors make many small reads slower.
_CONTEXT = {
    _NODES: {"total_bytes_limit": 64 << 20},
    "file_io_concurrency": {"limit": max(2, os.cpu_count() or 1)},
}
_LONGEST_WORDS = 300


class OrbaxSource(Source):
    """An orbax checkpoint open for reading.

    Its names are the keys of the tree, joined by dots, after the item's name if several items have
    arrays. Leaves that are str are in `appended`; numbers are arrays of shape (); None is left out.
    A random key is read as its integers.

    Raises:
        CheckpointError: it is not complete or not valid; tensorstore is not installed.
    """

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrays: dict[str, Any] = {}
        self._cached_rows: tuple[str, int, int, Array] | None = None
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
                shape, kind = tuple(array.shape), storage_dtype(np.dtype(array.dtype.numpy_dtype))
                entry = Entry.of(front + name, kind, shape)
            if len(shape) > MOST_AXES or entry.nbytes >= MOST_BYTES:
                raise damage(self.path, f"{list(shape)} is not a valid shape", entry.name)
            if entry.name in self._arrays:
                raise damage(self.path, "the name is duplicated", entry.name)
            self._entries[entry.name] = entry
            self._arrays[entry.name] = array

    @contextmanager
    def _errors(self, name: str) -> Generator[None]:
        """Turn errors of the library into one error that names the array."""
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
        """(start, rows from there), which include the rows `first` to `last`."""
        if self._cached_rows is not None:
            name, low, high, rows = self._cached_rows
            if name == entry.name and low <= first and last <= high:
                return low, rows
        self._cached_rows = None  # freed first, so that both are never in memory
        count = entry.shape[0]
        step = self._array(entry.name).chunk_layout.read_chunk.shape[0]
        if entry.nbytes <= _SMALL:
            step = count
        low, high = first // step * step, min(-(-last // step) * step, count)
        rows = self._read(entry.name, ((low, high), *((0, size) for size in entry.shape[1:])))
        if (low, high) != (first, last):
            self._cached_rows = (entry.name, low, high, rows)
        return low, rows

    def read_box(self, name: str, box: Box) -> Array:
        """The elements in a box; only the chunks that overlap it are read."""
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
        """Reject sizes that do not fit into memory; the library would abort the process."""
        chunk = self._array(entry.name).chunk_layout.read_chunk.shape or ()
        for shape in (sizes(box), chunk):
            nbytes = math.prod(shape) * entry.dtype.itemsize
            try:
                np.empty(min(nbytes, MOST_BYTES - 1), np.uint8)
            except MemoryError:
                raise damage(
                    self.path,
                    f"a chunk of {nbytes} bytes does not fit into memory",
                    entry.name,
                ) from None

    def verify(self) -> bool:
        """False: checksums, if there are any, are verified at every read."""
        return False

    def close(self) -> None:
        """Close it; arrays that were returned stay valid."""
        self._closed = True
        self._arrays.clear()
        self._cached_rows = None


def _place(item: Item, name: str) -> dict[str, Any]:
    """The tensorstore spec of an array."""
    folder: dict[str, Any] = {"driver": "file", "path": f"{item.folder.absolute()}/"}
    if item.ocdbt:
        store = {"driver": "ocdbt", "base": folder, "path": f"{name}/", "cache_pool": _NODES}
    else:
        store = folder | {"path": f"{folder['path']}{name}/"}
    return {
        "driver": "zarr3" if item.zarr3 else "zarr",
        "kvstore": store,
        # Missing chunks would otherwise read as zeros.
        "fill_missing_data_reads": not item.complete,
        "recheck_cached_data": False,
        "recheck_cached_metadata": False,
    }
