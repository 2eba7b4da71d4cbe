"""A step with Parameters on servers is done or not begun, whatever exception comes where."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

import paramesh
from interruptions import At, Interrupted, places
from paramesh import Tensor, context, nn, ops

IDS = np.array([[1, 4], [4, 7]], np.int32)
Y = np.ones((2, 1), np.float32)
#: Of the places of a step, each so-many-th is tried.
STRIDE = 6


class Net(nn.Cell):
    """A table and a dense layer on the server, another one here."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingLookup(10, 4)
        self.served = nn.Dense(8, 4)
        self.here = nn.Dense(4, 1)

    def construct(self, ids: Any) -> Any:
        return self.here(self.served(ops.reshape(self.table(ids), (2, 8))))


def training() -> nn.TrainOneStepCell:
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True)
    paramesh.set_seed(3)
    net = Net()
    net.table.set_param_ps(init_in_server=True)
    net.served.set_param_ps()
    loss = nn.WithLossCell(net, nn.MSELoss())
    return nn.TrainOneStepCell(loss, nn.Adam(net.trainable_params(), 1e-2)).set_train()


def state(step: Any) -> dict[str, np.ndarray[Any, Any]]:
    net = step.network._backbone
    dense = {
        p.name: p.asnumpy() for p in (*net.served.get_parameters(), *net.here.get_parameters())
    }
    return dense | {"rows": net.table(Tensor(np.arange(10, dtype=np.int32))).asnumpy()}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


def test_any_exception() -> None:
    step = training()
    for _ in range(4):
        step(IDS, Y)
    count = places(lambda: step(IDS, Y), ("/paramesh/",))
    tried = [*range(0, count, STRIDE), count + 9]
    step = training()
    for _ in range(4):
        step(IDS, Y)
    course = [state(step)]
    for _ in tried:
        step(IDS, Y)
        course.append(state(step))
    step = training()
    for _ in range(4):
        step(IDS, Y)
    outcomes = {"before": 0, "after": 0}
    for i, place in enumerate(tried):
        at = At(place, ("/paramesh/",))
        with suppress(Interrupted):
            at.call(lambda: step(IDS, Y))
        now = state(step)
        if equal(now, course[i]):
            outcomes["before"] += 1
            step(IDS, Y)
            now = state(step)
        else:
            outcomes["after"] += 1
        assert equal(now, course[i + 1]), at.where
    assert min(outcomes.values()) > 0, outcomes
