"""Factors of matrices: what they multiply to, what is solved with them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

from paramesh import Tensor, ops

RNG = np.random.default_rng(0)
A = RNG.normal(size=(2, 3, 3)).astype(np.float32) + 2 * np.eye(3, dtype=np.float32)
B = RNG.normal(size=(2, 3, 2)).astype(np.float32)


def close(found: Any, wanted: Any) -> None:
    value = found.asnumpy() if hasattr(found, "asnumpy") else found
    np.testing.assert_allclose(value, wanted, rtol=2e-4, atol=2e-5)


def factors() -> tuple[Any, Any]:
    parts = [scipy.linalg.lu_factor(a) for a in A]
    data = np.stack([part[0] for part in parts])
    return data, np.stack([part[1] for part in parts]).astype(np.int32) + 1


def test_lu_of_batches() -> None:
    data, pivots = factors()
    close(ops.lu_solve(Tensor(B), Tensor(data), Tensor(pivots)), np.linalg.solve(A, B))
    p, low, up = ops.lu_unpack(Tensor(data), Tensor(pivots))
    close(p.asnumpy() @ low.asnumpy() @ up.asnumpy(), A)
    assert ops.lu_unpack(Tensor(data), Tensor(pivots), False)[1:] == (None, None)
    assert ops.lu_unpack(Tensor(data), Tensor(pivots), True, False)[0] is None
    one = ops.lu_solve(Tensor(B), Tensor(data[0]), Tensor(pivots[0]))
    close(one, np.linalg.solve(A[:1], B))


def test_cholesky_and_triangles_of_batches() -> None:
    positive = A @ A.swapaxes(1, 2) + np.eye(3, dtype=np.float32)
    low = np.linalg.cholesky(positive)
    wanted = np.linalg.solve(positive, B)
    close(ops.cholesky_solve(Tensor(B), Tensor(low)), wanted)
    close(Tensor(B).cholesky_solve(Tensor(low.swapaxes(1, 2)), upper=True), wanted)
    solved, matrix = Tensor(B).triangular_solve(Tensor(low), upper=False)
    close(solved, np.linalg.solve(low, B))
    close(matrix, low)
    close(ops.triangular_solve(Tensor(B), Tensor(low), False, True)[0],
          np.linalg.solve(low.swapaxes(1, 2), B))  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (2, 4, 3)])
@pytest.mark.parametrize("transpose", [False, True])
def test_householder(shape: tuple[int, ...], transpose: bool) -> None:
    x = RNG.normal(size=shape).astype(np.float32)
    packed, tau = ops.geqrf(Tensor(x))
    whole = np.linalg.qr(x, "complete")[0]
    turned = whole.swapaxes(-1, -2) if transpose else whole
    rows = x.shape[-2]
    close(np.triu(packed.asnumpy())[..., : x.shape[-1], :], np.linalg.qr(x)[1])
    other = RNG.normal(size=(*shape[:-2], rows, 2)).astype(np.float32)
    close(ops.ormqr(packed, tau, Tensor(other), True, transpose), turned @ other)
    right = np.ascontiguousarray(other.swapaxes(-1, -2))
    close(packed.ormqr(tau, Tensor(right), False, transpose), right @ turned)


def test_eigenvalues() -> None:
    values, vectors = ops.eig(Tensor(A))
    close(vectors.asnumpy() * values.asnumpy()[:, None, :], A @ vectors.asnumpy())
    order = np.argsort(ops.eigvals(Tensor(A)).asnumpy().real)
    close(np.take_along_axis(ops.eigvals(Tensor(A)).asnumpy().real, order, 1),
          np.sort(np.linalg.eigvals(A).real))  # fmt: skip
    assert ops.eigvals(Tensor(A.astype(np.float64))).asnumpy().dtype == np.complex128


@pytest.mark.parametrize("p", [None, 1, 2, -1, -2, np.inf, -np.inf, "fro", "nuc"])
def test_condition_numbers(p: Any) -> None:
    close(ops.cond(Tensor(A), p), [np.linalg.cond(a, p) for a in A])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: ops.lu_solve(b, a, Tensor([1, 2])), r"LU_pivots must be of shape \(2, 3\)"),
        (lambda a, b: ops.lu_unpack(b, Tensor([1, 2])), r"LU_pivots must be of shape \(2, 2\)"),
        (lambda a, b: ops.cholesky_solve(b, b), r"input2 must be square matrices"),
        (lambda a, b: ops.cholesky_solve(b[:, :2], a), r"input must be \(..., n, k\)"),
        (lambda a, b: ops.triangular_solve(b[:, :2], a), r"b must be \(..., n, k\)"),
        (lambda a, b: ops.eig(b), "A must be square matrices"),
        (lambda a, b: ops.eigvals(b), "A must be square matrices"),
        (lambda a, b: ops.logdet(b), "input must be square matrices"),
        (lambda a, b: ops.geqrf(b[0, 0]), r"input must be matrices \(..., m, n\)"),
        (lambda a, b: ops.ormqr(a, b[:, :, 0], b[:, :2]), "other must have 3 rows"),
        (lambda a, b: ops.cond(b, 1), "A must be square matrices"),
        (lambda a, b: ops.cond(b[0, 0]), r"A must be matrices \(..., m, n\)"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Tensor(A), Tensor(B))


def test_pivots_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match="LU_pivots must be whole numbers"):
        ops.lu_solve(Tensor(B), Tensor(A), Tensor(np.ones((2, 3), np.float32)))
