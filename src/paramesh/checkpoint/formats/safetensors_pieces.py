"""Writing safetensors files whose arrays come in pieces, in any order.

A server writes a table while it goes through its rows once: each block of rows is a piece of
several arrays. Their shapes are known first.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from paramesh.checkpoint.formats.interface import Appended, Array, Entry, raw_bytes
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSink

#: Bytes that are read at once to be summed.
_BLOCK = 1 << 20


class PiecewiseSink(SafetensorsSink):
    """A safetensors file being written; every element of every entry has to be given once.

    Args:
        path, entries, appended, metadata, checksums: as for `SafetensorsSink`. Checksums are
            computed at the end, from the file.
    """

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        appended: Mapping[str, Appended],
        metadata: Mapping[str, str],
        checksums: bool = False,
    ) -> None:
        self._by_name = {entry.name: entry for entry in entries}
        self._left = {entry.name: entry.nbytes for entry in entries}
        super().__init__(path, entries, appended, metadata, checksums)
        self._done = len(self._expected)  # what is missing is found in `_finish`

    def write(self, name: str, array: Array) -> None:
        """Write an entry completely.

        Raises:
            ValueError: as `put`.
            OSError: from the file system.
        """
        self.put(name, 0, array)

    def put(self, name: str, first: int, rows: Array) -> None:
        """Write a part of an entry.

        Args:
            name: of the entry.
            first: where the part begins along the first axis.
            rows: the part, (rows, …); of an entry of shape () its value.

        Raises:
            ValueError: there is no such entry, or the part does not fit into it, or more was given
                than it has.
            OSError: from the file system.
        """
        entry = self._by_name.get(name)
        if entry is None:
            raise ValueError(f"'{self.path}' has no entry '{name}'.")
        shape, size = entry.shape[1:], entry.shape[0] if entry.shape else 1
        given = rows.shape[1:] if entry.shape else rows.shape
        count = len(rows) if entry.shape else 1
        fits = 0 <= first <= size - count and given == shape
        if not fits or rows.dtype != entry.dtype.np_dtype or rows.nbytes > self._left[name]:
            raise ValueError(
                f"'{self.path}': '{name}' is {entry.dtype}{list(entry.shape)}, and a part of it "
                f"from {first} on was given that is {rows.dtype}{list(rows.shape)}."
            )
        if not rows.nbytes:
            return
        row = math.prod(shape) * entry.dtype.np_dtype.itemsize
        self._file.write_at(self._data + self._places[name][0] + first * row, raw_bytes(rows))
        self._left[name] -= rows.nbytes

    def _finish(self) -> None:
        for name, left in self._left.items():
            if left:
                raise ValueError(f"'{self.path}': {left} bytes of '{name}' were not written.")
        if self._sums is not None:
            for name, (start, stop) in self._places.items():
                total = 0
                for at in range(start, stop, _BLOCK):
                    block = self._file.read_at(self._data + at, min(_BLOCK, stop - at))
                    total = zlib.crc32(block, total)
                self._sums[name] = f"{total:08x}"
        super()._finish()
