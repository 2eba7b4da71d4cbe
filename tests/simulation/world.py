"""Virtual time, one source of chance, and everything that happens in one order.

Glossary
    world       the events to come, the time, and what has happened so far
    process     a server's actor or a worker: it can be killed, frozen, and have its clock jump
    thread      of a process: it does one thing after another
    nap         the rest of the world goes on while a thread is in the middle of something: the
                events of that time are run from within it

All chance comes from the seed, and nothing depends on the time of day, on memory addresses or on
the order of a set: a seed gives the same events again.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

#: So many naps in one another; each is a few calls deep.
_DEPTH = 3
#: Seconds that the clock of a process jumps, all in all: less than a worker's timeout.
FURTHEST = 60.0


class Dead(BaseException):
    """The process is gone: nothing of it goes on from here."""


class Violation(BaseException):
    """An invariant of the protocol does not hold, or the simulation is wrong.

    Nothing that is simulated may take it for an error of its own.
    """


class World:
    """A run of the simulation.

    Attributes:
        now: seconds since the beginning.
        faults: how many of each kind were put in.
        events: how many events there were.
        trace: the last of what happened, as lines.
        current: the thread that runs.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.faults: Counter[str] = Counter()
        self.events = 0
        self.trace: deque[str] = deque(maxlen=80)
        self.current: Thread | None = None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._depth = 0
        self._pids = 1000

    def say(self, line: str) -> None:
        """Note what happens."""
        self.trace.append(f"{self.now:10.4f}  {line}")

    def fault(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] += 1

    def chance(self, share: float) -> bool:
        """True with that probability."""
        return share > 0 and self.random.random() < share

    def after(self, seconds: float, what: Callable[..., None], *args: Any) -> None:
        """Have something happen later."""
        self._order += 1
        heapq.heappush(self._heap, (self.now + seconds, self._order, what, args))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, until then or until it is done."""
        heap, current = self._heap, self.current
        while heap and heap[0][0] <= until and not done():
            when, _, what, args = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            self.events += 1
            self.current = None
            try:
                what(*args)
            except Exception as error:
                raise Violation(f"{type(error).__name__}: {error}") from error
        self.current = current
        if not done():
            self.now = max(self.now, until)

    @property
    def deep(self) -> bool:
        """Whether there can be no nap."""
        if self.current is None:
            return True
        return self._depth >= _DEPTH and not self.current.process.own_stack

    def nap(self, seconds: float) -> None:
        """The thread that runs is held up, and the rest of the world is not."""
        thread = self.current
        assert thread is not None
        if thread.process.own_stack:
            thread.process.nap(seconds)
            return
        self._depth += 1
        thread.busy = True
        try:
            self.run(self.now + seconds)
        finally:
            self._depth -= 1
            thread.busy = False
            thread.catch_up()
        if not thread.process.alive:
            raise Dead

    def new_pid(self) -> int:
        """The number of a new process."""
        self._pids += 1
        return self._pids


class Process:
    """Something that can die.

    Args:
        world: where it is.
        name: for people.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.pid = world.new_pid()
        self.alive = True
        self.frozen = False
        self._skew = 0.0
        self._threads: list[Thread] = []

    def clock(self) -> float:
        """Its own seconds, which may jump forward."""
        return self.world.now + self._skew

    def jump(self, seconds: float) -> None:
        """Its clock jumps."""
        seconds = min(seconds, FURTHEST - self._skew)
        self._skew += seconds
        self.world.fault("clock")
        self.world.say(f"{self.name}: its clock jumps by {seconds:.1f} s")

    def thread(self) -> Thread:
        """A new thread."""
        self._threads.append(thread := Thread(self))
        return thread

    #: Whether its naps are no nested calls of the world's.
    own_stack = False

    def nap(self, seconds: float) -> None:
        """As `World.nap`, for who has a stack of its own."""
        raise NotImplementedError

    def die(self) -> None:
        """Nothing of it happens any more."""
        self.alive = False

    def freeze(self, seconds: float) -> None:
        """Nothing of it happens for a while."""
        if self.frozen or not self.alive:
            return
        self.frozen = True
        self.world.fault("frozen")
        self.world.say(f"{self.name}: frozen for {seconds:.2f} s")
        self.world.after(seconds, self.wake)

    def wake(self) -> None:
        """It goes on."""
        if self.frozen and self.alive:
            self.frozen = False
            self.world.say(f"{self.name}: awake")
            for thread in self._threads:
                thread.catch_up()


class Thread:
    """Of a process: one thing after another."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.busy = False
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def do(self, what: Callable[..., None], *args: Any) -> None:
        """Do something now, or when the thread can."""
        process = self.process
        if not process.alive:
            return
        if self.busy or process.frozen:
            self._backlog.append((what, args))
            return
        world = process.world
        before, world.current = world.current, self
        try:
            what(*args)
        except Dead:
            if process.alive:
                raise
        finally:
            world.current = before

    def later(self, seconds: float, what: Callable[..., None], *args: Any) -> None:
        """Do something after a while."""
        self.process.world.after(seconds, self.do, what, *args)

    def catch_up(self) -> None:
        """Do what has been waiting, in order."""
        backlog, self._backlog = self._backlog, deque()
        for what, args in backlog:
            self.process.world.after(0.0, self.do, what, *args)
