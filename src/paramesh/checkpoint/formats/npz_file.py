"""NumPy's archives (`.npz`), to read: a zip archive with one `.npy` for each array.

Arrays of objects are pickles, which are not read.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.checkpoint.formats.interface import Array
from paramesh.checkpoint.formats.loose_arrays import LooseSource, inflated
from paramesh.checkpoint.formats.storage_dtypes import storage_dtype
from paramesh.checkpoint.formats.zip_members import MemberPlace, members_of
from paramesh.errors import CheckpointError

FORMAT = "npz"
SUFFIX = ".npz"
_END = ".npy"
#: So many bytes have every header that numpy writes for arrays of numbers.
_HEADER = 1 << 16


def recognise_zip(names: list[str]) -> bool:
    """Whether a zip archive with these members is one."""
    return bool(names) and all(name.endswith(_END) for name in names)


class NpzSource(LooseSource):
    """A NumPy archive open for reading."""

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            members = members_of(path, self._map, self.nbytes, self.damage)
            for member in members.values():
                self._member(member.name.removesuffix(_END), member)
        except BaseException:
            self.close()
            raise

    def _member(self, name: str, member: MemberPlace) -> None:
        data = memoryview(self._map)[member.at : member.at + member.stored]
        if member.compressed:
            try:
                data = memoryview(inflated(data, member.size))
            except ValueError as error:
                raise self.damage(str(error), name) from error
        shape, by_column, kind, begin = self._header(name, data)
        try:
            dtype = storage_dtype(kind.newbyteorder("="))
        except TypeError as error:
            raise CheckpointError(
                f"Checkpoint '{self.path}': '{name}' has elements of {kind}, which cannot be read. "
                "Nothing was loaded."
            ) from error
        strides = _strides(shape, by_column)
        if begin + dtype.itemsize * int(np.prod(shape, dtype=object)) > len(data):
            raise self.damage(f"its data ends before shape {shape} does", name)
        if not member.compressed and kind.isnative:
            self._add_array(name, dtype, shape, member.at + begin, strides)
            return

        def made() -> Array:
            raw: Any = memoryview(self._map)[member.at : member.at + member.stored]
            raw = inflated(raw, member.size) if member.compressed else raw
            steps = tuple(step * kind.itemsize for step in strides)
            return np.ndarray(shape, kind, raw, begin, steps).astype(dtype.np_dtype, copy=False)

        self._add_made(name, dtype, shape, made)

    def _header(
        self, name: str, data: bytes | memoryview
    ) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        """Shape, whether the first axis runs fastest, element type, and where the data begins."""
        file = io.BytesIO(bytes(data[:_HEADER]))
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                found = np.lib.format.read_array_header_1_0(file)
            else:
                found = np.lib.format.read_array_header_2_0(file)
        # ast and numpy raise many kinds for what is no header.
        except Exception as error:
            raise self.damage(f"it is no .npy ({error})", name) from error
        shape, by_column, kind = found
        if kind.hasobject:
            raise CheckpointError(
                f"Checkpoint '{self.path}': '{name}' holds objects of python, which are pickled; "
                "they are not read. Nothing was loaded."
            )
        return shape, by_column, kind, file.tell()


def _strides(shape: tuple[int, ...], by_column: bool) -> tuple[int, ...]:
    order = shape if by_column else shape[::-1]
    steps: list[int] = []
    step = 1
    for size in order:
        steps.append(step)
        step *= size
    return tuple(steps if by_column else steps[::-1])
