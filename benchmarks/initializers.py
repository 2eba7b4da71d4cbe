"""How fast large arrays are initialized: paramesh beside jax.random, numpy and torch.

Run `python benchmarks/initializers.py [--millions 67]`. Every line is the median of several runs
after a first one that compiles; arrays are float32, results are waited for and freed. Peers that
are not installed are left out. Ratios are paramesh's speed divided by the peer's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.distributions import Normal, TruncatedNormal, Uniform
from paramesh.dtype import float32
from paramesh.recipe import Initializer, Recipe

SPREAD = 1.0
KINDS: dict[str, Initializer] = {
    "uniform": Uniform(SPREAD),
    "normal": Normal(SPREAD),
    "truncated_normal": TruncatedNormal(SPREAD, 0.0, -2.0, 2.0),
}


def ours(kind: str, shape: tuple[int, ...]) -> Callable[[int], Any]:
    return lambda n: Recipe(KINDS[kind], (0, n), shape, float32).compute().block_until_ready()


def of_jax(kind: str, shape: tuple[int, ...]) -> Callable[[int], Any]:
    def draw(key: Any) -> jax.Array:
        if kind == "uniform":
            return jax.random.uniform(key, shape, jnp.float32, -SPREAD, SPREAD)
        if kind == "normal":
            return jax.random.normal(key, shape, jnp.float32) * SPREAD
        return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32) * SPREAD

    program = jax.jit(draw)
    return lambda n: program(jax.random.key(n)).block_until_ready()


def of_numpy(kind: str, shape: tuple[int, ...]) -> Callable[[int], Any] | None:
    if kind == "uniform":
        return lambda n: np.random.default_rng(n).random(shape, np.float32) * 2 - 1
    if kind == "normal":
        return lambda n: np.random.default_rng(n).standard_normal(shape, np.float32)
    return None


def of_torch(kind: str, shape: tuple[int, ...]) -> Callable[[int], Any] | None:
    try:
        import torch
    except ImportError:
        return None

    def draw(n: int) -> Any:
        generator = torch.Generator().manual_seed(n)
        array = torch.empty(shape)
        if kind == "uniform":
            return array.uniform_(-SPREAD, SPREAD, generator=generator)
        if kind == "normal":
            return array.normal_(0.0, SPREAD, generator=generator)
        return torch.nn.init.trunc_normal_(array, 0.0, SPREAD, -2.0, 2.0, generator=generator)

    return draw


PEERS = {"jax.random": of_jax, "numpy": of_numpy, "torch": of_torch}


def speed(run: Callable[[int], Any], size: int, repeats: int) -> float:
    """Millions of values per second."""
    run(0)
    times = []
    for n in range(1, repeats + 1):
        start = time.perf_counter()
        run(n)  # the result is freed before the clock starts again
        times.append(time.perf_counter() - start)
    return size / statistics.median(times) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=67.108864, help="values per array")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    columns = 8192
    shape = (max(1, round(options.millions * 1e6 / columns)), columns)
    size = shape[0] * shape[1]
    print(f"{size / 1e6:.0f} million float32 of shape {shape} on {jax.devices()[0].device_kind}")
    print(f"{'':18}{'paramesh':>10}" + "".join(f"{p:>22}" for p in PEERS) + "   (M values/s)")
    for kind in KINDS:
        mine = speed(ours(kind, shape), size, options.repeats)
        line = f"{kind:18}{mine:10.0f}"
        for peer in PEERS.values():
            run = peer(kind, shape)
            if run is None:
                line += f"{'-':>22}"
                continue
            theirs = speed(run, size, options.repeats)
            line += f"{theirs:12.0f} ({mine / theirs:5.1f} x)"
        print(line, flush=True)


if __name__ == "__main__":
    main()
