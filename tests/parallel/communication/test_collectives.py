"""Collective operators in programs: values and gradients against numpy over all devices at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, communication, context, ops
from paramesh.errors import ContextError
from paramesh.ops import ReduceOp
from type_checks import wrong

N = 4
#: A value of shape (4, 2) for each of four devices, no two elements alike.
X = (np.random.default_rng(0).permutation(N * 8).reshape(N, 4, 2) / 16 - 0.97).astype(np.float32)
PAIRS = [[2, 0], [1, 3]]
ALL = [[0, 1, 2, 3]]
LONE = [[3, 1]]  # 0 and 2 are in no group


@pytest.fixture(autouse=True)
def _groups() -> Iterator[None]:
    context.set_auto_parallel_context(parallel_mode="hybrid_parallel", device_num=N)
    communication.init()
    communication.create_group("pairs", PAIRS)
    communication.create_group("lone", LONE[0])
    yield
    communication.release()


Every = Callable[[list[np.ndarray]], list[np.ndarray]]


def grouped(parts: list[list[int]], fn: Every) -> Callable[[np.ndarray], list[np.ndarray]]:
    """All devices' results, of `fn`, which takes and gives the values of one group."""

    def over_all(x: np.ndarray) -> list[np.ndarray]:
        out = list(x)
        for part in parts:
            for rank, value in zip(part, fn([x[rank] for rank in part]), strict=True):
                out[rank] = value
        return out

    return over_all


def same(fn: Callable[[np.ndarray], np.ndarray]) -> Every:
    return lambda values: [fn(np.stack(values))] * len(values)


def scattered(fn: Callable[[np.ndarray], np.ndarray]) -> Every:
    return lambda values: np.split(fn(np.stack(values)), len(values))


def exchanged(split: int, join: int) -> Every:
    def fn(values: list[np.ndarray]) -> list[np.ndarray]:
        parts = [np.split(value, len(values), split) for value in values]
        return [np.concatenate([p[i] for p in parts], join) for i in range(len(values))]

    return fn


def total(x: np.ndarray) -> np.ndarray:
    return x.sum(0)


@dataclass(frozen=True)
class Case:
    """An operator's two forms, and what it gives to all devices."""

    name: str
    function: Callable[[Any], Any]
    primitive: Callable[[], Any]
    expected: Callable[[np.ndarray], list[np.ndarray]] = field(repr=False)


CASES = [
    *(
        Case(
            f"all_reduce-{op}-{group}",
            lambda x, op=op, group=group: ops.all_reduce(x, op, group),
            lambda op=op, group=group: ops.AllReduce(op, group),
            grouped(parts, same(fn)),
        )
        for op, fn in [
            (ReduceOp.SUM, total),
            (ReduceOp.MAX, lambda x: x.max(0)),
            (ReduceOp.MIN, lambda x: x.min(0)),
            (ReduceOp.PROD, lambda x: x.prod(0)),
        ]
        for group, parts in [("hccl_world_group", ALL), ("pairs", PAIRS), ("lone", LONE)]
    ),
    Case("all_gather", ops.all_gather, ops.AllGather, grouped(ALL, same(np.concatenate))),
    Case(
        "all_gather-pairs",
        lambda x: ops.all_gather(x, "pairs"),
        lambda: ops.AllGather("pairs"),
        grouped(PAIRS, same(np.concatenate)),
    ),
    *(
        Case(
            f"reduce_scatter-{op}",
            lambda x, op=op: ops.reduce_scatter(x, op, "pairs"),
            lambda op=op: ops.ReduceScatter(op, group="pairs"),
            grouped(PAIRS, scattered(fn)),
        )
        for op, fn in [
            (ReduceOp.SUM, total),
            (ReduceOp.MAX, lambda x: x.max(0)),
            (ReduceOp.PROD, lambda x: x.prod(0)),
        ]
    ),
    Case(
        "all_to_all",
        lambda x: ops.all_to_all(x, 4, 0, 1),
        lambda: ops.AlltoAll(4, 0, 1),
        grouped(ALL, exchanged(0, 1)),
    ),
    Case(
        "all_to_all-pairs",
        lambda x: ops.all_to_all(x, 2, -1, 0, "pairs"),
        lambda: ops.AlltoAll(2, -1, 0, "pairs"),
        grouped(PAIRS, exchanged(1, 0)),
    ),
    *(
        Case(
            f"broadcast-{group}",
            lambda x, group=group: ops.broadcast(x, 1, group),
            lambda group=group: ops.Broadcast(1, group),
            grouped(parts, same(lambda x: x[1])),
        )
        for group, parts in [("hccl_world_group", ALL), ("pairs", PAIRS), ("lone", LONE)]
    ),
    Case(
        "neighbor_exchange-ring",
        lambda x: ops.neighbor_exchange((x,), [(1, 2, 3, 0)], [(3, 0, 1, 2)])[0],
        lambda: (
            lambda x: ops.NeighborExchange([(1, 2, 3, 0)], [(3, 0, 1, 2)], [], [], None)((x,))[0]
        ),
        grouped(ALL, lambda v: [v[3], v[0], v[1], v[2]]),
    ),
    Case(
        # The ends swap roles: what each receives comes from another of the two values.
        "neighbor_exchange-open",
        lambda x: ops.neighbor_exchange(
            (x, 2.0 * x), [(1, -1, -1, -1), (-1, -1, -1, 2)], [(-1, 0, 3, -1)]
        )[0],
        lambda: (
            lambda x: ops.NeighborExchange([(1, -1, -1, -1), (-1, -1, -1, 2)], [(-1, 0, 3, -1)])(
                (x, 2.0 * x)
            )[0]
        ),
        grouped(ALL, lambda v: [0 * v[0], v[0], 2 * v[3], 0 * v[0]]),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_and_gradients(case: Case) -> None:
    wanted = case.expected(X)
    made = case.primitive()
    draw = np.random.default_rng(1)
    weights = draw.uniform(0.5, 1.5, np.shape(np.concatenate(wanted))).astype(np.float32)

    @paramesh.jit
    def program(x: Any, w: Any) -> Any:
        def loss(x: Any) -> Any:
            return (w * case.function(x) * case.function(x)).sum()

        return case.function(x), made(x), paramesh.grad(loss)(x)

    out, of_class, gradient = program(Tensor(X.reshape(N * 4, 2)), Tensor(weights))
    np.testing.assert_allclose(out.asnumpy(), np.concatenate(wanted), rtol=1e-6)
    np.testing.assert_array_equal(of_class.asnumpy(), out.asnumpy())

    def loss_of_all(x: np.ndarray) -> float:
        return float((weights * np.concatenate(case.expected(x)) ** 2).sum())

    numeric = np.zeros(X.shape)
    for at in np.ndindex(*X.shape):
        step = np.zeros(X.shape)
        step[at] = 1e-4
        numeric[at] = (loss_of_all(X + step) - loss_of_all(X - step)) / 2e-4
    np.testing.assert_allclose(gradient.asnumpy(), numeric.reshape(-1, 2), rtol=1e-4, atol=1e-5)


def test_integers_and_tuples() -> None:
    @paramesh.jit
    def program(x: Any) -> Any:
        a, b = ops.Broadcast(2)((x, x * 2))
        return ops.AllReduce(ReduceOp.MAX)(x), ops.all_reduce(x, ReduceOp.PROD), a, b

    top, product, a, b = program(Tensor(np.arange(1, 5, dtype=np.int32)))
    assert (top.asnumpy() == 4).all()
    assert (product.asnumpy() == 24).all()
    assert product.dtype == paramesh.int32
    assert (a.asnumpy() == 3).all()
    assert (b.asnumpy() == 6).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: ops.all_reduce(x, "mean"), ValueError, "op must be one of 'sum', 'max'"),
        (lambda x: ops.all_reduce(x, group="no"), ValueError, "no group 'no'; there are 'hccl"),
        (lambda x: ops.all_reduce(x, group=wrong(3)), TypeError, "the name of a group, got 3"),
        (
            lambda x: ops.all_gather(x, "lone"),
            ValueError,
            r"AllGather needs each of the 4 devices in a group .* are \[\[3, 1\]\]",
        ),
        (lambda x: ops.all_gather(x.sum()), ValueError, r"a first axis, got shape \(\)"),
        (
            lambda x: ops.reduce_scatter(x[:3]),
            ValueError,
            r"shape \(3, 2\) does not divide into 4 equal slices",
        ),
        (lambda x: ops.all_to_all(x, 2, 0, 1), ValueError, "split_count=2 .* of the group, 4"),
        (lambda x: ops.all_to_all(x, 4, 2, 0), IndexError, "split_dim=2 is not an axis"),
        (lambda x: ops.all_to_all(x, wrong([4]), 0, 0), TypeError, r"must be an int, got \[4\]"),
        (
            lambda x: ops.all_to_all(x, 4, 1, 0),
            ValueError,
            "axis 1 .* does not divide into 4 equal slices",
        ),
        (lambda x: ops.broadcast(x, 4), ValueError, r"root_rank=4 is outside 0..3"),
        (
            lambda x: ops.neighbor_exchange((x,), [1], [0]),
            ValueError,
            "send_rank_ids: all 4 devices run one program.* got 1",
        ),
        (
            lambda x: ops.neighbor_exchange((x,), [(1, 1, 2, 3)], [(1, 1, 2, 3)]),
            ValueError,
            "sends one tensor of two devices to one",
        ),
        (
            lambda x: ops.neighbor_exchange((x,), [(1, 2, 3, 0)], [(1, 2, 3, 0)]),
            ValueError,
            "in place 0 receives from 1, which sends it nothing",
        ),
    ],
)
def test_mistakes(call: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        paramesh.jit(call)(Tensor(X.reshape(N * 4, 2)))


def test_outside_of_programs() -> None:
    with pytest.raises(
        ContextError, match="ops.AllReduce: outside of compiled programs .* its 4 devices"
    ):
        ops.AllReduce()(Tensor(X[0]))


@pytest.mark.parametrize("mode", ["stand_alone", "semi_auto_parallel"])
def test_in_other_modes(mode: str) -> None:
    context.set_auto_parallel_context(parallel_mode=mode)
    with pytest.raises(ContextError, match="ops.AllReduce.*hybrid_parallel"):
        paramesh.jit(ops.AllReduce())(Tensor(X[0]))


@pytest.mark.parametrize("mode", ["stand_alone", "hybrid_parallel", "semi_auto_parallel"])
def test_one_device_is_a_group_of_one(mode: str) -> None:
    communication.release()
    context.set_auto_parallel_context(parallel_mode=mode, device_num=1)
    communication.init()
    x = Tensor(X[0])

    @paramesh.jit
    def program(x: Any) -> Any:
        return (
            ops.AllReduce()(x),
            ops.AllGather()(x),
            ops.ReduceScatter(ReduceOp.MAX)(x),
            ops.AlltoAll(1, 0, 1)(x),
            ops.Broadcast(0)(x),
            ops.NeighborExchange([0], [0])((x,))[0],
        )

    for out in program(x):
        np.testing.assert_array_equal(out.asnumpy(), X[0])
