"""Servers and standbys: the real actors, each in a process of the simulation that Ray starts again.

Glossary
    slot        the place of an actor: its handle, behind which one process follows another
    zombie      a process that its slot has given up (its node was partitioned) and that goes on
                later
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from paramesh.errors import ParameshError
from paramesh.ps.client.exchange import (
    Call,
    Died,
    Event,
    Missing,
    Moves,
    NotServed,
    Refused,
    Replied,
)
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.deployment.host import Turns
from paramesh.ps.durability.log import Fenced
from paramesh.ps.specification.protocol import Moving, NotServing, PushesMissing
from simulation.tasks import Lock, Signal, Task
from simulation.world import Dead, Process, Violation, World

if TYPE_CHECKING:
    from simulation.run import Run

#: Told what a call came to.
Answer = Callable[[Event], None]


class Nobody:
    """Nobody learns of a server."""

    bytes_pulled = 0

    def look(self, server: Any) -> None:
        pass

    def failed(self, error: Exception, worker: int, step: int) -> None:
        pass

    def sent(self, values: Any) -> None:
        pass


class SimHost:
    """As `Host`, in the simulation."""

    def __init__(self, process: Actor) -> None:
        self._process = process
        self.pid = process.pid

    def clock(self) -> float:
        return self._process.clock()

    def where(self) -> str:
        return f"process {self.pid}"

    def identity(self) -> str:
        return "here"

    def beacon(self) -> tuple[str, int]:
        return self._process.name, self.pid

    def watch(self, folder: Any, job: str) -> Nobody:
        return Nobody()

    def give_back(self) -> None:
        pass

    def give_back_after(self, size: int) -> None:
        pass

    def give_back_soon(self) -> None:
        pass

    def event(self) -> Signal:
        return Signal(self._process.main)

    def lock(self) -> Lock:
        return Lock(self._process.main)

    async def pause(self, seconds: float) -> None:
        ready = self.event()
        self._process.main.later(seconds, ready.set)
        await ready.wait()

    def spawn(self, work: Coroutine[Any, None, None]) -> None:
        Task(self._process.main, work, self._spawned).go_on()

    def _spawned(self, value: None, error: Exception | None) -> None:
        if error is not None:
            raise error

    async def beside(self, work: Callable[..., Any], *args: Any) -> Any:
        thread, ready = self._process.thread(), self.event()
        found: list[Any] = []

        def run() -> None:
            try:
                found.append((work(*args), None))
            except Exception as error:
                found.append((None, error))
            ready.set()

        thread.later(self._process.world.random.uniform(0.0, 0.01), run)
        await ready.wait()
        value, error = found[0]
        if error is not None:
            raise error
        return value

    def repeat(self, name: str, turns: Turns) -> Callable[[], None]:
        process, thread = self._process, self._process.thread()
        stopped: list[bool] = []
        turn = turns(lambda: bool(stopped))

        def run() -> None:
            if stopped:
                return
            try:
                pause = next(turn)
            except Exception as error:
                process.world.say(f"{process.name}: thread {name} ends it: {error}")
                self.end(1)
                return
            thread.later(max(pause, 1e-3), run)

        thread.later(1e-3, run)
        return lambda: stopped.append(True)

    def end(self, code: int) -> None:
        self._process.slot.lose("it ended itself", self._process)
        self._process.die()
        raise Dead

    def kill(self) -> None:
        self._process.world.fault("killed at a point")
        self.end(-9)


class SimExecutor:
    """As `ThreadPoolExecutor`: snapshots and checkpoints beside, the log's writer at once."""

    def __init__(self, workers: int, name: str) -> None:
        self._name = name

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        thread = _world_of_now[-1].current
        assert thread is not None
        if self._name == "log":
            self._run(future, work, args)
        else:
            process = thread.process
            assert isinstance(process, Actor)
            process.side.later(
                process.world.random.uniform(0.0, 0.05), self._run, future, work, args
            )
        return future

    def _run(self, future: Future[Any], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            future.set_result(work(*args))
        except Exception as error:
            future.set_exception(error)

    def shutdown(self) -> None:
        pass


_world_of_now: list[World] = []


@contextlib.contextmanager
def executing(world: World) -> Any:
    """Executors belong to this world."""
    _world_of_now.append(world)
    try:
        yield
    finally:
        _world_of_now.pop()


class Actor(Process):
    """A process of a server or a standby."""

    def __init__(self, slot: Slot) -> None:
        super().__init__(slot.run.world, f"{slot.name} ({slot.run.world._pids + 1})")
        self.slot = slot
        #: It is killed in the middle of a write.
        self.dying = False
        self.zombie = self.started = False
        self.main = self.thread()
        self.side = self.thread()
        #: Calls that are not answered.
        self.owes: dict[int, Answer] = {}
        self.actor: ServerActor | None = None

    def start(self) -> None:
        """Its constructor: recovery, unless it is one of a pair."""
        run, slot = self.slot.run, self.slot
        try:
            self.actor = ServerActor(
                str(slot.folder),
                run.run_config_fields,
                slot.kills,
                pair=run.config.standby,
                fsync=run.config.fsync,
                run=None if slot.run_name is None else (slot.run_name, slot.server),
                home=None if slot.run_name is None else str(run.folder),
                host=SimHost(self),  # type: ignore[arg-type]
            )
        except Exception as error:
            slot.end(f"{type(error).__name__}: {error}")
            return
        if self.alive:
            self.started = True
            self.world.say(f"{self.name}: started")

    def serve(self, number: int, call: Call) -> None:
        """Carry out a call."""
        method, arguments = call
        if method == "step":
            arguments = (arguments,)
        work = getattr(self.actor, method)(*arguments)
        heard = self.slot.run.monitor.hears(self, call)

        def done(value: Any, error: Exception | None) -> None:
            self.answered(number, call, heard, value, error)

        Task(self.main, work, done).go_on()

    def answered(
        self, number: int, call: Call, heard: bool, value: Any, error: Exception | None
    ) -> None:
        """A call has come to its end."""
        answer = self.owes.pop(number, None)
        event = _event_of(value, error)
        if isinstance(event, Replied):
            self.slot.run.monitor.answered(self, call, heard, value)
        if answer is not None and not self.zombie:
            answer(event)


def _event_of(value: Any, error: Exception | None) -> Event:
    if error is None:
        return Replied(0, value)
    if isinstance(error, PushesMissing):
        return Missing(0)
    if isinstance(error, Moving):
        return Moves(0, bool(error.latest), error)
    if isinstance(error, NotServing | Fenced):
        return NotServed(0, error.latest, isinstance(error, Fenced), error)
    if isinstance(error, ParameshError | OSError | ValueError):
        return Refused(0, error)
    raise Violation(f"a server raised {type(error).__name__}: {error}") from error


class Fleet:
    """The servers of one generation (see `moves`).

    Args:
        run: which they belong to.
        generation: how often the servers were moved.
        place: the folder that has theirs.
        run_name: of the run, in its folder; None: it has none, and is never moved.
        slots: of each server, those of its actors.
    """

    def __init__(self, run: Run, generation: int, place: Any, run_name: str | None) -> None:
        self.run, self.generation, self.place, self.run_name = run, generation, place, run_name
        self.slots: list[list[Slot]] = []


class Slot:
    """The place of one actor of a server.

    Args:
        run: which it belongs to.
        server: number of the server.
        at: which of its actors.
        kills: planned deaths (see `serving.Kill`).
        fleet: the servers that it is one of.
    """

    def __init__(
        self, run: Run, server: int, at: int, kills: list[tuple[str, int, int]], fleet: Fleet
    ) -> None:
        self.run, self.server, self.at, self.kills = run, server, at, kills
        self.generation, self.run_name = fleet.generation, fleet.run_name
        self.name = f"server-{server}" + ("-standby" if at else "")
        if fleet.generation:
            self.name += f"@{fleet.generation}"
        self.folder = fleet.place / f"server-{server}"
        self.process: Actor | None = None
        self.ended = ""
        self.over = False
        self._queue: list[tuple[Call, Answer]] = []
        self._numbers = 0
        run.world.after(0.0, self._begin)

    def _begin(self) -> None:
        if self.over or self.ended:
            return
        self.process = process = Actor(self)
        process.main.do(process.start)
        queue, self._queue = self._queue, []
        for call, answer in queue:
            self.call(call, answer)

    def call(self, call: Call, answer: Answer) -> None:
        """A message has come; `answer` gets the result, unless nobody ever is."""
        process = self.process
        if self.ended:
            answer(Died(0, self.ended))
        elif process is None:  # Ray keeps calls, or says that there is nobody
            if self.run.world.chance(0.5):
                self._queue.append((call, answer))
            else:
                answer(Died(0))
        else:
            self._numbers += 1
            process.owes[self._numbers] = answer
            if call[0] == "ping" and not process.frozen:
                process.answered(self._numbers, call, True, process.pid, None)
            else:
                process.main.do(self._serve, process, self._numbers, call)

    def _serve(self, process: Actor, number: int, call: Call) -> None:
        if process.actor is not None:
            process.serve(number, call)

    def lose(self, why: str, process: Actor | None = None) -> None:
        """The process dies, or one that is not in its place any more; Ray starts another one."""
        if process is None and self.over:
            return
        process = process or self.process
        if process is None:
            return
        run = self.run
        if self.over or process is not self.process:
            process.die()
            return
        run.world.say(f"{process.name}: dies ({why})")
        process.die()
        self._give_up(process)
        run.lifelines_broke(process)

    def _give_up(self, process: Actor) -> None:
        run, random = self.run, self.run.world.random
        self.process = None
        for answer in process.owes.values():
            run.world.after(random.uniform(0.0, 1.5), answer, Died(0))
        process.owes = {}
        run.world.after(random.uniform(0.05, run.config.restart), self._begin)

    def cut_off(self, seconds: float) -> None:
        """Its node is lost: Ray starts another process, and this one goes on later."""
        process = self.process
        if process is None or self.over or process.frozen:
            return
        run = self.run
        run.world.fault("zombie")
        process.zombie = True
        process.freeze(seconds)
        run.world.say(f"{process.name}: cut off")
        self._give_up(process)
        run.lifelines_broke(process)

    def end(self, why: str) -> None:
        """The constructor failed, or a worker has it ended: Ray does not start it again."""
        if self.ended or self.over:
            return
        process = self.process
        self.ended = why
        self.run.world.say(f"{self.name}: ended: {why}")
        if process is not None:
            process.die()
            self.process = None
            for answer in process.owes.values():
                self.run.world.after(0.1, answer, Died(0, why))
        for _, answer in self._queue:
            self.run.world.after(0.1, answer, Died(0, why))
        self._queue = []

    def close(self) -> None:
        """The cluster ends."""
        self.over = True
        if self.process is not None:
            self.process.die()
            self.process = None
