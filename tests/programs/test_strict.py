"""JAX's strict settings hold inside paramesh: ranks that are not promoted, and no tracers kept."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import layer_cases
import optimizer_cases
import paramesh
from operator_cases import arrays, elementwise, networks, reductions
from paramesh import Tensor, nn, ops
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.transforms.gradients import GradientFunction
from programs.networks import Affine, X

OPERATORS = [*elementwise.CASES, *reductions.CASES, *arrays.CASES, *networks.CASES]


def _tensors(value: Any) -> Any:
    if isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
        return tuple(map(_tensors, value))
    return Tensor(value) if isinstance(value, np.ndarray) else value


def _ranks_are_kept(run: Any) -> str | None:
    """What JAX refused, or None; shapes alone are computed."""

    def inside() -> Any:
        with tracing.overlay({}):
            return [
                leaf for leaf in jax.tree_util.tree_leaves(run()) if isinstance(leaf, jax.Array)
            ]

    try:
        with jax.numpy_rank_promotion("raise"):
            jax.eval_shape(inside)
    except Exception as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "name", ["Dense", "LayerNorm", "LSTM", "MultiheadAttention", "BatchNorm2d"]
)
def test_layers(name: str) -> None:
    case = next(case for case in layer_cases.CASES if case.layer == name)
    net = layer_cases.make(case.code).set_train()
    inputs = list(map(_tensors, case.inputs))
    assert _ranks_are_kept(lambda: net(*inputs)) is None


@pytest.mark.slow
def test_every_operator() -> None:
    failed = {}
    for case in OPERATORS:
        args = list(map(_tensors, case.args))
        kwargs = {k: _tensors(v) for k, v in case.kwargs.items()}
        if case.eager_only:
            continue
        error = _ranks_are_kept(
            lambda case=case, args=args, kwargs=kwargs: getattr(ops, case.op)(*args, **kwargs)
        )
        if error is not None:
            failed[case.id] = error
    assert not failed


@pytest.mark.slow
def test_every_layer_and_its_gradient() -> None:
    failed = {}
    for case in layer_cases.CASES:
        net = layer_cases.make(case.code).set_train()
        inputs = list(map(_tensors, case.inputs))
        floats = [i for i, x in enumerate(inputs) if x.dtype.kind == "float"]

        def total(*args: Any, net: Any = net) -> Any:
            leaves = jax.tree_util.tree_leaves(
                net(*args), is_leaf=lambda leaf: isinstance(leaf, Tensor)
            )
            return sum(leaf.astype("float32").sum() for leaf in leaves)

        def run(net: Any = net, inputs: Any = inputs, floats: Any = floats, fn: Any = total) -> Any:
            if not floats or layer_cases.make is None:
                return fn(*inputs)
            weights = net.trainable_params() or None
            return GradientFunction(fn, tuple(floats), weights)._run(*inputs)

        error = _ranks_are_kept(run)
        if error is not None:
            failed[case.code] = error
    assert not failed


@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "AdaFactor", "Lamb", "LARS", "FTRL"])
def test_optimizers(name: str) -> None:
    w = Parameter(Tensor(np.ones((3, 2), np.float32)), name="w")
    b = Parameter(Tensor(np.ones(2, np.float32)), name="b")
    optimizer = optimizer_cases.make(optimizer_cases.EVERY[name], [w, b])
    assert _ranks_are_kept(lambda: optimizer((w * 1.0, b * 1.0))) is None


def test_the_setting_is_about_what_a_user_calls() -> None:
    with (
        jax.numpy_rank_promotion("raise"),
        pytest.raises(ValueError, match="could not be broadcast"),
    ):
        paramesh.jit(lambda x: jnp.add(jnp.asarray(x), jnp.ones(3)))(Tensor(X))


def test_no_tracer_is_kept() -> None:
    net = Affine().set_train()
    optimizer = nn.Adam(net.trainable_params(), 0.1)
    gradients = paramesh.value_and_grad(
        lambda x: (nn.MSELoss()(net(x), x.sum()), net(x)), None, optimizer.parameters, has_aux=True
    )

    def body(i: Any, x: Any) -> Any:
        return paramesh.cond(x.sum() > 0, paramesh.remat(lambda x: x * net.b[0]), lambda x: x, x)

    @paramesh.jit
    def step(x: Any) -> Any:
        (loss, out), grads = gradients(x)
        optimizer(grads)
        x = paramesh.fori_loop(0, 2, body, x)
        x = paramesh.while_loop(lambda x: x.sum() < 0, lambda x: x + net.b[0], x)
        x, _ = paramesh.scan(lambda c, _: (body(0, c), c), x, length=2)
        return loss + out.sum(), paramesh.vmap(lambda row: row * net.b[0])(x)

    with jax.checking_leaks():
        step(Tensor(X))
        paramesh.jvp(lambda x: (x**2).sum(), Tensor(X), Tensor(X))
        paramesh.jacrev(lambda x: x.sum(0))(Tensor(X))
        nn.Dense(3, 2)(Tensor(X))
