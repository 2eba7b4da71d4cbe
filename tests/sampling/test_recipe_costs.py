"""What it costs to run the recipes of a network: programs compiled, and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import pytest

from paramesh import nn
from paramesh.dtype import bfloat16, float32
from paramesh.initializer import Constant, HeNormal, Normal, One, TruncatedNormal, Zero, initializer
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.sampling import batched, slices
from paramesh.sampling.recipe import Initializer, Recipe, compute_many

COMPILED = "/jax/core/compile/backend_compile_duration"
_compiled: list[str] = []


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event == COMPILED:
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


def programs(run: Callable[[], Any]) -> int:
    """How many programs XLA compiles for `run`, when paramesh has compiled none before."""
    for cache in (
        batched._row_program,
        batched._fill_program,
        slices._slice_program,
        slices._sharded_program,
    ):
        cache.cache_clear()
    before = len(_compiled)
    run()
    return len(_compiled) - before


class Network(nn.Cell):
    """200 layers of one shape, norms between them, and embeddings of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.CellList([nn.Dense(32, 32) for _ in range(200)])
        self.norms = nn.CellList([nn.LayerNorm((32,)) for _ in range(20)])
        self.words = nn.Embedding(5000, 32)
        self.places = nn.Embedding(300, 32)


def test_a_network_of_many_layers_is_one_program_for_each_kind():
    network = Network()
    kinds = {
        (spec.sample_fn, recipe.dtype)
        for p in network.get_parameters()
        if (recipe := p.recipe) is not None and (spec := recipe._spec()) is not None
    }
    assert len(kinds) == 2  # uniform layers, normal embeddings
    assert programs(network.init_parameters_data) <= len(kinds)
    assert not any(p.has_init for p in network.get_parameters())


@pytest.mark.slow
def test_shapes_and_numbers_of_a_transformer_share_programs():
    shapes = [(512, 512), (2048, 512), (512, 2048), (512,), (8192, 512), (256, 512), (1, 7)]
    kinds: list[Initializer] = [Normal(0.02), HeNormal(), Normal(0.5, 1.0)]
    recipes = [
        Recipe(init, (0, n), shape, float32)
        for n, (init, shape) in enumerate((i, s) for i in kinds for s in shapes)
        if len(shape) > 1
    ]
    recipes += [Recipe(init, (0, 0), s, float32) for init in (Zero(), One()) for s in shapes]
    assert programs(lambda: compute_many(recipes)) == 1
    wide = [Recipe(TruncatedNormal(1.0), (0, n), (n + 1, 3), bfloat16) for n in range(50)]
    assert programs(lambda: compute_many(recipes + wide)) == 2


def test_much_of_one_shape_gets_a_program_of_its_own():
    # Straight into its place: nothing is put together.
    recipes = [Recipe(Normal(1.0), (0, n), (2048, 1024), float32) for n in range(9)]
    assert programs(lambda: compute_many([*recipes, *recipes[:1]])) == 1
    assert batched._row_program.cache_info().currsize == 0


def test_the_state_of_an_optimizer_compiles_nothing():
    params = ParameterTuple(
        [Parameter(initializer("normal", [n, 700]), name=f"w{n}") for n in range(90, 120)]
    )
    moments = [*params.clone("m", "zeros"), *params.clone("v", "zeros")]
    recipes = [m.recipe for m in moments if m.recipe is not None]
    assert len(recipes) == 60
    assert programs(lambda: compute_many(recipes)) == 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="looks at addresses in memory")
def test_arrays_made_together_are_jaxs_own():
    # Memory shared with numpy, or with a table of rows, could not be written by the first step.
    kinds = [Normal(1.0), Constant(3.0), Zero()]
    recipes = [Recipe(init, (0, 0), (n, 64), float32) for init in kinds for n in range(16, 32)]
    step = jax.jit(lambda array: array + 1, donate_argnums=0)
    for array in compute_many(recipes):
        address = array.unsafe_buffer_pointer()
        assert step(array).unsafe_buffer_pointer() == address


PEAK = """
import sys

import jax

from paramesh.dtype import float32
from paramesh.initializer import Constant, Normal, Zero
from paramesh.sampling.recipe import Recipe, compute_many


def status(field):
    with open("/proc/self/status") as lines:
        return 1024 * int(next(l for l in lines if l.startswith(field)).split()[1])


def network(init, shape, count):
    return [Recipe(init, (0, n), shape, float32) for n in range(count)]


makers = {
    "large": lambda: network(Normal(1.0), (2048, 2048), 6) + network(Zero(), (2048, 2048), 2),
    "small": lambda: network(Normal(1.0), (128, 128), 2048),
    "odd": lambda: [r for i in (Normal(1.0), Constant(2.0)) for r in network(i, (1025, 1023), 16)],
}
compute_many([Recipe(Normal(1.0), (0, 0), (1024, 1024), float32)])  # XLA's own memory
recipes = makers[sys.argv[1]]()
before = status("VmRSS")
arrays = compute_many(recipes)
jax.block_until_ready(arrays)
print(status("VmHWM") - before, sum(a.nbytes for a in arrays))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "kind", ["odd", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("large", "small"))]
)
def test_the_peak_of_memory_is_the_arrays_and_little_more(kind):
    peaks, size = [], 0
    for _ in range(3):  # what else the process's threads hold at that moment only adds
        process = subprocess.run([sys.executable, "-c", PEAK, kind], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        peak, size = map(int, process.stdout.split())
        peaks.append(peak)
        assert size >= 127 << 20
        assert size * 0.95 < peak
        if peak < size * 1.15 + (24 << 20):
            return
    pytest.fail(f"{size} bytes of arrays took {peaks}")
