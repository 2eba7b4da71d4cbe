"""The operators inside of layers: with strategies on them a layer gives the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.ops.table import Primitive
from paramesh.tensor.argument_types import Reduction

IMAGES = (8, 8, 8, 8)
ROWS = (8, 16)
ALONG = ((8, 1),)
#: layer -> (how it is made, {attribute: strategy}, shape of its input).
LAYERS: dict[str, tuple[Callable[[], Any], dict[str, Any], tuple[int, ...]]] = {
    "Dense": (
        lambda: nn.Dense(16, 8),
        {"matmul": ((4, 1), (2, 1)), "bias_add": ((4, 2), (2,))},
        ROWS,
    ),
    "Conv2d": (
        lambda: nn.Conv2d(8, 8, 3, has_bias=True),
        {"conv2d": ((2, 1, 1, 1), (4, 1, 1, 1)), "bias_add": ((2, 4, 1, 1), (4,))},
        IMAGES,
    ),
    "Conv2dTranspose": (
        lambda: nn.Conv2dTranspose(8, 4, 2, 2, has_bias=True),
        {"conv2d_transpose": ((2, 1, 1, 1), (1, 4, 1, 1)), "bias_add": ((2, 4, 1, 1), (4,))},
        IMAGES,
    ),
    "BatchNorm2d": (
        lambda: nn.BatchNorm2d(8),
        {"bn_train": ((1, 8, 1, 1), (8,), (8,), (8,), (8,))},
        IMAGES,
    ),
    "LayerNorm": (
        lambda: nn.LayerNorm((16,)),
        {"layer_norm": ((4, 2), (2,), (2,))},
        ROWS,
    ),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, 2), {"max_pool": ((4, 2, 1, 1),)}, IMAGES),
    "AvgPool2d": (lambda: nn.AvgPool2d(2, 2), {"avg_pool": ((4, 2, 1, 1),)}, IMAGES),
    "ReLU": (nn.ReLU, {"relu": ALONG}, ROWS),
    "GELU": (nn.GELU, {"gelu": ALONG}, ROWS),
    "Softmax": (nn.Softmax, {"softmax": ((2, 4),)}, ROWS),
    "LogSoftmax": (nn.LogSoftmax, {"log_softmax": ((2, 4),)}, ROWS),
    "PReLU": (lambda: nn.PReLU(16), {"prelu": ((2, 4), (4,))}, ROWS),
    "Dropout": (lambda: nn.Dropout(p=0.5), {"dropout": ALONG}, ROWS),
}


def outcome(make: Callable[[], Any], strategies: dict[str, Any], x: Any) -> list[np.ndarray]:
    paramesh.set_seed(1)
    layer = make().set_train()
    for name, strategy in strategies.items():
        getattr(layer, name).shard(strategy)
    paramesh.random.seed(1)
    return [layer(x).asnumpy(), *(param.asnumpy() for param in layer.get_parameters())]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_strategies(name: str) -> None:
    make, strategies, shape = LAYERS[name]
    x = Tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    expected = outcome(make, {}, x)
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    for got, want in zip(outcome(make, strategies, x), expected, strict=True):
        np.testing.assert_allclose(got, want, 2e-5, 2e-5)


def test_an_embedding_joins_the_axes_of_its_indices() -> None:
    layer = nn.Embedding(16, 4)
    ids = Tensor(np.arange(8, dtype=np.int32).reshape(4, 2))
    expected = layer(ids).asnumpy()
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    layer.gather.shard(((1, 1), (8,)))
    layer.expand.shard(((8, 1),))
    for name in ("reshape", "reshape_flat"):
        getattr(layer, name).add_prim_attr("skip_redistribution", True)
    np.testing.assert_array_equal(layer(ids).asnumpy(), expected)


@pytest.mark.parametrize(
    ("sparse", "reduction", "strategies"),
    [
        (True, "mean", {"sparse_softmax_cross_entropy": ((8, 1), (8,))}),
        (True, "sum", {"one_hot": ((8, 1), (), ()), "softmax_cross_entropy": ((8, 1), (8, 1))}),
        (False, "mean", {"softmax_cross_entropy": ((4, 2), (4, 2)), "reduce_mean": ((4,),)}),
        (False, "none", {"softmax_cross_entropy": ((8, 1), (8, 1))}),
    ],
)
def test_a_loss_with_strategies(
    sparse: bool, reduction: Reduction, strategies: dict[str, Any]
) -> None:
    draw = np.random.default_rng(0)
    logits = Tensor(draw.normal(size=(8, 4)).astype(np.float32))
    classes = draw.integers(0, 4, 8).astype(np.int32)
    labels = Tensor(classes if sparse else np.eye(4, dtype=np.float32)[classes])
    expected = nn.SoftmaxCrossEntropyWithLogits(sparse, reduction)(logits, labels).asnumpy()
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse, reduction)
    for name, strategy in strategies.items():
        getattr(loss, name).shard(strategy)
    np.testing.assert_allclose(loss(logits, labels).asnumpy(), expected, 1e-5, 1e-6)


def test_a_strategy_that_comes_after_the_first_call_counts() -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    layer = nn.PReLU(16)
    x = Tensor(np.ones(ROWS, np.float32))
    layer(x)
    assert layer.w.layout is None
    layer.prelu.shard(((2, 4), (4,)))
    layer(x)
    assert layer.w.layout is not None
    assert layer.w.layout.parts == (4,)


def test_a_subclass_may_use_the_name() -> None:
    class Own(nn.ReLU):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.Tanh()

    assert isinstance(Own().relu, nn.Tanh)
    assert isinstance(nn.ReLU().relu, Primitive)
    assert not any("relu" in name for name in vars(nn.ReLU()))


def test_other_names_of_mindspore() -> None:
    layer = nn.Dense(4, 4)
    assert layer.set_comm_fusion(3) is layer
    assert [param.comm_fusion for param in layer.get_parameters()] == [3, 3]
    layer.recompute(
        mp_comm_recompute=True,
        parallel_optimizer_comm_recompute=True,
        recompute_slice_activation=True,
    )
    with pytest.raises(TypeError, match=r"Dense.recompute: mp_comm_recompute must be a bool"):
        layer.recompute(mp_comm_recompute=1)
    operator = layer.matmul.shard(strategy=((1, 1), (1, 1)))
    assert operator.in_strategy == ((1, 1), (1, 1))
    with pytest.raises(TypeError, match="in_strategy and strategy say the same thing"):
        operator.shard(((1, 1),), strategy=((1, 1),))
    layer.shard(strategy=((1, 1),))
    with pytest.raises(TypeError, match=r"Dense.shard: in_strategy and strategy"):
        layer.shard(((1, 1),), strategy=((1, 1),))
    assert operator.set_device("CPU").attrs["primitive_target"] == "CPU"
    assert operator.set_device("").attrs["primitive_target"] == ""
    with pytest.raises(ValueError, match=r"MatMul.set_device: 'TPU' is not one of CPU, GPU"):
        operator.set_device("TPU")
    with pytest.raises(TypeError, match=r"MatMul.set_device: expected a str, got int"):
        operator.set_device(1)  # type: ignore[arg-type]


def test_a_batch_that_does_not_divide_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    layer = nn.ReLU()
    with caplog.at_level(logging.WARNING, logger="paramesh"):
        for rows in (12, 12, 16, 1):
            layer(Tensor(np.ones((rows, 4), np.float32)))
    assert [record.getMessage() for record in caplog.records] == [
        "Input 0 has shape (12, 4), and the 8 devices do not divide its first axis: all 12 rows go "
        "to each device, so the work on them is done 8 times. Drop the rest of the last batch "
        "(drop_remainder), choose a batch that is a multiple of 8, or shard it with "
        "dataset_strategy=((4, 1), …)."
    ]
