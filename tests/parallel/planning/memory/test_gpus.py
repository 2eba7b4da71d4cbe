"""What is predicted for GPUs, beside what their compiler said (`golden/said_for_h100.json`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import goldens
from compiled_elsewhere import ALL, predicted
from paramesh.parallel.planning.memory.gpu.combining import combined
from paramesh.parallel.planning.memory.gpu.hiding import hiding
from paramesh.parallel.planning.memory.gpu.splitting import WEIGHTS, Product, parts_of
from paramesh.parallel.planning.memory.kernel import Kernel, in_order
from paramesh.parallel.planning.memory.predicted import peak
from paramesh.parallel.search.reassociating import sent_with_others
from paramesh.parallel.search.resharding import SUM
from type_checks import untyped

#: (holds, of that temporary, sends) in bytes, of a device of eight: what `benchmarks/search.py
#: --only compiled --devices h100:8 --meshes 8 --kept FILE` keeps, with jaxlib 0.10.2.
SAID = goldens.load("said_for_h100")
QUICK = ("mlp", "vgg")

AR, AG = ("all-reduce", (0,)), ("all-gather", (0,))


def test_the_compiler_was_asked_about_each_network() -> None:
    assert SAID.keys() == ALL.keys()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ALL]
)
def test_what_is_predicted_is_what_was_compiled(name: str) -> None:
    (holds, sends), said = predicted(name, "h100"), SAID[name]
    assert holds == pytest.approx(said[0], rel=0.1)
    assert sends == pytest.approx(said[2], rel=0.01)


# The order.


def names(kernels: list[Kernel]) -> list[int]:
    return [kernel.place for kernel in kernels]


def backward(layers: int) -> list[Kernel]:
    """Gradients of activations that are summed up over the devices, and of weights."""
    found = [Kernel(0, set(), {("g", 0): 8.0}, seconds=1e-5)]
    for n in range(layers):
        found += [
            Kernel(10 + n, {("g", n)}, {("part", n): 8.0}, seconds=1e-5),
            Kernel(20 + n, {("part", n)}, {("g", n + 1): 8.0}, seconds=4e-5, sends=AR),
            Kernel(30 + n, {("g", n)}, {("w", n): 0.0}, seconds=3e-5),
        ]
    return found


def test_gradients_of_weights_run_while_something_is_sent() -> None:
    order = names(hiding(backward(3)))
    for n in range(1, 3):
        start = order.index(20 + n)
        end = order.index(20 + n, start + 1)
        assert 30 + n - 1 in order[start:end], order


def test_what_they_are_computed_from_lives_until_then() -> None:
    kernels = backward(3)
    assert peak(hiding(kernels)) > peak(kernels)


def test_one_collective_is_on_its_way_at_a_time() -> None:
    kernels = [
        Kernel(0, set(), {("a",): 1.0}, seconds=1e-5),
        Kernel(1, {("a",)}, {("b",): 1.0}, seconds=4e-5, sends=AG),
        Kernel(2, {("a",)}, {("c",): 1.0}, seconds=4e-5, sends=AR),
        Kernel(3, {("b",), ("c",)}, {("d",): 1.0}, seconds=1e-5),
    ]
    order = names(hiding(kernels))
    assert order in ([0, 1, 1, 2, 2, 3], [0, 2, 2, 1, 1, 3])


def test_what_ends_a_collective_comes_before_what_waits_for_more() -> None:
    kernels = [
        Kernel(0, set(), {("a",): 1.0}, seconds=1e-5),
        Kernel(1, {("a",)}, {("b",): 1.0}, seconds=4e-5, sends=AR),
        Kernel(2, {("b",)}, {("c",): 1.0}, seconds=1e-5),
        Kernel(3, {("c",)}, {("d",): 1.0}, seconds=4e-5, sends=AR),
        Kernel(4, {("d",)}, {("result",): 0.0}, seconds=1e-5),
        Kernel(5, {("b",)}, {("gathered",): 0.0}, seconds=4e-5, sends=AG),
    ]
    assert names(hiding(kernels))[-1] == 5


def test_no_collective_is_on_its_way_beside_a_loop_that_has_some() -> None:
    kernels = [
        Kernel(0, set(), {("a",): 1.0}, seconds=1e-5),
        Kernel(1, {("a",)}, {("b",): 1.0}, seconds=4e-5, sends=AG),
        Kernel(2, {("a",)}, {("c",): 1.0}, seconds=1e-5, has_collectives=True),
        Kernel(3, {("b",), ("c",)}, {("d",): 1.0}, seconds=1e-5),
    ]
    assert names(hiding(kernels)) in ([0, 1, 1, 2, 3], [0, 2, 1, 1, 3])


def test_kernels_come_after_what_they_read() -> None:
    kernels = [Kernel(0, {("b",)}, {("c",): 1.0}), Kernel(1, {("a",)}, {("b",): 1.0})]
    assert names(in_order(kernels)) == [1, 0]
    more = [Kernel(2, set(), {("d",): 1.0}), *kernels]
    assert names(in_order(more, first=[1])) == [1, 0, 2]


# Combined collectives.


def gathered(sizes: list[float], kind: Any = AG) -> list[Kernel]:
    return [Kernel(n, set(), {("x", n): size}, sends=kind) for n, size in enumerate(sizes)]


def made(kernels: list[Kernel]) -> list[set[Any]]:
    return [{number for _, number in kernel.makes} for kernel in kernels]


def test_collectives_are_combined_up_to_30_mib() -> None:
    mib = float(2**20)
    assert made(combined(gathered([10 * mib, 15 * mib, 10 * mib, 5 * mib]))) == [{0, 1}, {2, 3}]
    assert made(combined(gathered([40 * mib, 40 * mib]))) == [{0}, {1}]


def test_only_collectives_of_one_kind_over_the_same_devices_are_combined() -> None:
    kernels = [
        *gathered([1.0]),
        Kernel(1, set(), {("x", 1): 1.0}, sends=AR),
        Kernel(2, set(), {("x", 2): 1.0}, sends=("all-gather", (1,))),
        Kernel(3, set(), {("x", 3): 1.0}, sends=("all-to-all", (0,))),
        Kernel(4, set(), {("x", 4): 1.0}, sends=("all-to-all", (0,))),
    ]
    assert made(combined(kernels)) == [{0}, {1}, {2}, {3}, {4}]


def test_collectives_that_wait_for_each_other_are_not_combined() -> None:
    kernels = [
        Kernel(0, set(), {("x", 0): 1.0}, sends=AR),
        Kernel(1, {("x", 0)}, {("x", 1): 1.0}),
        Kernel(2, {("x", 1)}, {("x", 2): 1.0}, sends=AR),
        Kernel(3, {("x", 0)}, {("x", 3): 1.0}, sends=AR),
    ]
    assert [own for own in made(combined(kernels)) if own & {0, 2, 3}] == [{0}, {2, 3}]


# Products in parts.


@pytest.mark.parametrize(
    ("product", "parts"),
    [  # as compiled for an H100
        (Product(1, 2048, 512, 2048, 4), 2),
        (Product(1, 512, 2048, 2048, 4), 2),
        (Product(1, 2048, 2048, 512, 4), 1),
        (Product(1, 256, 64, 2048, 4), 16),
        (Product(1, 2048, 64, 256, 4), 1),
        (Product(1, 1024, 512, 1024, 4), 4),
        (Product(1, 1024, 1024, 4096, 4), 2),
        (Product(32, 512, 512, 64, 4), 1),
        (Product(1, 64, 64, 512, 4), 16),
        (Product(1, 64, 64, 2048, 4), 32),
        # Without what it costs to launch one more kernel these would be in eight parts.
        (Product(1, 64, 32, 128, 4), 1),
        (Product(1, 128, 16, 128, 4), 1),
        (Product(1, 32, 32, 256, 4), 1),
    ],
)
def test_sums_of_products_are_split_as_the_compiler_does(product: Product, parts: int) -> None:
    assert parts_of(product, WEIGHTS["h100"]) == parts


# Sums over devices that are added to each other.


def added(*uses: int, reassociates: bool = True, wanted: tuple[int, ...] = (0,)) -> frozenset[int]:
    """(1 + 2) + 3, of which each is a sum over the devices; `uses` are used once more."""

    def operator(name: str, inputs: tuple[int, ...], made: int) -> Any:
        return SimpleNamespace(
            name=name, inputs=[(t, ()) for t in inputs], outputs=[(made, ())], joins=True
        )

    additions = [operator("add_any", (1, 2), 4), operator("add", (4, 3), 5)]
    others = [operator("mul", (used,), 10 + used) for used in uses]
    ends = {1: (0,), 2: (0,), 3: wanted}
    problem = SimpleNamespace(
        graph=SimpleNamespace(operators=[*additions, *others], outputs=[5]),
        machine=SimpleNamespace(target=SimpleNamespace(reassociates=reassociates)),
        edges=[SimpleNamespace(tensor=tensor) for tensor in ends],
        edge_specs=lambda edge, choice: ((SUM,), [ends[edge.tensor]]),
    )
    return sent_with_others(untyped(problem), [])


def test_sums_that_are_added_to_each_other_are_sent_once() -> None:
    assert added() == {2, 3}
    assert added(2) == frozenset()
    assert added(3) == {2}
    assert added(4) == {2}
    assert added(wanted=(1,)) == {2}
    assert added(reassociates=False) == frozenset()
