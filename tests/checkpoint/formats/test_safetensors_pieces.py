"""safetensors files whose arrays come in pieces."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSource
from paramesh.checkpoint.formats.safetensors_pieces import PiecewiseSink
from paramesh.dtype import to_dtype

ARRAYS = {
    "a": np.arange(30, dtype=np.float32).reshape(10, 3),
    "b": np.arange(10, dtype=np.int64),
    "half": np.arange(20).reshape(10, 2).astype(ml_dtypes.bfloat16),
    "one": np.array(7.5, np.float64),
    "none": np.empty((0, 4), np.float32),
}
ENTRIES = [Entry.of(n, to_dtype(a.dtype), a.shape) for n, a in ARRAYS.items()]


@pytest.mark.parametrize("checksums", [False, True])
def test_pieces_in_any_order_make_the_arrays(checksums: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with PiecewiseSink(path, ENTRIES, {"epoch": 3}, {"who": "me"}, checksums) as sink:
        sink.write("one", ARRAYS["one"])
        for first, stop in [(4, 10), (0, 1), (1, 4), (2, 2)]:
            for name in ("half", "a", "b"):
                sink.put(name, first, ARRAYS[name][first:stop])
    with SafetensorsSource(path) as source:
        assert source.verify() == checksums
        assert source.appended == {"epoch": 3}
        for name, array in ARRAYS.items():
            found = source.read(name)
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


def write(path: Path, *parts: tuple[str, int, np.ndarray]) -> None:
    with PiecewiseSink(path, ENTRIES, {}, {}) as sink:
        for name, first, rows in parts:
            sink.put(name, first, rows)


def test_what_does_not_fit_and_what_is_missing_leaves_no_file(tmp_path: Path) -> None:
    path, a = tmp_path / "x.safetensors", ARRAYS["a"]
    for first, part in [(8, a[:3]), (-1, a[:1]), (0, a[:, :2]), (0, a.astype(np.float64))]:
        with pytest.raises(ValueError, match=f"'a' is Float32.* a part of it from {first} on"):
            write(path, ("a", first, part))
    with pytest.raises(ValueError, match="no entry 'c'"):
        write(path, ("c", 0, a))
    with pytest.raises(ValueError, match="'a' is Float32.* a part of it"):
        write(path, ("a", 0, a), ("a", 0, a[:1]))
    with pytest.raises(ValueError, match="12 bytes of 'a' were not written"):
        write(path, ("a", 1, a[1:]))
    with pytest.raises(ValueError, match="80 bytes of 'b' were not written"):
        write(path, ("a", 0, a))
    assert list(tmp_path.iterdir()) == []
