"""Max pooling by comparing the elements of a window is XLA's own operator to the last bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paramesh import Tensor, ops
from paramesh.ops import pooling
from paramesh.tensor.base import raw

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2 x 2": ((2, 3, 8, 6), {"kernel_size": 2, "strides": 2}),
    "rows left over": ((2, 3, 9, 7), {"kernel_size": 2, "strides": 2}),
    "oblong": ((2, 2, 6, 8), {"kernel_size": (3, 2), "strides": (3, 2)}),
    "channels last": ((2, 6, 8, 3), {"kernel_size": 2, "strides": 2, "data_format": "NHWC"}),
    "sequences": ((2, 3, 9), {"kernel_size": 3, "strides": 3}),
    "one element": ((1, 1, 3, 3), {"kernel_size": 1, "strides": 1}),
    "nothing left": ((2, 3, 2, 1), {"kernel_size": 2, "strides": 2}),
}


def of_xla(x: Any, settings: dict[str, Any]) -> Any:
    """The same by `reduce_window`, whose gradient goes to the first of the largest."""
    last = settings.get("data_format") == "NHWC"
    n = x.ndim - 2
    pair = lambda v: (v,) * n if isinstance(v, int) else v  # noqa: E731
    kernel = pair(settings["kernel_size"])
    window = (1, *kernel, 1) if last else (1, 1, *kernel)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere it is XLA's operator")
@pytest.mark.parametrize("values", ["different", "ties", "nan"])
@pytest.mark.parametrize("name", CASES)
def test_windows_that_stand_side_by_side(name: str, values: str) -> None:
    shape, settings = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    if values == "ties":
        x = np.maximum(np.round(x), 0)
    if values == "nan":
        x[rng.random(shape) < 0.2] = np.nan
    weight = rng.normal(size=of_xla(x, settings).shape).astype(np.float32)

    def loss(pool: Any, x: Any) -> Any:
        return (jnp.nan_to_num(pool(x)) * weight).sum()

    ours = lambda v: raw(ops.max_pool(v, **settings))  # noqa: E731
    theirs = lambda v: of_xla(v, settings)  # noqa: E731
    np.testing.assert_array_equal(ours(x), theirs(x))
    if values != "nan":
        found, expected = (jax.grad(lambda v, p=p: loss(p, v))(x) for p in (ours, theirs))
        np.testing.assert_array_equal(found, expected)
    assert ("reduce_window" in str(jax.make_jaxpr(ours)(x))) == (name == "nothing left")


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 2, "padding": 1},
        {"kernel_size": 2, "dilation": 2},
        {"kernel_size": 5},
    ],
    ids=["overlapping", "padded", "dilated", "large"],
)
def test_other_windows_are_xlas(settings: dict[str, Any]) -> None:
    x = np.ones((1, 1, 10, 10), np.float32)
    program = jax.make_jaxpr(lambda v: raw(ops.max_pool2d(v, **settings)))(x)
    assert "reduce_window" in str(program)
    assert pooling._FEW < 25


def test_integers() -> None:
    x = np.arange(16, dtype=np.int32).reshape(1, 1, 4, 4)
    assert raw(ops.max_pool(x, 2, 2)).tolist() == [[[[5, 7], [13, 15]]]]


def test_the_class_of_three_axes_counts_windows_that_leave_the_volume() -> None:
    x = Tensor(np.arange(250, dtype=np.float32).reshape(1, 2, 5, 5, 5))
    found = ops.MaxPool3D(4, 2, "PAD", 2, ceil_mode=True)(x)
    assert found.shape == (1, 2, 4, 4, 4)
    np.testing.assert_array_equal(found, ops.max_pool3d(x, 4, 2, 2, ceil_mode=True))
    assert found.asnumpy().max() == 249
    with pytest.raises(ValueError, match="ceil_mode=True needs pad_mode='pad', got 'VALID'"):
        ops.MaxPool3D(2, 2, ceil_mode=True)
