"""A read-only client of a run on servers, live or ended.

A reader follows the logs of all servers, as a standby does, and has their state in its own memory.
It sends nothing to servers or workers, takes no lock, and changes no file: no step waits for it,
and it may be killed at any time. Everything that is read between two calls of `refresh` is of one
version.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from paramesh.dtype import DType, to_dtype
from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.ps.durability import identity, whose_folder
from paramesh.ps.server.follower import LogFollower
from paramesh.ps.server.server import Server
from paramesh.ps.specification.id_range import inside, range_of
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import RunConfig
from paramesh.ps.specification.specs import owner_of

Array = np.ndarray[Any, Any]

#: How often a log that changes under the reader is read anew, and the seconds between two tries.
_TRIES, _PAUSE = 20, 0.05


class RunReader:
    """What a run has trained; made by `connect`. It is a context manager.

    Its methods may be called in several threads.

    Args:
        wal_dir: the folder of the run.

    Attributes:
        version: how many updates the values have; of an async run the least of its servers.

    Raises:
        ParameterServerError: it is not the folder of a run, or its logs are damaged.
    """

    def __init__(self, wal_dir: str | os.PathLike[str]) -> None:
        self._folder = Path(wal_dir).absolute()  # it is looked at again
        self._lock = threading.RLock()
        self._servers: list[Server] = []
        self._generation = -1
        self._open()
        self.version = 0
        self._closed = False
        self.refresh()

    def _open(self) -> bool:
        """Begin with the servers that the run has now; False: they are those that are known."""
        try:
            while True:
                generation = identity.generation(self._folder)
                if generation == self._generation:
                    return False
                run = identity.read(self._folder)
                place = identity.servers_place(self._folder)
                folders = [place / f"server-{number}" for number in range(run.server_num)]
                wrong = self._wrong(folders)
                if generation == identity.generation(self._folder):  # all is of one generation
                    break
        except OSError as error:
            raise ParameterServerError(
                f"wal_dir='{self._folder}' cannot be read: {error.strerror or error}"
            ) from error
        if wrong is not None:
            raise wrong
        for server in self._servers:
            server.clear()
        self._generation = generation
        self._config = RunConfig(run.worker_num, run.mode, run.staleness)
        self._partition = Partition(run.server_num, run.shards)
        self._servers = [
            Server(folder, self._config, following=True, holds_saves=False, elastic=True)
            for folder in folders
        ]
        self._followers = [
            LogFollower(server, folder)
            for server, folder in zip(self._servers, folders, strict=True)
        ]
        return True

    def _wrong(self, folders: list[Path]) -> ParameterServerError | None:
        """What is wrong with the folders of the servers."""
        name = identity.run_name(self._folder)
        try:
            for number, folder in enumerate(folders):
                whose_folder.check_belongs(folder, name, number)
        except ParameterServerError as error:
            return error
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"version {self.version}"
        return f"RunReader('{self._folder}', {state}, {len(self._servers)} servers)"

    def close(self) -> None:
        """Free the memory; the reader cannot be used any more."""
        with self._lock:
            self._closed = True
            for server in self._servers:
                server.clear()

    def refresh(self) -> int:
        """Read what was logged since, and move to the newest version that all servers have.

        Returns:
            The version.

        Raises:
            ParameterServerError: a log is damaged, or was removed.
        """
        with self._lock:
            self._check_open()
            failures: list[str] = []
            versions: list[int] = []
            for tried in range(_TRIES):
                if tried:
                    time.sleep(_PAUSE)
                fresh = self._open()  # the run may have been moved to another number of servers
                # Servers that were read first are not read again: others would be ahead of them.
                known = max(server.version for server in self._servers)
                target = known if tried and not fresh else None
                failures = [self._follow(at, target) for at in range(len(self._servers))]
                versions = [server.version for server in self._servers]
                behind = max(versions) - min(versions)
                together = self._config.mode == "async" or behind <= self._config.behind
                if not any(failures) and together:
                    self.version = min(versions)
                    return self.version
            raise ParameterServerError(
                f"the run in '{self._folder}' cannot be read: "
                + (
                    "; ".join(failure for failure in failures if failure)
                    or f"its servers are at the versions {versions}, of which none is on all."
                )
            )

    def _follow(self, at: int, target: int | None) -> str:
        """Follow a log, up to a version if one is given; why it could not be followed."""
        follower, server = self._followers[at], self._servers[at]
        if target is None or server.version < target or follower.number is None:
            follower.follow(lambda: target is not None and server.version >= target)
        return follower.failure

    def _check_open(self) -> None:
        if self._closed:
            raise ParameterStateError("this reader was closed: connect again.")

    # What there is.

    @property
    def names(self) -> list[str]:
        """Of all Parameters that have values."""
        return sorted(self._specs())

    @property
    def tables(self) -> list[str]:
        """The names of those of which single rows are on the servers."""
        return sorted(name for name, spec in self._specs().items() if spec["kind"] == "rows")

    def _specs(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            self._check_open()
            return {owner_of(spec): spec for server in self._servers for spec in server.known()}

    def _spec(self, name: str, kind: str) -> dict[str, Any]:
        specs = self._specs()
        if name not in specs:
            raise ParameterStateError(
                f"Parameter '{name}' does not exist in the run of '{self._folder}', which has "
                f"{', '.join(sorted(specs)) or 'none yet'}."
            )
        spec = specs[name]
        if spec["kind"] != kind:
            raise ParameterStateError(
                f"Parameter '{name}' is a table of rows: read it with lookup or items."
                if kind == "dense"
                else f"Parameter '{name}' is not a table of rows: read it with value."
            )
        return spec

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a Parameter, or the full shape of a table.

        Raises:
            ParameterStateError: no such Parameter.
        """
        spec = self._specs().get(name)
        if spec is None or spec["kind"] == "dense":
            spec = self._spec(name, "dense")
            return tuple(spec.get("whole", spec["shape"]))
        return (spec["rows"], *spec["row_shape"])

    def dtype(self, name: str) -> DType:
        """The element type of a Parameter.

        Raises:
            ParameterStateError: no such Parameter.
        """
        spec = self._specs().get(name)
        return to_dtype((spec or self._spec(name, "dense"))["dtype"])

    # Values.

    def value(self, name: str) -> Array:
        """The values of a Parameter that is not a table, at `version`.

        Raises:
            ParameterStateError: no such Parameter, or it is a table.
        """
        with self._lock:
            self._spec(name, "dense")
            shape = self.shape(name)
            pieces = {
                piece.name: self._servers[piece.server].read_version(self.version, piece.name)
                for piece in self._partition.pieces(name, math.prod(shape))
            }
            return np.array(self._partition.join_values(name, shape, pieces))

    def lookup(self, name: str, ids: ArrayLike) -> Array:
        """Rows of a table, at `version`.

        Args:
            name: of the table.
            ids: integers of any shape, in any order.

        Returns:
            (*ids.shape, *row); rows that were never trained have their initial values.

        Raises:
            ParameterStateError: no such table.
            TypeError: the ids are not integers.
            ValueError: an id out of range.
        """
        with self._lock:
            spec = self._spec(name, "rows")
            given = self._ids(name, ids)
            flat = given.reshape(-1).astype(np.int64)
            there = inside(flat, spec["rows"])
            if not there.all():
                raise ValueError(
                    f"Parameter '{name}' has {range_of(spec['rows'])}; row "
                    f"{given.reshape(-1)[~there][0]} is out of range."
                )
            row = tuple(spec["row_shape"])
            parts = self._partition.split_rows(flat)
            rows = [
                server.read_version(self.version, name, flat[mine])
                for server, mine in zip(self._servers, parts, strict=True)
            ]
            out = np.empty((len(flat), *row), rows[0].dtype)
            for mine, values in zip(parts, rows, strict=True):
                out[mine] = values
            return out.reshape(*given.shape, *row)

    @staticmethod
    def _ids(name: str, ids: ArrayLike) -> Array:
        try:
            given = np.asarray(ids)
        except ValueError as error:
            raise TypeError(
                f"Parameter '{name}': ids must be an array of integers: {error}"
            ) from None
        if given.dtype.kind not in "iu" and given.size:
            raise TypeError(f"Parameter '{name}': ids must be integers, got {given.dtype}.")
        return given

    def ids(self, name: str) -> Array:
        """The ids of the trained rows of a table, at `version`: (rows,) Int64, sorted.

        Raises:
            ParameterStateError: no such table.
        """
        with self._lock:
            self._spec(name, "rows")
            return np.sort(np.concatenate([s.rows_at(self.version, name) for s in self._servers]))

    def items(self, name: str, block: int = 1 << 16) -> Iterator[tuple[Array, Array]]:
        """All trained rows of a table, in blocks, in the order of their ids.

        Beside the ids, only one block is copied at a time.

        Args:
            name: of the table.
            block: the most rows of a block.

        Yields:
            ((rows,) Int64, (rows, *row)).

        Raises:
            ParameterStateError: no such table; `refresh` was called meanwhile.
            TypeError: `block` is not an integer.
            ValueError: `block` is less than 1.
        """
        if not isinstance(block, int | np.integer) or isinstance(block, bool):
            raise TypeError(f"block must be an integer, got {type(block).__name__} {block!r}.")
        if block < 1:
            raise ValueError(f"block must be at least 1, got {block}.")
        return self._blocks(name, self.ids(name), block, self.version)

    def _blocks(
        self, name: str, ids: Array, block: int, version: int
    ) -> Iterator[tuple[Array, Array]]:
        for first in range(0, len(ids), block):
            mine = ids[first : first + block]
            with self._lock:
                if self.version != version:
                    raise ParameterStateError(
                        f"Parameter '{name}' was iterated at version {version}, and refresh moved "
                        f"the reader to version {self.version}: start the iteration again."
                    )
                rows = self.lookup(name, mine)
            yield mine, rows


def connect(wal_dir: str | os.PathLike[str]) -> RunReader:
    """Open a run on servers for reading, whether it is running or has ended.

    The reader has the state of all servers in its memory, and no influence on the run.

    Args:
        wal_dir: the folder of the run (`set_ps_context(wal_dir=…)`).

    Raises:
        TypeError: it is not a path.
        ParameterServerError: it is not the folder of a run, or its logs are damaged.
    """
    if not isinstance(wal_dir, str | os.PathLike):
        raise TypeError(
            f"connect(wal_dir): expected the folder of a run, got {wal_dir!r} "
            f"({type(wal_dir).__name__})."
        )
    return RunReader(wal_dir)
