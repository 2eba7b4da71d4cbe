"""One message between a worker and a server over a socket: a fixed head, a text, typed arrays.

Glossary
    frame       a head of 64 bytes, a JSON text, a table of the arrays, and their bytes (payload)
    inline      the payload follows in the frame itself
    shared      the payload is in memory that both processes see (see `shared_arena`)
    parted      the payload follows in further parts of the same message, of `PART` bytes each but
                the last
    sequence    the number of a frame among those that one end has sent on one connection
    taken       the last sequence of the other end whose payload has been read: what is before it
                may be overwritten

    head        <mark, version, kind, place, text bytes, table bytes, arrays, number, payload bytes,
                offset of the payload in shared memory, sequence, taken>
    entry       <element type, axes, offset in the payload, length of each axis> of an array

Nothing is pickled. A frame is checked from its head on, and what it announces is compared with the
bytes that are there before anything is made of it: arrays are views of the frame, or of one copy of
its parts, or of a part of the shared memory that exists already. So what a frame makes this process
allocate is bounded by its own length and that of the memory, whatever it says.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.array_types import Json
from paramesh.dtype import to_dtype
from paramesh.errors import ParameterServerError

Array = np.ndarray[Any, Any]

#: The version of this format. Ends that differ in it talk through Ray.
VERSION = 4

#: The most bytes of a text, and of a payload that is in the frame itself.
MOST_TEXT, MOST_INLINE = 1 << 20, 1 << 18
#: Bytes of a part, and the most of a payload in parts. Parts are encrypted, which takes more time
#: than anything else: what is longer goes another way.
PART, MOST_PARTED = 1 << 18, 1 << 24
MOST_PARTS = MOST_PARTED // PART
#: The most arrays of a frame, and axes of an array.
MOST_ARRAYS, MOST_AXES = 1 << 14, 16

_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode

#: What a frame is: a call, what it is answered with, an error that it is answered with, that the
#: answer is too long for a frame (the call has to be made through Ray), or the end of a connection.
CALL, ANSWER, ERROR, LONG, END = range(1, 6)
_INLINE, _SHARED, _PARTED = 0, 1, 2

_MARK = b"pmwire"
_HEAD = struct.Struct("<6sHBBHIIIQQQQQ")
_ALIGN = 64
_ENTRY = struct.Struct("<BBHIQ")
_AXIS = struct.Struct("<Q")

#: Element types by their number in a table; numbers are never given to another one.
_DTYPES: tuple[np.dtype[Any], ...] = tuple(
    to_dtype(name).np_dtype
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
    )
)
_NUMBERS = {dtype: number for number, dtype in enumerate(_DTYPES)}

#: The most bytes of a frame: a socket refuses longer ones before it has them.
MOST_FRAME = _ALIGN + MOST_TEXT + MOST_ARRAYS * (_ENTRY.size + 4 * _AXIS.size) + MOST_INLINE


class BadFrame(ParameterServerError):
    """What came is no frame, or says what is not so."""


class Unfit(Exception):
    """A message that a frame does not carry: it has to go another way."""


class Frame(NamedTuple):
    """What a frame says.

    Attributes:
        kind: `CALL` to `END`.
        number: of the request that it is, or answers.
        sequence: of the frame.
        taken: see the glossary.
        text: what the JSON says.
        arrays: not to be written to.
    """

    kind: int
    number: int
    sequence: int
    taken: int
    text: Json
    arrays: list[Array]


class Draft(NamedTuple):
    """A frame that is to be sent, without its head.

    Attributes:
        kind, number: as in `Frame`.
        text: JSON.
        table: of the arrays.
        arrays: contiguous.
        offsets: of each in the payload.
        size: bytes of the payload.
    """

    kind: int
    number: int
    text: bytes
    table: bytes
    arrays: list[Array]
    offsets: list[int]
    size: int

    def fits_inline(self) -> bool:
        """Whether the payload may be in the frame."""
        return self.size <= MOST_INLINE

    def fits_parts(self) -> bool:
        """Whether the payload may be in parts."""
        return MOST_INLINE < self.size <= MOST_PARTED


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def draft(kind: int, number: int, text: Json, arrays: Sequence[Array] = ()) -> Draft:
    """A frame of these.

    Args:
        kind: `CALL` to `END`.
        number: of the request, from 0 to 2^64 - 1.
        text: what JSON can say.
        arrays: of any shape, of the element types that Parameters and ids have.

    Raises:
        Unfit: it is more than a frame has room for, or something else.
    """
    if len(arrays) > MOST_ARRAYS:
        raise Unfit(f"{len(arrays)} arrays")
    try:
        said = _encode(text).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Unfit(str(error)) from None
    if len(said) > MOST_TEXT:
        raise Unfit(f"a text of {len(said)} bytes")
    table: list[bytes] = []
    flat: list[Array] = []
    offsets: list[int] = []
    size = 0
    for array in arrays:
        kind_of_elements = _NUMBERS.get(array.dtype)
        if kind_of_elements is None or not array.dtype.isnative or array.ndim > 4:
            raise Unfit(f"an array of {array.dtype} with {array.ndim} axes")
        table.append(_ENTRY.pack(kind_of_elements, array.ndim, 0, 0, size))
        table += [_AXIS.pack(length) for length in array.shape]
        flat.append(np.ascontiguousarray(array))
        offsets.append(size)
        size += _padded(array.nbytes)
    return Draft(kind, number, said, b"".join(table), flat, offsets, size)


def encoded(
    ready: Draft, *, sequence: int = 0, taken: int = 0, shared_at: int | None = None
) -> bytes:
    """The bytes of a frame.

    Args:
        ready: what it says.
        sequence: see the glossary.
        taken: likewise.
        shared_at: where the payload lies in shared memory; None: it goes with the frame, or in
            parts behind it (see `parts_of`).
    """
    place = _INLINE if shared_at is None else _SHARED
    if place == _INLINE and not ready.fits_inline():
        place = _PARTED
    head = _HEAD.pack(
        _MARK,
        VERSION,
        ready.kind,
        place,
        0,
        len(ready.text),
        len(ready.table),
        len(ready.arrays),
        ready.number,
        ready.size,
        shared_at or 0,
        sequence,
        taken,
    )
    parts: list[Any] = [head, ready.text, ready.table]
    if place != _INLINE or not ready.size:
        return b"".join(parts)
    length = len(head) + len(ready.text) + len(ready.table)
    parts.append(bytes(_padded(length) - length))
    for array in ready.arrays:
        parts.append(array.reshape(-1).view(np.uint8).data if array.nbytes else b"")
        parts.append(bytes(_padded(array.nbytes) - array.nbytes))
    return b"".join(parts)


def parts_of(ready: Draft) -> list[memoryview]:
    """The payload in parts: what follows a frame without shared memory."""
    if not ready.fits_parts():
        return []
    payload = np.zeros(ready.size, np.uint8)
    for array, offset in zip(ready.arrays, ready.offsets, strict=True):
        payload[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
    return [payload[at : at + PART].data for at in range(0, ready.size, PART)]


#: Gives a copy of a part of shared memory: (offset, bytes).
Reading = Callable[[int, int], Array]


def decoded(
    frame: bytes | memoryview,
    shared: Reading | None = None,
    parts: Sequence[bytes | memoryview] = (),
) -> Frame:
    """What a frame says.

    Args:
        frame: its bytes, and nothing else.
        shared: reads the memory that the sender writes to; None: there is none. It raises
            `BadFrame` for a part that does not exist, before it allocates anything.
        parts: what follows the frame in the same message.

    Raises:
        BadFrame: it is none, or its parts do not fit together.
    """
    whole = memoryview(frame)
    if len(whole) < _HEAD.size:
        raise BadFrame(f"a frame has {_HEAD.size} bytes at least, got {len(whole)}.")
    if len(whole) > MOST_FRAME:
        raise BadFrame(f"a frame has {MOST_FRAME} bytes at most, got {len(whole)}.")
    (mark, version, kind, place, _, text_size, table_size, count, *numbers) = _HEAD.unpack_from(
        whole
    )
    number, size, offset, sequence, taken = numbers
    if mark != _MARK or version != VERSION:
        raise BadFrame(f"a frame begins with {_MARK!r} and {VERSION}, got {mark!r} and {version}.")
    if not CALL <= kind <= END or place not in (_INLINE, _SHARED, _PARTED):
        raise BadFrame(f"the frame is of the kind {kind} at {place}.")
    if text_size > MOST_TEXT or count > MOST_ARRAYS:
        raise BadFrame(f"the frame announces a text of {text_size} bytes and {count} arrays.")
    described = _HEAD.size + text_size + table_size
    inline = place == _INLINE and size
    end = _padded(described) + size if inline else described
    if len(whole) != end:
        raise BadFrame(f"the frame announces {end} bytes and has {len(whole)}.")
    try:
        text = _decode(str(whole[_HEAD.size : _HEAD.size + text_size], "utf-8"))
    except (ValueError, RecursionError):
        raise BadFrame("the text of the frame is not JSON.") from None
    entries = _entries(whole[_HEAD.size + text_size : described], count, size)
    if place != _PARTED and parts:
        raise BadFrame(f"{len(parts)} parts follow a frame that announces none.")
    if not size:
        payload = np.frombuffer(b"", np.uint8)
    elif place == _PARTED:
        payload = _joined(parts, size)
    elif inline:
        payload = np.frombuffer(whole, np.uint8, size, end - size)
    elif shared is None:
        raise BadFrame("the payload is in shared memory, and there is none.")
    else:
        payload = shared(offset, size)
    try:
        arrays = [
            payload[at : at + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
            for dtype, at, shape in entries
        ]
    except (ValueError, OverflowError):  # lengths beside a 0 that numpy cannot count
        raise BadFrame("an array of the frame has a shape that no array has.") from None
    return Frame(kind, number, sequence, taken, text, arrays)


def _joined(parts: Sequence[bytes | memoryview], size: int) -> Array:
    """The payload that came in parts."""
    if len(parts) != -(-size // PART) or any(
        len(part) != min(PART, size - at * PART) for at, part in enumerate(parts)
    ):
        sizes = [len(part) for part in parts[:3]]
        raise BadFrame(f"a payload of {size} bytes came in {len(parts)} parts of {sizes}… bytes.")
    payload = np.empty(size, np.uint8)
    for at, part in enumerate(parts):
        payload[at * PART : at * PART + len(part)] = np.frombuffer(part, np.uint8)
    payload.flags.writeable = False
    return payload


def _entries(
    table: memoryview, count: int, size: int
) -> list[tuple[np.dtype[Any], int, tuple[int, ...]]]:
    """(element type, offset, shape) of each array; all of them are within the payload."""
    found: list[tuple[np.dtype[Any], int, tuple[int, ...]]] = []
    at = 0
    for place in range(count):
        if len(table) - at < _ENTRY.size:
            raise BadFrame(f"the table of the frame ends before array {place} of {count}.")
        kind, axes, _, _, offset = _ENTRY.unpack_from(table, at)
        at += _ENTRY.size
        if kind >= len(_DTYPES) or axes > MOST_AXES or len(table) - at < axes * _AXIS.size:
            raise BadFrame(f"array {place} of the frame has the type {kind} and {axes} axes.")
        shape = struct.unpack_from(f"<{axes}Q", table, at)
        at += axes * _AXIS.size
        dtype = _DTYPES[kind]
        # Python's integers: a product of lengths cannot wrap around to one that fits.
        if offset % _ALIGN or offset + math.prod(shape) * dtype.itemsize > size:
            raise BadFrame(
                f"array {place} of the frame, {dtype.name}{list(shape)} at {offset}, is outside of "
                f"its payload of {size} bytes."
            )
        found.append((dtype, offset, shape))
    if at != len(table):
        raise BadFrame(f"{len(table) - at} bytes follow the table of the frame.")
    return found
