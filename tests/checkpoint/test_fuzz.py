"""Damaged files: an error or a checkpoint, never a crash, a hang, or more memory than the file."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import goldens
from paramesh.checkpoint.opening import open_source
from paramesh.errors import CheckpointError

FOLDER = goldens.DIRECTORY / "ckpt"
#: Small ones, with every kind of record.
SEEDS = {
    "ckpt": ("mixed.ckpt", "train_step_adam.ckpt", "as_dict.ckpt", "sliced_crc.ckpt"),
    "safetensors": ("mixed.safetensors", "train_step_adam.safetensors", "as_dict.safetensors"),
}
#: What opening costs whatever the file holds: objects for each array, messages, the map.
OVERHEAD = 400_000
NUMBERS = [
    *(bytes(4), b"\xff" * 4, b"\xff" * 9 + b"\x01"),
    *(b"\x80" * 6, b"\xff\xff\xff\xff\x07", b"9" * 20),
]


def flip(raw: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)


def front(raw: bytearray, chance: random.Random) -> None:
    """Damage near the beginning, where most of what describes arrays is."""
    raw[chance.randrange(min(len(raw), 120))] = chance.randrange(256)


def cut(raw: bytearray, chance: random.Random) -> None:
    del raw[chance.randrange(len(raw)) :]


def remove(raw: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(raw))
    del raw[at : at + chance.choice((1, 2, 8, 100))]


def number(raw: bytearray, chance: random.Random) -> None:
    at, put = chance.randrange(len(raw)), chance.choice(NUMBERS)
    raw[at : at + chance.choice((0, 1, len(put)))] = put


def repeat(raw: bytearray, chance: random.Random) -> None:
    first, last = sorted(chance.randrange(len(raw) + 1) for _ in range(2))
    at = chance.randrange(len(raw) + 1)
    raw[at:at] = raw[first:last]


def noise(raw: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(raw))
    put = chance.randbytes(chance.choice((1, 4, 30)))
    raw[at : at + len(put)] = put


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [
    *(flip, front, cut, remove, number, repeat, noise)
]


def damaged(whole: bytes, chance: random.Random) -> bytes:
    raw = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 3))):
        if raw:
            chance.choice(DAMAGES)(raw, chance)
    return bytes(raw)


def survive(path: Path) -> bool:
    """Whether the file reads; anything but a CheckpointError is a failure of the test."""
    told = ""
    try:
        with open_source(path) as source:
            source.verify()
            for entry in source.entries():
                assert source.read(entry.name).nbytes == entry.nbytes
    except CheckpointError as error:
        told = str(error)
    assert not told or (str(path) in told and "Nothing was loaded" in told)
    return not told


def fuzz(format: str, count: int, folder: Path) -> None:
    chance = random.Random(count)
    wholes = [(FOLDER / name).read_bytes() for name in SEEDS[format]]
    path = folder / f"x.{format}"
    read = 0
    for i in range(count):
        raw = damaged(wholes[i % len(wholes)], chance)
        path.write_bytes(raw)
        tracemalloc.start()
        try:
            read += survive(path)
            peak = tracemalloc.get_traced_memory()[1]
        except BaseException as error:
            error.add_note(f"input {i}: {raw!r}")
            raise
        finally:
            tracemalloc.stop()
        assert peak < 2 * len(raw) + OVERHEAD, f"input {i}: {peak} bytes for {raw!r}"
        path.unlink()
    assert 0.02 < read / count < 0.98  # so both ways are gone


@pytest.mark.parametrize("format", SEEDS)
def test_damaged_files(format: str, tmp_path: Path) -> None:
    fuzz(format, 1500, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("format", SEEDS)
def test_very_many_damaged_files(format: str, tmp_path: Path) -> None:
    fuzz(format, 60_000, tmp_path)
