"""The sum of the workers' gradients of one step: its bits depend on their order alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paramesh.ps.server.store import Array, Update


def reduce_updates(by_worker: Sequence[Update]) -> dict[str, dict[str, Array]]:
    """The sum of the workers' gradients, in the order of the list; the bits depend on nothing else.

    Args:
        by_worker: an update of each worker; ids sorted and each once.

    Returns:
        One update. It may share memory with the only worker's.
    """
    names = list(dict.fromkeys(name for update in by_worker for name in update))
    total: dict[str, dict[str, Array]] = {}
    for name in names:
        parts = [update[name] for update in by_worker if name in update]
        if len(parts) == 1:
            total[name] = dict(parts[0])
        elif "ids" in parts[0]:
            total[name] = _sum_of_rows(parts)
        else:
            grad = parts[0]["grad"] + parts[1]["grad"]
            for part in parts[2:]:
                grad += part["grad"]
            total[name] = {"grad": grad}
    return total


def _sum_of_rows(parts: list[Mapping[str, Array]]) -> dict[str, Array]:
    # Of parts that are sorted each, a stable sort is a merge.
    ids = np.concatenate([part["ids"] for part in parts])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    begins = np.ones(len(ids), bool)
    np.not_equal(ids[1:], ids[:-1], out=begins[1:])
    places = np.empty(len(ids), np.int64)
    places[order] = np.cumsum(begins) - 1
    ids, first = ids[begins], parts[0]["grad"]
    grad = np.zeros((len(ids), *first.shape[1:]), first.dtype)
    at = 0
    for part in parts:
        mine = places[at : at + len(part["ids"])]
        grad[mine] += part["grad"]
        at += len(mine)
    return {"ids": ids, "grad": grad}
