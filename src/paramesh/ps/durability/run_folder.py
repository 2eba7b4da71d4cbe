"""The folder of a run on servers: locked for the run, and compared with what it says of itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from paramesh.errors import ParameterServerError
from paramesh.files.ownership import followed
from paramesh.ps.durability import identity
from paramesh.ps.durability.identity import Identity
from paramesh.ps.durability.run_lock import LaunchLock, RunLock, WorkerLock


class RunFolder:
    """The `wal_dir` of a run, for one of its workers.

    Args:
        path: of the folder; a link to it is followed if this user or root has made it.
        mine: what the run is.
        rank: of this worker, where no program gives out the workers' places; None otherwise.

    Attributes:
        path: without links at its end.
        name: of the run, once it was entered.

    Raises:
        ParameterServerError: it is another user's link.
    """

    def __init__(self, path: str, mine: Identity, rank: int | None) -> None:
        with _said_of_folders(path):
            self.path = followed(Path(os.path.abspath(path)))
        self._mine = mine
        self._lock = RunLock(self.path)
        self._worker = None if rank is None else WorkerLock(self.path, rank)
        self.name: str | None = None

    def check(self) -> None:
        """See whether the run can be entered; nothing is changed.

        Raises:
            ParameterServerError: the folder is of another run, or not this user's alone.
        """
        with _said_of_folders(self.path):
            identity.check(self.path, self._mine)

    def enter(self, session: str) -> None:
        """Take the lock, and write down what the run is if nobody has.

        Args:
            session: see `run_lock`.

        Raises:
            ParameterServerError: as `check`; another session has the run, or another process this
                worker's place.
        """
        if self._lock.held:
            return
        self.check()
        with _said_of_folders(self.path):
            identity.own(self.path, make=True)
            first = self._lock.take(session)
            try:
                if self._worker is not None:
                    self._worker.take()
                if first:
                    self.name = identity.write(self.path, self._mine, session)
                    self._lock.settle()
                else:
                    self.name = identity.check(self.path, self._mine)
                self._lock.hold()
            except BaseException:
                self.leave()
                raise

    def leave(self) -> None:
        """Let the lock go."""
        if self._worker is not None:
            self._worker.release()
        self._lock.release()


@contextlib.contextmanager
def launching(path: Path) -> Generator[None]:
    """The `wal_dir` of a run that a launcher is about to start is this launcher's alone.

    Args:
        path: of the folder; made if it is not there.

    Raises:
        ParameterServerError: another launcher, or workers, have the run; the folder is not this
            user's alone.
    """
    with _said_of_folders(path):
        folder = followed(Path(os.path.abspath(path)))
        identity.own(folder, make=True)
        lock = LaunchLock(folder)
        lock.take()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _said_of_folders(path: str | Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ParameterServerError(
            f"wal_dir='{path}' cannot be used: {error.strerror or error} Workers need it too: it "
            f"holds the lock of the run."
        ) from error
