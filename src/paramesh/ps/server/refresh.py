"""What the answer to a push says about the rows that a worker caches.

Glossary
    moved       rows whose values for the next step differ from those for this one
    watch       a worker's question about a table: the rows that it needs in any case, and those
                that it needs only if they moved
    news        the answer: which rows moved, and the values of those that were requested

Rows move by the updates of all workers, and when they expire. A worker that learns of every row
that moved between any two steps that it reads has exactly what it would pull.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from paramesh.ps.server.store import Store, Undo
from paramesh.ps.server.tables import RowsUndo
from paramesh.ps.specification.partition import Partition

Array = np.ndarray[Any, Any]

NO_IDS: Array = np.empty(0, np.int64)


class Watch(NamedTuple):
    """A question about a table; ids sorted, each once, none in both."""

    wanted: Array
    watched: Array


class News(NamedTuple):
    """An answer about a table.

    Attributes:
        moved: the ids of the rows that moved, sorted; None: nobody knows, all of them may have.
        ids: of the rows that come with it, sorted.
        rows: their values for the next step.
    """

    moved: Array | None
    ids: Array
    rows: Array


@dataclasses.dataclass
class Refresh:
    """The questions that go with a push, by table, and once it is answered the news."""

    watches: dict[str, Watch]
    news: dict[str, News] = dataclasses.field(default_factory=dict)


def among(ids: Array, others: Array) -> Array:
    """For each id, whether it is among others, which are sorted."""
    if not len(others):
        return np.zeros(len(ids), bool)
    at = np.minimum(np.searchsorted(others, ids), len(others) - 1)
    return others[at] == ids


def moved_rows(undo: Undo) -> dict[str, Array]:
    """The rows that an update changed, sorted, by table."""
    found: dict[str, Array] = {}
    for name, change in undo.parts.items():
        if isinstance(change, RowsUndo):
            ids = change.ids
            if change.expired is not None:
                ids = np.union1d(ids, change.expired[0])
            found[name] = ids
    return found


def local_news(
    store: Store, watches: Mapping[str, tuple[Array, Array]], moved: Mapping[str, Array]
) -> dict[str, News]:
    """The answers of a store in this process, after an update that moved some rows."""
    return {
        name: news_of(Watch(*asked), moved.get(name, NO_IDS), functools.partial(store.read, name))
        for name, asked in watches.items()
    }


def news_of(watch: Watch, moved: Array | None, read: Callable[[Array], Array]) -> News:
    """The answer to a question.

    Args:
        watch: the question.
        moved: as in `News`.
        read: rows of the table for the next step, by sorted ids.
    """
    extra = watch.watched if moved is None else watch.watched[among(watch.watched, moved)]
    ids = watch.wanted if not len(extra) else np.union1d(watch.wanted, extra)
    return News(moved, ids, read(ids))


def split_watches(
    partition: Partition, watches: Mapping[str, Watch]
) -> list[dict[str, tuple[Array, Array]]]:
    """The questions for each server."""
    found: list[dict[str, tuple[Array, Array]]] = [{} for _ in range(partition.servers)]
    for name, watch in watches.items():
        wanted, watched = (partition.split_rows(ids) for ids in watch)
        for server, (mine, others) in enumerate(zip(wanted, watched, strict=True)):
            found[server][name] = watch.wanted[mine], watch.watched[others]
    return found


def join_news(parts: Iterable[Mapping[str, Any]]) -> dict[str, News]:
    """One answer for each table, from those of the servers."""
    by_name: dict[str, list[News]] = {}
    for part in parts:
        for name, news in part.items():
            by_name.setdefault(name, []).append(News(*news))
    return {name: _joined(news) for name, news in by_name.items()}


def _joined(news: list[News]) -> News:
    if len(news) == 1:
        return news[0]
    known = [one.moved for one in news if one.moved is not None]
    moved = np.sort(np.concatenate(known)) if len(known) == len(news) else None
    ids = np.concatenate([one.ids for one in news])
    order = np.argsort(ids)
    return News(moved, ids[order], np.concatenate([one.rows for one in news])[order])
