"""How Parameters are partitioned over servers.

Glossary
    shard       one of a fixed number of virtual shards (256); another number of servers moves
                complete shards, and never splits one
    range       consecutive elements of a dense Parameter, which belong to one shard
    piece       what one server has of a Parameter: consecutive ranges under a name of their own
                (`w[0:4096]`), or rows of a table under the name of the table

Dense Parameters are split into ranges that are large enough for a message; tables row by row, by a
hash of the id. The partition depends only on names, sizes, ids and the two numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]

SHARDS = 256
#: A dense range has at least so many elements, if the Parameter has them.
LEAST = 1 << 15

#: The name of a piece: that of its Parameter, and which elements.
PIECE = re.compile(r"(.*)\[(\d+):(\d+)\]", re.DOTALL)

_FACTOR = np.uint64(0xFF51AFD7ED558CCD)


class Range(NamedTuple):
    """Elements `start` to `stop` of a dense Parameter, in row-major order."""

    shard: int
    start: int
    stop: int


def ranges(name: str, size: int, shards: int = SHARDS) -> list[Range]:
    """The ranges of a dense Parameter of `size` elements, in order."""
    count = max(1, min(shards, size // LEAST))
    first = zlib.crc32(name.encode()) % shards
    edges = [size * i // count for i in range(count + 1)]
    # Neighbours on shards far apart, so that few servers share a Parameter evenly too.
    return [
        Range((first + i * shards // count) % shards, edges[i], edges[i + 1]) for i in range(count)
    ]


def shards_of_rows(ids: Array, shards: int = SHARDS) -> Array:
    """The shard of each row of a table."""
    mixed = ids.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * _FACTOR
    return ((mixed >> np.uint64(32)) % np.uint64(shards)).astype(np.int64)


class Piece(NamedTuple):
    """Elements `start` to `stop` of a dense Parameter, on one server under the name `name`."""

    server: int
    start: int
    stop: int
    name: str


class Partition:
    """Parameters over servers.

    Args:
        servers: how many there are.
        shards: how many virtual shards; part of what a checkpoint of shards means.

    Raises:
        ValueError: no server, or more servers than shards.
    """

    def __init__(self, servers: int, shards: int = SHARDS) -> None:
        if not 1 <= servers <= shards:
            raise ValueError(
                f"a partition of {shards} shards needs 1..{shards} servers: {servers}."
            )
        self.servers = servers
        self.shards = shards
        self._server_of = np.arange(shards) * servers // shards
        self._ranges = functools.lru_cache(maxsize=None)(
            lambda name, size: tuple(ranges(name, size, shards))
        )
        self.pieces = functools.lru_cache(maxsize=None)(self._pieces)

    def shards_of(self, server: int) -> list[int]:
        """The shards of a server."""
        return np.flatnonzero(self._server_of == server).tolist()

    def ranges(self, name: str, size: int) -> list[tuple[int, Range]]:
        """(server, range) of a dense Parameter, in order."""
        return [(int(self._server_of[r.shard]), r) for r in self._ranges(name, size)]

    def _pieces(self, name: str, size: int) -> tuple[Piece, ...]:
        """The pieces of a dense Parameter, in order: few, so that a message has few arrays."""
        found: list[Piece] = []
        for server, part in self.ranges(name, size):
            start = part.start
            if found and found[-1].server == server:
                start = found.pop().start
            found.append(Piece(server, start, part.stop, f"{name}[{start}:{part.stop}]"))
        return tuple(found)

    def servers_of_rows(self, ids: Array) -> Array:
        """The server of each row."""
        return self._server_of[shards_of_rows(ids, self.shards)]

    def split_rows(self, ids: Array) -> list[Array]:
        """For each server, which of the ids (their places, in order) are its own."""
        if self.servers == 1:
            return [np.arange(len(ids))]
        home = self.servers_of_rows(ids)
        return [np.flatnonzero(home == server) for server in range(self.servers)]

    # Specs and updates of full Parameters -> those of each server.

    def split_spec(self, spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """The specs of the pieces, for each server (see `Store.declare`)."""
        if spec["kind"] == "rows":
            if "max_rows" not in spec:
                return [[spec] for _ in range(self.servers)]
            # Of each server its part of the ids.
            edges = [
                spec["max_rows"] * first // self.shards
                for first in np.searchsorted(self._server_of, range(self.servers + 1)).tolist()
            ]
            most = [max(1, stop - first) for first, stop in itertools.pairwise(edges)]
            return [[spec | {"max_rows": mine}] for mine in most]
        found: list[list[dict[str, Any]]] = [[] for _ in range(self.servers)]
        size = math.prod(spec["shape"])
        for part in self.pieces(spec["name"], size):
            piece = {"name": part.name, "shape": [part.stop - part.start], "whole": spec["shape"]}
            found[part.server].append(spec | piece | {"offset": part.start})
        return found

    def split_values(self, name: str, values: Array) -> list[dict[str, Array]]:
        """The values (or gradients) of a dense Parameter by pieces, for each server; views."""
        found: list[dict[str, Array]] = [{} for _ in range(self.servers)]
        flat = values.reshape(-1)
        for part in self.pieces(name, flat.size):
            found[part.server][part.name] = flat[part.start : part.stop]
        return found

    def split_updates(self, updates: Update) -> list[dict[str, dict[str, Array]]]:
        """An update of full Parameters as one update for each server."""
        if self.servers == 1 and all("ids" in update for update in updates.values()):
            return [{name: dict(update) for name, update in updates.items()}]
        found: list[dict[str, dict[str, Array]]] = [{} for _ in range(self.servers)]
        for name, update in updates.items():
            if "ids" in update:
                for server, places in enumerate(self.split_rows(update["ids"])):
                    ids, grad = update["ids"], update["grad"]
                    rows = {"ids": ids[places], "grad": np.take(grad, places, axis=0)}
                    found[server][name] = rows
            else:
                for mine, pieces in zip(
                    found, self.split_values(name, update["grad"]), strict=True
                ):
                    mine.update({piece: {"grad": grad} for piece, grad in pieces.items()})
        return found

    def join_updates(self, parts: Sequence[Update]) -> dict[str, dict[str, Array]]:
        """What `split_updates` has made of an update; dense gradients are flat then.

        Args:
            parts: for each server.
        """
        rows: dict[str, list[Mapping[str, Array]]] = {}
        dense: dict[str, list[tuple[int, Array]]] = {}
        for part in parts:
            for name, update in part.items():
                if "ids" in update:
                    rows.setdefault(name, []).append(update)
                else:
                    piece = PIECE.fullmatch(name)
                    assert piece is not None, name
                    dense.setdefault(piece[1], []).append((int(piece[2]), update["grad"]))
        found: dict[str, dict[str, Array]] = {}
        for name, pieces in dense.items():
            pieces.sort(key=lambda piece: piece[0])
            found[name] = {"grad": np.concatenate([grad for _, grad in pieces])}
        for name, mine in rows.items():
            ids = np.concatenate([update["ids"] for update in mine])
            order = np.argsort(ids, kind="stable")
            grad = np.concatenate([update["grad"] for update in mine])
            found[name] = {"ids": ids[order], "grad": grad[order]}
        return found

    def join_values(self, name: str, shape: tuple[int, ...], pieces: Mapping[str, Array]) -> Array:
        """A dense Parameter from its pieces by their names; the only piece is not copied."""
        parts = [pieces[p.name].reshape(-1) for p in self.pieces(name, math.prod(shape))]
        full = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return full.reshape(shape)
