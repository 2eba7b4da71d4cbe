"""Memory that two processes share: what is written is read, and nothing that is not there."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramesh.ps.deployment import shared_arena
from paramesh.ps.deployment.frames import BadFrame
from paramesh.ps.deployment.shared_arena import LEAST, MOST, Arena, Receipts, Window

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux has it")


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena()
    yield arena
    arena.close()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3 * LEAST), st.integers(0, 3)), max_size=12))
def test_payloads_that_are_not_taken_are_never_written_over(
    payloads: list[tuple[int, int]],
) -> None:
    """Each is followed by the news that all but so many of the latest are taken."""
    arena = Arena()
    window = Window(arena.whereabouts)
    held: dict[int, tuple[int, np.ndarray]] = {}
    try:
        for sequence, (size, behind) in enumerate(payloads, 1):
            array = np.full(size, sequence, np.uint8)
            at = arena.write(sequence, [array], [0], size)
            assert at is not None or sum(len(a) for _, a in held.values()) + size > MOST // 2
            if at is not None:
                held[sequence] = at, array
            for where, original in held.values():
                assert (window.read(where, len(original)) == original).all()
            arena.taken(sequence - behind)
            held = {s: one for s, one in held.items() if s > sequence - behind}
    finally:
        arena.close()
        window.close()


def test_what_is_read_stays_as_it_was(arena: Arena) -> None:
    window = Window(arena.whereabouts)
    first = np.arange(1000.0)
    at = arena.write(1, [first[:400], first[400:]], [0, 3200], first.nbytes)
    assert at is not None
    found = window.read(at, first.nbytes)
    arena.taken(1)
    arena.write(2, [-first], [0], first.nbytes)
    assert (found.view(np.float64) == first).all()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1
    window.close()


def test_a_large_payload_is_lent_until_nobody_has_an_array_of_it(arena: Arena) -> None:
    window = Window(arena.whereabouts)
    receipts = Receipts(window)
    read = receipts.reading
    assert read is not None
    size = shared_arena.LENT_FROM
    first, second = np.arange(size // 8), np.arange(5)
    where = [arena.write(1, [first], [0], size), arena.write(2, [second], [0], second.nbytes)]
    lent = read(where[0] or 0, size)
    receipts.got(1)
    copied = read(where[1] or 0, second.nbytes)
    receipts.got(2)
    assert (receipts.last, receipts.taken) == (2, 0)
    part = lent.view(np.int64)[-4:].reshape(2, 2)
    del lent
    gc.collect()
    assert receipts.taken == 0
    arena.taken(receipts.taken)
    assert arena.write(3, [-first], [0], size) != where[0]
    assert part.tolist() == first[-4:].reshape(2, 2).tolist()
    assert copied.view(np.int64).tolist() == second.tolist()
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1
    del part
    gc.collect()
    assert receipts.taken == 2
    arena.taken(receipts.taken)
    assert arena.write(4, [second], [0], second.nbytes) == where[0]
    window.close()


def test_what_is_lent_outlives_the_window_and_the_arena() -> None:
    arena = Arena()
    receipts = Receipts(window := Window(arena.whereabouts))
    array = np.arange(shared_arena.LENT_FROM // 8)
    where = arena.write(1, [array], [0], array.nbytes)
    assert receipts.reading is not None
    lent = receipts.reading(where or 0, array.nbytes)
    receipts.got(1)
    more = np.zeros(4 * shared_arena.LENT_FROM, np.uint8)
    further = arena.write(2, [more], [0], more.nbytes)  # it grows: the window looks again
    assert not receipts.reading(further or 0, more.nbytes).any()
    arena.close()
    window.close()
    assert (lent.view(np.int64) == array).all()


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 8), (64, LEAST), (LEAST, 1), (1 << 63, 1), (64, 1 << 63), (63, 8)]
)
def test_parts_that_are_not_there(arena: Arena, offset: int, size: int) -> None:
    window = Window(arena.whereabouts)
    with pytest.raises(BadFrame, match="of the shared memory"):
        window.read(offset, size)
    window.close()


def test_another_token_file_or_host_is_refused(arena: Arena, tmp_path: Path) -> None:
    where = arena.whereabouts
    with pytest.raises(OSError, match="not the one that was announced"):
        Window(where._replace(token=bytes(32)))
    with pytest.raises(OSError, match="on another host"):
        Window(where._replace(host="elsewhere"))
    with pytest.raises(FileNotFoundError):
        Window(where._replace(file=1 << 20))
    (tmp_path / "file").write_bytes(where.token + bytes(1000))
    with (tmp_path / "file").open("rb") as file, pytest.raises(OSError, match="shorter|Invalid"):
        Window(where._replace(file=file.fileno()))


def test_all_arenas_of_a_process_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_arena, "MOST_OF_ALL", shared_arena._held + 2 * LEAST)
    first, second = Arena(), Arena()
    assert first.write(1, [np.zeros(LEAST, np.uint8)], [0], LEAST) is None
    assert shared_arena.arena_if_any() is None
    second.close()
    assert first.write(1, [np.zeros(LEAST, np.uint8)], [0], LEAST) is not None
    first.close()


def test_nothing_is_left_of_a_process_that_was_killed(arena: Arena) -> None:
    """The reader keeps what it has open; there is no name by which it could stay."""
    code = (
        "import numpy as np, sys, time\n"
        "from paramesh.ps.deployment.shared_arena import Arena\n"
        "a = Arena()\n"
        "a.write(1, [np.arange(10)], [0], 80)\n"
        "w = a.whereabouts\n"
        "print(w.host, w.pid, w.file, w.token.hex(), sep='|', flush=True)\n"
        "time.sleep(600)\n"
    )
    before = set(os.listdir("/dev/shm"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        host, pid, file, token = process.stdout.readline().strip().split("|")
        window = Window(shared_arena.Whereabouts(host, int(pid), int(file), bytes.fromhex(token)))
        os.kill(int(pid), signal.SIGKILL)
        process.wait()
        assert (window.read(64, 80).view(np.int64) == np.arange(10)).all()
        window.close()
        mine = [name for name in set(os.listdir("/dev/shm")) - before if "paramesh" in name]
        assert mine == []
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
