"""The rows that the steps of a worker look up: when they are requested, and which way.

Glossary
    lookups     by table, the ids of each lookup in it; NO_ID for padding
    announced   the lookups of the step after the running one, if they are known
    plain       of a table: its rows do not go through a cache in this step
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from paramesh.parameter import Parameter
from paramesh.ps.client.cache import Lookup, RowCache
from paramesh.ps.client.lookups import Distinct, distinct, gathered
from paramesh.ps.client.ways import Way, Ways
from paramesh.ps.specification.id_range import inside

Array = np.ndarray[Any, Any]
Lookups = dict[Parameter, list[Array]]


class Source(Protocol):
    """What has the rows: a session.

    Attributes:
        caches: by name of a table.
        remote: the servers are in other processes.
    """

    caches: dict[str, RowCache]
    remote: bool

    def cache_of(self, table: Parameter) -> RowCache | None:
        """The cache of a table, if it has one."""
        ...

    def ask_ahead(self, wanted: Mapping[str, Array]) -> None:
        """Request rows that the next step will read."""
        ...

    def note(self, event: str, **facts: object) -> None:
        """Write down what people want to know."""
        ...


class _Known(NamedTuple):
    """Lookups in plain tables, and their different rows."""

    lookups: Lookups
    unique: dict[Parameter, Distinct]

    def of(self, lookups: Lookups) -> bool:
        """Whether these are the lookups."""
        return list(lookups) == list(self.lookups) and all(
            len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))
            for mine, theirs in zip(lookups.values(), self.lookups.values(), strict=True)
        )


class StepRows:
    """The rows of the steps of one session.

    Args:
        source: the session.
        trials: compare ways while the run goes on (see `ways`); without, rows are cached where
            there is a cache, and requested ahead where a batch is announced.
        clock: seconds.

    Attributes:
        ways: see `ways`.
    """

    def __init__(
        self, source: Source, *, trials: bool, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.ways = Ways()
        self._source = source
        self._trials = trials
        self._clock = clock
        self._announced: Lookups | None = None
        #: A batch was announced at some time.
        self._announcing = False
        #: Of the announced batch, and of the running step.
        self._following: _Known | None = None
        self._present: _Known | None = None
        self._began: float | None = None
        self._announcements = 0.0
        #: The way that was written down last.
        self._told = ""

    # One step, in the order of these.

    def announcing(self, lookups: Callable[[], Lookups]) -> None:
        """The batch of the step after the one that comes next is known."""
        began = self._clock()
        self._announcing = True
        self.ways.offer(self._offered())
        if self.ways.way.ahead:
            self._announced = found = lookups()
            for table in found if self.ways.way.cached else ():
                cache = self._source.cache_of(table)
                if cache is not None:
                    cache.follow(found[table])
        self._announcements = self._clock() - began

    def begin(self) -> None:
        """A step begins."""
        self._began = self._clock()

    def fetched(
        self,
        lookups: Lookups,
        rows_of: Callable[[dict[Parameter, Array]], dict[Parameter, Array]],
        rows_in: Callable[[Array], Any],
        cached: bool,
    ) -> list[Any]:
        """The rows of all lookups, on the device, in their order; one request to each server.

        Args:
            lookups: of the step.
            rows_of: gives rows of tables by their ids: sorted, each once.
            rows_in: what a program takes in of rows.
            cached: caches may be used.
        """
        own = self._looked_up_in_caches(lookups if cached else {})
        plain = {table: ids for table, ids in lookups.items() if table not in own}
        known, self._following = self._following, None
        known = known._replace(lookups=plain) if known and known.of(plain) else _known(plain)
        self._present = known
        wanted = {t: lookup.missing for t, (_, lookup) in own.items() if len(lookup.missing)}
        wanted |= {table: known.unique[table].ids for table in plain}
        pulled = rows_of(wanted)
        found: list[Any] = []
        for table in lookups:
            if table in own:
                cache, lookup = own[table]
                found += cache.finish(lookup, pulled.get(table))
            else:
                rows = pulled[table]
                found += [rows_in(gathered(rows, one)) for one in known.unique[table].places]
        return found

    def _looked_up_in_caches(self, lookups: Lookups) -> dict[Parameter, tuple[RowCache, Lookup]]:
        caches = {table: self._source.cache_of(table) for table in lookups}
        self.ways.offer(self._offered())
        found: dict[Parameter, tuple[RowCache, Lookup]] = {}
        for table, cache in caches.items():
            if cache is None:
                continue
            if not self.ways.way.cached:
                cache.rest()
                continue
            lookup = cache.begin(lookups[table])
            if lookup is not None:
                found[table] = cache, lookup
        return found

    def distinct_of(self, table: Parameter, lookups: Sequence[Array]) -> Distinct | None:
        """The different rows of lookups of the running step, if they are known."""
        known = self._present
        if known is None or table not in known.unique:
            return None
        mine = known.lookups[table]
        same = len(mine) == len(lookups) and all(a is b for a, b in zip(mine, lookups, strict=True))
        return known.unique[table] if same else None

    def ask_ahead(self, on_servers: Callable[[Parameter], bool]) -> None:
        """Request what the announced batch looks up, while the device computes.

        Args:
            on_servers: whether the servers have a table.
        """
        announced, self._announced = self._announced, None
        if announced is None or not self._source.remote:
            return
        plain: Lookups = {}
        for table, ids in announced.items():
            cached = self.ways.way.cached and self._source.cache_of(table) is not None
            if not cached:
                plain[table] = ids
        # What is wrong with them is an error of the call that looks them up.
        if not plain or not all(map(on_servers, plain)) or not _all_valid(plain):
            return
        self._following = known = _known(plain)
        self._source.ask_ahead({table.name: one.ids for table, one in known.unique.items()})

    def end(self) -> None:
        """The step is made."""
        self._present = None
        began, self._began = self._began, None
        spent, self._announcements = self._announcements, 0.0
        if began is None or not self.ways.took(self._clock() - began + spent):
            return
        if self._told != str(self.ways.choice):
            self._told = str(self.ways.choice)
            self._source.note("rows", **self.ways.facts())

    def _offered(self) -> list[Way]:
        """What there is, the way of the settings first."""
        cached = bool(self._source.caches)
        remote = self._source.remote
        ahead = self._announcing and (cached or remote)
        first = Way(cached, ahead)
        if not self._trials:
            return [first]
        others = [Way(False, ahead and remote), Way(False, False)]
        return list(dict.fromkeys([first, *others]))


def _known(lookups: Lookups) -> _Known:
    unique = distinct([(table.shape[0], ids) for table, ids in lookups.items()])
    return _Known(lookups, dict(zip(lookups, unique, strict=True)))


def _all_valid(lookups: Lookups) -> bool:
    """Whether all ids are rows of their tables, or padding."""
    return all(
        bool((inside(one, table.shape[0]) | (one == np.iinfo(np.int64).min)).all())
        for table, ids in lookups.items()
        for one in ids
    )
