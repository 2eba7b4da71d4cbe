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

Where the placement divides optimizer state over devices (the parallel optimizer), the arrays of
state hold a part for each device, and one update computes with a device's part. Parameters that are
not in a flat array then make a chunk of one.

Glossary
    row         what one update computes with at once: a Parameter, or a chunk
    chunk       the Parameters of one flat array, or a single one, with the arrays of their state
    divider     how a placement divides state over devices (`Placement.divide`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from paramesh import context
from paramesh.parameter import FlatLayout, Parameter, Pool, is_full
from paramesh.state import placement

#: A Parameter of more bytes is not worth it, by the kinds of state that go with it. Measured; see
#: the docs page "What a step costs".
MOST_BYTES = (4 * 1024, 16 * 1024, 64 * 1024)
#: Fewer Parameters are not worth it.
FEWEST = 8

#: The attribute of an optimizer that holds what it trains.
TRAINED = "parameters"


class Single:
    """A row of one Parameter."""

    def __init__(self, index: int) -> None:
        self.index = index

    def state(self, attribute: str, params: Sequence[Parameter]) -> Any:
        """What holds this row's value of `params`, which the optimizer has as `attribute`."""
        return params[self.index]

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """The raw gradient of this row."""
        return gradients[self.index]

    def mine(self, value: Any) -> Any:
        """What this device computes with, of a value that all devices have."""
        return value

    def whole(self, value: Any, shape: tuple[int, ...]) -> Any:
        """The value that all devices have, of what this device computed."""
        return value

    def kept(self, frozen: frozenset[int]) -> Any:
        """Which elements stay as they are, as a raw Bool array; None: none does."""
        return None


class Chunk:
    """A row of many Parameters, or of one whose state is divided.

    Args:
        indices: which ones of the optimizer's, in the order in which they lie in the pools.
        pools: the pool for each attribute of the optimizer; a chunk of one Parameter has none for
            what is trained.
        divider: how the state is divided over devices, if it is.
    """

    def __init__(
        self, indices: Sequence[int], pools: Mapping[str, Pool], divider: Any = None
    ) -> None:
        self.index = indices[0]
        self.indices = tuple(indices)
        self.pools = dict(pools)
        self.divider = divider

    def dissolve_state(self) -> None:
        """Give the state its values back; what is trained may stay as it is."""
        for attribute, pool in self.pools.items():
            if attribute != TRAINED:
                pool.dissolve(again=False)

    def alive(self) -> bool:
        """False once one of the pools was dissolved."""
        return all(pool.alive for pool in self.pools.values())

    def state(self, attribute: str, params: Sequence[Parameter]) -> Any:
        """What holds this row's values of `params`, which the optimizer has as `attribute`."""
        return self.pools.get(attribute, params[self.index])

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """The raw gradients of this row, joined."""
        if TRAINED not in self.pools:
            return gradients[self.index]
        return jnp.concatenate([jnp.ravel(gradients[i]) for i in self.indices])

    def mine(self, value: Any) -> Any:
        """What this device computes with, of a value that all devices have."""
        return value if self.divider is None else self.divider.cut(value)

    def whole(self, value: Any, shape: tuple[int, ...]) -> Any:
        """The value that all devices have, of what this device computed."""
        return value if self.divider is None else self.divider.join(value, shape)

    def kept(self, frozen: frozenset[int]) -> Any:
        """Which elements stay as they are, as a raw Bool array; None: none does."""
        if frozen.isdisjoint(self.indices):
            return None
        plan = next(iter(self.pools.values())).plan
        places = zip(plan.shapes, self.indices, strict=True)
        return self.mine(plan.join([jnp.full(shape, i in frozen) for shape, i in places]))


Row = Single | Chunk


def rows(chunks: Sequence[Chunk], count: int, elsewhere: frozenset[int] = frozenset()) -> list[Row]:
    """The rows of one update of `count` Parameters, but for those updated elsewhere or not at all.

    A chunk of which some are not updated is there (see `Chunk.kept`).
    """
    chunks = [c for c in chunks if c.alive() and not elsewhere.issuperset(c.indices)]
    covered = {i for chunk in chunks for i in chunk.indices} | elsewhere
    return [*chunks, *(Single(i) for i in range(count) if i not in covered)]


def make_chunks(owner: Any, kept: Mapping[str, Sequence[Parameter]], kinds: Sequence[Any]) -> Any:
    """Put what the rule allows into pools.

    Args:
        owner: the optimizer.
        kept: for each attribute of the optimizer what it trains, or the state for each of these.
        kinds: for each trained Parameter something that is equal where one update may be made for
            several together; None for a Parameter that has to be alone.

    Returns:
        The chunks; [] if the rule allows none.
    """
    chunks = _flat_chunks(owner, kept, kinds) if _wanted() else []
    divide = placement.current().divide
    taken = {i for chunk in chunks for i in chunk.indices}
    for i, param in enumerate(kept[TRAINED]):
        if i in taken or len(kept) == 1 or kinds[i] is None or not param.size:
            continue
        divider = divide([param])
        if divider is not None:
            chunks.append(_divided(owner, kept, i, divider))
    return chunks


def _wanted() -> bool:
    setting = context.get_context("flat_parameters")
    place = placement.current()
    if not place.pools or setting == "never":
        return False
    return setting == "always" or place.platform == "cpu"


def _flat_chunks(
    owner: Any, kept: Mapping[str, Sequence[Parameter]], kinds: Sequence[Any]
) -> list[Chunk]:
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
    divider = placement.current().divide(trained) if columns else None
    pools = {TRAINED: _present(trained) or _pool(owner, TRAINED, trained, None)}
    plan = pools[TRAINED].plan
    for attribute, params in columns.items():
        pools[attribute] = _pool(owner, attribute, params, plan, divider)
    return Chunk(order, pools, divider)


def _divided(owner: Any, kept: Mapping[str, Sequence[Parameter]], at: int, divider: Any) -> Chunk:
    plan = FlatLayout([kept[TRAINED][at].shape])
    pools = {
        attribute: _pool(owner, attribute, [params[at]], plan, divider)
        for attribute, params in kept.items()
        if attribute != TRAINED
    }
    return Chunk([at], pools, divider)


def _present(params: list[Parameter]) -> Pool | None:
    """The pool that has just these members, made for an optimizer before this one."""
    slot = params[0]._slot
    if slot is None or len(slot.pool.plan.shapes) != len(params):
        return None
    same = all(p._slot is not None and p._slot == (slot.pool, i) for i, p in enumerate(params))
    return slot.pool if same else None


def _pool(
    owner: Any,
    attribute: str,
    params: list[Parameter],
    plan: FlatLayout | None,
    divider: Any = None,
) -> Pool:
    for param in params:
        if param._slot is not None:
            param._slot.pool.dissolve(again=False)
    plan = plan or FlatLayout([param.shape for param in params])
    name = f"{type(owner).__name__}.{attribute} ({params[0].name}, …)"
    make = Pool if divider is None else divider.pool
    return make(name, plan, params[0].dtype, params, owner)


def _may_live_in_a_pool(param: Parameter, most: int) -> bool:
    if param.is_param_ps or param.layerwise_parallel or not param.size:
        return False
    if not param.dtype.is_floating() or param.dtype.itemsize > 4:
        return False
    return is_full(param._value) and param.size * param.dtype.itemsize <= most
