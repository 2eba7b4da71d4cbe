"""Ways to scatter into a Parameter, or into a copy of a Tensor."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
import paramesh.ops as ops
from paramesh.errors import ParameterDtypeError
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from type_checks import wrong

FORMULAS = {
    "sub": np.subtract,
    "mul": np.multiply,
    "div": lambda a, b: np.trunc(a / b) if isinstance(a, np.integer) else a / b,
    "max": np.maximum,
    "min": np.minimum,
}


def one_by_one(start: np.ndarray, places: list[tuple[int, ...]], values: np.ndarray, how: str):
    out = start.copy()
    for place, value in zip(places, values, strict=True):
        for at in np.ndindex(value.shape):
            out[place + at] = FORMULAS[how](out[place + at], value[at])
    return out


@pytest.mark.parametrize("how", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_into_a_parameter(how: str, dtype: type) -> None:
    start = np.array([[10, 20, -30], [40, -50, 60], [7, 8, 9]], dtype)
    rows = np.array([[2, 3, 4], [5, -6, 7]], dtype)
    for fn in (getattr(ops, f"scatter_{how}"), getattr(ops, f"Scatter{how.capitalize()}")()):
        param = Parameter(Tensor(start), name="w")
        fn(param, Tensor(np.array([1, 1], np.int32)), Tensor(rows))  # both count
        np.testing.assert_allclose(param.asnumpy(), one_by_one(start, [(1,), (1,)], rows, how))
        assert param.asnumpy().dtype == dtype
    places = np.array([[0, 2], [2, 1], [9, 9]], np.int32)  # the last is outside
    for fn in (getattr(ops, f"scatter_nd_{how}"), getattr(ops, f"ScatterNd{how.capitalize()}")()):
        param = Parameter(Tensor(start), name="w")
        result = fn(param, Tensor(places), Tensor(np.array([4, -3, 1], dtype)))
        expected = one_by_one(start, [(0, 2), (2, 1)], np.array([4, -3], dtype), how)
        np.testing.assert_allclose(param.asnumpy(), expected)
        np.testing.assert_allclose(result.asnumpy(), expected)


def test_slices_added_along_an_axis() -> None:
    for form in (ops.inplace_index_add, None):
        param = Parameter(Tensor(np.zeros((2, 3), np.float32)), name="w")
        at, values = Tensor(np.array([2, 0, 2])), Tensor(np.ones((2, 3), np.float32))
        if form is None:
            ops.InplaceIndexAdd(1)(param, at, values)
        else:
            form(param, at, values, -1)
        assert param.asnumpy().tolist() == [[1, 0, 2]] * 2


def test_what_is_refused() -> None:
    at, values = Tensor([[0]]), Tensor([1.5])
    with pytest.raises(TypeError, match="scatter_nd_mul: input_x must be a Parameter"):
        wrong(ops.scatter_nd_mul)(Tensor([1.0]), at, values)
    param = Parameter(Tensor(np.ones(2, np.int32)), name="w")
    with pytest.raises(ParameterDtypeError, match="'w'"):
        ops.scatter_nd_sub(param, at, values)


def test_copies() -> None:
    x = Tensor(np.array([1, 2, 4], np.float32))
    places, values = Tensor([[1], [1]]), Tensor(np.array([2, 4], np.float32))
    for form in (ops.tensor_scatter_mul, ops.TensorScatterMul()):
        assert form(x, places, values).asnumpy().tolist() == [1, 16, 4]
    for form in (ops.tensor_scatter_div, ops.TensorScatterDiv()):
        assert form(x, places, values).asnumpy().tolist() == [1, 0.25, 4]
    assert x.asnumpy().tolist() == [1, 2, 4]


HOW = ["update", "add", "sub", "mul", "div", "max", "min"]


@pytest.mark.parametrize("how", HOW)
def test_copies_take_the_positions_that_mindspore_takes(how: str) -> None:
    """MindSpore 2.10 raises TypeError for the types and RuntimeError for the places."""
    x = Tensor(np.array([[1, 2, 4], [3, 5, 7]], np.float32))
    updates = Tensor(np.array([2], np.float32))
    scatter = getattr(ops, f"tensor_scatter_{how}")
    for dtype in (np.int8, np.int16, np.uint8, np.uint32, np.float32):
        with pytest.raises(TypeError, match="indices must be Int32 or Int64"):
            scatter(x, Tensor(np.array([[0, 1]], dtype)), updates)
    for place in ([[1, 3]], [[2, 0]], [[0, -4]]):
        with pytest.raises(RuntimeError, match=r"outside of the axes \(2, 3\)") as caught:
            scatter(x, Tensor(np.array(place, np.int32)), updates)
        assert str(place[0]) in str(caught.value)
    # A compiled program cannot say so: it leaves them out.
    out = paramesh.jit(scatter)(x, Tensor(np.array([[1, 3]], np.int32)), updates)
    np.testing.assert_array_equal(out.asnumpy(), x.asnumpy())


@pytest.mark.parametrize("how", ["mul", "div"])
def test_gradients_of_copies(how: str) -> None:
    """Of elements that two updates change, of one that is 0, and of positions of two numbers."""
    x = np.array([[1, 2, 4], [3, 5, 0]], np.float32)
    places = np.array([[0, 1], [1, 0], [0, 1], [7, 0], [-1, -1]], np.int32)
    updates = np.array([2, 4, 0.5, 3, 8], np.float32)

    def by_hand(x: Any, u: Any) -> Any:
        factors = jnp.array([[1, u[0] * u[2], 1], [u[1], 1, u[4]]])
        return x * factors if how == "mul" else x / factors

    scatter = getattr(ops, f"tensor_scatter_{how}")
    weights = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    # Compiled, as (7, 0) is refused where the positions are known.
    out = paramesh.jit(scatter)(Tensor(x), Tensor(places), Tensor(updates))
    np.testing.assert_allclose(out.asnumpy(), by_hand(x, updates))
    gradients = paramesh.grad(lambda x, u, at: (scatter(x, at, u) * Tensor(weights)).sum(), (0, 1))
    found = paramesh.jit(gradients)(Tensor(x), Tensor(updates), Tensor(places))
    wanted = jax.grad(lambda x, u: (by_hand(x, u) * weights).sum(), (0, 1))(x, updates)
    for mine, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine.asnumpy(), expected, 1e-6)
