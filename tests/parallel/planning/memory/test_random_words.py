"""What is predicted of programs with random numbers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.parallel.planning.memory.kernel import Kernel
from paramesh.parallel.planning.memory.kernels import kernels_of
from paramesh.parallel.planning.memory.predicted import arguments, passing
from paramesh.parallel.planning.memory.shards import Shards
from paramesh.parallel.planning.memory.tpu.chip import OnChip
from paramesh.parallel.planning.memory.tpu.tables import tables
from paramesh.parallel.search.machine import TARGETS
from paramesh.parallel.search.plan import Given, Plan, Program, find
from type_checks import present

sys.path.insert(0, str(Path(__file__).parents[4] / "benchmarks"))

peers: Any = importlib.import_module("searched.peers")
dropping: Any = importlib.import_module("searched.dropped")

MIB = 1 << 20
SMALL: dict[str, Any] = {
    "d-mlp": lambda: dropping.dropped_mlp(256, 1024, 1, 4096),
    "d-bert": lambda: dropping.dropped_bert(1, 128, 8, 512, 32, 64, 256),
    "d-conv": lambda: dropping.dropped_convolutions(32, 16, (32, 64), 64),
}
SIDE = 512  # a matrix of 1 MiB of Float32, and 2 MiB of the words of its random numbers


def dropped(weights: Any, words: Any, x: Any) -> Any:
    """The gradient of a product of which half is dropped, and its sum."""
    key = jax.random.wrap_key_data(words)

    def loss(weights: Any) -> Any:
        kept = jax.random.bernoulli(key, 0.5, (SIDE, SIDE))
        return jnp.sum(jnp.tanh(jnp.where(kept, x @ weights, 0.0)) @ weights)

    return jax.grad(loss)(weights)


def noisy(weights: Any, words: Any, x: Any) -> Any:
    """The gradient of a sum of products with noise, whose scale is a product too."""
    key = jax.random.wrap_key_data(words)

    def loss(weights: Any) -> Any:
        noise = jax.random.normal(key, (SIDE, SIDE))
        return jnp.sum(jnp.tanh((x @ weights + noise * jnp.exp(x @ weights.T)) @ weights))

    return jax.grad(loss)(weights)


def shapes() -> tuple[Any, ...]:
    matrix = jax.ShapeDtypeStruct((SIDE, SIDE), "float32")
    return matrix, jax.ShapeDtypeStruct((2,), "uint32"), matrix


def planned(target: str, devices: int = 1, step: Callable[..., Any] = dropped) -> Plan:
    closed = jax.make_jaxpr(step)(*shapes())
    rows = NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("d",)), PartitionSpec("d"))
    given = {2: Given(rows, "the test")} if devices > 1 else {}
    program = Program(closed, ("w", "", ""), {0: 0}, given, tuple(range(devices)))
    return find(program, TARGETS[target].of_dtype("float32"), sizes=(devices,))


@pytest.mark.parametrize(("target", "mib"), [("cpu", 2), ("h100", 0), ("v5e", 0)])
def test_words_of_random_numbers_are_kept_by_cpus_alone(target: str, mib: int) -> None:
    plan = planned(target)
    kernels = kernels_of(plan)
    random = {n for n, op in enumerate(plan.problem.graph.operators) if op.name == "random_bits"}
    assert len(random) == 1
    made = [k for k in kernels if k.place in random]
    assert sum(size for k in made for size in k.makes.values()) / MIB == mib
    if mib:
        (kernel,) = made
        assert kernel.passing / MIB == mib  # the loop copies both words in each of its turns
        readers = [k for k in kernels if not k.reads.isdisjoint(kernel.makes)]
        assert len(readers) > 1  # until the gradient has been masked


def test_random_keys_are_outside_of_the_chip_so_that_there_are_tables() -> None:
    plan = planned("v5e")
    kernels = [Kernel(0, makes={(0, ()): 0.0})]
    assert tables(plan, OnChip(kernels, [], 0)) > 0
    graph = plan.problem.graph
    graph.operators[:] = [op for op in graph.operators if op.name != "random_bits"]
    assert tables(plan, OnChip(kernels, [], 0)) == 0


def test_normal_numbers_keep_two_more_words() -> None:
    plan = planned("cpu", step=noisy)
    operators = plan.problem.graph.operators
    sizes = {
        name: sum(
            size
            for kernel in kernels_of(plan)
            if operators[kernel.place].name == name
            for size in kernel.makes.values()
        )
        for name in ("random_bits", "erf_inv")
    }
    assert sizes == {"random_bits": 2 * MIB, "erf_inv": 2 * MIB}


def test_products_by_constants_are_planned_for_gpus() -> None:
    """The gradient of a sum multiplies by ones: a product of one operand ended the prediction."""
    plan = planned("h100")
    products = [op for op in plan.problem.graph.operators if op.name == "dot_general"]
    assert min(len(op.inputs) for op in products) == 1
    assert passing(plan) > 0


def test_each_device_has_the_words_of_its_own_numbers() -> None:
    plan = planned("cpu", 8)
    operators = plan.problem.graph.operators
    sizes = [
        size
        for kernel in kernels_of(plan)
        if operators[kernel.place].name == "random_bits"
        for size in kernel.makes.values()
    ]
    assert sizes == [2 * MIB / 8]


@pytest.mark.parametrize("name", dropping.DROPPED)
@pytest.mark.parametrize("target", ["cpu", "v5e"])
def test_random_numbers_are_not_free(name: str, target: str) -> None:
    """As long as they cost nothing, plans had each device make the numbers of all of them."""
    program = peers.program_of(SMALL[name]())
    plan = find(program, TARGETS[target].of_dtype("float32"), sizes=(8,))
    shards = Shards(plan.problem, plan.solution.choice)
    random = [op for op in plan.problem.graph.operators if op.name == "random_bits"]
    assert random
    assert all(shards.home(op.outputs[0][0]) != (-1,) for op in random)


@pytest.mark.slow
@pytest.mark.parametrize("step", [dropped, noisy])
def test_what_is_predicted_with_random_numbers_is_what_is_compiled(
    step: Callable[..., Any],
) -> None:
    plan = planned("cpu", step=step)
    stage = jax.jit(step, donate_argnums=0).lower(*shapes()).compile()
    said = present(stage.memory_analysis())
    results = said.output_size_in_bytes - said.alias_size_in_bytes
    holds = said.argument_size_in_bytes + said.temp_size_in_bytes + results
    assert holds == pytest.approx(arguments(plan) + passing(plan), rel=0.1)
