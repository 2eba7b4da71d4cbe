"""How an update of a server is applied and logged: both, or neither.

An update is applied in memory and logged (a large one does both at once), and only then released.
If the server dies before the record is complete, nobody has read the update, and the workers still
have their pushes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paramesh.ps.durability.log import Log
from paramesh.ps.durability.record import Array, updates_to_arrays
from paramesh.ps.server.attended import Attended
from paramesh.ps.server.background import BackgroundThread
from paramesh.ps.server.store import Undo, Update


class Updated(Attended):
    """The part of a server that is about updates, whose pushes were checked.

    Attributes:
        beside: bytes of an update from which on its record is written while it is applied.
    """

    beside: int
    _log: Log
    _log_thread: BackgroundThread

    def _committed(self, undo: Undo, pushed: tuple[int, int | None] | None) -> None:
        self._history.add(self.version, undo)
        self.version += 1
        if pushed is not None:
            self.workers.pushed(*pushed)

    def _update(
        self, updates: Update, hyper: dict[str, float], pushed: tuple[int, int] | None
    ) -> None:
        """Apply and log an update whose pushes were checked, each, when they came.

        Args:
            updates: what it changes.
            hyper: of the step.
            pushed: in async mode, whose it is, and which.
        """
        meta: dict[str, Any] = {"kind": "update", "version": self.version, "hyper": hyper}
        if pushed is not None:
            meta |= {"worker": pushed[0], "step": pushed[1]}
        arrays = updates_to_arrays(updates)
        large = self.config.keep_log and sum(a.nbytes for a in arrays.values()) >= self.beside
        if large and self._log_thread.available():
            undo = self._apply_beside_the_log(updates, hyper, meta, arrays)
        else:
            undo = self._apply(updates, hyper, checked=True)
            self.reach("applied")
            try:
                self._append(meta, arrays)
            except Exception:
                # Whatever it was: applied without a record, the next try would apply it once more.
                self.store.undo(undo)
                raise
        self._committed(undo, pushed)
        self.reach("logged")

    def _apply(self, updates: Update, hyper: Mapping[str, float], *, checked: bool) -> Undo:
        spare = self._history.take_spare()
        return self.store.apply(self.version, updates, hyper, spare, checked=checked)

    def _apply_beside_the_log(
        self,
        updates: Update,
        hyper: dict[str, float],
        meta: dict[str, Any],
        arrays: Mapping[str, Array],
    ) -> Undo:
        """Apply an update while another thread writes its record; back when both are done."""
        writing = self._log_thread.submit(self._log.append, meta, arrays)
        try:
            undo = self._apply(updates, hyper, checked=True)
        except BaseException:
            if writing.exception() is None:
                self._log.take_back()
            raise
        try:
            self.reach("applied")
            writing.result()
        except Exception:
            self.store.undo(undo)
            raise
        return undo
