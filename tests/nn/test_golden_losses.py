"""Every loss of the golden data: its value and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import goldens
from layer_cases import make, numbers
from paramesh import context, nn
from paramesh.tensor import Tensor
from paramesh.transforms import value_and_grad

RECORDS: dict[str, Any] = goldens.load("layers")["losses"]
ARRAYS = goldens.arrays("layers")
RUN = sorted(name for name, record in RECORDS.items() if "error" not in record)


def close(key: str, found: Tensor) -> None:
    wanted = ARRAYS[key]
    assert found.shape == wanted.shape
    assert found.asnumpy().dtype == wanted.dtype
    np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-5, atol=1e-5)


def check(name: str) -> None:
    loss = make(RECORDS[name]["expr"])
    prefix = f"loss_{name}"
    between = [Tensor(ARRAYS[f"{prefix}/b"])] if f"{prefix}/b" in ARRAYS else []
    target, cotangent = Tensor(ARRAYS[f"{prefix}/t"]), Tensor(ARRAYS[f"{prefix}/cot"])

    def scalar(x: Any) -> Any:
        out = loss(x, *between, target)
        return (out * cotangent).sum(), out

    (_, out), gradient = value_and_grad(scalar, 0, has_aux=True)(Tensor(ARRAYS[f"{prefix}/x"]))
    close(f"{prefix}/out", out)
    close(f"{prefix}/dx", gradient)


@pytest.mark.parametrize("name", RUN)
def test_loss(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", ["sce_sparse_mean", "bcelogits_posw"])
def test_loss_operator_by_operator(name: str) -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    check(name)


def test_what_did_not_run_there() -> None:
    # SoftMarginLoss has no kernel on CPU there; here it is tested below.
    failed = {name: RECORDS[name]["error"] for name in set(RECORDS) - set(RUN)}
    assert failed == {"softmargin": "RuntimeError", "mse_bad_reduction": "ValueError"}
    with pytest.raises(ValueError, match=r"MSELoss\(reduction\): expected one of .*got 'avg'"):
        make(RECORDS["mse_bad_reduction"]["expr"])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_soft_margin(reduction: str) -> None:
    x, t = numbers(4, 5) * 100, np.sign(numbers(4, 5, seed=1))
    wanted = np.logaddexp(0, -x.astype(np.float64) * t)
    wanted = wanted if reduction == "none" else getattr(wanted, reduction)()
    found = nn.SoftMarginLoss(reduction)(Tensor(x), Tensor(t))
    np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-5, atol=1e-30)


class Weighted(nn.LossBase):
    def construct(self, x: Any, weights: Any) -> Any:
        return self.get_loss(x, weights)


def test_own_losses_are_weighted_and_reduced() -> None:
    x, w = numbers(3, 4), numbers(3, 1, seed=1)
    for reduction, wanted in (("mean", (x * w).mean()), ("sum", (x * w).sum()), (None, x * w)):
        found = Weighted(reduction)(Tensor(x), Tensor(w))
        np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-5, atol=1e-6)


def test_half_precision_stays() -> None:
    x = Tensor(numbers(3, 4).astype(np.float16))
    assert str(Weighted("mean")(x, Tensor(np.array([[2.0]], np.float32))).dtype) == "Float16"
