"""Gradients by integer and boolean inputs are MindSpore's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import goldens
import integer_gradient_cases
import paramesh
from paramesh import Parameter, Tensor, grad, ops, value_and_grad, vjp
from paramesh.ops import GradOperation

RECORDED = goldens.load("integer_gradients")


@pytest.mark.parametrize("code", integer_gradient_cases.CASES)
def test_gradients_are_the_recorded_ones(code: str) -> None:
    assert integer_gradient_cases.gradients(code, paramesh) == RECORDED[code]


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
def test_all_entries_agree(mode: int) -> None:
    paramesh.set_context(mode=mode)
    n, x = Tensor([1, 2], paramesh.int64), Tensor([1.5, -2.5])
    value, (by_n, by_x) = value_and_grad(lambda n, x: n * x, (0, 1))(n, x)
    assert value.asnumpy().tolist() == [1.5, -5.0]
    assert (by_n.dtype, by_n.asnumpy().tolist()) == (paramesh.int64, [1, -2])
    assert by_x.asnumpy().tolist() == [1.0, 2.0]
    sens = Tensor([2.0, 1.0])
    by_sens = GradOperation(sens_param=True)(lambda n, x: n * x)(n, x, sens)
    assert by_sens.asnumpy().tolist() == [3, -2]
    of_vjp = vjp(lambda n, x: n * x, n, x)[1](sens)
    assert [g.asnumpy().tolist() for g in of_vjp] == [[3, -2], [2.0, 2.0]]


def test_large_integers_are_exact_in_64_bits() -> None:
    n = Tensor([2**40 + 1], paramesh.int64)
    assert grad(lambda n: n * n)(n).asnumpy().tolist() == [2**41 + 2]


def test_floats_beside_integers_in_one_argument() -> None:
    def scaled(inputs: tuple[Tensor, Tensor, int]) -> Tensor:
        return inputs[0] * inputs[1] * inputs[2]

    by_x, by_n, by_number = grad(scaled)((Tensor([1.5, 2.5]), Tensor([3, 4]), 2))
    assert by_x.asnumpy().tolist() == [6.0, 8.0]
    assert by_n.asnumpy().tolist() == [3, 5]
    assert by_number.asnumpy() == 0


def test_weights_written_parameters_and_aux_are_as_without_integers() -> None:
    weight = Parameter(Tensor([2.0, 3.0]), name="weight")
    calls = Parameter(Tensor([0], paramesh.int32), name="calls", requires_grad=False)

    def fn(n: Tensor) -> tuple[Tensor, Tensor]:
        calls.set_data(calls + 1)
        return weight * n, n + 1

    (loss, doubled), (by_n, by_weight) = value_and_grad(fn, 0, [weight], has_aux=True)(
        Tensor([4, 5])
    )
    assert loss.asnumpy().tolist() == [8.0, 15.0]
    assert doubled.asnumpy().tolist() == [5, 6]
    assert doubled.dtype is paramesh.int64
    assert by_n.asnumpy().tolist() == [2, 3]
    assert by_weight[0].asnumpy().tolist() == [4.0, 5.0]
    assert calls.asnumpy().tolist() == [1]


def test_an_operator_without_a_rule_is_an_error_and_no_zero() -> None:
    n, x = Tensor([3, 1, 2], paramesh.int32), Tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match=r"would pass 'top_k'.*Cast the input to a float type"):
        grad(lambda n, x: ops.top_k(n, 2)[0].sum() * x, (0, 1))(n, x)


def test_indexes_that_pass_such_an_operator_have_gradient_zero() -> None:
    n, x = Tensor([3, 1, 2], paramesh.int32), Tensor([1.0, 2.0, 3.0])
    by_n, by_x = grad(lambda n, x: ops.gather(x, ops.top_k(n, 2)[1], 0), (0, 1))(n, x)
    assert by_n.asnumpy().tolist() == [0, 0, 0]
    assert by_x.asnumpy().tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
def test_callbacks_run_once(mode: int) -> None:
    paramesh.set_context(mode=mode)
    seen: list[int] = []

    def looked_up(n: np.ndarray) -> np.ndarray:
        seen.append(int(n[0]))
        return n.astype(np.float32)

    def fn(n: Tensor, x: Tensor) -> Tensor:
        ids = jnp.asarray(n)
        rows = jax.pure_callback(looked_up, jax.ShapeDtypeStruct((2,), np.float32), ids)
        return Tensor(rows) * x

    by_n, by_x = grad(fn, (0, 1))(Tensor([3, 4], paramesh.int32), Tensor([1.0, 2.0]))
    assert by_n.asnumpy().tolist() == [0, 0]
    assert by_x.asnumpy().tolist() == [3.0, 4.0]
    assert seen == [3]


class TestValuesAskedFor:
    @staticmethod
    def positive(n: Tensor, x: Tensor) -> Tensor:
        return x * n if bool(n.sum() > 0) else x

    def test_zeros_come_with_a_warning(self) -> None:
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        n, x = Tensor([1, 2]), Tensor([1.5, 2.5])
        with pytest.warns(UserWarning, match="by its integer inputs are zeros"):
            by_n, by_x = grad(self.positive, (0, 1))(n, x)
        assert by_n.asnumpy().tolist() == [0, 0]
        assert by_x.asnumpy().tolist() == [1.0, 2.0]

    def test_nothing_but_integers_is_an_error(self) -> None:
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        with pytest.raises(paramesh.errors.TraceError, match="bool"):
            grad(self.positive)(Tensor([1, 2]), Tensor([1.5, 2.5]))


def test_numbers_and_parameters_have_none() -> None:
    with pytest.raises(TypeError, match="argument 0 was asked for, but it is str"):
        grad(lambda name, x: x)("name", Tensor([1.0]))
    np.testing.assert_array_equal(
        grad(lambda x, n: x * n, (0, 1))(Tensor([2.0]), 3)[1].asnumpy(), 0
    )


def test_extremes_of_segments_pass_gradients_to_their_rows() -> None:
    segments = Tensor([0, 0, 1, 1], paramesh.int32)
    n = Tensor([2, 3, 7, 5], paramesh.int32)
    weights = Tensor([2.0, 4.0])
    largest = grad(lambda n: (ops.unsorted_segment_max(n, segments, 2) * weights).sum())(n)
    smallest = grad(lambda n: (ops.unsorted_segment_min(n, segments, 2) * weights).sum())(n)
    assert largest.asnumpy().tolist() == [0, 2, 4, 0]
    assert smallest.asnumpy().tolist() == [2, 0, 0, 4]


def test_booleans_among_the_outputs_add_nothing() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([0.0, 3.0])
    (by_x, by_y) = grad(lambda x, y: (x * y, x > y), (0, 1))(x, y)
    assert (by_x.asnumpy().tolist(), by_y.asnumpy().tolist()) == ([0, 3], [1, 2])
    by_n = grad(lambda n: (n * n, n > 1))(Tensor([1, 2], paramesh.int32))
    assert by_n.asnumpy().tolist() == [2, 4]
    with pytest.raises(TypeError, match="returned int32: only floats have gradients"):
        grad(lambda x: (x, x.astype(paramesh.int32)))(x)


@pytest.mark.parametrize("wrapped", [lambda fn: fn, paramesh.jit], ids=["eager", "jit"])
def test_gradients_of_what_returns_booleans_are_zeros(wrapped: Any) -> None:
    x = Tensor([1.0, 2.0])
    with pytest.warns(UserWarning, match="nothing but Bool, which .* all gradients are zeros"):
        assert wrapped(grad(lambda x: (x > 1, x < 0)))(x).asnumpy().tolist() == [0, 0]
    with pytest.warns(UserWarning, match="nothing but Bool"):
        sens = GradOperation(sens_param=True)(lambda x: x > 1)(x, Tensor([2.0, 3.0]))
    assert sens.asnumpy().tolist() == [0, 0]
