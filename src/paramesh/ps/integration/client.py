"""What a session needs of the servers, wherever they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from paramesh.ps.server.refresh import Refresh
from paramesh.ps.specification.checkpoints import LoadOrder, SaveOrder
from paramesh.ps.specification.partition import Partition
from paramesh.telemetry.journal import Json

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]


class Client(Protocol):
    """What a session needs of the servers; all names and values are those of full Parameters.

    Attributes:
        rank: of this worker, from 0.
        workers: how many there are, or were when this one was started.
        start: the first step of this worker: 0, or where the servers are.
    """

    rank: int
    workers: int
    start: int

    def workers_at(self, step: int) -> int:
        """How many workers make up a step: one that is made, the next one or the one after it."""
        ...

    def divide(self) -> None:
        """The script divides its batches anew when the number of workers changes."""
        ...

    @property
    def incarnation(self) -> int:
        """Of this worker; 0 where none is restarted."""
        ...

    @property
    def partition(self) -> Partition:
        """Of Parameters over the servers."""
        ...

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """Declare Parameters (see `Store.declare`) with the first values of those without recipe.

        The first worker's values count. Back when the Parameters can be read.

        Raises:
            ParameterServerError: the servers have something else of one of the names.
        """
        ...

    def known(self, specs: list[dict[str, Any]]) -> list[str]:
        """The names of those Parameters that the servers have values of; they can be read then.

        Args:
            specs: as for `declare`; without an optimizer.

        Raises:
            ParameterServerError: the servers have something else of that name.
        """
        ...

    def step(
        self,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        wanted: Iterable[str],
        refresh: Refresh | None = None,
    ) -> dict[str, Array]:
        """Push the gradients of a step; the dense Parameters that are wanted, for the next one.

        The questions in `refresh` go with it, and their answers come in `refresh.news`.
        """
        ...

    def pull(self, step: int, wanted: Iterable[str]) -> dict[str, Array]:
        """Dense Parameters as step `step` reads them."""
        ...

    def ask_ahead(self, step: int, wanted: Mapping[str, Array]) -> None:
        """Request rows that `pull_tables` will be asked for; back at once.

        The servers answer when they have the version that the step reads, so that the rows come
        with the answer to the push before it. Another request takes the place of this one, and
        one that nobody takes costs time and nothing else.

        Args:
            step: which reads them.
            wanted: as for `pull_tables`.
        """
        ...

    def pull_tables(self, step: int, wanted: Mapping[str, Array]) -> dict[str, Array]:
        """Rows of tables as step `step` reads them, in one request to each server.

        Args:
            step: which reads them.
            wanted: by table, the ids: sorted, each once.

        Returns:
            (ids, *row) by table; not to be written to.
        """
        ...

    def items(self, name: str, count: int) -> Iterator[tuple[Array, Array]]:
        """The trained rows of a table, in blocks of at most `count`: ids and rows.

        Raises:
            ParameterServerError: a step was made meanwhile.
        """
        ...

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> None:
        """Give a Parameter, or rows of a table, other values and state; before the first step."""
        ...

    def dump(self, name: str) -> dict[str, Array]:
        """The values and the optimizer's state of a Parameter by field; `ids` for a table."""
        ...

    def stats(self) -> list[dict[str, Any]]:
        """Of each server what it counts, as `Server.stats`; `life` at least."""
        ...

    def note(self, event: str, **facts: object) -> None:
        """Write an event to the worker's (see `processes.events`)."""
        ...

    def fields(self, name: str) -> list[str]:
        """What servers have of a Parameter: "value", and slots of the optimizer; []: nothing."""
        ...

    def save(self, orders: Sequence[SaveOrder]) -> None:
        """Have each server begin to save its part of a checkpoint.

        Back when later steps do not change what is saved.
        """
        ...

    def saved(self, identity: str) -> dict[int, str]:
        """Wait until the servers have saved their parts; why they could not, by server.

        It may be called in another thread, while steps are made.
        """
        ...

    def load(self, order: LoadOrder) -> None:
        """Have each server take its rows of a table from a checkpoint; before the first step.

        Raises:
            CheckpointError: the checkpoint is not what it was, or does not fit.
        """
        ...

    def place(self) -> dict[str, Json]:
        """Where the servers are: `address` and `job` of their cluster, `wal_dir`; {}: here."""
        ...

    def close(self) -> None:
        """End what this client started."""
        ...
