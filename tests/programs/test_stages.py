"""lower, compile and the analyses of a compiled function."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn
from paramesh.errors import TraceError
from paramesh.transforms.stages import compiled_for_target
from programs.networks import Affine, Deep, X, trainer
from type_checks import present


def test_costs_of_a_network_that_is_only_declared() -> None:
    net = nn.Dense(1000, 1000)
    lowered = net.lower(jax.ShapeDtypeStruct((8, 1000), np.float32))
    assert "stablehlo" in lowered.as_text()
    assert lowered.cost_analysis()["flops"] >= 2 * 8 * 1000 * 1000
    compiled = lowered.compile()
    assert compiled.cost_analysis()["flops"] >= 2 * 8 * 1000 * 1000
    assert compiled.memory_analysis().argument_size_in_bytes >= 4 * 1000 * 1000
    assert "HloModule" in compiled.as_text()
    assert net.weight.has_init
    assert present(net.bias).has_init


@pytest.mark.parametrize("pooled", [False, True])
def test_a_step_that_is_compiled_beforehand(pooled: bool) -> None:
    results: list[Any] = []
    for ahead in (False, True):
        net = Deep(6 if pooled else 1)
        step = trainer(net, nn.Adam(net.trainable_params(), 0.1))
        x = Tensor(X)
        run = step.lower(x).compile() if ahead else step
        results.append([float(run(x)) for _ in range(3)])
        results.append(net.layers[0].weight.asnumpy())
        assert step.traces == 1
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])


def test_other_numbers_and_64_bits() -> None:
    big = Parameter(Tensor(np.arange(3)), name="big")
    run = paramesh.jit(lambda x, n: (big + x) * n).lower(Tensor(np.arange(3)), 2.0).compile()
    assert run(Tensor(np.array([2**40, 0, 0])), 3.0).asnumpy().tolist() == [3 * 2.0**40, 3, 6]


def test_refused() -> None:
    net = Affine()
    run = net.lower(Tensor(X)).compile()
    assert run(Tensor(X)).shape == (5, 4)
    with pytest.raises(TypeError, match="'Affine' was compiled for arguments of other shapes"):
        run(Tensor(X[:2]))
    net.set_train()
    with pytest.raises(TraceError, match="'Affine': the network has changed"):
        run(Tensor(X))
    with pytest.raises(TypeError, match="concrete arguments are needed"):
        jax.jit(lambda x: paramesh.jit(net).lower(x))(X)


class _Lowered:
    """A program that a compiler refuses `times`; it keeps the options that it was given."""

    def __init__(self, times: int, says: str) -> None:
        self.left, self.says = times, says
        self.given: list[Any] = []

    def compile(self, options: Any) -> str:
        self.given.append(options)
        if self.left:
            self.left -= 1
            raise jax.errors.JaxRuntimeError(self.says)
        return "compiled"


def test_products_without_tiles_call_the_library_of_the_gpu() -> None:
    lowered: Any = _Lowered(1, "INTERNAL: Couldn't find output tile sizes that satisfy hlo: …")
    assert compiled_for_target(lowered, {"own": 1}) == "compiled"
    assert lowered.given == [{"own": 1}, {"own": 1, "xla_gpu_enable_triton_gemm": False}]
    other: Any = _Lowered(1, "INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        compiled_for_target(other)
    assert other.given == [None]
