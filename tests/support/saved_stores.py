"""Checkpoints of stores, written as servers write them, without servers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paramesh.checkpoint.formats.apart import Base, Served
from paramesh.checkpoint.sharded.index import index_bytes
from paramesh.checkpoint.sharded.ticket import SAVE, Order, Ticket
from paramesh.ps.client.joined_parts import joined_parts
from paramesh.ps.server.part_writer import write_part
from paramesh.ps.server.store import Store
from paramesh.ps.specification.checkpoints import LoadOrder, SaveOrder, TableOrder
from paramesh.ps.specification.specs import owner_of
from small_stores import SHARDS


def _arrays(store: Store, spec: Any) -> dict[str, str]:
    """The name of the array of each field."""
    name, suffix = owner_of(spec), ".rows" if spec["kind"] == "rows" else ""
    return {
        field: f"{name}{suffix}" if field == "value" else f"{field}.{name}{suffix}"
        for field in store.fields(spec["name"])
    }


def orders_of(
    stores: Sequence[Store], folder: Path, ticket: Ticket, version: int, **more: Any
) -> list[SaveOrder]:
    """Orders to save everything."""
    tables: dict[str, TableOrder] = {}
    dense: dict[str, dict[str, str]] = {}
    for store in stores:
        for spec in store.specs().values():
            name = owner_of(spec)
            fields = _arrays(store, spec)
            if spec["kind"] == "rows":
                tables[name] = TableOrder(name, fields, "base" not in more)
            else:
                dense[name] = fields
    identity = more.pop("identity", None) or secrets.token_hex(16)
    common = (identity, ticket.token, str(folder), ticket.name, version)
    return [
        SaveOrder(*common, number, len(stores), number, SHARDS, tables, dense, **more)
        for number in range(len(stores))
    ]


def commit(
    ticket: Ticket, orders: Sequence[SaveOrder], base: Base | None = None, texts: Any = None
) -> None:
    """Write the index of what was written."""
    identity = orders[0].identity
    joined = joined_parts([order.part for order in orders], identity, 0)
    files = [order.part.name for order in orders]
    served = Served(identity, joined.tables, base)
    metadata = {SAVE: ticket.order.text()}
    appended = joined.texts | (texts or {})
    ticket.commit(index_bytes(files, joined.arrays, appended, metadata, (), served))


def save_stores(
    stores: Sequence[Store],
    folder: Path,
    version: int,
    *,
    since: int | None = None,
    base: Base | None = None,
    offset: int = 0,
) -> str:
    """Save everything of some servers; the identity."""
    folder.mkdir(exist_ok=True)
    ticket = Ticket(folder, secrets.token_hex(4), Order(version, 1, 0))
    ticket.take()
    more = {} if base is None else {"base": base.identity}
    orders = orders_of(stores, folder, ticket, version, **more)
    for store, order in zip(stores, orders, strict=True):
        known = dict.fromkeys(order.tables, None if since is None else since + offset)
        write_part(order, store.view(), version, known, lambda name: None)
    commit(ticket, orders, base)
    return orders[0].identity


def load_orders(store: Store, folder: Path, identity: str) -> list[LoadOrder]:
    """Orders to load a store's tables."""
    found: dict[str, LoadOrder] = {}
    for spec in store.specs().values():
        if spec["kind"] == "rows":
            name, fields = spec["name"], _arrays(store, spec)
            found[name] = LoadOrder(str(folder), identity, name, name, fields, SHARDS)
    return list(found.values())
