"""What one server does with the messages of workers; no network, no threads.

Glossary
    released    a step whose values may be read: its update is in the log

It is made in layers: versions that can be read, checkpoints (`checkpointed`), what is declared
(`declared`), the workers (`attended`), updates (`updated`), and pushes (`pushed`). Here is its
beginning, how it is recovered from its log and its snapshots, and when it writes one.

Everything that a client has read is recovered, and servers differ by at most `staleness + 1`
versions: a restarted worker continues from the least advanced one, and reads that far back on all
others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import Log, read_log, start_incarnation
from paramesh.ps.durability.record import Array, Record, arrays_to_updates
from paramesh.ps.durability.snapshot import Snapshot, read_snapshot
from paramesh.ps.server.background import BackgroundThread
from paramesh.ps.server.pushed import Pushed
from paramesh.ps.server.recovery import recover
from paramesh.ps.server.saves import Saves, ended_saves
from paramesh.ps.server.snapshot_writer import SnapshotWriter
from paramesh.ps.server.store import Update
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.server.worker_registry import WorkerRegistry
from paramesh.ps.specification.checkpoints import taken_order
from paramesh.ps.specification.protocol import RunConfig


class Server(Pushed):
    """The state of one server, recovered from its folder if there is any.

    Args:
        folder: of the log and the snapshots; for this server alone.
        config: of the run.
        point: called with the name of every point that is reached.
        fsync: bring every record of the log to the disk.
        following: begin with nothing, and write nothing until `begin` (see `standby`).
        beside: bytes of an update from which on its record is written while it is applied.
        snapshots_beside: write snapshots, and parts of checkpoints, in threads, while steps go on.
        claimed: called when the next incarnation is this server's; what it raises ends the start
            before anything is read or written.
        holds_saves: hold the versions of checkpoints that are to be written; False for who only
            reads.
        elastic: the number of workers is that of the logs, and may be changed; without it, it has
            to be that of `config`.
        leads: it is the first server of the run, which decides about the number of workers.

    Raises:
        ParameterServerError: log and snapshots are damaged beyond recovery, or belong to other
            config.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        *,
        point: Callable[[str], None] | None = None,
        fsync: bool = False,
        beside: int = 1 << 23,
        snapshots_beside: bool = False,
        following: bool = False,
        claimed: Callable[[], None] = lambda: None,
        holds_saves: bool = True,
        elastic: bool = False,
        leads: bool = True,
    ) -> None:
        self.folder = folder
        self._elastic, self._leads = elastic, leads
        super().__init__(config)
        self._named_point = point
        self.beside = beside
        self._log_thread = BackgroundThread("log")
        #: Called with the name of every point that is reached.
        self.reach: Callable[[str], None] = point or (lambda name: None)
        self.snapshots = SnapshotWriter(folder, config.cut_back, self.reach, snapshots_beside)
        self.saves = Saves(self.reach, in_background=snapshots_beside, holding=holds_saves)
        self._fsync = fsync
        self.clear()
        #: Pushes that wait: by step, by worker. And how many workers make up a step.
        self._staged: dict[int, dict[int, tuple[Update, dict[str, float]]]] = {}
        self._expected: dict[int, int] = {}
        if not following:
            began = time.monotonic()
            incarnation = start_incarnation(folder)
            claimed()
            self.begin(incarnation, self.recover(serving=True), began)

    def begin(self, incarnation: int, number: int, began: float) -> None:
        """Write from now on.

        Args:
            incarnation: of this server, from `start_incarnation`.
            number: of the next record.
            began: when the start did (`time.monotonic`).

        Raises:
            Fenced: another incarnation has started.
        """
        self.incarnation = incarnation
        point = self._named_point
        self._log = Log(self.folder, incarnation, number, point=point, fsync=self._fsync)
        if number == 0:
            self._append({"kind": "rules", **self._config_fields()}, {})
        self.recovery_seconds = time.monotonic() - began
        self.started = time.time()
        self.pushes = 0
        self.bytes_pushed = 0
        self.snapshots.last = {}
        self.saves.write()

    # Recovery.

    def clear(self) -> None:
        """Forget everything that was recovered."""
        self.forget()
        self.workers = WorkerRegistry(self.config.workers)
        self.changes = WorkerChanges(self.config)
        self.saves.forget()
        #: What `put` gave values, or what was loaded.
        self._given: set[str] = set()
        #: Of which checkpoint a table has all that it has, by name, while there was no update yet.
        self._complete: dict[str, tuple[str, str]] = {}

    def recover(
        self,
        records: Callable[[Path, int], Iterable[Record]] = read_log,
        *,
        repair: bool = True,
        serving: bool = False,
    ) -> int:
        """Rebuild the state; the number of the next record.

        Args:
            records: reads the log of a folder from a number on.
            repair: remove damaged snapshots that others replace.
            serving: this process has the latest incarnation: it writes what is left to be written
                of checkpoints meanwhile.

        Raises:
            ParameterServerError: log and snapshots are damaged, or belong to other config.
        """
        self.clear()

        def foresee(number: int) -> None:
            if serving:
                self.saves.write(ended_saves(read_log(self.folder, number, arrays=False)))

        return recover(self, records, repair, foresee)

    def load_snapshot(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot; this server has none.

        Raises:
            ParameterServerError: it is damaged, or of a run with another config.
        """
        meta, items = read_snapshot(snapshot)
        self.store.load(items)
        self._check_config(meta)
        self.version = meta["version"]
        self.workers.load(meta)
        self.changes.load(meta)
        self.saves.load(meta)
        self._valued = set(meta["valued"])
        self._given = set(meta.get("given", ()))

    def _config_fields(self) -> dict[str, Any]:
        config, workers = self.config, self.changes.sets.first
        return {"workers": workers, "mode": config.mode, "staleness": config.staleness}

    def _check_config(self, meta: Mapping[str, Any]) -> None:
        mine = self._config_fields() | {"workers": self.config.workers}
        theirs = mine | {key: meta[key] for key in mine if key in meta}
        if self._elastic:
            mine["workers"] = theirs["workers"]
        if theirs != mine:
            said = "{workers} workers in mode {mode!r}, staleness {staleness}"
            raise ParameterServerError(
                f"'{self.folder}' was written by a run of {said.format(**theirs)}; this one has "
                f"{said.format(**mine)}. Give each run its own wal_dir, or transfer the values "
                "with a checkpoint."
            )

    def replay(self, record: Record) -> None:
        """Apply one record of the log.

        Raises:
            ParameterServerError: it does not follow on what is here.
        """
        meta, kind = record.meta, record.meta["kind"]
        if kind == "rules":
            self._check_config(meta)
            self.changes.load(meta)
        elif kind == "worker":
            self.workers.introduce(meta)
        elif kind == "leave":
            self.workers.leave(meta["worker"])
        elif kind == "workers":
            self.changes.replay(meta, self.workers)
        elif kind == "declare":
            self._declare(meta["specs"], record.arrays)
        elif kind == "put":
            self._put(meta["name"], record.arrays)
        elif kind == "load":
            self._load(meta["name"], record.arrays)
        elif kind == "life":
            self.store.take_life(meta["name"], record.arrays)
        elif kind == "loaded":
            self._loaded(meta)
        elif kind == "save":
            self._begin_save(taken_order(meta["order"]))
        elif kind == "saved":
            self.saves.end(meta["identity"], meta["failure"])
        elif kind == "update":
            if meta["version"] != self.version:
                raise ParameterServerError(
                    f"record {record.number} is the update of version {meta['version']}, and "
                    f"the server is at {self.version}."
                )
            undo = self._apply(arrays_to_updates(record.arrays), meta["hyper"], checked=False)
            pushed = (meta["worker"], meta.get("step")) if "worker" in meta else None
            self._committed(undo, pushed)
        else:
            raise ParameterServerError(f"record {record.number} has the unknown kind {kind!r}.")

    def _append(self, meta: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        if self.config.keep_log:
            self._log.append(meta, arrays)

    # Workers.

    # Snapshots.

    def _snapshot_if_due(self) -> None:
        every = self.config.snapshot_every
        if not every or not self.config.keep_log or self.version % every:
            return
        try:
            self.end_saves()
        except ParameterServerError:
            return  # of the log; the next update says so
        if self.saves.unfinished:
            # Who recovers has to come by the record with which the save has begun.
            self.snapshots.last["late"] = time.time()
            return
        self.snapshots.due(self._log, self.store, self._meta())

    def snapshot(self) -> None:
        """Write a snapshot, and drop the part of the log that is not needed any more.

        Raises:
            OSError: from the file system; the log still has everything.
        """
        self.saves.wait()
        self.end_saves()
        self.snapshots.write(self._log, self.store, self._meta())

    def _meta(self) -> dict[str, Any]:
        return {
            **self._config_fields(),
            "version": self.version,
            **self.workers.state(),
            **self.changes.state(),
            "valued": sorted(self._valued),
            "given": sorted(self._given),
            **self.saves.state(),
        }

    @property
    def last_snapshot(self) -> dict[str, float]:
        """As `SnapshotWriter.last`."""
        return self.snapshots.last

    def stats(self) -> dict[str, Any]:
        """Numbers to watch: version, what is held, what came in, the log and the last snapshot."""
        stats = self.store.stats()
        waiting = {step: sorted(staged) for step, staged in self._staged.items()}
        return {
            "version": self.version,
            "incarnation": self.incarnation,
            "parameters": len(stats),
            "rows": sum(part.get("rows", 0) for part in stats.values()),
            "bytes": sum(part["bytes"] for part in stats.values()),
            "life": self.store.life(),
            "pushes": self.pushes,
            "bytes_pushed": self.bytes_pushed,
            "bytes_logged": self._log.bytes,
            "staged": waiting,
            "next": dict(self.workers.next_push),
            "last_snapshot": dict(self.last_snapshot),
            "recovery_seconds": self.recovery_seconds,
            "started": self.started,
        }

    def close(self) -> None:
        """Close the log, when a snapshot that is being written is there."""
        self.snapshots.close()
        self.saves.close()
        self._log_thread.shutdown()
        self._log.close()
