"""Stores with a dense Parameter and two tables, one of which admits and drops rows, and updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.ps.server.store import Store, Undo
from paramesh.ps.specification.partition import Partition

ROWS = 400
#: Fewer virtual shards than servers have: each costs time.
SHARDS = 16
RATE = {"learning_rate": 0.5}
MOMENTUM = {"rule": "Momentum", "nesterov": False}
NUMBERS = RATE | {"momentum": 0.5}
LIFE: dict[str, Any] = {"admit": 2, "admit_probability": 0.8, "expire": 3, "max_rows": 60}


def specs(size: int = 7, **life: Any) -> list[dict[str, Any]]:
    """What the Parameters are; `life`: of the second table."""
    common = {"dtype": "float32", "optimizer": MOMENTUM}
    recipe = {"dtype": "float32", "law": "constant", "value": 2.0}
    table = {"kind": "rows", "rows": ROWS, "recipe": recipe}
    return [
        common | {"name": "w", "kind": "dense", "shape": [size], "recipe": recipe},
        common | table | {"name": "plain", "row_shape": [3]},
        common | table | {"name": "living", "row_shape": [2]} | life,
    ]


def make_store(size: int = 7, **life: Any) -> Store:
    """A store with all of them."""
    store = Store()
    for spec in specs(size, **life):
        store.declare(spec)
    return store


def make_stores(servers: int, size: int = 7, **life: Any) -> list[Store]:
    """Stores of several servers, each with its part."""
    stores = [Store() for _ in range(servers)]
    for spec in specs(size, **life):
        for store, mine in zip(stores, Partition(servers, SHARDS).split_spec(spec), strict=True):
            for piece in mine:
                store.declare(piece)
    return stores


def update_of(step: int, size: int = 7, count: int = 30) -> dict[str, dict[str, np.ndarray]]:
    """What a step pushes."""
    rng = np.random.default_rng(step)
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, width in {"plain": 3, "living": 2}.items():
        ids = np.unique(rng.integers(0, ROWS if name == "plain" else ROWS // 4, count))
        grad = rng.integers(-9, 9, (len(ids), width)).astype(np.float32)
        found[name] = {"ids": ids, "grad": grad}
    found["w"] = {"grad": rng.integers(-9, 9, size).astype(np.float32)}
    return found


def apply(store: Store, step: int, spare: Undo | None = None, count: int = 30) -> Undo:
    """Make a step."""
    return store.apply(step, update_of(step, count=count), NUMBERS, spare)


def apply_to_all(stores: list[Store], step: int, size: int = 7) -> None:
    """Make a step on several servers."""
    split = Partition(len(stores), SHARDS).split_updates(update_of(step, size))
    for store, mine in zip(stores, split, strict=True):
        store.apply(step, mine, NUMBERS)


def contents(store: Store) -> dict[str, bytes]:
    """All of a store."""
    return {key: array.tobytes() for key, array in store.dump()}
