"""Files that are there in full: what is written soon, and what the system takes in part."""

from __future__ import annotations

import errno
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from paramesh.files import atomic
from paramesh.files.atomic import AtomicFile, is_left_over, is_locked, made_locked


@pytest.mark.parametrize("least", [1, 3, 1 << 20], ids=["a byte", "three", "all"])
@pytest.mark.parametrize("vectors", [True, False], ids=["pwritev", "write"])
def test_the_content_is_the_same_however_much_a_call_takes(
    vectors: bool, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwritev = os.pwritev

    def part(descriptor: int, buffers: Sequence[bytes], offset: int) -> int:
        return pwritev(descriptor, [b"".join(buffers)[:least]], offset)

    if vectors:
        monkeypatch.setattr(os, "pwritev", part)
    else:
        monkeypatch.delattr(os, "pwritev")
    monkeypatch.setattr(atomic, "_TOGETHER", 50)
    chance = random.Random(least)
    expected = bytearray(400)
    file = AtomicFile(tmp_path / "x")
    pieces = [(at, chance.randbytes(chance.choice((0, 1, 5, 20)))) for at in range(0, 400, 20)]
    for at, piece in sorted(pieces, key=lambda one: one[0] % 60):
        expected[at : at + len(piece)] = piece
        assert file.write_soon(at, piece) == at + len(piece)
    assert file.write_at(396, b"", b"ab", b"", b"cd") == 400
    expected[396:] = b"abcd"
    assert not (tmp_path / "x").exists()
    file.commit()
    assert (tmp_path / "x").read_bytes() == expected


def test_neighbours_take_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    pwritev = os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda fd, bufs, at: (calls.append(len(bufs)), pwritev(fd, bufs, at))[1]
    )
    file = AtomicFile(tmp_path / "x")
    end = 0
    for number in range(3000):
        end = file.write_soon(end, bytes([number % 256]) * 5)
    end = file.write_soon(end, bytes(2 << 20))
    assert calls == [1024, 1024, 953]  # as many as a call takes, then with the long one
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_no_call_is_given_more_than_systems_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    pwritev = os.pwritev

    def counted(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        given.append(sum(map(len, buffers)))
        return pwritev(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pwritev", counted)
    monkeypatch.setattr(atomic, "_AT_ONCE", 100)
    content = random.Random(0).randbytes(350)
    file = AtomicFile(tmp_path / "x")
    file.write_at(0, content[:30], content[30:290], content[290:])
    file.commit()
    assert (tmp_path / "x").read_bytes() == content
    assert given == [100, 100, 100, 50]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files")
def test_an_error_has_the_name_that_the_user_gave() -> None:
    with pytest.raises(OSError, match=r"'/proc/net\.safetensors'") as failed:
        AtomicFile(Path("/proc/net.safetensors"))
    assert failed.value.filename == "/proc/net.safetensors"


@pytest.mark.parametrize("call", ["pwritev", "fsync"])
def test_a_full_disk_says_of_which_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    path = tmp_path / "x"
    file = AtomicFile(path)
    file.write_soon(0, b"abc")
    with pytest.raises(OSError, match="No space left on device: .*x'$") as caught:
        file.commit()
    file.discard()
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
@pytest.mark.parametrize("through", ["itself", "a link"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_replaced_by_one(kind: str, through: str, tmp_path: Path) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "there"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    before = path.lstat()
    if through == "a link":
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    what = IsADirectoryError if kind == "folder" else FileExistsError
    with pytest.raises(what, match=rf"'{path}'$"):
        AtomicFile(path)
    assert os.path.samestat(path.stat(), before)
    assert len(list(tmp_path.iterdir())) == (kind != "device") + (through == "a link")


@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX's")
def test_a_lock_waits_for_whoever_looks(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    with path.open("r+") as mine, path.open("r+") as theirs:
        atomic.lock(theirs.fileno())
        timer = threading.Timer(0.02, theirs.close)
        timer.start()
        atomic.lock(mine.fileno())
        timer.join()
        assert is_locked(path)
    assert not is_locked(path)


@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX's")
def test_a_file_is_never_seen_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lock, seen = tmp_path / "x", atomic.lock, list[bool]()

    def look(file: int) -> None:
        (hidden,) = tmp_path.iterdir()
        seen.extend([path.exists(), is_left_over(hidden)])
        lock(file)

    monkeypatch.setattr(atomic, "lock", look)
    file = made_locked(path)
    assert seen == [False, False]
    assert [*tmp_path.iterdir()] == [path]
    assert is_locked(path)
    os.close(file)
    assert not is_locked(path)
    then = time.time() - 120
    os.utime(path, (then, then))
    assert is_left_over(path)
