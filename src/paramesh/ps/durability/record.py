"""One record of a server's files: a little JSON and arrays, with checksums. No pickle.

Glossary
    record      a head of 64 bytes, a JSON text, the arrays one after another, and a foot of 64
                bytes; every part starts at a multiple of 64
    head        a mark, the record's number, the sizes of what follows, the XXH3 (64 bits) of the
                text (zeros in records of former versions), and a CRC-32 of the head
    foot        the XXH3 (64 bits) of head, text and arrays, eight times
    torn        a record whose file ends before it does: it was being written when its writer died

A file is only ever appended to, so a killed writer leaves a beginning of a record and nothing
else. A record that is there in full and whose checksums do not fit was changed afterwards: that is
damage, never a torn end. The checksum comes last so that a block of an array is summed and written
while it is in the cache.
"""

from __future__ import annotations

import functools
import importlib
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

_MARK = b"pmrecor2"
#: Of the records with one CRC-32 in their head, by servers that split Parameters into other pieces.
_FORMER_MARK = b"pmrecord"
_HEAD = struct.Struct("<8sQQQ8s")  # mark, number, size of the text, size of the arrays, text's sum
_ALIGN = 64
_TEXT_LIMIT = 1 << 28
#: Bytes that are summed, and then written or read, at once.
BLOCK = 1 << 19


_encode = json.JSONEncoder(separators=(",", ":")).encode


class Record(NamedTuple):
    """What a record says, where its file goes on behind it, and the names of its arrays."""

    number: int
    meta: dict[str, Any]
    arrays: dict[str, Array]
    end: int = 0
    names: tuple[str, ...] = ()


@functools.cache
def _xxh3() -> Any:
    try:
        return importlib.import_module("xxhash").xxh3_64
    except ModuleNotFoundError:
        raise ParameterServerError(
            "the files of a parameter server need xxhash, which is not installed: "
            "pip install 'paramesh[ps]'."
        ) from None


@functools.cache
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.name  # numpy puts it together anew each time


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def encoded(
    number: int, meta: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Iterator[list[Any]]:
    """The buffers of a record, in order, in batches to be written as they come.

    The arrays are not copied if they are contiguous; a batch was read for its checksum just before
    it is given, and is at most about `BLOCK` bytes.
    """
    flat = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    table = [[key, _name_of(a.dtype), arrays[key].shape] for key, a in flat.items()]
    text = _encode({"meta": meta, "arrays": table}).encode()
    text += b" " * (_padded(len(text)) - len(text))
    size = sum(_padded(array.nbytes) for array in flat.values())
    head = _HEAD.pack(_MARK, number, len(text), size, _xxh3()(text).digest())
    head += bytes(_ALIGN - 4 - len(head))
    head += struct.pack("<I", zlib.crc32(head))
    checksum = _xxh3()(head)
    checksum.update(text)
    batch: list[Any] = [head, text]
    pending = len(head) + len(text)
    for array in flat.values():
        if not array.nbytes:
            continue
        data = array.reshape(-1).view(np.uint8).data
        for first in range(0, len(data), BLOCK):
            block = data[first : first + BLOCK]
            if pending + len(block) > BLOCK:
                yield batch
                batch, pending = [], 0
            checksum.update(block)
            batch.append(block)
            pending += len(block)
        rest = bytes(_padded(len(data)) - len(data))
        if rest:
            checksum.update(rest)
            batch.append(rest)
    batch.append(checksum.digest() * 8)
    yield batch


def read_records(path: Path, *, arrays: bool = True, start: int = 0) -> Iterator[Record]:
    """The records of a file, up to its end or a torn one.

    Args:
        path: of the file.
        arrays: whether to read (and check) the arrays; without, they are skipped.
        start: where the first one begins, in bytes: 0, or the `end` of another.

    Raises:
        ParameterServerError: a record is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(start)
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
            "killed writer; it was changed. Restore the folder, or remove it to start from scratch."
        )

    head = file.read(_ALIGN)
    mark, number, text_size, body_size, text_sum = _HEAD.unpack_from(head)
    (own,) = struct.unpack_from("<I", head, _ALIGN - 4)
    if mark == _FORMER_MARK:
        raise ParameterServerError(
            f"the file '{path}' was written by an earlier version of paramesh, in a format that "
            f"this version cannot read. Transfer the values with a checkpoint, and use a new "
            f"folder for the run."
        )
    if mark != _MARK or own != zlib.crc32(head[:-4]):
        raise damaged("the header of a record is missing")
    if text_size > _TEXT_LIMIT:
        raise damaged(f"its text has {text_size} bytes")
    end = at + 2 * _ALIGN + text_size + body_size
    if end > size:
        return None
    text = file.read(text_size)
    if not arrays:
        # The sum of the whole record is not looked at here: a bit of the text might say otherwise.
        if any(text_sum) and _xxh3()(text).digest() != text_sum:
            raise damaged("the checksum of its text does not match")
        file.seek(end)
        try:
            said = json.loads(text)
            return Record(number, said["meta"], {}, end, tuple(key for key, *_ in said["arrays"]))
        except (ValueError, KeyError, TypeError):  # of a former version: it has no sum
            raise damaged("its text is not valid JSON") from None
    checksum = _xxh3()(head)
    checksum.update(text)
    body = np.empty(body_size, np.uint8)
    for first in range(0, body_size, BLOCK):
        block = body[first : first + BLOCK].data
        if file.readinto(block) != len(block):  # type: ignore[attr-defined]
            return None
        checksum.update(block)
    if checksum.digest() * 8 != file.read(_ALIGN):
        raise damaged("the checksum does not match")
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
    return Record(number, said["meta"], found, end, tuple(found))


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
