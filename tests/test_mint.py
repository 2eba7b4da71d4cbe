"""`mint`: torch's names and arguments, against numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, float64, mint, ops
from paramesh.mint import nn as mint_nn
from paramesh.mint.nn import functional
from type_checks import present, untyped, wrong

X = np.random.default_rng(0).uniform(-2, 2, (3, 4)).astype(np.float32)
Y = np.random.default_rng(1).uniform(0.5, 2, (3, 4)).astype(np.float32)
AT = np.array([[0, 2, 1, 0]])

#: What `functional` takes over from `ops` when it is imported is not known to type checkers.
by_name: Mapping[str, Any] = vars(functional)

#: (what mint gives, what numpy gives).
CASES: dict[str, tuple[Any, Any]] = {
    "sum": (lambda x: mint.sum(x, dim=1, keepdim=True), X.sum(1, keepdims=True)),
    "mean": (lambda x: mint.mean(x, (0, 1)), X.mean()),
    "std": (lambda x: mint.std(x, 1), X.std(1, ddof=1)),
    "var_mean": (lambda x: mint.var_mean(x, 0)[0], X.var(0, ddof=1)),
    "max": (lambda x: mint.max(x, 1)[1], X.argmax(1)),
    "max of two": (lambda x: mint.max(x, Tensor(Y)), np.maximum(X, Y)),
    "median": (lambda x: mint.median(x, 0)[0], np.median(X, 0)),
    "add": (lambda x: mint.add(x, Tensor(Y), alpha=2), X + 2 * Y),
    "div": (lambda x: mint.div(x, Tensor(Y), rounding_mode="floor"), np.floor(X / Y)),
    "clamp": (lambda x: mint.clamp(x, min=-1), np.clip(X, -1, None)),
    "topk": (lambda x: mint.topk(x, 2)[0], -np.sort(-X, 1)[:, :2]),
    "sort": (lambda x: mint.sort(x, dim=0, descending=True)[0], -np.sort(-X, 0)),
    "split": (lambda x: mint.split(x, [1, 3], dim=1)[1], X[:, 1:]),
    "gather": (lambda x: mint.gather(x, 0, Tensor(AT)), np.take_along_axis(X, AT, 0)),
    "permute": (lambda x: mint.permute(x, (1, 0)), X.T),
    "transpose": (lambda x: mint.transpose(x, 0, 1), X.T),
    "cat": (lambda x: mint.cat([x, Tensor(Y)], dim=1), np.concatenate([X, Y], 1)),
    "where": (lambda x: mint.where(x > 0, x, 0.0), np.where(X > 0, X, 0)),
    "norm": (lambda x: mint.norm(x, dim=1), np.linalg.norm(X, axis=1)),
    "cumsum": (lambda x: mint.cumsum(x, 1), X.cumsum(1)),
    "einsum": (lambda x: mint.einsum("ij,kj->ik", x, Tensor(Y)), X @ Y.T),
    "flatten": (lambda x: mint.flatten(x), X.reshape(-1)),
    "linspace": (lambda x: mint.linspace(0, 1, 5), np.linspace(0, 1, 5)),
    "full": (lambda x: mint.full((2,), 3), np.full(2, 3)),
    "scatter_add": (
        lambda x: mint.scatter_add(mint.zeros(3, 4), 0, Tensor(AT), Tensor(X[:1])),
        np.array([[X[0, 0], 0, 0, X[0, 3]], [0, 0, X[0, 2], 0], [0, X[0, 1], 0, 0]]),
    ),
    "pad": (lambda x: by_name["pad"](x, (1, 2), value=5.0), np.pad(X, ((0, 0), (1, 2)),
                                                                   constant_values=5)),
    "normalize": (lambda x: by_name["normalize"](x),
                  X / np.linalg.norm(X, axis=1, keepdims=True)),
    "leaky_relu": (lambda x: by_name["leaky_relu"](x), np.where(X > 0, X, 0.01 * X)),
    "avg_pool1d": (lambda x: functional.avg_pool1d(x[None], 2), X.reshape(1, 3, 2, 2).mean(-1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_numpy_gives(name: str) -> None:
    compute, wanted = CASES[name]
    found = compute(Tensor(X)).asnumpy()
    assert found.shape == np.shape(wanted)
    assert found.dtype.kind == np.asarray(wanted).dtype.kind
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_layers_have_torchs_names_and_numbers() -> None:
    norm = mint_nn.BatchNorm2d(3).set_train()
    x = np.random.default_rng(2).standard_normal((2, 3, 4, 4)).astype(np.float32)
    found = norm(Tensor(x)).asnumpy()
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(found.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(
        present(norm.running_mean).asnumpy(), 0.1 * mean, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(present(norm.running_var).asnumpy(), 0.9 + 0.1 * var, rtol=1e-5)
    assert norm.num_batches_tracked.asnumpy() == 1
    assert [p.name for p in mint_nn.Conv2d(1, 2, 3).get_parameters()] == ["weight", "bias"]
    assert mint_nn.Conv1d(2, 3, 3, padding="same")(Tensor(x[:, :2, 0])).shape == (2, 3, 4)
    with pytest.raises(TypeError, match="Threshold: value is missing"):
        wrong(mint_nn.Threshold)(1)


def test_mistakes_name_the_function() -> None:
    with pytest.raises(TypeError, match=r"mint.sum\(input, dim=None, keepdim=False.*unexpected"):
        untyped(mint.sum)(Tensor(X), axis=1)
    with pytest.raises(ValueError, match="rounding_mode must be None, 'floor' or 'trunc'"):
        mint.div(Tensor(X), 2, rounding_mode="up")


@pytest.mark.parametrize("of", [mint.float_power, ops.float_power])
def test_powers_of_singles_are_doubles(of: Any) -> None:
    found = of(Tensor(np.array([2, 3], np.float32)), 0.5)
    assert found.dtype == float64
    np.testing.assert_allclose(found.asnumpy(), np.sqrt(np.array([2.0, 3.0])), rtol=1e-15)
