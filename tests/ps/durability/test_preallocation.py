"""Room that is made for records: nobody who reads the file sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from paramesh.ps.durability import log as logs
from paramesh.ps.durability.log import Log, read_log, start_incarnation
from paramesh.ps.durability.preallocation import make_room
from paramesh.ps.durability.record import read_records

LARGE = {"grad/w": np.arange(logs._ROOM_FROM // 4, dtype=np.int32)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has it")
def test_the_end_of_a_file_stays_where_it_is(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, b"begun")
        if not make_room(file, 5, 1 << 20):
            pytest.skip("this file system makes no room")
        assert os.fstat(file).st_size == 5
        assert os.fstat(file).st_blocks * 512 >= 1 << 20
        os.write(file, b", gone on")
        assert (tmp_path / "file").read_bytes() == b"begun, gone on"
        os.ftruncate(file, 14)
        assert os.fstat(file).st_blocks * 512 < 1 << 20
    finally:
        os.close(file)
    assert not make_room(file, 0, 1 << 20)  # it is closed


def test_records_are_the_same_with_room_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def room(file: int, start: int, size: int) -> bool:
        asked.append((start, size))
        return len(asked) < 3 and make_room(file, start, size)

    found: list[bytes] = []
    for name, call in (("with", room), ("without", lambda *asked: False)):
        monkeypatch.setattr(logs, "make_room", call)
        folder = tmp_path / name
        log = Log(folder, start_incarnation(folder), 0)
        for number, arrays in enumerate([LARGE, {}, LARGE, LARGE, LARGE]):
            log.append({"kind": "update", "version": number}, arrays)
        log.take_back()
        log.append({"kind": "update", "version": 9}, LARGE)
        log.close()
        (_, _, path) = logs.segments(folder)[0]
        found.append(path.read_bytes())
        versions = [record.meta["version"] for record in read_records(path)]
        assert versions == [0, 1, 2, 3, 9]
    assert found[0] == found[1]
    # Small records need none, and whoever gets none asks no more.
    size = LARGE["grad/w"].nbytes
    assert [how_much for _, how_much in asked] == [size] * 3


def test_room_of_a_record_that_was_never_written_is_no_record(tmp_path: Path) -> None:
    """Its server was killed in between."""
    log = Log(tmp_path / "s", start_incarnation(tmp_path / "s"), 0)
    log.append({"kind": "update", "version": 0}, LARGE)
    make_room(log._file, log._size, 1 << 22)
    log.close()
    assert [record.number for record in read_log(tmp_path / "s", 0)] == [0]
