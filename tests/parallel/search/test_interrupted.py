"""Ctrl-C while layouts are searched: nothing is half done, and the next step searches anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import context, nn
from paramesh.parallel.modes import auto
from paramesh.state import placement, trace_scope, tracing
from searched_networks import MLP

X = np.ones((16, 32), np.float32)
#: What a search calls one after another; Ctrl-C comes at the end of each.
MOMENTS = ("live", "find", "applied")


def step() -> nn.TrainOneStepCell:
    paramesh.set_seed(1)
    net = MLP()
    return nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params()))


def state(cell: nn.Cell) -> tuple[Any, ...]:
    """Of this thread, the settings, and the Parameters."""
    thread = tracing.thread.frame, tracing.thread.journal, trace_scope.thread.scope
    declared = [(p.name, p.has_init, p.layout) for p in cell.get_parameters()]
    return (*thread, context.program_key(), placement.current().key, declared)


def test_a_search_that_is_interrupted_leaves_everything_as_it_was() -> None:
    expected = float(step()(X, X))
    context.set_auto_parallel_context(parallel_mode="auto_parallel", device_num=8)
    cell = step()
    before = state(cell)
    for moment in MOMENTS:
        whole = getattr(auto, moment)

        def interrupted(*args: Any, then: Any = whole, **given: Any) -> None:
            then(*args, **given)
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(auto, moment, interrupted)
            with pytest.raises(KeyboardInterrupt) as raised:
                cell(X, X)
        assert raised.value.__context__ is None
        assert state(cell) == before
    assert np.isclose(float(cell(X, X)), expected)
