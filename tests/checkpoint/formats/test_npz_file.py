"""NumPy's archives, plain and compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import paramesh
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError

ARRAYS = {
    "net.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "by_column": np.asfortranarray(np.arange(24, dtype=np.int64).reshape(2, 3, 4)),
    "scalar": np.float64(2.5),
    "big_endian": np.arange(3, dtype=">i4"),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 2), np.complex64),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays(save: object, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    save(path, **ARRAYS)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"x\.npz' is a NumPy \.npz archive.*format=\"npz\""):
        paramesh.load_checkpoint(path)
    found = paramesh.load_checkpoint(path, format="npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].asnumpy(), array)
        assert found[name].shape == np.shape(array)
    with open_source(path) as source:
        assert source.format == "npz"
        box = source.read_box("by_column", ((0, 2), (1, 2), (2, 4)))
        np.testing.assert_array_equal(box, ARRAYS["by_column"][:, 1:2, 2:])
        assert source.read_flat("by_column", 5, 8).tolist() == [5, 6, 7]


def test_objects_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    with pytest.raises(CheckpointError, match="'a' holds objects of python, which are pickled"):
        open_source(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.array(["text"]))
    with pytest.raises(CheckpointError, match="'a' has elements of <U4, which cannot be read"):
        open_source(tmp_path / "y.npz")


def test_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.ones(100))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(100,)", b"(900,)"))
    with pytest.raises(CheckpointError, match=r"its data ends before shape \(900,\) does"):
        open_source(path)
    path.write_bytes(whole.replace(b"\x93NUMPY", b"\x93NUMPX"))
    with pytest.raises(CheckpointError, match=r"'a': it is no \.npy"):
        open_source(path)
    path.write_bytes(whole[:200])
    with pytest.raises(CheckpointError, match="a zip archive .* that is truncated"):
        open_source(path)
