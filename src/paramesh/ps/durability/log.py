"""The write-ahead log of a server: every change, numbered, before anybody hears of it.

Glossary
    segment     one file of the log; named by the number of its first record and by the incarnation
                of the server that writes it
    incarnation how often this server has started, from a counter on the disk
    fenced      a server that is not the latest incarnation: it may change nothing any more
    claim       the file by which one process, of several that want it, gets an incarnation
    ticket      what it makes the counter by

Every start begins a new segment. What an earlier incarnation still writes (a process that was
frozen and wakes up) goes to the end of an old segment, behind the numbers that the next segment
begins with, or to a segment of its own behind one of its successor's, and is never read.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import directory_to_disk
from paramesh.files.ownership import open_own, own_folder
from paramesh.ps.durability.preallocation import make_room
from paramesh.ps.durability.record import Array, Record, encoded, read_records
from paramesh.ps.processes.descriptors import open_file, patiently

#: Buffers that one call of the system takes.
_BATCH = 512

#: Bytes of a record from which on there is room made for it first.
_ROOM_FROM = 1 << 18

#: Seconds that one who has claimed an incarnation has to enter it.
_PATIENCE = 0.5


class Fenced(ParameterServerError):
    """A server may not change anything: another incarnation has started.

    Attributes:
        latest: the incarnation that may, as far as is known.
    """

    def __init__(self, message: str, latest: int) -> None:
        super().__init__(message, latest)
        self.latest = latest

    def __str__(self) -> str:
        return self.args[0]


def start_incarnation(folder: Path, after: int | None = None) -> int:
    """Make the folder if need be, and get the next incarnation of its server.

    Args:
        folder: of the server.
        after: the latest one must still be this; None: whatever it is.

    Raises:
        Fenced: it is another one, or another process came first.
        ParameterServerError: the counter is damaged.
        OSError: from the file system; the folder is another user's, say.
    """
    own_folder(folder, make=True)
    while True:
        number = _claim(folder, after)
        try:
            _enter(folder, number)
        except Fenced:
            if after is not None:
                raise
        else:
            return number


def _claims(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("claim-")) for path in folder.glob("claim-*"))


def _claim(folder: Path, after: int | None) -> int:
    """Get a number that nobody else gets. One who has it and does not enter it may be dead."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        latest = latest_incarnation(folder)
        if after is not None and latest != after:
            raise _late(folder, after + 1, latest)
        number = max([latest, *_claims(folder)]) + 1
        if number == latest + 1 or time.monotonic() > deadline:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(folder / f"claim-{number:08d}", os.O_CREAT | os.O_EXCL, 0o600))
                return number
        time.sleep(0.005)


def _enter(folder: Path, number: int) -> None:
    """Make a claim count, unless a later one has been made.

    The counter must not be set back, not even for a moment, by one that claimed before and is slow
    to enter. Either it sees the later claim after it has made its ticket, or the later one has made
    its claim after that, and removes the ticket before it enters.
    """
    for left in folder.glob(".*.tmp"):  # what a killed process was writing
        left.unlink(missing_ok=True)
    ticket = _ticket(folder, number)
    _write_ticket(ticket, number)
    if _claims(folder)[-1:] != [number]:
        ticket.unlink(missing_ok=True)
        raise _late(folder, number, latest_incarnation(folder))
    for path in folder.glob("ticket-*"):
        if path.name < ticket.name:
            path.unlink(missing_ok=True)
    try:
        os.replace(ticket, folder / "incarnation")
    except FileNotFoundError:
        raise _late(folder, number, latest_incarnation(folder)) from None
    directory_to_disk(folder)
    # The newest claim stays: those that are slow see by it that they are late.
    for old in _claims(folder):
        if old < number:
            (folder / f"claim-{old:08d}").unlink(missing_ok=True)


def _ticket(folder: Path, number: int) -> Path:
    return folder / f"ticket-{number:08d}"


def _write_ticket(ticket: Path, number: int) -> None:
    file = os.open(ticket, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, f"{number}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


def _late(folder: Path, mine: int, latest: int) -> Fenced:
    return Fenced(
        f"incarnation {mine} of '{folder}' cannot start: {latest} is the latest already.", latest
    )


def latest_incarnation(folder: str | Path) -> int:
    """The incarnation that may write; 0 before the first."""
    # Opened anew each time: a shared file system may answer `stat` from what it remembers.
    try:
        file = open_file(os.path.join(folder, "incarnation"), os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        text = os.read(file, 64).decode(errors="replace")
    finally:
        os.close(file)
    if not text.strip().isdecimal():
        raise ParameterServerError(
            f"the file '{os.path.join(folder, 'incarnation')}' is damaged: it must hold one "
            f"number, not {text!r}. Restore the folder, or remove it to start from scratch."
        )
    return int(text)


def segments(folder: Path) -> list[tuple[int, int, Path]]:
    """(first number, incarnation, path) of the segments that count, in order."""
    return [(first, incarnation, path) for first, incarnation, path, _ in _counting(folder)]


def _counting(folder: Path) -> list[tuple[int, int, Path, int]]:
    found: list[tuple[int, int, Path, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("log-") and entry.name.endswith(".bin"):
                _, first, incarnation = entry.name.removesuffix(".bin").split("-")
                with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
                    size = entry.stat().st_size
                    found.append((int(first), int(incarnation), Path(entry.path), size))
    kept: list[tuple[int, int, Path, int]] = []
    newest = 0
    for one in sorted(found):
        # Begun by a fenced server, behind where its successor has begun.
        if one[1] >= newest:
            newest = one[1]
            kept.append(one)
    # Begun by a server that was fenced before it wrote anything: its successor did not see it, and
    # may have gone on from a record that belongs to an earlier segment.
    return [
        one
        for place, one in enumerate(kept)
        if one[3] or place + 1 == len(kept) or kept[place + 1][0] == one[0]
    ]


def read_log(folder: Path, start: int, *, arrays: bool = True) -> Iterator[Record]:
    """The records from number `start` on.

    Raises:
        ParameterServerError: a record is damaged or missing.
    """
    listed = segments(folder)
    expected = start
    for place, (first, _, path) in enumerate(listed):
        end = listed[place + 1][0] if place + 1 < len(listed) else None
        if end is not None and end <= expected:
            continue
        number = first
        if first <= expected:
            # A record beyond `end` is not even looked at: it may be a late writer's.
            for record in read_records(path, arrays=arrays):
                if end is not None and number >= end:
                    break
                if record.number != number:
                    raise ParameterServerError(
                        f"the log '{path}' has record {record.number} where {number} is expected. "
                        "Restore the folder, or remove it to start from scratch."
                    )
                number += 1
                if record.number >= expected:
                    expected = record.number + 1
                    yield record
                if end is not None and number >= end:
                    break
        if first > expected or (end is not None and expected < end):
            raise ParameterServerError(
                f"the log in '{folder}' lacks record {expected} and the ones after it: they are "
                f"not in '{path.name}'. Restore the folder, or remove it to start from scratch."
            )


def drop_segments(folder: Path, before: int) -> None:
    """Remove the segments that hold nothing from number `before` on."""
    listed = segments(folder)
    for (_, _, path), (following, _, _) in itertools.pairwise(listed):
        if following <= before:
            path.unlink(missing_ok=True)
    counting = {path for _, _, path in listed}
    for path in folder.glob("log-*.bin"):
        if path not in counting and int(path.stem.split("-")[1]) < before:
            path.unlink(missing_ok=True)


def _to_disk(folder: Path) -> None:
    """Bring the log to the disk: who wrote it may have died before that."""
    for _, _, path in segments(folder):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    directory_to_disk(folder)


class Log:
    """The end of the log, which is written to.

    Args:
        folder: of the server.
        incarnation: of the server, from `start_incarnation`.
        number: of the next record.
        point: called with "half" when half of a record is written; for tests.
        fsync: bring every record to the disk: it then survives a power failure, not only a kill.
    """

    def __init__(
        self,
        folder: Path,
        incarnation: int,
        number: int,
        *,
        point: Callable[[str], None] | None = None,
        fsync: bool = False,
    ) -> None:
        self.folder = folder
        self._path = str(folder)
        self.incarnation = incarnation
        self.number = number
        self.bytes = 0
        self._point = point
        self._fsync = fsync
        self._file = -1
        self._hurt = False
        #: Whether the file system makes room ahead.
        self._roomy = True
        if fsync:  # what is gone on from here
            _to_disk(folder)
        self.rotate()

    def rotate(self) -> None:
        """Begin a new segment."""
        path = self.folder / f"log-{self.number:016d}-{self.incarnation:08d}.bin"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = patiently(lambda: open_own(path, flags))
        if self._fsync:  # or a power failure takes the file with all that was brought to it
            directory_to_disk(self.folder)
        self.close()
        self._file = file
        self._size = self._before = os.fstat(file).st_size

    def close(self) -> None:
        """Close the file; nothing is lost."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Write one record; it is there in full when this returns.

        Raises:
            ParameterServerError: this server is fenced, or the record could not be written (a full
                disk, say): then none of it is in the log.
        """
        if self._hurt:
            self.check_fence()
            raise ParameterServerError(
                f"the log in '{self.folder}' could not be repaired after an error. Stop this "
                f"server: it recovers when it is restarted."
            )
        self.check_fence()
        size = 0
        coming = sum(array.nbytes for array in arrays.values())
        if self._roomy and coming >= _ROOM_FROM:
            self._roomy = make_room(self._file, self._size, coming)
        try:
            batches = encoded(self.number, meta, arrays)
            for batch in batches if self._point is None else self._halves(batches):
                self._write(batch)
                size += sum(len(part) for part in batch)
            if self._fsync:
                os.fsync(self._file)
        except OSError as error:
            self._truncate()
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "Make room on its disk" if full else "Look at the folder and its disk"
            raise ParameterServerError(
                f"the log in '{self.folder}' cannot be written ({error.strerror or error}): the "
                f"update was not applied and not acknowledged. {what}, and start again with the "
                "same wal_dir."
            ) from error
        # A process that was frozen between the first check and the write learns it here, before
        # it answers anybody: its record comes after the numbers of its successor.
        try:
            self.check_fence()
        except BaseException:
            self._hurt = True  # the record is there, and must not be there twice
            raise
        self._before = self._size
        self._size += size
        self.bytes += size
        self.number += 1

    def take_back(self) -> None:
        """Remove the record that was appended last; nobody has heard of it."""
        self.number -= 1
        self._size, size = self._before, self._size
        self.bytes -= size - self._size
        self._truncate()

    def _truncate(self) -> None:
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._hurt = True

    def _halves(self, batches: Iterator[list[Any]]) -> Iterator[list[Any]]:
        parts = [part for batch in batches for part in batch]
        half = len(parts) // 2
        middle = memoryview(parts[half])
        split = len(middle) // 2
        yield [*parts[:half], middle[:split]]
        assert self._point is not None
        self._point("half")
        yield [middle[split:], *parts[half + 1 :]]

    def check_fence(self) -> None:
        """Raise Fenced if another incarnation has started.

        Raises:
            Fenced: likewise.
            ParameterServerError: the folder was removed.
        """
        latest = latest_incarnation(self._path)
        if latest == 0:
            there = self.folder.is_dir()
            what = f"the file 'incarnation' in '{self.folder}'" if there else f"'{self.folder}'"
            raise ParameterServerError(
                f"{what} was removed while its server was running, and the log with it. What the "
                f"server still has in memory is not saved anywhere. Start again from a "
                f"checkpoint, and do not remove the wal_dir of a running run."
            )
        if latest != self.incarnation:
            raise Fenced(
                f"this server is incarnation {self.incarnation} of '{self.folder}', and "
                f"incarnation {latest} has taken over: it is fenced and changes nothing.",
                latest,
            )

    def _write(self, parts: list[Any]) -> None:
        views = [memoryview(part) for part in parts if len(part)]
        while views:
            written = os.writev(self._file, views[:_BATCH])
            while views and written >= len(views[0]):
                written -= len(views[0])
                views.pop(0)
            if written:
                views[0] = views[0][written:]
