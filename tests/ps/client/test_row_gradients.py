"""Gradients by tables on servers, as whoever looks at them between backward pass and update."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.ps.client import row_gradients
from paramesh.ps.integration import session as sessions

ROWS, WIDTH = 12, 3
PADDING = 7

#: What looks at the gradients of a table and a layer before the optimizer does.
CONSUMERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "nothing": lambda grads: grads,
    "clip_by_global_norm": lambda grads: ops.clip_by_global_norm(grads, 1.0),
    "clip_by_value": lambda grads: ops.clip_by_value(grads, Tensor(-0.5), Tensor(0.5)),
    "sign": lambda grads: tuple(ops.sign(g) for g in grads),
    "of their own norm": lambda grads: tuple(g / ops.sqrt((g * g).sum()) for g in grads),
    "the largest": lambda grads: tuple(g / ops.abs(g).max() for g in grads),
    "how many": lambda grads: tuple(
        g / (ops.abs(g) > 0).astype(paramesh.float32).sum() for g in grads
    ),
    "twice": lambda grads: tuple(ops.sign(g + g) + g for g in grads),
}


class Net(nn.Cell):
    """A table that is looked up twice, with indices of two types, and a layer behind it."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.item = nn.EmbeddingLookup(ROWS, WIDTH, padding_idx=padding)
        self.out = nn.Dense(WIDTH, 1)

    def construct(self, first: Any, second: Any) -> Any:
        rows = self.item(first) + self.item(second * 2).sum(0)
        return (self.out(rows) ** 2).mean()


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def moved(consumer: Any, served: bool, batches: Any, padding: int | None, hook: Any = None) -> Any:
    """The table and the layer after some steps."""
    sessions.end()
    context.reset_ps_context()
    context.set_ps_context(enable_ps=served, **({"server_num": 2} if served else {}))
    paramesh.set_seed(1)
    net = Net(padding)
    if served:
        net.item.set_param_ps(init_in_server=True)
    if hook is not None:
        net.item.embedding_table.register_hook(hook)
    optimizer = nn.SGD(net.trainable_params(), 0.1)
    gradients = paramesh.value_and_grad(net, None, net.trainable_params())

    @paramesh.jit
    def step(*batch: Any) -> Any:
        loss, grads = gradients(*batch)
        optimizer(consumer(grads))
        return loss

    for batch in batches:
        step(*batch)
    inside = [i for i in range(ROWS) if i != padding]
    return net.item(Tensor(inside)).asnumpy(), net.out.weight.asnumpy()


REPEATED = [
    (Tensor(np.array([1, 1, 1, 4, 4, 0], np.int32)), Tensor(np.array([2, 0, 2, 2], np.int64))),
    (Tensor(np.array([1, 2, 1, 5, 6, 6], np.int32)), Tensor(np.array([5, 5, 1, 0], np.int64))),
]


#: What is left to `make test-slow`: each is compiled.
SLOW = ("sign", "how many", "twice")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CONSUMERS]
)
def test_as_in_one_process(name: str) -> None:
    here, there = (moved(CONSUMERS[name], served, REPEATED, PADDING) for served in (False, True))
    for mine, theirs in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-7)


def test_what_does_not_map_zero_to_zero_counts_once_for_a_row() -> None:
    """Rows that nobody looked up are not there; of one that was, there is one gradient."""
    met = [0, 1, 4]
    here, there = (
        moved(lambda grads: tuple(g + 1.0 for g in grads), served, REPEATED[:1], None)
        for served in (False, True)
    )
    np.testing.assert_allclose(there[0][met], here[0][met], rtol=1e-5)
    others = [i for i in range(ROWS) if i not in met]
    assert not np.isclose(there[0][others], here[0][others]).any()


def test_a_hook_sees_the_sums() -> None:
    seen: list[Any] = []

    def hook(gradient: Any) -> Any:
        seen.append(gradient.shape)
        return gradient / ops.sqrt((gradient * gradient).sum())

    here, there = (
        moved(CONSUMERS["nothing"], served, REPEATED, None, hook) for served in (False, True)
    )
    assert seen
    for mine, theirs in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-7)


def test_an_optimizer_pushes_what_it_was_given_and_the_worker_adds_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody looks: nothing is added up on the device. Somebody does: nothing on the worker."""
    summed: list[bool] = []
    to_push = row_gradients.to_push

    def seen(ids: Any, grad: Any, rows: int, one: bool, *more: Any) -> Any:
        summed.append(one)
        return to_push(ids, grad, rows, one, *more)

    monkeypatch.setattr("paramesh.ps.integration.placement.to_push", seen)
    for name in ("nothing", "sign"):
        moved(CONSUMERS[name], True, REPEATED[:1], None)
    assert summed == [False, True]


@functools.cache
def summed(known: int) -> Any:
    def sums(ids: Any, grad: Any) -> Any:
        given_ids = [(ids[:known], None)] if known else []
        return row_gradients.Sums().add(given_ids, [grad[:2], grad[2:]], 5)

    return jax.jit(sums)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(-1, 4), min_size=6, max_size=6),
    seed=st.integers(0, 2**16),
    known=st.sampled_from([3, 6]),
)
def test_summed_in_the_first_place(ids: list[int], seed: int, known: int) -> None:
    grad = np.random.default_rng(seed).standard_normal((6, 2)).astype(np.float32)
    grad[known:] = 0  # nothing is known of the ids of lookups that are still to come
    total = np.asarray(summed(known)(np.array(ids, np.int32), grad))
    assert (total[known:] == 0).all()
    for i, one in enumerate(ids[:known]):
        same = [j for j in range(known) if ids[j] == one]
        expected = grad[same].sum(0) if same[0] == i else np.zeros(2)
        np.testing.assert_allclose(total[i], expected, rtol=1e-6, atol=1e-6)
    if known == 6:
        pushed = row_gradients.to_push(np.array(ids), total, 5, True)
        theirs = row_gradients.summed_rows(np.array(ids), grad, 5)
        assert (pushed["ids"] == theirs["ids"]).all()
        np.testing.assert_allclose(pushed["grad"], theirs["grad"], rtol=1e-6, atol=1e-6)
