"""A run of the simulation: servers, standbys, workers, disks, a network, and what goes wrong.

What has to hold, whatever happens (the consistency table of the documentation):

    same bits       in sync and stale mode what a step reads, and what is there in the end, is what
                    plain stores compute
    exactly once    in async mode the end is the sum of all pushes, each once
    no way back     no answer of a later incarnation has less than any answer of an earlier one
    no hang         when nothing is broken any more, all workers come to their end
    no false alarm  a worker has an error only if a fault was put in that has to be one
    no silence      a log that was lost or changed is never read as if it were complete
    checkpoints     see `checkpoints`
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections import Counter, defaultdict
from typing import Any
from unittest import mock

from paramesh.errors import ParameterServerError
from paramesh.ps.client.exchange import Call, Died, Event
from paramesh.ps.client.peer import state_in
from paramesh.ps.deployment import actors, serving
from paramesh.ps.durability import identity, whose_folder, worker_files
from paramesh.ps.durability.moves import MoveEnded
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.build import Resized
from paramesh.ps.server.server import Server
from paramesh.ps.server.standby import STANDBY_POINTS
from paramesh.ps.specification.protocol import POINTS, SAVE_POINTS, Replaced
from simulation.checkpoints import (
    FOLDER,
    SHARDS,
    START_FOLDER,
    Commit,
    check_complete,
    start_checkpoint,
)
from simulation.configs import Config, draw
from simulation.disk import Disk, SimPath, in_place
from simulation.model import Model, model_of
from simulation.movers import SimMover
from simulation.servers import Actor, Fleet, SimExecutor, Slot, executing
from simulation.workers import SimWorker
from simulation.world import Dead, Violation, World

#: Seconds after the last fault in which everybody has to come to an end.
ENOUGH = 280.0
#: What may be repaired by hand: the run is started again on its folder.
_AGAIN = "full disk"


class Monitor:
    """What was answered, and whether it holds ever after."""

    def __init__(self, run: Run) -> None:
        self._run = run
        #: By server and incarnation: the latest version that was answered.
        self._answered: defaultdict[Any, dict[int, int]] = defaultdict(dict)
        #: By server and worker: the incarnation of the worker that it has to listen to.
        self._introduced: defaultdict[Any, dict[int, int]] = defaultdict(dict)

    def answered(self, actor: Actor, call: Call, heard: bool, answer: Any) -> None:
        """A server has answered a call.

        Args:
            actor: the server.
            call: which.
            heard: when the call came, the worker that spoke was the latest one, as far as the
                server had told anybody.
            answer: to the call.
        """
        if not heard:
            raise Violation(f"{actor.name} has listened to a worker that was replaced: {call[0]}")
        if call[0] == "hello" and call[1][1] is not None:
            known = self._introduced[_key(actor)]
            known[call[1][0]] = max(call[1][1], known.get(call[1][0], 0))
        said = state_in(answer)
        if said is None or self._run.excused & {"lose folder", "flip log"}:
            return
        incarnation, version = said
        known = self._answered[_key(actor)]
        for other, seen in known.items():
            # One that was replaced can have nothing that its successor has not begun with.
            less = seen > version if other <= incarnation else seen < version
            if less:
                raise Violation(
                    f"{actor.name} answers from version {version} (incarnation {incarnation}): "
                    f"incarnation {other} has answered from version {seen}"
                )
        known[incarnation] = max(version, known.get(incarnation, 0))

    def hears(self, actor: Actor, call: Call) -> bool:
        """Whether the worker that speaks was not replaced, as far as the server has said."""
        if call[0] not in ("push", "step", "leave", "save") or self._run.excused & {"lose folder"}:
            return True
        worker, incarnation = call[1][:2]
        return incarnation >= self._introduced[_key(actor)].get(worker, 0)


def _key(actor: Actor) -> tuple[int, int]:
    return actor.slot.generation, actor.slot.server


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run has ended.

    Attributes:
        seed: of it.
        faults: how many of each kind.
        events: how many in all.
        seconds: of virtual time.
        ended: the error that it had to end with; empty if it came to its end.
        starts: how often the run was started.
        saved: how many checkpoints were committed.
        moved: how often the servers were moved.
        changed: how often the number of workers was.
    """

    seed: int
    faults: Counter[str]
    events: int
    seconds: float
    ended: str
    starts: int
    saved: int
    moved: int
    changed: int


class Failed(AssertionError):
    """A run in which an invariant does not hold."""


class Run:
    """One run; see the module.

    Args:
        seed: decides everything.
        config: what it is; None: as the seed says.
    """

    def __init__(self, seed: int, config: Config | None = None) -> None:
        self.seed = seed
        self.config = config or draw(seed)
        self.run_config_fields = self.config.run_config()
        self.world = world = World(seed)
        self.disk = Disk(world)
        self.disk.interrupt = self._interrupt
        c = self.config
        self.model = model_of(c.mode, c.staleness, c.workers, c.table, bool(c.loaded))
        if c.changes:  # it learns how many workers a step has
            self.model = Model(c.mode, c.staleness, c.workers, c.table)
        #: How often the number of workers was changed.
        self.changes = 0
        self.start_identity = f"{1:032x}"
        if c.loaded:
            self.disk.give(START_FOLDER, start_checkpoint(c.mode, c.table, c.loaded))
        #: Of each folder, the newest checkpoint that a worker has committed; and all, in order.
        self._committed: dict[str, Commit] = {}
        self._bases: list[Commit] = []
        self.saved = 0
        self.monitor = Monitor(self)
        #: Faults after which an error is right.
        self.excused: set[str] = set()
        self.ended = ""
        self.starts = 1
        self.folder = SimPath("/run")
        #: By generation; of those before the latest one nothing is expected any more.
        self._fleets: dict[int, Fleet] = {}
        self._movers: list[SimMover] = []
        self.moves = 0
        self._workers: dict[int, SimWorker] = {}
        self._gone: set[int] = set()
        self._lives: Counter[int] = Counter()
        self._coming: set[int] = set()
        self._broken = True

    # From the beginning to the end.

    def run(self) -> Result:
        """Run it.

        Raises:
            Failed: an invariant does not hold; the message has the trace.
        """
        world, config = self.world, self.config
        defaults = {"beside": config.beside}
        with (
            in_place(self.disk, SimExecutor),
            executing(world),
            mock.patch.object(serving, "FOLLOW", config.follow),
            mock.patch.dict(Server.__init__.__kwdefaults__, defaults),
        ):
            try:
                if config.resizes or config.changes:
                    mine = Identity(
                        config.servers, config.workers, config.mode, config.staleness, SHARDS
                    )
                    whose_folder.own(self.folder, make=True)
                    identity.write(self.folder, mine, "session")
                    for seconds, servers in config.resizes:
                        world.after(seconds, self._resize, servers)
                    for seconds, workers in config.changes:
                        world.after(seconds, self._want, workers)
                self._start()
                world.after(world.random.uniform(0, config.pause), self._strike)
                world.after(config.calm, self._stop_breaking)
                world.run(config.calm + ENOUGH, self._done)
                if not self._done():
                    raise Violation(f"it hangs: {self._who_waits()}")
                self._check_checkpoints()
                if not self.ended and "lose folder" not in self.excused:
                    self._check_end()
            except (Exception, Violation) as error:
                raise Failed(self._describe(error)) from error
            finally:
                for mover in self._movers:
                    mover.close()
        return Result(
            self.seed,
            world.faults,
            world.events,
            world.now,
            self.ended,
            self.starts,
            self.saved,
            self.moves,
            self.changes,
        )

    def _describe(self, error: BaseException) -> str:
        trace = "\n".join(self.world.trace)
        return (
            f"seed {self.seed}: {type(error).__name__}: {error}\n{self.config}\n"
            f"the last of what happened:\n{trace}"
        )

    def _start(self) -> None:
        """The cluster, and all workers."""
        self.world.say(f"start {self.starts}")
        try:
            workers = self._needed()
        except OSError as error:
            if not self._must(str(error)):
                raise
            self.world.after(1.0, self._start)  # there is no room again: once more
            return
        random = self.world.random
        self._fleets = {}
        self.fleet()
        self._workers, self._gone = {}, set()
        self._coming = set()
        for rank in range(workers):
            self._hire_soon(random.uniform(0, 0.1), rank)

    def _needed(self) -> int:
        """How many workers a start takes: as many as the run was changed to, or had before."""
        if self.starts == 1 or not self.config.changes:
            return self.config.workers
        worker_files.settle(self.folder, identity.server_folder(self.folder, 0))
        first: dict[str, Any] = {"worker_num": self.config.workers}
        said = worker_files.current(self.folder, first)
        return max(said["worker_num"], said.get("workers_before") or 0)

    def fleet(self) -> Fleet:
        """The servers that the run has, by its folder."""
        config, random = self.config, self.world.random
        generation, servers, place, name = 0, config.servers, self.folder, None
        if config.resizes or config.changes:
            generation = identity.generation(self.folder)
            servers = identity.read(self.folder).server_num
            place, name = identity.servers_place(self.folder), identity.run_name(self.folder)
        if generation in self._fleets:
            return self._fleets[generation]
        self._fleets[generation] = fleet = Fleet(self, generation, place, name)
        for server in range(servers):
            kills: list[tuple[str, int, int]] = []
            if "planned" in config.kinds and self._broken:
                for _ in range(random.randrange(4)):
                    saves = SAVE_POINTS if config.saves else ()
                    point = random.choice((*POINTS, *STANDBY_POINTS, *saves))
                    version = random.randrange(config.steps * config.workers)
                    kills.append((point, version, random.randrange(1, 5)))
            pair = (0, 1) if config.standby else (0,)
            fleet.slots.append([Slot(self, server, at, kills, fleet) for at in pair])
        for former, left in self._fleets.items():
            if former < generation:
                for slot in [slot for pair in left.slots for slot in pair]:
                    slot.end("a worker has ended it: the run has moved")
        return fleet

    # Moves.

    def _resize(self, servers: int) -> None:
        """Somebody wants another number of servers, and does not see the lock of another mover."""
        if self._done():
            return
        self.world.say(f"resize to {servers}")
        self.world.fault("resized")
        self._movers.append(SimMover(self, servers))

    def moved(self, done: Resized) -> None:
        """A mover has done it."""
        self.moves += done.before != done.after

    def not_moved(self, mover: SimMover, error: Exception | None) -> None:
        """A mover could not, or has died: it is tried again."""
        if error is not None and not isinstance(error, MoveEnded) and not self._must(str(error)):
            raise Violation(f"false alarm: {mover.name} has {type(error).__name__}: {error}")
        self.world.after(self.world.random.uniform(0.1, 3.0), self._resize, mover.servers)

    @property
    def broken(self) -> bool:
        """Whether something may go wrong still."""
        return self._broken

    # Other numbers of workers.

    def _want(self, workers: int) -> None:
        """Somebody wants another number of workers, and a launcher starts those that it takes."""
        if self._done():
            return
        world = self.world
        before = identity.read(self.folder).worker_num
        number = worker_files.want(self.folder, before, workers, "session")
        if number is None:
            world.after(world.random.uniform(0.1, 3.0), self._want, workers)
            return
        world.say(f"{workers} workers are wanted ({number})")
        world.fault("workers wanted")
        if world.chance(self.config.withdrawn):
            world.after(world.random.uniform(0.0, 2.0), worker_files.stop, self.folder, number)
        for rank in range(before, workers):
            # One that was there before may not have gone yet.
            world.after(world.random.uniform(0.0, 1.0), self._employ, rank)

    def _employ(self, rank: int) -> None:
        away = rank in self._gone or rank not in self._workers
        if not away and rank not in self._coming:
            if not self._done():
                self.world.after(0.2, self._employ, rank)
            return
        self._gone.discard(rank)
        if rank not in self._coming:
            self._hire_soon(0.0, rank)

    def learn(self, worker: SimWorker) -> None:
        """A worker knows how many workers there are at which step: all know the same."""
        known = len(self.model.sets.others)
        try:
            self.model.sets.take(worker.worker.sets.others)
        except ParameterServerError as error:
            raise Violation(f"{worker.name} knows other sets: {error}") from error
        self.changes += len(self.model.sets.others) - known

    def _hire_soon(self, seconds: float, rank: int) -> None:
        self._coming.add(rank)
        self.world.after(seconds, self._hire, rank, self.starts)

    def _hire(self, rank: int, start: int) -> None:
        self._coming.discard(rank)
        if start == self.starts and rank not in self._gone and not self.ended:
            self._lives[rank] += 1
            self._workers[rank] = SimWorker(self, rank, self._lives[rank])

    def _stop_breaking(self) -> None:
        self.world.say("nothing is broken any more")
        self._broken = False
        for slot in self._all_slots():
            slot.kills.clear()
            if slot.process is not None and slot.process.actor is not None:
                slot.process.actor._kills.clear()
        self.disk.full.clear()

    def _done(self) -> bool:
        expected = set(range(self.config.workers)) | self._workers.keys() | self._coming
        return bool(self.ended) or self._gone == expected

    def _who_waits(self) -> str:
        return "; ".join(
            f"{worker.name} at step {worker.step} for {worker.caller.awaited()}"
            f"{'' if worker.alive else ' (dead)'}{' (frozen)' if worker.frozen else ''}"
            for rank, worker in self._workers.items()
            if rank not in self._gone
        )

    # Checkpoints.

    def saver(self, step: int) -> int | None:
        """Which worker saves a checkpoint before a step."""
        rng = random.Random(f"{self.seed} {step}")
        return rng.randrange(self.config.workers) if rng.random() < self.config.saves else None

    def base(self) -> Commit | None:
        """What an increment goes on from, before this step."""
        if not self.config.increments or not self._bases:
            return None
        return self._bases[self.world.random.randrange(len(self._bases))]

    def committed(self, commit: Commit) -> None:
        """A worker has saved a checkpoint, and says so."""
        self.world.say(f"saved {commit.identity[-4:]} in {commit.folder}")
        self.saved += 1
        known = self._committed.get(commit.folder)
        if known is None or known.order < commit.order:
            self._committed[commit.folder] = commit
        self._bases.append(commit)
        self._check_checkpoints()

    def save_failed(self, failures: dict[int, str]) -> None:
        """Servers could not write their parts."""
        self.world.say(f"not saved: {failures}")
        told = "; ".join(failures.values())
        # Their view of a version ends when an update is taken back.
        taken_back = "something other than an update" in told and "full disk" in self.excused
        if not taken_back and not self._must(told):
            raise Violation(f"a checkpoint could not be saved: {failures}")

    def _check_checkpoints(self) -> None:
        """What is in the folders is complete, and not older than what was said to be there."""
        c, world = self.config, self.world
        before, world.current = world.current, None
        interrupt, self.disk.interrupt = self.disk.interrupt, lambda what, folder: None
        # Servers may differ by a push of a worker that was replaced.
        exact = c.mode != "async" or (c.workers == 1 and not c.resizes)
        exact &= not self.excused & {"lose folder", "flip log", "flip snapshot"}
        apart = c.servers if c.mode == "async" and self._lives[0] > 1 else 1
        try:
            for folder in [one for one in self.disk.folders if one.startswith(f"{FOLDER}/")]:
                found = check_complete(folder, c.mode, c.table, self.model, exact, apart)
                known = self._committed.get(folder)
                if known is None:
                    continue
                # In async mode the steps of different workers say nothing of what is newer.
                older = found is None or (found < known.order and c.mode != "async")
                if older:
                    raise Violation(f"{folder} has {found}, and {known.order} was saved there")
        finally:
            world.current, self.disk.interrupt = before, interrupt

    def _check_end(self) -> None:
        """What the files of the servers have is what has to be there."""
        config, world = self.config, self.world
        for slot in self._all_slots():
            slot.close()
        world.current = None
        expected = self.model.at_the_end(config.steps)
        found: dict[str, dict[int, Any]] = {}
        self.disk.interrupt = lambda what, folder: None
        for number, pair in enumerate(self.fleet().slots):
            server = Server(pair[0].folder, self._run_config(), following=True, elastic=True)
            try:
                server.recover()
            except ParameterServerError as error:
                if not self._must(str(error)):
                    raise
                self.ended = str(error)
                return
            due = config.steps
            if config.mode == "async":
                due = sum(map(self.model.sets.at, range(config.steps)))
            if server.version != due:
                raise Violation(f"server {number} ends at version {server.version}, expected {due}")
            for spec in server.store.specs().values():
                found.setdefault(spec["name"].partition("[")[0], {})[number] = server.dump(
                    spec["name"]
                )
        for name, fields in expected.items():
            for field, array in fields.items():
                if field == "ids":
                    there = sorted(int(i) for f in found[name].values() for i in f["ids"])
                    same = there == [int(i) for i in array]
                elif "ids" in fields:
                    rows = {
                        int(i): f[field][place].tobytes()
                        for f in found[name].values()
                        for place, i in enumerate(f["ids"])
                    }
                    same = all(
                        rows.get(int(i)) == array[place].tobytes()
                        for place, i in enumerate(fields["ids"])
                    )
                else:
                    (one,) = found[name].values()
                    same = one[field].tobytes() == array.tobytes()
                if not same:
                    raise Violation(f"{field} of {name} ends with other bits")

    @functools.cache  # noqa: B019 (a run is short)
    def _run_config(self) -> Any:
        return actors.RunConfig(**self.run_config_fields)

    def _all_slots(self) -> list[Slot]:
        return [slot for pair in self._pairs() for slot in pair]

    def _pairs(self) -> list[list[Slot]]:
        return [pair for fleet in self._fleets.values() for pair in fleet.slots]

    # What workers tell.

    def left(self, worker: SimWorker) -> None:
        """A worker has come to its end."""
        if self._workers.get(worker.rank) is worker:
            self._gone.add(worker.rank)
        elif not worker.replaced:
            raise Violation(f"{worker.name} ended, and is not the one")

    def failed(self, worker: SimWorker, error: Exception) -> None:
        """A worker has an error."""
        self.world.say(f"{worker.name}: {type(error).__name__}: {error}")
        if isinstance(error, Replaced) and worker.replaced:
            worker.die()
            return
        if worker.replaced:
            worker.die()  # whatever it saw: nothing of it counts
            return
        text = str(error)
        if self._must(text):
            if _AGAIN in self.excused and not self.excused - {_AGAIN}:
                self._start_again()
            else:
                self.ended = text
            return
        raise Violation(f"false alarm: {worker.name} has {type(error).__name__}: {text}")

    def _must(self, text: str) -> bool:
        """Whether a fault was put in that this error is about."""
        said = {
            "full disk": ("cannot be written", "No space left", "could not be repaired"),
            "flip log": (
                "is damaged",
                "lacks record",
                "cannot be recovered",
                "has another record",
                "this server has versions",
            ),
            # What a worker that was started again reads may have been in the damaged one alone.
            "flip snapshot": ("this server has versions",),
            "lose folder": ("",),
        }
        return any(
            fault in self.excused and any(part in text for part in parts)
            for fault, parts in said.items()
        )

    def _start_again(self) -> None:
        """As a user does: end what is left, make room, and start on the same folder."""
        self.disk.full.clear()
        for slot in self._all_slots():
            slot.close()
        for worker in self._workers.values():
            worker.die()
        self.starts += 1
        self.world.after(1.0, self._start)

    # The network.

    def _latency(self) -> float:
        c, random = self.config, self.world.random
        seconds = random.expovariate(1.0) * c.latency
        if self._broken and self.world.chance(c.late):
            self.world.fault("late")
            seconds += random.choice((0.1, 1.0, 5.0)) * random.random()
        return seconds

    def _is_lost(self) -> bool:
        if self._broken and self.world.chance(self.config.lost):
            self.world.fault("lost")
            return True
        return False

    def send(self, worker: SimWorker, request: int, server: int, at: int, call: Call) -> None:
        """A message of a worker."""
        world, fleet = self.world, worker.fleet
        slot = fleet.slots[server][at]
        if self._is_lost():
            return

        def answer(event: Event) -> None:
            # That a process died is what Ray says, here.
            if slot.over or (not isinstance(event, Died) and self._is_lost()):
                return
            worker.main.later(self._latency(), worker.hear, request, event, fleet)

        world.after(self._latency(), self._arrive, slot, call, answer)
        if self._broken and world.chance(self.config.duplicated):
            world.fault("duplicated")
            world.after(self._latency(), self._arrive, slot, call, lambda event: None)

    def _arrive(self, slot: Slot, call: Call, answer: Any) -> None:
        if not slot.over:
            slot.call(call, answer)

    def lifelines_broke(self, actor: Actor) -> None:
        """A process has died, and the kernel says so."""
        if not self.config.standby:
            return
        for worker in self._workers.values():
            worker.main.later(self.world.random.uniform(0, 0.03), worker.broke, actor.pid)

    def process_of(self, server: int, pid: int) -> Actor | None:
        """The process with this number, if it lives."""
        for slot in [slot for pair in self._pairs() for slot in pair if slot.server == server]:
            if slot.process is not None and slot.process.pid == pid:
                return slot.process
        return None

    def kill_frozen(self, server: int, pid: int) -> bool:
        """A worker kills a process that does not answer."""
        process = self.process_of(server, pid)
        if process is None or not self.config.same_host:
            return False
        process.slot.lose("a worker has killed it")
        return True

    # Faults.

    def _interrupt(self, what: str, folder: str) -> None:
        """A process is about to do something with a file."""
        c, world = self.config, self.world
        if not self._broken or not (c.killed or c.frozen or c.slow or c.mover) or world.deep:
            return
        thread = world.current
        assert thread is not None
        process = thread.process
        if isinstance(process, SimWorker):
            self._interrupt_worker(process, what)
        if isinstance(process, SimMover):
            process.interrupted(what)
        if not isinstance(process, Actor):
            return
        draw = world.random.random()
        if draw < c.killed:
            world.fault("killed in a file operation")
            process.dying = what == "write"
            process.slot.lose(f"in the middle of {what}", process)
            raise Dead
        if draw < c.killed + c.frozen:
            seconds = world.random.choice((0.05, 0.5, 8.0, 20.0)) * world.random.random()
            if not process.frozen:
                process.frozen = True
                world.fault("frozen in a file operation")
                world.say(f"{process.name}: frozen in the middle of {what} for {seconds:.2f} s")
                try:
                    world.nap(seconds)
                finally:
                    process.wake()
        elif thread is process.side and draw < c.killed + c.frozen + c.slow:
            world.fault("slow")
            world.nap(world.random.choice((0.01, 0.2, 1.0)) * world.random.random())

    def _interrupt_worker(self, worker: SimWorker, what: str) -> None:
        """A worker is killed, or taken for dead, in the middle of its commit of a checkpoint."""
        world, draw = self.world, self.world.random.random()
        if worker is not self._workers.get(worker.rank) or worker.rank in self._gone:
            return
        if draw < 4 * self.config.killed:
            world.fault("worker killed in a file operation")
            world.say(f"{worker.name}: killed in the middle of {what}")
            worker.die()
            if worker.rank not in self._coming:  # it was taken for dead before, and has a successor
                self._hire_soon(world.random.uniform(0.1, 2.0), worker.rank)
            raise Dead
        if draw < 4 * (self.config.killed + self.config.frozen) and not worker.replaced:
            if worker.step < 0:  # as in `_replace_worker`
                return
            world.fault("replaced in a file operation")
            world.say(f"{worker.name}: replaced in the middle of {what}")
            worker.replaced = True
            self._hire_soon(0.2, worker.rank)
            world.nap(world.random.choice((0.5, 5.0, 20.0)) * world.random.random())

    def _strike(self) -> None:
        """Something goes wrong, now and again."""
        world, c = self.world, self.config
        if not self._broken or not c.kinds:
            return
        world.after(world.random.expovariate(1.0) * c.pause, self._strike)
        kind = world.random.choices(list(c.kinds), list(c.kinds.values()))[0]
        getattr(self, "_" + kind.replace(" ", "_"))()

    def _some_slot(self) -> Slot:
        return self.world.random.choice(self._all_slots())

    def _some_worker(self) -> SimWorker | None:
        away = self._gone | self._coming
        there = [w for rank, w in self._workers.items() if rank not in away and w.alive]
        return self.world.random.choice(there) if there else None

    def _kill_server(self) -> None:
        slot = self._some_slot()
        if slot.process is not None:
            self.world.fault("killed")
            slot.lose("killed")

    def _kill_pair(self) -> None:
        for slot in self.world.random.choice(self._pairs()):
            if slot.process is not None:
                self.world.fault("killed")
                slot.lose("killed with its pair")

    def _freeze_server(self) -> None:
        process = self._some_slot().process
        if process is not None:
            process.freeze(
                self.world.random.choice((0.1, 1.0, 10.0, 25.0)) * self.world.random.random()
            )

    def _cut_off(self) -> None:
        slot = self._some_slot()
        # One that takes over only then, in the middle of its start, is an error that is meant.
        if not self.config.standby and slot.process is not None and slot.process.started:
            slot.cut_off(self.world.random.choice((1.0, 5.0, 20.0)) * self.world.random.random())

    def _kill_worker(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            self.world.fault("worker killed")
            self.world.say(f"{worker.name}: killed at step {worker.step}")
            worker.die()
            delay = self.world.random.uniform(0.1, 2.0)
            self._hire_soon(delay, worker.rank)

    def _freeze_worker(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            worker.freeze(self.world.random.choice((0.1, 1.0, 10.0)) * self.world.random.random())

    def _replace_worker(self) -> None:
        """It is taken for dead, and wakes up when another one has its place."""
        worker = self._some_worker()
        # One that has not introduced itself is as good as one that starts when it wakes up.
        if worker is not None and not worker.frozen and worker.step >= 0:
            worker.freeze(self.world.random.uniform(0.5, 10.0))
            worker.replaced = True
            self.world.fault("replaced")
            self._hire_soon(0.2, worker.rank)

    def _clock(self) -> None:
        processes: list[Any] = [slot.process for slot in self._all_slots()]
        processes += self._workers.values()
        process = self.world.random.choice([one for one in processes if one is not None] or [None])
        if process is not None:
            process.jump(
                self.world.random.choice((0.1, 3.0, 10.0, 40.0)) * self.world.random.random()
            )

    def _power_cut(self) -> None:
        """All of a server's processes die, and what was not on the disk is lost."""
        pair = self.world.random.choice(self._pairs())
        self.world.fault("power cut")
        for slot in pair:
            if slot.process is not None:
                slot.lose("power cut")
        folder = str(pair[0].folder)
        if folder in self.disk.folders:
            self.disk.power_cut(folder)

    def _planned(self) -> None:
        """Deaths at points are planned when servers start."""

    def _full_disk(self) -> None:
        folder = str(self._some_slot().folder)
        self.world.fault("full disk")
        self.world.say(f"the disk of {folder} is full")
        self.excused.add("full disk")
        self.disk.full.add(folder)
        self.world.after(self.world.random.uniform(0.01, 1.0), self.disk.full.discard, folder)

    def _flip(self, prefix: str) -> bool:
        files = self.disk.folders.get(str(self._some_slot().folder), {})
        names = sorted(name for name in files if name.startswith(prefix) and files[name].data)
        if not names:
            return False
        name = self.world.random.choice(names)
        data = files[name].data
        bit = self.world.random.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        self.world.fault(f"flipped {prefix}")
        self.world.say(f"bit {bit} of {name} is flipped")
        return True

    def _flip_snapshot(self) -> None:
        if self._flip("snapshot-"):
            # A second one may be in the other snapshot: then nothing is left.
            self.excused.add("flip log" if "flip snapshot" in self.excused else "flip snapshot")

    def _flip_log(self) -> None:
        if self._flip("log-"):
            self.excused.add("flip log")

    def _lose_folder(self) -> None:
        """A folder is emptied, and what serves from it dies."""
        pair = self.world.random.choice(self._pairs())
        files = self.disk.folders.get(str(pair[0].folder), {})
        if not files:
            return
        self.world.fault("lost folder")
        self.world.say(f"{pair[0].folder} is emptied")
        self.excused.add("lose folder")
        files.clear()
        for slot in pair:
            slot.lose("its folder is gone")


def simulate(seed: int, config: Config | None = None) -> Result:
    """Run a seed.

    Raises:
        Failed: an invariant does not hold.
    """
    return Run(seed, config).run()
