"""Collective operators: communication between the devices that run a program together.

They are used in data_parallel and hybrid_parallel: inside of programs, which every device runs on
its own values, and outside of them where each process has one device. On one device they return the
device's own values.

Gradients are those of the sum of all devices' losses, as in MindSpore: what a device sends to
others gets the sum of the gradients that it has there.

Glossary
    group       devices that take part, by a name of `paramesh.communication`; by default all
    place       the position of a device in its group, from 0
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.ops.table import Array, alias, function, other_function, primitive, tuple_function
from paramesh.state import placement
from paramesh.state.placement import WORLD, Participants
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import raw

# fmt: off
__all__ = [
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "neighbor_exchange",
    "all_gather_into_tensor", "reduce_scatter_tensor", "AllReduce", "AllGather", "ReduceScatter",
    "AlltoAll", "Broadcast", "NeighborExchange", "ReduceOp",
]
# fmt: on


#: For each Tensor an entry for each place of the group, or one int in a group of one.
Ranks = Sequence[int | Sequence[int]]


class ReduceOp:
    """The reduction over the values of several devices: `SUM`, `MAX`, `MIN`, `PROD`."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    PROD = "prod"


_OPS = (ReduceOp.SUM, ReduceOp.MAX, ReduceOp.MIN, ReduceOp.PROD)
_LOCAL: dict[str, Callable[..., Any]] = {
    ReduceOp.SUM: jnp.sum,
    ReduceOp.MAX: jnp.max,
    ReduceOp.MIN: jnp.min,
    ReduceOp.PROD: jnp.prod,
}


def _check_op(op: object) -> None:
    if op not in _OPS:
        raise ValueError(f"op must be one of {', '.join(map(repr, _OPS))} (ReduceOp), got {op!r}.")


def _participants(group: object, name: str) -> Participants:
    if not isinstance(group, str):
        raise TypeError(f"group must be the name of a group, got {group!r}.")
    return placement.current().participants(group, name)


def _meet(
    name: str,
    participants: Participants,
    compute: Callable[..., Any],
    settings: tuple[Hashable, ...],
    *arrays: jax.Array,
) -> list[Any]:
    """What `compute(participants, *settings, *arrays)` gives, where the devices meet."""
    return placement.current().meet(
        f"ops.{name}",
        (compute, participants, settings),
        functools.partial(compute, participants, *settings),
        arrays,
    )


def _of_equal_size(participants: Participants, name: str) -> int:
    """How many devices are in each group, where all devices must be in one of equal size."""
    sizes = {len(group) for group in participants.parts}
    if len(sizes) > 1 or sum(map(len, participants.parts)) != participants.count:
        groups = list(map(list, participants.parts))
        raise ValueError(
            f"{name} needs each of the {participants.count} devices in a group of the same size, "
            f"since all run one program; the groups are {groups}. Give one name "
            "to several groups: create_group(name, [[0, 1], [2, 3]])."
        )
    return sizes.pop()


def _groups(participants: Participants) -> list[list[int]] | None:
    """The groups as `lax` wants them; a device that is in none is alone."""
    if len(participants.parts) == 1 and len(participants.parts[0]) == participants.count:
        return None
    within = {rank for group in participants.parts for rank in group}
    alone = [[rank] for rank in range(participants.count) if rank not in within]
    return [*map(list, participants.parts), *alone]


def _place(participants: Participants) -> jax.Array:
    """The place of the device that runs the program; -1 where it is in no group."""
    places = np.full(participants.count, -1, np.int32)
    for group in participants.parts:
        places[list(group)] = range(len(group))
    return jnp.asarray(places)[lax.axis_index(participants.axis)]


def _summed(x: jax.Array, participants: Participants) -> jax.Array:
    return lax.psum(x, participants.axis, axis_index_groups=_groups(participants))


def _extreme(x: jax.Array, participants: Participants, find: Callable[..., jax.Array]) -> jax.Array:
    """The largest or smallest; its gradient goes to the devices that had it."""

    def forward(x: jax.Array) -> jax.Array:
        return find(x, participants.axis, axis_index_groups=_groups(participants))

    def backward(kept: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array]:
        x, out = kept
        return (_summed(cotangent, participants) * (x == out).astype(cotangent.dtype),)

    extreme = jax.custom_vjp(forward)
    extreme.defvjp(lambda x: ((out := forward(x)), (x, out)), backward)
    return extreme(x)


def _product(x: jax.Array, participants: Participants) -> jax.Array:
    every = lax.all_gather(x, participants.axis)
    table = np.eye(participants.count, dtype=bool)
    for group in participants.parts:
        table[np.ix_(group, group)] = True
    mine = jnp.asarray(table)[lax.axis_index(participants.axis)]
    mine = mine.reshape(participants.count, *(1,) * x.ndim)
    return jnp.prod(jnp.where(mine, every, jnp.ones((), x.dtype)), axis=0, dtype=x.dtype)


@function
def all_reduce(tensor: Array, op: str = ReduceOp.SUM, group: str = WORLD) -> Any:
    """The sum, maximum, minimum or product of the values that the devices of a group have.

    (...) -> (...), on each of them. A device outside the group keeps its own. The gradient is the
    sum of all devices' gradients (`MAX`, `MIN`: where the device had the value).

    Args:
        tensor: of one shape and element type on all devices.
        op: a `ReduceOp`.
        group: who takes part.
    """
    _check_op(op)
    participants = _participants(group, "AllReduce")
    if participants.axis is None:
        return tensor
    return _meet("AllReduce", participants, _all_reduce, (op,), tensor)[0]


def _all_reduce(participants: Participants, op: str, x: jax.Array) -> list[jax.Array]:
    if op == ReduceOp.SUM:
        return [_summed(x, participants)]
    if op == ReduceOp.PROD:
        return [_product(x, participants)]
    return [_extreme(x, participants, lax.pmax if op == ReduceOp.MAX else lax.pmin)]


@function
def all_gather(tensor: Array, group: str = WORLD) -> Any:
    """The values of all devices of a group, one after the other along axis 0.

    (n, ...) -> (devices * n, ...). The gradient is a reduce-scatter.

    Args:
        tensor: of one shape on all devices.
        group: who takes part, in the order of its ranks.
    """
    participants = _participants(group, "AllGather")
    _check_axis(tensor)
    if participants.axis is None:
        return tensor
    _of_equal_size(participants, "AllGather")
    return _meet("AllGather", participants, _all_gather, (), tensor)[0]


def _all_gather(participants: Participants, x: jax.Array) -> list[jax.Array]:
    groups = _groups(participants)
    return [lax.all_gather(x, participants.axis, axis_index_groups=groups, tiled=True)]


def _check_axis(tensor: jax.Array) -> None:
    if not tensor.ndim:
        raise ValueError("the tensor needs a first axis, got shape ().")


@function
def reduce_scatter(tensor: Array, op: str = ReduceOp.SUM, group: str = WORLD) -> Any:
    """The result of `all_reduce`, of which each device keeps its slice along axis 0.

    (devices * n, ...) -> (n, ...). The gradient is an all-gather.

    Args:
        tensor: its first axis a multiple of the devices.
        op: a `ReduceOp`.
        group: who takes part; device i of the group keeps slice i.
    """
    _check_op(op)
    participants = _participants(group, "ReduceScatter")
    _check_axis(tensor)
    if participants.axis is None:
        return tensor
    size = _of_equal_size(participants, "ReduceScatter")
    if tensor.shape[0] % size:
        raise ValueError(
            f"axis 0 of shape {tensor.shape} does not divide into {size} equal slices."
        )
    return _meet("ReduceScatter", participants, _reduce_scatter, (op, size), tensor)[0]


def _reduce_scatter(
    participants: Participants, op: str, size: int, x: jax.Array
) -> list[jax.Array]:
    groups = _groups(participants)
    if op == ReduceOp.SUM:
        return [lax.psum_scatter(x, participants.axis, axis_index_groups=groups, tiled=True)]
    swapped = lax.all_to_all(x, participants.axis, 0, 0, axis_index_groups=groups, tiled=True)
    slices = swapped.reshape(size, x.shape[0] // size, *x.shape[1:])
    return [_LOCAL[op](slices, axis=0).astype(x.dtype)]


@function
def all_to_all(
    tensor: Array, split_count: int, split_dim: int, concat_dim: int, group: str = WORLD
) -> Any:
    """Each device splits its value, sends slice i to device i, and concatenates what it receives.

    The axis `split_dim` gets `split_count` times smaller, `concat_dim` larger. The gradient is
    the way back.

    Args:
        tensor: of one shape on all devices.
        split_count: the number of slices; the size of the group.
        split_dim: the axis that is split.
        concat_dim: the axis along which the slices are concatenated.
        group: who takes part.

    Raises:
        TypeError, IndexError, ValueError: no int; no axis; not the size of the group, or an axis
            that does not divide by it.
    """
    numbers = {"split_count": split_count, "split_dim": split_dim, "concat_dim": concat_dim}
    for name, number in numbers.items():
        if type(number) is not int:
            raise TypeError(f"{name} must be an int, got {number!r}.")
    participants = _participants(group, "AlltoAll")
    size = 1 if participants.axis is None else _of_equal_size(participants, "AlltoAll")
    if split_count != size:
        raise ValueError(f"split_count={split_count} must be the size of the group, {size}.")
    for name, axis in (("split_dim", split_dim), ("concat_dim", concat_dim)):
        if not -tensor.ndim <= axis < tensor.ndim:
            raise IndexError(f"{name}={axis} is not an axis of shape {tensor.shape}.")
    split, concat = split_dim % tensor.ndim, concat_dim % tensor.ndim
    if tensor.shape[split] % size:
        raise ValueError(
            f"axis {split_dim} of shape {tensor.shape} does not divide into {size} equal slices."
        )
    if participants.axis is None:
        return tensor
    return _meet("AlltoAll", participants, _all_to_all, (split, concat), tensor)[0]


def _all_to_all(
    participants: Participants, split: int, concat: int, x: jax.Array
) -> list[jax.Array]:
    groups = _groups(participants)
    return [
        lax.all_to_all(x, participants.axis, split, concat, axis_index_groups=groups, tiled=True)
    ]


@other_function
def broadcast(
    tensor: TensorLike | Sequence[TensorLike], root_rank: int = 0, group: str = WORLD
) -> Any:
    """The value of one device, on all devices of a group.

    (...) -> (...). A device outside the group keeps its own. The gradient is the sum of all
    devices' gradients on the one, and 0 on the others.

    Args:
        tensor: of one shape on all devices; or a tuple of such, which gives a tuple.
        root_rank: the place of the one in the group.
        group: who takes part.
    """
    participants = _participants(group, "Broadcast")
    size = 1 if participants.axis is None else min(map(len, participants.parts))
    if type(root_rank) is not int or not 0 <= root_rank < size:
        raise ValueError(f"root_rank={root_rank!r} is outside 0..{size - 1}.")
    many = isinstance(tensor, tuple | list)
    values = [raw(t) for t in tensor] if many else [raw(tensor)]
    if participants.axis is not None:
        values = _meet("Broadcast", participants, _broadcast, (root_rank,), *values)
    return tuple(values) if many else values[0]


def _broadcast(participants: Participants, root: int, *values: jax.Array) -> list[jax.Array]:
    place = _place(participants)
    sends = (place == root) | (place < 0)
    zeros = [jnp.zeros((), v.dtype) for v in values]
    return [
        _summed(jnp.where(sends, v, z), participants) for v, z in zip(values, zeros, strict=True)
    ]


def _by_place(entry: object, size: int, what: str) -> list[int]:
    """For each place of a group the one it exchanges with; -1 for none."""
    if size == 1 and type(entry) is int:
        entry = (entry,)
    if not isinstance(entry, tuple | list) or len(entry) != size:
        raise ValueError(
            f"{what}: all {size} devices run one program, so each entry is a tuple with the rank "
            f"in the group for each of them (-1 for none), got {entry!r}."
        )
    if any(type(other) is not int or not -1 <= other < size for other in entry):
        raise ValueError(f"{what}: {entry!r} has entries outside -1..{size - 1}.")
    return list(entry)


@tuple_function
def neighbor_exchange(
    tensors: Sequence[TensorLike], send_rank_ids: Ranks, recv_rank_ids: Ranks, group: str = WORLD
) -> Any:
    """Each device sends each of its values to one device, and receives from others.

    The gradient is the way back. Where a device receives from nobody (-1), it gets zeros.

    Args:
        tensors: a tuple of what is sent.
        send_rank_ids: for each of them a tuple: whom each place of the group sends it to.
        recv_rank_ids: for each result a tuple: whom each place gets it from.
        group: who takes part.

    Returns:
        A tuple of the results.
    """
    participants = _participants(group, "NeighborExchange")
    size = 1 if participants.axis is None else _of_equal_size(participants, "NeighborExchange")
    if not isinstance(tensors, tuple | list):
        raise TypeError(f"tensors must be a tuple of Tensors, got {type(tensors).__name__}.")
    values = [raw(t) for t in tensors]
    if len(values) != len(send_rank_ids):
        raise ValueError(
            f"there are {len(values)} tensors, but {len(send_rank_ids)} entries of send_rank_ids."
        )
    sends = [_by_place(entry, size, "send_rank_ids") for entry in send_rank_ids]
    receives = [_by_place(entry, size, "recv_rank_ids") for entry in recv_rank_ids]
    ways = (tuple(map(tuple, sends)), tuple(map(tuple, receives)))
    if participants.axis is None:
        return tuple(_exchanged(participants, *ways, *values))
    return tuple(_meet("NeighborExchange", participants, _exchanged, ways, *values))


def _exchanged(
    participants: Participants,
    sends: Sequence[Sequence[int]],
    receives: Sequence[Sequence[int]],
    *values: jax.Array,
) -> list[Any]:
    arrived = [_sent(v, to, participants) for v, to in zip(values, sends, strict=True)]
    return [_received(arrived, sends, of, participants) for of in receives]


def _sent(value: jax.Array, to: Sequence[int], participants: Participants) -> jax.Array:
    targets = [other for other in to if other >= 0]
    if len(set(targets)) != len(targets):
        raise ValueError(f"send_rank_ids: {tuple(to)} sends one tensor of two devices to one.")
    if participants.axis is None:
        return value if to[0] == 0 else jnp.zeros_like(value)
    ways = [
        (group[i], group[other])
        for group in participants.parts
        for i, other in enumerate(to)
        if other >= 0
    ]
    return lax.ppermute(value, participants.axis, ways)


def _received(
    arrived: Sequence[jax.Array],
    sends: Sequence[Sequence[int]],
    of: Sequence[int],
    participants: Participants,
) -> Any:
    which: list[int] = []
    for place, other in enumerate(of):
        found = [k for k, to in enumerate(sends) if other >= 0 and to[other] == place]
        if other >= 0 and not found:
            raise ValueError(
                f"recv_rank_ids: the device in place {place} receives from {other}, which sends it "
                "nothing by send_rank_ids."
            )
        which.append(found[0] if found else -1)
    used = sorted({k for k in which if k >= 0})
    if not used:
        raise ValueError(f"recv_rank_ids: by {tuple(of)} nobody receives anything.")
    if len({(arrived[k].shape, arrived[k].dtype) for k in used}) > 1:
        raise ValueError("recv_rank_ids: a result has other shapes or types on other devices.")
    if participants.axis is None:
        return arrived[used[0]]
    place = _place(participants)
    result = jnp.zeros_like(arrived[used[0]])
    for k in used:
        takes = jnp.asarray(np.array([n == k for n in which]))[place]
        result = jnp.where(takes, arrived[k], result)
    return result


def _exchange_settings(
    send_rank_ids: Ranks,
    recv_rank_ids: Ranks,
    recv_shapes: object = None,
    send_shapes: object = None,
    recv_type: object = None,
    group: str = WORLD,
) -> dict[str, Any]:
    # Shapes and the element type follow from what is sent.
    return {"send_rank_ids": send_rank_ids, "recv_rank_ids": recv_rank_ids, "group": group}


def _reducing(op: str = ReduceOp.SUM, group: str = WORLD) -> dict[str, Any]:
    _check_op(op)
    return {"op": op, "group": group}


all_gather_into_tensor = alias("all_gather_into_tensor", all_gather)
reduce_scatter_tensor = alias("reduce_scatter_tensor", reduce_scatter)
AllReduce = primitive("AllReduce", all_reduce, _reducing)
AllGather = primitive("AllGather", all_gather, lambda group=WORLD: {"group": group})
ReduceScatter = primitive("ReduceScatter", reduce_scatter, _reducing)
AlltoAll = primitive(
    "AlltoAll",
    all_to_all,
    lambda split_count, split_dim, concat_dim, group=WORLD: {
        "split_count": split_count,
        "split_dim": split_dim,
        "concat_dim": concat_dim,
        "group": group,
    },
)
Broadcast = primitive(
    "Broadcast",
    broadcast,
    lambda root_rank, group=WORLD: {"root_rank": root_rank, "group": group},
)
NeighborExchange = primitive("NeighborExchange", neighbor_exchange, _exchange_settings)
