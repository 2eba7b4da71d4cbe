"""Forms of a training step, for all modes and ways to run: each gives the same Parameters.

A form is a function of (network, loss, optimizer) that gives a step: (x, y) -> the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import paramesh
from paramesh import Tensor, nn, ops
from paramesh.train.cells import TrainOneStepCell, WithLossCell

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(8, 3, 2, 2)).astype(np.float32)
Y = DRAW.normal(size=(8, 2)).astype(np.float32)
STEPS = 3

Step = Callable[[Any, Any], Any]


def network(layer: Callable[[], Any] | None = None) -> Any:
    """A network of images, with a layer of the caller's in it."""
    paramesh.set_seed(3)
    layers = [nn.Conv2d(3, 4, 1, weight_init="normal"), *([] if layer is None else [layer()])]
    return nn.SequentialCell(*layers, nn.ReLU(), nn.Flatten(), nn.Dense(16, 2))


def one_step_cell(net: Any, loss: Any, optimizer: Any) -> Step:
    """`TrainOneStepCell`."""
    return TrainOneStepCell(WithLossCell(net, loss), optimizer)


def loss_scale_cell(net: Any, loss: Any, optimizer: Any) -> Step:
    """`TrainOneStepWithLossScaleCell`, with a scale that moves."""
    scale = nn.DynamicLossScaleUpdateCell(loss_scale_value=8, scale_factor=2, scale_window=2)
    cell = nn.TrainOneStepWithLossScaleCell(WithLossCell(net, loss), optimizer, scale)
    return lambda x, y: cell(x, y)[0]


def own_cell(net: Any, loss: Any, optimizer: Any) -> Step:
    """A training Cell as scripts write it."""

    class Own(nn.Cell):
        def __init__(self, network: Any) -> None:
            super().__init__(auto_prefix=False)
            self.network, self.optimizer = network, optimizer
            self.weights = optimizer.parameters
            self.grad = ops.GradOperation(get_by_list=True)
            self.reducer = nn.DistributedGradReducer(self.weights)

        def construct(self, *inputs: Any) -> Any:
            loss = self.network(*inputs)
            grads = self.grad(self.network, self.weights)(*inputs)
            return ops.depend(loss, self.optimizer(self.reducer(grads)))

    return Own(WithLossCell(net, loss))


def functional(net: Any, loss: Any, optimizer: Any) -> Step:
    """`value_and_grad`, the reducer and the optimizer, as functions of 2.x."""
    gradients = paramesh.value_and_grad(
        lambda x, y: loss(net(x), y), None, weights=optimizer.parameters
    )
    reducer = nn.DistributedGradReducer(optimizer.parameters)

    def step(x: Any, y: Any) -> Any:
        value, grads = gradients(x, y)
        optimizer(reducer(grads))
        return value

    return step


def all_reduced(net: Any, loss: Any, optimizer: Any) -> Step:
    """Gradients averaged by `ops.AllReduce`, one after another."""
    gradients = paramesh.value_and_grad(
        lambda x, y: loss(net(x), y), None, weights=optimizer.parameters
    )
    reduce = ops.AllReduce()

    def step(x: Any, y: Any) -> Any:
        value, grads = gradients(x, y)
        count = paramesh.communication.get_group_size()
        optimizer(tuple(reduce(grad) / count for grad in grads))
        return value

    return step


def through_model(net: Any, loss: Any, optimizer: Any) -> Step:
    """`Model.train`, an epoch for each step."""
    model = paramesh.Model(net, loss, optimizer)

    def step(x: Any, y: Any) -> Any:
        seen: list[Any] = []

        class Watch(paramesh.train.Callback):
            def on_train_step_end(self, run_context: Any) -> None:
                seen.append(run_context.original_args().net_outputs)

        model.train(1, [(x, y)], [Watch()], progress=False)
        return seen[0]

    return step


#: Those that are Cells, which a process of several devices runs as programs in PyNative mode.
CELLS = {
    "one_step_cell": one_step_cell,
    "loss_scale_cell": loss_scale_cell,
    "own_cell": own_cell,
    "through_model": through_model,
}
#: Those that call one thing after another.
FUNCTIONS = {"functional": functional, "all_reduced": all_reduced}
FORMS: dict[str, Callable[[Any, Any, Any], Step]] = CELLS | FUNCTIONS


def trained(
    form: Callable[[Any, Any, Any], Step],
    inputs: tuple[Any, Any] = (X, Y),
    layer: Callable[[], Any] | None = None,
    wrap: Callable[[Step], Step] | None = None,
    optimizer: Callable[[Any], Any] = lambda params: nn.Adam(params, 0.01),
) -> tuple[list[float], dict[str, Any]]:
    """(losses, values of all Parameters) of some steps, each with another batch."""
    net = network(layer)
    net.set_train()
    made = optimizer(net.trainable_params())
    step = form(net, nn.MSELoss(), made)
    step = step if wrap is None else wrap(step)
    x, y = inputs
    losses = [float(step(Tensor(x * (1 + i)), Tensor(y))) for i in range(STEPS)]
    params = {param.name: param for cell in (net, made) for param in cell.get_parameters()}
    return losses, {name: param.asnumpy() for name, param in params.items()}
