"""What a server writes into checkpoints, and takes from them (see `saves`, `loading`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.ps.durability.record import Array
from paramesh.ps.server.saves import LOST, Saves
from paramesh.ps.server.store import Undo
from paramesh.ps.server.versions import VersionedParameters
from paramesh.ps.server.worker_registry import WorkerRegistry
from paramesh.ps.specification.checkpoints import SaveOrder
from paramesh.ps.specification.specs import owner_of


class Checkpointed(VersionedParameters):
    """The part of a server that is about checkpoints.

    Attributes:
        saves: the checkpoints that it takes part in.
        workers: what it knows of the workers.
        reach: called with the name of every point that is reached.
    """

    saves: Saves
    workers: WorkerRegistry
    reach: Callable[[str], None]
    _given: set[str]
    _complete: dict[str, tuple[str, str]]

    def _append(self, meta: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Write a record to the log."""
        raise NotImplementedError

    # Loading, before the first step.

    def may_load(self, name: str) -> bool:
        """Whether a Parameter still takes what is loaded: not if it was before the first step.

        Raises:
            ParameterServerError: there was a step already, and nothing was loaded before it.
        """
        if self.version and name not in self._given:
            raise ParameterServerError(
                f"Parameter '{name}' was to be loaded at version {self.version} of the server. "
                f"Load before the first step."
            )
        return not self.version

    def has_loaded(self, name: str, identity: str, stored: str) -> bool:
        """Whether a table has all of `stored` in this checkpoint, and nothing else since.

        Each worker loads. Whoever is the second would change nothing, but a save that the first
        has begun in the meantime would fail.
        """
        return self._complete.get(name) == (identity, stored)

    def load(self, name: str, rows: Mapping[str, Array]) -> None:
        """Take over rows of a table (see `Store.take_rows`); `may_load` has to say so.

        Raises:
            ParameterStateError, ParameterShapeError, ValueError: as `Store.take_rows`.
        """
        self.store.check_rows(name, rows)
        self._append({"kind": "load", "name": name}, rows)
        self._load(name, rows)

    def _load(self, name: str, rows: Mapping[str, Array]) -> None:
        self._complete.pop(name, None)
        self.store.take_rows(name, rows)
        self._given.add(name)

    def load_life(self, name: str, fields: dict[str, Array]) -> None:
        """Take over which rows of a table were met and dropped; `may_load` has to say so."""
        self._append({"kind": "life", "name": name}, fields)
        self.store.take_life(name, fields)

    def loaded(self, name: str, identity: str, stored: str, whole: bool) -> None:
        """All rows of a table that are in a checkpoint were loaded, if there are any for here.

        Args:
            name: of the table.
            identity: of the checkpoint.
            stored: the name of the table there.
            whole: with all fields of the table: an increment can go on from it.
        """
        said = {"name": name, "identity": identity, "stored": stored, "whole": whole}
        self._append({"kind": "loaded", **said}, {})
        self._loaded(said)

    def _loaded(self, said: Mapping[str, Any]) -> None:
        name, identity = said["name"], said["identity"]
        self._given.add(name)
        if said.get("whole", True):
            if "stored" in said:  # logs of earlier versions lack it: it is loaded again
                self._complete[name] = (identity, said["stored"])
            self.saves.bases.loaded(identity, name)

    # Saving.

    def save(self, worker: int, incarnation: int, order: SaveOrder) -> None:
        """Begin to write this server's part of a checkpoint; a second time changes nothing.

        Args:
            worker: who asks.
            incarnation: of the worker.
            order: what is saved.

        Raises:
            Replaced: a later incarnation of the worker is known.
            VersionGone: the version that is asked for is too far back, or not there yet.
            ParameterStateError: no such Parameter.
            ParameterServerError: the base of an increment is not known, or the log cannot be
                written.
        """
        self.workers.check(worker, incarnation)
        if self.saves.knows(order.identity):
            return
        self._undos_of(order)
        owners = {owner_of(spec): spec["kind"] for spec in self.store.specs().values()}
        for name in order.tables:
            if owners.get(name) != "rows":
                raise ParameterStateError(f"there is no table '{name}' on this server.")
        self.saves.bases.since(order, self._offsets(order))
        self._append({"kind": "save", "order": order.plain()}, {})
        self._begin_save(order)
        self.reach("asked")

    def _undos_of(self, order: SaveOrder) -> list[Undo]:
        if order.version is None:
            return []
        return self._history.undos_since(order.version, self.version, "a checkpoint has")

    def _offsets(self, order: SaveOrder) -> dict[str, int]:
        return {name: self.store.clock_offset(name) for name in order.tables}

    def _begin_save(self, order: SaveOrder) -> None:
        version = self.version if order.version is None else order.version
        since = self.saves.bases.since(order, self._offsets(order))
        self.saves.begin(order, version, since, lambda: self.store.view(self._undos_of(order)))

    def saved(self, identity: str) -> str | None:
        """Why a part of a checkpoint could not be written, "" if it is there; None: not done.

        Who asks was told that it had begun. If this server does not know it, the order is lost, and
        that is what becomes of it: the worker gives the checkpoint up, whatever others have
        written, and an order that is late begins nothing any more.

        Raises:
            Fenced: another incarnation, which may know it, has started.
            ParameterServerError: the log cannot be written.
        """
        self.end_saves()
        if not self.saves.knows(identity):
            self._end_save(identity, LOST)
        return self.saves.result(identity)

    def end_saves(self) -> None:
        """Have the log say which parts are written, or cannot be.

        Raises:
            Fenced, ParameterServerError: as `saved`.
        """
        for identity, failure in self.saves.done():
            self._end_save(identity, failure)
            self.reach("written")

    def _end_save(self, identity: str, failure: str) -> None:
        self._append({"kind": "saved", "identity": identity, "failure": failure}, {})
        self.saves.end(identity, failure)
