"""An optimizer whose constructor did not come to its end is in nobody's way."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from interruptions import At, Interrupted, places
from paramesh import nn
from paramesh.parameter import waiting

X = np.ones((2, 4), np.float32)


def training(optimizer: type[Any] = nn.Adam) -> nn.TrainOneStepCell:
    net = nn.Dense(4, 4)
    loss = nn.WithLossCell(net, nn.MSELoss())
    return nn.TrainOneStepCell(loss, optimizer(net.trainable_params(), 1e-2)).set_train()


class Unlucky(nn.Adam):
    """Fails after Adam's own constructor has begun, and before its state is there."""

    def clone_parameters(self, prefix: str, init: Any = "zeros") -> Any:
        raise ZeroDivisionError


def test_one_that_has_failed_and_is_kept() -> None:
    """As a notebook keeps the traceback of the last error."""
    with pytest.raises(ZeroDivisionError) as kept:
        training(Unlucky)
    assert any(isinstance(one, Unlucky) for one in waiting)
    assert np.isfinite(training()(X, X).asnumpy())
    del kept


def test_one_that_was_interrupted_anywhere() -> None:
    net = nn.Dense(4, 4)
    kept: list[BaseException] = []

    def make() -> nn.Adam:
        return nn.Adam(net.trainable_params(), 1e-2)

    files = ("/paramesh/optim/",)
    for place in range(0, places(make, files), 7):
        try:
            At(place, files).call(make)
        except Interrupted as error:
            kept.append(error)
    assert len(kept) > 10
    assert np.isfinite(training()(X, X).asnumpy())


def test_one_that_another_thread_is_making() -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(nn.Adam):
        def clone_parameters(self, prefix: str, init: Any = "zeros") -> Any:
            inside.set()
            go_on.wait(60)
            return super().clone_parameters(prefix, init)

    made: list[nn.TrainOneStepCell] = []
    thread = threading.Thread(target=lambda: made.append(training(Slow)))
    thread.start()
    try:
        assert inside.wait(60)
        training()(X, X)
    finally:
        go_on.set()
        thread.join(60)
    assert np.isfinite(made[0](X, X).asnumpy())
    assert made[0].optimizer not in waiting, "it was asked for its pools once it was made"


def test_two_threads_make_optimizers_while_a_third_compiles() -> None:
    going, errors = True, []

    def make() -> None:
        net = nn.Dense(4, 4)
        try:
            while going:
                nn.Momentum(net.trainable_params(), 0.1, 0.9)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            training(nn.SGD)(X, X)
    finally:
        going = False
        for thread in threads:
            thread.join(60)
    assert errors == []
