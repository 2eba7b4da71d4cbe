"""Settings of JAX that hold at a call: precision, strictness, `disable_jit`, an entered mesh."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops
from paramesh.errors import CompiledWarning

X = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)

CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "precision": lambda: jax.default_matmul_precision("bfloat16"),
    "ranks": lambda: jax.numpy_rank_promotion("raise"),
    "mesh": lambda: jax.set_mesh(jax.make_mesh((2,), ("x",))),
}


class _Step:
    """A step of training that notes whether it ran with values or was traced."""

    def __init__(self, optimizer: Callable[..., nn.Optimizer] = nn.Adam) -> None:
        paramesh.set_seed(3)
        self.seen: list[bool] = []  # at each run of the function: whether it was traced
        self.net = nn.SequentialCell(nn.Dense(3, 4), nn.Dropout(p=0.5), nn.Dense(4, 2)).set_train()
        cell = nn.WithLossCell(self.net, nn.MSELoss())
        self.optimizer = optimizer(self.net.trainable_params(), 0.1)
        gradients = paramesh.value_and_grad(
            lambda x, y: cell(x, y), None, self.optimizer.parameters
        )

        @paramesh.jit
        def step(x: Tensor, y: Tensor) -> Tensor:
            self.seen.append("traced" in repr(x))
            loss, grads = gradients(x, y)
            self.optimizer(grads)
            return loss

        self.program = step

    def losses(self, count: int = 3) -> list[float]:
        x, y = Tensor(X), Tensor(np.ones((len(X), 2), np.float32))
        return [float(self.program(x, y)) for _ in range(count)]


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_setting_that_changes_programs_makes_another(name: str) -> None:
    step = _Step()
    step.losses()
    before = step.program.traces
    with CONTEXTS[name]():
        step.losses()
    assert step.program.traces == before + 1
    with CONTEXTS[name]():
        step.losses()
    step.losses()
    assert step.program.traces == before + 1


def test_precision_is_that_of_the_call() -> None:
    @paramesh.jit
    def product(x: Tensor) -> Tensor:
        return ops.matmul(x, x.T)

    def precision() -> str:
        return product.lower(Tensor(X)).as_text()

    product(Tensor(X))
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in precision()
    assert "HIGHEST" not in precision()


def test_without_programs_values_are_those_of_programs() -> None:
    expected = _Step().losses()
    step = _Step()
    with jax.disable_jit():
        assert step.losses() == pytest.approx(expected, rel=1e-6)
    assert step.seen == [False] * 3
    assert step.program.traces == 0
    step.losses(1)
    assert all(step.seen[3:])
    assert len(step.seen) > 3


def test_without_programs_cells_can_be_looked_into() -> None:
    seen: list[Any] = []

    class Net(nn.Cell):
        def construct(self, x: Any) -> Any:
            seen.append(x.asnumpy())
            return x + 1

    with jax.disable_jit():
        Net()(Tensor(X))
    assert np.array_equal(seen[0], X)


def test_several_devices_meet_in_a_program_all_the_same(four_devices: None) -> None:
    expected = _Step().losses()
    step = _Step()
    with jax.disable_jit(), pytest.warns(CompiledWarning, match="over 4 devices"):
        found = step.losses()
    assert found == pytest.approx(expected, rel=1e-6)
    assert all(step.seen)


def _mesh(count: int, kind: str) -> AbstractContextManager[Any]:
    axes = (getattr(jax.sharding.AxisType, kind),)
    return jax.set_mesh(jax.make_mesh((count,), ("x",), axis_types=axes))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize(
    ("mode", "count"),
    [("data_parallel", 2), ("semi_auto_parallel", 2), ("auto_parallel", 2), ("auto_parallel", 4)],
)
def test_a_mesh_of_the_user_does_not_meet_the_devices_of_a_mode(
    mode: str, count: int, kind: str
) -> None:
    paramesh.set_auto_parallel_context(parallel_mode=mode, device_num=4)
    expected = _Step().losses()
    with _mesh(count, kind):  # new arrays lie over this mesh, Parameters and inputs too
        step = _Step()
        assert step.losses() == pytest.approx(expected, rel=1e-6)
        assert not jax.sharding.get_abstract_mesh().empty
    assert step.losses(1)[0] < expected[0]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("mode", ["semi_auto_parallel", "auto_parallel"])
def test_arrays_over_a_mesh_of_the_user_are_taken_over_that_of_a_mode(
    mode: str, kind: str, count: int
) -> None:
    """By an operator that paramesh partitions: JAX wants one mesh in its program."""
    image = np.random.default_rng(2).normal(size=(4, 2, 6, 6)).astype(np.float32)
    paramesh.set_auto_parallel_context(parallel_mode=mode, device_num=4)
    net = nn.Conv2d(2, 4, 3)
    scaled = paramesh.jit(lambda x, factor: net(x) * factor)
    expected = scaled(Tensor(image), Tensor(2.0)).asnumpy()
    with _mesh(count, kind):
        x, factor = Tensor(image), Tensor(2.0)
        net.weight.set_data(Tensor(net.weight.asnumpy()))  # its value lies there too
        assert np.allclose(scaled(x, factor).asnumpy(), expected, atol=1e-6)
    assert np.allclose(scaled(x, factor).asnumpy(), expected, atol=1e-6)


@pytest.fixture
def four_devices() -> None:
    paramesh.set_auto_parallel_context(parallel_mode="data_parallel", device_num=4)


def test_no_tracer_of_random_numbers_is_kept() -> None:
    step = _Step()
    with jax.checking_leaks():
        step.losses(1)
