"""The kernels that a compiler is expected to make, and the order in which they run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from paramesh.parallel.planning.kernels import Buffer, Kernel, kernels_of
from paramesh.parallel.planning.predicted import early, peak, with_loops_as_one
from paramesh.parallel.search.graph import live
from paramesh.parallel.search.machine import TARGETS
from paramesh.parallel.search.plan import Plan, Program, find


def plan_of(fn: Any, *shapes: tuple[int, ...], target: str = "cpu") -> Plan:
    """The plan of a program on one device."""
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    closed = live(jax.make_jaxpr(fn)(*args))
    names = tuple(f"x{n}" for n in range(len(shapes)))
    return find(Program(closed, names, {}, {}, (0,)), TARGETS[target], sizes=(1,))


def chain(*links: tuple[str, tuple[str, ...], float]) -> list[Kernel]:
    return [
        Kernel(n, {(own,) for own in reads}, {(made,): size})
        for n, (made, reads, size) in enumerate(links)
    ]


def test_kernels_run_as_soon_as_what_they_read_is_there() -> None:
    kernels = chain(("a", (), 1), ("b", ("a",), 1), ("c", ("b",), 1), ("d", (), 4))
    order: list[list[Buffer]] = [list(kernel.makes) for kernel in early(kernels)]
    assert order == [[("a",)], [("d",)], [("b",)], [("c",)]]


def test_what_is_made_early_is_live_until_it_is_used() -> None:
    links = (("a", (), 3.0), ("b", ("a",), 3.0), ("w", (), 4.0), ("c", ("b", "w"), 1.0))
    kernels = chain(*links)
    assert peak(kernels) == 8.0
    assert peak(early(kernels)) == 10.0


def test_results_take_the_place_only_of_what_they_may() -> None:
    a, b = Kernel(0, makes={("a",): 2.0}), Kernel(1, {("a",)}, {("b",): 2.0})
    assert peak([a, b]) == 4.0
    b.replaces = frozenset([("a",)])
    assert peak([a, b]) == 2.0


def test_a_loop_runs_as_one_and_needs_its_peak_while_it_runs() -> None:
    inside = [
        Kernel(1, {("a",)}, {("t",): 5.0}, loop=(1,)),
        Kernel(2, {("t",)}, {("out",): 1.0}, loop=(1,)),
    ]
    kernels = [Kernel(0, makes={("a",): 1.0}), *inside, Kernel(3, {("out",)}, {("z",): 1.0})]
    joined = with_loops_as_one(kernels)
    assert [list(kernel.makes) for kernel in joined] == [[("a",)], [("out",)], [("z",)]]
    assert joined[1].passing == 5.0


@pytest.mark.parametrize(("target", "copies"), [("cpu", 2), ("h100", 0)])
def test_the_cpu_turns_both_operands_of_the_gradient_of_a_convolution(
    target: str, copies: int
) -> None:
    def loss(w: Any, x: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jnp.sum(
            jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers) ** 2
        )

    plan = plan_of(jax.grad(loss), (3, 3, 8, 16), (4, 8, 8, 8), target=target)
    made = [buffer for kernel in kernels_of(plan) for buffer in kernel.makes]
    assert sum(buffer[0] == "turned" for buffer in made) == copies


def test_stacks_of_a_loop_are_there_from_the_beginning_on_the_cpu() -> None:
    def turns(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, row: (jnp.tanh(c @ w), c * row), x[0], x)[1].sum()

    kernels = kernels_of(plan_of(turns, (16, 8, 8), (8, 8)))
    zeros = [buffer for kernel in kernels for buffer in kernel.makes if buffer[0] == "zeros"]
    assert len(zeros) == 1
    assert zeros[0] in kernels[0].makes
