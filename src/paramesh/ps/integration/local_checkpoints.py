"""Checkpoints of servers that are in this process: written and read as by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paramesh.ps.durability.snapshot_view import SnapshotView
from paramesh.ps.server.loading import load_some
from paramesh.ps.server.part_writer import write_part
from paramesh.ps.server.saves import Bases, failure_of
from paramesh.ps.server.store import Store
from paramesh.ps.specification.checkpoints import LoadOrder, SaveOrder, shard_range
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.specs import owner_of

Array = np.ndarray[Any, Any]


class LocalCheckpoints:
    """The part of `local_client.LocalClient` that is about checkpoints.

    Args:
        servers: how many there are.

    Attributes:
        partition: of Parameters over them.
        stores: of the servers.
        steps: how many were made.
    """

    def __init__(self, servers: int) -> None:
        self.partition = Partition(servers)
        self.stores = [Store() for _ in range(servers)]
        self.steps = 0
        self.bases = Bases()
        self._saving: dict[str, list[_Part]] = {}

    def fields(self, name: str) -> list[str]:
        """As in `Client`."""
        for store in self.stores:
            for spec in store.specs().values():
                if owner_of(spec) == name:
                    return store.fields(spec["name"])
        return []

    def save(self, orders: Sequence[SaveOrder]) -> None:
        """As in `Client`."""
        parts = [_Part(self, s, order) for s, order in zip(self.stores, orders, strict=True)]
        self._saving[orders[0].identity] = parts
        self.bases.saved(orders[0].identity, self.steps)

    def saved(self, identity: str) -> dict[int, str]:
        """As in `Client`."""
        failures = {part.order.server: part.write() for part in self._saving.pop(identity)}
        return {server: failure for server, failure in failures.items() if failure}

    def load(self, order: LoadOrder) -> None:
        """As in `Client`."""
        for server, store in enumerate(self.stores):
            first, stop = shard_range(server, len(self.stores), order.shards)
            load_some(_Loaded(self, store), order, range(first, stop), first, lambda: False)


class _Part:
    """What one server saves: the version of the moment at which this is made."""

    def __init__(self, client: LocalCheckpoints, store: Store, order: SaveOrder) -> None:
        offsets = {name: store.clock_offset(name) for name in order.tables}
        self.order = order
        self._step = client.steps
        self._since = client.bases.since(order, offsets)
        self._view: SnapshotView = store.view()

    def write(self) -> str:
        """Write it; why that failed, or ""."""
        try:
            write_part(self.order, self._view, self._step, self._since, lambda name: None)
        except Exception as error:
            return failure_of(error)
        finally:
            self._view.release()
        return ""


class _Loaded:
    """A store that is loaded (see `loading.Target`)."""

    def __init__(self, client: LocalCheckpoints, store: Store) -> None:
        self.store = store
        self._client = client

    def may_load(self, name: str) -> bool:
        return not self._client.steps

    def has_loaded(self, name: str, identity: str, stored: str) -> bool:
        return False

    def load(self, name: str, rows: Mapping[str, Array]) -> None:
        self.store.take_rows(name, rows)

    def load_life(self, name: str, fields: dict[str, Array]) -> None:
        self.store.take_life(name, fields)

    def loaded(self, name: str, identity: str, stored: str, whole: bool) -> None:
        if whole:
            self._client.bases.loaded(identity, name)
