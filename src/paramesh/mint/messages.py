"""The functions of `mint.distributed` that send from one process to another, Tensors and objects.

Objects are pickled: what a process receives, it executes, as with torch and MindSpore.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from paramesh.dtype import x64
from paramesh.mint.handles import CommHandle, check_tensors, give
from paramesh.parallel.communication import management, members, messages
from paramesh.parallel.modes import meeting
from paramesh.tensor.base import Tensor


def _peer(call: str, name: str, rank: object, group: str | None) -> int:
    """A rank of the group that is not this one."""
    if type(rank) is not int:
        raise TypeError(f"{call}: {name} must be a rank, an int; got {rank!r}.")
    if meeting.inside():
        raise NotImplementedError(
            f"mint.distributed.{call}: in a program all devices do the same, and one of them can "
            "not send to another alone. Use ops.neighbor_exchange there."
        )
    found = members.members(group, call)
    if rank not in found:
        raise ValueError(f"{call}: {name}={rank} is not in the group, {list(found)}.")
    if rank == management.first_rank():
        raise ValueError(f"{call}: {name}={rank} is this process itself.")
    return rank


def _send(call: str, channel: str, target: int, data: bytes) -> None:
    messages.send(messages.ticket(channel, management.first_rank(), target), data)


def _ticket(channel: str, source: int) -> str:
    return messages.ticket(channel, source, management.first_rank())


def _packed(tensor: Tensor) -> bytes:
    value = np.asarray(tensor)
    return pickle.dumps((value.dtype.name, value.shape, value.tobytes()))


def _unpack(call: str, tensor: Tensor, data: bytes) -> None:
    kind, shape, content = pickle.loads(data)
    value = np.frombuffer(content, np.dtype(kind)).reshape(shape)
    with x64(value):
        give(call, "tensor", tensor, jnp.asarray(value))


def _channel(group: str | None, tag: int) -> str:
    return f"tensors/{group or 'world'}/{tag}"


def isend(tensor: Tensor, dst: int = 0, group: str | None = None, tag: int = 0) -> CommHandle:
    """Send a Tensor to one rank (among all), which calls `recv` or `irecv`.

    It goes by way of the process that joined all of them, so it is for what is small: collective
    operations carry more.

    Args:
        tensor: what is sent; it may be changed afterwards.
        dst: to whom.
        group: a group that both are in; None: all.
        tag: messages of other tags are others.

    Returns:
        A handle with nothing to wait for.

    Raises:
        TypeError, ValueError: not a Tensor; no rank of the group, or this one.
    """
    check_tensors("isend", tensor=tensor)
    _send("isend", _channel(group, tag), _peer("isend", "dst", dst, group), _packed(tensor))
    return CommHandle()


def send(tensor: Tensor, dst: int = 0, group: str | None = None, tag: int = 0) -> None:
    """As `isend`, without a handle. It does not wait for the receiver."""
    isend(tensor, dst, group, tag)


def irecv(tensor: Tensor, src: int = 0, group: str | None = None, tag: int = 0) -> CommHandle:
    """Receive a Tensor from one rank into `tensor`, by the time that the handle's `wait` ends.

    Raises:
        TypeError, ValueError: as `isend`; when waiting: another shape or element type came, or
            (RuntimeError) nothing in half an hour.
    """
    check_tensors("irecv", tensor=tensor)
    source = _peer("irecv", "src", src, group)
    name = _ticket(_channel(group, tag), source)
    return CommHandle(
        tensor, later=lambda: _unpack("recv", tensor, messages.receive(name, "recv", source))
    )


def recv(tensor: Tensor, src: int = 0, group: str | None = None, tag: int = 0) -> int:
    """As `irecv`, and wait for it. Gives 0, as MindSpore does."""
    irecv(tensor, src, group, tag).wait()
    return 0


class P2POp:
    """One sending or receiving, for `batch_isend_irecv`.

    Args:
        op: `isend`, `irecv`, or the name of one.
        tensor: what is sent, or where it goes.
        peer: the other rank.
        group: see `isend`.
        tag: only 0, as in MindSpore.

    Raises:
        TypeError: another `op`, not a Tensor, `peer` not an int. NotImplementedError: a tag.
    """

    def __init__(
        self,
        op: str | Callable[..., CommHandle],
        tensor: Tensor,
        peer: int,
        group: str | None = None,
        tag: int = 0,
    ) -> None:
        known = {"isend": isend, "irecv": irecv}
        found = known.get(op) if isinstance(op, str) else op
        if found is None or found not in known.values():
            raise TypeError(f"P2POp: op must be isend or irecv, got {op!r}.")
        check_tensors("P2POp", tensor=tensor)
        if type(peer) is not int:
            raise TypeError(f"P2POp: peer must be a rank, an int; got {peer!r}.")
        if tag != 0:
            raise NotImplementedError(f"P2POp: tag must be 0, got {tag!r}.")
        self.op, self.tensor, self.peer, self.group, self.tag = op, tensor, peer, group, tag
        self.start = functools.partial(found, tensor, peer, group)


def batch_isend_irecv(p2p_op_list: Sequence[P2POp]) -> list[CommHandle]:
    """Begin several sendings and receivings; the handle of each, in their order.

    Raises:
        TypeError: no `P2POp`s, or of different groups.
    """
    if not p2p_op_list or not all(isinstance(one, P2POp) for one in p2p_op_list):
        raise TypeError(f"batch_isend_irecv takes a list of P2POp, got {p2p_op_list!r}.")
    if len({one.group for one in p2p_op_list}) > 1:
        raise TypeError("batch_isend_irecv: all P2POps must be of one group.")
    return [one.start() for one in p2p_op_list]


# Objects.


def _list(call: str, name: str, objects: object) -> None:
    if not isinstance(objects, list):
        raise TypeError(f"{call}: {name} must be a list, got {type(objects).__name__}.")


def _source(call: str, name: str, rank: object, group: str | None) -> members.Members:
    if type(rank) is not int:
        raise TypeError(f"{call}: {name} must be a rank, an int; got {rank!r}.")
    found = members.members(group, call)
    if rank not in found:
        raise ValueError(f"{call}: {name}={rank} is not in the group, {list(found)}.")
    return found


def send_object_list(
    object_list: list[object], dst: int, group: str | None = None, device: object = None
) -> None:
    """Send the objects of a list to one rank, which calls `recv_object_list`."""
    _list("send_object_list", "object_list", object_list)
    target = _peer("send_object_list", "dst", dst, group)
    _send("send_object_list", "list", target, pickle.dumps(object_list))


def recv_object_list(
    object_list: list[object], src: int = 0, group: str | None = None, device: object = None
) -> int:
    """Receive objects into a list of as many entries. Gives 0, as MindSpore does.

    Raises:
        ValueError: another number of them came.
    """
    _list("recv_object_list", "object_list", object_list)
    source = _peer("recv_object_list", "src", src, group)
    found = pickle.loads(messages.receive(_ticket("list", source), "recv_object_list", source))
    if len(found) != len(object_list):
        raise ValueError(
            f"recv_object_list: {len(found)} objects came for a list of {len(object_list)}."
        )
    object_list[:] = found
    return 0


def all_gather_object(object_list: list[object], obj: object, group: str | None = None) -> None:
    """The object of each member, into `object_list` of all."""
    _list("all_gather_object", "object_list", object_list)
    found = members.members(group, "all_gather_object")
    _check_count("all_gather_object", "object_list", object_list, found)
    data = pickle.dumps(obj)
    me = management.first_rank()
    for rank in found:
        if rank != me:
            _send("all_gather_object", "gather", rank, data)
    object_list[:] = [
        obj if rank == me else _object("all_gather_object", "gather", rank) for rank in found
    ]


def _object(call: str, channel: str, source: int) -> object:
    return pickle.loads(messages.receive(_ticket(channel, source), call, source))


def _check_count(call: str, name: str, objects: list[object], found: members.Members) -> None:
    if len(objects) != len(found):
        raise ValueError(
            f"{call}: {name} needs {len(found)} entries, one a rank; got {len(objects)}."
        )


def gather_object(
    obj: object,
    object_gather_list: list[object] | None = None,
    dst: int = 0,
    group: str | None = None,
) -> None:
    """The object of each member, into `object_gather_list` of one rank (`dst`)."""
    found = _source("gather_object", "dst", dst, group)
    me = management.first_rank()
    if me != dst:
        _send("gather_object", "gather", dst, pickle.dumps(obj))
        return
    objects = [] if object_gather_list is None else object_gather_list
    _list("gather_object", "object_gather_list", objects)
    _check_count("gather_object", "object_gather_list", objects, found)
    objects[:] = [obj if rank == me else _object("gather_object", "gather", rank) for rank in found]


def broadcast_object_list(
    object_list: list[object], src: int = 0, group: str | None = None, device: object = None
) -> None:
    """The objects of one rank (`src`), into `object_list` of all members."""
    _list("broadcast_object_list", "object_list", object_list)
    found = _source("broadcast_object_list", "src", src, group)
    me = management.first_rank()
    if me != src:
        objects = _object("broadcast_object_list", "broadcast", src)
        _list("broadcast_object_list", "what came", objects)
        object_list[:] = objects if isinstance(objects, list) else []
        return
    data = pickle.dumps(object_list)
    for rank in found:
        if rank != me:
            _send("broadcast_object_list", "broadcast", rank, data)


def scatter_object_list(
    scatter_object_output_list: list[object],
    scatter_object_input_list: list[object] | None = None,
    src: int = 0,
    group: str | None = None,
) -> None:
    """Entry i of the list of one rank (`src`), as first entry of `scatter_object_output_list`."""
    call = "scatter_object_list"
    _list(call, "scatter_object_output_list", scatter_object_output_list)
    if not scatter_object_output_list:
        raise ValueError(f"{call}: scatter_object_output_list needs an entry to write into.")
    found = _source(call, "src", src, group)
    me = management.first_rank()
    if me != src:
        scatter_object_output_list[0] = _object(call, "scatter", src)
        return
    objects = [] if scatter_object_input_list is None else scatter_object_input_list
    _list(call, "scatter_object_input_list", objects)
    _check_count(call, "scatter_object_input_list", objects, found)
    for rank, entry in zip(found, objects, strict=True):
        if rank == me:
            scatter_object_output_list[0] = entry
        else:
            _send(call, "scatter", rank, pickle.dumps(entry))
