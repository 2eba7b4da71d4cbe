"""Files of other libraries are named as what they are, and the error says what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import paramesh
from paramesh import Tensor
from paramesh.checkpoint.opening import FORMATS
from paramesh.errors import CheckpointError

ARRAY = np.arange(6, dtype=np.float32)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    def save(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, b"x" * 100)

    return saved(save)


def tar(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.ckpt"))


MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before 1.6
FILES: dict[str, tuple[bytes, str]] = {
    "npz": (saved(lambda f: np.savez(f, a=ARRAY)), r"a NumPy archive \(\.npz\)"),
    "npy": (saved(lambda f: np.save(f, ARRAY)), r"a NumPy array \(\.npy\)"),
    "pt": (zipped("archive/data.pkl", "archive/data/0"), "a PyTorch file"),
    "bin": (pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2), "a pickle, as PyTorch wrote before"),
    "pdparams": (pickle.dumps({"a": ARRAY}), "a Python pickle"),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "a model of Keras"),
    "zip": (zipped("a.txt"), "a zip archive"),
    "cut.npz": (saved(lambda f: np.savez(f, a=ARRAY))[:60], "a zip archive .* that is truncated"),
    "msgpack": (b"\x81\xa6params\x81\xa5Dense\xc0", r"a msgpack file \(of flax\)"),
    "flax": (b"\xde\x00\x11\xa6params", r"a msgpack file \(of flax\)"),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), r"an HDF5 file"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
    "model": (b"\x08\x07\x12\x07pytorch\x1a\x051.9", "an ONNX model"),
    "onnx": (b"\x08\x03:\x10abc", "an ONNX model"),
    "mindir": (b"\n\x050.1.1\x12\x09MindSpore", "a MindIR graph"),
    "gz": (gzip.compress(b"x"), "a gzip file"),
    "bz2": (bz2.compress(b"x"), "a bzip2 file"),
    "xz": (lzma.compress(b"x"), "an xz file"),
    "zst": (b"\x28\xb5\x2f\xfd" + bytes(20), "a zstd file"),
    "tar": (saved(tar), "a tar archive"),
    "html": (b"\n  <!DOCTYPE HTML><html>Sign in", r"a web page \(HTML\)"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML document"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
    "json": (b'{"error": "not found"}', "a JSON file"),
    "checkpoint": (b'model_checkpoint_path: "model"\n', "TensorFlow's list of checkpoints"),
    "data-00000-of-00001": (bytes(range(1, 100)), "a checkpoint of TensorFlow"),
    "index": (bytes(40) + bytes.fromhex("57fb808b247547db"), "a checkpoint of TensorFlow"),
    "pb": (b"\x08\x01\x12\x05abc", "a graph of TensorFlow"),
    "zeros": (bytes(4096), "a file that begins with zeros only"),
}


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        paramesh.load_checkpoint(path)
    text = str(caught.value)
    assert path.name in text
    assert "header" not in text
    assert text.endswith(". Nothing was loaded.")
    assert len(text) > 120  # it says what to do as well


@pytest.mark.parametrize("kind", FILES)
def test_it_is_named(kind: str, tmp_path: Path) -> None:
    raw, message = FILES[kind]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(raw)
    refused(path, message)


@pytest.mark.parametrize(
    "suffix", [known.suffix for known in FORMATS if known.suffix != ".sharded"]
)
@pytest.mark.parametrize(
    "kind", ["npz", "pt", "bin", "pdparams", "h5", "gz", "html", "lfs", "json"]
)
def test_whatever_its_name_says(kind: str, suffix: str, tmp_path: Path) -> None:
    raw, message = FILES[kind]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(raw)
    refused(path, message)


def test_a_ckpt_whose_length_is_a_brace_is_no_json(tmp_path: Path) -> None:
    """The second byte of MindSpore's files is the length of a record: 123 is an opening brace."""
    for size in range(74, 112):
        path = tmp_path / f"{size}.ckpt"
        data = Tensor(np.zeros(size, np.int8))
        paramesh.save_checkpoint([{"name": "w", "data": data}], path, format="ckpt")
        assert list(paramesh.load_checkpoint(path)) == ["w"]
    seconds = {path.read_bytes()[1] for path in tmp_path.iterdir()}
    assert {ord("{"), ord("[")} <= seconds


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.index").write_bytes(FILES["index"][0])
    refused(tmp_path / "model.ckpt", "a checkpoint of TensorFlow")  # the name that users give
    refused(tmp_path, "a checkpoint of TensorFlow")
    (tmp_path / "pytorch_model.bin").write_bytes(FILES["bin"][0])
    refused(tmp_path, r"contains PyTorch files \('pytorch_model\.bin'\)")
    (tmp_path / "saved_model.pb").write_bytes(FILES["pb"][0])
    refused(tmp_path, "a graph of TensorFlow")
    flax = tmp_path / "flax"
    flax.mkdir()
    with pytest.raises(FileNotFoundError, match="There is no checkpoint .*: it is a folder"):
        paramesh.load_checkpoint(flax)
    (flax / "flax_model.msgpack").write_bytes(FILES["msgpack"][0])
    refused(flax, "contains a msgpack file")
