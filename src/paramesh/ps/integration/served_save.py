"""The part of a checkpoint that servers write: nothing of it comes to a worker.

A sharded checkpoint has a part of each server besides those of the processes. The worker says what
is to be saved, at the version that it is at; the servers hold that version while steps go on; and
the index is written when all parts are there.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.checkpoint.formats.apart import Base, Joined, Served
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.sharded.increments import open_sharded
from paramesh.checkpoint.sharded.ticket import SAVE, Order, Ticket
from paramesh.errors import CheckpointError
from paramesh.parameter import Parameter
from paramesh.ps.client.joined_parts import joined_parts
from paramesh.ps.client.worker import ServersChanged
from paramesh.ps.integration import checkpointing
from paramesh.ps.integration.session import Session
from paramesh.ps.server.row_life import RowLife
from paramesh.ps.specification.checkpoints import SaveOrder, TableOrder
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.specs import is_table, spec_of
from paramesh.tensor.base import Tensor

Array = np.ndarray[Any, Any]


class ServedSave:
    """What servers save of one checkpoint.

    Args:
        session: the connection.
        entries: what is to be saved, by name.
        leads: this process asks the servers; others leave it to that one.

    Attributes:
        rest: what the processes save themselves, by name.
        texts: what is stored as text, by name.
        names: of the arrays that servers write.
    """

    def __init__(self, session: Session, entries: Mapping[str, Any], leads: bool) -> None:
        self._session = session
        self._leads = leads
        self.rest: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._tables: dict[str, dict[str, str]] = {}
        self._dense: dict[str, dict[str, str]] = {}
        self._params: dict[str, Parameter] = {}
        self._ticket: Ticket | None = None
        self._orders: list[SaveOrder] = []
        self._base: Base | None = None
        for name, data in entries.items():
            if not (isinstance(data, Parameter) and self._take(name, data)):
                self.rest[name] = data

    def _take(self, name: str, data: Parameter) -> bool:
        """Whether the servers write an entry."""
        state = checkpointing.state_of(name, data)
        slot, param = ("value", data) if state is None else state
        if not param.is_param_ps or not checkpointing.on_servers(param, self._session):
            return False
        if slot not in self._session.client.fields(param.name):
            return is_table(param)  # there is no such state, as in other formats
        self._params[param.name] = param
        if not is_table(param):
            self._dense.setdefault(param.name, {})[slot] = name
            return True
        self._tables.setdefault(param.name, {})[slot] = f"{name}.rows"
        if state is None:
            self._names[param.name] = name
            assert param.recipe is not None
            self.texts[f"{name}.recipe"] = json.dumps(initial_values_of(name, param.recipe))
        return True

    @property
    def names(self) -> list[str]:
        """Of the arrays that servers write."""
        found = [array for fields in self._dense.values() for array in fields.values()]
        for table, fields in self._tables.items():
            order = TableOrder(self._names.get(table, table), fields)
            found += [*fields.values(), order.ids, order.groups]
        return found

    def entries(self) -> list[Entry]:
        """One for each array that servers write; of what shape is known later."""
        dtypes = {
            array: self._params[param].dtype
            for param, fields in (*self._dense.items(), *self._tables.items())
            for array in fields.values()
        }
        any_dtype = next(iter(dtypes.values()), None)
        assert any_dtype is not None or not self.names
        return [Entry.of(name, dtypes.get(name, any_dtype), ()) for name in self.names]  # type: ignore[arg-type]

    # Saving.

    def begin(self, path: Path, token: str, first: int, checksums: bool, base: Path | None) -> None:
        """Have the servers begin; back when later steps do not change what is saved.

        Args:
            path: the folder, which is there.
            token: of the save.
            first: the number of the first file of a server.
            checksums: store checksums.
            base: the folder of the checkpoint that an increment goes on from; None: it is none.

        Raises:
            CheckpointError: the base is missing, or not one that servers have written.
            ParameterServerError: the servers cannot be reached, or do not know the base.
            OSError: from the file system.
        """
        if not self._leads:
            return
        session, client = self._session, self._session.client
        folder = path.resolve()
        tables = self._table_orders(folder, base)
        order = Order(session.at, client.incarnation, client.rank)
        self._ticket = ticket = Ticket(folder, token, order)
        ticket.take()
        version = None if session.settings["mode"] == "async" else session.at
        while True:
            servers, identity = client.partition.servers, secrets.token_hex(16)
            self._orders = [
                SaveOrder(
                    identity,
                    token,
                    str(folder),
                    ticket.name,
                    version,
                    server,
                    servers,
                    first + server,
                    client.partition.shards,
                    tables,
                    self._dense,
                    "" if self._base is None else self._base.identity,
                    checksums,
                )
                for server in range(servers)
            ]
            try:
                client.save(self._orders)
            except ServersChanged:
                continue  # parts of former servers are no one's
            return

    def _table_orders(self, folder: Path, base: Path | None) -> dict[str, TableOrder]:
        tables = {
            param: TableOrder(self._names.get(param, param), fields)
            for param, fields in self._tables.items()
        }
        if base is None:
            return tables
        with open_sharded(base) as source:
            if not source.identity:
                raise CheckpointError(
                    f"save_checkpoint: base='{base}' was not written by servers: an increment "
                    "goes on from a sharded checkpoint of a run with servers."
                )
            self._base = Base(os.path.relpath(base.resolve(), folder), source.identity)
            for param, order in tables.items():
                there = source.tables.get(order.name)
                if there is not None and {*there.names} == self._columns(param, order):
                    tables[param] = order._replace(complete=False)
        return tables

    def _columns(self, param: str, order: TableOrder) -> set[str]:
        """The columns of a table, with its ids."""
        limited = RowLife(spec_of(self._params[param])).limited
        last = {order.extra("last")} if limited else set()
        return {order.ids, *order.fields.values(), *last}

    @property
    def overtaken(self) -> bool:
        """Whether a newer save into the folder has committed since."""
        return self._ticket is not None and self._ticket.overtaken

    def join(self) -> Joined | None:
        """Wait for the servers.

        Returns:
            What they have written; None: a newer save into the folder has committed since.

        Raises:
            CheckpointError: a server could not write its part.
            ParameterServerError: a server cannot be reached.
        """
        assert self._ticket is not None
        identity = self._orders[0].identity
        failures = self._session.client.saved(identity)
        if self._ticket.overtaken:
            return None
        if failures:
            said = "; ".join(f"server {server}: {why}" for server, why in sorted(failures.items()))
            raise CheckpointError(
                f"'{self._ticket.folder}' was not saved, since servers could not write their parts "
                f"({said}). The previous checkpoint, if any, is unchanged."
            )
        paths = [order.part for order in self._orders]
        joined = joined_parts(paths, identity, 0)
        return Joined(
            [path.name for path in paths],
            joined.arrays,
            joined.texts,
            {
                SAVE: self._ticket.order.text(),
                "paramesh.versions": json.dumps(joined.versions),
            },
            Served(identity, joined.tables, self._base),
        )

    def commit(self, index: Callable[[Joined], bytes]) -> None:
        """Wait for the servers, and put the index into the folder.

        Args:
            index: makes it of what the servers have written.

        Raises:
            CheckpointError, ParameterServerError: as `join`.
            OSError: from the file system; what was there before stays.
        """
        joined = self.join()
        if joined is not None and self._ticket is not None:
            self._ticket.commit(index(joined))

    def give_up(self) -> None:
        """Nothing is to be committed."""
        if self._ticket is not None:
            self._ticket.give_up()


def served_save(
    session: Session | None, entries: dict[str, Any], leads: bool
) -> tuple[dict[str, Any], dict[str, str], ServedSave | None]:
    """What the processes save of entries, texts, and what servers save (see `Placement`).

    Raises:
        ParameterServerError: the servers cannot be reached.
    """
    if session is None:
        rest, texts = checkpointing.saved(entries, None)
        return rest, texts, None
    mine = ServedSave(session, _with_counts(session, entries), leads)
    rest, texts = checkpointing.saved(mine.rest, session)
    if not mine.names:
        return rest, texts, None
    return rest, texts | mine.texts, mine


def _with_counts(session: Session, entries: dict[str, Any]) -> dict[str, Any]:
    counts = checkpointing.counts_of(session)
    return {
        name: Tensor(counts[data]) if isinstance(data, Parameter) and data in counts else data
        for name, data in entries.items()
    }
