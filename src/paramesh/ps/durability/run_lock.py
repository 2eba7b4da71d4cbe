"""Who has a run: a lock on its folder, for as long as one of its workers lives.

Glossary
    session     one life of a run: all workers that meet on one Ray cluster under one name have the
                same; a script with a cluster of its own has one of its own
    holder      a worker of the running session. There may be several, they come and go, and the
                lock is that of all of them
    lease       a number in a file that holders change every few seconds

The lock is the kernel's (`flock`, shared by the holders): it ends with the last of them, however
that ends. Servers do not hold it: Ray starts them again, a standby takes over, and an orphan that
still writes is fenced by its log. Other hosts need not see the kernel's lock. So who gets it, and
finds that the holder before was on another host and has not said goodbye, watches the lease: if it
changes, the run is alive; if it does not for `LEASE` seconds, it is dead. Clocks are not compared.
If a host that was partitioned for so long comes back, its servers are fenced by their successors.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import is_locked, write_atomically
from paramesh.files.ownership import open_own, user_name
from paramesh.ps.processes.lifeline import host_identity

try:
    import fcntl
except ImportError:  # not POSIX: the lease alone
    fcntl = None

LOCK, HOLDER, BEAT_FILE = "run.lock", "run.holder.json", "run.beat"
LAUNCH, MOVER, CHANGER = "launch.lock", "resize.lock", "workers.lock"
#: What the session of who changes the number of servers, or workers, at rest begins with.
AT_REST = "resize/"

#: Seconds between two changes of the lease, and until one that does not change has ended.
BEAT, LEASE = 3.0, 20.0
#: Seconds in which a holder that is just ending may end, and between two tries.
_PARTING, _PAUSE = 1.0, 0.05


class RunTaken(ParameterServerError):
    """Another process has a run, or a place in it."""


class RunLock:
    """The lock on a folder.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = -1
        self._beat = -1
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None
        self._session = ""
        self._locks = True

    @property
    def held(self) -> bool:
        """Whether this process is a holder."""
        return self._file >= 0

    def take(self, session: str) -> bool:
        """Become a holder; whether this is the first of its session.

        The first one has the lock for itself until `settle`.

        Raises:
            ParameterServerError: another session has the run.
            OSError: from the file system.
        """
        self._session = session
        file = open_own(self.folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            first = self._locked(file)
            if first:
                self._wait_for_lease()
        except BaseException:
            os.close(file)
            raise
        self._file = file
        _open.add(self)
        return first

    def settle(self) -> None:
        """Write down that this session has the run, and let its other workers in."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        before = _read(self.folder / HOLDER)
        said = {
            "session": self._session,
            "epoch": int(before.get("epoch", 0)) + 1,
            "host": socket.gethostname(),
            "identity": host_identity(),
            "pid": os.getpid(),
            "user": user_name(os.getuid()).strip("'") if hasattr(os, "getuid") else "",
            "since": now,
        }
        _write(self.folder / HOLDER, said)
        self._tell()
        # From a lock of its own to a shared one is two steps for the kernel: somebody may have come
        # between them.
        until = time.monotonic() + LEASE
        while _lock(self._file, shared=True) is False:
            if time.monotonic() > until:
                break
            time.sleep(_PAUSE)
        after = _read(self.folder / HOLDER)
        if after.get("session") != self._session:
            self.release()
            raise self._taken(after)

    def hold(self) -> None:
        """Tell other hosts, from now on, that this session lives."""
        if self._beating is None:
            self._tell()
            self._beating = threading.Thread(target=self._beats, name="lease", daemon=True)
            self._beating.start()

    def release(self) -> None:
        """Be a holder no more; the last one says goodbye."""
        self._stop.set()
        if self._beating is not None and self._beating is not threading.current_thread():
            self._beating.join()
        file, self._file = self._file, -1
        beat, self._beat = self._beat, -1
        if beat >= 0:
            os.close(beat)
        if file < 0:
            return
        _open.discard(self)
        try:
            with contextlib.suppress(OSError):  # the folder is gone
                said = _read(self.folder / HOLDER)
                last = _lock(file, shared=False) is True and said.get("session") == self._session
                if last:
                    _write(self.folder / HOLDER, said | {"ended": True})
        finally:
            os.close(file)

    def _locked(self, file: int) -> bool:
        """Lock the file; True: alone, False: with others of the session."""
        until = time.monotonic() + _PARTING
        while True:
            alone = _lock(file, shared=False)
            if alone is not False:
                self._locks = alone is True
                return True
            if _lock(file, shared=True):
                # Nobody has it alone, so what is written is settled.
                holder = _read(self.folder / HOLDER)
                if holder.get("session") == self._session:
                    return False
                fcntl.flock(file, fcntl.LOCK_UN)  # type: ignore[union-attr]
                if time.monotonic() > until:
                    raise self._taken(holder)
            else:
                until = time.monotonic() + _PARTING  # one that begins, or watches the lease
            time.sleep(_PAUSE)

    def _wait_for_lease(self) -> None:
        holder = _read(self.folder / HOLDER)
        gone = holder.get("ended") or holder.get("session") in (None, self._session)
        here = self._locks and holder.get("identity") == host_identity() != ""
        if gone or here:
            return
        first = _beat_of(self.folder)
        until = time.monotonic() + LEASE
        while time.monotonic() < until:
            time.sleep(min(BEAT / 2, max(0.0, until - time.monotonic())))
            if _beat_of(self.folder) != first:
                raise self._taken(_read(self.folder / HOLDER))

    def _beats(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that is full or away: the next one
                said = _read(self.folder / HOLDER)
                if said.get("session") != self._session:
                    return  # taken over: the servers' logs fence
                if said.pop("ended", False):  # the last one on its host, that is
                    _write(self.folder / HOLDER, said)
                self._tell()

    def _tell(self) -> None:
        if self._beat < 0:
            self._beat = open_own(self.folder / BEAT_FILE, os.O_RDWR | os.O_CREAT)
        os.lseek(self._beat, 0, os.SEEK_SET)
        os.write(self._beat, time.time_ns().to_bytes(8, "little"))
        os.fsync(self._beat)

    def _taken(self, holder: dict[str, Any]) -> RunTaken:
        return _taken(self.folder, holder)


def session_in(folder: Path) -> str:
    """The session that has a run, or had it last; "" if none ever had, or it has said goodbye.

    Raises:
        OSError: from the file system.
    """
    holder = _read(folder / HOLDER)
    return "" if holder.get("ended") else str(holder.get("session", ""))


def is_live(folder: Path) -> bool:
    """Whether a process has a run, as far as can be seen from here; takes a while if it is not.

    Raises:
        OSError: from the file system.
    """
    if (folder / LOCK).exists() and is_locked(folder / LOCK):
        return True
    if not session_in(folder):
        return False
    # It may be on a host whose locks this one does not see: its beat tells.
    before, until = _beat_of(folder), time.monotonic() + 2 * BEAT
    while time.monotonic() < until:
        if _beat_of(folder) != before:
            return True
        time.sleep(_PAUSE)
    return False


def described(holder: dict[str, Any]) -> str:
    """A holder in words."""
    if "pid" not in holder:
        return "another process, which has not said who it is,"
    return (
        f"process {holder['pid']} on host {holder.get('host')} of user {holder.get('user')!r}, "
        f"since {holder.get('since')},"
    )


class PlaceLock:
    """A place that one process has at a time, and in whose file it says who it is.

    Args:
        path: of the file.
        refusal: a template of the error for another process; `{holder}` is the one that has it.
    """

    def __init__(self, path: Path, refusal: str) -> None:
        self._path = path
        self._refusal = refusal
        self._file = -1

    def take(self) -> None:
        """Take the place.

        Raises:
            RunTaken: a process that lives has it.
            OSError: from the file system.
        """
        file = open_own(self._path, os.O_RDWR | os.O_CREAT)
        try:
            until = time.monotonic() + _PARTING
            while _lock(file, shared=False) is False:
                if time.monotonic() > until:
                    holder = described(_parsed(os.pread(file, 4096, 0)))
                    raise RunTaken(self._refusal.format(holder=holder))
                time.sleep(_PAUSE)
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            user = user_name(os.getuid()).strip("'") if hasattr(os, "getuid") else ""
            said = {"pid": os.getpid(), "host": socket.gethostname(), "user": user, "since": now}
            os.ftruncate(file, 0)
            os.write(file, json.dumps(said).encode())
        except BaseException:
            os.close(file)
            raise
        self._file = file
        _open.add(self)

    def release(self) -> None:
        """Give the place up."""
        file, self._file = self._file, -1
        if file >= 0:
            _open.discard(self)
            os.close(file)


class WorkerLock(PlaceLock):
    """One worker's place in a session, where nobody else gives out the places.

    A second script with the same address and name is another worker 0: it would take the place of
    the first one.

    Args:
        folder: of the run.
        rank: of the worker.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        super().__init__(
            folder / f"worker-{rank}.lock",
            f"worker {rank} of the run in '{_literal(folder)}' is already running: {{holder}} "
            "holds its lock. A second start does not take over. Stop that one first, or use "
            "another wal_dir and another PARAMESH_PS_JOB for this one.",
        )


class LaunchLock(PlaceLock):
    """The place of the launcher of a run, from before it starts anything.

    Two launchers that begin at the same moment both find a run that no worker has yet.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / LAUNCH,
            f"the run in '{_literal(folder)}' is going on: {{holder}} has launched it. A second "
            "launch takes nothing over, and has started nothing. End that one first, or give this "
            "one a folder of its own (--wal-dir).",
        )
        self._folder = folder

    def take(self) -> None:
        """Take the place.

        Raises:
            ParameterServerError: another launcher has it, or workers that another program has
                started have the run.
            OSError: from the file system.
        """
        super().take()
        try:
            file = open_own(self._folder / LOCK, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            until = time.monotonic() + _PARTING
            while _lock(file, shared=False) is False:
                if time.monotonic() > until:
                    self.release()
                    raise _taken(self._folder, _read(self._folder / HOLDER))
                time.sleep(_PAUSE)
        finally:
            os.close(file)


def launchers_place(folder: Path, what: str) -> PlaceLock:
    """The place of a launcher, for who changes the number of servers, or workers, of a run."""
    return PlaceLock(
        folder / LAUNCH,
        f"the number of {what} of the run in '{_literal(folder)}' cannot be changed: {{holder}} "
        "has launched it, or is changing it. End that one first.",
    )


def mover_lock(folder: Path) -> PlaceLock:
    """The place of who changes the number of servers of a run, live or at rest."""
    return PlaceLock(
        folder / MOVER,
        f"the number of servers of the run in '{_literal(folder)}' is being changed: {{holder}} "
        "does it. Repeat the command when it has ended.",
    )


def changer_lock(folder: Path) -> PlaceLock:
    """The place of who changes the number of workers of a live run."""
    return PlaceLock(
        folder / CHANGER,
        f"the number of workers of the run in '{_literal(folder)}' is being changed: {{holder}} "
        "does it. Repeat the command when it has ended.",
    )


def _literal(folder: Path) -> str:
    return str(folder).replace("{", "{{").replace("}", "}}")


def _taken(folder: Path, holder: dict[str, Any]) -> RunTaken:
    return RunTaken(
        f"the run in '{folder}' is going on: {described(holder)} has it. A second start "
        "takes nothing over. End that one first, or give this one a wal_dir of its own. To "
        "look at a run use `paramesh ps status`; to read its values, a checkpoint that it "
        "saves."
    )


def _lock(file: int, *, shared: bool) -> bool | None:
    """Whether the lock was got; None: the file system has none, the lease alone counts."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return {}


def _write(path: Path, said: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(said) + "\n").encode())
    path.chmod(0o600)


def _beat_of(folder: Path) -> bytes:
    # Opened anew each time: over a network that is what brings the present content.
    try:
        return (folder / BEAT_FILE).read_bytes()
    except FileNotFoundError:
        return b""


#: Locks of this process. A child that it forks must not keep them when it dies.
_open: weakref.WeakSet[RunLock | PlaceLock] = weakref.WeakSet()


def _in_child() -> None:
    for lock in list(_open):
        file, lock._file = lock._file, -1
        if file >= 0:
            os.close(file)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
