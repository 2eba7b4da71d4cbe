"""Fourier and cosine transforms, against scipy's."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

import paramesh
from compiled_collectives import collectives
from paramesh import Tensor, context, ops

REAL = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
COMPLEX = (REAL + 1j * REAL[::-1]).astype(np.complex64)
KINDS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")


def of(kind: str) -> np.ndarray:
    return REAL if kind in ("rfft", "ihfft") else COMPLEX


def near(found: Any, expected: Any) -> None:
    assert found.dtype.itemsize == (8 if np.iscomplexobj(expected) else 4)
    np.testing.assert_allclose(found.asnumpy(), expected, 5e-5, 3e-5)


@pytest.mark.parametrize("norm", [None, "forward"])
@pytest.mark.parametrize("kind", KINDS)
def test_transforms(kind: str, norm: str | None) -> None:
    x = of(kind)
    for n, dim in ((None, -1), (5, 1)):
        near(getattr(ops, kind)(Tensor(x), n, dim, norm), getattr(scipy.fft, kind)(x, n, dim, norm))
    two, many = getattr(scipy.fft, f"{kind}2"), getattr(scipy.fft, f"{kind}n")
    near(getattr(ops, f"{kind}2")(Tensor(x), (5, 3), (0, 1), norm), two(x, (5, 3), (0, 1), norm))
    near(getattr(ops, f"{kind.upper()}N")()(Tensor(x), norm=norm), many(x, norm=norm))


@pytest.mark.parametrize("norm", [None, "FORWARD", "ORTHO"])
def test_cosine_transforms(norm: str | None) -> None:
    said = norm and norm.lower()
    near(ops.DCT()(Tensor(REAL), 2, 5, 1, norm), scipy.fft.dct(REAL, 2, 5, 1, said))
    near(ops.IDCT()(Tensor(REAL), norm=norm), scipy.fft.idct(REAL, norm=said))
    near(
        ops.DCTN()(Tensor(COMPLEX), 2, (3, 5), (0, 1), norm),
        scipy.fft.dctn(COMPLEX, 2, (3, 5), (0, 1), said),
    )
    near(
        ops.IDCTN()(Tensor(REAL), 2, (4, 5), None, norm),
        scipy.fft.idctn(REAL, 2, (4, 5), None, said),
    )


def test_element_types_and_frequencies() -> None:
    assert ops.fft(Tensor([1, 2, 3])).dtype == paramesh.complex64
    assert ops.rfft(Tensor(REAL.astype(np.float16))).dtype == paramesh.complex64
    assert ops.fft(Tensor(REAL.astype(np.float64))).dtype == paramesh.complex128
    assert ops.fftfreq(4, 0.5).asnumpy().tolist() == [0, 0.5, -1, -0.5]
    assert ops.rfftfreq(4).asnumpy().tolist() == [0, 0.25, 0.5]
    assert ops.fftshift(Tensor(np.arange(5))).asnumpy().tolist() == [3, 4, 0, 1, 2]
    assert ops.IFFTShift()(Tensor(np.arange(5))).asnumpy().tolist() == [2, 3, 4, 0, 1]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ops.fft(Tensor(REAL), norm="none"), ValueError, "norm must be one of backward"),
        (lambda: ops.rfft(Tensor(COMPLEX)), TypeError, "input must be real, got complex64"),
        (lambda: ops.DCT()(Tensor(REAL), 3), ValueError, "type must be 2"),
    ],
)
def test_mistakes(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_nothing_is_sent_where_other_axes_are_sharded() -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    transform = ops.RFFT().shard(((4, 2, 1),))
    x = np.random.default_rng(1).normal(size=(8, 8, 4)).astype(np.float32)
    program = paramesh.jit(lambda value: transform(value))
    out = program(Tensor(x))
    assert jnp.asarray(out).addressable_data(0).shape == (2, 4, 3)
    near(out, scipy.fft.rfft(x))
    assert not collectives(program.lower(Tensor(x)).compile().as_text())
