"""Files in memory that fail as disks do, under the names of `os` and `pathlib`.

What a process has written is there for all others at once, whatever becomes of the process. What it
has not brought to the disk (`fsync`; for a name: of its folder) may be gone after a power cut of
the disk's host, unless the process is on another one and lives. Folders themselves stay.

The modules of the servers know nothing of it: `in_place` gives them this `os`, `Path` and `time`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os as real_os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PosixPath
from types import SimpleNamespace
from typing import Any
from unittest import mock

from paramesh.checkpoint.formats import interface
from paramesh.checkpoint.sharded import increments, ticket
from paramesh.files import atomic
from paramesh.ps.deployment import actors
from paramesh.ps.durability import former_runs, identity, log, marks, moves, worker_files
from paramesh.ps.processes import descriptors
from paramesh.ps.resizing import build, live, targets
from paramesh.ps.server import background, loading, saves, server, snapshot_writer, standby
from paramesh.ps.specification import checkpoints
from simulation.world import Dead, World

#: Modules through which servers reach files.
FILES = {"paramesh.files.atomic", "paramesh.files.ownership", "paramesh.ps.durability.log"}

_FIRST = 1_000_000
#: Whose all files are.
_USER = 1000


class Inode:
    """A file without a name."""

    def __init__(self) -> None:
        self.data = bytearray()
        #: Bytes that are on the disk.
        self.synced = 0


class Disk:
    """All files of a world.

    Args:
        world: whose processes use it.

    Attributes:
        full: folders on which nothing more can be written.
        interrupt: asked before each operation by a server: may kill it, or hold it up.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.folders: dict[str, dict[str, Inode]] = {}
        #: The names that are on the disk.
        self._named: dict[str, dict[str, Inode]] = {}
        self.full: set[str] = set()
        self.interrupt: Callable[[str, str], None] = lambda what, folder: None
        self._open: dict[int, list[Any]] = {}
        self._next = _FIRST
        self._drawn = 0

    # Names.

    def _enter(self, what: str, path: str) -> tuple[dict[str, Inode], str]:
        folder, _, name = path.rpartition("/")
        thread = self.world.current
        if thread is not None:
            if not thread.process.alive:
                raise Dead
            self.interrupt(what, folder)
        found = self.folders.get(folder)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such folder", path)
        return found, name

    def find(self, what: str, path: str) -> Inode:
        folder, name = self._enter(what, path)
        inode = folder.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        return inode

    def names(self, path: str) -> list[str]:
        self._enter("list", f"{path}/")
        return sorted(self.folders.get(path, ()))

    def within(self, path: str) -> list[str]:
        """The names of the folders in a folder."""
        start = f"{path}/"
        found = {one[len(start) :].partition("/")[0] for one in self.folders if one != start}
        return sorted(n for n in found if f"{start}{n}" in self.folders)

    def remove(self, path: str) -> None:
        """As `shutil.rmtree`."""
        for folder in sorted(one for one in self.folders if f"{one}/".startswith(f"{path}/")):
            self._enter("unlink", f"{folder}/")
            del self.folders[folder]
            self._named.pop(folder, None)

    def link(self, old: str, new: str) -> None:
        inode = self.find("link", old)
        folder, name = self._enter("link", new)
        if name in folder:
            raise FileExistsError(errno.EEXIST, "File exists", new)
        folder[name] = inode

    def mkdir(self, path: str) -> None:
        self.folders.setdefault(path, {})

    def give(self, path: str, files: Mapping[str, bytes]) -> None:
        """Have a folder with files, on the disk."""
        folder = self.folders[path] = {}
        for name, content in files.items():
            folder[name] = inode = Inode()
            inode.data += content
            inode.synced = len(content)
        self._named[path] = dict(folder)

    def unlink(self, path: str) -> None:
        folder, name = self._enter("unlink", path)
        if folder.pop(name, None) is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)

    def replace(self, old: str, new: str) -> None:
        folder, name = self._enter("replace", old)
        inode = folder.pop(name, None)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", old)
        folder[new.rpartition("/")[2]] = inode

    # Open files: [inode, place, folder, process].

    def descriptors(self) -> int:
        """How many are open of processes that live; the others' are closed, as a kernel does."""
        for number in [n for n, one in self._open.items() if one[3] and not one[3].alive]:
            del self._open[number]
        return len(self._open)

    def open(self, path: str, flags: int) -> int:
        if path in self.folders:
            inode = None
        else:
            folder, name = self._enter("open", path)
            inode = folder.get(name)
            if inode is not None and flags & real_os.O_EXCL and flags & real_os.O_CREAT:
                raise FileExistsError(errno.EEXIST, "File exists", path)
            if inode is None:
                if not flags & real_os.O_CREAT:
                    raise FileNotFoundError(errno.ENOENT, "No such file", path)
                if folder is self.folders.get(path.rpartition("/")[0]) and self._is_full(path):
                    raise OSError(errno.ENOSPC, "No space left on device", path)
                inode = folder[name] = Inode()
            if flags & real_os.O_TRUNC:
                inode.data.clear()
                inode.synced = 0
        self._next += 1
        thread = self.world.current
        process = None if thread is None else thread.process
        self._open[self._next] = [inode, 0, path.rpartition("/")[0] if inode else path, process]
        return self._next

    def _is_full(self, path: str) -> bool:
        return path.rpartition("/")[0] in self.full

    def close(self, number: int) -> None:
        self._open.pop(number, None)

    def of(self, number: int, what: str) -> Any:
        one = self._open.get(number)
        if one is None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        self._enter(what, f"{one[2]}/")
        return one

    def write(self, number: int, buffers: list[Any], at: int | None) -> int:
        one = self._open.get(number)
        if one is None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        content = b"".join(bytes(buffer) for buffer in buffers)
        inode: Inode = one[0]
        place = len(inode.data) if at is None else at
        try:
            self._enter("write", f"{one[2]}/")
        except Dead:
            # It died in the middle of the write. (After its death nothing comes any more.)
            if self._died_now():
                part = content[: self.world.random.randrange(len(content) + 1)]
                inode.data[place : place + len(part)] = part
            raise
        if one[2] in self.full:
            part = content[: self.world.random.randrange(len(content))] if content else b""
            if not part:
                raise OSError(errno.ENOSPC, "No space left on device")
            content = part
        if at is None:
            place = len(inode.data)
        inode.data.extend(bytes(max(0, place - len(inode.data))))
        inode.data[place : place + len(content)] = content
        return len(content)

    def _died_now(self) -> bool:
        thread = self.world.current
        if thread is None or not getattr(thread.process, "dying", False):
            return False
        thread.process.dying = False  # type: ignore[attr-defined]
        return True

    def sync(self, number: int) -> None:
        inode, _, folder, _ = self.of(number, "fsync")
        if folder in self.full and self.world.random.random() < 0.5:
            raise OSError(errno.ENOSPC, "No space left on device")  # found out as late as that
        if inode is None:
            self._named[folder] = dict(self.folders[folder])
        else:
            inode.synced = len(inode.data)

    def power_cut(self, folder: str) -> None:
        """What was not brought to the disk is gone, or some of it.

        Who lives on is on another host, and what it has written to an open file is there still.
        """
        random = self.world.random
        held = {id(one[0]) for one in self._open.values() if one[3] and one[3].alive}
        files, named = self.folders[folder], self._named.get(folder, {})
        for name in sorted(files | named):
            if files.get(name) is not named.get(name) and random.random() < 0.5:
                if name in named:  # what was removed or replaced is there again
                    files[name] = named[name]
                else:
                    del files[name]
            if name in files and id(files[name]) not in held:
                inode = files[name]
                if len(inode.data) > inode.synced:
                    del inode.data[random.randint(inode.synced, len(inode.data)) :]
                inode.synced = len(inode.data)
        self._named[folder] = dict(files)

    # The names of `os`.

    def os_module(self) -> Any:
        """What the servers use of `os`."""
        disk = self

        def scandir(path: Any) -> Any:
            folder = str(path)
            files = [
                SimpleNamespace(
                    name=name,
                    path=f"{folder}/{name}",
                    stat=lambda f=folder, n=name: _stat_of(disk.folders[f][n]),
                    is_dir=lambda follow_symlinks=True: False,
                )
                for name in disk.names(folder)
                if name in disk.folders[folder]
            ]
            folders = [
                SimpleNamespace(
                    name=name, path=f"{folder}/{name}", is_dir=lambda follow_symlinks=True: True
                )
                for name in disk.within(folder)
            ]
            return contextlib.nullcontext([*files, *folders])

        def read(number: int, count: int) -> bytes:
            one = disk.of(number, "read")
            found = bytes(one[0].data[one[1] : one[1] + count])
            one[1] += len(found)
            return found

        def ftruncate(number: int, size: int) -> None:
            inode = disk.of(number, "truncate")[0]
            del inode.data[size:]
            inode.synced = min(inode.synced, size)

        def getpid() -> int:
            thread = disk.world.current
            return 1 if thread is None else thread.process.pid

        named = {name: getattr(real_os, name) for name in dir(real_os) if name.isupper()}
        return SimpleNamespace(
            **named,
            name=real_os.name,
            supports_fd=set(),
            path=SimpleNamespace(join=lambda *p: "/".join(map(str, p)), realpath=str),
            open=lambda path, flags, mode=0: disk.open(str(path), flags),
            close=disk.close,
            read=read,
            write=lambda number, content: disk.write(number, [content], None),
            writev=lambda number, buffers: disk.write(number, buffers, None),
            pwritev=lambda number, buffers, at: disk.write(number, buffers, at),
            fsync=disk.sync,
            ftruncate=ftruncate,
            fstat=lambda number: _stat_of(disk.of(number, "stat")[0]),
            scandir=scandir,
            link=lambda old, new: disk.link(str(old), str(new)),
            replace=lambda old, new: disk.replace(str(old), str(new)),
            chmod=lambda path, mode: None,
            unlink=lambda path: disk.unlink(str(path)),
            lstat=lambda path: _stat_of(disk.find("stat", str(path))),
            getpid=getpid,
            geteuid=lambda: _USER,
        )

    def mapped(self, number: int, size: int, access: int) -> bytes:
        """As `mmap.mmap`, of an open file."""
        return bytes(self._open[number][0].data[:size])

    def token(self, size: int) -> str:
        """As `secrets.token_hex`, and the same again in the same world."""
        self._drawn += 1
        return f"{self._drawn:0{2 * size}x}"


def _stat_of(inode: Inode | None) -> Any:
    """What `os.stat` says of a file, or of a folder (None)."""
    if inode is None:
        return SimpleNamespace(st_size=0, st_mode=stat.S_IFDIR | 0o700, st_uid=_USER, st_nlink=2)
    return SimpleNamespace(
        st_size=len(inode.data), st_mode=stat.S_IFREG | 0o600, st_uid=_USER, st_nlink=1
    )


#: The disk of the world that runs.
_here: list[Disk] = []


class SimPath(PosixPath):
    """A path on the disk of the world that runs."""

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        _here[-1].mkdir(str(self))

    def glob(self, pattern: str) -> Iterator[SimPath]:  # type: ignore[override]
        before, _, after = pattern.partition("*")
        for name in _here[-1].names(str(self)):
            if name.startswith(before) and name.endswith(after):
                yield self / name

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        return _stat_of(_here[-1].find("stat", str(self)))

    def is_dir(self, *more: Any) -> bool:
        return str(self) in _here[-1].folders

    def exists(self, *more: Any) -> bool:
        folder, _, name = str(self).rpartition("/")
        return name in _here[-1].folders.get(folder, ()) or str(self) in _here[-1].folders

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        _here[-1].find("chmod", str(self))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            _here[-1].unlink(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def read_bytes(self) -> bytes:
        return bytes(_here[-1].find("open", str(self)).data)

    def open(self, mode: str = "r", *more: Any, **named: Any) -> Any:  # type: ignore[override]
        if mode == "xb":
            return _NewFile(_here[-1], str(self))
        assert mode == "rb", mode
        return io.BytesIO(bytes(_here[-1].find("open", str(self)).data))


class _NewFile:
    """A file that is open to be written, without a buffer."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._number = disk.open(path, real_os.O_WRONLY | real_os.O_CREAT | real_os.O_EXCL)

    def write(self, content: Any) -> None:
        left = bytes(content)
        while left:
            left = left[self._disk.write(self._number, [left], None) :]

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self._disk.close(self._number)


class SimTime:
    """The time of the process that runs."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        thread = self._world.current
        return self._world.now if thread is None else thread.process.clock()

    def time(self) -> float:
        return self.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._world.deep:  # a loop that waits comes to its end
            self._world.now += seconds
        else:
            self._world.nap(seconds)


@contextlib.contextmanager
def in_place(disk: Disk, executor: Callable[..., Any]) -> Iterator[None]:
    """The servers' modules use this disk, and the time of its world."""
    fake, clock = disk.os_module(), SimTime(disk.world)
    secrets = SimpleNamespace(token_hex=disk.token)
    removing = SimpleNamespace(rmtree=lambda path, ignore_errors=False: disk.remove(str(path)))
    mapped = SimpleNamespace(mmap=disk.mapped, ACCESS_READ=0)
    replaced: list[tuple[Any, dict[str, Any]]] = [
        (atomic, {"secrets": secrets, "fcntl": None}),
        (log, {"time": clock}),
        (server, {"time": clock}),
        (snapshot_writer, {"time": clock}),
        (background, {"ThreadPoolExecutor": executor}),
        (
            saves,
            {"freed_memory": SimpleNamespace(give_back=lambda: None)},
        ),  # many runs, one process
        (standby, {"time": clock}),
        (actors, {"Path": SimPath}),
        (descriptors, {"os": fake, "time": clock}),
        (identity, {"os": fake, "Path": SimPath}),
        (former_runs, {"os": fake, "Path": SimPath}),
        (moves, {"os": fake, "time": clock}),
        (marks, {"os": fake, "secrets": secrets}),
        (worker_files, {"os": fake}),
        (live, {"time": clock, "shutil": removing}),
        (build, {"secrets": secrets, "shutil": removing}),
        (targets, {"os": fake}),
        (interface, {"os": fake, "mmap": mapped, "remove_leftovers": lambda folder: None}),
        (ticket, {"os": fake}),
        *((module, {"Path": SimPath}) for module in (increments, loading, checkpoints)),
    ]
    for name in FILES & sys.modules.keys():
        replaced.append((sys.modules[name], {"os": fake, "Path": SimPath}))
    _here.append(disk)
    with contextlib.ExitStack() as stack:
        for module, names in replaced:
            for name, value in names.items():
                stack.enter_context(mock.patch.object(module, name, value))
        try:
            yield
        finally:
            _here.pop()
