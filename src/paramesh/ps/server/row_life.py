"""Which rows of a table exist: admission, expiry, capacity, and the account of it.

Glossary
    admission   a row is created by an update that refers to it, from the `admit`-th on, and then
                with `probability`; earlier gradients are dropped
    expiry      every `expire` updates, the rows that occurred in none of them are dropped, and the
                counts of those that were not admitted
    capacity    the most rows that exist between updates; those are dropped that were updated
                longest ago
    account     how many rows were admitted, rejected (a gradient dropped by admission), expired and
                evicted (dropped by the capacity), and the latest of them
    clock       the number of updates so far. A table that was loaded from a checkpoint goes on with
                the clock that it had there: it is ahead of the server's version by an offset

Every decision is a function of the updates so far: their number is the clock, and chance is a hash
of the table's name, the id and the clock. A server that repeats its log decides the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.ps.server.candidates import NO_IDS, NONE_MET, Candidates, Met

Array = np.ndarray[Any, Any]

#: So many of the latest events are kept.
LATEST = 100
#: Below the capacity by this part once rows are dropped, so that it does not happen at every step.
_SLACK = 16

_EVENTS: Array = np.empty((0, 2), np.int64)


class Account(NamedTuple):
    """What happened to rows; never written to.

    Attributes:
        counts: of admitted, rejected, expired and evicted rows.
        admitted: (events, 2): the update and the id of the rows that were admitted last.
        dropped: the same of rows that expired or were evicted.
    """

    counts: Array = np.zeros(4, np.int64)
    admitted: Array = _EVENTS
    dropped: Array = _EVENTS

    def after(
        self, step: int, admitted: Array, rejected: int, expired: Array, evicted: Array
    ) -> Any:
        """The account after one more update; the arguments are ids, and a number."""
        dropped = np.concatenate([expired, evicted])
        if not (len(admitted) or rejected or len(dropped)):
            return self
        more = np.array([len(admitted), rejected, len(expired), len(evicted)], np.int64)
        return Account(
            self.counts + more,
            _with(self.admitted, step, admitted),
            _with(self.dropped, step, dropped),
        )


def _with(events: Array, step: int, ids: Array) -> Array:
    if not len(ids):
        return events
    ids = ids[-LATEST:]
    fresh = np.stack([np.full(len(ids), step, np.int64), ids], axis=1)
    return np.concatenate([events, fresh])[-LATEST:]


class LifeUndo(NamedTuple):
    """What one update changed: the candidates and the account as they were."""

    met: Met
    account: Account


class RowLife:
    """Decides which rows a table creates and drops.

    Args:
        spec: of the table (see `Store.declare`).

    Attributes:
        offset: by how much the clock is ahead of the server's version.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self.offset = 0
        self.admit: int = spec.get("admit", 1)
        self.probability: float = spec.get("admit_probability", 1.0)
        self.expire: int = spec.get("expire", 0)
        self.capacity: int = spec.get("max_rows", 0)
        self._salt = np.uint64(zlib.crc32(spec["name"].encode()))
        self._candidates = Candidates()
        self.account = Account()

    @property
    def admits(self) -> bool:
        """Whether an update may refer to a row and not create it."""
        return self.admit > 1 or self.probability < 1

    @property
    def limited(self) -> bool:
        """Whether rows are not simply created and kept."""
        return self.admits or self.expire > 0 or self.capacity > 0

    def meet(self, step: int, ids: Array) -> tuple[Array, LifeUndo]:
        """The update `step` refers to rows that do not exist: which of them it creates."""
        undo = LifeUndo(NONE_MET, self.account)
        admitted = ids
        if self.admits:
            before = self._candidates.get(ids)
            enough = before.counts + 1 >= self.admit
            if self.probability < 1:
                enough &= self._drawn(step, ids)
            admitted = ids[enough]
            # A count that is reached says no more: large ones need no memory of their own.
            counts = np.where(enough, 0, np.minimum(before.counts + 1, self.admit))
            self._candidates.put(Met(ids, counts, np.full(len(ids), step, np.int64)))
            undo = undo._replace(met=before)
        if self.limited:
            rejected = len(ids) - len(admitted)
            self.account = self.account.after(step, admitted, rejected, NO_IDS, NO_IDS)
        return admitted, undo

    def _drawn(self, step: int, ids: Array) -> Array:
        """Whether chance admits ids at an update."""
        word = _mixed(ids.astype(np.uint64) ^ _mixed(self._salt ^ _mixed(np.uint64(step))))
        return (word >> np.uint64(11)).astype(np.int64) < int(self.probability * (1 << 53))

    def due(self, step: int, rows: int) -> bool:
        """Whether rows may have to be dropped after an update, in a table that has so many."""
        return self._expires(step) or 0 < self.capacity < rows

    def _expires(self, step: int) -> bool:
        return self.expire > 0 and (step + 1) % self.expire == 0

    def leaving(self, step: int, ids: Array, last: Array, undo: LifeUndo) -> tuple[Array, LifeUndo]:
        """Which of all rows are dropped after an update; candidates are forgotten alike.

        Args:
            step: the update.
            ids: of all rows, sorted.
            last: the update that each occurred in last.
            undo: from `meet`.

        Returns:
            (rows,) bool, and the undo of both.
        """
        expired, evicted = self._going(step, ids, last)
        self.account = self.account.after(step, NO_IDS, 0, ids[expired], ids[evicted])
        if self.admits:
            met = self._candidates.everything()
            old, over = self._going(step, met.ids, met.last)
            gone = Met(*(part[old | over] for part in met))
            self._candidates.drop(gone.ids)
            self._candidates.compact()
            # Of an id that this update met, what was before it counts.
            others = ~np.isin(gone.ids, undo.met.ids)
            pairs = zip(undo.met, gone, strict=True)
            undo = undo._replace(met=Met(*(np.concatenate([a, b[others]]) for a, b in pairs)))
        return expired | evicted, undo

    def _going(self, step: int, ids: Array, last: Array) -> tuple[Array, Array]:
        """Which ids have expired, and which of the others are too many."""
        expired = np.zeros(len(ids), bool)
        if self._expires(step):
            expired = last <= step - self.expire
        evicted = np.zeros(len(ids), bool)
        kept = np.flatnonzero(~expired)
        if 0 < self.capacity < len(kept):
            count = len(kept) - (self.capacity - self.capacity // _SLACK)
            evicted[kept[np.lexsort((ids[kept], last[kept]))[:count]]] = True
        return expired, evicted

    def undo(self, undo: LifeUndo) -> None:
        """Take back what the last update changed."""
        self._candidates.put(undo.met)
        self.account = undo.account

    def before(self, undos: Sequence[LifeUndo]) -> dict[str, Array]:
        """As `dump`, as it was before some updates, the earliest first."""
        if not undos or not self.limited:
            return self.dump()
        twin = RowLife(self._spec)
        twin.load(self.dump())
        for undo in reversed(undos):
            twin.undo(undo)
        return twin.dump()

    def dump(self) -> dict[str, Array]:
        """All of it, by field; nothing of a table whose rows are created and kept."""
        if not self.limited:
            return {}
        met = self._candidates.everything()
        found: dict[str, Array] = {}
        if self.offset:
            found["offset"] = np.array([self.offset], np.int64)
        if len(met.ids):
            found |= {"candidates": met.ids, "meetings": met.counts, "met_last": met.last}
        if self.account.counts.any():
            found["account"] = self.account.counts
            found |= {"admitted": self.account.admitted, "dropped": self.account.dropped}
        return found

    def load(self, fields: dict[str, Array]) -> None:
        """Take over what `dump` gave; older snapshots have neither `met_last` nor the account."""
        if "candidates" in fields:
            ids = fields["candidates"]
            last = fields.get("met_last", np.zeros(len(ids), np.int64))
            self._candidates.put(Met(ids, fields["meetings"], last))
        if "account" in fields:
            parts = (fields[field].copy() for field in ("account", "admitted", "dropped"))
            self.account = Account(*parts)
        if "offset" in fields:
            self.offset = int(fields["offset"][0])

    def report(self) -> dict[str, Any]:
        """The account as plain data, and how many candidates there are."""
        names = ("admitted", "rejected", "expired", "evicted")
        return {
            **dict(zip(names, self.account.counts.tolist(), strict=True)),
            "candidates": len(self._candidates.everything().ids),
            "last_admitted": self.account.admitted.tolist(),
            "last_dropped": self.account.dropped.tolist(),
        }


def _mixed(words: Any) -> Any:
    """The finalizer of splitmix64 (Steele et al. 2014): a bijection of 64-bit words."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
