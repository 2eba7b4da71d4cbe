"""Who moves a run to another number of servers: the real mover, as a process of the simulation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import moves
from paramesh.ps.durability.moves import Move
from paramesh.ps.resizing.live import move_live
from paramesh.ps.specification.partition import Partition
from simulation.checkpoints import SHARDS
from simulation.world import Dead, Process

if TYPE_CHECKING:
    from simulation.run import Run


class SimMover(Process):
    """One process of `paramesh ps resize`.

    It is one long call, beside which all else happens; so it has a stack of its own: a thread that
    runs only while the thread of the world waits for it.

    Args:
        run: which it moves.
        servers: to how many servers.
    """

    own_stack = True

    def __init__(self, run: Run, servers: int) -> None:
        super().__init__(run.world, f"mover to {servers}")
        self.run, self.servers = run, servers
        self.main = self.thread()
        self._side = self.thread()
        self._over = False
        self._here, self._there = threading.Semaphore(0), threading.Semaphore(0)
        self._raised: BaseException | None = None
        self._stack = threading.Thread(target=self._stacked, daemon=True)
        self._stack.start()
        self._go_on()

    def close(self) -> None:
        """Nothing of it happens any more."""
        self.alive = False
        self._go_on()
        self._stack.join()

    def _go_on(self) -> None:
        """Let it do something, until it naps or ends."""
        if self._over:
            return
        before, self.world.current = self.world.current, self.main
        self._here.release()
        self._there.acquire()
        self.world.current = before
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def nap(self, seconds: float) -> None:
        """As `World.nap`, for who has a stack of its own."""
        self.world.after(seconds, self._go_on)
        self._there.release()
        self._here.acquire()
        if not self.alive:
            raise Dead

    def _stacked(self) -> None:
        self._here.acquire()
        try:
            self._work()
        except Dead:
            pass
        except BaseException as error:
            self._raised = error
        self.alive, self._over = False, True
        self._there.release()

    def _work(self) -> None:
        if not self.alive:
            raise Dead
        try:
            done = move_live(
                self.run.folder,
                Partition(self.servers, SHARDS),
                self.reach,
                self._beating,
            )
        except (ParameterServerError, OSError) as error:
            self.world.say(f"{self.name}: {type(error).__name__}: {error}")
            self.run.not_moved(self, error)
        else:
            self.world.say(f"{self.name}: {done.before} -> {done.after} at {done.version}")
            self.run.moved(done)

    @contextlib.contextmanager
    def _beating(self, move: Move) -> Generator[None]:
        going = [True]

        def beat() -> None:
            if going:
                with contextlib.suppress(OSError):
                    move.beat()
                self._side.later(moves.BEAT, beat)

        self._side.later(moves.BEAT, beat)
        try:
            yield
        finally:
            going.clear()

    def reach(self, point: str) -> None:
        """It is at a point: others go on, and it may die or be frozen here."""
        self.world.say(f"{self.name}: {point}")
        self.interrupted(point, 4.0)
        self.nap(self.world.random.expovariate(1.0) * (self.run.config.latency + 0.02))

    def interrupted(self, what: str, times: float = 1.0) -> None:
        """It may die now, or be frozen."""
        world, share = self.world, times * self.run.config.mover
        if not self.run.broken or not self.alive or world.current is not self.main:
            return
        draw = world.random.random()
        if draw < share:
            world.fault("mover killed")
            world.say(f"{self.name}: killed at {what}")
            self.die()
            self.run.not_moved(self, None)
            raise Dead
        if draw < 1.5 * share and not self.frozen:
            seconds = world.random.choice((0.5, 5.0, 40.0)) * world.random.random()
            self.frozen = True
            world.fault("mover frozen")
            world.say(f"{self.name}: frozen at {what} for {seconds:.2f} s")
            try:
                self.nap(seconds)
            finally:
                self.wake()
