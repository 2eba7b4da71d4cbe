"""What is predicted of networks that nothing was fitted to (`benchmarks/searched/unseen.py`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh

from compiled_collectives import collectives
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, with_custom_partitioning
from paramesh.parallel.planning.memory.predicted import arguments, passing
from paramesh.parallel.search.apply import Shower, applied
from paramesh.parallel.search.machine import TARGETS
from paramesh.parallel.search.plan import find
from type_checks import present

sys.path.insert(0, str(Path(__file__).parents[4] / "benchmarks"))

peers: Any = importlib.import_module("searched.peers")
unseen: Any = importlib.import_module("searched.unseen")

SMALL: dict[str, Any] = {
    "translator": lambda: unseen.translator(1, 64, 8, 256, 512, 16, (16, 8)),
    "vit": lambda: unseen.vit(1, 64, 8, 16, 32, 8, 16),
    "llama": lambda: unseen.llama(2, 64, 8, 4, 128, 512, 16, 32),
    "two-towers": lambda: unseen.two_towers(4096, 2048, 16, 256, 4, (64, 32)),
    "group-mlp": lambda: unseen.group_mlp(2, 128, 256, 8, 256),
    "speech": lambda: unseen.speech(16, 20, 16, (32, 64), 64, 16),
}


def test_each_network_has_a_small_one_here() -> None:
    assert SMALL.keys() == unseen.UNSEEN.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_what_is_predicted_is_what_is_compiled(name: str) -> None:
    program = peers.program_of(SMALL[name]())
    plan = find(program, TARGETS["cpu"].of_dtype("float32"), sizes=(8,))
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    new = applied(program.closed, plan.problem, plan.solution.choice, mesh, program.tied)
    new = rewritten(new, has_own_rule, with_custom_partitioning)
    avals = [var.aval for var in program.closed.jaxpr.invars]
    places = [
        Shower((8,), mesh).sharding(plan.input_spec(n), len(aval.shape))
        for n, aval in enumerate(avals)
    ]
    stage = (
        jax.jit(
            jaxpr_as_fun(new),
            donate_argnums=tuple(sorted(program.tied.values())),
            in_shardings=tuple(places),
            out_shardings=[None, *(places[program.tied[n]] for n in sorted(program.tied))],
        )
        .lower(*[jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals])
        .compile()
    )
    sends = sum(collectives(present(stage.as_text())).values())
    assert sends == pytest.approx(sum(plan.sent().values()), rel=0.01, abs=64)
    said = present(stage.memory_analysis())
    results = said.output_size_in_bytes - said.alias_size_in_bytes
    holds = said.argument_size_in_bytes + said.temp_size_in_bytes + results
    assert holds == pytest.approx(arguments(plan) + passing(plan), rel=0.25)
