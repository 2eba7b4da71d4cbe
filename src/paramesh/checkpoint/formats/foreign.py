"""Files of other libraries, and files that are not checkpoints: recognised, to say what to do.

paramesh does not read them. `.npz` and similar files are converted in three lines with the library
that wrote them; PyTorch files are pickles, which can run code when they are read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

#: Number of bytes that are read to recognise a file.
LOOKED_AT = 512

_SAVE = "save_checkpoint([{'name': n, 'data': Tensor(a)} for n, a in arrays.items()], NEW_PATH)"
_TORCH = (
    "In a process with torch: safetensors.torch.save_file(torch.load(PATH, weights_only=True), "
    "NEW_PATH); `paramesh convert --from torch` maps its names"
)
_FLAX = (
    "Read it with flax.serialization.msgpack_restore, flatten it to {name: array}, and call "
    + _SAVE
)
_FETCH = "Fetch the file itself"
_UNPACK = "Unpack it, and give the checkpoint inside"

#: The last bytes of TensorFlow's `.index` files.
_SSTABLE = bytes.fromhex("57fb808b247547db")


def _at(magic: bytes, place: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head[place : place + len(magic)] == magic


def _text(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(beginnings)


_PAGE, _XML = _text(b"<!doctype html", b"<html", b"<head"), _text(b"<?xml")


def _msgpack(head: bytes) -> bool:
    """A map whose first key is a str, as flax writes it."""
    first = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x81 <= head[0] <= 0x8F else 0) if head else 0
    return (
        bool(first) and len(head) > first and (0xA1 <= head[first] <= 0xBF or head[first] == 0xD9)
    )


def _onnx(head: bytes) -> bool:
    """Its version, then the name of the library that wrote it."""
    return bool(re.match(rb"\x08[\x01-\x20](\x12[\x01-\x7f][\x20-\x7e]|\x3a|\x42)", head))


#: (what it is, what to do, whether a file begins so); the first match applies.
_KINDS: tuple[tuple[str, str, Callable[[bytes], bool]], ...] = (
    (
        "a pointer of Git LFS, not the file that it stands for",
        "Fetch the file: git lfs pull",
        _at(b"version https://git-lfs"),
    ),
    (
        "a web page (HTML), such as a server sends instead of a file",
        _FETCH + ": the address, or the right to read it, was wrong",
        _PAGE,
    ),
    ("an XML document, such as a server sends instead of a file", _FETCH, _XML),
    (
        "a NumPy array (.npy)",
        "Give it a name: save_checkpoint([{'name': NAME, 'data': Tensor(numpy.load(PATH))}], "
        "NEW_PATH)",
        _at(b"\x93NUMPY"),
    ),
    (
        "an HDF5 file (.h5 of Keras and others)",
        "Read its arrays with h5py, and call " + _SAVE,
        _at(b"\x89HDF\r\n\x1a\n"),
    ),
    (
        "a GGUF file of llama.cpp",
        "Its arrays are mostly quantised; load the safetensors files that it was made from",
        lambda head: head[:4] in (b"GGUF", b"GGML", b"lmgg", b"tjgg"),
    ),
    ("a gzip file", _UNPACK, _at(b"\x1f\x8b")),
    ("a zstd file", _UNPACK, _at(b"\x28\xb5\x2f\xfd")),
    ("an xz file", _UNPACK, _at(b"\xfd7zXZ\0")),
    ("a bzip2 file", _UNPACK, _at(b"BZh")),
    ("a 7z archive", _UNPACK, _at(b"7z\xbc\xaf\x27\x1c")),
    ("a tar archive", _UNPACK, _at(b"ustar", 257)),
    (
        "a pickle, as PyTorch wrote before 1.6",
        _TORCH,
        lambda head: b"l\xfc\x9cF\xf9 j\xa8P" in head,
    ),
    (
        "a Python pickle (also of PyTorch and Paddle)",
        "A pickle can run code when it is read, so paramesh does not read it. If you trust it, "
        "load it with the library that made it, and call " + _SAVE,
        lambda head: re.match(rb"\x80[\x02-\x05]", head) is not None,
    ),
    ("an ONNX model", "Read its initializers with onnx.numpy_helper, and call " + _SAVE, _onnx),
    ("a msgpack file (of flax)", _FLAX, _msgpack),
    (
        "TensorFlow's list of checkpoints",
        "Read the arrays with tensorflow.train.load_checkpoint, and call " + _SAVE,
        _at(b"model_checkpoint_path:"),
    ),
    ("a JSON file without arrays", _FETCH, _text(b"{", b"[")),
)
#: Files that are recognised only by their names.
_SUFFIXES: dict[str, tuple[str, str]] = {
    ".mindir": (
        "a MindIR graph of MindSpore, which contains a program besides its values",
        "In MindSpore, save the values: save_checkpoint(network, NEW_PATH)",
    ),
    ".onnx": ("an ONNX model", "Read its initializers with onnx.numpy_helper, and call " + _SAVE),
    ".pb": (
        "a graph of TensorFlow",
        "Read the arrays with tensorflow.saved_model.load, and call " + _SAVE,
    ),
    ".msgpack": ("a msgpack file (of flax)", _FLAX),
}
_TENSORFLOW = (
    "a checkpoint of TensorFlow",
    "Read the arrays with tensorflow.train.load_checkpoint, and call " + _SAVE,
)


def refusal(path: Path, head: bytes) -> str | None:
    """Why a file of another library is not loaded, and what to do; None if it is not one.

    Args:
        path: the file.
        head: its first `LOOKED_AT` bytes.
    """
    found = _found(path, head)
    if found is None:
        return None
    what, advice = found
    return f"'{path}' is {what}, which paramesh does not read. {advice}. Nothing was loaded."


def _found(path: Path, head: bytes) -> tuple[str, str] | None:
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    if head[:4] == b"PK\x03\x04":
        return _in_zip(path)
    for what, advice, fits in _KINDS:
        # A file that begins with a newline is MindSpore's, or text.
        if fits(head) and (head[:1] != b"\n" or fits in (_PAGE, _XML)):
            return what, advice
    if path.suffix == ".index" and _ends_with(path, _SSTABLE):
        return _TENSORFLOW
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return _TENSORFLOW
    if not head.strip(b"\0") and len(head) == LOOKED_AT:
        return "a file that begins with zeros only, as after an incomplete download", _FETCH
    return None


def _in_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a zip archive (as .npz and PyTorch's files are) that is truncated", _FETCH
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file", _TORCH
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)", "Call arrays = numpy.load(PATH), and " + _SAVE
    if "model.weights.h5" in names:
        return "a model of Keras", "Read its arrays in Keras, and call " + _SAVE
    return "a zip archive", _UNPACK


def _ends_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - len(magic)))
        return file.read() == magic


def folder_refusal(path: Path) -> str | None:
    """The same for a folder, or for the common prefix of several files."""
    if path.is_dir():
        names = {place.name for place in path.iterdir()}
        if "saved_model.pb" in names:
            what, advice = _SUFFIXES[".pb"]
            return (
                f"'{path}' is {what}, which paramesh does not read. {advice}. Nothing was loaded."
            )
        for name in sorted(names):
            if name.endswith((".bin.index.json", ".bin", ".pt", ".pth")):
                return (
                    f"'{path}' contains PyTorch files ('{name}'), which paramesh does not read. "
                    f"{_TORCH}. Nothing was loaded."
                )
        if any(name.endswith(".msgpack") for name in names):
            what, advice = _SUFFIXES[".msgpack"]
            return (
                f"'{path}' contains {what}, which paramesh does not read. {advice}. Nothing was "
                "loaded."
            )
        names = {name for name in names if name.endswith(".index")}
        tensorflow = any(_ends_with(path / name, _SSTABLE) for name in names)
    else:
        index = path.with_name(path.name + ".index")
        tensorflow = not path.exists() and index.is_file() and _ends_with(index, _SSTABLE)
    if tensorflow:
        what, advice = _TENSORFLOW
        return f"'{path}' is {what}, which paramesh does not read. {advice}. Nothing was loaded."
    return None
