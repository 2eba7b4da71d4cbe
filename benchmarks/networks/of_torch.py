"""The networks as torch modules, eager or compiled, with torch's fused optimizers."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Generator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from networks import definitions
from networks.contestants import Unavailable
from networks.definitions import (
    ADAM_EPSILON,
    BETA1,
    BETA2,
    DECAY,
    EPSILON,
    HEADS,
    MODEL,
    Array,
    Network,
)

Step = Callable[[], Any]
#: A compilation that takes longer is given up.
LIMIT = 120
_NAMES = {"gamma": "weight", "beta": "bias", "embedding_table": "weight"}


class Stack(nn.Module):
    """A: dense layers with tanh."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, count = definitions.WIDTH, len(network.weights) // 2
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(count)])

    def forward(self, x: Any) -> Any:
        """(n, width) -> (n, width)."""
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class LeNet5(nn.Module):
    """B: two convolutions and three dense layers."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, definitions.CLASSES)

    def forward(self, x: Any) -> Any:
        """(n, 1, 32, 32) -> (n, 10)."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2).flatten(1)
        x = functional.relu(self.fc1(x))
        return self.fc3(functional.relu(self.fc2(x)))


class Block(nn.Module):
    """A layer of the transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(MODEL, eps=EPSILON)
        self.qkv = nn.Linear(MODEL, 3 * MODEL)
        self.out = nn.Linear(MODEL, MODEL)
        self.norm2 = nn.LayerNorm(MODEL, eps=EPSILON)
        self.up = nn.Linear(MODEL, definitions.FORWARD)
        self.down = nn.Linear(definitions.FORWARD, MODEL)

    def forward(self, x: Any) -> Any:
        """(n, length, width) -> (n, length, width)."""
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, HEADS, width // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heard.transpose(1, 2).reshape(n, length, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """C: a causal language model."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.token = nn.Embedding(definitions.VOCABULARY, MODEL)
        self.place = nn.Embedding(definitions.LENGTH, MODEL)
        self.blocks = nn.ModuleList([Block() for _ in range(definitions.BLOCKS)])
        self.norm = nn.LayerNorm(MODEL, eps=EPSILON)
        self.head = nn.Linear(MODEL, definitions.VOCABULARY, bias=False)

    def forward(self, tokens: Any) -> Any:
        """(n, length) -> (n * length, vocabulary)."""
        x = self.token(tokens) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)


class Wide(nn.Module):
    """D: wide dense layers with ReLU between."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, count = definitions.WIDE, len(network.weights) // 2
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(count)])

    def forward(self, x: Any) -> Any:
        """(n, width) -> (n, width)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = functional.relu(layer(x))
        return last(x)


MODULES: dict[str, Callable[[Network], nn.Module]] = {
    "A": Stack,
    "B": LeNet5,
    "C": Transformer,
    "D": Wide,
}


class AdamWeightDecay:
    """Adam without bias correction, by torch's fused AdamW, which has it.

    The correction is taken out again by the rate, the decay and epsilon of each step:
    `rate' = rate * c1 / sqrt(c2)`, `decay' = decay * rate / rate'`, `eps' = eps / sqrt(c2)` with
    `c = 1 - beta**t`. That costs three Python numbers a step.
    """

    def __init__(self, groups: list[dict[str, Any]], rate: float) -> None:
        self._adam = torch.optim.AdamW(groups, lr=rate, betas=(BETA1, BETA2), fused=True)
        self._rate, self._steps = rate, 0
        self._decays = [group["weight_decay"] for group in self._adam.param_groups]

    def zero_grad(self, set_to_none: bool) -> None:
        """Forget the gradients."""
        self._adam.zero_grad(set_to_none)

    def step(self) -> None:
        """Update the weights."""
        self._steps += 1
        c1, c2 = 1 - BETA1**self._steps, math.sqrt(1 - BETA2**self._steps)
        for group, decay in zip(self._adam.param_groups, self._decays, strict=True):
            group["lr"] = self._rate * c1 / c2
            group["weight_decay"] = decay * c2 / c1
            group["eps"] = ADAM_EPSILON / c2
        self._adam.step()


def optimizer(network: Network, model: nn.Module) -> Any:
    """The network's optimizer."""
    if network.key == "A":
        return torch.optim.Adam(model.parameters(), lr=network.rate, fused=True)
    if network.key == "C":
        named = list(model.named_parameters())
        groups = [
            {"params": [p for n, p in named if "norm" not in n], "weight_decay": DECAY},
            {"params": [p for n, p in named if "norm" in n], "weight_decay": 0.0},
        ]
        return AdamWeightDecay(groups, network.rate)
    momentum = definitions.MOMENTUM if network.key == "B" else 0.0
    return torch.optim.SGD(model.parameters(), network.rate, momentum=momentum, fused=True)


def filled(network: Network, start: Mapping[str, Array] | None) -> nn.Module:
    """The module, with the common first weights if there are any."""
    model = MODULES[network.key](network)
    if start is not None:
        state: dict[str, Any] = {}
        for name, array in start.items():
            path, _, leaf = name.rpartition(".")
            state[f"{path}.{_NAMES.get(leaf, leaf)}"] = torch.from_numpy(array)
        model.load_state_dict(state)
    return model


class _TooLong(BaseException):
    """Not an Exception: torch turns those that it meets while it compiles into its own."""


@contextlib.contextmanager
def _at_most(seconds: int) -> Generator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _compiled(loss_of: Callable[..., Any], model: nn.Module, x: Any, y: Any) -> Any:
    program = torch.compile(loss_of)
    try:
        with _at_most(LIMIT):
            program(x, y).backward()
    except _TooLong:
        torch.compiler.reset()
        raise Unavailable(f"not compiled within {LIMIT} s") from None
    except Exception as error:
        torch.compiler.reset()
        said = str(error).strip().splitlines() or [""]
        raise Unavailable(f"cannot compile here: {type(error).__name__}: {said[0]}") from error
    model.zero_grad(set_to_none=True)
    return program


def _loss(
    network: Network, model: nn.Module, batch: tuple[Array, Array]
) -> tuple[Callable[[Any, Any], Any], Any, Any]:
    """((x, y) -> the loss, x, y)."""
    x, y = map(torch.from_numpy, batch)
    if network.key in "BC":
        y = y.long().flatten()

    def loss_of(x: Any, y: Any) -> Any:
        outputs = model(x)
        if network.key in "AD":
            return ((outputs - y) ** 2).mean()
        return functional.cross_entropy(outputs, y)

    return loss_of, x, y


def build(
    network: Network,
    start: Mapping[str, Array] | None,
    batch: tuple[Array, Array],
    compiled: bool,
) -> Step:
    """One training step per call.

    Args:
        network: which.
        start: the common first weights; None for torch's own.
        batch: inputs and targets.
        compiled: forward and backward pass by `torch.compile`, the update fused as in eager torch.

    Raises:
        Unavailable: it cannot be compiled here, or not within two minutes.
    """
    model = filled(network, start)
    rule = optimizer(network, model)
    loss_of, x, y = _loss(network, model, batch)
    program = _compiled(loss_of, model, x, y) if compiled else loss_of

    def run() -> Any:
        rule.zero_grad(set_to_none=True)
        loss = program(x, y)
        loss.backward()
        rule.step()
        return loss.item()

    return run


def eager(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One forward and backward pass per call."""
    model = filled(network, start)
    loss_of, x, y = _loss(network, model, batch)
    weights = list(model.parameters())

    def run() -> Any:
        model.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        return loss.item(), [weight.grad for weight in weights]

    return run


def eager_training(
    network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]
) -> Step:
    """One training step per call, with torch's fused optimizers; the loss is read."""
    step = build(network, start, batch, compiled=False)
    return lambda: (step(), None)
