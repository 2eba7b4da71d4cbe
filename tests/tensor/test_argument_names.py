"""Methods of Tensor under MindSpore 2.10's names of arguments, and the errors of shapes."""

import numpy as np
import pytest

from paramesh import Tensor, ops
from paramesh import dtype as dt
from paramesh.errors import BroadcastError
from support.type_checks import untyped

R = np.random.default_rng(0)
A, B = (R.normal(size=(3, 4)).astype(np.float32) for _ in range(2))
C = (A[:2, :3] + 1j * B[:2, :3]).astype(np.complex64)


def test_attributes_and_questions() -> None:
    tensor = Tensor(C)
    np.testing.assert_array_equal(tensor.H.asnumpy(), C.conj().T)
    np.testing.assert_array_equal(tensor.adjoint().asnumpy(), C.conj().T)
    np.testing.assert_array_equal(Tensor(C[None]).adjoint().asnumpy(), C.conj().T[None])
    np.testing.assert_allclose(Tensor(A).i0().asnumpy(), np.i0(A), 1e-5)
    with pytest.raises(ValueError, match=r"a matrix is needed, got shape \(2,\)"):
        _ = Tensor(A[0, :2]).H
    signed = [dt.float32, dt.float16, dt.int8, dt.int64]
    assert all(Tensor(np.ones(1), kind).is_signed() for kind in signed)
    assert not any(Tensor(np.ones(1), kind).is_signed() for kind in [dt.uint8, dt.bool_])
    assert tensor.data is tensor
    untyped(tensor).data = Tensor(A)
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
