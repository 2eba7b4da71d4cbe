"""safetensors files: eight bytes with the length of a JSON header, the header, the arrays' bytes.

The reader of the safetensors library does not return offsets for a memory map, and its writer needs
all arrays at once and copies of bfloat16; so both are implemented here, and the tests compare with
the library. The header is checked as strictly as by the library: arrays have no gaps or overlaps,
and fill the file.

Files written here have `format: paramesh` in their metadata, with `append_dict` as JSON, and the
names of the complex128 arrays, which the format does not have, and which are stored as pairs of
float64. With checksums there is `crc32`, JSON of the CRC-32 of every array's bytes in hexadecimal.
MindSpore's files (`format: ms`) have one `crc_num` over all names and bytes in the order of names.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramesh.array_types import Json
from paramesh.checkpoint.formats.interface import (
    ORIGIN,
    Appended,
    Array,
    Entry,
    MappedSource,
    Sink,
    raw_bytes,
)
from paramesh.checkpoint.formats.storage_dtypes import PACKED, SAFETENSORS
from paramesh.dtype import DType, complex128, float64
from paramesh.errors import CheckpointError

FORMAT = "safetensors"
_METADATA = "__metadata__"
_MINE = "paramesh"
_APPENDED = "append_dict"
_PAIRS = "complex128"
_CHECKSUMS = "crc32"
_RESERVED = ("format", _APPENDED, _PAIRS, _CHECKSUMS)
#: The library rejects longer headers.
_LONGEST_HEADER = 100_000_000

_NAMES = {kind: name for name, kind in SAFETENSORS.items()}


def recognise(head: bytes) -> bool:
    """Whether a file that begins so may be a safetensors file; headers are shorter than 4 GiB."""
    return head[4:9] == b"\0\0\0\0{"


class SafetensorsSource(MappedSource):
    """A safetensors file open for reading."""

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        #: (first byte, bytes, name) of arrays that are skipped.
        self._unread: list[tuple[int, int, str]] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        header, self._data = self._header()
        found = header.pop(_METADATA, {})
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise self.damage("its __metadata__ is not an object of strings")
        mine = found.get("format") == _MINE
        pairs = self._json(found, _PAIRS, list) if mine else []
        for name, about in header.items():
            self._add_array(name, about, name in pairs)
        self._check_layout()
        self._read_metadata(found, mine)

    def _header(self) -> tuple[dict[str, Any], int]:
        if self.nbytes < 8:
            raise self.damage(f"it has {self.nbytes} bytes")
        length = int.from_bytes(self._map[:8], "little")
        if length > self.nbytes - 8 and recognise(self._map[:9]):
            raise self.damage(
                f"it is truncated: it has {self.nbytes} bytes, but its header alone has {length}"
            )
        if not 2 <= length <= min(self.nbytes - 8, _LONGEST_HEADER):
            raise self.damage(
                f"it begins with {bytes(self._map[:16])!r} instead of a header length and JSON"
            )
        try:
            header = json.loads(
                self._map[8 : 8 + length].decode("utf-8"), object_pairs_hook=no_duplicates
            )
        except (ValueError, RecursionError) as error:
            raise self.damage(f"its header is not valid JSON ({error})") from error
        if not isinstance(header, dict):
            raise self.damage("its header is not a JSON object")
        return header, 8 + length

    def _add_array(self, name: str, about: Json, pair: bool) -> None:
        if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
            raise self.damage("its header must give dtype, shape and data_offsets", name)
        shape, offsets = about["shape"], about["data_offsets"]
        if not _naturals(shape):
            raise self.damage(f"its shape is {_short(shape)}", name)
        if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self.damage(f"its data_offsets are {_short(offsets)}", name)
        if about["dtype"] in PACKED:
            self._skip(name, about["dtype"], shape, offsets)
            return
        kind = SAFETENSORS.get(about["dtype"]) if isinstance(about["dtype"], str) else None
        if kind is None:
            raise CheckpointError(
                f"Checkpoint '{self.path}': '{name}' has elements of type "
                f"{_short(about['dtype'])}, which cannot be read; the types are "
                f"{', '.join(SAFETENSORS)}. Nothing was loaded."
            )
        nbytes = offsets[1] - offsets[0]
        if math.prod(shape) * kind.itemsize != nbytes:
            raise self.damage(
                f"{kind}{_short(shape)} does not have {nbytes} bytes",
                name,
                self._data + offsets[0],
            )
        if pair:
            if kind is not float64 or shape[-1:] != [2]:
                raise self.damage("complex numbers that are not pairs", name)
            kind, shape = complex128, shape[:-1]
        at = self._data + offsets[0]
        self._add(Entry(name, kind, tuple(shape), nbytes, at), ((at, nbytes),))

    def _skip(self, name: str, kind: str, shape: list[int], offsets: list[int]) -> None:
        """An array of numbers that are no whole bytes."""
        bits = math.prod(shape) * PACKED[kind]
        if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
            raise self.damage(f"{kind}{_short(shape)} does not take these bytes", name)
        self.skipped = {**self.skipped, name: f"{kind} {tuple(shape)}"}
        self._unread.append((self._data + offsets[0], bits // 8, name))

    def _check_layout(self) -> None:
        at = self._data
        places = [(e.offset, e.nbytes, e.name) for e in self._entries.values()]
        for offset, nbytes, name in sorted([*places, *self._unread]):
            if offset != at:
                raise self.damage(f"it should begin at byte {at}", name, offset)
            at += nbytes
        if at != self.nbytes:
            raise self.damage(f"its arrays end at byte {at}, the file at {self.nbytes}")

    def _read_metadata(self, found: dict[str, str], mine: bool) -> None:
        self._sums: Mapping[str, Any] = {}
        self._sum_of_all = None if mine else found.get("crc_num")
        self.scalars_may_be_appended = found.get("format") == "ms" or ORIGIN in found
        if mine:
            appended = self._json(found, _APPENDED, dict)
            for name, value in appended.items():
                if not isinstance(value, Appended) or name in self._entries:
                    raise self.damage(f"its append_dict has an invalid entry {_short(name)}")
            self.appended = appended
            self._sums = self._json(found, _CHECKSUMS, dict)
            if self._sums and set(self._sums) != set(self._entries):
                raise self.damage("its checksums are for other arrays")
            found = {key: value for key, value in found.items() if key not in _RESERVED}
        elif found.get("format") == "ms":
            found[ORIGIN] = "mindspore"
        self.metadata = found

    def _json(self, metadata: dict[str, str], key: str, kind: type[Any]) -> Any:
        try:
            found = json.loads(metadata[key]) if key in metadata else kind()
        except (ValueError, RecursionError) as error:
            raise self.damage(f"its metadata '{key}' is not valid JSON ({error})") from error
        if not isinstance(found, kind):
            raise self.damage(f"its metadata '{key}' is not a {kind.__name__}")
        return found

    def verify(self) -> bool:
        """Verify the checksums; see `Source.verify`."""
        if self._sums:
            for name, entry in self._entries.items():
                if f"{self._crc(name, 0):08x}" != self._sums[name]:
                    raise self.damage("its checksum does not match", name, entry.offset)
            return True
        if self._sum_of_all is not None:
            total = 0
            for name in sorted(self._entries):
                total = self._crc(name, zlib.crc32(name.encode(), total))
            if str(total) != self._sum_of_all:
                raise self.damage("the checksum of all arrays does not match")
            return True
        return False

    def _crc(self, name: str, start: int) -> int:
        (at, length), *_ = self._pieces[name]
        return zlib.crc32(memoryview(self._map)[at : at + length], start)


class SafetensorsSink(Sink):
    """A safetensors file being written.

    Arrays with large elements come first in the file, so that every array is aligned to its
    elements; the header keeps the order of the entries.
    """

    format = FORMAT

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        appended: Mapping[str, Appended],
        metadata: Mapping[str, str],
        checksums: bool = False,
    ) -> None:
        self._own: dict[str, str] = {
            key: str(value) for key, value in metadata.items() if key not in _RESERVED
        }
        self._own = {"format": _MINE, **self._own}
        pairs = [entry.name for entry in entries if entry.dtype is complex128]
        if pairs:
            self._own[_PAIRS] = json.dumps(pairs)
        if appended:
            self._own[_APPENDED] = json.dumps(dict(appended))
        self._places: dict[str, tuple[int, int]] = {}
        at = 0
        for entry in sorted(entries, key=lambda e: -e.dtype.itemsize):
            self._places[entry.name] = (at, at + entry.nbytes)
            at += entry.nbytes
        self._sums = dict.fromkeys(self._places, "00000000") if checksums else None
        self._expected = list(entries)
        self._first = self._header()
        self._data = len(self._first)
        super().__init__(path, entries)

    def _header(self) -> bytes:
        sums = {} if self._sums is None else {_CHECKSUMS: json.dumps(self._sums)}
        header: dict[str, Any] = {_METADATA: self._own | sums}
        for entry in self._expected:
            kind, shape = _stored_as(entry)
            header[entry.name] = {
                "dtype": kind,
                "shape": shape,
                "data_offsets": self._places[entry.name],
            }
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > _LONGEST_HEADER:
            raise ValueError(
                f"The header would have {len(text)} bytes; safetensors files have at most "
                f"{_LONGEST_HEADER}. Save fewer arrays in one file."
            )
        return len(text).to_bytes(8, "little") + text

    def _write(self, entry: Entry, data: memoryview) -> None:
        if self._sums is not None:
            self._sums[entry.name] = f"{zlib.crc32(data):08x}"
        self._file.write_soon(self._data + self._places[entry.name][0], data)

    def write_parts(self, name: str, parts: Iterable[Array]) -> None:
        """Write the next entry from parts along its first axis; one part is in memory at a time.

        Raises:
            ValueError: it is not the next one, or the parts do not make its shape.
            OSError: from the file system.
        """
        entry = self._check(name)
        rows, at = 0, self._data + self._places[name][0]
        for part in parts:
            kind = (part.dtype, part.shape[1:])
            rows += len(part)
            if kind != (entry.dtype.np_dtype, entry.shape[1:]) or rows > entry.shape[0]:
                raise ValueError(
                    f"'{self.path}': a part of '{name}' is {part.dtype}{list(part.shape)}, and the "
                    f"entry is {entry.dtype}{list(entry.shape)}."
                )
            data = raw_bytes(part)
            if self._sums is not None:
                self._sums[name] = f"{zlib.crc32(data, int(self._sums[name], 16)):08x}"
            self._file.write_at(at, data)
            at += len(data)
        if rows != entry.shape[0]:
            raise ValueError(
                f"'{self.path}': the parts of '{name}' have {rows} rows, and the entry "
                f"{entry.shape[0]}."
            )
        self._done += 1

    def _finish(self) -> None:
        # With checksums the header has changed, but not its length.
        self._file.write_at(0, self._first if self._sums is None else self._header())


def _stored_as(entry: Entry) -> tuple[str, list[int]]:
    if entry.dtype is complex128:
        return _NAMES[float64], [*entry.shape, 2]
    return _NAMES[entry.dtype], list(entry.shape)


def cannot_hold(kind: DType) -> str | None:
    """Why a safetensors file does not support an element type; None if it does."""
    known = kind in _NAMES or kind is complex128
    return None if known else f"safetensors files have no element type {kind}"


def check_name(name: str) -> str | None:
    """Why an array in a safetensors file cannot have this name; None if it can."""
    return f"the name '{_METADATA}' belongs to the file format" if name == _METADATA else None


def _naturals(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of the pairs of a JSON object; ValueError if a name is duplicated."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is duplicated")
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
