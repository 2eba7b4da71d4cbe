"""Which Parameters of an optimizer live in flat arrays, and how one update sees them.

For optimizers whose arithmetic is elementwise, small Parameters of one float type of at
most 32 bits, one learning rate and one weight decay are kept in one array if there are at least
eight of them, and so is each kind of state that the optimizer has for them. Small means at most
4 KiB where there is no state, 16 KiB with one kind of it, 64 KiB with more. A larger Parameter is
left alone: its extra copies in a step (slicing it out, concatenating its gradient) cost more than
the buffers that it would save.
Parameters that another optimizer has pooled, that live on the parameter server, that are sharded
over devices or have one value per device are left alone too. The setting `flat_parameters` turns it
off, or on for other backends than the CPU.

Where the placement divides optimizer state over devices (the parallel optimizer), the arrays of
state hold a shard for each device, and one update computes with a device's shard. Parameters that
are not in a flat array then make a chunk of one.

Glossary
    row         what one update computes with at once: a Parameter, or a chunk
    chunk       the Parameters of one flat array, or a single one, with the arrays of their state
    divider     how a placement divides state over devices (`Placement.divide`)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import jax.numpy as jnp
from jax import Array

from paramesh import context
from paramesh.parameter import FlatLayout, Parameter, Pool, is_fully_replicated
from paramesh.state import placement

if TYPE_CHECKING:
    from paramesh.optim.optimizer import Optimizer

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

    def state(self, attribute: str, params: Sequence[Parameter]) -> Parameter | Pool:
        """What holds this row's value of `params`, which the optimizer has as `attribute`."""
        return params[self.index]

    def gradient(self, gradients: Sequence[Array]) -> Array:
        """The raw gradient of this row."""
        return gradients[self.index]

    def local(self, value: Array) -> Array:
        """This device's shard of a value that all devices have."""
        return value

    def full(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The full value, from the shards that the devices computed."""
        return value

    def kept(self, frozen: frozenset[int]) -> Array | None:
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

    def movable(self) -> bool:
        """Whether the state can be given back its values here."""
        return all(pool.movable() for pool in self.pools.values())

    def alive(self) -> bool:
        """False once one of the pools was dissolved."""
        return all(pool.alive for pool in self.pools.values())

    def state(self, attribute: str, params: Sequence[Parameter]) -> Parameter | Pool:
        """What holds this row's values of `params`, which the optimizer has as `attribute`."""
        return self.pools.get(attribute, params[self.index])

    def gradient(self, gradients: Sequence[Array]) -> Array:
        """The raw gradients of this row, joined."""
        if TRAINED not in self.pools:
            return gradients[self.index]
        return jnp.concatenate([jnp.ravel(gradients[i]) for i in self.indices])

    def local(self, value: Array) -> Array:
        """This device's shard of a value that all devices have."""
        return value if self.divider is None else self.divider.shard(value)

    def full(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The full value, from the shards that the devices computed."""
        return value if self.divider is None else self.divider.join(value, shape)

    def kept(self, frozen: frozenset[int]) -> Array | None:
        """Which elements stay as they are, as a raw Bool array; None: none does."""
        if frozen.isdisjoint(self.indices):
            return None
        layout = next(iter(self.pools.values())).layout
        places = zip(layout.shapes, self.indices, strict=True)
        return self.local(layout.join([jnp.full(shape, i in frozen) for shape, i in places]))


Row = Single | Chunk


def rows(chunks: Sequence[Chunk], count: int, elsewhere: frozenset[int] = frozenset()) -> list[Row]:
    """The rows of one update of `count` Parameters, but for those updated elsewhere or not at all.

    A chunk of which some are not updated is there (see `Chunk.kept`).
    """
    chunks = [c for c in chunks if c.alive() and not elsewhere.issuperset(c.indices)]
    covered = {i for chunk in chunks for i in chunk.indices} | elsewhere
    return [*chunks, *(Single(i) for i in range(count) if i not in covered)]


def make_chunks(
    owner: Optimizer, kept: Mapping[str, Sequence[Parameter]], kinds: Sequence[Hashable]
) -> list[Chunk]:
    """Put the Parameters and state that qualify into pools.

    Args:
        owner: the optimizer.
        kept: for each attribute of the optimizer what it trains, or the state for each of these.
        kinds: for each trained Parameter something that is equal where one update may be made for
            several together; None for a Parameter that has to be alone.

    Returns:
        The chunks; [] if nothing qualifies.
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
    owner: Optimizer, kept: Mapping[str, Sequence[Parameter]], kinds: Sequence[Hashable]
) -> list[Chunk]:
    most = MOST_BYTES[min(len(kept), len(MOST_BYTES)) - 1]
    groups: dict[Hashable, list[int]] = {}
    for i, columns in enumerate(zip(*kept.values(), strict=True)):
        first = columns[0]
        alike = all((p.shape, p.dtype) == (first.shape, first.dtype) for p in columns)
        if kinds[i] is not None and alike and all(_may_live_in_a_pool(p, most) for p in columns):
            groups.setdefault((kinds[i], first.dtype), []).append(i)
    chunks: list[Chunk] = []
    for indices in groups.values():
        if len(indices) >= FEWEST:
            chunks.append(_chunk(owner, kept, indices))
    return chunks


def _chunk(owner: Optimizer, kept: Mapping[str, Sequence[Parameter]], indices: list[int]) -> Chunk:
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in indices:
        by_shape.setdefault(kept[TRAINED][i].shape, []).append(i)
    order = [i for same in by_shape.values() for i in same]
    columns = {attribute: [params[i] for i in order] for attribute, params in kept.items()}
    trained = columns.pop(TRAINED)
    divider = placement.current().divide(trained) if columns else None
    pools = {TRAINED: _present(trained) or _pool(owner, TRAINED, trained, None)}
    layout = pools[TRAINED].layout
    for attribute, params in columns.items():
        pools[attribute] = _pool(owner, attribute, params, layout, divider)
    return Chunk(order, pools, divider)


def _divided(
    owner: Optimizer, kept: Mapping[str, Sequence[Parameter]], at: int, divider: Any
) -> Chunk:
    layout = FlatLayout([kept[TRAINED][at].shape])
    pools = {
        attribute: _pool(owner, attribute, [params[at]], layout, divider)
        for attribute, params in kept.items()
        if attribute != TRAINED
    }
    return Chunk([at], pools, divider)


def _present(params: list[Parameter]) -> Pool | None:
    """The pool that has exactly these entries, made for an earlier optimizer."""
    slot = params[0]._slot
    if slot is None or len(slot.pool.layout.shapes) != len(params):
        return None
    same = all(p._slot is not None and p._slot == (slot.pool, i) for i, p in enumerate(params))
    return slot.pool if same else None


def _pool(
    owner: Optimizer,
    attribute: str,
    params: list[Parameter],
    layout: FlatLayout | None,
    divider: Any = None,
) -> Pool:
    for param in params:
        if param._slot is not None:
            param._slot.pool.dissolve(again=False)
    layout = layout or FlatLayout([param.shape for param in params])
    name = f"{type(owner).__name__}.{attribute} ({params[0].name}, …)"
    make = Pool if divider is None else divider.pool
    return make(name, layout, params[0].dtype, params, cast(Any, owner))


def _may_live_in_a_pool(param: Parameter, most: int) -> bool:
    if param.is_param_ps or param.layerwise_parallel or not param.size:
        return False
    if not param.dtype.is_floating() or param.dtype.itemsize > 4:
        return False
    return is_fully_replicated(param._value) and param.size * param.dtype.itemsize <= most
