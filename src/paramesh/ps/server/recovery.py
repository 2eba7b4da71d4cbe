"""How a server rebuilds its state from snapshots and log.

The newest snapshot and the log after it are tried first. If one of them is damaged, an older
snapshot with more of the log is used, and last the complete log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.snapshot import Snapshot, snapshots
from paramesh.ps.specification.protocol import RunConfig

#: Reads the log of a folder from a record on.
ReadLog = Callable[[Path, int], Iterable[Record]]


class Recoverable(Protocol):
    """What is recovered: a `Server`."""

    folder: Path
    config: RunConfig
    version: int
    reach: Callable[[str], None]

    def clear(self) -> None:
        """Forget everything that was recovered."""
        ...

    def load_snapshot(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot."""
        ...

    def replay(self, record: Record) -> None:
        """Apply one record of the log."""
        ...


def recover(
    server: Recoverable, records: ReadLog, repair: bool, foresee: Callable[[int], None]
) -> int:
    """Rebuild the state of a server that has none; the number of the next record.

    Args:
        server: gets the state.
        records: reads its log.
        repair: remove damaged snapshots that others replace.
        foresee: called at each try, before the log is repeated from a record on. What the server
            wants to know of later records may be in no others: those before may be damaged.

    Raises:
        ParameterServerError: log and snapshots are damaged, or belong to a run with another config.
    """
    reasons: list[str] = []
    damaged: list[Snapshot] = []
    listed = snapshots(server.folder)
    # As a last resort without the versions before it: the state is right, and only what a restarted
    # worker may ask for raises an error there.
    tries = [(snapshot, False) for snapshot in [*listed, None]]
    tries += [(snapshot, True) for snapshot in listed]
    for snapshot, short in tries:
        if snapshot in damaged:
            continue
        try:
            number = _recover_from(server, snapshot, records, short, foresee)
        except ParameterServerError as error:
            reasons.append(str(error))
            damaged += [] if snapshot is None else [snapshot]
        else:
            # A log that ends before a snapshot began has lost records: never start afresh.
            if number is not None and (not listed or number >= listed[0].number):
                for one in (
                    damaged if repair else ()
                ):  # or they would be kept in the place of good ones
                    one.path.unlink(missing_ok=True)
                return number
            reasons.append(f"the log ends before it can replace {snapshot or 'all of it'}")
        server.clear()
    raise ParameterServerError(
        f"the server of '{server.folder}' cannot be recovered: {'; '.join(reasons)}"
    )


def _recover_from(
    server: Recoverable,
    snapshot: Snapshot | None,
    records: ReadLog,
    short: bool,
    foresee: Callable[[int], None],
) -> int | None:
    number = 0
    if snapshot is not None:
        server.load_snapshot(snapshot)
        number = snapshot.number
    foresee(number)
    for record in records(server.folder, number):
        server.reach("recovering")
        server.replay(record)
        number = record.number + 1
    behind = min(server.config.behind, server.version)
    if snapshot is not None and not short and server.version - snapshot.version < behind:
        # Versions that a restarted worker may ask for lie before this snapshot.
        return None
    return number
