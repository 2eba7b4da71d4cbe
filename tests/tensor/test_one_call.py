"""A function of arrays as one compiled call, outside of programs and on the way back."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import weakref
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.dtype import watch_64bit
from paramesh.state import tracing
from paramesh.tensor import one_call
from paramesh.tensor.one_call import REFUSALS, OneCall

X = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3)


def several(x: Any, y: Any) -> Any:
    return x * jnp.tanh(x * y), [jnp.argmax(x), y]


def test_a_call_is_traced_once_for_its_shapes() -> None:
    call = OneCall(several, "several")
    outs = [call((X, X + i)) for i in range(3)]
    assert call.traces == 1
    call((X[0], X[0]))
    assert call.traces == 2
    first, (largest, given) = outs[2]
    np.testing.assert_allclose(first, X * jnp.tanh(X * (X + 2)), rtol=1e-6)
    assert int(largest) == 5
    assert largest.dtype == jnp.int32
    assert np.array_equal(given, X + 2)


def test_a_gradient_is_traced_once_for_what_moves() -> None:
    call = OneCall(several, "several")

    def loss(x: Any, y: Any) -> Any:
        out, (largest, given) = call((x, y))
        assert one_call.possible()
        assert not isinstance(largest, jax.core.Tracer)  # integers have no derivative
        return (out * given).sum()

    def plain(x: Any, y: Any) -> Any:
        return (several(x, y)[0] * y).sum()

    for moves in (0, 1, (0, 1)):
        before = call.traces
        found = [jax.grad(loss, moves)(X, X + 1) for _ in range(3)][-1]
        assert call.traces == before + 1
        expected = jax.grad(plain, moves)(X, X + 1)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_where_nothing_moves_there_is_no_way_back() -> None:
    call = OneCall(several, "several")

    def loss(x: Any) -> Any:
        known, _ = call((X, X))
        assert not isinstance(known, jax.core.Tracer)
        return (x * known).sum()

    np.testing.assert_allclose(jax.grad(loss)(X), several(X, X)[0], rtol=1e-6)


@pytest.mark.parametrize("outer", [jax.jit, lambda f: jax.jvp(f, (X,), (X,)), jax.vmap])
def test_it_is_possible_only_where_things_are_computed_now(outer: Any) -> None:
    seen: list[bool] = []

    def f(x: Any) -> Any:
        seen.append(one_call.possible())
        return x

    done = outer(f)
    if callable(done):
        done(X)
    f(X)
    jax.grad(lambda x: f(x).sum())(X)
    assert seen == [False, True, True]


def test_it_is_not_possible_over_several_devices() -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel")
    assert not one_call.possible()


def test_it_is_not_possible_where_jax_compiles_nothing() -> None:
    with jax.disable_jit():
        assert not one_call.possible()
    assert one_call.possible()


def test_inputs_and_outputs_are_not_kept_twice() -> None:
    call = OneCall(lambda x, y: jnp.exp(x) * y, "scaled")
    _, kept = call.forward((True, True), (X, X))
    assert len(kept.arrays) == 1  # exp(x); the factor y is an input
    _, kept = OneCall(jnp.exp, "exp").forward((True,), (X,))
    assert not kept.arrays


def test_nothing_is_held_once_a_gradient_is_there() -> None:
    call = OneCall(several, "several")
    x = X + 1
    alive = weakref.ref(x)
    jax.grad(lambda x: call((x, X))[0].sum())(x)
    del x
    gc.collect()
    assert alive() is None


def reading() -> Any:
    parameter = Parameter(np.ones(3, np.float32), name="p")
    return lambda x: x * parameter.value()._get()


def writing() -> Any:
    parameter = Parameter(np.ones((2, 3), np.float32), name="p")

    def f(x: Any) -> Any:
        parameter.assign(x)
        return x

    return f


@pytest.mark.parametrize(
    "make",
    [
        reading,
        writing,
        lambda: lambda x: x if float(x.sum()) else -x,
        lambda: lambda x: x + jax.random.normal(paramesh.random.next_key()),
        lambda: lambda x: x.shape,
        lambda: lambda x: (x, None),
        lambda: lambda x: (x, 3.0),
        lambda: lambda x: paramesh.Tensor(x).astype(paramesh.int64)._get(),
    ],
    ids=["reads", "writes", "values", "random", "no array", "None", "number", "64-bit"],
)
def test_what_cannot_be_compiled_is_refused(make: Any) -> None:
    fn = make()
    frame = tracing.current()
    with pytest.raises(REFUSALS):
        OneCall(fn, "refused")((X,))
    assert tracing.current() is frame


def test_an_exception_from_outside_leaves_nothing_behind() -> None:
    class Outside(BaseException):
        pass

    def fn(x: Any) -> Any:
        raise Outside

    with pytest.raises(Outside):
        OneCall(fn, "stopped")((X,))
    assert tracing.current() is None
    one_call.refuse_values()  # does nothing: no function is traced


def test_64_bit_data_is_noticed_in_every_call() -> None:
    call = OneCall(lambda x: paramesh.Tensor(x).astype(paramesh.int64)._get(), "wide")
    for _ in range(2):
        with jax.enable_x64(True), watch_64bit() as marks:
            assert call((X,)).dtype == np.int64
            assert marks.met_64bit
    assert call.traces == 1


def test_another_jax_differentiates_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paramesh._compat.jax._HAS_RULES", False)
    context.set_context(mode=context.PYNATIVE_MODE)
    seen: list[bool] = []

    def loss(x: Any) -> Any:
        seen.append(one_call.possible())
        return paramesh.ops.tanh(x * 2.0).sum()

    found = paramesh.grad(loss)(paramesh.Tensor(X))
    assert seen == [False]
    expected = jax.grad(lambda x: jnp.tanh(x * 2.0).sum())(X)
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5)


def test_threads_that_call_at_once_get_their_own_results() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    layer = nn.LayerNorm((3,))
    weights = layer.trainable_params()
    values = [np.linspace(-1, 1, 3 * rows, dtype=np.float32).reshape(rows, 3) for rows in (1, 2)]
    gradients = paramesh.value_and_grad(
        lambda x: (layer(ops.gelu(x)) * x.hardshrink()).sum(), 0, weights
    )

    def compute(value: Any) -> list[Any]:
        loss, (grad, others) = gradients(Tensor(value))
        return [loss.asnumpy(), grad.asnumpy(), *(other.asnumpy() for other in others)]

    start = threading.Barrier(6)

    def in_thread(turn: int) -> list[Any]:
        start.wait()  # all trace and compile at once
        return compute(values[turn % 2])

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(in_thread, range(6)))
    for turn, parts in enumerate(found):
        for part, expected in zip(parts, compute(values[turn % 2]), strict=True):
            np.testing.assert_array_equal(part, expected)
