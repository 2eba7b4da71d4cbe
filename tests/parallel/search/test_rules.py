"""The rules of the search: each strategy that a rule allows sends what the rule says, no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh

from compiled_collectives import collectives
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, with_custom_partitioning
from paramesh.parallel.search.apply import Shower, applied
from paramesh.parallel.search.graph import live
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED, SUM, sent
from search_cases import problem
from type_checks import present

SIZES = (8,)


def rows(x: Any) -> Any:
    return jnp.abs(x * 10).astype(np.int32)


def pooled(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def convolved(x: Any, w: Any, groups: int = 1) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


#: name -> (function of one equation that counts, shapes of its operands).
CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "dot_general": (lambda x, y: lax.dot(x, y), ((16, 8), (8, 24))),
    "dot_general of batches": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), ((8, 8, 8),) * 2),
    "conv_general_dilated": (convolved, ((8, 4, 4, 8), (3, 3, 8, 16))),
    "conv_general_dilated in groups": (
        lambda x, w: convolved(x, w, 8),
        ((8, 4, 4, 8), (3, 3, 1, 16)),
    ),
    "gather": (lambda t, i: jnp.take(t, rows(i), axis=0, mode="clip"), ((64, 8), (16,))),
    "scatter-add": (
        lambda t, u, i: jnp.asarray(t).at[rows(i)].add(u, mode="drop"),
        ((64, 8), (16, 8), (16,)),
    ),
    "reduce_sum": (lambda x: x.sum(0), ((8, 16),)),
    "reduce_max": (lambda x: x.max(1), ((8, 16),)),
    "argmax": (lambda x: jnp.argmax(x, 1), ((8, 16),)),
    "broadcast_in_dim": (lambda x: jnp.broadcast_to(x[:, None], (8, 8, 16)), ((8, 16),)),
    "transpose": (lambda x: x.T, ((8, 16),)),
    "reshape that splits": (lambda x: x.reshape(8, 8, 2), ((8, 16),)),
    "reshape that joins": (lambda x: x.reshape(64, 2), ((8, 8, 2),)),
    "tile": (lambda x: jnp.tile(x, (1, 8)), ((8, 4),)),
    "tile of one element": (lambda x: jnp.tile(x, (16, 1)), ((1, 8),)),
    "stack": (lambda x, y: jnp.stack([x, y], 1), ((8, 16), (8, 16))),
    "unstack": (lambda x: jnp.unstack(x, axis=1)[1], ((8, 2, 16),)),
    "squeeze": (lambda x: lax.squeeze(x, (1,)), ((8, 1, 16),)),
    "expand_dims": (lambda x: lax.expand_dims(x, (1,)), ((8, 16),)),
    "reduce_min": (lambda x: x.min(0), ((8, 16),)),
    "reduce_prod": (lambda x: x.prod(1), ((8, 16),)),
    "reduce_and": (lambda x: (x > 0).all(0), ((8, 16),)),
    "reduce_or": (lambda x: (x > 0).any(1), ((8, 16),)),
    "argmin": (lambda x: jnp.argmin(x, 0), ((8, 16),)),
    "scatter": (
        lambda t, u, i: jnp.asarray(t).at[rows(i)].set(u, mode="drop"),
        ((64, 8), (16, 8), (16,)),
    ),
    "scatter-max": (
        lambda t, u, i: jnp.asarray(t).at[rows(i)].max(u, mode="drop"),
        ((64, 8), (16, 8), (16,)),
    ),
    "scatter-min": (
        lambda t, u, i: jnp.asarray(t).at[rows(i)].min(u, mode="drop"),
        ((64, 8), (16, 8), (16,)),
    ),
    "scatter-mul": (
        lambda t, u, i: jnp.asarray(t).at[rows(i)].multiply(u, mode="drop"),
        ((64, 8), (16, 8), (16,)),
    ),
    "split": (lambda x: jnp.split(x, 2, 1)[1], ((8, 16),)),
    "top_k": (lambda x: lax.top_k(x, 4)[0], ((8, 16),)),
    "fft": (lambda x: jnp.abs(jnp.fft.fft(x, axis=1)), ((8, 8, 4),)),
    "fft of two axes": (lambda x: jnp.fft.rfft2(x).real, ((8, 4, 4),)),
    "dynamic_slice": (
        lambda x, i: lax.dynamic_slice(x, (0, rows(i)[0]), (8, 4)),
        ((8, 16), (1,)),
    ),
    "dynamic_update_slice": (
        lambda x, y, i: lax.dynamic_update_slice(x, y, (0, rows(i)[0])),
        ((8, 16), (8, 4), (1,)),
    ),
    "cumprod": (lambda x: lax.cumprod(x, 1), ((8, 8),)),
    "cummax": (lambda x: lax.cummax(x, 0), ((8, 8),)),
    "cummin": (lambda x: lax.cummin(x, 1), ((8, 8),)),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), ((8, 8),)),
    "concatenate": (lambda x, y: jnp.concatenate([x, y], 1), ((8, 8), (8, 16))),
    "slice": (lambda x: x[:, 1:5], ((8, 8),)),
    "pad": (lambda x: jnp.pad(x, ((0, 0), (1, 2))), ((8, 8),)),
    "sort": (lambda x: jnp.sort(x, 1), ((8, 8),)),
    "cumsum": (lambda x: jnp.cumsum(x, 1), ((8, 8),)),
    "rev": (lambda x: x[:, ::-1], ((8, 8),)),
    "reduce_window": (pooled, ((8, 8, 8, 8),)),
    "select_and_scatter_add": (jax.grad(lambda x: pooled(x).sum()), ((8, 8, 8, 8),)),
    "elementwise": (lambda x, y: jnp.tanh(x) * y + 1, ((8, 16), (8, 16))),
}


def choices(found: Problem) -> list[list[int]]:
    """For each strategy of each operator, a choice in which all operands come as it wants them."""
    made: list[list[int]] = []
    for number, node in enumerate(found.nodes):
        if not node.operators:
            continue
        for chosen in range(len(node.strategies)):
            choice = [_whole(other.strategies) for other in found.nodes]
            choice[number] = chosen
            for edge in found.edges:
                maker = found.nodes[edge.maker]
                start = found.edge_specs(edge, choice)[0]
                if SUM not in start:  # an output that nobody adds up stays as it is made
                    for use in edge.uses:
                        if found.nodes[use.node].name == "sum":
                            homes = found.nodes[use.node].strategies
                            specs = [found.spec(s, use.factors) for s in homes]
                            choice[use.node] = specs.index(start)
                users = [use for use in edge.uses if use.node == number]
                if users and not maker.operators:
                    wanted = found.spec(node.strategies[chosen], users[0].factors)
                    specs = [found.spec(s, edge.factors) for s in maker.strategies]
                    choice[edge.maker] = specs.index(wanted)
            made.append(choice)
    return made


def _whole(strategies: list[Any]) -> int:
    return strategies.index((REPLICATED,) * len(SIZES))


def predicted(found: Problem, choice: list[int]) -> float:
    total = 0.0
    for node, chosen in zip(found.nodes, choice, strict=True):
        total += sum(one.nbytes for one in (node.sums[chosen] if node.sums else ()))
    for edge in found.edges:
        start, ends = found.edge_specs(edge, choice)
        nbytes = found.graph.tensors[edge.tensor].nbytes
        total += sum(s.nbytes for end in set(ends) for s in sent(found.machine, start, end, nbytes))
    return total


#: In each run of the tests; the others have rules of the same kind.
SAMPLE = (
    "dot_general",
    "conv_general_dilated",
    "gather",
    "scatter-add",
    "reduce_sum",
    "reshape that joins",
    "tile",
    "stack",
    "scatter-max",
    "sort",
    "select_and_scatter_add",
    "elementwise",
)


@pytest.mark.parametrize(
    "name", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_each_strategy_sends_what_its_rule_says(name: str) -> None:
    fn, shapes = CASES[name]
    given = [np.random.default_rng(0).normal(size=s).astype(np.float32) for s in shapes]
    closed = live(jax.make_jaxpr(fn)(*given))
    found = problem(closed, SIZES)
    want = fn(*given)
    mesh = Mesh(np.array(jax.devices()[:8]), ("all",))
    shower = Shower(SIZES, mesh)
    cuts = 0
    for choice in choices(found):
        cuts += any(found.nodes[n].strategies[k] != (REPLICATED,) for n, k in enumerate(choice))
        new = rewritten(
            applied(closed, found, choice, mesh, {}), has_own_rule, with_custom_partitioning
        )
        places = tuple(
            shower.sharding(found.input_spec(n, choice), np.ndim(value))
            for n, value in enumerate(given)
        )
        program = jax.jit(jaxpr_as_fun(new), in_shardings=places).lower(*given).compile()
        np.testing.assert_allclose(np.asarray(program(*given)[0]), want, rtol=1e-4, atol=1e-5)
        sends = collectives(present(program.as_text()))
        strategies = [found.nodes[n].strategies[k] for n, k in enumerate(choice)]
        assert sum(sends.values()) == pytest.approx(predicted(found, choice)), (strategies, sends)
    assert cuts
    assert SUM not in {k for node in found.nodes for s in node.strategies for k in s}
