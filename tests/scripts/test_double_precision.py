"""Programs evaluated in Float64, for comparisons that ask which of two roundings is nearer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops
from scripts.double_precision import doubled


def test_a_function_without_rounding() -> None:
    x = np.linspace(-1, 1, 7, dtype=np.float32)
    kept = jnp.asarray(x) / 3

    def fn(w: Any) -> Any:
        return {"sum": jnp.sum(jnp.tanh(w * kept)), "third": w[jnp.array([0, 0])] / 3}

    out = doubled(fn, x)(x)
    exact = np.asarray(kept, np.float64)
    assert out["sum"].dtype == np.float64
    np.testing.assert_allclose(out["sum"], np.tanh(x.astype(np.float64) * exact).sum(), atol=1e-15)
    assert np.array_equal(out["third"], np.full(2, -1 / 3))
    rounded = doubled(fn, x, rounded=True)(x)
    assert np.array_equal(rounded["third"], np.full(2, np.float64(np.float32(-1) / np.float32(3))))
    assert 0 < abs(rounded["sum"] - out["sum"]) < 1e-6
    slope = doubled(jax.grad(lambda w: fn(w)["third"].sum()), x)(x)
    np.testing.assert_allclose(slope, [2 / 3, *[0] * 6], rtol=1e-15)


def test_a_training_step_of_a_network() -> None:
    paramesh.set_seed(1)
    net = nn.SequentialCell(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2, 2), nn.Flatten(),
        nn.Dense(64, 5),
    )  # fmt: skip
    net.set_train(True)
    x = Tensor(np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32))
    y = Tensor(np.array([1, 2], np.int32))

    def step(values: Any) -> Any:
        def loss(values: Any) -> Any:
            out, written = paramesh.functional_call(net, values, x, mutable=True)
            kept = {name: jnp.asarray(value) for name, value in written.items()}
            return jnp.asarray(ops.cross_entropy(out, y)), kept

        return jax.value_and_grad(loss, has_aux=True)(values)

    values = {p.name: p.asnumpy() for p in net.get_parameters()}
    single, double = jax.jit(step)(values), doubled(step, values)(values)
    for ours, exact in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        assert exact.dtype == np.float64
        np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)
    assert float(single[0][0]) != float(double[0][0])


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(NotImplementedError, match="while in Float64"):
        doubled(lambda x: jax.lax.fori_loop(0, x[0].astype(int), lambda _, y: y, 1), jnp.ones(1))(
            jnp.ones(1)
        )
