"""Flax's msgpack files, made here as flax.serialization makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest

import paramesh
from paramesh.checkpoint.formats.msgpack_tree import Binary, MsgpackReader
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError
from type_checks import present

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


def extension(array: Any, code: int = 1) -> msgpack.ExtType:
    """An array as flax has it."""
    data = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(code, packed(data, use_bin_type=True))


def cut(array: Any, size: int) -> dict[str, Any]:
    """A large array as flax has it."""
    flat = array.reshape(-1)
    chunks = [flat[i : i + size] for i in range(0, flat.size, size)]
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): n for i, n in enumerate(array.shape)},
        "chunks": {str(i): extension(chunk) for i, chunk in enumerate(chunks)},
    }


def packed(value: object, **options: bool) -> bytes:
    return present(msgpack.packb(value, **options))


def write(path: Path, tree: Any) -> Path:
    path.write_bytes(packed(tree, use_bin_type=True))
    return path


def test_a_tree(tmp_path: Path) -> None:
    tree = {
        "params": {
            "Dense_0": {"kernel": extension(KERNEL), "bias": extension(np.zeros(3, np.float16))},
            "cut": cut(np.arange(50, dtype=np.int64).reshape(5, 10), 7),
            "half": extension(KERNEL.astype(ml_dtypes.bfloat16)),
        },
        "step": 7,
        "count": extension(np.array(3, np.int32), 3),
        "rate": 0.5,
        "note": "é",
        "none": None,
        "list": {"0": extension(np.ones(1, bool))},
    }
    path = write(tmp_path / "x.msgpack", tree)
    found = paramesh.load_checkpoint(path)
    np.testing.assert_array_equal(found["params.Dense_0.kernel"].asnumpy(), KERNEL)
    assert str(found["params.half"].dtype) == "BFloat16"
    assert found["params.cut"].asnumpy().tolist() == np.arange(50).reshape(5, 10).tolist()
    assert (found["count"].asnumpy(), found["step"].asnumpy(), found["note"]) == (3, 7, "é")
    with open_source(path) as source:
        assert source.format == "flax"
        assert source.read_flat("params.cut", 5, 16).tolist() == list(range(5, 16))
        assert source.read_box("params.cut", ((1, 3), (9, 10))).tolist() == [[19], [29]]
    path.rename(tmp_path / "named.otherwise")
    assert "params.half" in paramesh.load_checkpoint(tmp_path / "named.otherwise")


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"a": msgpack.ExtType(1, packed([1]))}, "not .shape, element type, bytes"),
        ({"a": msgpack.ExtType(2, b"x")}, "neither an array nor a number that is known"),
        ({"a": msgpack.ExtType(1, packed([[9], "float32", b"1234"]))}, "does not take 4 by"),
        ({"a": msgpack.ExtType(1, packed([[1], "object", b"1234"]))}, "cannot be read"),
        ({"a": cut(KERNEL, 4) | {"shape": {"0": 9}}}, "its chunks do not make an array"),
        ({"a": cut(KERNEL, 4) | {"chunks": {}}}, "has no shape or no chunks"),
    ],
)
def test_damage(tree: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=told):
        open_source(write(tmp_path / "x.msgpack", tree))


def test_files_that_are_truncated_or_go_on(tmp_path: Path) -> None:
    path = write(tmp_path / "x.msgpack", {"params": {"kernel": extension(KERNEL)}})
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="is not a valid flax file"):
            open_source(path)
    path.write_bytes(whole + b"\xc0")
    with pytest.raises(CheckpointError, match="its object ends at byte"):
        open_source(path)


def test_all_kinds_of_msgpack() -> None:
    things: list[Any] = [
        *(0, 127, 128, 2**16, 2**32, 2**63, -1, -32, -33, -(2**15), -(2**31), -(2**63)),
        *(1.5, None, True, False, "", "a" * 31, "a" * 32, "a" * 300, "a" * 70000),
        *([1] * 15, [1] * 16, [1] * 70000, {str(i): i for i in range(16)}, {"a": 1}),
    ]
    assert MsgpackReader(packed(things)).read() == things
    assert MsgpackReader(packed(1.5, use_single_float=True)).read() == 1.5
    for size in (1, 2, 4, 8, 16, 3, 300, 70000):
        raw = packed(msgpack.ExtType(5, b"x" * size))
        assert MsgpackReader(raw).read() == Binary(len(raw) - size, size, 5)
        raw = packed(b"x" * size, use_bin_type=True)
        assert MsgpackReader(raw).read() == Binary(len(raw) - size, size)
    for raw, told in ((b"\xc1", "0xc1 begins nothing"), (b"\xdd\xff\xff\xff\xff", "ends before")):
        with pytest.raises(ValueError, match=told):
            MsgpackReader(raw).read()
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        MsgpackReader(b"\x91" * 200).read()
