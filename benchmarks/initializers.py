"""How fast large arrays are initialized, and networks: paramesh, jax.random, numpy and torch.

`python benchmarks/initializers.py [--millions 67] [--dtype bfloat16]` computes one large array.
Every figure is the median of several runs after a first one that compiles; paramesh and its peers
take turns, results are waited for and freed. Peers that are not installed, or have no such kind,
are left out. Ratios are paramesh's speed divided by the peer's.

`python benchmarks/initializers.py --start` computes all parameters of a network, each time in a
fresh process and from the first line after the imports, so compiling counts. Ratios are the peer's
time divided by paramesh's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

import record
from paramesh.dtype import to_dtype
from paramesh.initializer.random import Normal, TruncatedNormal, Uniform
from paramesh.initializer.structured import One, Zero
from paramesh.sampling.recipe import Initializer, Recipe, compute_many

SPREAD = 1.0
KINDS: dict[str, Initializer] = {
    "uniform": Uniform(SPREAD),
    "normal": Normal(SPREAD),
    "truncated_normal": TruncatedNormal(SPREAD, 0.0, -2.0, 2.0),
    "zeros": Zero(),
}
DTYPES = ("float32", "bfloat16", "float16", "float64")
Shape = tuple[int, ...]
Sampler = Callable[[int], Any]


def ours(kind: str, shape: Shape, dtype: str) -> Sampler:
    wanted = to_dtype(jnp.dtype(dtype))
    return lambda n: Recipe(KINDS[kind], (0, n), shape, wanted).compute().block_until_ready()


def of_jax(kind: str, shape: Shape, dtype: str) -> Sampler | None:
    if dtype == "float64":
        return None  # needs the 64-bit mode for the whole process

    def draw(key: Any) -> jax.Array:
        if kind == "zeros":
            return jnp.zeros(shape, dtype)
        if kind == "uniform":
            return jax.random.uniform(key, shape, dtype, -SPREAD, SPREAD)
        if kind == "normal":
            return jax.random.normal(key, shape, dtype) * SPREAD
        return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * SPREAD

    program = jax.jit(draw)
    return lambda n: program(jax.random.key(n)).block_until_ready()


def of_numpy(kind: str, shape: Shape, dtype: str) -> Sampler | None:
    if dtype not in ("float32", "float64"):
        return None
    if kind == "zeros":  # np.zeros leaves the work to the first use
        return lambda n: np.full(shape, 0, dtype)
    if kind == "uniform":
        return lambda n: np.random.default_rng(n).random(shape, dtype) * 2 - 1
    if kind == "normal":
        return lambda n: np.random.default_rng(n).standard_normal(shape, dtype)
    return None


def of_torch(kind: str, shape: Shape, dtype: str) -> Sampler | None:
    try:
        import torch
    except ImportError:
        return None
    wanted = getattr(torch, dtype)

    def draw(n: int) -> Any:
        generator = torch.Generator().manual_seed(n)
        array = torch.empty(shape, dtype=wanted)
        if kind == "zeros":
            return array.zero_()
        if kind == "uniform":
            return array.uniform_(-SPREAD, SPREAD, generator=generator)
        if kind == "normal":
            return array.normal_(0.0, SPREAD, generator=generator)
        return torch.nn.init.trunc_normal_(array, 0.0, SPREAD, -2.0, 2.0, generator=generator)

    return draw


PEERS = {"jax.random": of_jax, "numpy": of_numpy, "torch": of_torch}


def speeds(runs: dict[str, Sampler], size: int, repeats: int) -> dict[str, float]:
    """Millions of values per second of each, measured in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(turn)  # the result is freed before the clock starts again
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: size / statistics.median(taken) / 1e6 for name, taken in times.items()}


def large_arrays(options: argparse.Namespace) -> None:
    columns = 8192
    shape = (max(1, round(options.millions * 1e6 / columns)), columns)
    size = shape[0] * shape[1]
    device = jax.devices()[0].device_kind
    print(f"{size / 1e6:.0f} million {options.dtype} of shape {shape} on {device}")
    print(f"{'':18}{'paramesh':>10}" + "".join(f"{p:>22}" for p in PEERS) + "   (M values/s)")
    for kind in KINDS:
        runs = {"paramesh": ours(kind, shape, options.dtype)}
        for peer, make in PEERS.items():
            run = make(kind, shape, options.dtype)
            if run is not None:
                runs[peer] = run
        found = speeds(runs, size, options.repeats)
        line = f"{kind:18}{found['paramesh']:10.0f}"
        for peer in PEERS:
            if peer in found:
                line += f"{found[peer]:12.0f} ({found['paramesh'] / found[peer]:5.1f} x)"
            else:
                line += f"{'-':>22}"
        print(line, flush=True)


def network(name: str) -> list[tuple[str, Shape]]:
    """Kinds and shapes of all parameters: 200 layers of 32 x 32, or a transformer of 4 layers."""
    if name == "layers":
        return [("normal", (32, 32)), ("zeros", (32,))] * 200
    width, hidden = 512, 2048
    parts = [("normal", (8192, width)), ("normal", (256, width))]
    for _ in range(4):
        parts += [("normal", (width, width)), ("zeros", (width,))] * 4
        parts += [("normal", (hidden, width)), ("zeros", (hidden,))]
        parts += [("normal", (width, hidden)), ("zeros", (width,))]
        parts += [("ones", (width,)), ("zeros", (width,))] * 2
    return parts


def together(parts: list[tuple[str, Shape]]) -> Any:
    kinds = {**KINDS, "ones": One()}
    recipes = [Recipe(kinds[k], (0, n), s, to_dtype("float32")) for n, (k, s) in enumerate(parts)]
    return compute_many(recipes)


def by_jax(parts: list[tuple[str, Shape]], seed: Any) -> Any:
    split = jax.random.split(seed, len(parts))
    fill = {"zeros": jnp.zeros, "ones": jnp.ones}
    return [
        jax.random.normal(split[n], s) * SPREAD if k == "normal" else fill[k](s)
        for n, (k, s) in enumerate(parts)
    ]


def in_one_jit(parts: list[tuple[str, Shape]]) -> Any:
    return jax.jit(lambda seed: by_jax(parts, seed))(jax.random.key(0))


STARTS: dict[str, Callable[[list[tuple[str, Shape]]], Any]] = {
    "paramesh": together,
    "jax.random, one call each": lambda parts: by_jax(parts, jax.random.key(0)),
    "jax.random, one jit": in_one_jit,
}


def one_start(name: str, way: str) -> None:
    """What a fresh process does: print the seconds and how many programs were compiled."""
    compiled = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    parts = network(name)
    jax.devices()
    start = time.perf_counter()
    jax.block_until_ready(STARTS[way](parts))
    print(time.perf_counter() - start, len(compiled))


def starts(repeats: int) -> None:
    print(f"{'':14}{'':28}{'seconds':>9}{'programs':>10}{'ratio':>9}")
    for name in ("layers", "transformer"):
        taken: dict[str, list[float]] = {way: [] for way in STARTS}
        programs: dict[str, str] = {}
        for _ in range(repeats):
            for way in STARTS:
                command = [sys.executable, __file__, "--one-start", name, way]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                seconds, programs[way] = printed.split()
                taken[way].append(float(seconds))
        mine = statistics.median(taken["paramesh"])
        for way, times in taken.items():
            middle = statistics.median(times)
            ratio = "" if way == "paramesh" else f"{middle / mine:7.1f} x"
            print(f"{name:14}{way:28}{middle:9.2f}{programs[way]:>10}{ratio:>9}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--millions", type=float, default=67.108864, help="values per array")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--start", action="store_true", help="start networks instead")
    parser.add_argument("--one-start", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_start:
        one_start(*options.one_start)
    elif options.start:
        starts(options.repeats)
    else:
        large_arrays(options)


if __name__ == "__main__":
    record.run(main, variants=["--start"])
