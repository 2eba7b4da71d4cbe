"""Reading a log while its server goes on writing it.

The reader keeps its place, and takes up what has been written since. A record whose end is not
there yet is being written (or was torn off by a death; then the next segment begins with its
number). Every look opens the file anew: over a network that is what brings the present content.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import segments
from paramesh.ps.durability.record import Record, read_record

_HEAD = 64


class Tail:
    """The end of a log, as one reads it who does not write it.

    Args:
        folder: of the server.
        number: of the first record that is wanted.

    Attributes:
        number: of the next record.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self._path: Path | None = None
        # Where the record that was read last begins and ends, and what it ends with.
        self._begin = self._offset = 0
        self._seen = b""

    def read(self) -> Iterator[Record]:
        """The records that have become complete.

        Raises:
            ParameterServerError: a record is damaged, or was dropped before it was read; or one
                that was read does not count, since a fenced server wrote it behind the beginning of
                its successor. Whoever follows has to start over.
            OSError: from the file system; also if a segment is dropped while it is read.
        """
        while True:
            before = self.number
            place = self._place()
            if place is None:
                return
            path, end = place
            yield from self._read_segment(path, end)
            if self.number == before:
                if end is not None and self.number < end:
                    raise ParameterServerError(
                        f"the log in '{self.folder}' lacks record {self.number}: it is not in "
                        f"'{path.name}'."
                    )
                if end is None:
                    return

    def _place(self) -> tuple[Path, int | None] | None:
        """The segment that has the next record, and the number that it ends before."""
        listed = segments(self.folder)
        begun = [place for place, (first, _, _) in enumerate(listed) if first <= self.number]
        if not begun:
            if listed or self.number:
                raise ParameterServerError(
                    f"the log in '{self.folder}' no longer has record {self.number}."
                )
            return None
        first, _, path = listed[begun[-1]]
        if path != self._path:
            if self._path is not None and first != self.number:
                raise ParameterServerError(
                    f"record {first} of '{self.folder}' was read but is not valid: '{path.name}' "
                    f"begins with it."
                )
            self._path, self._begin, self._offset, self._seen = path, 0, 0, b""
        following = listed[begun[-1] + 1 : begun[-1] + 2]
        return path, following[0][0] if following else None

    def _read_segment(self, path: Path, end: int | None) -> Iterator[Record]:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if self._ends(file) != self._seen:
                raise ParameterServerError(
                    f"record {self.number - 1} of '{path}' was read, but has been rolled back "
                    f"since."
                )
            file.seek(self._offset)
            while size - self._offset >= _HEAD and (end is None or self.number < end):
                # Those before the wanted one are passed over without their arrays.
                record = read_record(file, size, path, arrays=False)
                if record is None:
                    return
                if record.number == self.number:
                    file.seek(self._offset)
                    record = read_record(file, size, path)
                if record is None or record.number > self.number:
                    raise ParameterServerError(
                        f"the log '{path}' has another record where {self.number} is expected."
                    )
                self._begin, self._offset = self._offset, file.tell()
                self._seen = self._ends(file)
                file.seek(self._offset)
                if record.number == self.number:
                    self.number += 1
                    yield record

    def _ends(self, file: BinaryIO) -> bytes:
        """The head and the last bytes of the record that was read last: its checksums."""
        if not self._offset:
            return b""
        file.seek(self._begin)
        head = file.read(_HEAD)
        file.seek(self._offset - _HEAD)
        return head + file.read(_HEAD)
