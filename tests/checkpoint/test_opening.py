"""Sources and Sinks: what is written comes back, as views, in slices, and strictly."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import goldens
from paramesh.checkpoint import opening as formats
from paramesh.checkpoint.formats.storage_dtypes import STORAGE_ONLY, storage_dtype
from paramesh.checkpoint.opening import Entry, open_sink, open_source
from paramesh.dtype import ALL
from paramesh.errors import CheckpointError
from type_checks import present

FORMATS = [known.name for known in formats.FORMATS]
FOLDER = goldens.DIRECTORY / "ckpt"


def bits(kind: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape)) * kind.itemsize
    raw = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
    return (raw & 1 if kind == np.bool_ else raw).view(kind).reshape(shape)


def write(path: Path, format: str, arrays: dict[str, Any], **more: Any) -> Path:
    entries = [Entry.of(name, storage_dtype(a.dtype), a.shape) for name, a in arrays.items()]
    with open_sink(path, format, entries, **more) as sink:
        for name, array in arrays.items():
            sink.write(name, array)
    return path


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of all files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_comes_back(format: str, tmp_path: Path) -> None:
    cannot = formats.format_named(format).cannot_hold
    kinds = [kind for kind in (*ALL, *STORAGE_ONLY) if cannot(kind) is None]
    assert len(kinds) >= 13
    arrays = {kind.long_name: bits(kind.np_dtype, (3, 4)) for kind in kinds}
    arrays |= {"one": bits(np.dtype("f4"), ()), "none": bits(np.dtype("f4"), (0, 2))}
    path = write(tmp_path / "x", format, arrays, appended={"epoch": 3, "note": "é"})
    with open_source(path) as source:
        place = (format, path)
        if format == "huggingface":  # a folder with one file is that file
            place = ("safetensors", path / "model.safetensors")
        assert (source.format, source.path) == place
        if format == "ckpt":  # numbers are arrays of shape (), and nothing tells them apart
            assert source.scalars_may_be_appended
            assert dict(source.appended) == {"note": "é"}
            arrays["epoch"] = np.array(3)
        else:
            assert dict(source.appended) == {"epoch": 3, "note": "é"}
        assert source.names() == list(arrays)
        found, array = None, None
        for name, array in arrays.items():
            entry, found = source.entry(name), source.read(name)
            assert (entry.shape, entry.nbytes) == (array.shape, array.nbytes)
            assert same(found, array)
            assert not found.flags.writeable
            if array.size and path.is_file():
                raw = path.read_bytes()[entry.offset :][: array.nbytes]
                assert raw == array.tobytes()
    with pytest.raises(ValueError, match="is closed; 'one' cannot be read"):
        source.read("one")
    assert same(present(found), present(array))  # what was read before stays


@pytest.mark.parametrize("format", FORMATS)
def test_slices_are_views(format: str, tmp_path: Path) -> None:
    array = bits(np.dtype("f4"), (1000, 300))
    path = write(tmp_path / "x", format, {"w": array, "one": np.float32(3).reshape(())})
    tracemalloc.start()
    with open_source(path) as source:
        opened, _ = tracemalloc.get_traced_memory()
        whole = source.read("w")
        assert same(whole, array)
        assert same(source.read_flat("w", 250, 777), array.reshape(-1)[250:777])
        assert same(source.read_rows("w", 3, 5), array[3:5])
        assert source.read_rows("w", 7, 7).shape == (0, 300)
        assert source.read_flat("one", 0, 1).tolist() == [3]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < opened + 3 * 527 * 4 + array.nbytes * 3  # what the test itself copies
        assert whole.base is not None
        for start, stop in ((-1, 2), (2, 1), (0, 300_001)):
            with pytest.raises(
                IndexError, match="has 300000 elements; elements .* are out of range"
            ):
                source.read_flat("w", start, stop)
        with pytest.raises(IndexError, match="rows 0 to 1001 are out of range"):
            source.read_rows("w", 0, 1001)
        with pytest.raises(IndexError, match=r"shape \[\]; rows 0 to 1 are out"):
            source.read_rows("one", 0, 1)
        with pytest.raises(KeyError, match="no array named 'v'"):
            source.entry("v")


@pytest.mark.parametrize("format", FORMATS)
def test_a_sink_wants_its_entries_in_order(format: str, tmp_path: Path) -> None:
    arrays = {"a": np.ones(2, np.float32), "b": np.ones((), np.int8)}
    path = write(tmp_path / "x", format, arrays)
    before = contents(path)
    entries = [Entry.of(name, storage_dtype(a.dtype), a.shape) for name, a in arrays.items()]

    def attempt(*writes: tuple[str, Any]) -> None:
        with open_sink(path, format, entries) as sink:
            for name, array in writes:
                sink.write(name, array)

    for message, writes in {
        "next entry is 'a', float32": [("b", arrays["b"])],
        r"next entry is 'b', int8\[\]; got 'b', int8\[1\]": [
            ("a", arrays["a"]),
            ("b", np.ones(1, "i1")),
        ],
        "'b' was not written; no file was written": [("a", arrays["a"])],
        "all entries are written; 'c'": [*arrays.items(), ("c", arrays["a"])],
    }.items():
        with pytest.raises(ValueError, match=message):
            attempt(*writes)
    with pytest.raises(ValueError, match="the name 'a' is duplicated"):
        open_sink(path, format, entries, {"a": 1})
    assert contents(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_files_of_the_safetensors_library(tmp_path: Path) -> None:
    arrays = {k: bits(np.dtype(k), (2, 3)) for k in ("f2", "f4", "i8", "u1", "?", "c8")}
    save_file(arrays, tmp_path / "theirs", {"a": "b"})
    with open_source(tmp_path / "theirs") as source:
        assert source.metadata == {"a": "b"}
        assert all(same(source.read(name), array) for name, array in arrays.items())
    write(tmp_path / "mine", "safetensors", arrays, metadata={"a": "b"}, checksums=True)
    with safe_open(tmp_path / "mine", framework="np") as file:
        assert set(file.keys()) == set(arrays)
        assert all(same(file.get_tensor(name), array) for name, array in arrays.items())
        assert file.metadata()["a"] == "b"


def test_checksums(tmp_path: Path) -> None:
    arrays = {"a": bits(np.dtype("f4"), (50,)), "b": bits(np.dtype(ml_dtypes.bfloat16), (9,))}
    path = write(tmp_path / "x", "safetensors", arrays, checksums=True)
    with open_source(path) as source:
        assert source.verify()
        at = source.entry("b").offset
    raw = bytearray(path.read_bytes())
    raw[at + 3] ^= 1
    path.write_bytes(raw)
    changed = f"'b' at byte {at}: its checksum does not match"
    with open_source(path) as source, pytest.raises(CheckpointError, match=changed):
        source.verify()
    for name, has in (("lenet", False), ("lenet_crc", True)):
        with open_source(FOLDER / f"{name}.safetensors") as source:
            assert source.verify() is has
    raw = bytearray((FOLDER / "lenet_crc.safetensors").read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with open_source(path) as source, pytest.raises(CheckpointError, match="of all arrays"):
        source.verify()


def header(text: str, data: bytes = b"") -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(8, "little") + raw + data


ONE = '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "it has 0 bytes"),
        (b"\xff" * 20, r"it begins with b'(\\xff){16}' instead of a header length"),
        (header(ONE)[:40], "it is truncated: it has 40 bytes, but its header alone has 54"),
        (header("{" * 9), "its header is not valid JSON"),
        (header('{"w":' + "[" * 100_000), "its header is not valid JSON"),
        (header('{"w":' + "9" * 10_000 + "}"), "its header is not valid JSON"),
        (header('{"w":1}'), "'w': its header must give dtype"),
        (header(ONE[:-1] + "," + ONE[1:], bytes(4)), "a name is duplicated"),
        (header(ONE.replace("[1]", "[-1]"), bytes(4)), r"its shape is \[-1\]"),
        (header(ONE.replace("[1]", "[true]"), bytes(4)), r"its shape is \[True\]"),
        (header(ONE.replace("[1]", "[4294967296,4294967296]"), bytes(4)), "does not have 4 bytes"),
        (header(ONE.replace("[0,4]", "[4,0]"), bytes(4)), r"data_offsets are \[4, 0\]"),
        (header(ONE.replace("[0,4]", "[4,8]"), bytes(8)), "it should begin at byte"),
        (header(ONE, bytes(5)), "its arrays end at byte 66, the file at 67"),
        (header(ONE, bytes(3)), "its arrays end at byte 66, the file at 65"),
        (header(ONE.replace("F32", "F7"), bytes(4)), "type 'F7', which cannot be read"),
        (
            header(ONE.replace("F32", "F6_E2M3"), bytes(4)),
            r"F6_E2M3\[1\] does not take these bytes",
        ),
        (header('{"__metadata__":{"a":1}}'), "is not an object of strings"),
    ],
)
def test_headers_that_cannot_be(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_source(path)
    assert "x.safetensors" in str(caught.value)
    assert "Nothing was loaded" in str(caught.value)


def test_a_header_of_metadata_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "safetensors", {}, metadata={"a": json.dumps([1])})
    with open_source(path) as source:
        assert (source.names(), source.metadata) == ([], {"a": "[1]"})
