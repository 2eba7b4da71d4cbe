"""The Parameters of a server at the versions that can be read.

What is read changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from paramesh.ps.durability.record import Array
from paramesh.ps.server.history import History
from paramesh.ps.server.store import Store
from paramesh.ps.specification.protocol import RunConfig


class VersionedParameters:
    """Parameters, and what is known of their last versions.

    Args:
        config: of the run.

    Attributes:
        store: the present version.
        version: how many updates were applied.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.forget()

    def forget(self) -> None:
        """Begin with no Parameters."""
        self.store = Store()
        self.version = 0
        self._history = History(self.store, self.config)
        #: Names of the dense Parameters that have values.
        self._valued: set[str] = set()
        #: Of the table that was iterated last: name, version and sorted ids.
        self._sorted: tuple[str, int, Array] | None = None

    def dump(self, name: str) -> dict[str, Array]:
        """Values and optimizer state of a Parameter by field, at the present version.

        `ids` with it for a table.

        Raises:
            ParameterStateError: no such Parameter.
        """
        kind = self.store.specs().get(name, {}).get("kind")
        ids = self.store.rows(name) if kind == "rows" else None
        found = {} if ids is None else {"ids": ids}
        return found | {f: self.store.read(name, ids, field=f) for f in self.store.fields(name)}

    def items(self, name: str, after: int, count: int) -> tuple[Array, Array]:
        """Trained rows of a table at the present version: the next ones after an id.

        Args:
            name: of the table.
            after: the ids are larger; NO_ID for the first ones.
            count: the most rows.

        Returns:
            ids, sorted, and their rows.

        Raises:
            ParameterStateError: no such table.
        """
        ids, _ = self._next_ids(name, after, count)
        return ids, self.store.read(name, ids)

    def dump_rows(self, name: str, after: int, count: int) -> tuple[dict[str, Array], int]:
        """As `items`, with the state of the optimizer; and how many rows come after the id.

        Raises:
            ParameterStateError: no such table.
        """
        ids, left = self._next_ids(name, after, count)
        fields = {f: self.store.read(name, ids, field=f) for f in self.store.fields(name)}
        return {"ids": ids, **fields}, left

    def _next_ids(self, name: str, after: int, count: int) -> tuple[Array, int]:
        """The next rows of a table that are trained, by their ids; and how many come after `after`.

        The sorted ids of all rows are kept from one block to the next, up to the last one.
        """
        known = self._sorted
        if known is None or known[:2] != (name, self.version):
            known = self._sorted = name, self.version, self.store.rows(name)
        first = int(np.searchsorted(known[2], after, "right"))
        left = len(known[2]) - first
        if left <= count:
            self._sorted = None
        return known[2][first : first + min(count, left)].copy(), left

    def ready(self, names: Iterable[str]) -> bool:
        """Whether all of these Parameters can be read."""
        specs = self.store.specs()
        return all(
            name in specs and (name in self._valued or specs[name].get("recipe") is not None)
            for name in names
        )

    def known(self) -> list[dict[str, Any]]:
        """The specs of the Parameters that can be read."""
        return [spec for name, spec in self.store.specs().items() if self.ready([name])]

    def released(self, step: int) -> bool:
        """Whether `step` can read: the version that it reads is there."""
        return self.config.mode == "async" or self.config.version_read(step) <= self.version

    def read(self, step: int, name: str, ids: Array | None = None) -> Array:
        """The values that a step reads: dense ones, or rows of a table.

        Raises:
            VersionGone: too far back, or not there yet.
            ParameterStateError: no such Parameter, or no values yet.
            ValueError: ids outside the table.
        """
        if self.config.mode == "async":
            return self.store.read(name, ids)
        return self._history.read(step, self.version, name, ids)

    def read_tables(self, step: int, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """The rows of several tables that a step reads.

        Raises:
            VersionGone, ParameterStateError, ValueError: as `read`.
        """
        if self.config.mode == "async":
            return self.store.read_tables(wanted)
        return self._history.read_tables(step, self.version, wanted)

    def read_version(self, version: int, name: str, ids: Array | None = None) -> Array:
        """As `read`, at a version: the present one, or one of the last `RunConfig.behind`."""
        if self.config.mode == "async":
            return self.store.read(name, ids)
        return self._history.read(version + self.config.staleness, self.version, name, ids)

    def rows_at(self, version: int, name: str) -> Array:
        """The ids of the rows of a table that existed at a version, sorted (see `read_version`)."""
        if self.config.mode == "async":
            return self.store.rows(name)
        return self._history.rows(version + self.config.staleness, self.version, name)

    def moved(self, name: str, step: int, last_seen: int) -> Array | None:
        """The rows of a table that are not for the next step what they were for this one, sorted.

        Args:
            name: of the table.
            step: this one.
            last_seen: in async mode, the version of the last news.

        Returns:
            Their ids, or None: it was too long ago.
        """
        first, last = last_seen, self.version
        if self.config.mode != "async":
            first, last = self.config.version_read(step), self.config.version_read(step + 1)
        return self._history.moved(name, first, last)
