"""The folder of a run on servers: locked for the run, and compared with what it says of itself."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Generator
from pathlib import Path

from paramesh.errors import ParameterServerError
from paramesh.files.ownership import followed
from paramesh.ps.durability import identity, whose_folder, worker_files
from paramesh.ps.durability.run_lock import LaunchLock, RunLock, WorkerLock, session_in
from paramesh.ps.durability.run_settings import Identity


class RunFolder:
    """The `wal_dir` of a run, for one of its workers.

    Args:
        path: of the folder; a link to it is followed if this user or root has made it.
        mine: what the run is.
        rank: of this worker, where no program gives out the workers' places; None otherwise.

    Attributes:
        path: without links at its end.
        name: of the run, once it was entered; and
        servers: how many it has, and
        workers: how many workers, as far as its files say, and
        changed: that may be another number than this process was started with, and
        generation: how often they were moved (see `moves`), and
        resumed: a run from before goes on, which this process was the first to enter.

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
        self.servers = mine.server_num
        self.workers = mine.worker_num
        self.changed = False
        self.generation = 0
        self.resumed = False

    def check(self) -> None:
        """See whether the run can be entered; nothing is changed.

        Raises:
            ParameterServerError: the folder is of another run, or not this user's alone.
        """
        with _said_of_folders(self.path):
            identity.check(self.path, self._here())

    def _here(self, session: str | None = None) -> Identity:
        """What the run is here, if it is that of a session that goes on.

        What was started with a number of servers, or workers, goes on with the one that its run has
        by now; a process that is started again says the former one, and a worker that is about to
        join the next one.

        Args:
            session: which; None: any.
        """
        mine = self._mine
        moved = identity.moved_from(self.path, session)
        if moved is not None and moved[0] == mine.server_num:
            mine = dataclasses.replace(mine, server_num=moved[1])
        if not self.path.exists():
            return mine
        known = session or session_in(self.path)
        self.changed = mine.worker_num in worker_files.numbers_in_session(self.path, known)
        if self.changed:
            mine = dataclasses.replace(mine, worker_num=identity.read(self.path).worker_num)
        return mine

    def look(self) -> bool:
        """Learn whether the run has moved to other servers since it was entered, or this was asked.

        Raises:
            ParameterServerError: what it says of itself is damaged, or gone.
        """
        with _said_of_folders(self.path):
            generation = identity.generation(self.path)
            if generation <= self.generation:
                return False
            self._learn()
            return True

    def _learn(self) -> None:
        while True:  # the three are of one generation
            self.generation = identity.generation(self.path)
            now = identity.read(self.path)
            self.servers, self.workers = now.server_num, now.worker_num
            self.name = identity.run_name(self.path)
            if self.generation == identity.generation(self.path):
                return

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
            whose_folder.own(self.path, make=True)
            before = session_in(self.path)
            first = self._lock.take(session)
            try:
                self.resumed = (
                    first and before != session and (self.path / whose_folder.RUN).exists()
                )
                if self.resumed:
                    first_server = identity.server_folder(self.path, 0)
                    worker_files.settle(self.path, first_server)
                mine = self._here(session)
                if self._worker is not None:
                    self._worker.take()
                if first:
                    self.name = identity.write(self.path, mine, session)
                    self._lock.settle()
                else:
                    self.name = identity.check(self.path, mine)
                if self.name is not None:
                    self._learn()
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
        whose_folder.own(folder, make=True)
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
            f"wal_dir='{path}' cannot be used: {str(error.strerror or error).rstrip('.')}. Workers "
            f"need it too: it holds the lock of the run."
        ) from error
