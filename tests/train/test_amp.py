"""`amp`: networks in Float16 and their training Cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, amp, nn
from paramesh.train import FixedLossScaleManager, TrainOneStepWithLossScaleCell
from type_checks import wrong


@pytest.mark.parametrize("level", ["O0", "O1", "O2", "O3", "auto"])
def test_levels_say_what_computes_in_float16(level: str) -> None:
    net = nn.SequentialCell(nn.Dense(2, 2), nn.BatchNorm1d(2), nn.Dense(2, 2))
    assert amp.auto_mixed_precision(net, level) is net
    x = Tensor(np.ones((4, 2), np.float32))
    kinds = [str(net[0](x).dtype), str(net[1](net[0](x)).dtype), str(net(x).dtype)]
    assert (
        kinds
        == {
            "O0": ["Float32"] * 3,
            "O1": ["Float32"] * 3,
            "O2": ["Float16", "Float32", "Float32"],
            "O3": ["Float16", "Float16", "Float32"],
            "auto": ["Float32", "Float32", "Float16"],
        }[level]
    )
    assert net[0].weight.dtype is paramesh.float32


def test_training_cells_of_the_levels() -> None:
    fixed = FixedLossScaleManager(8.0, drop_overflow_update=False)
    cases: tuple[tuple[str, dict[str, Any], bool, int], ...] = (
        ("O0", {}, False, 1),
        ("O2", {}, True, 1),
        ("O2", {"loss_scale_manager": None}, False, 1),  # as in MindSpore
        ("O3", {"loss_scale_manager": fixed}, False, 8),
    )
    for level, given, scaled, scale in cases:
        net = nn.Dense(2, 2)
        opt = nn.SGD(net.trainable_params(), 0.1, loss_scale=float(scale))
        step = amp.build_train_network(net, opt, nn.MSELoss(), level, **given)
        assert isinstance(step, TrainOneStepWithLossScaleCell) == scaled
        assert step.sens == scale
        model = paramesh.Model(net, nn.MSELoss(), opt, amp_level=level, **given)
        assert isinstance(model.train_network, TrainOneStepWithLossScaleCell) == scaled


@pytest.mark.parametrize(("level", "keep", "wide"), [("O2", False, False), ("O3", True, True)])
def test_a_training_cell_with_other_batch_normalizations(
    level: str, keep: bool, wide: bool
) -> None:
    net = nn.SequentialCell(nn.Dense(2, 2), nn.BatchNorm1d(2))
    opt = nn.SGD(net.trainable_params(), 0.1)
    amp.build_train_network(net, opt, nn.MSELoss(), level, keep_batchnorm_fp32=keep)
    net[1].set_train(False)
    out = net[1](Tensor(np.array([[1.0, 2.0]], np.float16)))
    assert out.dtype == (paramesh.float32 if wide else paramesh.float16)


def test_all_finite_looks_into_nests() -> None:
    good, bad = Tensor([1.0, 2.0]), Tensor([1.0, float("nan")])
    assert bool(amp.all_finite((good, [good])))
    assert not bool(amp.all_finite((good, [good, (bad,)])))


def test_refusals() -> None:
    net = nn.Dense(2, 2)
    with pytest.raises(ValueError, match="amp_level must be one of .*, got 'O4'"):
        amp.auto_mixed_precision(net, "O4")
    with pytest.raises(ValueError, match="dtype must be float16 or bfloat16"):
        amp.auto_mixed_precision(net, "O1", paramesh.int32)
    with pytest.raises(ValueError, match="give either white_list or black_list"):
        amp.custom_mixed_precision(net)
    with pytest.raises(TypeError, match="a white list holds classes of Cells and operators"):
        amp.custom_mixed_precision(net, white_list=["Dense"])
    with pytest.raises(TypeError, match="network must be a Cell, got str"):
        amp.auto_mixed_precision(wrong("net"), "O2")
    with pytest.raises(ValueError, match="boost_level must be 'O0', got 'O1'"):
        amp.build_train_network(net, nn.SGD(net.trainable_params()), boost_level="O1")


class Mixture(nn.Cell):
    """Gives what each part computes, in its own element type."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.softmax = nn.Softmax()

    def construct(self, x: Tensor) -> tuple[Tensor, ...]:
        a = self.dense(x)
        b = self.norm(a)
        c = paramesh.ops.matmul(a, b)
        self.seen = [str(t.dtype) for t in (a, b, c)]
        return a, b, c, self.softmax(c)


@pytest.mark.parametrize(
    ("level", "inside", "outside"),
    [
        # O1 and O3 as MindSpore 2.10 has them.
        ("O1", ["Float32"] * 3, ["Float32"] * 4),
        ("O3", ["Float16"] * 3, ["Float32"] * 4),
        ("auto", ["Float16", "Float32", "Float16"], ["Float16", "Float32", "Float16", "Float32"]),
    ],
)
def test_element_types_inside_and_outside(
    level: str, inside: list[str], outside: list[str]
) -> None:
    net = amp.auto_mixed_precision(Mixture(), level)
    outs = net(Tensor(np.ones((3, 3), np.float32)))
    assert net.seen == inside
    assert [str(out.dtype) for out in outs] == outside


def test_the_white_list_rounds_to_float16() -> None:
    x = Tensor(np.full((1, 1), 1 + 2**-12, np.float32))
    net = amp.custom_mixed_precision(Product(), white_list=[paramesh.ops.MatMul])
    assert net(x).asnumpy() == 1
    assert str(net(x).dtype) == "Float32"
    assert Product()(x).asnumpy() > 1


class Product(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        return paramesh.ops.matmul(x, x)


def test_bfloat16_and_gradients() -> None:
    net = amp.auto_mixed_precision(nn.Dense(2, 2), "O3", paramesh.bfloat16)
    x = Tensor(np.ones((1, 2), np.float32))
    gradient = paramesh.grad(lambda x: net(x).sum(), None, net.trainable_params())(x)
    assert [str(g.dtype) for g in gradient] == ["Float32"] * 2


def test_a_dynamic_scaler_moves_as_mindspore() -> None:
    scaler = amp.DynamicLossScaler(2**4, 2, 2)
    seen = []
    for finite in (True, True, True, False, False):
        scaler.adjust(Tensor(finite))
        seen.append((float(scaler.scale_value.asnumpy()), int(scaler.counter.asnumpy())))
    assert seen == [(16, 1), (32, 0), (32, 1), (16, 0), (8, 0)]
    assert scaler.scale(Tensor(2.0)).asnumpy() == 16
    half, single = scaler.unscale((Tensor(np.float16(2)), Tensor(np.float32(2))))
    assert str(half.dtype) == "Float16"
    assert single.asnumpy() == 0.25
    assert amp.StaticLossScaler(4).adjust(Tensor(False)) is False
