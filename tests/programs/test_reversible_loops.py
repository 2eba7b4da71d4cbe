"""Gradients through loops whose number of turns is not known: those of the same turns in python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor

X = np.array([0.3, 1.2], np.float32)


class Turns:
    """A loop that reads one Parameter and writes another one."""

    def __init__(self) -> None:
        self.w = Parameter(Tensor(np.float32(1.1)), name="w")
        self.seen = Parameter(Tensor(np.float32(0)), name="seen", requires_grad=False)

    def turn(self, y: Tensor, x: Tensor) -> Tensor:
        self.seen.assign(self.seen + y.sum())
        return (y * self.w).sin() + x * 0.1 + self.seen * 0.01

    def unknown(self, x: Tensor, n: Tensor) -> Tensor:
        def turn(v: Any) -> Any:
            return self.turn(v[0], x), v[1] + 1, v[2]

        y, _, _ = paramesh.while_loop(lambda v: v[1] < n, turn, (x, n * 0, n > 0))
        return y.sum()

    def bounds(self, x: Tensor, n: Tensor) -> Tensor:
        return paramesh.fori_loop(0, n, lambda i, y: self.turn(y, x), x).sum()


def wanted(n: int) -> tuple[Any, Any, Any, float]:
    """(loss, by x, by w, what is written) of n turns, whose number is known, by JAX alone."""

    def loss(x: jax.Array, w: float) -> Any:
        def turn(_: int, state: Any) -> Any:
            y, seen = state
            seen = seen + y.sum()
            return jnp.sin(y * w) + x * 0.1 + seen * 0.01, seen

        y, seen = jax.lax.fori_loop(0, n, turn, (x, 0.0))
        return y.sum(), seen

    (value, seen), (by_x, by_w) = jax.value_and_grad(loss, (0, 1), has_aux=True)(X, 1.1)
    return value, by_x, by_w, float(seen)


@pytest.mark.parametrize("kind", ["unknown", pytest.param("bounds", marks=pytest.mark.slow)])
def test_by_inputs_and_parameters(kind: str) -> None:
    turns = Turns()
    # 40 is more than what is kept at once
    run = paramesh.jit(lambda x, n: paramesh.value_and_grad(getattr(turns, kind), 0, turns.w)(x, n))
    for n in (0, 3, 40):
        turns.seen.set_data(Tensor(np.float32(0)))
        loss, (by_x, by_w) = run(Tensor(X), Tensor(n))
        expected = wanted(n)
        got = (loss.asnumpy(), by_x.asnumpy(), by_w.asnumpy(), float(turns.seen))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_more_turns_than_two_levels_keep() -> None:
    """The gradient of x -> x * 0.999 ** n + n, which is 0.999 ** n."""

    def loss(x: Tensor, n: Tensor) -> Tensor:
        out, _ = paramesh.while_loop(
            lambda v: v[1] < n, lambda v: (v[0] * 0.999 + 1, v[1] + 1), (x, n * 0)
        )
        return out

    gradient = paramesh.jit(paramesh.grad(loss))
    for n in (1024, 1025, 3000):
        got = gradient(Tensor(np.float32(1)), Tensor(n))
        assert float(got) == pytest.approx(0.999**n, rel=1e-3)


def _cube(x: Tensor) -> Tensor:
    n = Tensor(3)
    return paramesh.while_loop(
        lambda v: v[1] < n, lambda v: (v[0] * x, v[1] + 1), (x * 0 + 1, n * 0)
    )[0].sum()


DERIVATIVES: dict[str, tuple[Callable[..., Any], Any]] = {
    "reverse": (paramesh.grad(_cube), 3 * X**2),
    "forward": (paramesh.jacfwd(_cube), 3 * X**2),
    "rows": (paramesh.jacrev(_cube), 3 * X**2),
    "forward over reverse": (paramesh.hessian(_cube), np.diag(6 * X)),
    "in a scan": (
        paramesh.grad(
            lambda x: paramesh.scan(
                lambda c, r: (c + _cube(r * x), None), 0.0, Tensor(np.ones((2, 2), np.float32))
            )[0]
        ),
        6 * X**2,
    ),
    "mapped": (
        lambda x: paramesh.vmap(paramesh.grad(_cube))(x.reshape(2, 1)).reshape(-1),
        3 * X**2,
    ),
}


_FAST = ("reverse", "mapped")


@pytest.mark.parametrize(
    "mode", [paramesh.GRAPH_MODE, pytest.param(paramesh.PYNATIVE_MODE, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "name", [n if n in _FAST else pytest.param(n, marks=pytest.mark.slow) for n in DERIVATIVES]
)
def test_orders_and_modes(name: str, mode: int) -> None:
    paramesh.set_context(mode=mode)
    derive, expected = DERIVATIVES[name]
    np.testing.assert_allclose(derive(Tensor(X)).asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_vjp_whose_way_back_is_called_later() -> None:
    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    out, back = paramesh.vjp(_cube, Tensor(X))
    assert float(out) == pytest.approx(float((X**3).sum()), rel=1e-6)
    (by_x,) = back(Tensor(np.float32(2)))
    np.testing.assert_allclose(by_x.asnumpy(), 6 * X**2, rtol=1e-6)


def test_without_a_derivative_it_is_jaxs_loop() -> None:
    """JAX's own forward mode goes through, which a gradient of one's own refuses."""
    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    _, tangent = jax.jvp(
        lambda x: paramesh.jit(_cube)(Tensor(x))._get(), (X,), (np.ones(2, np.float32),)
    )
    np.testing.assert_allclose(tangent, (3 * X**2).sum(), rtol=1e-6)
