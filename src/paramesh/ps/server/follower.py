"""The state of a server, rebuilt by a process that reads its log and writes nothing.

Whatever happens to the reader (it lags until segments are dropped, it reads a record of a fenced
server), it discards its state and recovers from snapshot and log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.tail import Tail
from paramesh.ps.server.server import Server


class LogFollower:
    """Follows the log of one server.

    Args:
        server: without state; it gets that of the log.
        folder: of the log and the snapshots.
        point: called with "following" after each record.
        repair: remove damaged snapshots when others replace them; only for who may become the
            server.

    Attributes:
        server: the state.
        failure: why the log could not be followed at the last try; empty if it could.
        fresh_starts: how often the state was rebuilt from snapshot and log.
    """

    def __init__(
        self,
        server: Server,
        folder: Path,
        *,
        point: Callable[[str], None] | None = None,
        repair: bool = False,
    ) -> None:
        self.server = server
        self._folder = folder
        self._point: Callable[[str], None] = point or (lambda name: None)
        self._repair = repair
        self._tail: Tail | None = None
        self.failure = ""
        self.fresh_starts = 0

    @property
    def number(self) -> int | None:
        """Of the next record; None: the state has to be rebuilt first."""
        return None if self._tail is None else self._tail.number

    def follow(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Apply the records that were written since.

        Args:
            stop: asked after each record whether to leave the rest.

        Returns:
            How many records were applied. 0 with `failure` set: the next call starts over.
        """
        count = 0
        try:
            if self._tail is None:
                self.fresh_starts += 1
                self.server.recover(self._records, repair=self._repair)
            assert self._tail is not None
            for record in self._tail.read():
                self.server.replay(record)
                count += 1
                self._point("following")
                if stop():
                    break
        except (ParameterServerError, OSError) as error:
            # Half a record may be applied, or one that does not count.
            self._tail = None
            self.failure = str(error)
            return 0
        except BaseException:
            self._tail = None
            raise
        self.failure = ""
        return count

    def _records(self, folder: Path, number: int) -> Iterator[Record]:
        # The place at the end of a recovery: which segment gave the last record matters.
        self._tail = Tail(folder, number)
        return self._tail.read()
