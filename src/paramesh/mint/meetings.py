"""The functions of `mint.distributed` to which all members of a group come."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from paramesh import ops
from paramesh.array_types import Array
from paramesh.dtype import x64
from paramesh.mint.handles import CommHandle, check_list, check_tensors, done, give
from paramesh.parallel.communication import management, members
from paramesh.parallel.modes import meeting
from paramesh.parallel.processes import groups
from paramesh.tensor.base import Tensor, raw, wrap

#: The way of a call, where a program runs on all devices.
_World = str


def _name(group: str | None) -> str:
    return groups.WORLD_NAMES[0] if group is None else group


def _op(call: str, op: object) -> str:
    if op not in members.REDUCTIONS:
        raise TypeError(f"{call}: op must be one of {', '.join(members.REDUCTIONS)}, got {op!r}.")
    return str(op)


def _place(call: str, name: str, rank: object, found: members.Members) -> int:
    """The position in the group of a rank among all."""
    if type(rank) is not int:
        raise TypeError(f"{call}: {name} must be a rank, an int; got {rank!r}.")
    if rank not in found:
        raise ValueError(f"{call}: {name}={rank} is not in the group, {list(found)}.")
    return found.index(rank)


def _outside(call: str) -> None:
    if meeting.inside():
        raise NotImplementedError(
            f"mint.distributed.{call}: in a program all devices do the same, so that there is no "
            "rank of its own kind. Call it outside of programs, or use all_reduce, all_gather or "
            "broadcast."
        )


def _reduced(call: str, x: Tensor, op: str, group: str | None) -> Array:
    if not meeting.inside():
        return members.all_reduce(raw(x), op, members.members(group, call))
    if op != "avg":
        return raw(ops.all_reduce(x, op, _name(group)))
    total = raw(ops.all_reduce(x, "sum", _name(group)))
    return (total / management.get_group_size(_name(group))).astype(total.dtype)


def _gathered(call: str, x: Tensor, group: str | None) -> Array:
    """(...) -> (members, ...)."""
    if meeting.inside():
        return raw(ops.all_gather(wrap(raw(x)[None]), _name(group)))
    return members.all_gather(raw(x), members.members(group, call))


def all_reduce(
    tensor: Tensor, op: str = "sum", group: str | None = None, async_op: bool = False
) -> CommHandle | None:
    """The reduction of the values of all members, into `tensor` of each.

    Args:
        tensor: of one shape and element type on all members.
        op: "sum", "avg", "max", "min" or "prod" (`ops.ReduceOp`).
        group: a name; None: all.
        async_op: give a handle.

    Raises:
        TypeError: not a Tensor, or another `op`. ValueError: this process is not in the group.
        ProgramNeededError: outside of programs, in a process of several devices.
    """
    check_tensors("all_reduce", tensor=tensor)
    give(
        "all_reduce", "tensor", tensor, _reduced("all_reduce", tensor, _op("all_reduce", op), group)
    )
    return done(async_op, [tensor])


def reduce(
    tensor: Tensor, dst: int, op: str = "sum", group: str | None = None, async_op: bool = False
) -> CommHandle | None:
    """As `all_reduce`, into `tensor` of one rank (`dst`, among all); the others keep theirs."""
    check_tensors("reduce", tensor=tensor)
    _outside("reduce")
    found = members.members(group, "reduce")
    place = _place("reduce", "dst", dst, found)
    value = members.all_reduce(raw(tensor), _op("reduce", op), found)
    if found[place] == management.first_rank():
        give("reduce", "tensor", tensor, value)
    return done(async_op, [tensor])


def broadcast(
    tensor: Tensor, src: int, group: str | None = None, async_op: bool = False
) -> CommHandle | None:
    """The value of one rank (`src`, among all), into `tensor` of all members."""
    check_tensors("broadcast", tensor=tensor)
    if meeting.inside():
        place = _place("broadcast", "src", src, groups.partition(_name(group))[0])
        value = raw(ops.broadcast(tensor, place, _name(group)))
    else:
        found = members.members(group, "broadcast")
        value = members.broadcast(raw(tensor), _place("broadcast", "src", src, found), found)
    give("broadcast", "tensor", tensor, value)
    return done(async_op, [tensor])


def all_gather(
    tensor_list: list[Tensor], tensor: Tensor, group: str | None = None, async_op: bool = False
) -> CommHandle | None:
    """The value of each member, into the Tensors of `tensor_list` on all of them."""
    check_tensors("all_gather", tensor=tensor)
    rows = _gathered("all_gather", tensor, group)
    check_list("all_gather", "tensor_list", tensor_list, rows.shape[0])
    for i, (into, row) in enumerate(zip(tensor_list, rows, strict=True)):
        give("all_gather", f"tensor_list[{i}]", into, row)
    return done(async_op, tensor_list)


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: str | None = None, async_op: bool = False
) -> CommHandle | None:
    """(n, ...) -> (members * n, ...): the values of all members after each other, on each."""
    check_tensors("all_gather_into_tensor", output_tensor=output_tensor, input_tensor=input_tensor)
    rows = _gathered("all_gather_into_tensor", input_tensor, group)
    shape = (rows.shape[0] * (rows.shape[1] if rows.ndim > 1 else 1), *rows.shape[2:])
    give("all_gather_into_tensor", "output_tensor", output_tensor, rows.reshape(shape))
    return done(async_op, [output_tensor])


def all_gather_into_tensor_uneven(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """As `all_gather_into_tensor`, where each member has its own size of the first axis.

    (size of this member, ...) -> (sum of `output_split_sizes`, ...); None: all sizes are alike.
    """
    call = "all_gather_into_tensor_uneven"
    if not output_split_sizes:
        return all_gather_into_tensor(output, input, group, async_op)
    check_tensors(call, output=output, input=input)
    _outside(call)
    found = members.members(group, call)
    sizes = _sizes(call, "output_split_sizes", output_split_sizes, len(found))
    value = raw(input)
    mine = sizes[found.index(management.first_rank())]
    if value.shape[0] != mine:
        raise ValueError(f"{call}: input has {value.shape[0]} rows; its size is {mine}.")
    rows = members.all_gather(_padded(value, max(sizes)), found)
    parts = [row[:size] for row, size in zip(rows, sizes, strict=True)]
    give(call, "output", output, jnp.concatenate(parts))
    return done(async_op, [output])


def _sizes(call: str, name: str, sizes: Sequence[int], count: int) -> list[int]:
    if len(sizes) != count or any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError(f"{call}: {name} needs {count} ints, one a rank; got {list(sizes)}.")
    return list(sizes)


def _padded(value: Array, rows: int) -> Array:
    more = [(0, rows - value.shape[0])] + [(0, 0)] * (value.ndim - 1)
    return jnp.pad(value, more)


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: str = "sum",
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """(members * n, ...) -> (n, ...): the reduction, of which each member keeps its slice."""
    call = "reduce_scatter_tensor"
    check_tensors(call, output=output, input=input)
    value, op = raw(input), _op(call, op)
    if meeting.inside():
        if op == "avg":
            raise ValueError(f"{call}: op='avg' is not offered in programs; divide the sum.")
        give(call, "output", output, raw(ops.reduce_scatter(input, op, _name(group))))
        return done(async_op, [output])
    found = members.members(group, call)
    if not value.ndim or value.shape[0] % len(found):
        raise ValueError(
            f"{call}: axis 0 of input's shape {tuple(value.shape)} does not divide by the "
            f"{len(found)} members."
        )
    rows = value.reshape(len(found), value.shape[0] // len(found), *value.shape[1:])
    give(call, "output", output, members.reduce_scatter(rows, op, found))
    return done(async_op, [output])


def reduce_scatter_tensor_uneven(
    output: Tensor,
    input: Tensor,
    input_split_sizes: Sequence[int] | None = None,
    op: str = "sum",
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """As `reduce_scatter_tensor`, where each member has its own size of the first axis."""
    call = "reduce_scatter_tensor_uneven"
    if not input_split_sizes:
        return reduce_scatter_tensor(output, input, op, group, async_op)
    check_tensors(call, output=output, input=input)
    _outside(call)
    found = members.members(group, call)
    sizes = _sizes(call, "input_split_sizes", input_split_sizes, len(found))
    value = raw(input)
    if value.shape[0] != sum(sizes):
        raise ValueError(f"{call}: input has {value.shape[0]} rows; the sizes are {sizes}.")
    parts = jnp.split(value, np.cumsum(sizes)[:-1].tolist())
    rows = jnp.stack([_padded(part, max(sizes)) for part in parts])
    own = members.reduce_scatter(rows, _op(call, op), found)
    give(call, "output", output, own[: sizes[found.index(management.first_rank())]])
    return done(async_op, [output])


def reduce_scatter(
    output: Tensor,
    input_list: list[Tensor],
    op: str = "sum",
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """The reduction of the members' entries i, into `output` of member i."""
    check_tensors("reduce_scatter", output=output)
    check_list("reduce_scatter", "input_list", input_list)
    joined = wrap(jnp.stack([raw(tensor) for tensor in input_list]))
    into = wrap(raw(output)[None])
    reduce_scatter_tensor(into, joined, op, group)
    give("reduce_scatter", "output", output, raw(into)[0])
    return done(async_op, [output])


def all_to_all(
    output_tensor_list: list[Tensor],
    input_tensor_list: list[Tensor],
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """Entry i of the inputs is sent to member i; what comes from it is written into output i.

    Shapes may differ, if what is sent has as many elements as where it arrives.
    """
    call = "all_to_all"
    _outside(call)
    found = members.members(group, call)
    check_list(call, "output_tensor_list", output_tensor_list, len(found))
    check_list(call, "input_tensor_list", input_tensor_list, len(found))
    flat = [raw(tensor).reshape(-1) for tensor in input_tensor_list]
    longest = max(t.size for t in (*flat, *map(raw, output_tensor_list)))
    with x64(*flat):
        most = int(members.all_reduce(jnp.asarray(longest, jnp.int32), "max", found))
        rows = members.all_to_all(jnp.stack([_padded(part, most) for part in flat]), found)
    for i, (into, row) in enumerate(zip(output_tensor_list, rows, strict=True)):
        there = raw(into)
        give(call, f"output_tensor_list[{i}]", into, row[: there.size].reshape(there.shape))
    return done(async_op, output_tensor_list)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """Slices of `input` along the first axis are sent to the members, `output` is of theirs.

    `input_split_sizes` says how many rows are sent to each, `output_split_sizes` how many come;
    None: as many of each.
    """
    call = "all_to_all_single"
    check_tensors(call, output=output, input=input)
    if meeting.inside():
        if output_split_sizes or input_split_sizes:
            _outside(call)
        size = management.get_group_size(_name(group))
        give(call, "output", output, raw(ops.all_to_all(input, size, 0, 0, _name(group))))
        return done(async_op, [output])
    found = members.members(group, call)
    sent = _parts(call, "input", raw(input), input_split_sizes, len(found))
    kept = _parts(call, "output", raw(output), output_split_sizes, len(found))
    into = [wrap(part) for part in kept]
    all_to_all(into, [wrap(part) for part in sent], group)
    give(call, "output", output, jnp.concatenate([raw(part) for part in into]))
    return done(async_op, [output])


def _parts(
    call: str, name: str, value: Array, sizes: Sequence[int] | None, count: int
) -> list[Array]:
    if not value.ndim:
        raise ValueError(f"{call}: {name} needs a first axis, got shape ().")
    if not sizes:
        if value.shape[0] % count:
            raise ValueError(
                f"{call}: axis 0 of {name}'s shape {tuple(value.shape)} does not divide by the "
                f"{count} members; give {name}_split_sizes."
            )
        sizes = [value.shape[0] // count] * count
    sizes = _sizes(call, f"{name}_split_sizes", sizes, count)
    if sum(sizes) != value.shape[0]:
        raise ValueError(f"{call}: {name}_split_sizes={sizes} are not {value.shape[0]} rows.")
    return jnp.split(value, np.cumsum(sizes)[:-1].tolist())


def gather(
    tensor: Tensor,
    gather_list: list[Tensor] | None = None,
    dst: int = 0,
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """The value of each member, into the Tensors of `gather_list` on one rank (`dst`)."""
    check_tensors("gather", tensor=tensor)
    _outside("gather")
    found = members.members(group, "gather")
    place = _place("gather", "dst", dst, found)
    rows = members.all_gather(raw(tensor), found)
    if found[place] != management.first_rank():
        return done(async_op)
    check_list("gather", "gather_list", gather_list, len(found))
    for i, (into, row) in enumerate(zip(gather_list or (), rows, strict=True)):
        give("gather", f"gather_list[{i}]", into, row)
    return done(async_op, gather_list or ())


def scatter(
    tensor: Tensor,
    scatter_list: list[Tensor] | None = None,
    src: int = 0,
    group: str | None = None,
    async_op: bool = False,
) -> CommHandle | None:
    """Entry i of `scatter_list` of one rank (`src`), into `tensor` of member i."""
    check_tensors("scatter", tensor=tensor)
    _outside("scatter")
    found = members.members(group, "scatter")
    place = _place("scatter", "src", src, found)
    value = raw(tensor)
    rows = jnp.zeros((len(found), *value.shape), value.dtype)
    if found[place] == management.first_rank():
        check_list("scatter", "scatter_list", scatter_list, len(found))
        rows = jnp.stack([raw(entry) for entry in scatter_list or ()])
    give("scatter", "tensor", tensor, members.all_to_all(rows, found)[place])
    return done(async_op, [tensor])


def barrier(
    group: str | None = None, async_op: bool = False, device_ids: object = None
) -> CommHandle | None:
    """Wait for the devices, and for all members to come here."""
    if meeting.inside():
        return done(async_op)
    here = wrap(
        members.all_reduce(jnp.ones((), jnp.int32), "sum", members.members(group, "barrier"))
    )
    handle = CommHandle(here)
    if async_op:
        return handle
    handle.wait()
    return None
