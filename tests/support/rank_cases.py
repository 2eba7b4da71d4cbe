"""Per-rank checkpoints for tests: sharded by a formula of their own, and saved as rank_N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh import save_checkpoint
from paramesh.parallel import Layout
from paramesh.parallel.layouts.strategy_file import save_strategy


def device_num(table: Mapping[str, Any]) -> int:
    """How many devices a table of recorded layouts is for."""
    return int(np.prod(next(iter(table.values()))[0]))


def cut(array: Any, layout: Sequence[Any], rank: int) -> Any:
    """What a rank holds by (device matrix, tensor map, shard step, shard size)."""
    matrix, tensor_map, step, size = layout
    at = np.unravel_index(rank, matrix)
    for axis, entry in enumerate(tensor_map):
        if entry >= 0:
            device = len(matrix) - 1 - entry
            array = np.split(array, matrix[device], axis)[at[device]]
    return np.split(array, size)[rank // step % size] if size > 0 else array


def part(array: Any, layout: Layout | None, rank: int) -> Any:
    """What a rank holds by a Layout."""
    return array if layout is None else array[layout.slice_index(array.shape, rank)]


def save_ranks(
    folder: Path, values: Mapping[str, Any], layouts: Mapping[str, Any], count: int, suffix: str
) -> Path:
    """Save the files of all ranks, sharded by `part`."""
    for rank in range(count):
        place = folder / f"rank_{rank}"
        place.mkdir(parents=True)
        mine = {n: np.array(part(v, layouts.get(n), rank)) for n, v in values.items()}
        save_checkpoint(mine, place / f"net{suffix}")
    return folder


def strategy_of(path: Path, values: Mapping[str, Any], layouts: Mapping[str, Any], n: int) -> Path:
    """Save a strategy file of paramesh."""
    table = {name: (v.shape, str(v.dtype), layouts.get(name)) for name, v in values.items()}
    return save_strategy(path, table, n)
