"""What one training step costs: paramesh beside hand-written JAX, flax nnx and torch.

Run `python benchmarks/step_overhead.py [--layers 200] [--width 32] [--steps 200]`. The network is
`layers` x (Dense width x width + tanh), the loss a mean square, the optimizer Adam, the batch 32:
so many small buffers that the arithmetic hardly counts. All train from the same start, in one
process, in turns of ten steps, so that whatever else the machine does meets all alike; every step
is waited for by its loss (all outputs of one program are ready together). The table has medians,
and the ratio to hand-written JAX (below 1: faster). Peers that are not installed are named and
left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import paramesh
from paramesh import Tensor, nn, value_and_grad

BATCH = 32
RATE = 1e-3
TURN = 10

Step = Callable[[], float]


def start(layers: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same first weights for all."""
    rng = np.random.default_rng(0)
    scale = 1.0 / np.sqrt(width)
    return [
        (
            rng.uniform(-scale, scale, (width, width)).astype(np.float32),
            np.zeros(width, np.float32),
        )
        for _ in range(layers)
    ]


def batch(width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, BATCH, width)).astype(np.float32)
    return x, y


def by_hand(layers: int, width: int) -> Step:
    """jax.jit over a list of arrays and optax.adam, everything that is written donated."""
    weights = [(jnp.asarray(w), jnp.asarray(b)) for w, b in start(layers, width)]
    x, y = map(jnp.asarray, batch(width))
    adam = optax.adam(RATE)

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        for w, b in weights:
            x = jnp.tanh(x @ w.T + b)
        return jnp.mean((x - y) ** 2)

    def step(weights: Any, state: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(weights, x, y)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(weights, updates), state, loss

    program = jax.jit(step, donate_argnums=(0, 1))
    held = [weights, adam.init(weights)]

    def run() -> float:
        held[0], held[1], loss = program(held[0], held[1], x, y)
        return loss.block_until_ready()

    return run


class Net(nn.Cell):
    """The network as a Cell."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.layers = nn.CellList(
            [
                nn.Dense(width, width, weight_init=Tensor(w), bias_init=Tensor(b))
                for w, b in start(layers, width)
            ]
        )

    def construct(self, x: Any) -> Any:
        """The output of the last layer."""
        for layer in self.layers:
            x = layer(x).tanh()
        return x


def ours(layers: int, width: int) -> Step:
    """A Cell, value_and_grad and nn.Adam under paramesh.jit."""
    net = Net(layers, width)
    params = net.trainable_params()
    adam = nn.Adam(params, learning_rate=RATE)
    x, y = map(Tensor, batch(width))
    gradients = value_and_grad(lambda x, y: ((net(x) - y) ** 2).mean(), None, params)

    @paramesh.jit
    def step(x: Any, y: Any) -> Any:
        loss, grads = gradients(x, y)
        adam(grads)
        return loss

    def run() -> float:
        loss = step(x, y)
        return jax.block_until_ready(loss)

    return run


def of_nnx(layers: int, width: int, cached: bool) -> Step:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(layers)])
            for layer, (w, b) in zip(self.layers, start(layers, width), strict=True):
                layer.kernel.set_value(jnp.asarray(w.T))
                layer.bias.set_value(jnp.asarray(b))

        def __call__(self, x: Any) -> Any:
            for layer in self.layers:
                x = jnp.tanh(layer(x))
            return x

    model = Model()
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
    x, y = map(jnp.asarray, batch(width))

    @nnx.jit
    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    call = nnx.cached_partial(step, model, optimizer) if cached else None

    def run() -> float:
        loss = call(x, y) if call is not None else step(model, optimizer, x, y)
        return loss.block_until_ready()

    return run


def of_torch(layers: int, width: int) -> Step:
    import torch

    torch.set_num_threads(torch.get_num_threads())
    stack: list[Any] = []
    for w, b in start(layers, width):
        dense = torch.nn.Linear(width, width)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(w))
            dense.bias.copy_(torch.from_numpy(b))
        stack += [dense, torch.nn.Tanh()]
    model = torch.nn.Sequential(*stack)
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    x, y = map(torch.from_numpy, batch(width))

    def run() -> float:
        adam.zero_grad(set_to_none=True)
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        adam.step()
        return loss.item()

    return run


CONTESTANTS: dict[str, tuple[str, Callable[[int, int], Step]]] = {
    "hand-written JAX": ("jax", by_hand),
    "paramesh": ("paramesh", ours),
    "flax nnx.cached_partial": ("flax", lambda n, w: of_nnx(n, w, cached=True)),
    "flax nnx.jit": ("flax", lambda n, w: of_nnx(n, w, cached=False)),
    "torch eager, fused Adam": ("torch", of_torch),
}


def measure(layers: int, width: int, steps: int, console: Console) -> None:
    runs: dict[str, Step] = {}
    first: dict[str, float] = {}
    for name, (package, make) in CONTESTANTS.items():
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            console.print(f"{name}: {package} is not installed, left out")
            continue
        begin = time.perf_counter()
        run = make(layers, width)
        run()
        first[name] = time.perf_counter() - begin
        runs[name] = run
    times: dict[str, list[float]] = {name: [] for name in runs}
    losses: dict[str, float] = {}
    for _ in range(max(1, steps // TURN)):
        for name, run in runs.items():
            for _ in range(TURN):
                begin = time.perf_counter()
                loss = run()
                times[name].append(time.perf_counter() - begin)
            losses[name] = float(loss)
    medians = {name: statistics.median(t[TURN:] or t) for name, t in times.items()}
    table = Table(title=f"{layers} x (Dense {width}x{width} + tanh), Adam, batch {BATCH}")
    for column in ("", "version", "step (ms)", "ratio", "build + first step (s)", "ratio", "loss"):
        table.add_column(column, justify="left" if column in ("", "version") else "right")
    base, base_first = medians["hand-written JAX"], first["hand-written JAX"]
    for name in runs:
        table.add_row(
            name,
            importlib.metadata.version(CONTESTANTS[name][0]),
            f"{medians[name] * 1e3:.2f}",
            f"{medians[name] / base:.2f}",
            f"{first[name]:.1f}",
            f"{first[name] / base_first:.2f}",
            f"{losses[name]:.6f}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    measure(options.layers, options.width, options.steps, Console(width=120))


if __name__ == "__main__":
    main()
