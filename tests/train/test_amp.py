"""`amp`: networks in Float16 and their training Cells."""

from __future__ import annotations

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, amp, nn
from paramesh.train import FixedLossScaleManager, TrainOneStepWithLossScaleCell


@pytest.mark.parametrize("level", ["O0", "O2", "O3"])
def test_levels_say_what_computes_in_float16(level: str) -> None:
    net = nn.SequentialCell(nn.Dense(2, 2), nn.BatchNorm1d(2), nn.Dense(2, 2))
    assert amp.auto_mixed_precision(net, level) is net
    x = Tensor(np.ones((4, 2), np.float32))
    kinds = [str(net[0](x).dtype), str(net[1](net[0](x)).dtype), str(net(x).dtype)]
    assert (
        kinds
        == {
            "O0": ["Float32"] * 3,
            "O2": ["Float16", "Float32", "Float16"],
            "O3": ["Float16"] * 3,
        }[level]
    )
    assert net[0].weight.dtype is paramesh.float32


def test_training_cells_of_the_levels() -> None:
    for level, manager, scaled in (
        ("O0", None, False),
        ("O2", None, True),
        ("O3", FixedLossScaleManager(8.0, drop_overflow_update=False), False),
    ):
        net = nn.Dense(2, 2)
        opt = nn.SGD(net.trainable_params(), 0.1, loss_scale=1.0 if manager is None else 8.0)
        step = amp.build_train_network(net, opt, nn.MSELoss(), level, loss_scale_manager=manager)
        assert isinstance(step, TrainOneStepWithLossScaleCell) == scaled
        assert step.sens == (8 if manager is not None else 1)


def test_all_finite_looks_into_nests() -> None:
    good, bad = Tensor([1.0, 2.0]), Tensor([1.0, float("nan")])
    assert bool(amp.all_finite((good, [good])))
    assert not bool(amp.all_finite((good, [good, (bad,)])))


def test_refusals() -> None:
    net = nn.Dense(2, 2)
    with pytest.raises(ValueError, match="amp_level must be one of .*, got 'O1'"):
        amp.auto_mixed_precision(net, "O1")
    with pytest.raises(TypeError, match="network must be a Cell, got str"):
        amp.auto_mixed_precision("net", "O2")
    with pytest.raises(ValueError, match="boost_level must be 'O0', got 'O1'"):
        amp.build_train_network(net, nn.SGD(net.trainable_params()), boost_level="O1")
