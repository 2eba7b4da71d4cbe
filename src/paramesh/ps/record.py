"""One record of a server's files: a little JSON and arrays, with checksums. No pickle.

Glossary
    record      a head of 64 bytes, a JSON text, and the arrays one after another; every part starts
                at a multiple of 64
    head        a mark, the record's number, the sizes of what follows, and two CRC-32: of what
                follows, and of the head itself
    torn        a record whose file ends before it does: it was being written when its writer died

A file is only ever appended to, so a killed writer leaves a beginning of a record and nothing
else. A record that is there in full and whose checksums do not fit was changed afterwards: that is
damage, never a torn end.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from paramesh.dtype import to_dtype
from paramesh.errors import ParameterServerError

Array = np.ndarray[Any, Any]

_MARK = b"pmrecord"
_HEAD = struct.Struct("<8sQQQI")  # mark, number, size of the text, size of the arrays, CRC of both
_ALIGN = 64
_TEXT_LIMIT = 1 << 28


class Record(NamedTuple):
    """What a record says."""

    number: int
    meta: dict[str, Any]
    arrays: dict[str, Array]


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def encoded(number: int, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Any]:
    """The buffers of a record, in order; the arrays are not copied if they are contiguous."""
    flat = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    table = [[key, a.dtype.name, list(arrays[key].shape)] for key, a in flat.items()]
    text = json.dumps({"meta": meta, "arrays": table}, separators=(",", ":")).encode()
    text += b" " * (_padded(len(text)) - len(text))
    body: list[Any] = []
    for array in flat.values():
        if not array.nbytes:
            continue
        body.append(array.reshape(-1).view(np.uint8).data)
        if array.nbytes % _ALIGN:
            body.append(bytes(_padded(array.nbytes) - array.nbytes))
    crc = zlib.crc32(text)
    for part in body:
        crc = zlib.crc32(part, crc)
    size = sum(len(part) for part in body)
    head = _HEAD.pack(_MARK, number, len(text), size, crc)
    head += bytes(_ALIGN - 4 - len(head))
    return [head + struct.pack("<I", zlib.crc32(head)), text, *body]


def read_records(path: Path, *, arrays: bool = True) -> Iterator[Record]:
    """The records of a file, up to its end or a torn one.

    Args:
        path: of the file.
        arrays: whether to read (and check) the arrays; without, they are skipped.

    Raises:
        ParameterServerError: a record is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while size - file.tell() >= _ALIGN:
            found = read_record(file, size, path, arrays=arrays)
            if found is None:
                return
            yield found


def read_record(file: BinaryIO, size: int, path: Path, *, arrays: bool = True) -> Record | None:
    """The record that begins where an open file is; None if it is not there in full.

    Args:
        file: of `path`, with a head of 64 bytes at least before its end.
        size: of the file.
        path: of the file.
        arrays: whether to read (and check) the arrays; without, they are skipped.

    Raises:
        ParameterServerError: the record is damaged.
    """
    at = file.tell()

    def damaged(what: str) -> ParameterServerError:
        return ParameterServerError(
            f"the file '{path}' is damaged at byte {at}: {what}. Its end was not torn off by a "
            "killed writer; it was changed. Restore the folder, or remove it to start afresh."
        )

    head = file.read(_ALIGN)
    mark, number, text_size, body_size, crc = _HEAD.unpack_from(head)
    (own,) = struct.unpack_from("<I", head, _ALIGN - 4)
    if mark != _MARK or own != zlib.crc32(head[:-4]):
        raise damaged("there is no head of a record")
    if text_size > _TEXT_LIMIT:
        raise damaged(f"its text has {text_size} bytes")
    if at + _ALIGN + text_size + body_size > size:
        return None
    text = file.read(text_size)
    if not arrays:
        file.seek(body_size, 1)
        try:
            return Record(number, json.loads(text)["meta"], {})
        except ValueError:
            raise damaged("its text is none") from None
    body = np.frombuffer(bytearray(file.read(body_size)), np.uint8)
    if len(body) != body_size:
        return None
    if zlib.crc32(body.data, zlib.crc32(text)) != crc:
        raise damaged("the checksum does not fit")
    said = json.loads(text)
    found: dict[str, Array] = {}
    offset = 0
    for key, name, shape in said["arrays"]:
        dtype = to_dtype(name).np_dtype
        count = math.prod(shape)
        if offset + count * dtype.itemsize > body_size:
            raise damaged(f"the array {key!r} does not fit in")
        found[key] = body[offset : offset + count * dtype.itemsize].view(dtype).reshape(shape)
        offset += _padded(count * dtype.itemsize)
    return Record(number, said["meta"], found)


def updates_to_arrays(updates: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """An update as the arrays of a record, by `field/name`."""
    return {
        f"{field}/{name}": array
        for name, update in updates.items()
        for field, array in update.items()
    }


def arrays_to_updates(arrays: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The update that `updates_to_arrays` was given."""
    found: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        field, _, name = key.partition("/")
        found.setdefault(name, {})[field] = array
    return found
