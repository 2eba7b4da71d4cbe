"""When a server writes snapshots, and what it does if one fails.

The log has everything, so a snapshot that fails costs nothing but a longer recovery. The next one
is tried when it is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterStateError
from paramesh.ps.durability.log import Log, drop_segments
from paramesh.ps.durability.snapshot import drop_snapshots, write_snapshot
from paramesh.ps.durability.snapshot_view import Piece, SnapshotView
from paramesh.ps.server.background import BackgroundThread
from paramesh.ps.server.store import Store


class SnapshotWriter:
    """Writes the snapshots of one server.

    Args:
        folder: of the log and the snapshots.
        behind: how many versions back a server has to be readable.
        point: called with the name of every point that is reached.
        in_background: write in a thread, while updates go on.

    Attributes:
        last: `version`, `seconds` and `time` of the last snapshot; `failed` and `errno`, if one
            failed since, and `late`, if one was due while another was being written.
    """

    def __init__(
        self, folder: Path, behind: int, point: Callable[[str], None], in_background: bool
    ) -> None:
        self._folder = folder
        self._behind = behind
        self._point = point
        self._in_background = in_background
        self._thread = BackgroundThread("snapshot")
        self._pending: Future[None] | None = None
        self.last: dict[str, float] = {}

    def due(self, log: Log, store: Store, meta: dict[str, Any]) -> None:
        """Write a snapshot now, or in the background; a failure is noted in `last`."""
        if self._pending is not None and not self._pending.done():
            self.last["late"] = time.time()
            return
        try:
            write = self._begin(log, store, meta)
        except (OSError, MemoryError) as error:
            self._failed(error)
            return
        if self._in_background and self._thread.available():
            self._pending = self._thread.submit(self._try, write)
        else:
            self._try(write)

    def write(self, log: Log, store: Store, meta: dict[str, Any]) -> None:
        """Write a snapshot now.

        Raises:
            OSError: from the file system; the log still has everything.
        """
        self._begin(log, store, meta)()

    def wait(self) -> None:
        """Return when the snapshot that is being written is complete."""
        if self._pending is not None:
            self._pending.result()

    def close(self) -> None:
        """As `wait`; no other snapshot can be written afterwards."""
        self._thread.shutdown()

    def _begin(self, log: Log, store: Store, meta: dict[str, Any]) -> Callable[[], None]:
        """A function that writes the present version, whatever is applied meanwhile."""
        began = time.monotonic()
        log.check_fence()
        log.rotate()
        number, view = log.number, store.view()

        def write() -> None:
            try:
                write_snapshot(self._folder, number, meta["version"], meta, self._pieces(view))
            finally:
                view.release()
            oldest = drop_snapshots(self._folder, self._behind)
            if oldest is not None:
                drop_segments(self._folder, oldest.number)
            self.last = {
                "version": meta["version"],
                "seconds": time.monotonic() - began,
                "time": time.time(),
            }

        return write

    def _pieces(self, view: SnapshotView) -> Iterable[Piece]:
        for piece in view.pieces():
            yield piece
            self._point("snapshot")

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, MemoryError, ParameterStateError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.last["failed"] = time.time()
        self.last["errno"] = float(getattr(error, "errno", None) or 0)
