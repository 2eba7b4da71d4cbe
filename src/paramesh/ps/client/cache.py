"""Hot rows of a table on the device of a worker: the implementation of `vocab_cache_size`.

Glossary
    slot        the place of one row in the device's table; an additional one, of zeros, is for
                indices outside of the table
    entry       what is known of an id that was looked up recently, whether it has a slot or not
    current     a cached row that equals what the servers would return for the worker's step
    ready       rows that have arrived and get their slots with the next lookup
    following   the ids of the announced next batch
    moving      rows that the answer to the present push will report as changed, as far as known

The servers own the optimizer, so a trained row has other values after every step that uses it. New
values come with the answer to the push, in the same call: those that the next batch lacks, if it is
known; otherwise those of rows of this batch that were used before. The answer also reports which
rows other workers changed. Rows that are not current are pulled when they are looked up, so a wrong
guess never changes a result. So a cache may rest for some steps: nothing in it is current then.
Rows are gathered outside of the program that uses them, which is the same program, with the same
bits, as without a cache.

Slots are evicted by GCLOCK (Smith 1978): a hand goes round, takes one use from each slot that it
passes, and stops at a slot without uses.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import DTypeLike

from paramesh._compat.jax import eval_context
from paramesh.dtype import is_64bit, x64_if
from paramesh.ps.server.refresh import NO_IDS, Array, News, Watch, among
from paramesh.ps.server.slab_index import Index
from paramesh.ps.specification.id_range import inside

Pull = Callable[[Array], Array]

#: So many uses are remembered of a slot.
_USES = 3
#: Rows are written to the device in groups of these sizes, doubled: each is a program of its own.
_LEAST = 64


@dataclasses.dataclass
class Counts:
    """What became of lookups in one table.

    Attributes:
        looked_up: different rows, added up over the steps.
        hits: of these, those that were here and current when their step began.
        pulled: rows that a step waited for before it began.
        prefetched: rows that came with the answer to a push because the next batch lacks them.
        refreshed: rows that came with it because the push has changed them.
        evicted: rows that lost their slots to others.
        oversized: steps that looked up more rows than fit; they went past the cache.
    """

    looked_up: int = 0
    hits: int = 0
    pulled: int = 0
    prefetched: int = 0
    refreshed: int = 0
    evicted: int = 0
    oversized: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The numbers, and `hit_rate`, the fraction of the different rows that were hits."""
        rate = self.hits / self.looked_up if self.looked_up else 0.0
        return dataclasses.asdict(self) | {"hit_rate": rate}


class Lookup(NamedTuple):
    """A lookup of which the missing rows are being pulled.

    Attributes:
        unique: the different ids, sorted.
        missing: those that have to be pulled.
        places: for each index inside of the table, where it is in `unique`.
        inside: which indices are inside of the table.
        lengths: of the lists of indices.
    """

    unique: Array
    missing: Array
    places: Array
    inside: Array
    lengths: list[int]


class RowCache:
    """Rows of one table.

    Args:
        name: of the table.
        rows: of the full table.
        row_shape: of a row.
        dtype: numpy's, of a row.
        capacity: slots.
        lag: steps until the servers' answer knows of a push: the staleness.
        shared: rows change by others than this worker's pushes.
    """

    def __init__(
        self,
        name: str,
        rows: int,
        row_shape: tuple[int, ...],
        dtype: DTypeLike,
        capacity: int,
        *,
        lag: int = 0,
        shared: bool = False,
    ) -> None:
        self.name, self.rows, self.capacity = name, rows, min(capacity, rows)
        self._row_shape, self._dtype = tuple(row_shape), np.dtype(dtype)
        self._shared = shared
        self._pushes: deque[Array] = deque(maxlen=lag + 1)
        self.counts = Counts()
        self.clear()

    def clear(self) -> None:
        """Forget every row."""
        self._table: Any = None
        self._index = Index()
        self._slot_of = np.full(1024, -1, np.int64)
        self._owner = np.full(self.capacity, -1, np.int64)
        #: The id of the row in each slot.
        self._id_in_slot = np.full(self.capacity, -1, np.int64)
        self._current = np.zeros(self.capacity, bool)
        self._uses = np.zeros(self.capacity, np.int8)
        self._hand = 0
        self._drop_ready()
        self._following: Array | None = None
        #: Rows of the following batch that were requested because they are not here.
        self._lacked = NO_IDS
        self.resting = False

    def rest(self) -> None:
        """Some steps go past the cache: when it is used again, nothing in it is current."""
        if not self.resting:
            self._pushes.clear()
            self._current[:] = False
            self._drop_ready()
            self._following, self._lacked = None, NO_IDS
            self.resting = True

    def share(self) -> None:
        """From now on rows change by others than this worker's pushes."""
        self._shared = True
        self.rest()

    def _drop_ready(self) -> None:
        self._ready_ids = NO_IDS
        self._ready = np.empty((0, *self._row_shape), self._dtype)

    # Lookups.

    def lookup(self, ids: Sequence[Array], pull: Pull) -> list[Any] | None:
        """Rows for several lists of indices, gathered on the device; zeros for indices outside.

        Args:
            ids: flat lists of integers.
            pull: gives rows by their ids (sorted, each once) for the step that the worker is at.

        Returns:
            An array of the device for each list; None: they are more rows than there are slots.
        """
        lookup = self.begin(ids)
        if lookup is None:
            return None
        return self.finish(lookup, pull(lookup.missing) if len(lookup.missing) else None)

    def begin(self, ids: Sequence[Array]) -> Lookup | None:
        """Find out which rows of a lookup have to be pulled; `finish` ends it.

        Args:
            ids: flat lists of integers.

        Returns:
            None: they are more rows than there are slots.
        """
        self.resting = False
        everything = np.concatenate([one.astype(np.int64) for one in ids])
        there = inside(everything, self.rows)
        unique, places = np.unique(everything[there], return_inverse=True)
        self.counts.looked_up += len(unique)
        if len(unique) > self.capacity:
            self._say_oversized(len(unique))
            return None
        missing = unique[~self._is_current(unique) & ~among(unique, self._ready_ids)]
        return Lookup(unique, missing, places, there, [len(one) for one in ids])

    def finish(self, lookup: Lookup, pulled: Array | None) -> list[Any]:
        """The rows of a lookup, gathered on the device.

        Args:
            lookup: from `begin`, of this step.
            pulled: the rows of `lookup.missing`; None if there are none.
        """
        unique, missing = lookup.unique, lookup.missing
        if pulled is None:
            pulled = self._ready[:0]
        self.counts.hits += len(unique) - len(missing)
        self.counts.pulled += len(missing)
        slots = self._placed(unique)
        fresh_ids = np.concatenate([self._ready_ids, missing])
        fresh = np.concatenate([self._ready, pulled.astype(self._dtype, copy=False)])
        at = self._slots(fresh_ids)
        kept = at >= 0  # what was fetched ahead for nothing, and has no slot, is left out
        self._current[at[kept]] = True
        self._drop_ready()
        wanted = np.full(len(lookup.inside), self.capacity, np.int32)
        wanted[lookup.inside] = slots[lookup.places]
        return self._gathered(
            at[kept], fresh[kept], np.split(wanted, np.cumsum(lookup.lengths)[:-1])
        )

    def _say_oversized(self, count: int) -> None:
        if not self.counts.oversized:
            warnings.warn(
                f"Parameter '{self.name}': a step looks up {count} different rows, and "
                f"vocab_cache_size={self.capacity} is too small for them. Such steps bypass the "
                f"cache; set it to at least the largest number of rows in a batch.",
                stacklevel=2,
            )
        self.counts.oversized += 1

    def _gathered(self, at: Array, rows: Array, wanted: list[Array]) -> list[Any]:
        with eval_context(), x64_if(is_64bit(rows)):
            if self._table is None:
                self._table = jax.device_put(
                    np.zeros((self.capacity + 1, *self._row_shape), self._dtype), may_alias=False
                )
            if not len(at):
                return _read(self._table, wanted)
            size = _LEAST
            while size < len(at):
                size *= 2
            padded = np.full(size, self.capacity + 1, np.int32)  # beyond the table: dropped
            padded[: len(at)] = at
            values = np.zeros((size, *self._row_shape), self._dtype)
            values[: len(at)] = rows
            table, self._table = self._table, None
            try:
                self._table, found = _written_and_read(table, padded, values, wanted)
            except BaseException:
                self.clear()  # the table was given away
                raise
            return found

    # Slots.

    def _slots(self, ids: Array) -> Array:
        entries = self._index.find(ids)
        slots = np.full(len(ids), -1, np.int64)
        known = entries >= 0
        slots[known] = self._slot_of[entries[known]]
        return slots

    def _is_current(self, ids: Array) -> Array:
        slots = self._slots(ids)
        current = slots >= 0
        current[current] = self._current[slots[current]]
        return current

    def _placed(self, ids: Array) -> Array:
        """The slots of ids (sorted, each once), made for those that have none."""
        self._forget()
        entries = self._index.find(ids)
        new = entries < 0
        if new.any():
            entries[new] = self._entered(ids[new])
        slots = self._slot_of[entries]
        there = slots >= 0
        self._uses[slots[there]] = np.minimum(self._uses[slots[there]] + 1, _USES)
        homeless = ~there
        if homeless.any():
            free = self._freed(int(homeless.sum()), slots[there])
            slots[homeless] = free
            self._slot_of[entries[homeless]] = free
            self._owner[free] = entries[homeless]
            self._id_in_slot[free] = ids[homeless]
            self._current[free] = False
            # Those that were here before come back with a use.
            self._uses[free] = ~new[homeless]
        return slots

    def _forget(self) -> None:
        """End the entries without a slot, once they are many."""
        if len(self._index) <= 4 * self.capacity + 4096:
            return
        taken = np.flatnonzero(self._owner >= 0)
        self._index = Index()
        self._index.add(self._id_in_slot[taken], np.arange(len(taken)))
        self._slot_of[:] = -1
        self._slot_of[: len(taken)] = taken
        self._owner[taken] = np.arange(len(taken))

    def _entered(self, ids: Array) -> Array:
        first = len(self._index)
        entries = np.arange(first, first + len(ids))
        self._index.add(ids, entries)
        while len(self._slot_of) < len(self._index):
            more = np.full(len(self._slot_of), -1, np.int64)
            self._slot_of = np.concatenate([self._slot_of, more])
        return entries

    def _freed(self, count: int, needed: Array) -> Array:
        """Slots for others, taken from those that need not stay."""
        pinned = np.zeros(self.capacity, bool)
        pinned[needed] = True
        found: list[Array] = []
        while count:
            window = min(self.capacity, max(4 * count, 1024))
            at = (self._hand + np.arange(window)) % self.capacity
            idle = np.flatnonzero((self._uses[at] == 0) & ~pinned[at])[:count]
            if len(idle) == count:
                at = at[: idle[-1] + 1]
            self._hand = int(at[-1] + 1) % self.capacity
            self._uses[at] = np.maximum(self._uses[at] - 1, 0)
            pinned[at[idle]] = True
            found.append(at[idle])
            count -= len(idle)
        slots = np.concatenate(found)
        owned = slots[self._owner[slots] >= 0]
        self._slot_of[self._owner[owned]] = -1
        self.counts.evicted += len(owned)
        return slots

    # What comes next.

    def follow(self, ids: Sequence[Array]) -> None:
        """These indices are said to be looked up by the next step."""
        everything = np.concatenate([one.astype(np.int64) for one in ids])
        unique = np.unique(everything[inside(everything, self.rows)])
        self._following = unique if len(unique) <= self.capacity else None

    def pushing(self, ids: Array) -> None:
        """A push of these rows (sorted) is on its way."""
        self._pushes.append(ids)

    def _moving(self) -> Array:
        return self._pushes[0] if len(self._pushes) == self._pushes.maxlen else NO_IDS

    def _lacking(self) -> Array:
        assert self._following is not None
        here = self._is_current(self._following) | among(self._following, self._ready_ids)
        return self._following[~here]

    def watch(self) -> Watch:
        """What to ask with the push."""
        following, moving = self._following, self._moving()
        if following is None:
            slots = self._slots(moving)
            kept = slots >= 0
            kept[kept] = self._uses[slots[kept]] > 0
            return Watch(moving[kept], NO_IDS)
        self._lacked = self._lacking()
        wanted = among(following, moving) | among(following, self._lacked)
        return Watch(following[wanted], following[~wanted] if self._shared else NO_IDS)

    def take(self, news: News | None) -> None:
        """The push was answered: the worker is at its next step."""
        self._following = None
        if news is None or news.moved is None:
            self._current[:] = False
            self._drop_ready()
        else:
            slots = self._slots(news.moved)
            self._current[slots[slots >= 0]] = False
            stays = ~among(self._ready_ids, news.moved)
            self._ready_ids, self._ready = self._ready_ids[stays], self._ready[stays]
        lacked, self._lacked = self._lacked, NO_IDS
        if news is not None and len(news.ids):
            self._arrived(news.ids, news.rows)
            prefetched = int(among(lacked, news.ids).sum())
            self.counts.prefetched += prefetched
            self.counts.refreshed += len(news.ids) - prefetched

    def _arrived(self, ids: Array, rows: Array) -> None:
        stays = ~among(self._ready_ids, ids)
        everything = np.concatenate([self._ready_ids[stays], ids])
        order = np.argsort(everything)
        self._ready_ids = everything[order]
        self._ready = np.concatenate([self._ready[stays], rows])[order]


@jax.jit
def _read(table: jax.Array, wanted: list[Any]) -> list[Any]:
    return [table[slots] for slots in wanted]


@functools.partial(jax.jit, donate_argnums=0)
def _written_and_read(table: jax.Array, at: jax.Array, rows: jax.Array, wanted: list[Any]) -> Any:
    table = table.at[at].set(rows, mode="drop")
    return table, [table[slots] for slots in wanted]
