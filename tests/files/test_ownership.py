"""Folders and files that another user has made, or may change, are not written to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paramesh.files.atomic import write_atomically
from paramesh.files.ownership import followed, open_own, own_folder, user_name

pytestmark = pytest.mark.skipif(os.name != "posix", reason="users and links of POSIX")

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
OTHER = 65534
as_root = pytest.mark.skipif(
    os.name == "posix" and os.geteuid() != 0, reason="gives files to another user"
)


def linked(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    path.symlink_to(path.with_name("elsewhere"))


def linked_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def open_to_the_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o1777)


def a_file(path: Path) -> None:
    path.write_text("")


def anothers(path: Path) -> None:
    path.mkdir()
    os.chown(path, OTHER, -1)


FOLDERS: list[tuple[Callable[[Path], None], str]] = [
    (
        linked,
        r"'.*/it' is a symbolic link that '?\w+'? has created\. paramesh does not follow it",
    ),
    (linked_to_nothing, "is a symbolic link"),
    (open_to_the_group, r"is writable by others \(its mode is 770\).*chmod go-w"),
    (open_to_all, r"its mode is 1777"),
    (a_file, "is not a folder"),
]


@pytest.mark.parametrize(
    ("make", "message"),
    [*FOLDERS, pytest.param(anothers, "belongs to .*, not to .*chown", marks=as_root)],
)
def test_folders_that_are_refused(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "it"
    make(path)
    with pytest.raises(PermissionError, match=message):
        own_folder(path, make=True)
    assert not list(tmp_path.glob("*/*"))


def test_a_folder_that_is_made_is_closed_to_others(tmp_path: Path) -> None:
    own_folder(tmp_path / "a" / "b", make=True)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    own_folder(tmp_path / "a" / "b")
    with pytest.raises(FileNotFoundError):
        own_folder(tmp_path / "c")


def a_link(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.symlink_to(path.with_name("target"))


def a_second_name(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.hardlink_to(path.with_name("target"))


def writable_by_all(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.write_text("")
    path.chmod(0o666)


def a_pipe(path: Path) -> None:
    path.with_name("target").write_text("precious")
    os.mkfifo(path)


def given(path: Path) -> None:
    path.with_name("target").write_text("precious")
    path.write_text("")
    os.chown(path, OTHER, -1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_link, "is a symbolic link that"),
        (a_second_name, r"has another name too \(a hard link\)"),
        (writable_by_all, "its mode is 666"),
        (a_pipe, "is not a regular file"),
        pytest.param(given, "belongs to", marks=as_root),
    ],
)
def test_files_that_are_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    make(path)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with pytest.raises(PermissionError, match=message):
        open_own(path, APPEND)
    assert (tmp_path / "target").read_text() == "precious"
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    for _ in range(2):
        descriptor = open_own(tmp_path / "it", APPEND)
        os.write(descriptor, b"line\n")
        os.close(descriptor)
    assert (tmp_path / "it").read_text() == "line\nline\n"
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o600


def test_a_link_of_ones_own_is_written_through(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "net.safetensors"
    target.parent.mkdir()
    (tmp_path / "middle").symlink_to("runs/net.safetensors")
    (tmp_path / "latest").symlink_to(tmp_path / "middle")
    write_atomically(tmp_path / "latest", b"1")
    assert target.read_bytes() == b"1"
    assert (tmp_path / "latest").is_symlink()
    assert followed(tmp_path / "latest") == target.resolve()


@as_root
def test_a_link_of_another_user_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    link = tmp_path / "net.safetensors"
    link.symlink_to(target)
    os.chown(link, OTHER, -1, follow_symlinks=False)
    (tmp_path / "latest").symlink_to(link)
    for path in (link, tmp_path / "latest"):
        with pytest.raises(
            PermissionError, match=r"net.safetensors' is a symbolic link that .* sa"
        ):
            write_atomically(path, b"1")
    assert target.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "net.safetensors", "precious"]


@as_root
def test_permissions_of_another_users_file_are_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_text("theirs")
    path.chmod(0o666)
    os.chown(path, OTHER, -1)
    write_atomically(path, b"mine")
    assert path.stat().st_uid == 0
    assert path.stat().st_mode & 0o022 == 0
    path.chmod(0o600)
    write_atomically(path, b"mine again")
    assert path.stat().st_mode & 0o777 == 0o600


@as_root
def test_of_a_user_that_is_not_root(request: pytest.FixtureRequest) -> None:
    """Root's links are followed (they make the system), root's folders are not one's own."""
    # The folder of a test may be root's alone.
    opened = tempfile.TemporaryDirectory(dir="/tmp")
    request.addfinalizer(opened.cleanup)
    tmp_path = Path(opened.name)
    tmp_path.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    os.chown(home, OTHER, -1)
    (tmp_path / "of_root").mkdir(mode=0o755)
    link = tmp_path / "link"
    link.symlink_to(home / "file")
    program = f"""
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("ownership", sys.argv[1])
ownership = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ownership)
os.setgroups([]); os.setgid({OTHER}); os.setuid({OTHER})
place = pathlib.Path(sys.argv[2])
ownership.own_folder(place / "home" / "mine", make=True)
print(ownership.followed(place / "link").name)
try:
    ownership.own_folder(place / "of_root")
except PermissionError as error:
    print(error.strerror)
"""
    source = Path(sys.modules["paramesh.files.ownership"].__file__ or "").read_text()
    copied = tmp_path / "ownership.py"
    copied.write_text(source)
    said = subprocess.run(
        [sys.executable, "-c", program, str(copied), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    assert said[0] == "file"
    assert f"belongs to {user_name(0)}, not to {user_name(OTHER)}" in said[1]
