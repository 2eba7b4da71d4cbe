"""Pipes for short frames: each is read as it was sent, by whoever was told of the pipe alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paramesh.ps.deployment import shared_arena
from paramesh.ps.deployment.frame_pipe import (
    LONGEST,
    FramePipe,
    PipeAddress,
    PipeReader,
    pipe_reader_if_any,
)
from paramesh.ps.deployment.frames import BadFrame
from paramesh.ps.deployment.shared_arena import MOST_EARLY, Arena, Receipts, Window

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="Linux has it")


@pytest.fixture
def pipe() -> Iterator[FramePipe]:
    pipe = FramePipe()
    yield pipe
    pipe.close()


def test_frames_are_read_one_by_one_as_they_were_sent(pipe: FramePipe) -> None:
    reader = PipeReader(os.getpid(), pipe.address)
    sent = [b"a", b"b" * LONGEST, b"c" * 7]
    assert [pipe.send(frame) for frame in sent] == [True] * 3
    assert [reader.read() for _ in range(4)] == [*sent, None]
    assert not pipe.send(b"d" * (LONGEST + 1))
    assert reader.read() is None
    reader.close()


def test_a_full_pipe_takes_nothing_until_it_is_read(pipe: FramePipe) -> None:
    reader = PipeReader(os.getpid(), pipe.address)
    sent = 0
    while pipe.send(b"%d" % sent):
        sent += 1
    assert 16 <= sent <= MOST_EARLY
    assert reader.read() == b"0"
    assert pipe.send(b"again")
    assert [reader.read() for _ in range(sent)][-2:] == [b"%d" % (sent - 1), b"again"]
    reader.close()


def test_a_pipe_without_a_reader_is_no_error(pipe: FramePipe) -> None:
    PipeReader(os.getpid(), pipe.address).close()
    assert pipe.send(b"nobody reads it")
    pipe.close()
    assert not pipe.send(b"it is closed")


def test_another_pipe_or_file_is_refused(pipe: FramePipe, tmp_path: Path) -> None:
    other = FramePipe()
    with pytest.raises(OSError, match="not the one that was announced"):
        PipeReader(os.getpid(), pipe.address._replace(file=other.address.file))
    other.close()
    with pytest.raises(FileNotFoundError):
        PipeReader(os.getpid(), pipe.address._replace(file=1 << 20))
    path = tmp_path / "file"
    path.write_bytes(b"no pipe")
    with path.open("rb") as file:
        there = os.fstat(file.fileno())
        address = PipeAddress(file.fileno(), there.st_dev, there.st_ino)
        with pytest.raises(OSError, match="not the one that was announced"):
            PipeReader(os.getpid(), address)
        assert pipe_reader_if_any(os.getpid(), address) is None


def test_a_pipe_that_others_may_open_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open", 0o600)
    (tmp_path / "open").chmod(0o622)
    end = os.open(tmp_path / "open", os.O_RDONLY | os.O_NONBLOCK)
    there = os.fstat(end)
    try:
        with pytest.raises(OSError, match="open to others"):
            PipeReader(os.getpid(), PipeAddress(end, there.st_dev, there.st_ino))
    finally:
        os.close(end)


def test_what_a_process_has_sent_before_it_was_killed_is_read() -> None:
    code = (
        "import time\n"
        "from paramesh.ps.deployment.frame_pipe import FramePipe\n"
        "p = FramePipe()\n"
        "p.send(b'the last')\n"
        "print(*p.address, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = PipeAddress(*map(int, process.stdout.readline().split()))
        reader = PipeReader(process.pid, address)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (reader.read(), reader.ended) == (b"the last", False)
        assert (reader.read(), reader.ended) == (None, True)
        reader.close()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_memory_goes_without_a_pipe_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_arena, "frame_pipe_if_any", lambda: None)
    arena = Arena()
    window = Window(arena.whereabouts)
    assert (arena.pipe, window.pipe) == (None, None)
    window.close()
    arena.close()


def test_frames_that_overtake_others_are_not_taken_for_them() -> None:
    """The memory of those that are on their way must not be written over."""
    receipts = Receipts(None)
    receipts.got(1)
    for early in (4, 3):
        receipts.got(early)
        assert (receipts.last, receipts.taken) == (1, 1)
    assert [receipts.known(n) for n in range(1, 6)] == [True, False, True, True, False]
    receipts.got(2)
    assert (receipts.last, receipts.taken) == (4, 4)
    for early in range(6, 6 + MOST_EARLY):
        receipts.got(early)
    with pytest.raises(BadFrame, match="the frame 5 is missing"):
        receipts.got(6 + MOST_EARLY)


def test_what_is_lent_by_a_frame_that_came_early_keeps_nothing_more_back() -> None:
    arena = Arena()
    receipts = Receipts(window := Window(arena.whereabouts))
    assert receipts.reading is not None
    array = np.arange(shared_arena.LENT_FROM // 8)
    where = arena.write(3, [array], [0], array.nbytes)
    receipts.got(1)
    lent = receipts.reading(where or 0, array.nbytes)
    receipts.got(3)
    assert receipts.taken == 1
    receipts.got(2)
    assert receipts.taken == 2
    del lent
    assert receipts.taken == 3
    window.close()
    arena.close()
