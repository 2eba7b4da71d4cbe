"""Training Cells: gradients, loss scales, overflows, and the seam of the placement."""

from __future__ import annotations

import numpy as np
import pytest

import paramesh
from paramesh import context, nn, ops, optim
from paramesh import dtype as mstype
from paramesh.errors import ParameterShapeError
from paramesh.state import placement
from paramesh.tensor import Tensor
from paramesh.train import (
    DynamicLossScaleUpdateCell,
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithLossCell,
)
from type_checks import present, wrong


def values(cell: nn.Cell) -> list[np.ndarray]:
    return [p.asnumpy() for p in cell.get_parameters()]


def test_a_step_returns_gradients_and_scales_the_loss() -> None:
    net = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
    x, y = Tensor(np.array([[1.0, 2.0]], np.float32)), Tensor(np.array([[1.0]], np.float32))
    for sens in (1.0, 4.0):
        opt = optim.SGD(net.trainable_params(), 0.0, loss_scale=sens)
        step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), opt, sens, return_grad=True)
        loss, grads = step(x, y)
        assert loss.asnumpy() == 4.0
        assert {n: (g.asnumpy() / sens).tolist() for n, g in grads.items()} == {
            "weight": [[4.0, 8.0]],
            "bias": [4.0],
        }
    with pytest.raises(TypeError, match="optimizer must be an Optimizer, got str"):
        TrainOneStepCell(net, wrong("sgd"))
    other = nn.Dense(2, 1)
    message = r"TrainOneStepCell: a step would change nothing.*'weight', …\).*trainable_params"
    with pytest.raises(ValueError, match=message):
        TrainOneStepCell(net, nn.SGD(other.trainable_params(), 0.1))
    with pytest.raises(ValueError, match="a step would change nothing"):
        paramesh.Model(nn.Dense(2, 1), nn.MSELoss(), nn.SGD(other.trainable_params(), 0.1))


def test_gradients_pass_the_placement(monkeypatch) -> None:
    class Doubling(placement.Placement):
        key = ("doubling",)

        def reduce_gradients(self, params, grads, mean=None, degree=None):
            assert [p.name for p in params] == ["weight", "bias"]
            return [2 * g for g in grads]

    doubling = Doubling()
    monkeypatch.setattr(placement, "current", lambda: doubling)
    net = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), optim.SGD(net.trainable_params(), 1.0))
    step(Tensor(np.array([[1.0, 2.0]], np.float32)), Tensor(np.array([[1.0]], np.float32)))
    assert present(net.bias).asnumpy().tolist() == [-8.0]


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_an_overflow_changes_nothing_but_the_scale(mode: int) -> None:
    context.set_context(mode=mode)
    net = nn.Dense(2, 1, weight_init="ones")
    opt = optim.Adam(net.trainable_params(), 0.1)
    step = TrainOneStepWithLossScaleCell(
        WithLossCell(net, nn.MSELoss()), opt, DynamicLossScaleUpdateCell(2.0**10, 2, 1)
    )
    y = Tensor(np.array([[1.0]], np.float32))
    step(Tensor(np.array([[1.0, 2.0]], np.float32)), y)  # one good step
    before = values(opt)
    loss, overflow, scale = step(Tensor(np.array([[1.0, 1e38]], np.float32)), y)
    assert (bool(overflow.asnumpy()), scale.asnumpy()) == (True, 2048)
    assert step.scale_sense.asnumpy() == 1024
    for x, z in zip(before, values(opt), strict=True):
        np.testing.assert_array_equal(x, z)
    loss, overflow, scale = step(Tensor(np.array([[1.0, 2.0]], np.float32)), y)
    assert not overflow.asnumpy()
    assert np.isfinite(loss.asnumpy())
    assert opt.global_step.asnumpy().tolist() == [2]


def test_a_scale_that_stays_is_a_tensor() -> None:
    net = nn.Dense(2, 1)
    opt = optim.SGD(net.trainable_params(), 0.1)
    step = TrainOneStepWithLossScaleCell(
        WithLossCell(net, nn.MSELoss()), opt, Tensor([8.0], mstype.float32)
    )
    x, y = Tensor(np.ones((1, 2), np.float32)), Tensor(np.ones((1, 1), np.float32))
    assert step(x, y)[2].asnumpy() == 8
    step.set_sense_scale(Tensor([16.0], mstype.float32))
    assert step(x, y)[2].asnumpy() == 16
    with pytest.raises(ValueError, match="A loss scale has one element"):
        step.set_sense_scale(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="scale_sense must be an update Cell or a Tensor"):
        TrainOneStepWithLossScaleCell(net, opt, wrong(3.0))


class ScriptStep(TrainOneStepCell):
    """As model scripts write it."""

    def construct(self, *inputs):
        loss = self.network(*inputs)
        sens = ops.fill(loss.dtype, loss.shape, self.sens)
        grads = self.grad(self.network, self.weights)(*inputs, sens)
        if self.reducer_flag:
            grads = self.grad_reducer(grads)
        return ops.depend(loss, self.optimizer(grads))


class ScriptStepWithScale(TrainOneStepWithLossScaleCell):
    """As model scripts write it, with the update that works in both modes."""

    def __init__(self, network, optimizer, scale_sense=None):
        super().__init__(network, optimizer, scale_sense)
        self.reciprocal = ops.Reciprocal()
        self.updates_by_if = False

    def construct(self, *inputs):
        weights = self.weights
        loss = self.network(*inputs)
        scale = self.scale_sense
        status, scale = self.start_overflow_check(loss, scale)
        sens = ops.ones_like(loss) * ops.cast(scale, loss.dtype)
        grads = self.grad(self.network, weights)(*inputs, sens)
        unscaled = ops.partial(lambda s, g: g * ops.cast(self.reciprocal(s), g.dtype), scale * 1)
        grads = self.hyper_map(unscaled, grads)
        grads = self.grad_reducer(grads)
        overflow = self.process_loss_scale(self.get_overflow_status(status, grads))
        if not self.updates_by_if:
            self.update_unless(overflow, grads)
        elif not overflow:
            self.optimizer(grads)
        return loss, overflow, scale * 1


X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


def trained(make, steps: int = 3, rate: float = 0.0):
    paramesh.set_seed(1)
    layers = [nn.Dense(4, 6, weight_init="normal"), nn.BatchNorm1d(6), nn.Dense(6, 4)]
    net = nn.SequentialCell(*layers, *([nn.Dropout(p=rate)] if rate else []))
    net.set_train()
    step = make(WithLossCell(net, nn.MSELoss()), nn.Momentum(net.trainable_params(), 0.1, 0.9))
    step.set_train()
    outs = [step(Tensor(X), Tensor(X * 0.5)) for _ in range(steps)]
    losses = [float(out[0] if isinstance(out, tuple) else out) for out in outs]
    return losses, [p.asnumpy() for p in step.get_parameters() if p.name != "scale_sense"]


def scaled(kind, **settings):
    def make(net, opt):
        step = kind(net, opt, Tensor([64.0], mstype.float32))
        for name, value in settings.items():
            setattr(step, name, value)
        return step

    return make


def assert_close(found, expected) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for value, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_subclass_makes_the_same_steps(mode: int, rate: float) -> None:
    """Moving averages and Dropout's masks among them: there is one forward pass."""
    context.set_context(mode=mode)
    expected = trained(TrainOneStepCell, rate=rate)
    assert_close(trained(ScriptStep, rate=rate), expected)
    by_if = mode == context.PYNATIVE_MODE
    assert_close(trained(scaled(ScriptStepWithScale, updates_by_if=by_if), rate=rate), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"parallel_mode": "data_parallel", "device_num": 4, "gradients_mean": True},
        {"parallel_mode": "semi_auto_parallel", "device_num": 4},
        {"grad_accumulation_step": 4},
    ],
    ids=lambda settings: settings.get("parallel_mode", "accumulation"),
)
def test_a_subclass_keeps_to_the_parallel_settings(settings: dict[str, object]) -> None:
    context.set_auto_parallel_context(**settings)
    expected = trained(TrainOneStepCell, 2)
    for kind in (ScriptStep, scaled(ScriptStepWithScale)):
        found = trained(kind, 2)
        if "grad_accumulation_step" in settings:  # the script's loss is one of the whole batch
            found = expected[0], found[1]
        assert_close(found, expected)
    step = TrainOneStepCell(net := nn.Dense(2, 1), nn.SGD(net.trainable_params(), 0.1))
    by_device = settings.get("parallel_mode") == "data_parallel"
    assert (step.reducer_flag, step.mean) == (by_device, by_device)
    assert step.degree == settings.get("device_num", 1)
    assert step.parallel_mode == settings.get("parallel_mode", "stand_alone")


def test_an_overflow_in_a_subclass_changes_nothing() -> None:
    paramesh.set_seed(1)
    net = nn.Dense(2, 1, weight_init="ones")
    opt = optim.Momentum(net.trainable_params(), 0.1, 0.9)
    manager = DynamicLossScaleUpdateCell(2.0**10, 2, 1)
    step = ScriptStepWithScale(WithLossCell(net, nn.MSELoss()), opt, manager)
    assert step.loss_scaling_manager is manager
    before = values(opt)
    bad = Tensor(np.array([[1.0, 1e38]], np.float32))
    _, overflow, scale = step(bad, Tensor(np.array([[1.0]], np.float32)))
    assert (bool(overflow), float(scale), float(step.scale_sense)) == (True, 512, 512)
    for value, other in zip(before, values(opt), strict=True):
        np.testing.assert_array_equal(value, other)


def test_members_of_a_script_win() -> None:
    net = nn.Dense(2, 1)
    loss = WithLossCell(net, nn.MSELoss())
    step = TrainOneStepWithLossScaleCell(
        loss, optim.SGD(net.trainable_params(), 0.1), Tensor([2.0])
    )
    names = """grad grad_reducer reducer_flag degree mean sens weights optimizer network
        parallel_mode hyper_map base allreduce is_distributed less_equal reduce_sum"""
    assert [name for name in names.split() if not hasattr(step, name)] == []
    assert isinstance(step.grad, ops.GradOperation)
    step.reducer_flag, step.grad_reducer = True, nn.DistributedGradReducer(step.weights)
    assert step.reducer_flag
    assert type(step.grad_reducer) is nn.DistributedGradReducer
    with pytest.raises(AttributeError, match="has no attribute 'gradd'"):
        _ = step.gradd


def test_a_pass_that_something_followed_is_made_again() -> None:
    class Step(ScriptStep):
        def construct(self, *inputs):
            x, y = inputs
            loss = self.network(x, y)
            self.network(x * 2, y)
            self.optimizer(self.grad(self.network, self.weights)(x, y, 1.0))
            return loss

    def counts(kind) -> float:
        net = nn.SequentialCell(nn.Dense(4, 4), nn.BatchNorm1d(4, momentum=0.5))
        step = kind(WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), 0.0))
        step.set_train()
        net[1].moving_variance.set_data(Tensor(np.full(4, 1e6, np.float32)))
        step(Tensor(X), Tensor(X))
        return float(net[1].moving_variance[0]) / 1e6

    assert round(counts(ScriptStep), 3) == 0.5
    assert round(counts(Step), 3) == 0.125


def test_with_grad_cell() -> None:
    net = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
    x, y = Tensor(np.array([[1.0, 2.0]], np.float32)), Tensor(np.array([[1.0]], np.float32))
    for sens, factor in ((None, 1), (3.0, 3)):
        grads = nn.WithGradCell(net, nn.MSELoss(), sens)(x, y)
        assert [g.asnumpy().tolist() for g in grads] == [
            [[4.0 * factor, 8.0 * factor]],
            [4.0 * factor],
        ]
    with pytest.raises(TypeError, match="WithGradCell: network must be a Cell, got str"):
        nn.WithGradCell(wrong("net"))


def test_micro_batches_are_added_up() -> None:
    net = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    loss = nn.MicroBatchInterleaved(WithLossCell(net, nn.MSELoss()), 2)
    labels = np.zeros((4, 1), np.float32)
    means = [(rows[half].sum(1) ** 2).mean() for half in (slice(0, 2), slice(2, 4))]
    assert loss(Tensor(rows), Tensor(labels)).asnumpy() == sum(means)
    assert [p.name for p in loss.get_parameters()] == ["weight", "bias"]
    halves = nn.MicroBatchInterleaved(net, 2)(Tensor(rows))
    assert halves.asnumpy().ravel().tolist() == [1 + 9, 5 + 13]
    with pytest.raises(ValueError, match=r"interleave_num=3 does not divide .* \(4, 2\)"):
        nn.MicroBatchInterleaved(net, 3)(Tensor(rows))
    with pytest.raises(ValueError, match="int from 1, got 0"):
        nn.MicroBatchInterleaved(net, 0)
    with pytest.raises(TypeError, match="must be an int, got 2.0"):
        nn.MicroBatchInterleaved(net, wrong(2.0))
    with pytest.raises(TypeError, match="network must be a Cell, got str"):
        nn.MicroBatchInterleaved(wrong("net"))


def test_writing_to_a_parameter() -> None:
    net = nn.Dense(2, 1)
    bias = present(net.bias)
    update = nn.ParameterUpdate(bias)
    assert update(Tensor([3.0])).asnumpy().tolist() == bias.asnumpy().tolist() == [3]
    assert [p.name for p in net.get_parameters()] == ["weight", "bias"]
    with pytest.raises(ParameterShapeError):
        update(Tensor([3.0, 4.0]))
    with pytest.raises(TypeError, match="param must be a Parameter, got ndarray"):
        nn.ParameterUpdate(wrong(np.array([1])))
