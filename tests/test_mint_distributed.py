"""`mint.distributed` in one process; see tests/parallel/processes for several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.errors import ProgramNeededError
from paramesh.mint import distributed as dist
from paramesh.parallel.communication import management
from type_checks import wrong


@pytest.fixture(autouse=True)
def _joined() -> Iterator[None]:
    dist.init_process_group()
    yield
    if management.GlobalComm.INITED:
        dist.destroy_process_group()
    context.reset()


@pytest.fixture
def alone() -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=1)


def rows(*shape: int) -> Tensor:
    return Tensor(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


#: What each function does to zeros of a shape where there is one process.
ALONE: dict[str, tuple[tuple[int, ...], Any]] = {
    "all_reduce": ((2, 3), lambda out, x: dist.all_reduce(out.assign_value(x), "avg")),
    "reduce": ((2, 3), lambda out, x: dist.reduce(out.assign_value(x), 0, "prod")),
    "broadcast": ((2, 3), lambda out, x: dist.broadcast(out.assign_value(x), 0)),
    "all_gather": ((2, 3), lambda out, x: dist.all_gather([out], x)),
    "all_gather_into_tensor": ((2, 3), dist.all_gather_into_tensor),
    "all_gather_into_tensor_uneven": (
        (2, 3),
        lambda out, x: dist.all_gather_into_tensor_uneven(out, x, [2]),
    ),
    "reduce_scatter": ((2, 3), lambda out, x: dist.reduce_scatter(out, [x], "max")),
    "reduce_scatter_tensor": ((2, 3), dist.reduce_scatter_tensor),
    "reduce_scatter_tensor_uneven": (
        (2, 3),
        lambda out, x: dist.reduce_scatter_tensor_uneven(out, x, [2]),
    ),
    "all_to_all": ((2, 3), lambda out, x: dist.all_to_all([out], [x])),
    "all_to_all_single": ((2, 3), dist.all_to_all_single),
    "gather": ((2, 3), lambda out, x: dist.gather(x, [out])),
    "scatter": ((2, 3), lambda out, x: dist.scatter(out, [x])),
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ALONE)
def test_alone_each_gives_what_is_there(name: str) -> None:
    shape, call = ALONE[name]
    out = Tensor(np.zeros(shape, np.float32))
    assert call(out, rows(2, 3)) is None
    np.testing.assert_array_equal(out.asnumpy(), rows(2, 3).asnumpy())


@pytest.mark.usefixtures("alone")
def test_alone_objects_stay() -> None:
    found: list[Any] = [None]
    dist.all_gather_object(found, "a")
    assert found == ["a"]
    dist.gather_object("b", found)
    assert found == ["b"]
    dist.broadcast_object_list(found)
    dist.scatter_object_list(found, ["c"])
    assert found == ["c"]
    handle = dist.barrier(async_op=True)
    assert handle is not None
    handle.wait()
    with pytest.raises(ValueError, match="dst=0 is this process itself"):
        dist.send(rows(2), 0)


@pytest.mark.usefixtures("alone")
def test_mistakes_name_the_function() -> None:
    x = rows(2)
    for match, call in {
        "all_reduce: tensor must be a Tensor, got list": lambda: dist.all_reduce(wrong([1])),
        "all_reduce: op must be one of sum, avg": lambda: dist.all_reduce(x, "mean"),
        "all_reduce: group must be the name": lambda: dist.all_reduce(x, group=wrong(1)),
        "There is no group 'none'": lambda: dist.all_reduce(x, group="none"),
        "broadcast: src=3 is not in the group": lambda: dist.broadcast(x, 3),
        "all_gather: tensor_list needs 1 Tensors": lambda: dist.all_gather([], x),
        "must have shape": lambda: dist.all_gather_into_tensor(rows(3), x),
        "input_split_sizes needs 1 ints": lambda: dist.all_to_all_single(
            x, rows(2), None, [1, 1]),
        "P2POp: op must be isend or irecv": lambda: dist.P2POp("send", x, 1),
        "P2POp: tag must be 0": lambda: dist.P2POp("isend", x, 1, tag=2),
        "takes a list of P2POp": lambda: dist.batch_isend_irecv([]),
        "send_object_list: object_list must be a list": lambda: dist.send_object_list(
            wrong("a"), 1),
        "new_group: ranks must be a list": lambda: dist.new_group(wrong((0,))),
    }.items():  # fmt: skip
        with pytest.raises((TypeError, ValueError, NotImplementedError), match=match):
            call()


def test_groups_are_made_once() -> None:
    name = dist.new_group([1, 0])
    assert dist.new_group([0, 1]) == name
    assert dist.get_process_group_ranks(name) == [0, 1]
    assert (dist.get_rank(name), dist.get_world_size(name)) == (0, 2)
    assert dist.new_group([2, 3]) == ""
    assert dist.get_rank("ranks_2_3") == dist.get_world_size("ranks_2_3") == -1
    assert dist.new_group() == dist.new_group(None)
    dist.destroy_process_group(name)
    with pytest.raises(ValueError, match="There is no group"):
        dist.get_process_group_ranks(name)
    with pytest.raises(ValueError, match="world_size=3, but there are 8"):
        dist.init_process_group(world_size=3)
    assert dist.get_backend() == "gloo"


def test_a_process_of_several_devices_says_what_to_do() -> None:
    with pytest.raises(ProgramNeededError, match="this process has 8 devices of the group"):
        dist.all_reduce(rows(2))


def test_in_a_program_all_devices_come_to_it() -> None:
    context.set_auto_parallel_context(parallel_mode="hybrid_parallel")

    class Net(nn.Cell):
        def construct(self, x: Any) -> Any:
            total, mean = ops.sum(x), ops.sum(x)
            dist.all_reduce(total)
            dist.all_reduce(mean, "avg")
            one = ops.sum(x)
            dist.broadcast(one, 2)
            into = ops.zeros((8,), paramesh.float32)
            dist.all_gather_into_tensor(into, ops.sum(x).reshape((1,)))
            parts = [ops.zeros((), paramesh.float32) for _ in range(8)]
            dist.all_gather(parts, ops.sum(x))
            mine = ops.zeros((1,), paramesh.float32)
            dist.reduce_scatter_tensor(mine, into)
            moved = ops.zeros((8,), paramesh.float32)
            dist.all_to_all_single(moved, into)
            return ops.stack(
                [total, mean, one, into[3], parts[4], mine[0], moved[0], ops.sum(x)]
            ).reshape((1, 8))

    found = Net()(Tensor(np.arange(8, dtype=np.float32))).asnumpy()
    np.testing.assert_allclose(found[:, :5], np.tile([28, 3.5, 2, 3, 4], (8, 1)))
    np.testing.assert_allclose(found[:, 5], 8 * np.arange(8))
    np.testing.assert_allclose(found[:, 6], np.arange(8))

    class Wrong(nn.Cell):
        def construct(self, x: Any) -> Any:
            dist.reduce(x, 0)
            return x

    with pytest.raises(NotImplementedError, match="in a program all devices do the same"):
        Wrong()(Tensor(np.arange(8, dtype=np.float32)))
