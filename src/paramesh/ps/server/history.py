"""Earlier versions of a server's store, and which rows changed between versions.

Glossary
    undo        the values that an update changed, before the update
    spare       the dense parts of the undo that was discarded last: the next update writes to
                their memory
    moved       a row that an update changed, created or dropped
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from paramesh.errors import ParameterStateError
from paramesh.ps.durability.record import Array
from paramesh.ps.server.dense import DenseUndo
from paramesh.ps.server.refresh import NO_IDS, moved_rows
from paramesh.ps.server.store import Store, Undo
from paramesh.ps.server.tables import RowsUndo
from paramesh.ps.specification.protocol import RunConfig, VersionGone

#: In async mode, of so many updates a server knows which rows they changed.
_ASYNC_MOVES = 64


class History:
    """The undos of the last updates of a store: what makes earlier versions readable.

    Args:
        store: at its present version.
        config: how far back it has to be read.
    """

    def __init__(self, store: Store, config: RunConfig) -> None:
        self._store = store
        self._config = config
        self._kept = config.behind if config.keep_history else 0
        self._undos: deque[Undo] = deque()
        self._spare: Undo | None = None
        #: (version before, rows by table) of the last updates.
        known = _ASYNC_MOVES if config.mode == "async" else config.behind
        self._moves: deque[tuple[int, dict[str, Array]]] = deque(maxlen=known)

    def take_spare(self) -> Undo | None:
        """Memory for the next undo; it is not given twice.

        An update begins. All workers have pushed its step, so they have read the one before, from
        all servers: the version that the update will put out of reach is nobody's already.
        """
        if self._undos and len(self._undos) == self._kept:
            self._discard()
        spare, self._spare = self._spare, None
        return spare

    def add(self, version: int, undo: Undo) -> None:
        """An update of this version counts."""
        self._moves.append((version, moved_rows(undo)))
        self._undos.append(undo)
        if len(self._undos) > self._kept:
            self._discard()

    def _discard(self) -> None:
        old = self._undos.popleft()
        # Nobody writes to that of rows, whose number is another one in each update.
        dense = {name: part for name, part in old.parts.items() if isinstance(part, DenseUndo)}
        self._spare = old._replace(parts=dense)

    def read(self, step: int, version: int, name: str, ids: Array | None) -> Array:
        """The values that a step reads: dense ones, or rows of a table.

        Args:
            step: which; not in async mode.
            version: the present one.
            name: of the Parameter.
            ids: of the rows; None for all of a dense one.

        Raises:
            VersionGone: too far back, or not there yet.
            ParameterStateError: no such Parameter, or no values yet.
            ValueError: ids outside the table.
        """
        undos = self._undos_behind(step, version)
        if not self._store.has(name):
            raise ParameterStateError(f"Parameter '{name}' does not exist on this server.")
        return self._read_back(name, ids, [undo for undo in undos if name in undo.parts])

    def read_tables(self, step: int, version: int, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """The rows of several tables that a step reads.

        Args:
            step: which; not in async mode.
            version: the present one.
            wanted: ids by table.

        Raises:
            VersionGone, ParameterStateError, ValueError: as `read`.
        """
        return self._store.read_tables(wanted, self._undos_behind(step, version))

    def rows(self, step: int, version: int, name: str) -> Array:
        """The ids of the rows of a table that existed at the version that a step reads, sorted.

        Raises:
            VersionGone, ParameterStateError: as `read`.
        """
        ids = self._store.rows(name)
        for undo in reversed(self._undos_behind(step, version)):
            change = undo.parts.get(name)
            if isinstance(change, RowsUndo):
                if change.expired is not None:
                    ids = np.union1d(ids, change.expired[0])
                ids = np.setdiff1d(ids, change.created, assume_unique=True)
        return ids

    def _undos_behind(self, step: int, version: int) -> list[Undo]:
        """The updates after the version that a step reads, the earliest first."""
        wanted = self._config.version_read(step)
        return self.undos_since(wanted, version, f"step {step} reads")

    def undos_since(self, wanted: int, version: int, who: str) -> list[Undo]:
        """The updates after a version, the earliest first.

        Args:
            wanted: the version.
            version: the present one.
            who: wants it, in messages.

        Raises:
            VersionGone: too far back, or not there yet.
        """
        back, oldest = version - wanted, version - len(self._undos)
        if not oldest <= wanted <= version:
            raise VersionGone(
                f"{who} version {wanted}; this server has versions {oldest} to {version}."
            )
        return list(self._undos)[len(self._undos) - back :]

    def _read_back(self, name: str, ids: Array | None, undos: list[Undo]) -> Array:
        if ids is None or len(undos) < 2:
            return self._store.read(name, ids, undos[0] if undos else None)
        # The earliest undo that touched a row has its value; a later one's is newer.
        out = self._store.read(name, ids)
        for undo in reversed(undos):
            change: Any = undo.parts[name]
            touched = [change.ids] if change.expired is None else [change.ids, change.expired[0]]
            hit = np.isin(ids, np.concatenate(touched))
            if hit.any():
                out[hit] = self._store.read(name, ids[hit], undo)
        return out

    def moved(self, name: str, first: int, last: int) -> Array | None:
        """The rows of a table that are not at version `last` what they were at `first`, sorted.

        Returns:
            Their ids, or None: it was too long ago.
        """
        known = {version: rows for version, rows in self._moves if first <= version < last}
        if len(known) < last - first:
            return None
        parts = [rows[name] for rows in known.values() if name in rows]
        if len(parts) < 2:
            return parts[0] if parts else NO_IDS
        return np.unique(np.concatenate(parts))
