"""`reshard`: the layout of a Tensor in the middle of a program."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.errors import LayoutError
from paramesh.parallel import Layout

AXES = Layout((4, 2), ("dp", "mp"))
X = np.arange(128, dtype=np.float32).reshape(8, 16)


class Net(nn.Cell):
    def construct(self, x: Any, layout: Any) -> Any:
        return ops.reshard(x * 2, layout)


@pytest.mark.parametrize("search", [None, "sharding_propagation", "recursive_programming"])
def test_a_program_moves_a_tensor(search: str | None) -> None:
    mode = "semi_auto_parallel" if search is None else "auto_parallel"
    context.set_auto_parallel_context(
        parallel_mode=mode, search_mode=search or "recursive_programming", device_num=8
    )
    net = Net()
    for layout, shape in (
        (AXES("dp", "None"), (2, 16)),
        (AXES("None", ("dp", "mp")), (8, 2)),
        ((2, 4), (4, 4)),
    ):
        out = net(Tensor(X), layout)
        assert jnp.asarray(out).addressable_data(0).shape == shape
        np.testing.assert_array_equal(out.asnumpy(), 2 * X)
    layout = AXES("None", "dp")
    gradient = paramesh.jit(paramesh.grad(lambda x: (ops.reshard(x, layout) ** 2).sum()))
    np.testing.assert_array_equal(gradient(Tensor(X)).asnumpy(), 2 * X)


def test_elsewhere_nothing_happens() -> None:
    assert paramesh.reshard is ops.reshard
    np.testing.assert_array_equal(ops.reshard(Tensor(X), AXES("dp", "mp")).asnumpy(), X)
    np.testing.assert_array_equal(Net()(Tensor(X), AXES("dp", "mp")).asnumpy(), 2 * X)


@pytest.mark.parametrize(
    ("args", "error", "says"),
    [
        ((X, (2, 4)), TypeError, "tensor must be a Tensor, got ndarray"),
        ((Tensor(X), 8), TypeError, "layout must be a Layout or a tuple of ints, got int"),
        ((Tensor(X), (3, 1)), LayoutError, "axis 0 has size 8, which strategy .3, 1. cannot split"),
        ((Tensor(X), AXES("dp")), LayoutError, r"is for arrays of 1 axes.* \(8, 16\)"),
    ],
)
def test_mistakes(args: Any, error: type[Exception], says: str) -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    with pytest.raises(error, match=says):
        paramesh.jit(lambda: ops.reshard(*args))()
