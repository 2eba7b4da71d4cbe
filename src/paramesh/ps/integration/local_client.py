"""Servers in the process of the only worker: their stores, and nothing between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.integration.client import Array, Update
from paramesh.ps.integration.local_checkpoints import LocalCheckpoints
from paramesh.ps.server.refresh import Refresh, join_news, local_news, moved_rows, split_watches
from paramesh.ps.specification.specs import known_among
from paramesh.telemetry.journal import Json


class LocalClient(LocalCheckpoints):
    """Servers in this process, for one worker.

    Args:
        servers: how many stores.
    """

    rank = 0
    workers = 1
    start = 0
    incarnation = 0

    def workers_at(self, step: int) -> int:
        """As in `Client`."""
        return self.workers

    def divide(self) -> None:
        """There are no others."""

    def __init__(self, servers: int) -> None:
        super().__init__(servers)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """As in `Client`."""
        for spec in specs:
            pieces = self.partition.split_spec(spec)
            for store, mine in zip(self.stores, pieces, strict=True):
                for piece in mine:
                    store.declare(piece)
            if spec["kind"] == "dense":
                self._shapes[spec["name"]] = tuple(spec["shape"])
        for name, array in values.items():
            split = self.partition.split_values(name, array)
            for store, mine in zip(self.stores, split, strict=True):
                for piece, part in mine.items():
                    store.put(piece, part)

    def known(self, specs: list[dict[str, Any]]) -> list[str]:
        """As in `Client`."""
        there = [store.specs().values() for store in self.stores]
        names = known_among(self.partition, specs, there)
        for spec in specs:
            if spec["kind"] == "dense" and spec["name"] in names:
                self._shapes[spec["name"]] = tuple(spec["shape"])
        return names

    def step(
        self,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        wanted: Iterable[str],
        refresh: Refresh | None = None,
    ) -> dict[str, Array]:
        """As in `Client`."""
        self.steps += 1
        split = self.partition.split_updates(updates)
        moved: list[dict[str, Array]] = []
        for store, mine in zip(self.stores, split, strict=True):
            moved.append(moved_rows(store.apply(step, mine, hyper)))
        if refresh is not None:
            questions = split_watches(self.partition, refresh.watches)
            refresh.news = join_news(map(local_news, self.stores, questions, moved))
        return self.pull(step + 1, wanted)

    def pull(self, step: int, wanted: Iterable[str]) -> dict[str, Array]:
        """As in `Client`."""
        found: dict[str, Array] = {}
        for name in wanted:
            shape = self._shapes[name]
            pieces = {
                part.name: self.stores[part.server].read(part.name)
                for part in self.partition.pieces(name, math.prod(shape))
            }
            found[name] = self.partition.join_values(name, shape, pieces)
        return found

    def ask_ahead(self, step: int, wanted: Mapping[str, Array]) -> None:
        """Nothing is far away."""

    def pull_tables(self, step: int, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """As in `Client`."""
        if len(self.stores) == 1:
            return self.stores[0].read_tables(wanted)
        return {name: self._pull_rows(name, ids) for name, ids in wanted.items()}

    def _pull_rows(self, name: str, ids: Array) -> Array:
        parts = self.partition.split_rows(ids)
        rows = [s.read(name, ids[mine]) for s, mine in zip(self.stores, parts, strict=True)]
        out = np.empty((len(ids), *rows[0].shape[1:]), rows[0].dtype)
        for mine, values in zip(parts, rows, strict=True):
            out[mine] = values
        return out

    def items(self, name: str, count: int) -> Iterator[tuple[Array, Array]]:
        """As in `Client`."""
        at = self.steps
        for store in self.stores:
            everything = store.rows(name)
            for first in range(0, len(everything), count):
                if self.steps != at:
                    raise ParameterServerError(
                        f"Parameter '{name}' was iterated, and a step was made meanwhile: finish "
                        "the iteration before the next step."
                    )
                ids = everything[first : first + count]
                yield ids, store.read(name, ids)

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> None:
        """As in `Client`."""
        if ids is not None:
            for store, mine in zip(self.stores, self.partition.split_rows(ids), strict=True):
                for field, rows in fields.items():
                    store.put(name, rows[mine], ids=ids[mine], field=field)
            return
        for field, values in fields.items():
            split = self.partition.split_values(name, values)
            for store, pieces in zip(self.stores, split, strict=True):
                for piece, part in pieces.items():
                    store.put(piece, part, field=field)

    def dump(self, name: str) -> dict[str, Array]:
        """As in `Client`."""
        if name in self._shapes:
            return self._dump_dense(name, self._shapes[name])
        parts = [store.rows(name) for store in self.stores]
        ids = np.concatenate(parts)
        order = np.argsort(ids)
        found = {"ids": ids[order]}
        for field in self.stores[0].fields(name):
            rows = [
                s.read(name, mine, field=field) for s, mine in zip(self.stores, parts, strict=True)
            ]
            found[field] = np.concatenate(rows)[order]
        return found

    def _dump_dense(self, name: str, shape: tuple[int, ...]) -> dict[str, Array]:
        pieces = self.partition.pieces(name, math.prod(shape))
        first = pieces[0]
        found: dict[str, Array] = {}
        for field in self.stores[first.server].fields(first.name):
            values = {
                part.name: self.stores[part.server].read(part.name, field=field) for part in pieces
            }
            found[field] = self.partition.join_values(name, shape, values)
        return found

    def stats(self) -> list[dict[str, Any]]:
        """As in `Client`."""
        return [{"life": store.life()} for store in self.stores]

    def note(self, event: str, **facts: object) -> None:
        """There is no file of events."""

    def place(self) -> dict[str, Json]:
        """As in `Client`."""
        return {}

    def close(self) -> None:
        """Nothing to end."""
