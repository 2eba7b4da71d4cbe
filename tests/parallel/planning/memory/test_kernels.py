"""The kernels that a compiler is expected to make, and the order in which they run."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.parallel.planning.memory.kernel import Buffer, Kernel
from paramesh.parallel.planning.memory.kernels import kernels_of
from paramesh.parallel.planning.memory.predicted import (
    early,
    peak,
    rings_last,
    updates_first,
    with_loops_as_one,
)
from paramesh.parallel.planning.memory.tpu.chip import on_chip
from paramesh.parallel.planning.memory.tpu.tables import tables
from paramesh.parallel.planning.memory.tpu.tiles import lanes_filled
from paramesh.parallel.search.graph import live
from paramesh.parallel.search.machine import TARGETS
from paramesh.parallel.search.plan import Given, Plan, Program, find

MIB = 1 << 20


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
    joined = with_loops_as_one(kernels, early)
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


@pytest.mark.parametrize(("target", "mib"), [("v5e", 2.0), ("h100", 1.0)])
def test_images_of_convolutions_lie_in_tiles_of_batch_and_channels_on_tpus(
    target: str, mib: float
) -> None:
    def loss(x: Any, w: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)
        return jnp.tanh(y).sum()

    plan = plan_of(jax.grad(loss), (8, 4, 128, 8), (3, 3, 8, 64), target=target)
    made = {b: n for kernel in kernels_of(plan) for b, n in kernel.makes.items()}
    tensors: Any = plan.problem.graph.tensors
    arrays = {b[0]: n for b, n in made.items() if isinstance(b[0], int)}
    images = {n for t, n in arrays.items() if tensors[t].shape == (8, 4, 128, 64)}
    assert max(images) / MIB == mib


def test_convolutions_of_few_channels_take_the_time_of_128_on_tpus() -> None:
    def loss(x: Any, w: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)
        return jnp.tanh(y).sum()

    plan = plan_of(jax.grad(loss, (0, 1)), (4, 32, 16, 32), (3, 3, 32, 64), target="v5e")
    problem, choice = plan.problem, plan.solution.choice
    operators = problem.graph.operators
    more = [lanes_filled(problem, choice, op) for op in operators if op.inputs]
    # Forward, and the gradients of the image and of the kernel, whose batch takes no lanes.
    assert [one for one in more if one != 1.0] == [128 / 32 * 128 / 64] * 3
    plain = plan_of(lambda x, w: x @ w, (64, 32), (32, 64), target="v5e").problem
    assert lanes_filled(plain, [0] * len(plain.nodes), plain.graph.operators[0]) == 1.0


@pytest.mark.parametrize(("target", "count"), [("cpu", 1), ("h100", 1), ("v5e", 0)])
def test_stacks_of_a_loop_are_there_from_the_beginning(target: str, count: int) -> None:
    def turns(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, row: (jnp.tanh(c @ w), c * row), x[0], x)[1].sum()

    kernels = kernels_of(plan_of(turns, (16, 8, 8), (8, 8), target=target))
    zeros = [buffer for kernel in kernels for buffer in kernel.makes if buffer[0] == "zeros"]
    assert len(zeros) == count
    assert all(buffer in kernels[0].makes for buffer in zeros)


def test_updates_run_as_soon_as_their_gradients_are_there() -> None:
    kernels = chain(("a", (), 4), ("b", (), 4), ("c", (), 4))
    kernels += [Kernel(3 + n, {(made,)}, {(f"new {made}",): 0.0}) for n, made in enumerate("abc")]
    order: list[list[Buffer]] = [list(kernel.makes) for kernel in updates_first(kernels)]
    assert order == [[("a",)], [("new a",)], [("b",)], [("new b",)], [("c",)], [("new c",)]]
    assert peak(kernels) == 12.0
    assert peak(updates_first(kernels)) == 4.0


def held(kernels: list[Kernel], room: float, patience: float = math.inf) -> dict[Any, float]:
    """Bytes of each buffer that are not on the chip."""
    placed = on_chip(kernels, room, patience)
    return {b[0]: n for kernel in placed.kernels for b, n in kernel.makes.items()}


def test_what_has_no_room_on_the_chip_for_as_long_as_it_lives_is_not_there() -> None:
    links = (("long", (), 3.0), ("a", (), 3.0), ("b", ("a",), 2.0), ("c", ("b", "long"), 1.0))
    found = held(chain(*links), 6.0)
    assert found == {"long": 0.0, "a": 0.0, "b": 2.0, "c": 0.0}
    assert not any(held(chain(*links), 8.0).values())


def test_what_is_looked_up_is_computed_for_what_is_looked_up_alone_on_the_cpu() -> None:
    def loss(w: Any, x: Any) -> Any:
        scores = x @ w
        return jnp.take_along_axis(
            scores - scores.max(-1, keepdims=True), jnp.ones((16, 1), int), 1
        )

    for target, kept in (("cpu", False), ("h100", True)):
        plan = plan_of(loss, (8, 64), (16, 8), target=target)
        made = {buffer[0] for kernel in kernels_of(plan) for buffer in kernel.makes}
        (sub,) = (op.outputs[0][0] for op in plan.problem.graph.operators if op.name == "sub")
        assert (sub in made) is kept, target


def test_the_chip_is_for_what_is_read_and_written_most_times_the_root_of_the_bytes() -> None:
    links = (("x", (), 4.0), ("y", (), 2.0), ("z", ("x", "y"), 1.0))
    assert held(chain(*links), 4.0) == {"x": 0.0, "y": 2.0, "z": 1.0}
    again = (*links, ("v", ("y",), 1.0), ("w", ("y",), 1.0))  # twice 2 gains less than 4 times 1.4
    assert held(chain(*again), 4.0) | {"v": 0.0, "w": 0.0} == {
        **{"x": 4.0, "y": 0.0, "z": 0.0, "v": 0.0, "w": 0.0}
    }
    small = (("x", (), 4.0), ("y", (), 1.0), ("z", ("x", "y"), 1.0), ("v", ("y",), 1.0))
    found = held(chain(*small), 4.0)
    assert (found["x"], found["y"]) == (0.0, 1.0)


def test_what_is_not_on_the_chip_is_taken_away_once_and_brought_back_for_later_uses() -> None:
    links = (("x", (), 4.0), ("a", ("x",), 1.0), ("b", (), 1.0), ("c", ("b", "x"), 1.0))
    kernels = chain(*links)
    for kernel in kernels:
        kernel.seconds = 1.0
    placed = on_chip(kernels, 100.0, 0.5)
    assert (placed.brought, placed.taken) == ([4.0], 1)


def test_rings_run_last_if_only_updates_wait_for_them() -> None:
    links = (("g", (), 1), ("w", ("g",), 1), ("new w", ("w",), 0), ("h", ("g",), 1))
    kernels = chain(*links, ("i", ("g",), 1))
    kernels[1].is_ring = True
    assert [k.place for k in rings_last(kernels)] == [0, 3, 4, 1, 2]
    kernels[3].reads.add(("w",))  # an activation waits for it
    assert [k.place for k in rings_last(kernels)] == [0, 1, 2, 3, 4]


def test_what_is_larger_than_the_chip_takes_none_of_its_room() -> None:
    links = (("long", (), 1.0), ("a", (), 1.0), ("b", ("a",), 9.0), ("c", ("long",), 1.0))
    assert held(chain(*links), 8.0) == {"long": 0.0, "a": 0.0, "b": 9.0, "c": 0.0}


def test_what_waits_long_for_its_next_use_is_not_kept_on_the_chip() -> None:
    links = (("x", (), 4.0), ("a", (), 1.0), ("b", ("a",), 1.0), ("c", ("b", "x"), 1.0))
    kernels = chain(*links)
    for kernel in kernels:
        kernel.seconds = 1.0
    for patience, size in ((3.0, 0.0), (1.0, 4.0)):
        found = held(kernels, 100.0, patience)
        assert found["x"] == size
        assert not found["c"]
    kernels[2].reads.add(("x",))  # half of the way
    assert not held(kernels, 100.0, 1.0)["x"]


@pytest.mark.parametrize(
    ("depth", "patience", "size"), [(1, 2.0, 4.0), (1, 9.0, 0.0), (0, 2.0, 0.0)]
)
def test_loops_count_as_five_turns_for_what_waits_for_their_end(
    depth: int, patience: float, size: float
) -> None:
    links = (("x", (), 4.0), ("a", (), 1.0), ("b", ("a",), 1.0), ("c", ("b", "x"), 1.0))
    kernels = chain(*links)
    for kernel, around in zip(kernels, (0, depth, depth, 0), strict=True):
        kernel.seconds, kernel.depth = 0.5, around
    found = held(kernels, 100.0, patience)
    assert found["x"] == size
    assert not found["a"], "what waits inside of the loop waits for one turn"


def test_kernels_of_loops_take_the_time_of_a_turn_and_copies_that_of_sending() -> None:
    def turns(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=64)[0].sum()

    kernels = kernels_of(plan_of(turns, (8, 1024), (1024, 1024), target="v5e"))
    inside = [kernel for kernel in kernels if kernel.loop is not None]
    assert {kernel.depth for kernel in inside} == {1}
    read = 1024 * 1024 * 4 / TARGETS["v5e"].memory_bandwidth
    assert read <= sum(kernel.seconds for kernel in inside) < 4 * read
    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    given = {0: Given(NamedSharding(mesh, PartitionSpec("d")), "the test")}
    shape = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    closed = live(jax.make_jaxpr(jnp.linalg.cholesky)(shape))
    program = Program(closed, ("",), {}, given, tuple(range(8)))
    plan = find(program, TARGETS["v5e"], sizes=(8,))
    gathered = max(one.seconds for one in plan.collectives() if one.kind == "all-gather")
    assert gathered in {kernel.seconds for kernel in kernels_of(plan)}


def test_tables_in_rows_need_the_chip_while_they_are_added_up_on_tpus() -> None:
    def step(table: Any, ids: Any, updates: Any) -> Any:
        return table + jnp.zeros_like(table).at[ids[:, 0].astype(int)].add(jnp.tanh(updates))

    plan = plan_of(step, (4096, 8), (128, 1), (128, 8), target="v5e")
    (scatter,) = (op for op in plan.problem.graph.operators if op.name == "scatter-add")
    made = {b: n for kernel in kernels_of(plan) for b, n in kernel.makes.items()}
    (needed,) = (kernel.on_chip for kernel in kernels_of(plan) if kernel.on_chip)
    assert needed == 4096 * 128 * 4
    updates = scatter.inputs[-1][0]
    assert {n for b, n in made.items() if b[0] == updates} == {128 * 128 * 4}


@pytest.mark.parametrize(
    ("dim", "target", "copies"), [(2, "cpu", 1), (1, "cpu", 1), (0, "cpu", 0), (2, "h100", 0)]
)
def test_what_the_cpu_gathers_for_a_loop_is_copied_once_more_but_along_the_first_dimension(
    dim: int, target: str, copies: int
) -> None:
    def turns(x: Any) -> Any:
        def turn(c: Any, row: Any) -> Any:
            return c + jnp.linalg.cholesky(row), None

        return jax.lax.scan(turn, x[0], x)[0]

    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    spec = PartitionSpec(*("d" if d == dim else None for d in range(3)))
    given = {0: Given(NamedSharding(mesh, spec), "the test")}
    closed = live(jax.make_jaxpr(turns)(jax.ShapeDtypeStruct((8, 16, 16), jnp.float32)))
    program = Program(closed, ("",), {}, given, tuple(range(8)))
    made = [b for k in kernels_of(find(program, TARGETS[target], sizes=(8,))) for b in k.makes]
    assert sum(buffer[0] == "gathered" for buffer in made) == copies


@pytest.mark.parametrize("target", ["cpu", "h100", "v5e"])
def test_what_enters_a_loop_is_gathered_before_it(target: str) -> None:
    def turns(x: Any) -> Any:
        def outer(c: Any, rows: Any) -> Any:
            def inner(d: Any, row: Any) -> Any:
                return d + jnp.linalg.cholesky(row), None

            return jax.lax.scan(inner, c, rows)[0], None

        return jax.lax.scan(outer, x[0, 0], x)[0]

    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    given = {0: Given(NamedSharding(mesh, PartitionSpec(None, None, None, "d")), "the test")}
    closed = live(jax.make_jaxpr(turns)(jax.ShapeDtypeStruct((4, 8, 16, 16), jnp.float32)))
    program = Program(closed, ("",), {}, given, tuple(range(8)))
    plan = find(program, TARGETS[target], sizes=(8,))
    operators = plan.problem.graph.operators
    entering = next(op for op in operators if op.name == "slice of scan")
    (given_tensor, _), (inside, _) = entering.inputs[0], entering.outputs[0]
    kernels = kernels_of(plan)
    copies = [k for k in kernels if any(given_tensor in b[:2] for b in k.makes)]
    assert copies
    assert {kernel.depth for kernel in copies} == {0}
    turned = next(op for op in operators if op.name == "slice of scan" and op is not entering)
    assert turned.inputs[0][0] == inside
    (made,) = (k for k in kernels if operators[k.place] is entering and k not in copies)
    assert made.depth == 1


def test_what_a_ring_goes_over_is_in_memory_and_its_sum_is_there_in_parts() -> None:
    """Weights' gradients over rows that are cut, scattered while they are computed."""

    def step(w: Any, x: Any, y: Any) -> Any:
        return w - jnp.tanh(x).T @ jnp.tanh(y)

    mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
    rows = NamedSharding(mesh, PartitionSpec("d"))
    given = {n: Given(rows, "the test") for n in range(3)}
    shapes = ((1024, 1024), (65536, 1024), (65536, 1024))
    closed = live(jax.make_jaxpr(step)(*[jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]))
    program = Program(closed, ("w", "", ""), {0: 0}, given, tuple(range(8)))
    kernels = kernels_of(find(program, TARGETS["v5e"], sizes=(8,)))
    (ring,) = (kernel for kernel in kernels if kernel.is_ring)
    made = {b: n for kernel in kernels for b, n in kernel.makes.items()}
    assert [made[b] for b in ring.reads] == [65536 // 8 * 1024 * 2] * 2  # in bfloat16
    assert sum(ring.makes.values()) + ring.passing == 2 * 1024 // 8 * 1024 * 4


@pytest.mark.parametrize(
    ("rows", "target", "mb"),
    [  # as compiled for a v5e: of 400,000 rows there is no copy
        (200_000, "v5e", 102.4),
        (400_000, "v5e", 0.0),
        (200_000, "h100", 0.0),
    ],
)
def test_tables_of_narrow_rows_are_copied_row_by_row_before_rows_are_looked_up_on_tpus(
    rows: int, target: str, mb: float
) -> None:
    def looked_up(table: Any, ids: Any) -> Any:
        return jnp.take(table, ids[:, 0].astype(int), axis=0, mode="clip").sum()

    kernels = kernels_of(plan_of(looked_up, (rows, 8), (64, 1), target=target))
    made = {b: n for kernel in kernels for b, n in kernel.makes.items() if b[0] == "rows"}
    assert sum(made.values()) / 1e6 == mb


def test_products_that_elementwise_work_goes_on_with_are_rounded_before_they_are_written() -> None:
    def loss(x: Any, w: Any, bias: Any, v: Any) -> Any:
        return jnp.tanh((x @ w + bias) @ v)

    kernels = kernels_of(plan_of(loss, (512, 256), (256, 128), (128,), (128, 128), target="v5e"))
    first = next(kernel for kernel in kernels if kernel.makes)
    assert list(first.makes.values()) == [512 * 128 * 2]


def test_tables_are_counted_where_something_is_not_on_the_chip() -> None:
    def update(w: Any, m: Any, g: Any) -> Any:
        m = 0.9 * m + g
        return w - m, m

    closed = live(jax.make_jaxpr(update)(*[jax.ShapeDtypeStruct((64, 128), jnp.float32)] * 3))
    plan = find(
        Program(closed, ("w", "m", "g"), {0: 0, 1: 1}, {}, (0,)), TARGETS["v5e"], sizes=(1,)
    )
    kernels = [Kernel(0, set(), {("x",): 4.0}, seconds=1.0)]
    inside, outside = on_chip(kernels, 8.0), on_chip(kernels, 2.0)
    assert tables(plan, inside) == 0.0
    # two come and go, what is added comes, and the update has one for its two results
    assert tables(plan, outside) == pytest.approx(32_256 * (2 * 2 + 1 + 2 / 3))
    kernels[0].is_ring = True
    more = tables(plan, on_chip(kernels, 2.0)) - tables(plan, outside)
    assert more == pytest.approx(8 * 32_256)
