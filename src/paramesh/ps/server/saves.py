"""The checkpoints that a server takes part in.

Glossary
    save        one checkpoint, by its identity; `pending` until the server's part is written, or
                cannot be
    base        a state that an increment can go on from: a save, or what was loaded
    writing     this process writes; a standby only holds the version that is to be written

A save begins with a record in the log. So the version that it has is that of the record, also in a
server that was killed and repeats its log: it views the same version at the same place, and writes
its part while it goes on. Another record says that the part is there, or why it cannot be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from paramesh.array_types import Json
from paramesh.errors import ParameshError, ParameterServerError
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.snapshot_view import PATIENCE, SnapshotView
from paramesh.ps.processes import freed_memory
from paramesh.ps.server.background import BackgroundThread
from paramesh.ps.server.part_writer import write_part
from paramesh.ps.specification.checkpoints import SaveOrder

#: So many bases are known, and what became of so many saves.
_BASES, _ENDED = 256, 64
#: What became of a save that a server does not know, although it had begun.
LOST = (
    "the order to save it is not in the log of this server any more: a power failure without fsync "
    f"has taken it, or {_ENDED} later checkpoints were saved. Save it again"
)


class Base(NamedTuple):
    """A state that an increment can go on from.

    Attributes:
        version: of the server.
        tables: that can go on from it; None: all.
    """

    version: int
    tables: tuple[str, ...] | None = None


class Bases:
    """Those that a server knows, by identity; the latest ones."""

    def __init__(self) -> None:
        self._known: dict[str, Base] = {}

    def since(self, order: SaveOrder, offsets: Mapping[str, int]) -> dict[str, int | None]:
        """From which clock on the rows of each table have changed since the base of an order.

        Args:
            order: of a save.
            offsets: by table, of the clock.

        Returns:
            By table; None: all rows are saved.

        Raises:
            ParameterServerError: the base is not known.
        """
        if not order.base:
            return dict.fromkeys(order.tables)
        base = self._known.get(order.base)
        if base is None:
            raise ParameterServerError(
                "the checkpoint that was given as base is none that this run has saved or was "
                "loaded from completely, or the number of its servers has changed since: save a "
                "complete one, and use that as base."
            )
        found: dict[str, int | None] = {}
        for name, table in order.tables.items():
            goes_on = not table.complete and (base.tables is None or name in base.tables)
            found[name] = base.version + offsets[name] if goes_on else None
        return found

    def saved(self, identity: str, version: int) -> None:
        """A checkpoint is saved at a version."""
        self._add(identity, Base(version))

    def loaded(self, identity: str, table: str) -> None:
        """A table was loaded completely from a checkpoint, before the first update."""
        known = self._known.get(identity, Base(0, ()))
        if known.tables is not None:
            self._add(identity, Base(0, (*known.tables, table)))

    def _add(self, identity: str, base: Base) -> None:
        self._known.pop(identity, None)
        self._known[identity] = base
        while len(self._known) > _BASES:
            del self._known[next(iter(self._known))]

    def state(self) -> list[Json]:
        """For a snapshot."""
        return [[identity, base.version, base.tables] for identity, base in self._known.items()]

    def load(self, state: Iterable[Json]) -> None:
        """Take over what a snapshot has."""
        for identity, version, tables in state:
            self._known[identity] = Base(version, None if tables is None else tuple(tables))


@dataclasses.dataclass
class _Pending:
    order: SaveOrder
    version: int
    since: dict[str, int | None]
    view: SnapshotView
    writing: Future[None] | None = None


class Saves:
    """Of one server.

    Args:
        point: called with the name of every point that is reached.
        in_background: write in a thread, while updates go on.
        holding: hold the versions that are to be written.

    Attributes:
        bases: that increments can go on from.
        ended_later: the saves that are not begun while a log is repeated: it says further on that
            they have ended.
    """

    def __init__(
        self, point: Callable[[str], None], *, in_background: bool, holding: bool = True
    ) -> None:
        self._point = point
        self._in_background = in_background
        self._holding = holding
        self._writes = False
        self._thread = BackgroundThread("checkpoint")
        self.ended_later: frozenset[str] = frozenset()
        self._pending: dict[str, _Pending] = {}
        self.bases = Bases()
        self._ended: dict[str, str] = {}
        #: Why a version cannot be held, by save; no record says so yet.
        self._not_held: dict[str, str] = {}

    def forget(self) -> None:
        """Begin with none."""
        for one in self._pending.values():
            one.view.release()
        self._pending, self._ended, self._not_held = {}, {}, {}
        self.bases = Bases()

    @property
    def unfinished(self) -> bool:
        """Whether the log has to be kept, from where a save began."""
        return bool(self._pending or self._not_held)

    def knows(self, identity: str) -> bool:
        """Whether a save has begun."""
        return any(identity in known for known in (self._pending, self._not_held, self._ended))

    def begin(
        self,
        order: SaveOrder,
        version: int,
        since: dict[str, int | None],
        view: Callable[[], SnapshotView],
    ) -> None:
        """Begin a save; its record is in the log."""
        identity = order.identity
        self.bases.saved(identity, version)
        if not self._holding or identity in self.ended_later:
            return
        if identity in self._pending:  # begun by a server that was fenced, and again
            self._pending.pop(identity).view.release()
        try:
            one = _Pending(order, version, since, view())
        except ParameterServerError as error:
            self._not_held[identity] = str(error)
            return
        self._pending[identity] = one
        if self._writes:
            self._start(one)
        else:
            one.view.room.patience = 0.0  # nobody reads it yet

    def write(self, ended_later: frozenset[str] = frozenset()) -> None:
        """Write from now on: this process is the server, or becomes it."""
        self._writes, self.ended_later = True, ended_later
        for one in self._pending.values():
            one.view.room.patience = PATIENCE
            if one.writing is None:
                self._start(one)

    @property
    def lost(self) -> bool:
        """Whether a version that is to be written is not held any more: updates were too many."""
        return any(table.broken for one in self._pending.values() for table in one.view.tables)

    def _start(self, one: _Pending) -> None:
        if self._in_background and self._thread.available():
            one.writing = self._thread.submit(self._write, one)
            return
        one.writing = Future()
        try:
            one.writing.set_result(self._write(one))
        except Exception as error:
            one.writing.set_exception(error)

    def _write(self, one: _Pending) -> None:
        if self._in_background:
            freed_memory.give_back()
        try:
            write_part(one.order, one.view, one.version, one.since, self._point)
        finally:
            one.view.release()
            if self._in_background:
                freed_memory.give_back()

    def done(self) -> list[tuple[str, str]]:
        """The saves whose part is there, or cannot be written: identity, and why not."""
        found = list(self._not_held.items())
        for identity, one in self._pending.items():
            if one.writing is not None and one.writing.done():
                error = one.writing.exception()
                found.append((identity, "" if error is None else failure_of(error)))
        return found

    def end(self, identity: str, failure: str) -> None:
        """A save has ended, as a record says."""
        one = self._pending.pop(identity, None)
        if one is not None:
            one.view.release()
        self._not_held.pop(identity, None)
        self._ended[identity] = failure
        while len(self._ended) > _ENDED:
            del self._ended[next(iter(self._ended))]

    def result(self, identity: str) -> str | None:
        """Why a save has failed, or ""; None: it is not done."""
        return None if identity in self._pending else self._ended[identity]

    # For snapshots, in which nothing is pending.

    def state(self) -> dict[str, Json]:
        """What a snapshot has of them."""
        return {"bases": self.bases.state(), "saves": list(self._ended.items())}

    def load(self, meta: Mapping[str, Any]) -> None:
        """Take over what a snapshot has; older ones have nothing."""
        self.bases.load(meta.get("bases", ()))
        self._ended |= {identity: failure for identity, failure in meta.get("saves", ())}

    def wait(self) -> None:
        """Return when nothing is being written."""
        for one in self._pending.values():
            if one.writing is not None:
                one.writing.exception()

    def close(self) -> None:
        """As `wait`; nothing can be written afterwards."""
        self._thread.shutdown()


def ended_saves(records: Iterable[Record]) -> frozenset[str]:
    """The saves that have ended, by the records of a log without their arrays.

    Raises:
        ParameterServerError: a record is damaged or missing.
    """
    found: set[str] = set()
    for record in records:
        if record.meta["kind"] == "saved":
            found.add(record.meta["identity"])
        elif record.meta["kind"] == "save":
            found.discard(record.meta["order"]["identity"])
    return frozenset(found)


def failure_of(error: BaseException) -> str:
    """Why a part could not be written, for whoever waits for it."""
    if isinstance(error, OSError) and error.strerror:
        place = f" '{error.filename}'" if error.filename is not None else ""
        return f"{error.strerror}{place}"
    return str(error) if isinstance(error, ParameshError | OSError) else repr(error)
