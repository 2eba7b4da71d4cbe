"""`Model.infer_predict_layout` and `infer_train_layout`: layouts without a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Model, Tensor, context, nn
from paramesh.checkpoint.ranks.strategy import layouts_in
from paramesh.errors import ContextError

X, Y = np.ones((16, 8), np.float32), np.ones((16, 4), np.float32)
WEIGHT = ([2, 4], [0, -1], [1, 8], 0, True, "")


def model() -> Model:
    net = nn.Dense(8, 4)
    net.matmul.shard(((2, 1), (4, 1)))
    return Model(net, nn.MSELoss(), nn.Momentum(net.trainable_params(), 0.1, 0.9))


def test_of_predictions() -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    made = model()
    found = made.infer_predict_layout(Tensor(X))
    assert found == {"weight": WEIGHT, "bias": ([8], [-1], [4], 0, True, "")}
    assert found == made.predict_network.parameter_layout_dict
    # The form in which `load_distributed_checkpoint` takes it, as `predict_strategy`.
    weight = layouts_in(found)["weight"]
    assert weight is not None
    assert weight.parts == (4, 1)


def test_of_training() -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    made = model()
    before = {p.name: p.asnumpy().copy() for p in made.train_network.get_parameters()}
    found = made.infer_train_layout([(X, Y)], dataset_sink_mode=False)
    assert found["weight"] == found["moments.weight"] == WEIGHT
    for param in made.train_network.get_parameters():
        np.testing.assert_array_equal(param.asnumpy(), before[param.name])


@pytest.mark.parametrize("infer", ["infer_predict_layout", "infer_train_layout"])
def test_where_programs_decide_nothing(infer: str) -> None:
    data: Any = Tensor(X) if infer == "infer_predict_layout" else [(X, Y)]
    with pytest.raises(ContextError, match="'semi_auto_parallel' or 'auto_parallel', .*'stand_al"):
        getattr(model(), infer)(data)
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    with pytest.raises(ContextError, match="GRAPH_MODE"):
        getattr(model(), infer)(data)
