"""The readers of digits: what they give, and that no damage to a file goes unnoticed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.cli.digits import SIDE, DataError, enlarged, mnist, read_idx, scikit_digits

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
LABELS = np.array([3, 0, 9, 1, 7], np.uint8)
NAMES = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}


def idx(array: np.ndarray, code: int = 8) -> bytes:
    """An array of unsigned bytes as IDX."""
    head = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return head + array.tobytes()


def folder(path: Path, zipped: bool = False, **changed: bytes) -> Path:
    """The four files, with some of them of other content."""
    for key, name in NAMES.items():
        content = idx(IMAGES if key.endswith("images") else LABELS)
        content = changed.get(key.replace("-", "_"), content)
        if zipped:
            (path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (path / name).write_bytes(content)
    return path


def test_scikit_digits() -> None:
    digits = scikit_digits(3)
    assert digits.train_images.shape == (1437, 1, SIDE, SIDE)
    assert digits.test_images.shape == (360, 1, SIDE, SIDE)
    assert digits.train_images.dtype == np.float32
    assert 0 <= digits.train_images.min() < digits.train_images.max() <= 1
    assert sorted(set(digits.test_labels.tolist())) == list(range(10))
    again, other = scikit_digits(3), scikit_digits(4)
    assert np.array_equal(digits.test_images, again.test_images)
    assert not np.array_equal(digits.test_labels, other.test_labels)


def test_split_has_every_digit_once() -> None:
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    digits = scikit_digits(5)
    both = np.concatenate([digits.train_labels, digits.test_labels])
    assert np.array_equal(np.bincount(both), np.bincount(found.target))


def test_enlarged_keeps_constants_and_ramps() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (1, 8, 8))
    large = enlarged(ramp, 24)
    assert large.shape == (1, 24, 24)
    # Pixel 3 * i + 1 of 24 has its centre where pixel i of 8 has it.
    np.testing.assert_allclose(large[0, :, 1::3], np.broadcast_to(ramp[0, :1], (24, 8)), atol=1e-5)
    np.testing.assert_allclose(enlarged(np.full((2, 8, 8), 0.25), 28), 0.25, atol=1e-6)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist(tmp_path: Path, zipped: bool) -> None:
    digits = mnist(folder(tmp_path, zipped))
    assert digits.train_images.shape == (5, 1, SIDE, SIDE)
    np.testing.assert_allclose(
        digits.test_images[:, 0, 2:30, 2:30], IMAGES.astype(np.float32) / 255, rtol=1e-6
    )
    assert digits.test_images.sum() == pytest.approx(IMAGES.sum() / 255, rel=1e-5)
    assert digits.train_labels.dtype == np.int32
    assert digits.train_labels.tolist() == LABELS.tolist()


def test_names_with_a_dot(tmp_path: Path) -> None:
    folder(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(mnist(tmp_path).train_labels) == 5


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train_images", b"", "train-images.*truncated: 0 bytes, expected a header of 16 bytes"),
        ("train_images", idx(IMAGES)[:10], "truncated: 10 bytes, expected a header of 16 bytes"),
        ("train_images", idx(IMAGES)[:-1], "truncated: 3935 bytes, expected 3936 for 5x28x28"),
        ("test_images", idx(IMAGES) + b"x", "t10k-images.*too long: 3937 bytes, expected 3936"),
        ("train_images", idx(LABELS), "00 00 08 01, expected 00 00 08 03 .*3 axes"),
        ("train_labels", idx(IMAGES), "00 00 08 03, expected 00 00 08 01 .*1 axis"),
        ("train_labels", idx(LABELS, code=13), "starts with the bytes 00 00 0d 01"),
        ("test_labels", idx(LABELS[:4]), "t10k-images.* 5 images, but .*t10k-labels.* 4 labels"),
        ("train_labels", idx(LABELS + 1), "train-labels.*label 2 is 10, expected digits"),
        ("test_images", idx(IMAGES[:0]), "its header says 0x28x28 elements, expected some"),
        (
            "train_images",
            idx(np.zeros((5, 40, 28), np.uint8)),
            "images of 40x28 pixels, expected at most 32x32",
        ),
        (
            "train_images",
            gzip.compress(idx(IMAGES), mtime=0),
            "is gzipped; its name has to end in .gz",
        ),
    ],
)
def test_faults_in_files(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        mnist(folder(tmp_path, False, **{file: content}))
    assert "\n" not in str(caught.value)


def test_faults_in_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        mnist(tmp_path / "nowhere")
    folder(tmp_path)
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is no folder"):
        mnist(tmp_path / NAMES["train-labels"])
    (tmp_path / NAMES["test-labels"]).unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: no such file, nor .*\.gz"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(LABELS), "its name ends in .gz, but it is not gzipped"),
        (gzip.compress(idx(LABELS), mtime=0)[:-9], "truncated: the gzipped data ends too early"),
        (gzip.compress(idx(LABELS), mtime=0)[:-8] + bytes(8), "damaged: CRC check failed"),
    ],
    ids=["not gzipped", "truncated", "damaged"],
)
def test_faults_in_gzipped_files(tmp_path: Path, content: bytes, message: str) -> None:
    (path := tmp_path / "labels.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path, 1)


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_idx(tmp_path, 1)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A file of labels, gzipped or not, of which bits are flipped or the end is missing."""
    zipped = draw(st.booleans())
    content = bytearray(idx(LABELS))
    if zipped:
        content = bytearray(gzip.compress(bytes(content), mtime=0))
    for bit in draw(st.lists(st.integers(0, 8 * len(content) - 1), max_size=4, unique=True)):
        content[bit // 8] ^= 1 << bit % 8
    cut = draw(st.integers(0, len(content)))
    return bytes(content[:cut] if draw(st.booleans()) else content), zipped


@given(damaged())
def test_damage_is_a_data_error_or_an_array_of_the_same_size(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[bytes, bool]
) -> None:
    content, zipped = case
    path = tmp_path_factory.mktemp("idx") / ("labels.gz" if zipped else "labels")
    path.write_bytes(content)
    message, found = "", np.zeros(0)
    try:
        found = read_idx(path, 1)
    except DataError as error:
        message = str(error)
    if message:
        assert str(path) in message
        assert "\n" not in message
    else:
        # Flipped elements cannot be seen in a plain file; gzip has a checksum.
        assert found.shape == LABELS.shape
        assert not zipped or np.array_equal(found, LABELS)


@given(st.integers(0, len(idx(LABELS)) - 1))
def test_every_shorter_file_is_truncated(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.mktemp("idx") / "labels"
    path.write_bytes(idx(LABELS)[:size])
    with pytest.raises(DataError, match="truncated"):
        read_idx(path, 1)
