"""Rows, margins, diagonals, blocks of images, and tests of two Tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

import paramesh.ops as ops
from paramesh.tensor import Tensor
from paramesh.transforms import jit
from type_checks import untyped

A = np.arange(12, dtype=np.float32).reshape(4, 3)
S = np.array([[4, 1], [1, 3]], np.float32)


def t(*values: Any, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.array(values, dtype))


def filled(shape: tuple[int, ...], wrap: bool = False) -> np.ndarray:
    out = np.zeros(shape, np.float32)
    np.fill_diagonal(out, 5, wrap)
    return out


def changed(how: str) -> np.ndarray:
    out = A.copy()
    if how == "set":
        out[[1, 3]] = A[:2]
    else:
        out[[1, 3]] += A[:2] if how == "add" else -A[:2]
    return out


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda: ops.inplace_update(Tensor(A), Tensor(A[:2]), (1, 3)), changed("set")),
        (lambda: Tensor(A).inplace_update(Tensor(A[:2]), (1, 3)), changed("set")),
        (lambda: ops.InplaceAdd((1, 3))(Tensor(A), Tensor(A[:2])), changed("add")),
        (lambda: ops.InplaceSub((1, 3))(Tensor(A), Tensor(A[:2])), changed("sub")),
        (lambda: ops.Padding(3)(Tensor(A[:, 1:2])), np.pad(A[:, 1:2], [(0, 0), (0, 2)])),
        (
            lambda: ops.PadV3()(Tensor(A), (1, 0, 2, 1), Tensor(1.5)),
            np.pad(A, [(2, 1), (1, 0)], constant_values=1.5),
        ),
        (
            lambda: ops.PadV3("edge", paddings_contiguous=False)(Tensor(A), (1, 2, 0, 1)),
            np.pad(A, [(2, 1), (1, 0)], "edge"),
        ),
        (lambda: ops.FillDiagonal(5.0)(Tensor(np.zeros((7, 3), np.float32))), filled((7, 3))),
        (
            lambda: ops.FillDiagonal(5.0, True)(Tensor(np.zeros((7, 3), np.float32))),
            filled((7, 3), True),
        ),
        (lambda: ops.fill_diagonal(Tensor(np.zeros((3, 5), np.float32)), 5), filled((3, 5))),
        (lambda: ops.fill_diagonal(Tensor(np.zeros((2, 2, 2), np.float32)), 5), filled((2, 2, 2))),
        (lambda: ops.approximate_equal(t(1, 2), t(1, 2.1)), np.array([True, False])),
        (lambda: ops.EqualCount()(t(1, 2, 3), t(1, 3, 3)), np.array([2.0], np.float32)),
        (lambda: ops.PopulationCount()(t(13, 65, dtype=np.int16)), np.array([3, 2], np.uint8)),
        (
            lambda: ops.mvlgamma(t(3, 4), 3),
            np.array([2.6949249, 5.4029751], np.float32),
        ),
        (lambda: ops.DataFormatDimMap()(t(0, 1, -1, dtype=np.int32)), np.array([0, 3, 2])),
        (lambda: ops.matrix_solve(Tensor(S), Tensor(S), adjoint=True), np.eye(2)),
        (
            lambda: ops.MatrixTriangularSolve(lower=False, adjoint=True)(Tensor(S), Tensor(S)),
            np.linalg.solve(np.triu(S).T, S),
        ),
        (
            lambda: ops.orgqr(*map(Tensor, untyped(scipy.linalg.qr)(A, mode="raw")[0])),
            scipy.linalg.qr(A, mode="economic")[0],
        ),
        (lambda: ops.cholesky_inverse(Tensor(np.linalg.cholesky(S))), np.linalg.inv(S)),
        (
            lambda: ops.CholeskyInverse(True)(Tensor(np.linalg.cholesky(S).T.copy())),
            np.linalg.inv(S),
        ),
        (
            lambda: ops.ConjugateTranspose()(t([1 + 2j, 3j], dtype=np.complex64), (1, 0)),
            np.array([[1 - 2j], [-3j]]),
        ),
        (lambda: ops.IsClose()(t(1, np.nan), t(1, np.nan)), np.array([True, True])),
        (lambda: ops.inv(t(2, -3, dtype=np.int32)), np.array([0, 0])),
        (lambda: ops.inv(t(1, -1, dtype=np.int32)), np.array([1, -1])),
    ],
)
def test_values(found: Any, expected: np.ndarray) -> None:
    result = found().asnumpy()
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert result.dtype.kind == np.asarray(expected).dtype.kind


def test_results_of_two() -> None:
    values, mask = ops.ReLUV2()(t(-1, 2))
    assert (values.asnumpy().tolist(), mask.asnumpy().tolist()) == ([0, 2], [0, 1])
    x = Tensor(np.array([3, 1, 1, 3, 5], np.int64))
    for form in (ops.unique_with_pad, jit(ops.UniqueWithPad())):
        found, at = form(x, -1)
        assert found.asnumpy().tolist() == [3, 1, 5, -1, -1]
        assert at.asnumpy().tolist() == [0, 1, 1, 0, 2]


def test_blocks_of_images_and_back() -> None:
    x = Tensor(np.arange(16, dtype=np.int32).reshape(4, 1, 2, 2))
    image = ops.batch_to_space_nd(x, 2, [[0, 0], [0, 0]])
    assert image.asnumpy()[0, 0].tolist() == [
        [0, 4, 1, 5],
        [8, 12, 9, 13],
        [2, 6, 3, 7],
        [10, 14, 11, 15],
    ]
    for form in (ops.SpaceToBatch(2, [[0, 0], [0, 0]]), ops.SpaceToBatchND(2, [[0, 0], [0, 0]])):
        np.testing.assert_array_equal(form(image).asnumpy(), x.asnumpy())
    cut = ops.BatchToSpaceND(2, [[0, 1], [1, 0]])(x)
    np.testing.assert_array_equal(cut.asnumpy(), image.asnumpy()[:, :, :3, 1:])
    grown = ops.BatchToSpace(2, [[0, 1], [1, 0]])(ops.SpaceToBatch(2, [[0, 1], [1, 0]])(cut))
    np.testing.assert_array_equal(grown.asnumpy(), cut.asnumpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.inplace_add(Tensor(A), Tensor(A[:1]), (4,)), r"indices must be in \[0, 4\)"),
        (lambda: ops.inplace_sub(Tensor(A), Tensor(A), (1,)), r"v must be of shape \(1, 3\)"),
        (lambda: ops.Padding()(Tensor(A)), r"expected \(..., 1\) of at least two axes"),
        (lambda: ops.pad_v3(Tensor(A), (1, 1), None, "odd"), "mode must be one of constant"),
        (lambda: ops.fill_diagonal(t(1, 2), 0), r"expected \(n, m\), or axes of one size"),
        (lambda: ops.approximate_equal(t(1), t(1, 2)), "x and y must be of one shape"),
        (lambda: ops.mvlgamma(t(3), 0), "p must be an int from 1 on, got 0"),
        (lambda: ops.data_format_dim_map(t(1), "NWHC"), "src_format must be 'NHWC' or 'NCHW'"),
        (lambda: ops.batch_to_space_nd(Tensor(A), 3, [[0, 0]]), "4 does not make blocks of 3"),
        (lambda: ops.batch_to_space_nd(Tensor(A), 2, [[3, 3]]), "crops 3 and 3 leave nothing of 6"),
        (lambda: ops.space_to_batch_nd(Tensor(A), 2, [[0, 0]]), "do not make blocks"),
        (lambda: ops.space_to_batch_nd(Tensor(A), 2, [[0, -1]]), "paddings must be pairs of ints"),
        (lambda: ops.broadcast_to(Tensor(A), (-1, 4, 3)), "-1 keeps an axis, and the first 1 are"),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_fold_takes_patches_with_an_axis_of_their_own() -> None:
    patches = np.random.default_rng(0).normal(size=(2, 3, 4, 9)).astype(np.float32)
    found = [ops.fold(Tensor(p), (4, 4), 2) for p in (patches, patches.reshape(2, 12, 9))]
    assert np.array_equal(found[0].asnumpy(), found[1].asnumpy())
