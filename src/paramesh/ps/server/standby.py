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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paramesh.files.ownership import own_folder
from paramesh.ps.durability.log import start_incarnation
from paramesh.ps.server.follower import LogFollower
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
        claimed: called in `promote` when it has the next incarnation; what it raises ends it.
        elastic, leads: as for `Server`.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        *,
        point: Callable[[str], None] | None = None,
        fsync: bool = False,
        snapshots_beside: bool = False,
        claimed: Callable[[], None] = lambda: None,
        elastic: bool = False,
        leads: bool = True,
    ) -> None:
        self.folder = folder
        own_folder(folder, make=True)
        self._claimed = claimed
        self._point: Callable[[str], None] = point or (lambda name: None)
        self._server = Server(
            folder,
            config,
            point=point,
            fsync=fsync,
            snapshots_beside=snapshots_beside,
            following=True,
            elastic=elastic,
            leads=leads,
        )
        self._follower = LogFollower(self._server, folder, point=point, repair=True)

    @property
    def version(self) -> int:
        """How many updates were followed."""
        return self._server.version

    @property
    def failure(self) -> str:
        """Why the log could not be followed at the last try; empty if it could."""
        return self._follower.failure

    @property
    def fresh_starts(self) -> int:
        """How often the state was rebuilt from snapshot and log."""
        return self._follower.fresh_starts

    def follow(self, stop: Callable[[], bool] = lambda: False) -> int:
        """As `LogFollower.follow`."""
        return self._follower.follow(stop)

    def stats(self) -> dict[str, Any]:
        """Numbers to watch: `version`, `record` (the next one), `fresh_starts`, `trouble`."""
        return {
            "version": self.version,
            "record": self._follower.number or 0,
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
        self._claimed()
        self._point("claimed")
        # What comes to an older segment from now on is not acknowledged by anybody.
        self.follow()
        number = self._follower.number
        if number is None or self._server.saves.lost:
            number = self._server.recover(serving=True)
        self._point("caught up")
        self._server.begin(incarnation, number, began)
        return self._server
