"""The parallel optimizer where every device runs the whole program: each updates a part.

The state of all devices would be equal, so each keeps a part of it (ZeRO: Rajbhandari et al. 2020,
arXiv:1910.02054). A step adds up gradients so that each device gets the sum of its part alone,
updates that part of the Parameters, and collects their new values from the others.

Parameters are joined up to a size, since each of these meetings of all devices costs. Left alone
are Parameters with `parallel_optimizer=False` or `layerwise_parallel=True`, and optimizers that
keep no state for each Parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from paramesh import placement
from paramesh.optim.optimizer import store, work
from paramesh.parameter import Parameter, Plan, Pool

#: Parameters are joined up to this size. Above it, the copies cost more than the meetings.
MOST_BYTES = 1 << 20


class Split:
    """A row of one or several Parameters of which each device updates a part.

    Args:
        indices: which ones of the optimizer's.
        trained: these Parameters.
        plan: how they lie next to each other.
        pools: for each attribute of the optimizer with state, the pool that is split.
    """

    def __init__(
        self,
        indices: Sequence[int],
        trained: Sequence[Parameter],
        plan: Plan,
        pools: Mapping[str, Pool],
    ) -> None:
        self.index = indices[0]
        self.indices = tuple(indices)
        self._trained = tuple(trained)
        self._plan = plan
        self._pools = dict(pools)

    def alive(self) -> bool:
        """False once one of the pools was dissolved."""
        return all(pool.alive for pool in self._pools.values())

    def state(self, attribute: str, params: Sequence[Parameter]) -> Any:
        """What holds this row's value of state."""
        return self._pools[attribute]

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """The part of the raw gradients of this row."""
        return placement.current().part_of_gradients([gradients[i] for i in self.indices])

    def read(self, params: Sequence[Parameter]) -> Any:
        """The part of the Parameters' present values, as arithmetic wants it."""
        joined = jnp.concatenate([jnp.ravel(work(param)) for param in self._trained])
        return placement.current().part_of(joined)

    def write(self, params: Sequence[Parameter], value: Any) -> None:
        """Give the Parameters the new values, of which this device computed a part."""
        # What travels is of the Parameters' own element type.
        flat = placement.current().whole_of(value.astype(self._trained[0].dtype.np_dtype))
        plan = self._plan
        for param, start, size in zip(self._trained, plan.starts, plan.sizes, strict=True):
            store(param, flat[start : start + size].reshape(param.shape))


def make_splits(owner: Any, kept: Mapping[str, Sequence[Parameter]], kinds: Sequence[Any]) -> Any:
    """Split the state of an optimizer, by the placement in force.

    Args:
        owner: the optimizer.
        kept: for each of its attributes with state, the state for each trained Parameter; what is
            trained comes first.
        kinds: see `flat.make_chunks`.

    Returns:
        The rows.
    """
    (_, trained), *states = kept.items()
    if not states:
        return []
    buckets: dict[Any, list[list[int]]] = {}
    filled: dict[Any, int] = {}
    for i, columns in enumerate(zip(*kept.values(), strict=True)):
        if kinds[i] is None or not all(_may_be_split(param, columns[0]) for param in columns):
            continue
        kind = (kinds[i], columns[0].dtype)
        size = columns[0].size * columns[0].dtype.itemsize
        if kind not in buckets or filled[kind] + size > MOST_BYTES:
            buckets.setdefault(kind, []).append([])
            filled[kind] = 0
        buckets[kind][-1].append(i)
        filled[kind] += size
    rows: list[Split] = []
    for members in (bucket for found in buckets.values() for bucket in found):
        plan = Plan([trained[i].shape for i in members])
        for param in (trained[i] for i in members):
            if param._slot is not None:  # in a flat array of this optimizer's earlier steps
                param._slot.pool.dissolve(again=False)
        pools: dict[str, Pool] = {}
        for attribute, params in states:
            chosen = [params[i] for i in members]
            for param in chosen:
                if param._slot is not None:
                    param._slot.pool.dissolve(again=False)
            name = f"{type(owner).__name__}.{attribute} ({chosen[0].name}, …)"
            pools[attribute] = placement.current().split(name, plan, chosen, owner)
        rows.append(Split(members, [trained[i] for i in members], plan, pools))
    return rows


def _may_be_split(param: Parameter, trained: Parameter) -> bool:
    alike = (param.shape, param.dtype) == (trained.shape, trained.dtype)
    out = param.is_param_ps or param.layerwise_parallel or not param.parallel_optimizer
    return alike and not out and bool(param.size) and param.dtype.is_floating()
