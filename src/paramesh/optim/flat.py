"""Which Parameters of an optimizer live in flat arrays, and how one update sees them.

The rule, for optimizers whose arithmetic is elementwise: small Parameters of one float type of at
most 32 bits, one learning rate and one weight decay are kept in one array if there are at least
eight of them, and so is each kind of state that the optimizer has for them. Small means at most
4 KiB where there is no state, 16 KiB with one kind of it, 64 KiB with more. A larger Parameter is
left alone: its extra copies in a step (its part cut out, its gradient joined) cost more than the
buffers that it would save.
What another optimizer or the parameter server keeps, is laid out over devices or has one value per
device is left alone too. The setting `flat_parameters` turns it off, or on for other backends than
the CPU.

Glossary
    row         what one update computes with at once: a Parameter, a chunk, or a split one
    chunk       the Parameters of one flat array, with the arrays of their state
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh import context, placement, tracing
from paramesh.optim.optimizer import store, work
from paramesh.optim.split import Split, make_splits
from paramesh.parameter import Parameter, Plan, Pool, lies_whole

#: A Parameter of more bytes is not worth it, by the kinds of state that go with it. Measured; see
#: the docs page "What a step costs".
MOST_BYTES = (4 * 1024, 16 * 1024, 64 * 1024)
#: Fewer Parameters are not worth it.
FEWEST = 8

#: The attribute of an optimizer that holds what it trains.
TRAINED = "parameters"


class _Whole:
    """What rows have in common whose Parameters every device updates."""

    def state(self, attribute: str, params: Sequence[Parameter]) -> Any:
        """What holds this row's value of `params`, which the optimizer has as `attribute`."""
        raise NotImplementedError

    def read(self, params: Sequence[Parameter]) -> Any:
        """The present value of what is trained, as arithmetic wants it."""
        return work(tracing.read(self.state(TRAINED, params)))

    def write(self, params: Sequence[Parameter], value: Any) -> None:
        """Give what is trained its new value."""
        store(self.state(TRAINED, params), value)


class Single(_Whole):
    """A row of one Parameter."""

    def __init__(self, index: int) -> None:
        self.index = index

    def state(self, attribute: str, params: Sequence[Parameter]) -> Any:
        """What holds this row's value of `params`, which the optimizer has as `attribute`."""
        return params[self.index]

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """The raw gradient of this row."""
        return gradients[self.index]


class Chunk(_Whole):
    """A row of many Parameters.

    Args:
        indices: which ones of the optimizer's, in the order in which they lie in the pools.
        pools: the pool for each attribute of the optimizer.
    """

    def __init__(self, indices: Sequence[int], pools: Mapping[str, Pool]) -> None:
        self.index = indices[0]
        self.indices = tuple(indices)
        self.pools = dict(pools)

    def alive(self) -> bool:
        """False once one of the pools was dissolved."""
        return all(pool.alive for pool in self.pools.values())

    def state(self, attribute: str, params: Sequence[Parameter]) -> Any:
        """The pool of this row for an attribute of the optimizer."""
        return self.pools[attribute]

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """The raw gradients of this row, joined."""
        return jnp.concatenate([jnp.ravel(gradients[i]) for i in self.indices])


Row = Single | Chunk | Split


def rows(chunks: Sequence[Chunk | Split], count: int) -> list[Row]:
    """The rows of one update of `count` Parameters."""
    chunks = [chunk for chunk in chunks if chunk.alive()]
    covered = {i for chunk in chunks for i in chunk.indices}
    return [*chunks, *(Single(i) for i in range(count) if i not in covered)]


def make_chunks(owner: Any, kept: Mapping[str, Sequence[Parameter]], kinds: Sequence[Any]) -> Any:
    """Put what the rule allows into pools.

    Args:
        owner: the optimizer.
        kept: for each attribute of the optimizer what it trains, or the state for each of these.
        kinds: for each trained Parameter something that is equal where one update may be made for
            several together; None for a Parameter that has to be alone.

    Returns:
        The chunks; [] if the rule allows none. With the parallel optimizer, the split rows.
    """
    setting = context.get_context("flat_parameters")
    if placement.current().splits is not None:
        return make_splits(owner, kept, kinds)
    if not placement.current().pools:
        return []
    if setting == "never" or (setting == "auto" and jax.default_backend() != "cpu"):
        return []
    most = MOST_BYTES[min(len(kept), len(MOST_BYTES)) - 1]
    groups: dict[Any, list[int]] = {}
    for i, columns in enumerate(zip(*kept.values(), strict=True)):
        first = columns[0]
        alike = all((p.shape, p.dtype) == (first.shape, first.dtype) for p in columns)
        if kinds[i] is not None and alike and all(_may_live_in_a_pool(p, most) for p in columns):
            groups.setdefault((kinds[i], first.dtype), []).append(i)
    chunks: list[Chunk] = []
    for members in groups.values():
        if len(members) >= FEWEST:
            chunks.append(_chunk(owner, kept, members))
    return chunks


def _chunk(owner: Any, kept: Mapping[str, Sequence[Parameter]], members: list[int]) -> Chunk:
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in members:
        by_shape.setdefault(kept[TRAINED][i].shape, []).append(i)
    order = [i for same in by_shape.values() for i in same]
    columns = {attribute: [params[i] for i in order] for attribute, params in kept.items()}
    trained = columns.pop(TRAINED)
    pools = {TRAINED: _present(trained) or _pool(owner, TRAINED, trained, None)}
    plan = pools[TRAINED].plan
    for attribute, params in columns.items():
        pools[attribute] = _pool(owner, attribute, params, plan)
    return Chunk(order, pools)


def _present(params: list[Parameter]) -> Pool | None:
    """The pool that has just these members, made for an optimizer before this one."""
    slot = params[0]._slot
    if slot is None or len(slot.pool.plan.shapes) != len(params):
        return None
    same = all(p._slot is not None and p._slot == (slot.pool, i) for i, p in enumerate(params))
    return slot.pool if same else None


def _pool(owner: Any, attribute: str, params: list[Parameter], plan: Plan | None) -> Pool:
    for param in params:
        if param._slot is not None:
            param._slot.pool.dissolve(again=False)
    plan = plan or Plan([param.shape for param in params])
    name = f"{type(owner).__name__}.{attribute} ({params[0].name}, …)"
    return Pool(name, plan, params[0].dtype, params, owner)


def _may_live_in_a_pool(param: Parameter, most: int) -> bool:
    if param.is_param_ps or param.layerwise_parallel or not param.size:
        return False
    if not param.dtype.is_floating() or param.dtype.itemsize > 4:
        return False
    return lies_whole(param._value) and param.size * param.dtype.itemsize <= most
