"""Parameters that are frozen after the optimizer was made, and thawed again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizer_cases import EVERY, gradients, make, start, states
from paramesh import Parameter, Tensor, context, nn, ops, optim
from paramesh.train.cells import TrainOneStepCell, WithLossCell
from type_checks import present


def everything(optimizer: Any, params: Any) -> dict[str, np.ndarray]:
    found = {p.name: p.asnumpy() for p in params}
    return found | {q.name: q.asnumpy() for q in states(optimizer, params).values()}


def of_w(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: v for name, v in values.items() if name == "w" or name.endswith((".w", "_w"))}


#: Those in which one Parameter's gradient moves another one.
COUPLED = ("from_optax rate",)
#: In PyNative mode: those that reach their numbers in ways of their own.
EAGERLY = ("SGD momentum", "Adam", "AdaFactor", "LARS", "groups", "from_optax")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(context.GRAPH_MODE, kind) for kind in EVERY]
    + [(context.PYNATIVE_MODE, kind) for kind in EAGERLY],
)
def test_a_frozen_parameter_and_its_state_stay(mode: int, kind: str) -> None:
    context.set_context(mode=mode)
    params, twins = start(), start()
    optimizer, other = make(EVERY[kind], params), make(EVERY[kind], twins)
    optimizer(gradients(0, optimizer, params))
    other(gradients(0, other, twins))
    params[0].requires_grad = False
    before = everything(optimizer, params)
    for step in (1, 2):
        optimizer(gradients(step, optimizer, params))
        other(gradients(step, other, twins))
    after, others = everything(optimizer, params), everything(other, twins)
    for name, value in of_w(before).items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    for name in after.keys() - of_w(before).keys():
        if kind not in COUPLED:
            np.testing.assert_allclose(after[name], others[name], rtol=1e-6, err_msg=name)
    assert not np.array_equal(after["b"], before["b"])
    assert optimizer.global_step.asnumpy().tolist() == [3]
    params[0].requires_grad = True
    optimizer(gradients(3, optimizer, params))
    assert not np.array_equal(params[0].asnumpy(), before["w"])


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
@pytest.mark.parametrize("flat", ["always", "never"])
def test_of_many_in_a_flat_array_some_are_frozen(mode: int, flat: str) -> None:
    context.set_context(mode=mode, flat_parameters=flat)
    params = [
        Parameter(Tensor(np.full(2 + i % 2, i + 1.0, np.float32)), name=f"p{i}") for i in range(10)
    ]
    opt = optim.Momentum(params, 0.1, 0.9, weight_decay=0.1)
    grads = tuple(Tensor(np.ones(p.shape, np.float32)) for p in params)
    opt(grads)
    if mode == context.GRAPH_MODE:
        assert (params[0]._slot is not None) == (flat == "always")
    params[3].requires_grad = params[4].requires_grad = False
    before = {p.name: p.asnumpy() for p in opt.get_parameters()}
    nan = tuple(
        Tensor(np.full(p.shape, np.nan, np.float32)) if i == 3 else g
        for i, (p, g) in enumerate(zip(params, grads, strict=True))
    )
    opt(nan)
    for p in opt.get_parameters():
        stays = p.name.endswith(("p3", "p4")) or p.name in ("learning_rate", "momentum")
        assert np.array_equal(p.asnumpy(), before[p.name]) == stays, p.name
    params[3].requires_grad = True
    opt(grads)
    assert not np.array_equal(params[3].asnumpy(), before["p3"])
    assert np.array_equal(params[4].asnumpy(), before["p4"])
    for p in params:
        p.requires_grad = False
    before = {p.name: p.asnumpy() for p in params}
    opt(grads)
    assert all(np.array_equal(p.asnumpy(), before[p.name]) for p in params)


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_an_optimizer_of_ones_own_leaves_frozen_parameters(mode: int) -> None:
    class SignDescent(optim.Optimizer):
        def __init__(self, params):
            super().__init__(0.5, params)
            self.add_state("sums", self.parameters.clone("sums", "zeros"))

        def construct(self, gradients):
            for param, total, grad in zip(self.parameters, self.sums, gradients, strict=True):
                total.assign(total + grad)
                param.assign(param - self.get_lr() * ops.sign(total))
            self.global_step.assign(self.global_step + 1)

    context.set_context(mode=mode)
    params = start()
    opt = SignDescent(params)
    opt(gradients(0, opt, params))
    params[0].requires_grad = False
    before = everything(opt, params)
    opt(gradients(1, opt, params))
    after = everything(opt, params)
    moved = [name for name in after if not np.array_equal(after[name], before[name])]
    assert sorted(moved) == ["b", "global_step", "sums.b"]
    params[0].requires_grad = True
    opt(gradients(1, opt, params))
    assert not np.array_equal(params[0].asnumpy(), before["w"])


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_in_a_training_cell(mode: int) -> None:
    context.set_context(mode=mode)
    net = nn.Dense(2, 2, weight_init="ones", bias_init="zeros")
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), optim.SGD(net.trainable_params(), 0.1))
    x, y = Tensor(np.ones((2, 2), np.float32)), Tensor(np.zeros((2, 2), np.float32))
    net.weight.requires_grad = False
    step(x, y)
    assert (net.weight.asnumpy() == 1).all()
    assert (present(net.bias).asnumpy() < 0).all()
    net.weight.requires_grad = True
    step(x, y)
    assert (net.weight.asnumpy() < 1).all()


def test_no_gradient_is_needed_for_a_frozen_parameter() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    params = start()
    opt = optim.SGD(params, 0.1)
    params[0].requires_grad = False
    before = params[0].asnumpy()
    opt((None, gradients(0, opt, params)[1]))
    np.testing.assert_array_equal(params[0].asnumpy(), before)
