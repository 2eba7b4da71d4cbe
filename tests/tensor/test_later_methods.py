"""Methods that MindSpore 2.x added to Tensor, against numpy."""

from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, ops
from paramesh import dtype as dt
from paramesh.errors import BroadcastError
from paramesh.tensor.later_methods import MAKES, WRITES
from support.type_checks import untyped

R = np.random.default_rng(0)
A, B = (R.normal(size=(3, 4)).astype(np.float32) for _ in range(2))
S = A @ A.T + np.eye(3, dtype=np.float32)
C = (A[:2, :3] + 1j * B[:2, :3]).astype(np.complex64)
N = np.array([[1, np.nan, 3, 2], [4, 5, np.nan, np.nan]], np.float32)
SCATTERED = A.copy()
SCATTERED[np.arange(2) + 1, np.arange(2)] = 7
KTH = np.sort(A, 1)[:, 1], np.argsort(A, 1)[:, 1]
CHOICES = [np.arange(4), np.arange(4) * 10]

CASES: dict[str, tuple[Any, Any]] = {
    "adjoint": (lambda: Tensor(C).adjoint(), C.conj().T),
    "i0": (lambda: Tensor(A).i0(), np.i0(A)),
    "sgn": (lambda: Tensor(C).sgn(), C / np.abs(C)),
    "cov": (lambda: Tensor(A).cov(correction=0), np.cov(A, ddof=0)),
    "argmax_with_value": (lambda: Tensor(A).argmax_with_value(1), (A.max(1), A.argmax(1))),
    "argmin_with_value": (lambda: Tensor(A).argmin_with_value(), (A.min(0), A.argmin(0))),
    "kthvalue": (lambda: Tensor(A).kthvalue(2), KTH),
    "nanmedian": (lambda: Tensor(N).nanmedian(), ([2, 4], [3, 0])),
    "msort": (lambda: Tensor(A).msort(), np.sort(A, 0)),
    "choose": (
        lambda: Tensor(np.array([0, 1, 5, 1])).choose([Tensor(c) for c in CHOICES]),
        np.choose([0, 1, 5, 1], CHOICES, mode="clip"),
    ),
    "unique": (
        lambda: Tensor(np.array([3, 1, 3])).unique(return_inverse=True, return_counts=True),
        ([1, 3], [1, 0, 1], [1, 2]),
    ),
    "diagflat": (lambda: Tensor(A[0]).diagflat(1), np.diagflat(A[0], 1)),
    "diagonal_scatter": (
        lambda: Tensor(A).diagonal_scatter(Tensor(np.full(2, 7, np.float32)), -1),
        SCATTERED,
    ),
    "index_put": (
        lambda: Tensor(A * 0).index_put(
            (Tensor(np.array([0, 0])), Tensor(np.array([1, 1]))),
            Tensor(np.array([5, 6], np.float32)),
            accumulate=True,
        ),
        np.eye(3, 4, 1) * [0, 11, 0, 0],
    ),
    "sum_to_size": (lambda: Tensor(A).sum_to_size((1, 4)), A.sum(0, keepdims=True)),
    "triangular_solve": (
        lambda: Tensor(B[:, :2]).triangular_solve(Tensor(S))[0],
        np.linalg.solve(np.triu(S), B[:, :2]),
    ),
    "soft_shrink": (
        lambda: Tensor(A).soft_shrink(0.3),
        np.sign(A) * np.maximum(np.abs(A) - 0.3, 0),
    ),
    "logdet": (lambda: Tensor(S).logdet(), np.log(np.linalg.det(S))),
    "matrix_determinant": (lambda: Tensor(S).matrix_determinant(), np.linalg.det(S)),
    "log_matrix_determinant": (
        lambda: Tensor(-S).log_matrix_determinant(),
        (-1, np.log(np.linalg.det(S))),
    ),
    "eigvals": (lambda: Tensor(np.diag(A[0])).eigvals(), A[0]),
    "fills": (lambda: Tensor(A).fills(2), A * 0 + 2),
}
WRITTEN: dict[str, tuple[tuple[Any, ...], Any]] = {
    "addmm_": ((Tensor(S), Tensor(B)), A + S @ B),
    "erfinv_": ((), None),
    "sign_": ((), np.sign(A)),
    "floor_divide_": ((0.3,), np.floor_divide(A, np.float32(0.3))),
    "fill_diagonal_": ((9,), np.where(np.eye(3, 4) > 0, 9, A)),
    "index_copy_": (
        (1, Tensor(np.array([2, 0])), Tensor(B[:, :2])),
        np.stack([B[:, 1], A[:, 1], B[:, 0], A[:, 3]], 1),
    ),
    "index_put_": ((Tensor(np.array([1])), Tensor(B[:1])), np.stack([A[0], B[0], A[2]])),
    "put_": (
        (Tensor(np.array([0, 11])), Tensor(np.array([1, 2], np.float32))),
        np.concatenate([[1], A.reshape(-1)[1:11], [2]]).reshape(3, 4),
    ),
}


@pytest.mark.parametrize("name", MAKES)
def test_what_a_method_gives(name: str) -> None:
    call, want = CASES[name]
    got = call()
    parts = got if isinstance(got, tuple) else (got,)
    wanted = want if isinstance(want, tuple) else (want,)
    for part, value in zip(parts, wanted, strict=True):
        np.testing.assert_allclose(part.asnumpy(), value, 2e-5, 1e-6)


@pytest.mark.parametrize("name", WRITES)
def test_what_a_method_writes(name: str) -> None:
    args, want = WRITTEN[name]
    tensor = Tensor(np.array([0.0, 0.5], np.float32) if want is None else A)
    assert getattr(tensor, name)(*args) is tensor
    want = [0, 0.47693628] if want is None else want
    np.testing.assert_allclose(tensor.asnumpy(), want, 1e-5, 1e-6)


def test_fill_diagonal_begins_again() -> None:
    tall = Tensor(np.zeros((7, 3), np.float32)).fill_diagonal_(1, wrap=True).asnumpy()
    want = np.zeros((7, 3))
    np.fill_diagonal(want, 1, wrap=True)
    assert tall.tolist() == want.tolist()
    cube = Tensor(np.zeros((2, 2, 2), np.float32)).fill_diagonal_(1).asnumpy()
    assert np.argwhere(cube).tolist() == [[0, 0, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="axes of one size"):
        Tensor(np.zeros((2, 3, 2))).fill_diagonal_(1)


def test_attributes_and_questions() -> None:
    tensor = Tensor(C)
    np.testing.assert_array_equal(tensor.mT.asnumpy(), C.T)
    np.testing.assert_array_equal(tensor.mH.asnumpy(), C.conj().T)
    np.testing.assert_array_equal(tensor.H.asnumpy(), C.conj().T)
    with pytest.raises(ValueError, match=r"a matrix is needed, got shape \(2,\)"):
        _ = Tensor(A[0, :2]).H
    assert tensor.stride() == (3, 1)
    assert tensor.stride(0) == 3
    assert (tensor.storage_offset(), tensor.device) == (0, "CPU")
    signed = [dt.float32, dt.float16, dt.int8, dt.int64]
    assert all(Tensor(np.ones(1), kind).is_signed() for kind in signed)
    assert not any(Tensor(np.ones(1), kind).is_signed() for kind in [dt.uint8, dt.bool_])
    assert tensor.data is tensor
    tensor.data = Tensor(A)
    assert tensor.tolist() == A.tolist()


def test_names_of_arguments() -> None:
    tensor = untyped(Tensor(A))
    np.testing.assert_allclose(tensor.add(Tensor(B), alpha=2).asnumpy(), A + 2 * B, 1e-6)
    np.testing.assert_allclose(tensor.sub(Tensor(B), alpha=0.5).asnumpy(), A - 0.5 * B, 1e-6)
    ints = Tensor(np.arange(3, dtype=np.int32)).subtract(Tensor(np.ones(3, np.int32)), alpha=2)
    assert (ints.tolist(), str(ints.dtype)) == ([-2, -1, 0], "Int32")
    assert tensor.logsumexp(dim=1, keepdim=True).shape == (3, 1)
    assert tensor.amax(dim=1, keep_dims=True).shape == (3, 1)
    assert tensor.cumprod(axis=1).shape == (3, 4)
    with pytest.raises(TypeError, match="Tensor.amax"):
        tensor.amax(place=1)


def test_shapes_that_do_not_fit_together() -> None:
    a, b = Tensor(A), Tensor(B[:2])
    calls = [lambda: a + b, lambda: b / a, lambda: a < b, lambda: a.add(b), lambda: ops.mul(a, b)]
    for call in calls:
        with pytest.raises(BroadcastError, match=r"\(3, 4\)") as found:
            call()
        assert isinstance(found.value, ValueError)  # as in MindSpore
        assert isinstance(found.value, TypeError)  # as in JAX
