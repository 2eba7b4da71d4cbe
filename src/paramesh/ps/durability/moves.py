"""The move of a live run to another number of servers: the files by which it begins and ends.

    wal_dir/move-3.json     {"servers": 4, …}           it has begun; a server that starts waits
    wal_dir/move-3.beat     grows while its mover lives
    wal_dir/move-3.end      {"run": {…}}                the run has moved; what `run.json` says
                            {"run": null, "why": "…"}   it has not

Glossary
    mover       the process that makes a move
    generation  how often the servers of a run were moved: the K of their folder `resized-K`; 0 for
                those in `wal_dir` itself
    open        a move that has begun and not ended
    verdict     how it has ended

The end of a move is a file that only one process can create, as an incarnation is. Its mover
creates it when the new servers' folders are complete: at that moment the run has moved. A server
that finds an open move whose mover is dead creates it too: then the run has not moved, and never
will by this move, even if its mover was only frozen. So servers of at most one number ever serve.

`run.json` follows the end of a move. Who reads it before that takes what the end says
(`current`).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import is_locked, lock
from paramesh.ps.durability.marks import content, create, damaged, names_in, read
from paramesh.ps.processes.lifeline import host_identity

#: Seconds between two changes of the beat, and until a move whose beat does not change is ended.
BEAT, LEASE = 1.0, 20.0

_FILE = re.compile(r"move-(\d+)\.(json|beat|end)")
_FOLDER = re.compile(r"resized-(\d+)")


class MoveEnded(ParameterServerError):
    """A move that somebody has ended: the run has not moved."""


def generation_of(said: Mapping[str, Any]) -> int:
    """The generation that what a run says of itself is about."""
    found = _FOLDER.fullmatch(str(said.get("folder", "")))
    return 0 if found is None else int(found[1])


def current(folder: Path, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run says of itself, with the moves that `run.json` does not have yet.

    Args:
        folder: of the run.
        said: what `run.json` says.

    Raises:
        ParameterServerError: the end of a move is damaged.
        OSError: from the file system.
    """
    for number in reversed(_numbers(names_in(folder), "end")):
        if number <= generation_of(said):
            break
        moved = _end(folder, number)
        if moved is not None and moved["run"] is not None:
            return moved["run"]
    return said


def open_move(folder: Path) -> int:
    """The number of the move that is open, the first if there are several; 0: none is.

    Several are open only for a moment, until all but one have been given up (see `Move.begin`); or
    after a power cut, which has brought back the beginning of one that had ended.

    Raises:
        OSError: from the file system.
    """
    return next(iter(_open(names_in(folder))), 0)


def end_of(folder: Path, number: int) -> Mapping[str, Any] | None:
    """How a move has ended: `run`, or None and `why`; None: it is open.

    Raises:
        ParameterServerError: the file is damaged.
        OSError: from the file system.
    """
    return _end(folder, number)


def next_number(folder: Path, generation: int) -> int:
    """A number that neither a move nor a folder of servers has had.

    Raises:
        OSError: from the file system.
    """
    found = [generation]
    for name in names_in(folder):
        known = _FILE.fullmatch(name) or _FOLDER.fullmatch(name)
        if known is not None:
            found.append(int(known[1]))
    return max(found) + 1


def abandon(folder: Path, number: int, why: str) -> bool:
    """End a move: the run has not moved. False: it has ended already, one way or the other.

    Raises:
        OSError: from the file system.
    """
    return create(folder, f"move-{number}.end", {"run": None, "why": why})


def clear(folder: Path) -> None:
    """Remove the files of moves that have ended; `run.json` has what they say.

    The end of the latest one stays. By it no number is given twice: a mover that was frozen for
    long must not end another one's move.

    Raises:
        OSError: from the file system.
    """
    ended = _numbers(names_in(folder), "end")
    for number in ended:
        for kind in ("beat", "json"):
            (folder / f"move-{number}.{kind}").unlink(missing_ok=True)
    for number in ended[:-1]:  # last: what has begun must not seem to be open
        (folder / f"move-{number}.end").unlink(missing_ok=True)


class Move:
    """A move that this process makes, from `begin` on.

    Args:
        folder: of the run.
        number: of the move.
        servers: how many there are to be.
    """

    def __init__(self, folder: Path, number: int, servers: int) -> None:
        self.folder, self.number, self.servers = folder, number, servers
        self._file = -1

    def begin(self) -> bool:
        """Have servers that start wait. False: another process has begun one since.

        From then on until this move ends no other one begins. What the run is must be looked up
        again: it may have been moved before.

        Raises:
            OSError: from the file system; nothing has begun.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            self._file = os.open(self.folder / f"move-{self.number}.beat", flags, 0o600)
        except FileExistsError:
            return False
        lock(self._file)  # before anybody can look at it
        said = {
            "servers": self.servers,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "identity": host_identity(),
        }
        try:
            begun = create(self.folder, f"move-{self.number}.json", said)
        except BaseException:
            self.close()
            raise
        if begun and not self._alone():
            abandon(self.folder, self.number, "another move came first")
            begun = False
        if not begun:
            self.close()
        return begun

    def _alone(self) -> bool:
        """Whether no other move is open, nor a later one has ended since the number was found.

        Of two that begin at one time, both may see the other, and one does: each has created its
        file before it looks.
        """
        names = names_in(self.folder)
        return _open(names) == [self.number] and _numbers(names, "end")[-1:] < [self.number]

    def beat(self) -> None:
        """Tell that this process lives.

        Raises:
            OSError: from the file system.
        """
        os.write(self._file, b".")
        os.fsync(self._file)

    def finish(self, run: Mapping[str, Any]) -> None:
        """Move the run, if nobody has ended the move: all at once, from now on.

        Args:
            run: what `run.json` is to say.

        Raises:
            MoveEnded: somebody has; the run has not moved.
            OSError: from the file system; `end_of` says what has become of the move.
        """
        if not create(self.folder, f"move-{self.number}.end", {"run": dict(run)}):
            raise self.ended()

    def ended(self) -> MoveEnded:
        """That somebody else has ended it."""
        return MoveEnded(
            f"the move of '{self.folder}' to {self.servers} servers was ended by its servers: "
            f"its process had given no sign of life for {LEASE:g} seconds. The run goes on as "
            f"before; repeat the command."
        )

    def close(self) -> None:
        """Let go of the files."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class MoveWatch:
    """What one server, or worker, sees of the moves of its run.

    Args:
        folder: of the run.
        clock: seconds, from any beginning; None: those of this process.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] | None = None) -> None:
        self.folder = folder
        self._clock = clock or time.monotonic
        self._seen: tuple[int, bytes] | None = None
        self._since = 0.0

    def look(self) -> int:
        """The number of the move that is open, whose mover lives as far as is known; 0: none is.

        A move whose mover is dead, or has given no sign of life for long, is ended.

        Raises:
            OSError: from the file system.
        """
        number = open_move(self.folder)
        if not number:
            self._seen = None
            return 0
        seen = number, content(self.folder / f"move-{number}.beat")
        now = self._clock()
        if seen != self._seen:
            self._seen, self._since = seen, now
        if now - self._since < LEASE and not self._is_dead(number):
            return number
        abandon(self.folder, number, "the process that made it has ended, or was frozen")
        return 0

    def _is_dead(self, number: int) -> bool:
        """Whether this host knows that the mover has ended."""
        said = read(self.folder / f"move-{number}.json")
        if said is None or not host_identity() or said.get("identity") != host_identity():
            return False
        return not is_locked(self.folder / f"move-{number}.beat")


def _numbers(names: list[str], kind: str) -> list[int]:
    """The numbers of the moves that have such a file, sorted."""
    found = (_FILE.fullmatch(name) for name in names)
    return sorted(int(one[1]) for one in found if one is not None and one[2] == kind)


def _open(names: list[str]) -> list[int]:
    """The numbers of the moves that have begun and not ended, sorted."""
    ended = set(_numbers(names, "end"))
    return [number for number in _numbers(names, "json") if number not in ended]


def _end(folder: Path, number: int) -> Mapping[str, Any] | None:
    said = read(folder / f"move-{number}.end")
    if said is not None and not isinstance(said.get("run"), dict | None):
        raise damaged(folder / f"move-{number}.end")
    return said
