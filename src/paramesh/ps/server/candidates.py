"""The ids that a table has met and has not made a row for: how often, and when last.

A count of 0 is no candidate: the entry is there until the next `compact`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paramesh.ps.server.slab_index import Index

Array = np.ndarray[Any, Any]

NO_IDS: Array = np.empty(0, np.int64)


class Met(NamedTuple):
    """Candidates as they are at a moment; one entry for each id."""

    ids: Array
    counts: Array
    last: Array


NONE_MET = Met(NO_IDS, NO_IDS, NO_IDS)


class Candidates:
    """Counts by id."""

    def __init__(self) -> None:
        self._index = Index()
        self._counts = NO_IDS
        self._last = NO_IDS

    def _places(self, ids: Array) -> Array:
        """Where the entries of ids (each once) are, made for those that have none."""
        at = self._index.find(ids)
        fresh = np.flatnonzero(at < 0)
        if len(fresh):
            first = len(self._index)
            at[fresh] = np.arange(first, first + len(fresh))
            self._index.add(ids[fresh], at[fresh])
            if len(self._counts) < len(self._index):
                more = np.zeros(max(len(self._index), 1024), np.int64)
                self._counts = np.concatenate([self._counts, more])
                self._last = np.concatenate([self._last, more])
            self._counts[at[fresh]] = self._last[at[fresh]] = 0
        return at

    def get(self, ids: Array) -> Met:
        """The entries of some ids; 0 where there is none."""
        at = self._index.find(ids)
        known = at >= 0
        counts, last = (np.zeros(len(ids), np.int64) for _ in range(2))
        counts[known], last[known] = self._counts[at[known]], self._last[at[known]]
        return Met(ids, counts, last)

    def put(self, met: Met) -> None:
        """Give ids (each once) these entries."""
        if len(met.ids):
            at = self._places(met.ids)
            self._counts[at], self._last[at] = met.counts, met.last

    def drop(self, ids: Array) -> None:
        """Forget ids."""
        at = self._index.find(ids)
        self._counts[at[at >= 0]] = 0

    def everything(self) -> Met:
        """All candidates, by id."""
        ids, at = self._index.items()
        there = self._counts[at] > 0
        return Met(ids[there], self._counts[at[there]], self._last[at[there]])

    def compact(self) -> None:
        """Give up the memory of ids that were forgotten, once they are most."""
        live = int((self._counts[: len(self._index)] > 0).sum())
        if len(self._index) > 2 * live + 4096:
            held = self.everything()
            self.__init__()
            self.put(held)
