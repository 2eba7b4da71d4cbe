"""What one server does with the messages of workers; no network, no threads.

Glossary
    version     how many updates the server has applied
    step        of a worker: its push of step t becomes (part of) the update from version t to t+1
    staged      a push that waits for the pushes of the other workers
    released    a step whose values may be read: its update is in the log

In "sync" mode (Li et al., OSDI 2014, sequential consistency) the update of a step is the sum of all
workers' pushes in the order of the workers, and is applied once all have arrived. In "stale" mode
pushes may arrive for up to `staleness` steps ahead; they are applied in the same order, and step t
reads exactly version t - staleness. In "async" mode every push is an update of its own, and pushes
are counted per worker.

An update is applied in memory and logged (a large one does both at once), and only then released.
If the server dies before the record is complete, nobody has read the update, and the workers still
have their pushes. Invalid pushes are rejected before either happens. So everything that a client
has read is recovered, and servers differ by at most `staleness + 1` versions: a restarted worker
continues from the least advanced one, and reads that far back on all others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import Log, read_log, segments, start_incarnation
from paramesh.ps.durability.record import Array, Record, arrays_to_updates, updates_to_arrays
from paramesh.ps.durability.snapshot import Snapshot, read_snapshot
from paramesh.ps.server.background import BackgroundThread
from paramesh.ps.server.checkpointed import Checkpointed
from paramesh.ps.server.recovery import recover
from paramesh.ps.server.saves import Saves, unfinished_saves
from paramesh.ps.server.snapshot_writer import SnapshotWriter
from paramesh.ps.server.store import Store, Undo, Update, reduce_updates
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.server.worker_registry import WorkerRegistry
from paramesh.ps.specification.checkpoints import taken_order
from paramesh.ps.specification.protocol import PushesMissing, RunConfig
from paramesh.ps.specification.worker_sets import Change, Entries, Verdict


class Server(Checkpointed):
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
        self.snapshots = SnapshotWriter(folder, config.behind, self.reach, snapshots_beside)
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
        #: Of which checkpoint a table has all that it has, by name; until the next start.
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
        if serving:
            listed = segments(self.folder)
            heads = read_log(self.folder, listed[0][0], arrays=False) if listed else ()
            self.saves.write(unfinished_saves(heads))
        return recover(self, records, repair)

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
            self._given.add(meta["name"])
            if meta.get("whole", True):
                self.saves.bases.loaded(meta["identity"], meta["name"])
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

    def _committed(self, undo: Undo, pushed: tuple[int, int | None] | None) -> None:
        self._history.add(self.version, undo)
        self.version += 1
        if pushed is not None:
            self.workers.pushed(*pushed)

    # Workers.

    def hello(self, worker: int, incarnation: int | None, life: int = 0) -> dict[str, Any]:
        """A worker (re)starts; messages of earlier incarnations are rejected from then on.

        A message that is late or comes twice must not do that to the one that has started since. So
        a question (`incarnation` None) changes nothing, and what a process answers to it names a
        number that is too low by then, or that belongs to another life.

        Args:
            worker: which.
            incarnation: of the worker; None: it asks which would be next.
            life: drawn by the process that the worker is; 0: any.

        Returns:
            `version`, `next` (the step that this server would take from the worker), `incarnation`
            (of the server), `worker` (the worker's), `workers` (how many there were at first) and
            `sets` (those since, see `worker_sets`).

        Raises:
            ParameterServerError: no such worker.
            Replaced: a later incarnation of it is known, or another life of this one.
        """
        if not self._elastic:
            self.workers.check_exists(worker)
        known = self.workers.incarnations.get(worker, 0)
        if incarnation is None:
            incarnation = known + 1
        else:
            if incarnation > known:
                said = {"worker": worker, "incarnation": incarnation, "life": life}
                self._append({"kind": "worker", **said}, {})
                self.workers.introduce(said)
            self.workers.check(worker, incarnation)
            self.workers.check_life(worker, incarnation, life)
        next_push = (
            self.workers.next_push.get(worker, 0) if self.config.mode == "async" else self.version
        )
        return {
            "version": self.version,
            "next": next_push,
            "incarnation": self.incarnation,
            "worker": incarnation,
            "workers": self.changes.sets.first,
            "sets": self.changes.sets.others,
        }

    def leave(self, worker: int, incarnation: int) -> int:
        """A worker has finished; how many have not.

        Raises:
            Replaced: a later incarnation of it is known.
        """
        self.workers.check(worker, incarnation)
        if not self.workers.has_left(worker):
            self._append({"kind": "leave", "worker": worker}, {})
            self.workers.leave(worker)
        return self.workers.remaining(self.changes.sets.last[1])

    def change_workers(self, change: Change) -> Verdict | None:
        """Another number of workers is wanted. Only the first server is asked.

        To be called again and again: what keeps a change from its verdict passes with steps, and
        when workers start.

        Returns:
            The verdict on it; None: there is none yet, or there was one on a later change.

        Raises:
            Fenced, OSError: the log cannot be written; nothing was decided.
        """
        self.changes.want(change)
        verdict = self.changes.judge(self.version, self.workers)
        if verdict is not None:
            self._set_workers(verdict)
        known = self.changes.verdict
        return known if known.number == change.number else None

    def sets_to_tell(self) -> Entries:
        """The sets that some worker may not know of yet."""
        return self.changes.sets.tail(self.changes.rear(self.version, self.workers))

    def workers_now(self) -> int:
        """How many workers make up the step that comes next, in async mode the furthest one."""
        return self.changes.sets.at(self.changes.front(self.version, self.workers))

    def _set_workers(self, verdict: Verdict) -> None:
        record = self.changes.record(verdict)
        self._append(record, {})
        self.changes.replay(record, self.workers)

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """Declare Parameters (see `Store.declare`); the first values that are given count.

        Raises:
            ValueError: another spec of the same name.
            ParameterShapeError: values that do not fit.
        """
        known = self.store.specs()
        trial = Store()  # all of it or nothing: what is wrong is seen before it is logged
        fresh = [spec for spec in specs if spec.get("name") not in known]
        for spec in specs:
            (trial if spec in fresh else self.store).declare(spec)
        new = {n: np.asarray(a) for n, a in values.items() if n not in self._valued}
        for name, array in new.items():
            if name in known:
                trial.declare(known[name])
            trial.put(name, array)
        if fresh or new:
            self._append({"kind": "declare", "specs": fresh}, new)
            self._declare(fresh, new)

    def _declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        for spec in specs:
            self.store.declare(spec)
        for name, array in values.items():
            self.store.put(name, array)
        self._valued |= values.keys()

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> None:
        """Give a Parameter, or rows of a table, other values and state (see `Store.put`).

        After the first step nothing is changed: a worker that is started again gives once more
        what was given.

        Raises:
            ParameterServerError: there was a step already, and nothing was given before it: earlier
                versions would be mixed with it.
            ParameterStateError, ParameterShapeError: as `Store.put`.
        """
        if self.version and name in self._given:
            return
        if self.version:
            raise ParameterServerError(
                f"Parameter '{name}' was given values at version {self.version} of the server. "
                f"Set (or load) them before the first step."
            )
        arrays = dict(fields) if ids is None else {**fields, "ids": ids}
        trial = Store()  # what is wrong is seen before it is logged
        if name in self.store.specs():
            trial.declare(self.store.specs()[name])
        _put(trial, name, arrays)
        self._append({"kind": "put", "name": name}, arrays)
        self._put(name, arrays)

    def _put(self, name: str, arrays: Mapping[str, Array]) -> None:
        _put(self.store, name, arrays)
        self._complete.pop(name, None)
        self._given.add(name)
        ids = arrays.get("ids")
        if ids is None and "value" in arrays:
            self._valued.add(name)

    def push(
        self,
        worker: int,
        incarnation: int,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        of: int | None = None,
        divides: bool = False,
    ) -> None:
        """Take one worker's gradients of one step; a second time changes nothing.

        Args:
            worker: who.
            incarnation: of the worker.
            step: which; in async mode the worker's own, counted as those of all are.
            updates: as for `Store.apply`.
            hyper: as for `Store.apply`; the same from all workers.
            of: how many workers make up the step, as far as the worker knows; None: it does not
                say.
            divides: its script divides its batches anew when that changes.

        Raises:
            Replaced: a later incarnation of the worker is known.
            PushesMissing: earlier steps of the worker are not here.
            ParameterServerError: a step too early, other gradients than this worker has pushed for
                this step before, or a log that cannot be written: nothing is acknowledged.
            ParameterStateError, ParameterShapeError, ValueError: as `Store.check`.
        """
        self.workers.check(worker, incarnation)
        self.workers.divides[worker] = divides
        if self.config.mode == "async":
            self._push_async(worker, step, updates, hyper, of)
            return
        if step < self.version:
            return
        if step > self.version + self.config.staleness:
            raise ParameterServerError(
                f"worker {worker} pushed step {step}, and the server is at version "
                f"{self.version}: at most {self.config.staleness} steps ahead are allowed."
            )
        self.check_pushed(worker, step)
        self._check_set(worker, step, of)
        self._check_push(worker, updates, hyper)
        staged = self._staged.setdefault(step, {})
        mine = (updates, dict(hyper))
        if worker not in staged:
            for other, (_, theirs) in staged.items():
                if theirs != mine[1]:
                    raise ParameterServerError(
                        f"workers {other} and {worker} pushed step {step} with different "
                        f"hyperparameters: {theirs} and {mine[1]}. Check that all workers run "
                        f"the same script."
                    )
            staged[worker] = mine
            if of is not None:
                self._expected[step] = of
            self._count(updates)
            self.reach("staged")
        elif staged[worker][1] != mine[1] or not _same(staged[worker][0], updates):
            raise ParameterServerError(
                f"worker {worker} pushed step {step} twice, with different gradients: a restarted "
                "worker must compute the same bits. Its data and random numbers must depend on the "
                "seed, the step and the worker alone."
            )
        self._advance()

    def check_pushed(self, worker: int, step: int) -> None:
        """Raise PushesMissing unless all pushes of a worker before a step are here, or applied.

        In stale mode a reply does not say that a push was applied. A server that dies and is back
        before the worker's next push has lost what was staged, and the worker has seen no error.
        """
        if self.config.mode == "async":
            return
        for early in range(self.version, step):
            if worker not in self._staged.get(early, ()):
                raise PushesMissing(
                    f"worker {worker} is at step {step}, but its push of step {early} has not "
                    f"arrived."
                )

    def _check_set(self, worker: int, step: int, of: int | None) -> int:
        """How many workers make up a step, of which this is a push.

        Raises:
            ParameterServerError: the worker does not know it.
        """
        border, number = self.changes.sets.last
        if self._leads or step < border:
            number = self.changes.sets.at(step)
        elif of is not None:  # the first server has decided it, and this one meets it now
            number = self._expected.get(step, of)
        if of not in (None, number) or worker >= number:
            raise ParameterServerError(
                f"worker {worker} pushed step {step} as one of {of} workers, and that step has "
                f"{number} (the run has {self.changes.sets}). Check that all processes are those "
                "of one run, with one version of paramesh."
            )
        return number

    def _workers_of(self, step: int) -> int:
        """How many workers make up a step."""
        return self._expected.get(step) or self.changes.sets.at(step)

    def _check_push(self, worker: int, updates: Update, hyper: Mapping[str, float]) -> None:
        self.store.check(updates)
        for name, number in hyper.items():
            if not math.isfinite(number):
                raise ParameterServerError(
                    f"worker {worker} pushed {name}={number}, which must be finite. Check the "
                    f"schedule and the settings of the optimizer."
                )

    def _count(self, updates: Update) -> None:
        self.pushes += 1
        self.bytes_pushed += sum(a.nbytes for u in updates.values() for a in u.values())

    def _advance(self) -> None:
        while len(self._staged.get(self.version, ())) == self._workers_of(self.version):
            staged = self._staged[self.version]
            count = self._expected.get(self.version)
            if count not in (None, self.changes.sets.at(self.version)):
                self._set_workers(Verdict(0, count, self.version))
            updates = reduce_updates([staged[worker][0] for worker in sorted(staged)])
            self._update(updates, next(iter(staged.values()))[1], None)
            del self._staged[self.version - 1]
            self._expected.pop(self.version - 1, None)
            self._snapshot_if_due()

    def _push_async(
        self,
        worker: int,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        of: int | None,
    ) -> None:
        if step < self.workers.next_push.get(worker, 0):
            return
        number = self._check_set(worker, step, of)
        # A worker pushes the steps one after the other: the first one of another number, of
        # whomever it is, is that at the border.
        begins = number != self.changes.sets.at(step)
        known = self.changes.sets.and_then(step, number) if begins else self.changes.sets
        following = known.first_step(worker, self.workers.next_push.get(worker, 0))
        if step != following:
            raise ParameterServerError(
                f"worker {worker} sent push {step}, but {following} is expected: a push was lost."
            )
        self._check_push(worker, updates, hyper)
        self._count(updates)
        self.reach("staged")
        if begins:
            self._set_workers(Verdict(0, number, step))
        self._update(reduce_updates([updates]), dict(hyper), (worker, step))
        self._snapshot_if_due()

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

    # Snapshots.

    def _snapshot_if_due(self) -> None:
        every = self.config.snapshot_every
        if not every or not self.config.keep_log or self.version % every:
            return
        try:
            self._end_saves()
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
        self._end_saves()
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


def _put(store: Store, name: str, arrays: Mapping[str, Array]) -> None:
    for field, values in arrays.items():
        if field != "ids":
            store.put(name, values, ids=arrays.get("ids"), field=field)


def _same(a: Update, b: Update) -> bool:
    left, right = updates_to_arrays(a), updates_to_arrays(b)
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype
        and left[key].shape == right[key].shape
        and left[key].tobytes() == right[key].tobytes()
        for key in left
    )
