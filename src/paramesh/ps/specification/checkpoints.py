"""What a worker tells servers to save into a checkpoint, or to load from one.

A dense Parameter is stored under its name, and a state of its optimizer as `SLOT.NAME`. A table is
stored as its trained rows, by virtual shard (see `checkpoint.sharded.tables`):

    NAME.ids            (rows,) Int64
    NAME.rows           (rows, *row)
    SLOT.NAME.rows      (rows, *row): a state of the optimizer of each
    NAME.groups         (shards,) Int64: how many rows each virtual shard has

and one that admits or drops rows besides

    NAME.last           (rows,) Int64: the update that each row occurred in last, on the table's
                        clock (see `row_life`; in async mode each server has its own)
    NAME.candidates, .candidate_counts, .candidate_last
                        (ids,) Int64: ids that were met and not admitted
    NAME.account        (servers, 4) Int64: of admitted, rejected, expired and evicted rows
    NAME.admitted, .dropped
                        (events, 2) Int64: the latest of them (see `row_life`)
    NAME.life           a JSON text: the clock at which all that was

An increment has of a table the rows that have changed, NAME.total_groups, and of one that drops
rows NAME.kept: the ids of all rows there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.array_types import Json
from paramesh.errors import ParameterServerError

_HEX = {"identity": 32, "token": 8}


class TableOrder(NamedTuple):
    """A table in a checkpoint.

    Attributes:
        name: that it has there.
        fields: "value" and slots of the optimizer: the name of the array of each.
        complete: all of its rows are saved, whatever the base is.
    """

    name: str
    fields: Mapping[str, str]
    complete: bool = True

    @property
    def ids(self) -> str:
        """The name of the array of ids."""
        return f"{self.name}.ids"

    @property
    def groups(self) -> str:
        """The name of the array that counts the rows of each virtual shard."""
        return f"{self.name}.groups"

    def extra(self, what: str) -> str:
        """The name of another array of the table."""
        return f"{self.name}.{what}"


#: Arrays of a table that admits or drops rows: by field of its life, and with the shape of an
#: element of each.
LIFE: dict[str, tuple[str, tuple[int, ...]]] = {
    "candidates": ("candidates", ()),
    "meetings": ("candidate_counts", ()),
    "met_last": ("candidate_last", ()),
    "account": ("account", (4,)),
    "admitted": ("admitted", (2,)),
    "dropped": ("dropped", (2,)),
}


class SaveOrder(NamedTuple):
    """What one server has to save.

    Attributes:
        identity: of the checkpoint.
        token: in the names of its files.
        folder: of the checkpoint, which all hosts see.
        ticket: the name of a file in it: without it nobody waits for the checkpoint any more.
        version: of the server that is saved; None: the one that it has.
        server: the number of the server.
        servers: how many there are.
        number: of the server's file among those of the checkpoint.
        shards: how many virtual shards.
        tables: by Parameter.
        dense: by Parameter, the name of the array of each field.
        base: the identity of the checkpoint that an increment goes on from; "": it is none.
        checksums: store checksums.
    """

    identity: str
    token: str
    folder: str
    ticket: str
    version: int | None
    server: int
    servers: int
    number: int
    shards: int
    tables: Mapping[str, TableOrder]
    dense: Mapping[str, Mapping[str, str]]
    base: str = ""
    checksums: bool = False

    @property
    def part(self) -> Path:
        """The file of the server."""
        return Path(self.folder) / f"part-{self.token}-{self.number:05d}.safetensors"

    def plain(self) -> dict[str, Json]:
        """For a message, and for the log."""
        tables = {name: table._asdict() for name, table in self.tables.items()}
        dense = {name: dict(fields) for name, fields in self.dense.items()}
        return self._asdict() | {"tables": tables, "dense": dense}


def taken_order(said: Json) -> SaveOrder:
    """The order of a message.

    Raises:
        ParameterServerError: it is none.
    """
    try:
        tables = {
            str(name): TableOrder(**table | {"fields": _texts(table["fields"])})
            for name, table in said["tables"].items()
        }
        dense = {str(name): _texts(fields) for name, fields in said["dense"].items()}
        order = SaveOrder(**said | {"tables": tables, "dense": dense})
        numbers = (order.server, order.servers, order.number, order.shards, order.version or 0)
        texts = (order.identity, order.token, order.folder, order.ticket, order.base)
        valid = all(type(number) is int and number >= 0 for number in numbers)
        valid &= all(type(text) is str for text in texts) and "/" not in order.ticket
        valid &= order.server < order.servers <= order.shards
        for field, length in _HEX.items():
            valid &= bool(re.fullmatch(f"[0-9a-f]{{{length}}}", getattr(order, field)))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ParameterServerError(f"the order of a checkpoint is not valid: {error!r}.") from None
    if not valid:
        raise ParameterServerError(f"the order of a checkpoint is not valid: {said!r}.")
    return order


def _texts(said: Json) -> dict[str, str]:
    if not all(type(text) is str for pair in said.items() for text in pair):
        raise ValueError(f"{said!r} does not map texts to texts")
    return dict(said)


class LoadOrder(NamedTuple):
    """What servers have to load of one table.

    Attributes:
        folder: of the checkpoint, which all hosts see.
        identity: that it must have.
        param: the name of the table.
        name: that it has in the checkpoint.
        fields: the name of the array of each field.
        shards: how many virtual shards there are.
    """

    folder: str
    identity: str
    param: str
    name: str
    fields: Mapping[str, str]
    shards: int

    def plain(self) -> dict[str, Json]:
        """For a message."""
        return self._asdict() | {"fields": dict(self.fields)}


def taken_load(said: Json) -> LoadOrder:
    """The order of a message.

    Raises:
        ParameterServerError: it is none.
    """
    try:
        order = LoadOrder(**said | {"fields": _texts(said["fields"])})
        texts = (order.folder, order.identity, order.param, order.name)
        valid = all(type(text) is str for text in texts) and type(order.shards) is int
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ParameterServerError(f"the order to load is not valid: {error!r}.") from None
    if not valid:
        raise ParameterServerError(f"the order to load is not valid: {said!r}.")
    return order


def shard_range(server: int, servers: int, shards: int) -> tuple[int, int]:
    """The virtual shards of a server: from the first one, to the one after the last."""
    return -(-server * shards // servers), -(-(server + 1) * shards // servers)


#: The key of a part's metadata that says what the part is.
PART = "paramesh.part"


class PartFacts(NamedTuple):
    """What the part of a server says of itself.

    Attributes:
        identity: of the checkpoint.
        server: its number.
        servers: how many there are.
        version: of the server that was saved.
        tables: by name in the checkpoint: `columns` (the arrays with a row for each), `extras` (the
            others), `complete`, `totals` and `kept` (names of arrays, or ""), and `clock`.
        dense: by array, the shape of the full one, and of the pieces here the first element and the
            one after the last.
    """

    identity: str
    server: int
    servers: int
    version: int
    tables: dict[str, Any]
    dense: dict[str, Any]
