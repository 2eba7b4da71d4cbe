"""Training that leaves trainable Parameters as they are: said once, with their names."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Model, Parameter, Tensor, adapters, nn
from paramesh.errors import UntrainedWarning
from paramesh.transforms import GradientFunction

X, Y = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.SequentialCell(nn.Dense(2, 2), nn.Dense(2, 2))
        self.scale = Parameter(Tensor([1.0]))

    def construct(self, x: Any) -> Any:
        return self.body(x) * self.scale


class Loss(nn.Cell):
    """A network, with others beside it."""

    def __init__(self, *nets: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.nets = nn.CellList(list(nets), auto_prefix=False)

    def construct(self, x: Any, y: Any) -> Any:
        return sum(((net(x) - y) ** 2).mean() for net in self.nets)


def sgd(net: nn.Cell) -> nn.SGD:
    return nn.SGD(net.trainable_params(), learning_rate=0.1)


def gradients(net: nn.Cell, optimizer: nn.Optimizer) -> GradientFunction:
    loss = net if isinstance(net, Loss) else Loss(net)
    return GradientFunction(loss, None, list(optimizer.parameters))


def add(net: Net) -> None:
    net.body.append(nn.Dense(2, 2))


def insert(net: Net) -> None:
    net.body.insert(0, nn.Dense(2, 2))


def replace_cell(net: Net) -> None:
    net.body[1] = nn.Dense(2, 2)


def replace_parameter(net: Net) -> None:
    net.scale = Parameter(Tensor([2.0]), name="scale")


def attribute(net: Net) -> None:
    net.head = nn.Dense(2, 2)


def adapt(net: Net) -> None:
    adapters.lora(net, "body.1", rank=1)


def unfreeze(net: Net) -> None:
    for param in net.body[0].get_parameters():
        param.requires_grad = True


#: What happens after the optimizer was made: (change, names that nobody trains).
LATE: dict[str, tuple[Callable[[Net], None], str]] = {
    "add": (add, "'body.2.weight', 'body.2.bias'"),
    "insert": (insert, "'body.0.weight', 'body.0.bias'"),
    "replace a Cell": (replace_cell, "'body.1.weight', 'body.1.bias'"),
    "replace a Parameter": (replace_parameter, "'scale'"),
    "an attribute": (attribute, "'head.weight', 'head.bias'"),
    "low-rank terms": (adapt, "'body.1.lora_A', 'body.1.lora_B'"),
    "unfreeze": (unfreeze, "'body.0.weight', 'body.0.bias'"),
}


@pytest.mark.parametrize("change", LATE)
@pytest.mark.parametrize("way", ["step", "wrapped", "group"])
def test_what_comes_after_the_optimizer_is_named_once(change: str, way: str) -> None:
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    make, names = LATE[change]
    net = Net()
    if change == "unfreeze":
        for param in net.body[0].get_parameters():
            param.requires_grad = False
    params = net.trainable_params()
    opt = nn.SGD([{"params": params}] if way == "group" else params, learning_rate=0.1)
    loss = Loss(net)
    run = gradients(Loss(loss.nets[0]) if way == "wrapped" else loss, opt)
    run(X, Y)
    make(net)
    message = f"^Parameters that no optimizer trains: {names}. .* after SGD was made, .* Make SGD"
    with pytest.warns(UntrainedWarning, match=message) as said:
        run(X, Y)
    assert len(said) == 1
    assert said[0].filename == __file__
    run(X, Y)  # said once


def left_out(net: Net) -> Any:
    return nn.SGD(net.body[1].trainable_params(), learning_rate=0.1), Loss(net)


def frozen(net: Net) -> Any:
    opt = sgd(net)
    for param in net.get_parameters():
        param.requires_grad = False
    return opt, Loss(net)


def frozen_late(net: Net) -> Any:
    opt = sgd(net)
    net.head = nn.Dense(2, 2)
    for param in net.head.get_parameters():
        param.requires_grad = False
    return opt, Loss(net)


def second_optimizer(net: Net) -> Any:
    opt = sgd(net)
    net.head = nn.Dense(2, 2)
    net.others = sgd(net.head)
    return opt, Loss(net)


def teacher(net: Net) -> Any:
    return sgd(net), Loss(net, Net())


def toggled(net: Net) -> Any:
    """As the two networks of an adversarial training."""
    other, opt = Net(), sgd(net)
    theirs = sgd(other)
    for flag in (False, True):
        for param in other.get_parameters():
            param.requires_grad = flag
    loss = Loss(net, other)
    loss.kept = theirs
    return opt, loss


def rearranged(net: Net) -> Any:
    """Without `body.0`, which moves when the list is renumbered."""
    opt = nn.SGD([*net.body[1].trainable_params(), net.scale], learning_rate=0.1)
    net.body.insert(0, nn.ReLU())
    return opt, Loss(net)


def state_in_step(net: Net) -> Any:
    opt = nn.Adam(net.trainable_params())
    step = nn.TrainOneStepCell(Loss(net), opt)
    step.sums = opt.parameters.clone(prefix="sums", init="zeros")
    return opt, step.network


@pytest.mark.parametrize(
    "make",
    [
        left_out,
        frozen,
        frozen_late,
        second_optimizer,
        teacher,
        toggled,
        rearranged,
        state_in_step,
    ],
)
def test_what_is_meant_is_not_warned_of(make: Callable[[Net], Any]) -> None:
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    opt, loss = make(Net())
    gradients(loss, opt)(X, Y)


def test_a_compiled_step_says_it_when_it_is_compiled_again() -> None:
    net = nn.SequentialCell(nn.Dense(2, 2))
    step = nn.TrainOneStepCell(Loss(net), sgd(net))
    step(X, Y)
    net.append(nn.Dense(2, 2))
    with pytest.warns(UntrainedWarning, match="'1.weight', '1.bias'"):
        step(X, Y)
    step(X, Y)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_of_network_and_optimizer_are_watched_too(copied: Callable[..., Any]) -> None:
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    made = nn.SequentialCell(nn.Dense(2, 2))
    net, opt = copied((made, sgd(made)))
    run = gradients(net, opt)
    run(X, Y)
    net.append(nn.Dense(2, 2))
    with pytest.warns(UntrainedWarning, match=r"'1\.weight'"):
        run(X, Y)


def test_an_optimizer_of_another_network_is_said() -> None:
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    net, other = nn.Dense(2, 2), nn.Dense(2, 2)
    opt = sgd(other)

    def loss(x: Any) -> Any:
        return net(x).mean()

    run = GradientFunction(loss, None, list(opt.parameters))
    with pytest.warns(UntrainedWarning, match=r"\('weight', 'bias'\) are zeros: 'loss' uses none"):
        run(X)
    run(X)
    del opt
    GradientFunction(loss, None, other.trainable_params())(X)  # nobody trains


class Updating(nn.Cell):
    """Writes its Parameter itself."""

    def __init__(self, changes: bool) -> None:
        super().__init__()
        self.w, self.changes = Parameter(Tensor([1.0])), changes

    def construct(self, x: Any, y: Any) -> Any:
        if self.changes:
            self.w.assign(self.w - 0.1)
        return (x * self.w - y).mean()


def test_train_without_an_optimizer_is_said() -> None:
    data = [(X, Y)]
    for model in (
        Model(nn.Dense(2, 2), nn.MSELoss()),
        Model(Updating(False)),
    ):
        with pytest.warns(UntrainedWarning, match="there is no optimizer, .* trainable Param") as w:
            model.train(2, data, progress=False)
        assert len(w) == 1
        assert w[0].filename == __file__
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    with pytest.warns(UntrainedWarning, match="Use Model"):
        Model(nn.Dense(2, 2), nn.MSELoss()).train(1, data, progress=False)


def test_networks_that_update_themselves_need_no_optimizer() -> None:
    data = [(X, Y)]
    net = nn.Dense(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Model(Updating(True)).train(1, data, progress=False)
        Model(nn.ReLU(), nn.MSELoss()).train(1, data, progress=False)
        Model(nn.TrainOneStepCell(Loss(net), sgd(net))).train(1, data, progress=False)
