"""Frames: what is written is read, and nothing else is ever made of bytes than an error."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from paramesh.dtype import to_dtype
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.frames import BadFrame, Unfit, decoded, draft, encoded, parts_of

DTYPES = ("bool", "int8", "uint8", "int64", "uint32", "float16", "float32", "float64", "bfloat16")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = to_dtype(draw(st.sampled_from(DTYPES))).np_dtype
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    count = int(np.prod(shape)) * dtype.itemsize
    seed = draw(st.integers(0, 1 << 31))
    raw = np.random.default_rng(seed).integers(0, 2, count, np.uint8)
    array = raw.view(dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


def frame_of(kind: int, number: int, text: Any, parts: list[np.ndarray]) -> bytes:
    return encoded(draft(kind, number, text, parts), sequence=number + 1, taken=2)


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(0, (1 << 63) - 1), JSON, st.lists(arrays(), max_size=5))
def test_what_is_written_is_read(
    kind: int, number: int, text: Any, parts: list[np.ndarray]
) -> None:
    found = decoded(frame_of(kind, number, text, parts))
    assert (found.kind, found.number, found.sequence, found.taken) == (kind, number, number + 1, 2)
    assert repr(found.text) == repr(text)  # NaN is itself
    for array, original in zip(found.arrays, parts, strict=True):
        assert (array.dtype, array.shape) == (original.dtype, original.shape)
        assert array.tobytes() == original.tobytes()
        assert not array.flags.writeable


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (object(), []),
        ("x" * (frames.MOST_TEXT + 1), []),
        (None, [np.zeros(1)] * (frames.MOST_ARRAYS + 1)),
        (None, [np.zeros(1, ">f4")]),
        (None, [np.zeros(1, object)]),
        (None, [np.zeros((1,) * 5)]),
    ],
)
def test_what_a_frame_does_not_carry(text: Any, parts: list[np.ndarray]) -> None:
    with pytest.raises(Unfit):
        draft(frames.CALL, 1, text, parts)


@settings(max_examples=150)
@given(st.binary(max_size=400))
def test_random_bytes_are_an_error(raw: bytes) -> None:
    with pytest.raises(BadFrame):
        decoded(raw)


GOOD = frame_of(1, 7, ["step", 1.5], [np.arange(6.0).reshape(2, 3), np.arange(4)])


@pytest.mark.parametrize("length", [*range(0, len(GOOD), 7), len(GOOD) - 1])
def test_a_frame_that_is_cut_off_or_longer_is_an_error(length: int) -> None:
    with pytest.raises(BadFrame):
        decoded(GOOD[:length])
    with pytest.raises(BadFrame):
        decoded(GOOD + bytes(length + 1))


@settings(max_examples=150)
@given(st.data())
def test_a_changed_frame_is_an_error_or_a_frame_and_never_a_large_allocation(
    data: st.DataObject,
) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(8, 64 + 60 + 40))
        value = data.draw(st.sampled_from([0, 1, 127, 255]))
        for place in range(at, min(len(raw), at + data.draw(st.sampled_from([1, 4, 8])))):
            raw[place] = value
    tracemalloc.start()
    try:
        decoded(bytes(raw), lambda offset, size: (_ for _ in ()).throw(BadFrame("none")))
    except BadFrame:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1 << 40,), 2),
        ((1 << 32, 1 << 32), 4),
        ((1 << 63, 2), 4),  # 64 bits of this product are 0
        ((1 << 62, 0, 1 << 62), 4),
        ((5,), 200),
        ((1,) * 17, 1),
    ],
)
def test_huge_arrays_are_an_error(shape: tuple[int, ...], dtype: int) -> None:
    entry = struct.pack("<BBHIQ", dtype, len(shape), 0, 0, 0) + struct.pack(
        f"<{len(shape)}Q", *shape
    )
    whole = draft(frames.CALL, 1, None, [np.zeros(8, np.uint8)])._replace(table=entry)
    with pytest.raises(BadFrame):
        decoded(encoded(whole))


def test_a_text_of_too_many_levels_is_an_error() -> None:
    whole = draft(frames.CALL, 1, None)._replace(text=b"[" * 200_000 + b"]" * 200_000)
    with pytest.raises(BadFrame, match="not JSON"):
        decoded(encoded(whole))


# Payloads in parts.


def parted(count: int) -> tuple[bytes, list[bytes], list[np.ndarray]]:
    """A message of so many parts, and its arrays."""
    size = (count - 1) * frames.PART + 1000
    arrays = [np.arange(5), np.random.default_rng(0).integers(0, 256, size, np.uint8)]
    ready = draft(frames.ANSWER, 3, ["many"], arrays)
    return encoded(ready, sequence=4), [bytes(part) for part in parts_of(ready)], arrays


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_payload_in_parts_is_read(count: int) -> None:
    head, parts, arrays = parted(count)
    assert len(parts) == count
    assert len(head) < 1000
    found = decoded(head, None, parts)
    assert (found.kind, found.number, found.sequence) == (frames.ANSWER, 3, 4)
    for array, original in zip(found.arrays, arrays, strict=True):
        assert array.tobytes() == original.tobytes()
        assert not array.flags.writeable


def test_what_fits_into_a_frame_or_is_too_long_has_no_parts() -> None:
    for size in (10, frames.MOST_INLINE, frames.MOST_PARTED + 64):
        ready = draft(frames.CALL, 1, None, [np.zeros(size, np.uint8)])
        assert parts_of(ready) == []
        assert not ready.fits_parts()


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:-1],
        lambda parts: [],
        lambda parts: [*parts, b""],
        lambda parts: [*parts[:-1], parts[-1] + b"x"],
        lambda parts: [*parts[:-1], parts[-1][:-1]],
        lambda parts: [parts[0][:-1], *parts[1:]],
        lambda parts: parts[::-1],
        lambda parts: [b"".join(parts)],
    ],
    ids=["fewer", "none", "one more", "longer", "shorter", "uneven", "turned round", "one"],
)
def test_other_parts_than_are_announced_are_an_error(change: Any) -> None:
    head, parts, _ = parted(3)
    with pytest.raises(BadFrame, match="came in"):
        decoded(head, None, change(parts))
    with pytest.raises(BadFrame, match="that announces none"):
        decoded(GOOD, None, [b"x"])


@settings(max_examples=100)
@given(st.data())
def test_a_changed_head_of_parts_is_an_error_or_a_frame_of_what_came(data: st.DataObject) -> None:
    head, parts, _ = PARTED
    raw = bytearray(head)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.sampled_from([0, 1, 127, 255]))
    some = parts[: data.draw(st.integers(0, len(parts)))]
    tracemalloc.start()
    try:
        decoded(bytes(raw), None, some)
    except BadFrame:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < (1 << 20) + sum(map(len, some))


PARTED = parted(3)
