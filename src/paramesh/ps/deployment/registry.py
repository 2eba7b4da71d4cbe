"""The runs with servers of this user on this host: where each is, for whoever wants to look at it.

A run has a random port and a token that is printed nowhere, so each one leaves an entry while it
lives, in a folder that this user alone can read. `paramesh ps status` finds it there.

Glossary
    entry       a file with the facts of one process of a run, JSON; the process has it locked
    live        its entry is locked. The kernel unlocks it when the process ends, however it does;
                whoever meets an entry that is not locked removes it

What another user may have put in the way (a folder, a link) is never used.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError

try:
    import fcntl
except ImportError:  # not POSIX: nothing is entered, and nothing found
    fcntl = None

#: Seconds in which an entry that is being made is not locked yet.
_NEW = 60.0


class Run(NamedTuple):
    """A run that lives.

    Attributes:
        address: of its Ray cluster.
        job: its name there.
        pid: of the process that has entered it: the launcher, or the script.
        started: seconds since 1970.
        wal_dir: the folder of its logs; None: a temporary one, or nobody knows here.
        servers: how many.
        workers: how many.
        program: the words that started it.
        token: that its cluster asks for; None: the environment has it, or there is none.
    """

    address: str
    job: str
    pid: int
    started: float
    wal_dir: str | None
    servers: int
    workers: int
    program: str
    token: str | None

    def __repr__(self) -> str:  # a token is not for logs
        shown = {**self._asdict(), "token": None if self.token is None else "..."}
        return f"Run({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def public(self) -> dict[str, Any]:
        """All that others may read."""
        return {name: value for name, value in self._asdict().items() if name != "token"}


class Entry:
    """That a run of this process lives, until `close` or the end of the process.

    A host where no entry can be made costs a warning, not the run.

    Args:
        address: and the others: see `Run`.
    """

    def __init__(
        self,
        *,
        address: str,
        job: str,
        servers: int,
        workers: int,
        wal_dir: str | None = None,
        token: str | None = None,
    ) -> None:
        self._path: Path | None = None
        self._file = -1
        if fcntl is None:
            return
        program = " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])
        facts = Run(
            address, job, os.getpid(), time.time(), wal_dir, servers, workers, program, token
        )
        failures: list[str] = []
        for folder in folders():
            try:
                self._make(folder, json.dumps(facts._asdict()).encode())
                return
            except (OSError, ParameterServerError) as error:
                failures.append(str(error))
        warnings.warn(
            "paramesh ps status will not find this run without --address: " + "; ".join(failures),
            RuntimeWarning,
            stacklevel=2,
        )

    def _make(self, folder: Path, content: bytes) -> None:
        assert fcntl is not None
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        with _opened(folder) as directory:
            name = f"{os.getpid()}-{secrets.token_hex(4)}.json"
            hidden = f".{name}.tmp"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(hidden, flags, 0o600, dir_fd=directory)
            try:
                # Before it has its name: whoever finds it there finds it locked.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(file, content)
                os.rename(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.close(file)
                with contextlib.suppress(OSError):
                    os.unlink(hidden, dir_fd=directory)
                raise
        self._file, self._path = file, folder / name

    def close(self) -> None:
        """The run has ended."""
        path, self._path = self._path, None
        if path is None:
            return
        with contextlib.suppress(OSError, ParameterServerError), _opened(path.parent) as directory:
            os.unlink(path.name, dir_fd=directory)
        os.close(self._file)
        self._file = -1


def folders() -> list[Path]:
    """Where entries are: the first that can be used gets new ones, and all are looked through.

    What the environment says may differ between a run and whoever looks for it.
    """
    user = os.getuid()
    found: list[Path] = []
    runtime = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"]
    found += [Path(path, "paramesh") for path in runtime if path and os.path.isdir(path)]
    return list(dict.fromkeys([*found, Path(f"/tmp/paramesh-{user}")]))


def runs() -> list[Run]:
    """The runs of this user on this host that live, the oldest first.

    What several processes say of one run is put together. Entries of dead processes are removed.

    Raises:
        ParameterServerError: there is none, and a folder is not of this user alone.
    """
    if fcntl is None:
        return []
    entered: list[Run] = []
    failures: list[str] = []
    for folder in folders():
        try:
            with _opened(folder) as directory:
                entered += _living(directory)
        except FileNotFoundError:
            continue
        except (OSError, ParameterServerError) as error:
            failures.append(str(error))
    if failures and not entered:
        raise ParameterServerError("; ".join(failures))
    found: dict[tuple[str, str], Run] = {}
    for run in sorted(entered, key=lambda run: run.started):
        first = found.setdefault((run.address, run.job), run)
        found[run.address, run.job] = first._replace(
            wal_dir=first.wal_dir or run.wal_dir, token=first.token or run.token
        )
    return list(found.values())


@contextlib.contextmanager
def _opened(folder: Path) -> Generator[int]:
    """A folder that is this user's alone, as a descriptor: its name may be given to another.

    Raises:
        ParameterServerError: it is not.
        OSError: it is not there, or no folder.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(folder, flags)
    try:
        facts = os.fstat(directory)
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise ParameterServerError(
                f"'{folder}' is not private to this user (owner {facts.st_uid}, mode "
                f"{stat.S_IMODE(facts.st_mode):04o}): runs are neither registered nor looked up "
                f"there. Remove it."
            )
        yield directory
    finally:
        os.close(directory)


def _living(directory: int) -> Iterator[Run]:
    assert fcntl is not None
    for name in os.listdir(directory):
        making = name.startswith(".") and name.endswith(".tmp")
        if not making and not name.endswith(".json"):
            continue
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=directory)
        except OSError:  # its run has just ended, or it is a link: none of ours
            continue
        try:
            facts = os.fstat(file)
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid():
                continue
            try:
                # Shared: two that look at the same moment must not take each other for the run.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                run = None if making else _read(file)
                if run is not None:
                    yield run
            else:
                if not making or time.time() - facts.st_mtime > _NEW:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=directory)
        finally:
            os.close(file)


def _read(file: int) -> Run | None:
    try:
        facts = json.loads(os.read(file, 1 << 16))
        return Run(**{name: facts.get(name) for name in Run._fields})
    except (ValueError, AttributeError):  # of another version of paramesh
        return None
