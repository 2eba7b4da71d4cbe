"""Dropout: rates and scaling as recorded, other zeros at every run, the same under one seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import goldens
from layer_cases import make
from paramesh import context, nn
from paramesh.sampling.seed import set_seed
from paramesh.tensor import Tensor
from paramesh.transforms import grad

RECORDS: dict[str, Any] = {
    code: record
    for code, record in goldens.load("layers")["dropout"].items()
    if code.startswith("nn.")
}
ONES = Tensor(np.ones((40, 50, 10, 10), np.float32))


@pytest.mark.parametrize("code", sorted(RECORDS))
def test_recorded(code: str) -> None:
    record = RECORDS[code]
    net = make(code)
    assert not net.training
    assert (net(ONES).asnumpy() == 1).all() == record["eval_identity"]
    net.set_train()
    out = net(ONES).asnumpy()
    units = 2000 if "2d" in code else out.size
    rate = record["zero_fraction"]
    assert abs((out == 0).mean() - rate) < 6 * np.sqrt(rate * (1 - rate) * 2 / units)
    kept = np.unique(out[out != 0])
    np.testing.assert_allclose(kept, record["kept_value"], rtol=1e-6)
    net.set_train(False)
    assert (net(ONES).asnumpy() == 1).all()


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_every_run_draws_others_and_a_seed_repeats_them(mode: int) -> None:
    context.set_context(mode=mode)
    net = nn.Dropout(p=0.5).set_train()
    x = Tensor(np.ones((4, 6), np.float32))
    runs = []
    for _ in range(2):
        set_seed(5)
        runs.append([net(x).asnumpy() for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])


def test_full_channels() -> None:
    out = nn.Dropout2d(0.5).set_train()(ONES).asnumpy()
    flat = out.reshape(40, 50, -1)
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[..., :1], flat.shape))
    assert not nn.Dropout2d(1.0).set_train()(ONES).asnumpy().any()
    assert nn.Dropout2d(0.0).set_train()(ONES).asnumpy().all()


def test_gradient_has_the_zeros_of_the_output() -> None:
    net = nn.Dropout(p=0.5).set_train()
    x = Tensor(np.arange(1, 25, dtype=np.float32))
    set_seed(5)
    out = net(x).asnumpy()
    set_seed(5)
    slope = grad(lambda t: net(t).sum())(x).asnumpy()
    np.testing.assert_allclose(slope * np.arange(1, 25), out, rtol=1e-6)
