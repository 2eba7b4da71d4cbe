"""What one operator or layer costs outside of programs, beside a jitted function of JAX and torch.

Run `python benchmarks/eager_operators.py [--calls N] [--only NAME ...] [--json FILE]`. Each is
called on small arrays, so that the call costs more than the computation, and its result is waited
for. JAX has the same computation as one function under `jax.jit`, which is as fast as a call can be
there; torch calls its own. They take turns of fifty calls; a first turn does not count. The table
has medians, and the ratio to JAX. Where JAX's function is the layer's without its settings, as that
of Dropout without the generator, it is what the computation alone costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import harness
import paramesh
import record
from networks.contestants import Unavailable
from paramesh import Tensor, nn, ops

TURN, CALLS = 50, 500
ROWS = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(size=(8, 8, 16, 16)).astype(np.float32)
SQUARE = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
SEQUENCES = np.random.default_rng(4).normal(size=(4, 8, 64)).astype(np.float32)
KERNELS = np.random.default_rng(3).normal(size=(8, 8, 3, 3)).astype(np.float32)
NAMES = (
    "add",
    "relu",
    "gelu",
    "softmax",
    "hardswish",
    "softplus",
    "LayerNorm",
    "BatchNorm",
    "Dropout",
    "Dense",
    "Conv2d",
    "attention",
)


class Calling:
    """A contestant: calls a function, and waits for what it gives."""

    def __init__(self, call: Callable[[], Any], wait: Callable[[Any], Any], version: str) -> None:
        self._call, self._wait, self.version = call, wait, version

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run calls; (the seconds of each, the mean of what the last one gave)."""
        times: list[float] = []
        last: Any = None
        for _ in range(steps):
            begin = time.perf_counter()
            last = self._call()
            self._wait(last)
            times.append(time.perf_counter() - begin)
        return times, float(last.mean())

    def close(self) -> None:
        """Nothing is held but memory."""


def of_jax() -> dict[str, Callable[[], Any]]:
    """Each as one jitted function."""
    rows, images, square, kernels = map(jnp.asarray, (ROWS, IMAGES, SQUARE, KERNELS))
    ones, zeros, key = jnp.ones(64), jnp.zeros(64), jax.random.key(0)

    def normalized(x: Any, gamma: Any, beta: Any) -> Any:
        scale = jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
        return (x - x.mean(-1, keepdims=True)) * scale * gamma + beta

    def of_batch(x: Any, mean: Any, variance: Any) -> Any:
        new = x.mean((0, 2, 3)), x.var((0, 2, 3))
        out = (x - new[0][:, None, None]) * jax.lax.rsqrt(new[1] + 1e-5)[:, None, None]
        return out, 0.9 * mean + 0.1 * new[0], 0.9 * variance + 0.1 * new[1]

    def dropped(key: Any, x: Any) -> Any:
        key, own = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(own, 0.5, x.shape), x / 0.5, 0), key

    add, relu, soft = jax.jit(jnp.add), jax.jit(jax.nn.relu), jax.jit(jax.nn.softmax)
    gelu = jax.jit(lambda x: jax.nn.gelu(x, approximate=False))
    hard, plus = jax.jit(jax.nn.hard_swish), jax.jit(jax.nn.softplus)
    layer, batch, drop = jax.jit(normalized), jax.jit(of_batch), jax.jit(dropped)
    dense = jax.jit(lambda x, w, b: x @ w.T + b)
    conv = jax.jit(lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME"))
    sequences, joined = jnp.asarray(SEQUENCES), jnp.tile(square, (3, 1))

    @jax.jit
    def attend(x: Any, into: Any, out: Any) -> Any:
        q, k, v = (part.reshape(4, 8, 4, 16) for part in jnp.split(x @ into.T, 3, -1))
        weights = jax.nn.softmax(jnp.einsum("nlhd,nshd->nhls", q / 4, k), -1)
        return jnp.einsum("nhls,nshd->nlhd", weights, v).reshape(4, 8, 64) @ out.T

    return {
        "add": lambda: add(rows, rows),
        "relu": lambda: relu(rows),
        "gelu": lambda: gelu(rows),
        "softmax": lambda: soft(rows),
        "hardswish": lambda: hard(rows),
        "softplus": lambda: plus(rows),
        "LayerNorm": lambda: layer(rows, ones, zeros),
        "BatchNorm": lambda: batch(images, zeros[:8], ones[:8])[0],
        "Dropout": lambda: drop(key, rows)[0],
        "Dense": lambda: dense(rows, square, zeros),
        "Conv2d": lambda: conv(images, kernels),
        "attention": lambda: attend(sequences, joined, square),
    }


def of_paramesh() -> dict[str, Callable[[], Any]]:
    """Each in PyNative mode."""
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    rows, images = Tensor(ROWS), Tensor(IMAGES)
    layer, batch = nn.LayerNorm((64,)), nn.BatchNorm2d(8).set_train()
    drop, dense = nn.Dropout(p=0.5).set_train(), nn.Dense(64, 64, Tensor(SQUARE))
    conv = nn.Conv2d(8, 8, 3, weight_init=Tensor(KERNELS))
    attention = nn.MultiheadAttention(64, 4, batch_first=True).set_train(False)
    sequences = Tensor(SEQUENCES)
    return {
        "add": lambda: rows + rows,
        "relu": lambda: ops.relu(rows),
        "gelu": lambda: ops.gelu(rows),
        "softmax": lambda: ops.softmax(rows),
        "hardswish": lambda: ops.hardswish(rows),
        "softplus": lambda: ops.softplus(rows),
        "LayerNorm": lambda: layer(rows),
        "BatchNorm": lambda: batch(images),
        "Dropout": lambda: drop(rows),
        "Dense": lambda: dense(rows),
        "Conv2d": lambda: conv(images),
        "attention": lambda: attention(sequences, sequences, sequences, need_weights=False)[0],
    }


def of_torch() -> dict[str, Callable[[], Any]]:
    """Each by torch.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise Unavailable("torch is not installed") from error
    rows, images = (torch.tensor(array.tolist()) for array in (ROWS, IMAGES))
    f = torch.nn.functional
    layer, batch = torch.nn.LayerNorm(64), torch.nn.BatchNorm2d(8)
    dense = torch.nn.Linear(64, 64)
    conv = torch.nn.Conv2d(8, 8, 3, padding="same", bias=False)
    attention = torch.nn.MultiheadAttention(64, 4, batch_first=True).eval()
    sequences = torch.tensor(SEQUENCES.tolist())
    calls: dict[str, Callable[[], Any]] = {
        "add": lambda: rows + rows,
        "relu": lambda: f.relu(rows),
        "gelu": lambda: f.gelu(rows),
        "softmax": lambda: f.softmax(rows, -1),
        "hardswish": lambda: f.hardswish(rows),
        "softplus": lambda: f.softplus(rows),
        "LayerNorm": lambda: layer(rows),
        "BatchNorm": lambda: batch(images),
        "Dropout": lambda: f.dropout(rows, 0.5),
        "Dense": lambda: dense(rows),
        "Conv2d": lambda: conv(images),
        "attention": lambda: attention(sequences, sequences, sequences, need_weights=False)[0],
    }
    return {name: torch.no_grad()(call) for name, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=CALLS, help="that count, of each")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    wait: dict[str, Callable[[Any], Any]] = {
        "jitted JAX": lambda out: out.block_until_ready(),
        "paramesh": lambda out: out.value()._get().block_until_ready(),
        "torch": lambda out: out,
    }
    contestants = {"jitted JAX": of_jax(), "paramesh": of_paramesh()}
    try:
        contestants["torch"] = of_torch()
    except Unavailable as reason:
        harness.console().print(f"torch: {reason}")
    rows: list[dict[str, Any]] = []
    for name in options.only:
        runners: dict[str, harness.Runner] = {
            key: Calling(calls[name], wait[key], "") for key, calls in contestants.items()
        }
        for runner in runners.values():
            runner.turn(TURN)
        times, _ = harness.in_turns(runners, options.calls, TURN)
        base = harness.median(times["jitted JAX"])
        for key in runners:
            middle = harness.median(times[key])
            rows.append(
                {
                    "operator": name,
                    "contestant": key,
                    "call_s": middle,
                    "ratio": harness.ratio(middle, base),
                }
            )
    lines: list[tuple[str, ...]] = []
    for name in options.only:
        cells = [name]
        for row in (row for row in rows if row["operator"] == name):
            ratio = harness.shown(row["ratio"])
            cells.append(f"{harness.shown(row['call_s'], '.0f', 1e6)} ({ratio})")
        lines.append(tuple(cells))
    columns = ("µs a call (ratio)", *contestants)
    harness.console().print(harness.table("operators outside of programs", columns, lines))
    harness.write_json(options.json, "eager_operators", rows)


if __name__ == "__main__":
    record.run(main)
