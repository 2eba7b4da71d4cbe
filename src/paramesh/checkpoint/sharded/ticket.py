"""The right of a save to put its index into the folder of a sharded checkpoint.

A worker that was taken for dead and replaced may wake up in the middle of a save, while its
successor saves into the same folder: then the older save must not replace the newer one, nor
remove its files, nor refer to files that the newer one has removed. So every save makes two files
first, a ticket and a claim, and its commit is the renaming of the ticket, this very file, to the
index. Whoever has committed

    1   removes the tickets and claims of older saves, and looks for tickets once more: these cannot
        commit any more
    2   looks whether the index is still its own; if an older save came in between, it commits again
        with another ticket
    3   removes the part files that neither the index nor a remaining claim is about
    4   removes its own claim

    .save-TOKEN-VERSION-INCARNATION-RANK          a ticket; TOKEN as in the names of the part files,
                                                  the rest says which of two saves is the older one
    .save-TOKEN-VERSION-INCARNATION-RANK-claim    a claim

Both are locked while their process lives; those of a dead process count as older than any other.

A ticket counts only if the claim is there after the ticket was made. Where it is not, a newer save
has removed it, and with it the parts: also of a save that has committed, if it was frozen then, and
finds the index of another one when it wakes up, which is older than itself and began later.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from paramesh.checkpoint.sharded.source import INDEX, MARK, PART
from paramesh.files.atomic import directory_to_disk, is_locked, lock

#: In the metadata of an index: the order of its save.
SAVE = "paramesh.save"

_TICKET = re.compile(re.escape(MARK) + r"([0-9a-f]{8})-(\d+)-(\d+)-(\d+)(?:-claim)?")
_TOKEN = re.compile(r"\.?(?:part|save)-([0-9a-f]{8})\b")


class Order(NamedTuple):
    """Which of two saves is the older one: the one with the smaller order.

    Attributes:
        version: of what is saved.
        incarnation: of the worker.
        rank: of the worker.
    """

    version: int
    incarnation: int
    rank: int

    def text(self) -> str:
        """For the metadata of an index."""
        return json.dumps(list(self))


class Ticket:
    """The ticket of one save.

    Args:
        folder: of the checkpoint; it is there.
        token: of the save, eight hexadecimal digits.
        order: of the save.
    """

    def __init__(self, folder: Path, token: str, order: Order) -> None:
        self.folder = folder
        self.token = token
        self.order = order
        self.name = f"{MARK}{token}-{order.version:012d}-{order.incarnation:08d}-{order.rank:05d}"
        self._file = self._claim = -1

    def take(self) -> None:
        """Make the files.

        Raises:
            OSError: from the file system.
        """
        try:
            self._claim = self._made(f"{self.name}-claim")
            self._make_ticket()
            directory_to_disk(self.folder)
        except BaseException:
            self.give_up()
            raise

    def _make_ticket(self) -> bool:
        """Make a ticket; False: a newer save has removed the claim, and there is none."""
        self._file = self._made(self.name)
        # Who removes the claim looks for tickets after that: it sees this one, or is seen here.
        if (self.folder / f"{self.name}-claim").exists():
            return True
        self._remove(self.name)
        os.close(self._file)
        self._file = -1
        return False

    def _made(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.open(self.folder / name, flags, 0o666)  # does not follow links
        lock(file)
        return file

    @property
    def overtaken(self) -> bool:
        """Whether a newer save has committed since."""
        return not (self.folder / self.name).exists()

    def commit(self, index: bytes) -> bool:
        """Put an index into the folder, and remove what is older.

        Args:
            index: with the order among its metadata.

        Returns:
            Whether it did: False if a newer save has committed since, whose checkpoint is there.

        Raises:
            OSError: from the file system; what was there before stays.
        """
        done = self._file >= 0 and self._put(index)
        while done and not self._settled(index):
            done = self._make_ticket() and self._put(index)
        if not done:
            self.give_up()
            return False
        self._remove(f"{self.name}-claim")
        self._close()
        return True

    def _put(self, index: bytes) -> bool:
        left = memoryview(index)
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)
        try:
            os.replace(self.folder / self.name, self.folder / INDEX)
        except FileNotFoundError:
            return False
        finally:
            os.close(self._file)
            self._file = -1
        directory_to_disk(self.folder)
        return True

    def _settled(self, index: bytes) -> bool:
        """Remove what is older; whether the index is this save's, or that of a newer one."""
        names = self._names()
        # Once more, after the claims of older ones were removed: for the tickets made meanwhile.
        live = {self.token} | self._live(names) | self._live(self._names())
        current = read_index(self.folder)
        if current != index:
            of_current = order_of(current)
            return of_current is None or of_current > self.order
        kept = set(json.loads(index)["files"])
        for name in names:
            token = _TOKEN.match(name)
            if token is not None and token[1] not in live and name not in kept:
                is_part = PART.fullmatch(name) or name.startswith(".part-")
                if is_part or not is_locked(self.folder / name):
                    self._remove(name)
        return True

    def _names(self) -> list[str]:
        with os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries)

    def _live(self, names: Sequence[str]) -> set[str]:
        """Remove the tickets and claims of older saves; the tokens of the others."""
        live: set[str] = set()
        for name in names:
            found = _TICKET.fullmatch(name)
            if found is None or found[1] == self.token:
                continue
            theirs = Order(*map(int, found.groups()[1:]))
            # The claim was locked before there was a ticket, which may not be locked yet.
            claim = self.folder / f"{name}-claim"
            alive = is_locked(self.folder / name) or (claim.exists() and is_locked(claim))
            if theirs < self.order or not alive:
                self._remove(name)
            else:
                live.add(found[1])
        return live

    def give_up(self) -> None:
        """Nothing is to be committed: remove the ticket, and the part files of this save."""
        self._remove(self.name)
        self._remove(f"{self.name}-claim")
        self._close()
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            if self.token.encode() in read_index(self.folder):
                return  # it was committed, and something went wrong after that
            for name in [entry.name for entry in entries]:
                token = _TOKEN.match(name)
                if token is not None and token[1] == self.token and PART.fullmatch(name):
                    self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):  # what is left over does no harm
            os.unlink(self.folder / name)

    def _close(self) -> None:
        for file in (self._file, self._claim):
            if file >= 0:
                os.close(file)
        self._file = self._claim = -1


def read_index(folder: Path) -> bytes:
    """The content of an index; empty if there is none."""
    try:
        file = os.open(folder / INDEX, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return b""
    try:
        found = b""
        while block := os.read(file, 1 << 20):
            found += block
        return found
    finally:
        os.close(file)


def order_of(index: bytes) -> Order | None:
    """The order of the save of an index; None: it was saved without a ticket, or is none."""
    try:
        return Order(*json.loads(json.loads(index)["metadata"][SAVE]))
    except (ValueError, KeyError, TypeError):
        return None
