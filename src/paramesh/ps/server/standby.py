"""A second copy of a server, which follows its log and can take over.

Glossary
    follow      read what the server has logged, and apply it to a state of one's own
    promote     turn a standby into the server: get the next incarnation, which fences the one
                before; read the rest of its log; go on with a segment of one's own

The log is all that the two have in common, so a standby can be wrong about nothing: it holds what
a restart would rebuild, only earlier. Whatever happens to it (it lags until segments are dropped,
it reads a record that does not count), it forgets everything and recovers from snapshot and log.

A fenced server can have answered nothing that is not in the log: it writes a record before it
answers, and looks after the write whether it still is the latest incarnation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.files.ownership import own_folder
from paramesh.ps.durability.log import start_incarnation
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.tail import Tail
from paramesh.ps.server.server import Server
from paramesh.ps.specification.protocol import RunConfig

#: Where a standby calls `point`: a record was applied; it has the next incarnation; all is read.
STANDBY_POINTS = ("following", "claimed", "caught up")


class Standby:
    """A copy of the server of a folder.

    Args:
        folder: of the server's log and snapshots.
        config: of the run.
        point: called with the name of every point that is reached.
        fsync: as for `Server`, after the promotion.
        snapshots_beside: likewise.

    Attributes:
        trouble: why the log could not be followed at the last try; empty if it could.
        fresh_starts: how often the state was rebuilt from snapshot and log.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        *,
        point: Callable[[str], None] | None = None,
        fsync: bool = False,
        snapshots_beside: bool = False,
    ) -> None:
        self.folder = folder
        own_folder(folder, make=True)
        self._point: Callable[[str], None] = point or (lambda name: None)
        self._server = Server(
            folder,
            config,
            point=point,
            fsync=fsync,
            snapshots_beside=snapshots_beside,
            following=True,
        )
        self._tail: Tail | None = None
        self.failure = ""
        self.fresh_starts = 0

    @property
    def version(self) -> int:
        """How many updates were followed."""
        return self._server.version

    def follow(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Apply what the log has got since.

        Args:
            stop: asked after each record whether to leave the rest.

        Returns:
            How many records were applied. 0 with `trouble` set: the next call starts over.
        """
        count = 0
        try:
            if self._tail is None:
                self.fresh_starts += 1
                self._server.recover(self._records)
            assert self._tail is not None
            for record in self._tail.read():
                self._server.replay(record)
                count += 1
                self._point("following")
                if stop():
                    break
        except (ParameterServerError, OSError) as error:
            # Half a record may be applied, or one that does not count.
            self._forget()
            self.failure = str(error)
            return 0
        except BaseException:
            self._forget()
            raise
        self.failure = ""
        return count

    def _records(self, folder: Path, number: int) -> Iterator[Record]:
        # The place at the end of a recovery: which segment gave the last record matters.
        self._tail = Tail(folder, number)
        return self._tail.read()

    def _forget(self) -> None:
        self._tail = None

    def stats(self) -> dict[str, Any]:
        """Numbers to watch: `version`, `record` (the next one), `fresh_starts`, `trouble`."""
        return {
            "version": self.version,
            "record": 0 if self._tail is None else self._tail.number,
            "fresh_starts": self.fresh_starts,
            "trouble": self.failure,
        }

    def promote(self, after: int) -> Server:
        """Take over; this standby must not be used any more.

        Args:
            after: the incarnation to take over from.

        Raises:
            Fenced: another incarnation than `after` is the latest; this standby can go on.
            ParameterServerError: the log is damaged.
            OSError: from the file system.
        """
        began = time.monotonic()
        incarnation = start_incarnation(self.folder, after)
        self._point("claimed")
        # What comes to an older segment from now on is not acknowledged by anybody.
        self.follow()
        number = self._server.recover() if self._tail is None else self._tail.number
        self._point("caught up")
        self._server.begin(incarnation, number, began)
        return self._server
