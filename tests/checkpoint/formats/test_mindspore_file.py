"""MindSpore's files: recorded ones read to what was saved, and are written to the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import goldens
from paramesh import dtype as mstype
from paramesh import nn
from paramesh.checkpoint import load_checkpoint, load_param_into_net, save_checkpoint
from paramesh.checkpoint.formats.mindspore_file import MindsporeSink
from paramesh.checkpoint.formats.storage_dtypes import int4x2, storage_dtype
from paramesh.checkpoint.opening import Entry, open_sink, open_source
from paramesh.errors import CheckpointError
from paramesh.tensor import Tensor

FOLDER = goldens.DIRECTORY / "ckpt"
FILES = json.loads((FOLDER / "ckpt.json").read_text())["files"]
READABLE = [name for name, about in FILES.items() if "error" not in about and about["params"]]
READABLE = [name for name in READABLE if not name.startswith("enc_")]
#: Not where arrays follow numbers of append_dict, nor complex numbers, which MindSpore never reads.
PLAIN = [
    name
    for name in READABLE
    if name.endswith(".ckpt") and name not in ("lenet_append.ckpt", "mixed_all.ckpt")
]
ENCRYPTED = [name for name in FILES if name.startswith("enc_")]


def expected(name: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    arrays = goldens.arrays("ckpt/expected")
    return {
        about["name"]: (
            about["dtype"],
            tuple(about["shape"]),
            arrays[f"{name}/{about['name']}"].tobytes(),
        )
        for about in FILES[name]["params"]
    }


@pytest.mark.parametrize("name", READABLE)
def test_recorded_files_read_to_what_was_saved(name: str) -> None:
    wanted = expected(name)
    appended = FILES[name]["kwargs"].get("append_dict", {})
    with open_source(FOLDER / name) as source:
        found = {
            e.name: (str(e.dtype), e.shape, source.read(e.name).tobytes()) for e in source.entries()
        }
        strings = dict(source.appended)
        assert source.verify() is ("crc" in name)
    assert {n: found.pop(n) for n in wanted} == wanted
    assert set(found) | set(strings) == set(appended)
    loaded = load_checkpoint(FOLDER / name, crc_check=True)
    assert set(loaded) == set(wanted) | set(appended)
    for n, (kind, shape, raw) in wanted.items():
        value = loaded[n]
        assert (str(value.dtype), value.shape, value.asnumpy().tobytes()) == (kind, shape, raw)
    for n, value in appended.items():
        if isinstance(value, dict):
            assert loaded[n].asnumpy().ravel().tolist() == np.ravel(value["value"]).tolist()
        else:
            got = loaded[n]
            assert (got if isinstance(value, str) else got.asnumpy().item()) == value


@pytest.mark.parametrize("name", PLAIN)
def test_what_was_read_is_written_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    limit = 1024 if name.startswith("sliced") else 1 << 29
    with open_source(FOLDER / name) as source:
        entries = source.entries()
        with MindsporeSink(
            tmp_path / "x", entries, source.appended, {}, source.verify(), limit
        ) as sink:
            for entry in entries:
                sink.write(entry.name, source.read(entry.name))
    assert (tmp_path / "x").read_bytes() == (FOLDER / name).read_bytes()


def test_save_checkpoint_writes_the_bytes_of_mindspore(tmp_path: Path) -> None:
    values = load_checkpoint(FOLDER / "lenet.ckpt")
    given = FILES["lenet_append_numbers.ckpt"]["kwargs"]["append_dict"]
    cases: dict[str, dict[str, Any]] = {
        "lenet": {},
        "lenet_crc": {"crc_check": True},
        "lenet_append_numbers": {"append_dict": given},
    }
    for name, more in cases.items():
        path = save_checkpoint(values, tmp_path / name, format="ckpt", **more)
        assert path.read_bytes() == (FOLDER / f"{name}.ckpt").read_bytes()
    given = {"note": "hello wörld", "epoch_num": 7, "fine": 0.1}
    found = load_checkpoint(
        save_checkpoint(values, tmp_path / "x.ckpt", append_dict=given, crc_check=True),
        crc_check=True,
    )
    assert found["note"] == "hello wörld"
    assert found["epoch_num"].dtype is mstype.int64
    assert found["fine"].asnumpy().item() == 0.1


def test_numbers_of_append_dict_are_passed_over(tmp_path: Path) -> None:
    net = nn.Dense(2, 1)
    path = save_checkpoint(net, tmp_path / "x.ckpt", append_dict={"epoch": 3})
    assert load_param_into_net(nn.Dense(2, 1), load_checkpoint(path)) == ([], [])


@pytest.mark.parametrize("name", ENCRYPTED)
def test_encrypted_files_say_what_to_do(name: str) -> None:
    mode = FILES[name]["kwargs"]["enc_mode"]
    with pytest.raises(CheckpointError, match=f"is encrypted .{mode}.*without enc_key in MindSp"):
        load_checkpoint(FOLDER / name)


def test_packed_pairs_of_4_bits_stay_as_they_are(tmp_path: Path) -> None:
    packed = np.array([[0x21, -1, 0x7F]], np.int8)
    entry = Entry("q", int4x2, (1, 3), 3)
    with open_sink(tmp_path / "q", "ckpt", [entry]) as sink:
        sink.write("q", packed)
    assert (tmp_path / "q").read_bytes() == b"\n\x14\nQ".replace(b"Q", b"\x01q") + (
        b"\x12\x0f\x08\x01\x08\x03\x12\x04Int4\x1a\x03\x21\xff\x7f"
    )
    with open_source(tmp_path / "q") as source:
        assert source.entry("q").dtype is int4x2
        assert source.read("q").tolist() == packed.tolist()
    assert load_checkpoint(tmp_path / "q")["q"].asnumpy().tolist() == packed.tolist()
    with pytest.raises(ValueError, match="safetensors files have no element type Int4"):
        open_sink(tmp_path / "x", "safetensors", [entry])


def test_what_mindspore_would_not_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'c'.*MindSpore does not read elements of type Complex64"):
        save_checkpoint({"c": Tensor([1j], mstype.complex64)}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="needs at least one array"):
        save_checkpoint({}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="1024 characters"):
        save_checkpoint({"n" * 70_000: Tensor([1])}, tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


def record(name: bytes = b"\n\x01w", tensor: bytes = b"\x08\x01\x12\x04Int8\x1a\x01\0") -> bytes:
    body = name + b"\x12" + bytes((len(tensor),)) + tensor
    return b"\n" + bytes((len(body),)) + body


ONE = record()
FLOATS = b"\x12\x07Float32"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "ckpt file: it is empty"),
        (b"\x08\x01", "at byte 0: there is no record at this offset"),
        (ONE + b"crc_num" + bytes(9), f"at byte {len(ONE)}: there is no record at this offset"),
        (ONE[:-1], "a record should have 16 bytes, but 15 are left"),
        (b"\n" + b"\xff" * 20, "a varint is not terminated"),
        (b"\n" + b"\xff" * 9 + b"\x7f", "a varint is not terminated"),
        (b"\n" + b"\xff" * 8 + b"\x7f", "should have 9223372036854775807 bytes"),
        (record(b""), "does not begin with a name"),
        (record(b"\n\0"), "the name has 0 bytes"),
        (record(b"\n\x7fw"), "the name should have 127 bytes"),
        (record(b"\n\x01\xff"), "the name is not valid UTF-8"),
        (b"\n\x05\n\x01w\x1a\0", "'w' at byte 2 is a MapParameter"),
        (b"\n\x03\n\x01w", "'w' at byte 5: no tensor follows the name"),
        (record()[:1] + b"\x12" + ONE[2:] + b"\x08\0", "there is data after the tensor"),
        (record(tensor=b"\x12\x04Int8"), "no content follows its element type"),
        (record(tensor=b"\x08\x01\x1a\x01\0"), "no element type follows its shape"),
        (record(tensor=b"\x12\x04Int8\x1a\x01\0\x08\x01"), "there is data after its content"),
        (record(tensor=b"\x12\x04Int9\x1a\x01\0"), "'w' has elements of type b'Int9'"),
        (record(tensor=b"\x08" + b"\xff" * 9 + b"\x01" + FLOATS + b"\x1a\0"), "a negative size"),
        (
            record(tensor=b"\x08\xff\xff\xff\xff\x7f" * 2 + FLOATS + b"\x1a\x04" + bytes(4)),
            r"'w' at byte \d+: Float32\[34359738367, 34359738367\] takes \d+ bytes, not 4",
        ),
        (record(tensor=b"\x08\x01" * 60 + b"\x12\x04Int8\x1a\x01\0")[:-1], "are left"),
        (record(tensor=b"\x08\x03" + FLOATS + b"\x1a\x04" + bytes(4)), "takes 12 bytes, not 4"),
        (record(tensor=b"\x08\x00\x08" + b"\xff" * 8 + b"\x7f" + FLOATS + b"\x1a\0"), "of such s"),
        (ONE + ONE, "takes 1 bytes, not 2"),
        (ONE + record(b"\n\x01v") + ONE, "'w' at byte .*: the name is duplicated"),
        (ONE + record(tensor=b"\x12\x04Int8\x1a\x01\0"), "pieces do not match"),
        (record(tensor=b"\x08\0\x12\x03str\x1a\x03abc"), "its text is not valid UTF-32"),
        (record(tensor=b"\x08\x01\x12\x03str\x1a\x04a\0\0\0"), r"a str of shape \[1\]"),
        (record(tensor=b"\x08\0\x12\x03str\x1a\0") + ONE, "the name is duplicated"),
    ],
)
def test_files_that_cannot_be(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_source(path)
    assert "x.ckpt" in str(caught.value)
    assert "Nothing was loaded" in str(caught.value)


def test_many_axes(tmp_path: Path) -> None:
    tensor = b"\x08\x01" * 65 + b"\x12\x04Int8\x1a\x01\0"
    body = b"\n\x01w\x12" + bytes((len(tensor) | 128, 1)) + tensor
    (tmp_path / "x.ckpt").write_bytes(b"\n" + bytes((len(body) | 128, 1)) + body)
    with pytest.raises(CheckpointError, match="'w' at byte 9: it has more than 64 axes"):
        open_source(tmp_path / "x.ckpt")


def test_names_that_no_parameter_can_have(tmp_path: Path) -> None:
    name = b"\n\xd0\x0f" + b"n" * 2000  # lengths above 127 take two bytes
    tensor = b"\x12\x0b\x08\x01\x12\x04Int8\x1a\x01\0"
    size = len(name) + len(tensor)
    head = b"\n" + bytes((size & 127 | 128, size >> 7))
    (tmp_path / "x").write_bytes(head + name + tensor)
    with pytest.raises(CheckpointError, match="may have 1024 characters, and it has 2000"):
        load_checkpoint(tmp_path / "x")


READER = """
import sys
import mindspore
from mindspore import load_checkpoint
found = load_checkpoint(sys.argv[1], crc_check=True)
for name, value in found.items():
    if isinstance(value, str):
        print(name, value)
    else:
        # Some of numpy's versions have no bfloat16 for MindSpore; Float32 holds the same numbers.
        wide = value.float() if value.dtype == mindspore.bfloat16 else value
        array = wide.asnumpy()
        print(name, value.dtype, list(value.shape), array.tobytes().hex())
"""


@pytest.mark.skipif(
    "PARAMESH_MINDSPORE_PYTHON" not in os.environ,
    reason="PARAMESH_MINDSPORE_PYTHON names no python that has MindSpore",
)
def test_mindspore_reads_what_is_written_here(tmp_path: Path) -> None:
    kinds = [kind for kind in mstype.ALL if not kind.is_complex()]
    arrays: dict[str, Any] = {
        kind.long_name: np.arange(12).reshape(3, 4).astype(kind.np_dtype) for kind in kinds
    } | {"scalar": np.float32(2).reshape(()), "long": np.arange(3000.0)}
    entries = [Entry.of(name, storage_dtype(a.dtype), a.shape) for name, a in arrays.items()]
    path = tmp_path / "x.ckpt"
    appended: dict[str, Any] = {"epoch": 7, "rate": 0.25, "done": True, "note": "wörld"}
    with MindsporeSink(path, entries, appended, {}, True, slice_bytes=1024) as sink:
        for name, array in arrays.items():
            sink.write(name, array)
    done = subprocess.run(
        [os.environ["PARAMESH_MINDSPORE_PYTHON"], "-c", READER, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("[")]
    numbers = {"epoch": np.array(7), "rate": np.array(0.25, "f4"), "done": np.array(True)}
    same = {n: a.astype("f4") if n == "bfloat16" else a for n, a in (arrays | numbers).items()}
    wanted = [
        f"{name} {storage_dtype(a.dtype)} {list(a.shape)} {same[name].tobytes().hex()}"
        for name, a in (arrays | numbers).items()
    ]
    assert sorted(lines) == sorted([*wanted, "note wörld"])
