"""COOTensor and CSRTensor: conversions, what they refuse, and programs.

What is computed from them is compared with MindSpore's in `tests/test_recorded_names.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import COOTensor, CSRTensor, Tensor, nn, ops
from paramesh.errors import ValueNeededError
from type_checks import wrong

A = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 0, 0]], np.float32)


def csr() -> CSRTensor:
    ends, columns = np.array([0, 2, 2, 3], np.int32), np.array([0, 2, 1], np.int32)
    return CSRTensor(ends, columns, np.array([1, 2, 3], np.float32), A.shape)


def coo() -> COOTensor:
    places = np.array([[0, 0], [2, 1], [0, 2]], np.int32)
    return COOTensor(places, np.array([1, 3, 2], np.float32), A.shape)


def test_forms_become_each_other() -> None:
    for made in (csr(), coo(), csr().to_coo(), coo().to_csr(), coo().coalesce()):
        assert np.array_equal(made.to_dense().asnumpy(), A)
        assert (made.shape, made.ndim, made.size, made.itemsize) == ((3, 4), 2, 3, 4)
    assert np.array_equal(ops.dense_to_sparse_csr(Tensor(A)).to_dense().asnumpy(), A)
    assert np.array_equal(CSRTensor(csr_tensor=csr()).to_dense().asnumpy(), A)
    assert coo().astype(paramesh.float16).dtype == paramesh.float16


def test_arithmetic() -> None:
    b = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    for made in (csr(), coo()):
        assert np.array_equal((made * Tensor(b)).to_dense().asnumpy(), A * b)
        assert np.array_equal((made / 2).to_dense().asnumpy(), A / 2)
        assert np.array_equal((made + made).to_dense().asnumpy(), 2 * A)
        assert not (made - made).to_dense().asnumpy().any()
    assert np.array_equal((coo() + Tensor(b)).asnumpy(), A + b)
    assert np.array_equal(ops.csr_mm(csr(), csr(), trans_b=True).to_dense().asnumpy(), A @ A.T)
    assert np.array_equal(ops.csr_mm(csr(), Tensor(b), trans_a=True).asnumpy(), A.T @ b)


def test_they_are_trees_of_jax() -> None:
    doubled = jax.tree_util.tree_map(lambda v: v * 2, csr())
    assert np.array_equal(doubled.values.asnumpy(), [2, 4, 6])
    out = paramesh.jit(lambda m: m.mv(np.ones((4, 1), np.float32)))(csr())
    assert np.array_equal(out.asnumpy()[:, 0], A.sum(1))


def test_gradients_by_the_elements() -> None:
    def total(values: Tensor) -> Any:
        return (csr()._with(values).to_dense() ** 2).sum()

    assert np.array_equal(paramesh.grad(total)(csr().values).asnumpy(), [2, 4, 6])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: COOTensor(), TypeError, "indices is missing"),
        (lambda: COOTensor([[0.5]], [1.0], (2,)), TypeError, "indices must be whole numbers"),
        (lambda: COOTensor([[0]], [1.0], (2, 2)), ValueError, r"expected \(n, 2\) and \(n,\)"),
        (lambda: COOTensor([[0]], [1.0], wrong(2)), TypeError, "shape must be a tuple of ints"),
        (lambda: COOTensor([[0]], coo_tensor=coo()), ValueError, "or coo_tensor"),
        (lambda: CSRTensor([0, 1], [0], [1.0], (2, 2)), ValueError, "do not fit the shape"),
        (lambda: CSRTensor([0, 1], csr_tensor=csr()), ValueError, "or csr_tensor"),
        (lambda: ops.csr_to_coo(wrong(Tensor(A))), TypeError, "takes a CSRTensor, got Tensor"),
        (lambda: ops.coo_concat([coo()]), ValueError, "two or more COOTensors, got 1"),
        (lambda: ops.coo_concat([coo(), coo()], 2), ValueError, "concat_dim must be from -2 to 1"),
        (lambda: ops.csr_reduce_sum(csr(), 0), ValueError, "sums along axis 1"),
        (lambda: ops.coo_tanh(csr()), TypeError, "ops.coo_tanh takes a COOTensor"),
        (lambda: nn.SparseToDense()(Tensor(A)), TypeError, "takes a COOTensor"),
        (lambda: nn.SparseTensorDenseMatmul(wrong(1)), TypeError, "adjoint_st must be a bool"),
    ],
)
def test_refusals(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_what_hangs_on_values_is_no_part_of_a_transform() -> None:
    with pytest.raises(ValueNeededError, match="dense_to_sparse_coo gives a shape"):
        ops.vmap(lambda x: ops.dense_to_sparse_coo(x).values)(Tensor(A[None]))


def test_elements_of_bool() -> None:
    places = Tensor(np.array([[0], [2], [2]], np.int32))
    found = ops.sparse_to_dense(places, Tensor(np.array([False, True, True])), (4,))
    assert found.asnumpy().tolist() == [False, False, True, False]
