"""Workers: the real state machine and the real operation, over a network of the simulation."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from paramesh.ps.client.caller import Caller
from paramesh.ps.client.exchange import (
    Action,
    Broke,
    Event,
    Forget,
    Kill,
    Killed,
    Note,
    Send,
    Tie,
    Untie,
)
from paramesh.ps.client.fan_out import FanOut, Operation, T
from paramesh.ps.client.moving import persistently
from paramesh.ps.client.worker import ServersChanged, Worker
from paramesh.ps.specification.partition import Partition
from simulation.checkpoints import SHARDS, SimSave, load_start
from simulation.model import DENSE, HYPER, START, TABLES, ids_of, specs, update_of
from simulation.world import Process, Violation

if TYPE_CHECKING:
    from simulation.run import Run
    from simulation.servers import Fleet

#: Seconds of a worker's patience: more than any fault lasts.
TIMEOUT = 200.0


class SimWorker(Process):
    """One life of a worker.

    Args:
        run: which it belongs to.
        rank: of it.
        life: how often it was started before.
    """

    def __init__(self, run: Run, rank: int, life: int) -> None:
        super().__init__(run.world, f"worker-{rank}.{life}")
        self.run, self.rank, self.life = run, rank, life
        self.step = -1
        self.replaced = False
        self.main = self.thread()
        config = run.config
        self.fleet = run.fleet()
        self.caller = self._new_caller()
        self.worker = Worker(
            self.caller,
            run.world.random.randrange(1, 1 << 32),
            eager=config.mode == "async",
            staleness=config.staleness,
        )
        self.worker.partition = Partition(len(self.fleet.slots), SHARDS)
        #: What servers save while steps are made.
        self._saving: SimSave | None = None
        self._operation: Generator[FanOut, dict[int, Any], None] = self._script()
        #: What has come, and what is not asked for yet.
        self._there: dict[int, Event] = {}
        self._wanted: set[int] = set()
        #: By server: the lifeline, and the number of the process at its other end.
        self.ties: dict[int, tuple[int, int]] = {}
        self._broken: set[int] = set()
        self._alarm = 0.0
        self._going = False
        self.main.do(self._resume, None)

    def _new_caller(self) -> Caller:
        config = self.run.config
        return Caller(
            [2 if config.standby else 1] * len(self.fleet.slots),
            rank=self.rank,
            workers=config.workers,
            timeout=TIMEOUT,
            clock=self.clock,
        )

    def _follow(self, error: Exception) -> tuple[Caller, Partition] | None:
        """As `moving.Follow`."""
        fleet = self.run.fleet()
        if fleet.generation <= self.fleet.generation:
            return None
        self.run.world.say(f"{self.name}: goes on with {len(fleet.slots)} servers")
        self.fleet = fleet
        self.caller = self._new_caller()
        self._there, self._wanted, self.ties = {}, set(), {}
        return self.caller, Partition(len(fleet.slots), SHARDS)

    def go(self, begin: Callable[[], Operation[T]]) -> Operation[T]:
        """An operation, whatever servers the run has meanwhile."""
        return persistently(self.worker, begin, self._follow)

    # What it does, and what it must see.

    def _script(self) -> Operation[None]:
        worker, config = self.worker, self.run.config
        model = self.run.model
        yield from self.go(worker.greet)
        worker.divides = True
        self.run.learn(self)
        why = yield from self.go(worker.join)
        self.run.learn(self)
        if why:
            self.run.world.say(f"{self.name}: {why}")
            yield from self.go(worker.leave)
            return
        yield from self.go(lambda: worker.declare(specs(config.mode, config.table), START))
        if config.loaded and not worker.start:
            yield from self.go(lambda: load_start(worker, config, self.run.start_identity))
        values = yield from self.go(lambda: worker.pull(worker.start, DENSE))
        for step in range(worker.start, config.steps):
            self.step = step
            self.run.learn(self)
            if self.rank >= worker.sets.at(step):
                break  # the run goes on without it
            yield from self._save(step)
            rows: dict[str, Any] = {}
            if config.table and not step:
                self._ask_ahead(0)
            if config.table:
                ids = ids_of(step, self.rank)
                rows = yield from self.go(partial(worker.pull_tables, step, ids))
            if config.mode != "async":
                for name in DENSE:
                    self._same(values[name].tobytes(), model.reads(step, name), f"{name} at {step}")
                for name, found in rows.items():
                    expected = model.reads_rows(step, self.rank)[name]
                    self._same(found.tobytes(), expected, f"{name} at {step}")
            update = update_of(
                config.mode,
                step,
                self.rank,
                lambda name, ids=None: values[name] if ids is None else rows[name],  # noqa: B023
                config.table,
            )
            if config.table:
                self._ask_ahead(step + 1)
            values = yield from self.go(partial(worker.step, step, update, HYPER, DENSE))
        else:
            self.step = config.steps
        yield from self.go(worker.settle)
        yield from self._saved(config.steps + config.behind)
        if config.workers == 1 and not config.changes:
            for name, fields in model.at_the_end(config.steps).items():
                found = yield from self.go(partial(worker.dump, name))
                for field, array in fields.items():
                    self._same(
                        found[field].tobytes(), np.asarray(array).tobytes(), f"{name} dumped"
                    )
            for name in TABLES if config.table else ():
                while not (yield from self._iterate(name)):
                    pass
        yield from self.go(worker.leave)

    def _ask_ahead(self, step: int) -> None:
        """Request the rows of a step before it begins; sometimes none, or others than it reads."""
        chance = self.run.world.random.random()
        if chance < self.run.config.ahead:
            other = step + 1 if chance < self.run.config.ahead / 8 else step
            self.worker.ask_ahead(step, ids_of(other, self.rank))

    def _save(self, step: int) -> Operation[None]:
        """A checkpoint, if it is time for one."""
        yield from self._saved(step)
        if self._saving is None and self.run.saver(step) == self.rank:
            self._saving = SimSave(self.run, self, step, self.run.base())
            try:
                yield from self._saving.begin()
            except Exception:
                self._saving.give_up()
                raise
            yield from self._saved(step)

    def _saved(self, step: int) -> Operation[None]:
        saving = self._saving
        if saving is None or step < saving.step + self.run.config.behind:
            return
        self._saving = None
        try:
            yield from saving.end()
        except Exception:
            saving.give_up()
            raise

    def _iterate(self, name: str) -> Operation[bool]:
        """Rows of a table in small blocks are those that are there in the end; False: again."""
        fleet = self.fleet
        expected = self.run.model.at_the_end(self.run.config.steps)[name]
        found: dict[int, bytes] = {}
        for server in range(self.worker.servers):
            after = -1
            while True:
                try:
                    ask = partial(self.worker.pull_items, name, server, after, 3)
                    reply = yield from self.go(ask)
                except ServersChanged:
                    return False
                if self.fleet is not fleet:
                    return False
                ids, rows = reply.values["ids"], reply.values["rows"]
                found |= {int(i): row.tobytes() for i, row in zip(ids, rows, strict=True)}
                if len(ids) < 3:
                    break
                after = int(ids[-1])
        there = zip(expected["ids"].tolist(), expected["value"], strict=True)
        if found != {i: row.tobytes() for i, row in there}:
            raise Violation(f"{self.name} has other rows of {name}: {sorted(found)}")
        return True

    def _same(self, found: bytes, expected: bytes, what: str) -> None:
        if found != expected:
            raise Violation(
                f"{self.name} has other bits of {what}: {np.frombuffer(found, np.float32)}, "
                f"expected {np.frombuffer(expected, np.float32)}"
            )

    # How that is carried out.

    def _resume(self, answers: dict[int, Any] | Exception | None) -> None:
        """Go on with the script, as far as it comes."""
        while True:
            try:
                if isinstance(answers, Exception):
                    turn = self._operation.throw(answers)
                else:
                    turn = (
                        next(self._operation) if answers is None else self._operation.send(answers)
                    )
            except StopIteration:
                self._carry_out()
                self._going = False
                self.run.left(self)
                return
            except Violation:
                raise
            except Exception as error:
                self._failed(error)
                return
            self.caller.begin(turn.calls, self.worker.earlier, turn.sent)
            self._going = True
            self._look()
            if not self.caller.done:
                self._set_alarm()
                return
            answers = self._result()

    def _result(self) -> dict[int, Any] | Exception:
        try:
            return self.caller.result()
        except Exception as error:
            return error

    def _failed(self, error: Exception) -> None:
        self._going = False
        self.run.failed(self, error)

    def _look(self) -> None:
        """Hand in what is there and asked for, and do what is to be done, until that is all."""
        self._carry_out()
        for server, tie in self.caller.tied.items():
            if self.ties.get(server, (0, 0))[1] in self._broken:
                self.caller.take(Broke(server, tie))
        while not self.caller.done:
            ready = [n for n in self.caller.awaited() if n in self._there]
            if not ready:
                break
            for number in ready:
                self.caller.take(self._there.pop(number))
            self._carry_out()
        self._carry_out()

    def _go_on(self) -> None:
        if not self._going:
            return
        self._look()
        if not self.caller.done:
            self._set_alarm()
            return
        self._resume(self._result())

    def _set_alarm(self) -> None:
        due, now = self.caller.due, self.clock()
        if self._alarm <= now or due < self._alarm:
            self._alarm = max(due, now + 1e-4)
            self.main.later(self._alarm - now, self._ring, self._alarm)

    def _ring(self, alarm: float) -> None:
        if alarm == self._alarm:
            self._alarm = 0.0
        if self._going and not self.caller.done:
            self.caller.tick()
            self._go_on()

    def hear(self, number: int, event: Event, fleet: Fleet) -> None:
        """An answer has come."""
        if number not in self._wanted or fleet is not self.fleet:
            return
        self._wanted.discard(number)
        self._there[number] = event._replace(request=number)  # type: ignore[union-attr]
        self._go_on()

    def _carry_out(self) -> None:
        while actions := self.caller.out():
            for action in actions:
                self._do(action)

    def _do(self, action: Action) -> None:
        run = self.run
        match action:
            case Send(request, server, at, call):
                self._wanted.add(request)
                run.send(self, request, server, at, call)
            case Forget(request):
                self._wanted.discard(request)
                self._there.pop(request, None)
            case Tie(server, tie, (_, pid)):
                self.ties[server] = tie, pid
                if run.process_of(server, pid) is None:
                    self.main.later(0.001, self.broke, pid)
            case Untie(server):
                self.ties.pop(server, None)
            case Kill(request, server, pid, _):
                done = run.kill_frozen(server, pid)
                self.caller.take(Killed(request, done))
            case Note(event, facts):
                run.world.say(f"{self.name}: {event} {dict(facts)}")

    def broke(self, pid: int) -> None:
        """The process with this number is dead: a lifeline to it breaks, once somebody looks."""
        self._broken.add(pid)
        self._go_on()
