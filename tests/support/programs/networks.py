"""Small networks that the tests of programs share."""

from __future__ import annotations

from typing import Any

import numpy as np

import paramesh
from paramesh import Parameter, Tensor, nn
from paramesh.initializer import initializer

X = np.linspace(-1.0, 1.0, 15, dtype=np.float32).reshape(5, 3)


class Affine(nn.Cell):
    """x @ w + b, with a running mean of the outputs that is written while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.w = Parameter(initializer("normal", [3, 4]))
        self.b = Parameter(initializer("zeros", [4]))
        self.mean = Parameter(Tensor(np.zeros(4, np.float32)), requires_grad=False)

    def construct(self, x: Any) -> Any:
        out = x @ self.w + self.b
        if self.training:
            self.mean.assign(self.mean * 0.5 + out.mean(0) * 0.5)
        return out


class Deep(nn.Cell):
    """Many small layers of one shape, so that optimizers keep their Parameters in pools."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        paramesh.set_seed(3)
        self.layers = nn.CellList([nn.Dense(3, 3, weight_init="normal") for _ in range(layers)])

    def construct(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x).tanh()
        return x


def trainer(net: nn.Cell, optimizer: Any) -> Any:
    """A compiled training step (x) -> loss; the network learns to give ones."""
    gradients = paramesh.value_and_grad(
        lambda x: ((net(x) - 1.0) ** 2).mean(), None, optimizer.parameters
    )

    @paramesh.jit
    def step(x: Any) -> Any:
        loss, grads = gradients(x)
        optimizer(grads)
        return loss

    return step


def values(net: nn.Cell) -> dict[str, np.ndarray]:
    """{name: numpy array} of all Parameters."""
    return {name: param.asnumpy() for name, param in net.parameters_dict().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two such dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
