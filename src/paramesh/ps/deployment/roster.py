"""Who belongs to a run of separately started processes: who came, which is which, who has left.

Glossary
    role        "server" or "worker"; the scheduler keeps the roster
    key         of a process: its host, and its number there, which rises from start to start
    complete    all servers and workers have come; from then on each has a number
    silent      a process that has not been heard of for `SILENCE` seconds: its place is free

No network and no threads: the scheduler makes it a Ray actor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Seconds between two signs of life, and until a process without one has lost its place.
BEAT, SILENCE = 1.0, 15.0

Key = tuple[str, int]


@dataclass
class _Member:
    key: Key
    wish: int | None
    heard: float
    number: int | None = None
    left: bool = False

    def __str__(self) -> str:
        return f"process {self.key[1]} on {self.key[0]}"


class Roster:
    """The processes of a run.

    Args:
        servers: how many there have to be.
        workers: how many there have to be.
        timeout: seconds until one that does not come, or does not come back, fails the run.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        servers: int,
        workers: int,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = {"server": servers, "worker": workers}
        self._members: dict[str, dict[Key, _Member]] = {"server": {}, "worker": {}}
        self._timeout = timeout
        self._clock = clock
        self._began = clock()
        self._complete = False
        self._failed: str | None = None

    def meet(self, role: str, key: Key, wish: int | None = None) -> dict[str, Any]:
        """A process says that it is there; to be repeated until it has a number.

        Ranks are given out when all have come: to those that wish for one that, to the others in
        the order of their hosts' names and of their starts there.

        Args:
            role: of the process.
            key: of the process.
            wish: the number that it was given.

        Returns:
            `number` (None: not yet), `waiting` (for whom) and `failed` (why the run did).
        """
        now = self._clock()
        members = self._members[role]
        if key in members:
            members[key].heard = now
        elif len(members) < self._wanted[role] and not self._complete:
            members[key] = _Member(key, wish, now)
        else:
            self._replace(role, _Member(key, wish, now))
        self._settle()
        mine = members.get(key)
        waiting = "" if self._complete else self._missing()
        if mine is None:
            waiting = f"a place: {self._wanted[role]} {role}s are here already"
        number = mine.number if mine is not None and self._complete else None
        return {"number": number, "waiting": waiting, "failed": self._failed}

    def _replace(self, role: str, newcomer: _Member) -> None:
        """Give a newcomer the place of one that has fallen silent."""
        members = self._members[role]
        free = [m for m in members.values() if not m.left and self._silent(m)]
        same = [m for m in free if newcomer.wish in (None, m.number, m.wish)]
        if not same:
            return
        old = min(same, key=lambda member: member.heard)
        del members[old.key]
        newcomer.number = old.number
        members[newcomer.key] = newcomer

    def _silent(self, member: _Member) -> bool:
        return self._clock() - member.heard > SILENCE

    def _settle(self) -> None:
        if self._complete or self._failed or self._missing():
            return
        for role, members in self._members.items():
            wishes = [m.wish for m in members.values() if m.wish is not None]
            count = self._wanted[role]
            if len(set(wishes)) < len(wishes) or any(not 0 <= wish < count for wish in wishes):
                self._failed = (
                    f"the {role}s say that they are {sorted(wishes)}; each has to say another "
                    f"number from 0 to {count - 1} (MS_NODE_ID), or none."
                )
                return
            free = iter(sorted(set(range(count)) - set(wishes)))
            for key in sorted(members):
                wish = members[key].wish
                members[key].number = next(free) if wish is None else wish
        self._complete = True

    def _missing(self) -> str:
        """Who has not come, in words."""
        lacking: list[str] = []
        for role, count in self._wanted.items():
            here = len(self._members[role])
            if here < count:
                lacking.append(f"{count - here} of {count} {role}s")
        return " and ".join(lacking)

    def beat(self, role: str, key: Key) -> dict[str, Any]:
        """A sign of life.

        Returns:
            As `look`; `replaced`: another process has this one's place.
        """
        member = self._members[role].get(key)
        if member is not None:
            member.heard = self._clock()
        return self.look() | {"replaced": member is None}

    def leave(self, role: str, key: Key, error: str | None = None) -> None:
        """A process ends: well, or with an error that ends the run."""
        member = self._members[role].get(key)
        if member is None:
            return
        member.left = True
        if error is not None and self._failed is None:
            which = role if member.number is None else f"{role} {member.number}"
            self._failed = f"{which} ({member}) ended with an error: {error}"

    def look(self) -> dict[str, Any]:
        """How the run is.

        Returns:
            `done`: all workers have left; `failed`: why the run did, or None; `here`: how many have
            not left.
        """
        now = self._clock()
        if not self._complete and self._failed is None and now - self._began > self._timeout:
            self._failed = f"{self._missing()} did not come within {self._timeout:g} s."
        for role, members in self._members.items():
            for member in members.values():
                gone = now - member.heard
                if self._complete and not member.left and gone > self._timeout and not self.done:
                    self._failed = self._failed or (
                        f"{role} {member.number} ({member}) was last heard of {gone:.0f} s ago, "
                        "and none has come in its place."
                    )
        here = sum(not m.left for members in self._members.values() for m in members.values())
        return {"done": self.done, "failed": self._failed, "here": here}

    @property
    def done(self) -> bool:
        """Whether all workers have left."""
        workers = self._members["worker"].values()
        return self._complete and all(member.left for member in workers)
