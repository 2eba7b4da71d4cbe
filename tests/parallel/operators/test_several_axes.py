"""Products whose operands are sharded over two or three axes of devices (`enable_nd_tp`)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, ops
from paramesh.errors import LayoutError
from paramesh.parallel import Layout

DRAW = np.random.default_rng(0)
X, W = (DRAW.normal(size=size).astype(np.float32) for size in ((4, 16, 8), (4, 8, 16)))
TWO, THREE = Layout((2, 4), ("x", "y")), Layout((2, 2, 2), ("z", "x", "y"))
#: Operator, operands, strategy, and the shape of a shard of the weight.
CASES: dict[str, Any] = {
    "two": (ops.MatMul(), X[0], W[0], (TWO("None", ("x", "y")), TWO("x", "y")), (4, 4)),
    "turned": (
        ops.MatMul(transpose_b=True),
        X[0],
        W[0].T.copy(),
        (TWO("None", ("x", "y")), TWO("y", "x")),
        (4, 4),
    ),
    "three": (
        ops.BatchMatMul(),
        X,
        W,
        (THREE("None", ("z", "x"), "y"), THREE("None", ("y", "z"), "x")),
        (4, 2, 8),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_one_device(name: str) -> None:
    product, x, w, strategy, shard = CASES[name]
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    weight = Parameter(Tensor(w), name="weight")
    product.shard(strategy).add_prim_attr("enable_nd_tp", True)

    def loss(x: Any) -> Any:
        return (product(x, weight) ** 2).sum()

    program = paramesh.jit(lambda x: (product(x, weight), paramesh.grad(loss, None, weight)(x)))
    out, gradient = program(Tensor(x))
    right = w.T if name == "turned" else w
    expected = x @ right
    np.testing.assert_allclose(out.asnumpy(), expected, 1e-4, 1e-4)
    by_weight = 2 * np.swapaxes(x, -1, -2) @ expected
    wanted = by_weight.T if name == "turned" else by_weight
    np.testing.assert_allclose(gradient.asnumpy(), wanted, 1e-4, 1e-3)
    assert jnp.asarray(weight).addressable_data(0).shape == shard


def test_without_the_attribute_both_are_sharded_alike() -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    product = ops.MatMul().shard(CASES["two"][3])
    with pytest.raises(LayoutError, match="input 1 .*splits axis 0 into 2 shards.* into 8"):
        paramesh.jit(lambda x, w: product(x, w))(Tensor(X[0]), Tensor(W[0]))


@pytest.mark.parametrize("names", [("x", "z"), ("y", "x")])
def test_operands_name_the_same_axes_of_devices(names: tuple[str, ...]) -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    total = ops.Add().shard((THREE(("x", "y"), "z"), THREE(names, "None")))
    with pytest.raises(LayoutError, match=f"input 1: .* over {', '.join(names)}, but .* over x, y"):
        paramesh.jit(lambda x, y: total(x, y))(Tensor(X[0]), Tensor(X[0][:, :1]))
