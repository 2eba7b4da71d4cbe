"""The search for layouts: exact, and what it predicts is what XLA compiles."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from compiled_collectives import collectives
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, with_custom_partitioning
from paramesh.parallel.search.apply import Shower, applied
from paramesh.parallel.search.bound import Bound
from paramesh.parallel.search.machine import Target, meshes
from paramesh.parallel.search.memory import live_bytes, liveness
from paramesh.parallel.search.model import Model
from paramesh.parallel.search.plan import find
from paramesh.parallel.search.problem import Problem, lifted, spec_on
from paramesh.parallel.search.resharding import REPLICATED, SUM, sent, steps
from paramesh.parallel.search.solve import NoPlanFitsError, solve
from search_cases import FAST, NETWORKS, arguments, problem, program, table, tied
from type_checks import present


def devices(sizes: tuple[int, ...]) -> Mesh:
    names = tuple(f"d{axis}" for axis in range(len(sizes)))
    return Mesh(np.array(jax.devices()[:8]).reshape(sizes), names)


def predicted(found: Problem, choice: list[int]) -> dict[str, float]:
    totals: dict[str, float] = {}
    sends: list[tuple[str, float]] = []
    for node, chosen in zip(found.nodes, choice, strict=True):
        for one in node.sums[chosen] if node.sums else ():
            sends.append((one.kind, one.nbytes * node.times))
    for edge in found.edges:
        start, ends = found.edge_specs(edge, choice)
        nbytes = found.graph.tensors[edge.tensor].nbytes
        for end in set(ends):
            sends += [
                (s.kind, s.nbytes * edge.times) for s in sent(found.machine, start, end, nbytes)
            ]
    for kind, nbytes in sends:
        totals[kind] = totals.get(kind, 0.0) + nbytes
    return totals


def brute(found: Problem) -> float:
    """The least cost of all choices, by trying them."""
    ways = [range(len(node.strategies)) for node in found.nodes]
    return min(found.seconds(choice) for choice in itertools.product(*ways))


SMALL: dict[str, tuple[Any, tuple[Any, ...], tuple[int, ...]]] = {
    "a product": (lambda w, x: jnp.mean((x @ w) ** 2), ((16, 8), (8, 16)), (2, 2)),
    "gradients of a product": (
        jax.grad(lambda w, x: jnp.sum(x @ w)),
        ((16, 8), (8, 16)),
        (4,),
    ),
    "gradients of a table": (
        jax.grad(lambda t, x: table({"t": t}, x.astype(np.int32)[:, 0])),
        ((64, 8), (16, 1)),
        (4,),
    ),
    "tied weights": (lambda a, x: tied({"a": a}, x), ((16, 8), (16, 8)), (8,)),
}


def random_problem(name: str, seed: int) -> Problem:
    """A small problem on a machine whose figures are drawn, with drawn costs of nodes."""
    fn, shapes, sizes = SMALL[name]
    rng = np.random.default_rng(seed)
    figures = (10 ** rng.uniform(low, high) for low, high in ((9, 13), (8, 12), (7, 11)))
    flops, memory, link = figures
    target = Target("drawn", flops, memory, link, link / 9, 10 ** rng.uniform(-9, -6))
    closed = jax.make_jaxpr(fn)(*[np.zeros(shape, np.float32) for shape in shapes])
    found = problem(closed, sizes, target)
    for node in found.nodes:
        node.seconds = node.seconds + rng.uniform(0, 2e-6, len(node.seconds))
    return found


def assert_exact(name: str, seed: int) -> None:
    found = random_problem(name, seed)
    best = brute(found)
    for prune in (True, False):
        solution = solve(found, radius=None, prune=prune)
        assert solution.seconds == pytest.approx(best, rel=1e-6)
        assert found.seconds(solution.choice) == pytest.approx(solution.seconds, rel=1e-9)
        assert not prune or solution.low <= best * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SMALL)
def test_a_search_finds_what_trying_all_finds(name: str, seed: int) -> None:
    assert_exact(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_searches_of_many_drawn_machines_find_what_trying_all_finds(name: str) -> None:
    for seed in range(3, 53):
        assert_exact(name, seed)


@pytest.mark.parametrize("seed", range(3))
def test_under_a_limit_a_search_finds_what_trying_all_finds(seed: int) -> None:
    found = random_problem("gradients of a product", seed)
    live = liveness(found)
    ways = [range(len(node.strategies)) for node in found.nodes]
    costs = [
        (max(live_bytes(found, list(choice), live)), found.seconds(choice))
        for choice in itertools.product(*ways)
    ]
    least, most = min(costs)[0], max(costs)[0]
    limit = least + 0.3 * (most - least)
    best = min(cost for memory, cost in costs if memory <= limit)
    solution = solve(found, limit, radius=None)
    assert solution.seconds == pytest.approx(best, rel=1e-6)
    assert max(live_bytes(found, solution.choice, live)) <= limit * (1 + 1e-9)
    with pytest.raises(NoPlanFitsError, match="holds less than"):
        solve(found, least * 0.99, radius=None)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8,), (2, 4)])
def test_what_looks_alike_is_decided_alike_and_nothing_is_lost(sizes: tuple[int, ...]) -> None:
    def deep(w: Any, x: Any) -> Any:
        for n in range(6):
            x = x + jnp.tanh(x @ w[2 * n]) @ w[2 * n + 1]
        return jnp.mean(x**2)

    weights = [np.zeros((64, 128) if n % 2 == 0 else (128, 64), np.float32) for n in range(12)]
    closed = jax.make_jaxpr(jax.value_and_grad(deep))(weights, np.zeros((64, 64), np.float32))
    found = problem(closed, sizes)
    together, apart = solve(found), solve(found, radius=None)
    assert len(Model(found).classes) < 0.7 * len(found.nodes)
    assert together.seconds == pytest.approx(apart.seconds, rel=1e-6)


def test_a_bound_never_drops_the_best_choice() -> None:
    found = random_problem("gradients of a product", 7)
    model = Model(found, None)
    bound = Bound(model)
    bound.run(rounds=3)
    best = brute(found)
    assert bound.low <= best * (1 + 1e-9) <= bound.best * (1 + 2e-9)
    ways = [np.flatnonzero(model.alive[c]).tolist() for c in model.classes]
    left = min(found.seconds(choice) for choice in itertools.product(*ways))
    assert left == pytest.approx(best, rel=1e-9)


RUNS = [("mlp", (8,)), ("attention", (2, 2, 2)), ("layers in a scan", (2, 4)), ("images", (8,))]
MORE_RUNS = [
    (name, sizes)
    for name in NETWORKS
    for sizes in ((8,), (2, 4), (2, 2, 2))
    if (name, sizes) not in RUNS
]


def assert_runs(name: str, sizes: tuple[int, ...]) -> None:
    """A plan gives the numbers of one device, and sends what the model says."""
    step = program(name)
    found = problem(step.closed, sizes, FAST, step.tied)
    choice = solve(found).choice
    mesh = devices(sizes)
    new = rewritten(
        applied(step.closed, found, choice, mesh, step.tied), has_own_rule, with_custom_partitioning
    )
    shower = Shower(sizes, mesh)
    given = arguments(name)
    places = [
        shower.sharding(found.input_spec(n, choice), np.ndim(value))
        for n, value in enumerate(given)
    ]
    back = [places[step.tied[n]] if n in step.tied else None for n in range(len(step.tied) + 1)]
    compiled = (
        jax.jit(jaxpr_as_fun(new), in_shardings=tuple(places), out_shardings=back)
        .lower(*given)
        .compile()
    )
    assert any(not place.is_fully_replicated for place in places)
    got = compiled(*[jax.device_put(value, p) for value, p in zip(given, places, strict=True)])
    want = jax.jit(jaxpr_as_fun(step.closed))(*given)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=1e-5, atol=1e-6)
    expected, sends = (
        sum(predicted(found, choice).values()),
        collectives(present(compiled.as_text())),
    )
    assert sum(sends.values()) == pytest.approx(expected, rel=0.05, abs=64), sends


@pytest.mark.parametrize(("name", "sizes"), RUNS)
def test_a_plan_runs_like_one_device_and_sends_what_is_predicted(
    name: str, sizes: tuple[int, ...]
) -> None:
    assert_runs(name, sizes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes"), MORE_RUNS)
def test_more_plans_run_like_one_device_and_send_what_is_predicted(
    name: str, sizes: tuple[int, ...]
) -> None:
    assert_runs(name, sizes)


def test_steps_are_single_collectives() -> None:
    def kinds(start: tuple[int, ...], end: tuple[int, ...]) -> list[str]:
        return [step.kind for step in steps((2, 4), start, end)]

    assert kinds((0, REPLICATED), (0, REPLICATED)) == []
    assert kinds((REPLICATED, REPLICATED), (0, 1)) == ["slice"]
    assert kinds((0, REPLICATED), (REPLICATED, REPLICATED)) == ["all-gather"]
    assert kinds((SUM, REPLICATED), (REPLICATED, REPLICATED)) == ["all-reduce"]
    assert kinds((SUM, REPLICATED), (1, REPLICATED)) == ["reduce-scatter"]
    assert kinds((0, REPLICATED), (1, REPLICATED)) == ["all-to-all"]
    # Axis 0 is in the larger parts of dimension 0: to gather it alone, the order must change.
    assert kinds((0, 0), (REPLICATED, 0)) == ["collective-permute", "all-gather"]


def test_meshes_are_the_finest_and_hosts_come_first() -> None:
    assert meshes(8) == [(2, 2, 2)]
    assert meshes(6) == [(3, 2)]
    assert meshes(24) == [(3, 2, 4), (6, 2, 2)]
    assert meshes(7) == [(7,)]
    assert meshes(64) == [(2, 2, 16), (2, 4, 8), (4, 4, 4)]
    assert meshes(8, hosts=2) == [(2, 2, 2)]
    assert meshes(32, hosts=2) == [(2, 2, 8), (2, 4, 4)]
    assert meshes(16) == [(2, 2, 4)]
    assert meshes(16, orders=True) == [(2, 2, 4), (2, 4, 2), (4, 2, 2)]
    assert meshes(16, hosts=2, orders=True) == [(2, 2, 4), (2, 4, 2)]


@pytest.mark.parametrize(
    ("axes", "sizes", "spec"),
    [
        (("d0", ("d1", "d2")), (2, 4), (0, 1)),  # d1 and d2 as one axis
        ((("d0", "d1"), "d2"), (2, 4), None),
        ((("d0", "d1"), "d2"), (4, 2), (0, 1)),
        ((None, ("d1", "d2")), (2, 4), (REPLICATED, 1)),
        (("d2", None), (4, 2), (REPLICATED, 0)),  # d0 and d1 as one that replicates
        ((("d1", "d2"), "d0"), (2, 2, 2), (1, 0, 0)),
        ((("d1", "d0"), None), (2, 2, 2), None),
        ((None, None), (8,), (REPLICATED,)),
    ],
)
def test_layouts_on_coarser_meshes(
    axes: tuple[Any, ...], sizes: tuple[int, ...], spec: tuple[int, ...] | None
) -> None:
    mesh = devices((2, 2, 2))
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    assert spec_on(sizes, [d.id for d in mesh.devices.ravel()], sharding, 2) == spec


def test_a_plan_has_names_and_says_what_is_sent() -> None:
    plan = find(program("attention"), FAST)
    assert all(name.rstrip("23") in ("dp", "mp") for name in plan.axes)
    assert sum(one.nbytes for one in plan.collectives()) == pytest.approx(sum(plan.sent().values()))
    for number in range(len(plan.program.names)):
        shape = plan.problem.graph.tensors[plan.problem.graph.inputs[number]].shape
        plan.layout(number).slice_shape(shape)


def test_a_finer_mesh_is_never_worse_and_begins_with_the_coarser_plan() -> None:
    step = program("attention")
    costs = [find(step, FAST, sizes=sizes).seconds for sizes in ((8,), (2, 4), (2, 2, 2))]
    assert costs[0] * (1 + 1e-9) >= costs[1]
    assert costs[1] * (1 + 1e-9) >= costs[2]
    coarse = problem(step.closed, (2, 4), FAST, step.tied)
    fine = problem(step.closed, (2, 2, 2), FAST, step.tied)
    choice = solve(coarse).choice
    # An axis cut in two sends what the whole axis sends, but for the latency of more steps.
    assert fine.seconds(present(lifted(coarse, choice, fine))) == pytest.approx(
        coarse.seconds(choice), rel=0.05
    )


def test_a_search_that_is_out_of_time_gives_the_best_that_is_known() -> None:
    step = program("attention")
    found = problem(step.closed, (2, 4), FAST, step.tied)
    best = solve(found)
    hurried = solve(found, prune=False, time_limit=1e-3, start=best.choice)
    assert hurried.seconds == pytest.approx(best.seconds, rel=1e-9)


def test_a_search_under_a_limit_that_is_out_of_time_says_that_none_was_found() -> None:
    step = program("attention")
    found = problem(step.closed, (2, 4), FAST, step.tied)
    limit = 0.9 * max(live_bytes(found, solve(found).choice, liveness(found)))
    with pytest.raises(NoPlanFitsError, match="no layouts were found"):
        solve(found, limit, time_limit=0.0)


def test_what_has_no_rule_is_replicated_and_listed() -> None:
    def fn(x: Any) -> Any:
        x = jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x)
        x = jax.lax.cond(x[0, 0] > 0, lambda: x + 1, lambda: x)
        return jnp.linalg.cholesky(x @ x.T).sum()

    found = problem(jax.make_jaxpr(fn)(np.zeros((8, 8), np.float32)), (8,))
    assert set(found.graph.unknown) == {"while", "cond", "cholesky"}
    for node in found.nodes:
        if node.name in ("while", "cond", "cholesky"):
            assert node.strategies == [(REPLICATED,)]
