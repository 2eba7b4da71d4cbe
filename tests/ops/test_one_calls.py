"""Operators outside of programs: each is one compiled call, with and without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.ops import random_ops
from paramesh.ops.table import TABLE
from paramesh.tensor import kept_calls
from paramesh.tensor.kept_calls import AT_ONCE, MOST, Arguments, Calls

X = Tensor(np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32))


@pytest.fixture(autouse=True)
def _eager() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)


@contextmanager
def without() -> Generator[None]:
    """Each computation of an operator is called by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_calls.Calls, "of", lambda *_: None)
        yield


def traces(name: str) -> int:
    return sum(call.traces for call in TABLE[name].calls.made())


#: (operator, call): several computations each.
CALLS: dict[str, Callable[[Any], Any]] = {
    "gelu": ops.gelu,
    "softmax": ops.softmax,
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.3),
    "layer_norm": lambda x: ops.layer_norm(x, (6,), ops.ones((6,)), ops.ones((6,))),
    "dense": lambda x: ops.dense(x, x),
    "topk": lambda x: ops.topk(x, 2)[0],
    "cross_entropy": lambda x: ops.cross_entropy(x, ops.ones((4,), paramesh.int32)),
    "sub": lambda x: x - ops.sub(x, 0.5),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_traced_once_and_computes_the_same(name: str) -> None:
    call = CALLS[name]
    derived = paramesh.value_and_grad(call)
    with without():
        expected = call(X), *derived(X)
    found = call(X), *derived(X)
    before = traces(name)
    assert before >= 2  # the call, and the way back
    for _ in range(2):
        call(X)
        derived(X)
    assert traces(name) == before
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu"])
def test_second_derivatives_are_those_of_programs(name: str) -> None:
    def twice(x: Any) -> Any:
        return paramesh.grad(lambda x: (CALLS[name](x) ** 3).sum())(x)

    found = paramesh.grad(twice)(X)
    rows = paramesh.hessian(lambda x: (CALLS[name](x) ** 3).sum())(X)
    context.set_context(mode=context.GRAPH_MODE)
    expected = paramesh.grad(twice)(X)
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows.asnumpy().sum((0, 1)), expected.asnumpy(), rtol=1e-4, atol=1e-5)


def test_numbers_that_change_compile_nothing_new() -> None:
    ops.mul(X, 0.5)
    before = traces("mul")
    for i in range(20):
        np.testing.assert_allclose(ops.mul(X, i / 7).asnumpy(), X.asnumpy() * np.float32(i / 7))
    assert traces("mul") == before


def test_settings_that_change_are_compiled_a_few_times() -> None:
    calls = Calls("scaled")

    def compute(values: dict[str, Any]) -> Any:
        return values["x"] * values["by"]

    def call(by: Any) -> Any:
        arguments = Arguments({"x": X._get(), "by": by})
        return calls.of(arguments.settings, compute, arguments)

    for i in range(AT_ONCE):
        assert call(float(i)) is call(float(i))
    assert call(0.25) is None
    assert call(0.25) is not None  # for the second time
    for _ in range(2):
        for i in range(2 * MOST):
            call(i + 0.5)
    assert len(calls.made()) <= MOST


def test_settings_are_told_apart_by_their_types_and_signs() -> None:
    def settings(value: Any) -> Any:
        return Arguments({"x": X._get(), "value": value}).settings

    alike = [0, 0.0, -0.0, False, None, "0", (0,), [0], (0.0,), paramesh.float32]
    assert len({settings(value) for value in alike}) == len(alike)
    assert settings(lambda: 0) is None
    assert settings((0, X)) is None


def test_an_operator_that_needs_values_has_them() -> None:
    for _ in range(2):
        assert ops.masked_select(X, X > 0).shape == (int((X.asnumpy() > 0).sum()),)
        found = paramesh.grad(lambda x: (ops.masked_select(x, x > 0) * x.sum()).sum())(X)
        assert found.shape == X.shape


def test_errors_are_those_of_the_operator() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'x'"):
            ops.gelu(X, "x")
        with pytest.raises(ValueError, match="prelu"):
            paramesh.grad(lambda x: ops.prelu(x, ops.ones((5,))).sum())(X)


def test_dropout_draws_others_in_every_call_and_set_seed_repeats_them() -> None:
    layer = nn.Dropout(p=0.5).set_train()

    def drawn() -> Any:
        paramesh.set_seed(3)
        return [layer(X).asnumpy() for _ in range(3)]

    first, again = drawn(), drawn()
    with without():
        alone = drawn()
    assert not np.array_equal(first[0], first[1])
    assert all(map(np.array_equal, first, again))
    assert all(map(np.array_equal, first, alone))
    (call,) = kept_calls._calls[random_ops._dropped_by].made()
    assert call.traces == 1


@pytest.mark.parametrize("derived", [False, True])
def test_batch_normalization_moves_its_averages(derived: bool) -> None:
    x = Tensor(np.random.default_rng(1).normal(size=(4, 3, 2, 2)).astype(np.float32))

    def trained() -> Any:
        layer = nn.BatchNorm2d(3).set_train()
        for _ in range(2):
            if derived:
                paramesh.grad(lambda x: (layer(x) ** 2).sum())(x)
            else:
                layer(x)
        return layer.moving_mean.asnumpy(), layer.moving_variance.asnumpy()

    with without():
        expected = trained()
    for one, other in zip(trained(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def all_traces() -> int:
    calls = [*(operator.calls for operator in TABLE.values()), *kept_calls._calls.values()]
    return sum(call.traces for each in calls for call in each.made())


def test_a_training_loop_traces_nothing_after_its_first_step() -> None:
    y = Tensor(np.array([0, 2, 1, 1], np.int32))

    def losses() -> list[float]:
        paramesh.set_seed(4)
        net = nn.SequentialCell(
            nn.Dense(6, 6), nn.LayerNorm((6,)), nn.GELU(), nn.Dropout(p=0.2), nn.Dense(6, 3)
        ).set_train()
        optimizer = nn.Momentum(net.trainable_params(), 0.1, 0.9)
        loss_fn = nn.CrossEntropyLoss()

        def forward(x: Any) -> Any:
            scaled = -x.reshape((2, 2, 6)).reshape((4, 6)) * 0.5 + x[0] / 3
            return loss_fn(net(scaled.swapaxes(0, 1).swapaxes(0, 1)), y)

        derived = paramesh.value_and_grad(forward, None, optimizer.parameters)
        found: list[float] = []
        traced = 0
        for step in range(3):
            loss, grads = derived(X)
            optimizer(grads)
            found.append(float(loss.asnumpy()))
            traced = traced if step else all_traces()
        assert all_traces() == traced
        return found

    found = losses()
    context.set_context(mode=context.GRAPH_MODE)
    np.testing.assert_allclose(found, losses(), rtol=1e-5)
