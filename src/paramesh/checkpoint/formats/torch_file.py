"""PyTorch's `.pt`, `.pth` and `.bin` files, to read: state dicts and nested dicts of arrays.

    zip (since 1.6)     NAME/data.pkl, a pickle that speaks of storages; NAME/data/KEY, their bytes
    before              pickles one after another: a magic number, the version, the machine, the
                        object, the keys of the storages; then each storage's size and bytes

Nothing of a file is run (`torch_pickle`). Arrays are named by the keys that lead to them, joined by
dots: `model.fc.weight`, `optimizer.state.0.exp_avg`. Numbers and strings are `appended`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.array_types import Tree
from paramesh.checkpoint.formats.interface import Array
from paramesh.checkpoint.formats.loose_arrays import LooseSource, inflated
from paramesh.checkpoint.formats.torch_pickle import (
    RefusedError,
    Storage,
    Stored,
    loads,
    loads_bytes,
)
from paramesh.checkpoint.formats.zip_members import MemberPlace, members_of
from paramesh.errors import CheckpointError

FORMAT = "torch"
SUFFIXES = (".pt", ".pth", ".bin")
_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = b"l\xfc\x9cF\xf9 j\xa8P"
_VERSION = 1001


def recognise(head: bytes) -> bool:
    """Whether a file that begins so is one from before 1.6; newer ones are zip archives."""
    return _MAGIC_BYTES in head[:32]


def recognise_zip(names: list[str]) -> bool:
    """Whether a zip archive with these members is one."""
    return any(name.endswith("/data.pkl") or name == "data.pkl" for name in names)


class TorchSource(LooseSource):
    """A file of PyTorch open for reading."""

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._members: dict[str, MemberPlace] = {}
        self._prefix = ""
        #: Of files from before 1.6: {key: (first byte, bytes)}.
        self._places: dict[str, tuple[int, int]] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            tree = self._zipped() if bytes(self._map[:4]) == b"PK\x03\x04" else self._before()
        except RefusedError as error:
            raise CheckpointError(
                f"Checkpoint '{self.path}' is a file of PyTorch, and {error}. Only dicts of arrays "
                "are read, and nothing is run. Where you trust it, save its state_dict(): "
                "torch.save(model.state_dict(), NEW_PATH). Nothing was loaded."
            ) from error
        self._take_tree(tree, self._leaf)

    def _zipped(self) -> Any:
        self._members = members_of(self.path, self._map, self.nbytes, self.damage)
        pickles = [name for name in self._members if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise self.damage(f"it has {len(pickles)} files data.pkl")
        self._prefix = pickles[0].removesuffix("data.pkl")
        order = self._members.get(self._prefix + "byteorder")
        if order is not None and self._bytes(order) != b"little":
            raise self.damage("its numbers are big-endian, which is not read")
        if any(name.startswith(self._prefix + "code/") for name in self._members):
            raise RefusedError("it is a program (TorchScript)")
        return loads_bytes(self._bytes(self._members[pickles[0]]))

    def _bytes(self, member: MemberPlace) -> bytes:
        data = memoryview(self._map)[member.at : member.at + member.stored]
        if not member.compressed:
            return bytes(data)
        try:
            return inflated(data, member.size)
        except ValueError as error:
            raise self.damage(str(error), member.name) from error

    def _before(self) -> Any:
        file = _Reader(self._map)
        if loads(file.read, file.readline) != _MAGIC:
            raise self.damage("it does not begin with the number of PyTorch's files")
        if loads(file.read, file.readline) != _VERSION:
            raise self.damage("its version is unknown")
        machine = loads(file.read, file.readline)
        if not isinstance(machine, dict) or not machine.get("little_endian", True):
            raise self.damage("its numbers are big-endian, which is not read")
        tree = loads(file.read, file.readline)
        keys = loads(file.read, file.readline)
        sizes = {s.key: s for s in _storages(tree)}
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise self.damage("it has no list of storages")
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            storage = sizes.get(key)
            if storage is None or storage.dtype is None:
                raise self.damage(f"nothing is said of its storage {key!r}")
            size = count * storage.dtype.itemsize
            self._places[key] = (file.at, size)
            file.at += size
        return tree

    def _leaf(self, name: str, value: object) -> bool:
        if isinstance(value, Storage):
            return True  # an array that holds it is there as well
        if not isinstance(value, Stored):
            return False
        at, size, member = self._place(name, value.storage)
        itemsize = value.dtype.itemsize
        held = value.storage.size * (1 if value.storage.dtype is None else itemsize)
        if value.storage.offset * itemsize + held > size:
            raise self.damage(f"its storage has {size} bytes", name)
        first = at + value.offset * itemsize
        if member is None or not member.compressed:
            self._add_array(name, value.dtype, value.shape, first, value.strides)
            return True

        def unpacked() -> Array:
            data = self._bytes(member)
            steps = tuple(step * itemsize for step in value.strides)
            start = value.offset * itemsize
            return np.ndarray(value.shape, value.dtype.np_dtype, data, start, steps)

        self._add_made(name, value.dtype, value.shape, unpacked)
        return True

    def _place(self, name: str, storage: Storage) -> tuple[int, int, MemberPlace | None]:
        """The first byte of a storage, how many it has, and the member that it is."""
        if self._members:
            member = self._members.get(f"{self._prefix}data/{storage.key}")
            if member is None:
                raise self.damage(f"its storage {storage.key!r} is not in the file", name)
            return member.at, member.size, member
        if storage.key not in self._places:
            raise self.damage(f"its storage {storage.key!r} is not in the file", name)
        return *self._places[storage.key], None


class _Reader:
    """Reads the bytes of a map from its beginning.

    Attributes:
        at: how far it is.
    """

    def __init__(self, data: Any) -> None:
        self._data, self.at = data, 0

    def read(self, count: int) -> bytes:
        found = bytes(self._data[self.at : self.at + count])
        self.at += len(found)
        return found

    def readline(self) -> bytes:
        file = io.BytesIO(bytes(self._data[self.at : self.at + 4096]))
        found = file.readline()
        self.at += len(found)
        return found


def _storages(tree: Tree) -> list[Storage]:
    """The storages that the arrays of a tree lie in."""
    found: list[Storage] = []
    waiting, seen = [tree], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Stored):
            found.append(value.storage)
        elif isinstance(value, Storage):
            found.append(value)
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return found
