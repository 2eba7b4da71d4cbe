"""Pictures of handwritten digits: scikit-learn's, and MNIST's from IDX files.

Glossary
    IDX     MNIST's file format: two zero bytes, one for the element type (8: unsigned bytes), one
            for the number of axes, the size of each axis as a big-endian 32-bit int, the elements
    Digits  training and test images, all 32x32 as in LeNet-5, with pixels from 0 to 1

Source of the format: http://yann.lecun.com/exdb/mnist/ (LeCun, Cortes, Burges).
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.cli.errors import CommandError

Images = np.ndarray[Any, Any]

#: Side of the images that `Digits` holds, in pixels.
SIDE = 32
_MARGIN = 2
_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"
_FILES = {
    "train images": ("train-images-idx3-ubyte", 3),
    "train labels": ("train-labels-idx1-ubyte", 1),
    "test images": ("t10k-images-idx3-ubyte", 3),
    "test labels": ("t10k-labels-idx1-ubyte", 1),
}


class DemoError(CommandError):
    """The demonstration cannot go on; the message is one line that says why."""


class DataError(DemoError):
    """A file or folder is not what it should be."""


class MissingExtraError(DemoError):
    """A package of the extra `demo` is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Digits:
    """Images (n, 1, 32, 32) in float32 from 0 to 1, and labels (n,) in int32 from 0 to 9."""

    name: str
    train_images: Images
    train_labels: Images
    test_images: Images
    test_labels: Images

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            assert images.shape == (len(labels), 1, SIDE, SIDE), (part, images.shape, labels.shape)


def scikit_digits(seed: int) -> Digits:
    """The 1797 digits that scikit-learn brings, four fifths of them for training.

    Args:
        seed: decides which ones are for training.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError(
            "the digits come with scikit-learn, which is not installed: "
            "pip install 'paramesh[demo]'"
        ) from error
    found: Any = load_digits()
    images = enlarged(found.images.astype(np.float32) / 16, SIDE - 2 * _MARGIN)
    labels = found.target.astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = _framed(images)[order], labels[order]
    cut = len(labels) * 4 // 5
    return Digits("scikit-learn's digits", images[:cut], labels[:cut], images[cut:], labels[cut:])


def mnist(folder: Path) -> Digits:
    """MNIST, or data of its form, from the four IDX files in a folder.

    The files have their usual names, with `.gz` if gzipped; a dot in place of the dash before
    `idx` is accepted. Images may be of any size up to 32x32; they get a black frame.

    Raises:
        DataError: the folder or a file is missing, damaged, or does not fit the others.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; --data expects the folder of MNIST's files")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --data expects the folder of MNIST's files")
    paths = {what: _find(folder, name) for what, (name, _) in _FILES.items()}
    arrays = {what: read_idx(paths[what], axes) for what, (_, axes) in _FILES.items()}
    parts: dict[str, Images] = {}
    for part in ("train", "test"):
        images, labels = arrays[f"{part} images"], arrays[f"{part} labels"]
        image_path, label_path = paths[f"{part} images"], paths[f"{part} labels"]
        if len(images) != len(labels):
            raise DataError(
                f"{image_path} has {len(images)} images, but {label_path} has {len(labels)} labels"
            )
        if max(images.shape[1:]) > SIDE:
            height, width = images.shape[1:]
            raise DataError(
                f"{image_path}: images of {height}x{width} pixels, expected at most {SIDE}x{SIDE}"
            )
        if labels.max() > 9:
            at = int(labels.argmax())
            raise DataError(
                f"{label_path}: label {at} is {labels[at]}, expected digits from 0 to 9"
            )
        parts[f"{part}_images"] = _framed(images.astype(np.float32) / 255)
        parts[f"{part}_labels"] = labels.astype(np.int32)
    return Digits(f"MNIST from {folder}", **parts)


def _find(folder: Path, name: str) -> Path:
    stems = (name, name.replace("-idx", ".idx"))
    for candidate in [folder / (stem + end) for stem in stems for end in ("", ".gz")]:
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder / name}: no such file, nor {name}.gz; MNIST has {_names()}")


def _names() -> str:
    return ", ".join(name for name, _ in _FILES.values())


def read_idx(path: Path, axes: int) -> Images:
    """The unsigned bytes of an IDX file, gzipped if its name ends in `.gz`.

    Args:
        path: the file.
        axes: how many axes there have to be: 3 for images, 1 for labels.

    Raises:
        DataError: the file cannot be read, or is not exactly such a file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if path.name.endswith(".gz"):
        content = _unzipped(path, content)
    elif content.startswith(_GZIP_MAGIC):
        raise DataError(f"{path} is gzipped; its name has to end in .gz")
    start = 4 + 4 * axes
    magic, expected = content[:4], bytes((0, 0, _UNSIGNED_BYTE, axes))
    if len(magic) == 4 and magic != expected:
        raise DataError(
            f"{path}: starts with the bytes {magic.hex(' ')}, expected {expected.hex(' ')} "
            f"(IDX, unsigned bytes, {axes} {'axis' if axes == 1 else 'axes'})"
        )
    if len(content) < start:
        raise DataError(
            f"{path}: truncated: {len(content)} bytes, expected a header of {start} bytes"
        )
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if 0 in shape:
        raise DataError(f"{path}: its header says {_product(shape)} elements, expected some")
    expected_size = start + math.prod(shape)
    if len(content) != expected_size:
        fault = "truncated" if len(content) < expected_size else "too long"
        raise DataError(
            f"{path}: {fault}: {len(content)} bytes, expected {expected_size} for "
            f"{_product(shape)} elements as its header says"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _product(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _unzipped(path: Path, content: bytes) -> bytes:
    if not content.startswith(_GZIP_MAGIC):
        raise DataError(f"{path}: its name ends in .gz, but it is not gzipped")
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise DataError(f"{path}: truncated: the gzipped data ends too early") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: damaged: {error}") from error


def enlarged(images: Images, side: int) -> Images:
    """Images (n, h, h) -> (n, side, side), float32, bilinear between the centres of pixels."""
    small = images.shape[1]
    centres = np.clip((np.arange(side) + 0.5) * small / side - 0.5, 0, small - 1)
    distance = np.abs(centres[:, None] - np.arange(small)[None, :])
    weights = np.maximum(0, 1 - distance).astype(np.float32)
    return np.einsum("ij,njk,lk->nil", weights, images.astype(np.float32), weights)


def _framed(images: Images) -> Images:
    """Images (n, h, w) -> (n, 1, 32, 32), with black around."""
    frame = np.zeros((len(images), 1, SIDE, SIDE), np.float32)
    height, width = images.shape[1:]
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    frame[:, 0, top : top + height, left : left + width] = images
    return frame
