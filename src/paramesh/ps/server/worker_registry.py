"""Which workers a server listens to.

Glossary
    incarnation of a worker     how often it was started; the server listens to the latest only
    life                        a random number of one process, so that two processes that claim
                                the same incarnation are distinguished
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from paramesh.errors import ParameterServerError
from paramesh.ps.specification.protocol import Replaced


class WorkersState(TypedDict):
    """The registry as a snapshot has it."""

    incarnations: dict[int, int]
    lives: dict[int, int]
    next: dict[int, int]
    left: list[int]


class Introduction(TypedDict):
    """What a worker says when it starts."""

    worker: int
    incarnation: int
    life: int


class WorkerRegistry:
    """The workers of a run, as one server knows them.

    Args:
        count: how many the run has.

    Attributes:
        incarnations: the latest, by worker.
        next_push: in async mode the step after the last one that each worker has pushed.
        divides: whether the script of a worker divides its batches anew, by worker; of those that
            have pushed since this server started.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.divides: dict[int, bool] = {}
        self.incarnations: dict[int, int] = {}
        self.next_push: dict[int, int] = {}
        self._lives: dict[int, int] = {}
        self._left: set[int] = set()

    def check_exists(self, worker: int) -> None:
        """Raise ParameterServerError for a worker that the run does not have."""
        if not 0 <= worker < self._count:
            raise ParameterServerError(
                f"worker {worker} does not exist: this run has workers 0 to {self._count - 1}. "
                "worker_num has to be the same in all processes."
            )

    def check(self, worker: int, incarnation: int) -> None:
        """Raise Replaced unless this is the latest incarnation of a worker."""
        known = self.incarnations.get(worker)
        if known != incarnation:
            raise Replaced(
                f"worker {worker} sent a message as incarnation {incarnation}, but the server "
                f"accepts incarnation {known}: this process was replaced and must exit."
            )

    def check_life(self, worker: int, incarnation: int, life: int) -> None:
        """Raise Replaced if another process has the same incarnation; `life` 0 is never checked."""
        if life and self._lives.get(worker, life) not in (0, life):
            raise Replaced(
                f"two processes are incarnation {incarnation} of worker {worker}: this one was "
                "replaced and must exit. Check that the worker was not started twice."
            )

    def introduce(self, said: Mapping[str, int]) -> None:
        """A worker has started (see `Introduction`; older logs have no `life`)."""
        worker = said["worker"]
        self.incarnations[worker] = said["incarnation"]
        self._lives[worker] = said.get("life", 0)
        self._left.discard(worker)

    def leave(self, worker: int) -> None:
        """A worker has finished."""
        self._left.add(worker)

    def has_left(self, worker: int) -> bool:
        """Whether a worker has finished."""
        return worker in self._left

    def is_here(self, worker: int) -> bool:
        """Whether a worker has started, and not finished."""
        return worker in self.incarnations and worker not in self._left

    def remaining(self, count: int) -> int:
        """How many workers have not finished: of the last set, and others that are here.

        Args:
            count: how many the last set has.
        """
        expected = set(range(count)) | self.incarnations.keys()
        return len(expected - self._left)

    def pushed(self, worker: int, step: int | None) -> None:
        """In async mode, a push of a worker was applied.

        Args:
            worker: whose.
            step: which; None: the next one, as in older logs, which do not say it.
        """
        step = self.next_push.get(worker, 0) if step is None else step
        self.next_push[worker] = step + 1

    def state(self) -> WorkersState:
        """What a snapshot keeps."""
        return {
            "incarnations": dict(self.incarnations),
            "lives": dict(self._lives),
            "next": dict(self.next_push),
            "left": sorted(self._left),
        }

    def load(self, meta: Mapping[str, Mapping[str, int] | list[int]]) -> None:
        """Restore what `state` returned, from JSON; older snapshots lack `lives` and `left`."""

        def integers(key: str) -> dict[int, int]:
            found = meta.get(key, {})
            assert isinstance(found, Mapping)
            return {int(k): v for k, v in found.items()}

        self.incarnations = integers("incarnations")
        self._lives = integers("lives")
        self.next_push = integers("next")
        self._left = set(meta.get("left", ()))  # type: ignore[arg-type]
