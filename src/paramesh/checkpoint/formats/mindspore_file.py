"""MindSpore's `.ckpt` files, read and written without MindSpore.

A file is one protobuf message: field 1, repeated, is a record {1: name, 2: tensor}; a tensor is
{1: sizes of its axes, repeated, none for a scalar; 2: element type, such as `Float32`; 3: raw
little-endian bytes}. A long array is several consecutive records of the same name, each with the
full shape and a piece of the bytes. A file with a checksum ends with the 7 bytes `crc_num` and the
CRC-32 of everything before them, 10 bytes, big-endian. A str of `append_dict` has the element type
`str`, the shape [0] and UTF-32 bytes; its numbers are arrays of shape ().

The protobuf library would parse the full message into memory, without validating it. The parser
here reads only the few bytes before each array. Anything that MindSpore 2.10 never writes is an
error: a damaged file is more likely than one of a newer MindSpore.

Glossary
    record      one entry of the file: an array, or a piece of one
    key         the byte before a field: its number and how its value is stored
    varint      an int in groups of 7 bits, the lowest first; the top bit is set in all but the last
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from paramesh.checkpoint.formats.interface import (
    MOST_AXES,
    ORIGIN,
    Appended,
    Entry,
    MappedSource,
    Sink,
    number_array,
    raw_bytes,
)
from paramesh.checkpoint.formats.storage_dtypes import MINDSPORE, MINDSPORE_READS, storage_dtype
from paramesh.dtype import DType
from paramesh.errors import CheckpointError

FORMAT = "ckpt"
#: Longer arrays are split into pieces of so many bytes, as by MindSpore.
SLICE_BYTES = 512 << 20

#: field number << 3 | 2 (a length, then as many bytes) or 0 (a varint)
_FIRST, _SECOND, _THIRD = 0x0A, 0x12, 0x1A
_DIM = 0x08
_MAP = 0x1A
_MARK = b"crc_num"
_SUM_BYTES = 10
_TRAILER = len(_MARK) + _SUM_BYTES
_LONGEST_NAME = 1 << 16
_LONGEST_VARINT = 10
_STRING = b"str"
_TYPES = {kind.encode(): dtype for kind, dtype in MINDSPORE_READS.items()}
_NAMES = {dtype: kind.encode() for kind, dtype in MINDSPORE.items()}
#: The first four bytes of every block of an encrypted file.
_ENCRYPTED = {
    bytes.fromhex("d85e3a7f"): "AES-GCM",
    bytes.fromhex("d95e3a7f"): "AES-CBC",
    bytes.fromhex("da5e3a7f"): "SM4-CBC",
}


def recognise(head: bytes) -> bool:
    """Whether a file that begins so may be MindSpore's, or an encrypted one."""
    return head[:1] == b"\n" or head[:4] in _ENCRYPTED


class MindsporeSource(MappedSource):
    """A `.ckpt` file open for reading."""

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.scalars_may_be_appended = True
        self.metadata = {ORIGIN: "mindspore"}
        self._strings: dict[str, Appended] = {}
        self._body = self.nbytes
        self._name = ""  # of the array whose pieces are collected
        self._kind: DType | None = None
        self._shape: tuple[int, ...] = ()
        self._found: list[tuple[int, int]] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        self.appended = self._strings

    def _open(self) -> None:
        if not self.nbytes:
            raise self.damage("it is empty")
        cipher = _ENCRYPTED.get(self._map[:4])
        if cipher is not None:
            raise CheckpointError(
                f"Checkpoint '{self.path}' is encrypted ({cipher}), and paramesh does not decrypt. "
                "Save it again without enc_key in MindSpore: save_checkpoint(load_checkpoint("
                f"PATH, dec_key=KEY, dec_mode='{cipher}'), NEW_PATH). Nothing was loaded."
            )
        at, end = 0, self.nbytes
        while at < end:
            if self._map[at] != _FIRST:
                if end - at == _TRAILER and self._map[at : at + len(_MARK)] == _MARK:
                    self._body = at
                    break
                raise self.damage("there is no record at this offset", None, at)
            start, last = self._field(at, end, "a record")
            self._record(start, last)
            at = last
        self._finish_array()

    def _record(self, at: int, end: int) -> None:
        """The record in bytes `at` to `end`: its name, then its tensor."""
        begin = at
        if at == end or self._map[at] != _FIRST:
            raise self.damage("the record does not begin with a name", None, at)
        start, at = self._field(at, end, "the name")
        if not 0 < at - start <= _LONGEST_NAME:
            raise self.damage(f"the name has {at - start} bytes", None, start)
        try:
            name = self._map[start:at].decode()
        except UnicodeDecodeError as error:
            raise self.damage(
                f"the name is not valid UTF-8 ({error.reason})", None, start
            ) from error
        if at < end and self._map[at] == _MAP:
            raise CheckpointError(
                f"Checkpoint '{self.path}': '{name}' at byte {begin} is a MapParameter, which "
                "paramesh does not have. Nothing was loaded."
            )
        if at == end or self._map[at] != _SECOND:
            raise self.damage("no tensor follows the name", name, at)
        start, at = self._field(at, end, "the tensor", name)
        if at != end:
            raise self.damage("there is data after the tensor", name, at)
        self._tensor(name, start, end)

    def _tensor(self, name: str, at: int, end: int) -> None:
        """The tensor in bytes `at` to `end`: sizes, element type, content."""
        begin, dims = at, []
        while at < end and self._map[at] == _DIM:
            size, at = self._varint(at + 1, end, name)
            if size >> 63:
                raise self.damage("an axis has a negative size", name, at)
            dims.append(size)
            if len(dims) > MOST_AXES:
                raise self.damage(f"it has more than {MOST_AXES} axes", name, begin)
        if at == end or self._map[at] != _SECOND:
            raise self.damage("no element type follows its shape", name, at)
        start, at = self._field(at, end, "the element type", name)
        kind = self._map[start : min(at, start + 40)]
        if at == end or self._map[at] != _THIRD:
            raise self.damage("no content follows its element type", name, at)
        start, at = self._field(at, end, "the content", name)
        if at != end:
            raise self.damage("there is data after its content", name, at)
        if kind == _STRING:
            self._string(name, tuple(dims), start, end)
        elif kind in _TYPES:
            self._piece(name, _TYPES[kind], tuple(dims), start, end - start)
        else:
            raise CheckpointError(
                f"Checkpoint '{self.path}': '{name}' has elements of type {kind!r}, which cannot "
                f"be read; the types are {', '.join(MINDSPORE_READS)}. Nothing was loaded."
            )

    def _string(self, name: str, shape: tuple[int, ...], at: int, end: int) -> None:
        self._finish_array()
        self._check_new(name, at)
        if shape != (0,):
            raise self.damage(f"a str of shape {list(shape)}", name, at)
        try:
            with memoryview(self._map) as content, content[at:end] as part:
                self._strings[name], _ = codecs.utf_32_le_decode(part, "strict", True)
        except UnicodeDecodeError as error:
            raise self.damage(f"its text is not valid UTF-32 ({error.reason})", name, at) from error

    def _piece(self, name: str, kind: DType, shape: tuple[int, ...], at: int, nbytes: int) -> None:
        if name != self._name:
            self._finish_array()
            self._check_new(name, at)
            self._name, self._kind, self._shape = name, kind, shape
        elif kind is not self._kind or shape != self._shape or not nbytes:
            raise self.damage(
                f"its pieces do not match: {self._kind}{list(self._shape)}, then "
                f"{kind}{list(shape)} of {nbytes} bytes",
                name,
                at,
            )
        self._found.append((at, nbytes))

    def _check_new(self, name: str, at: int) -> None:
        if name in self._entries or name in self._strings:
            raise self.damage("the name is duplicated", name, at)

    def _finish_array(self) -> None:
        if self._kind is None:
            return
        entry = Entry.of(self._name, self._kind, self._shape, self._found[0][0])
        nbytes = sum(length for _, length in self._found)
        if entry.nbytes != nbytes:
            raise self.damage(
                f"{self._kind}{list(self._shape)} takes {entry.nbytes} bytes, not {nbytes}",
                self._name,
                entry.offset,
            )
        self._add(entry, tuple(self._found))
        self._name, self._kind, self._found = "", None, []

    def _field(self, at: int, end: int, what: str, name: str | None = None) -> tuple[int, int]:
        """Start and end of the value of the field whose key is at `at`."""
        length, start = self._varint(at + 1, end, name)
        if length > end - start:
            raise self.damage(
                f"{what} should have {length} bytes, but {end - start} are left", name, at
            )
        return start, start + length

    def _varint(self, at: int, end: int, name: str | None) -> tuple[int, int]:
        """The number at `at`, and the offset after it."""
        value = 0
        for shift in range(min(end - at, _LONGEST_VARINT)):
            byte = self._map[at + shift]
            value |= (byte & 127) << 7 * shift
            if byte < 128:
                if value >> 64:
                    break
                return value, at + shift + 1
        raise self.damage("a varint is not terminated", name, at)

    def verify(self) -> bool:
        """Verify the checksum; see `Source.verify`."""
        if self._body == self.nbytes:
            return False
        with memoryview(self._map) as content, content[: self._body] as body:
            found = zlib.crc32(body)
        if found != int.from_bytes(self._map[self._body + len(_MARK) :], "big"):
            raise self.damage("the checksum of the file does not match", None, self._body)
        return True


class MindsporeSink(Sink):
    """A `.ckpt` file being written, as MindSpore 2.10 writes it.

    `appended` comes after the arrays: ints as Int64, bools, strings, and floats as Float32, or as
    Float64 if they would lose digits. The format cannot store `metadata`.

    Raises:
        ValueError: there is nothing to write; MindSpore rejects an empty file.
    """

    format = FORMAT

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        appended: Mapping[str, Appended],
        metadata: Mapping[str, str],
        checksums: bool = False,
        slice_bytes: int = SLICE_BYTES,
    ) -> None:
        if not entries and not appended:
            raise ValueError(f"Cannot write '{path}': a .ckpt file needs at least one array.")
        super().__init__(path, entries)
        self._appended = appended
        self._crc = 0 if checksums else None
        self._slice = slice_bytes
        self._at = 0

    def _write(self, entry: Entry, data: memoryview) -> None:
        self._put_tensor(entry.name, entry.shape, _NAMES[entry.dtype], data)

    def _put_tensor(self, name: str, shape: Sequence[int], kind: bytes, data: memoryview) -> None:
        tag = _part(_FIRST, name.encode())
        about = b"".join(bytes((_DIM,)) + _varint(size) for size in shape) + _part(_SECOND, kind)
        for first in range(0, max(len(data), 1), self._slice):
            piece = data[first : first + self._slice]
            front = about + bytes((_THIRD,)) + _varint(len(piece))
            tensor = bytes((_SECOND,)) + _varint(len(front) + len(piece)) + front
            length = len(tag) + len(tensor) + len(piece)
            self._put(bytes((_FIRST,)) + _varint(length) + tag + tensor)
            self._put(piece)

    def _put(self, data: bytes | memoryview) -> None:
        if self._crc is not None:
            self._crc = zlib.crc32(data, self._crc)
        self._at = self._file.write_soon(self._at, data)

    def _finish(self) -> None:
        for name, value in self._appended.items():
            if isinstance(value, str):
                text = memoryview(value.encode("utf-32-le"))
                self._put_tensor(name, (0,), _STRING, text)
            else:
                number = number_array(value, np.int64)
                self._put_tensor(name, (), _NAMES[storage_dtype(number.dtype)], raw_bytes(number))
        if self._crc is not None:
            self._put(_MARK + self._crc.to_bytes(_SUM_BYTES, "big"))


def cannot_hold(kind: DType) -> str | None:
    """Why MindSpore does not read an element type from `.ckpt` files; None if it does."""
    if kind in _NAMES:
        return None
    return f"MindSpore does not read elements of type {kind} from .ckpt files; use safetensors"


def check_name(name: str) -> str | None:
    """Why an array in a `.ckpt` file cannot have this name; None if it can."""
    if not name:
        return "a name may not be empty"
    if len(name.encode()) > _LONGEST_NAME:
        return f"a name may have at most {_LONGEST_NAME} bytes"
    return None


def _part(key: int, data: bytes) -> bytes:
    return bytes((key,)) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
