"""The servers that a run had, brought to one version that all of them were at.

Glossary
    source      the folder of a server that the run had
    cut         where all sources are cut off: a version, or in async mode a set of pushes
    base        the version whose state is copied
    window      the updates from the base to the cut: a restarted worker may read versions between
    facts       what a source says in its records, but for values

A killed run leaves servers at different versions. In sync and stale mode the least one is the cut:
its workers go on from there in any case, and later updates are made again. In async mode it is all
pushes that every server has; a push that only some have was not acknowledged, and its worker sends
it again.

One source at a time is in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import latest_incarnation, read_log, segments
from paramesh.ps.durability.record import Record
from paramesh.ps.durability.snapshot import Snapshot, read_snapshot, snapshots
from paramesh.ps.server.server import Server
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.server.worker_registry import WorkerRegistry
from paramesh.ps.specification.protocol import RunConfig


class NotYet(ParameterServerError):
    """The run cannot be moved from where it is; it can when it has gone on."""


class SavesUnfinished(NotYet):
    """A server is writing its part of a checkpoint."""


class PushesUnfinished(NotYet):
    """What only some servers have of a push cannot be left out any more."""


class Cut(NamedTuple):
    """Where sources are cut off.

    Attributes:
        base: the version whose state is copied.
        version: of the cut; in async mode the base.
        pushes: in async mode, the step after the last one of each worker; None otherwise.
    """

    base: int
    version: int
    pushes: dict[int, int] | None


@dataclasses.dataclass
class Facts:
    """What a source says up to the cut.

    Attributes:
        specs: of its Parameters, in the order of their declaration.
        valued: names of the dense ones that were sent values.
        given: names of those that `put` gave values.
    """

    specs: list[dict[str, Any]]
    valued: set[str]
    given: set[str]


class Source:
    """One server that the run had; its files are only read.

    Args:
        folder: of the server.
        config: of the run.

    Attributes:
        version: the last one.
        records: the number of the next record of its log.
        oldest: the oldest version that can be rebuilt.
        damage: what keeps older versions from it; "": nothing.
        workers: what it knows of them, and
        changes: of how many there are at which step.
        incarnation: its latest.
        saves: the checkpoints that it took part in, by identity: None while it is writing, why it
            could not, or "".

    Raises:
        ParameterServerError: its files are damaged, or of a run with another config.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        # Neither a log nor earlier versions: the window is copied record by record.
        self._config = dataclasses.replace(
            config, keep_log=False, keep_history=False, snapshot_every=0
        )
        self._listed = snapshots(folder)
        self.incarnation = latest_incarnation(folder)
        self.workers = WorkerRegistry(config.workers)
        self.changes = WorkerChanges(config)
        self.saves: dict[str, str | None] = {}
        self.version = 0
        self.damage = ""
        self.records = self._scan()
        self.oldest = self._oldest()

    def _scan(self) -> int:
        number = 0
        newest = self._newest(self._listed)
        if newest is not None:
            snapshot, meta = newest
            number, self.version = snapshot.number, meta["version"]
            self.workers.load(meta)
            self.changes.load(meta)
            self.saves |= dict(meta.get("saves", ()))
        for record in read_log(self.folder, number, arrays=False):
            number = record.number + 1
            kind, meta = record.meta["kind"], record.meta
            if kind == "update":
                self.version = meta["version"] + 1
                if "worker" in meta:
                    self.workers.pushed(meta["worker"], meta.get("step"))
            elif kind == "worker":
                self.workers.introduce(meta)
            elif kind == "leave":
                self.workers.leave(meta["worker"])
            elif kind == "rules":
                self.changes.load(meta)
            elif kind == "workers":
                self.changes.replay(meta, self.workers)
            elif kind == "save":
                self.saves[meta["order"]["identity"]] = None
            elif kind == "saved":
                self.saves[meta["identity"]] = meta["failure"]
        if self._listed and number < self._listed[0].number:
            raise ParameterServerError(
                f"the log in '{self.folder}' ends before its snapshot "
                f"'{self._listed[0].path.name}' begins: restore the wal_dir from a backup."
            )
        return number

    def _newest(self, listed: Sequence[Snapshot]) -> tuple[Snapshot, dict[str, Any]] | None:
        for snapshot in listed:
            try:
                meta, _ = read_snapshot(snapshot)
            except ParameterServerError:
                continue  # the log may replace it; if it does not, it says so
            return snapshot, meta
        return None

    def look_at_arrays(self) -> bool:
        """Let `oldest` be from where on the arrays, too, are undamaged; whether it has moved."""
        before, self.oldest = self.oldest, self._oldest(arrays=True)
        return self.oldest != before

    def _oldest(self, *, arrays: bool = False) -> int:
        """The oldest version from which on nothing is missing, nor damaged.

        What a power cut or a disk has taken of the log, a later snapshot may make up for.
        """
        for start in (None, *reversed(self._listed)):
            if start is not None and self._newest([start]) is None:
                continue  # it is damaged
            first = 0 if start is None else start.number
            try:
                records = sum(1 for _ in read_log(self.folder, first, arrays=arrays))
            except ParameterServerError as error:
                self.damage = str(error)
                continue
            if start is not None:
                return start.version
            if records:
                return 0  # the log begins with the run
        return self.version if self._listed else 0

    def _bases(self, cut: Cut) -> list[Snapshot]:
        """The snapshots that have nothing from behind the cut's base, the newest first."""
        found: list[Snapshot] = []
        for snapshot in self._listed:
            newest = self._newest([snapshot])
            if newest is None or snapshot.version > cut.base:
                continue
            registry = WorkerRegistry(self._config.workers)
            registry.load(newest[1])
            if cut.pushes is None or all(
                count <= cut.pushes.get(worker, 0) for worker, count in registry.next_push.items()
            ):
                found.append(snapshot)
        return found

    def check_reaches(self, pushes: Mapping[int, int]) -> None:
        """Raise PushesUnfinished unless it can be rebuilt with so many pushes of each worker.

        Snapshots that have a push which other servers lack are of no use, and it may have no log
        from before them.
        """
        cut = Cut(self.version, self.version, dict(pushes))
        first = next(iter(segments(self.folder)), None)
        if first is None or first[0] == 0 or self._bases(cut):
            return
        ahead = [w for w, n in self.workers.next_push.items() if n > pushes.get(w, 0)]
        if ahead:
            raise PushesUnfinished(
                f"'{self.folder}' has a push of worker {ahead[0]} that another server lacks, and "
                f"no snapshot from before it. The number of servers can be changed when that "
                f"worker has made its step; if the run has ended, start it with the former number."
            )

    def facts(self, cut: Cut) -> Facts:
        """What it says up to the cut; no array is read.

        Raises:
            ParameterServerError: its files are damaged.
        """
        found: dict[str, dict[str, Any]] = {}
        facts = Facts([], set(), set())
        base = next(iter(self._bases(cut)), None)
        if base is not None:
            meta, pieces = read_snapshot(base, arrays=False)
            facts.valued |= set(meta["valued"])
            facts.given |= set(meta.get("given", ()))
            found |= {said["spec"]["name"]: said["spec"] for said, _ in pieces if "spec" in said}
        for record in self._records(base, cut, arrays=False):
            if record.meta["kind"] == "declare":
                found |= {spec["name"]: spec for spec in record.meta["specs"]}
                facts.valued |= set(record.names)
            elif record.meta["kind"] in ("load", "loaded"):
                facts.given.add(record.meta["name"])
            elif record.meta["kind"] == "put":
                facts.given.add(record.meta["name"])
                if "value" in record.names and "ids" not in record.names:
                    facts.valued.add(record.meta["name"])
        facts.specs = list(found.values())
        return facts

    def state(self, cut: Cut) -> Server:
        """A server with the state of the cut's base; it has what was declared until the cut.

        Raises:
            ParameterServerError: its files are damaged, or of a run with another config.
        """
        reasons: list[str] = []
        for base in [*self._bases(cut), None]:
            server = Server(
                self.folder, self._config, following=True, holds_saves=False, elastic=True
            )
            try:
                if base is not None:
                    server.load_snapshot(base)
                for record in self._records(base, cut):
                    version = record.meta.get("version", -1)
                    if record.meta["kind"] == "update" and cut.pushes is not None:
                        said = record.meta | {"version": server.version}
                        server.replay(record._replace(meta=said))
                    elif version < cut.base:  # what is in the window stays an update
                        server.replay(record)
                if server.version == cut.base:
                    return server
                reasons.append(f"it ends at version {server.version}")
            except ParameterServerError as error:
                reasons.append(str(error))
            server.clear()
        raise ParameterServerError(
            f"version {cut.base} of the server of '{self.folder}' cannot be rebuilt: "
            f"{'; '.join(reasons)}"
        )

    def window(self, cut: Cut) -> Iterator[Record]:
        """The updates from the base to the cut.

        Raises:
            ParameterServerError: its files are damaged.
        """
        base = next(iter(self._bases(cut)), None)
        for record in self._records(base, cut):
            if record.meta["kind"] == "update" and record.meta["version"] >= cut.base:
                yield record

    def _records(self, base: Snapshot | None, cut: Cut, *, arrays: bool = True) -> Iterator[Record]:
        """The records of the log up to the cut, from a snapshot on."""
        pushes = WorkerRegistry(self._config.workers)
        newest = None if base is None else self._newest([base])
        if newest is not None:
            pushes.load(newest[1])
        start = 0 if base is None else base.number
        for record in read_log(self.folder, start, arrays=arrays):
            if record.meta["kind"] == "update":
                if cut.pushes is None:
                    if record.meta["version"] >= cut.version:
                        return
                else:
                    worker = record.meta["worker"]
                    step = record.meta.get("step", pushes.next_push.get(worker, 0))
                    pushes.pushed(worker, step)
                    if step >= cut.pushes.get(worker, 0):
                        continue
            yield record


def common_cut(sources: Sequence[Source], config: RunConfig) -> Cut:
    """Where all sources can be cut off, with as many earlier versions as they all have.

    Raises:
        ParameterServerError: they have no such version in common.
    """
    if config.mode == "async":
        following = [source.workers.next_push for source in sources]
        sets = sources[0].changes.sets  # the first one knows all
        pushes: dict[int, int] = {}
        for worker in sorted(set[int]().union(*following)):
            mine = [steps.get(worker, 0) for steps in following]
            counts = [sets.steps_of(worker, step) for step in mine]
            _check_near(f"of worker {worker} the servers have so many pushes", counts, 1)
            pushes[worker] = min(mine)
        for source in sources:
            source.check_reaches(pushes)
        total = sum(sets.steps_of(worker, step) for worker, step in pushes.items())
        return Cut(total, total, pushes)
    versions = [source.version for source in sources]
    _check_near("the servers are at the versions", versions, config.staleness + 1)
    version = min(versions)
    base = max(0, version - config.behind, *(source.oldest for source in sources))
    if base > max(0, version - config.staleness):
        raise ParameterServerError(
            f"the servers are at the versions {versions}, and "
            f"cannot be read back to one that all have: versions from {base} on can be rebuilt. "
            f"Start the run once with the former number of servers, and end it. "
            f"{' '.join(source.damage for source in sources)}".rstrip()
        )
    return Cut(base, version, None)


def _check_near(what: str, found: list[int], most: int) -> None:
    """Servers differ by so much at most (see `server`), or one has lost its log."""
    if max(found) - min(found) > most:
        raise ParameterServerError(
            f"{what}: {found}. They can differ by {most} at most: one of them has lost its log. "
            f"Restore the complete wal_dir from a backup."
        )


def check_saves(sources: Sequence[Source]) -> None:
    """Raise SavesUnfinished if one is writing its part of a checkpoint."""
    for source in sources:
        if None in source.saves.values():
            raise SavesUnfinished(
                f"the server of '{source.folder}' is writing its part of a checkpoint."
            )


def merged_saves(sources: Sequence[Source]) -> list[tuple[str, str]]:
    """The checkpoints whose parts all servers have written, or could not: identity, and why not.

    Their workers ask the new servers for them.
    """
    return [
        (identity, next(filter(None, (source.saves[identity] for source in sources)), ""))
        for identity in sources[0].saves
        if all(identity in source.saves for source in sources)
    ]


def merged_workers(sources: Sequence[Source], cut: Cut, *, live: bool = False) -> Mapping[str, Any]:
    """What servers know of the workers at the cut (see `WorkersState`).

    Args:
        sources: the former servers.
        cut: likewise.
        live: the workers go on, and those that have left have left: they say so to the first server
            only. At rest all start again.
    """
    states = [source.workers.state() for source in sources]
    incarnations: dict[int, int] = {}
    lives: dict[int, int] = {}
    for state in states:
        for worker, incarnation in state["incarnations"].items():
            if incarnation > incarnations.get(worker, 0):
                incarnations[worker] = incarnation
                lives[worker] = state["lives"].get(worker, 0)
    left = set(states[0]["left"])
    if not live:
        left = left.intersection(*(set(state["left"]) for state in states))
        left |= {worker for worker in incarnations if worker >= sources[0].changes.sets.last[1]}
    following = {w: n for w, n in (cut.pushes or {}).items() if n}
    known = {"incarnations": incarnations, "lives": lives, "next": following, "left": sorted(left)}
    # The first one has decided it. What it has decided counts, also if its step is behind the cut.
    changes = sources[0].changes
    return {**known, "workers": changes.sets.first, **changes.state()}
