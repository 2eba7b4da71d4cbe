"""Calls of MindSpore's names whose results were recorded from MindSpore 2.10.

Each case is an expression over `ops`, `nn`, `mint`, `ms` and `np`, with `T` for a Tensor, `K` for
one of whole numbers, `f`, `p`, `i` and `b` for arrays of numbers, `P` for classes of operators that
MindSpore has in one of its modules, and `grads` for gradients. `tests/golden/generate_names.py`
records the results, `tests/test_recorded_names.py` compares with them. A Cell in a case starts from
`filled`, which gives its Parameters the same numbers on both sides.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

CASES: dict[str, list[str]] = {
    "resizing": [
        "ops.ResizeNearestNeighbor((5, 6))(T(f(1, 2, 3, 4)))",
        "ops.ResizeNearestNeighbor((5, 6), True)(T(f(1, 2, 3, 4)))",
        "ops.ResizeNearestNeighbor((2, 3))(T(f(1, 2, 5, 7)))",
        "ops.ResizeBilinearV2()(T(f(1, 2, 3, 4)), (5, 6))",
        "ops.ResizeBilinearV2(True)(T(f(1, 2, 3, 4)), (5, 6))",
        "ops.ResizeBilinearV2(False, True)(T(f(1, 2, 3, 4)), (5, 6))",
        "ops.ResizeBilinearV2(False, True)(T(f(1, 2, 7, 8)), (3, 3))",
        "ops.interpolate(T(f(1, 2, 3, 4)), size=(5, 6), mode='bilinear')",
        "ops.interpolate(T(f(1, 2, 3, 4)), size=(5, 6), mode='bilinear', align_corners=True)",
        "ops.interpolate(T(f(1, 2, 3, 4)), size=(5, 6), mode='nearest')",
        "ops.interpolate(T(f(1, 2, 5, 7)), size=(3, 4), mode='nearest')",
        "ops.interpolate(T(f(1, 2, 3, 4)), size=(5, 6), mode='bicubic')",
        "ops.interpolate(T(f(1, 2, 3, 4)), size=(5, 6), mode='bicubic', align_corners=True)",
        "ops.interpolate(T(f(1, 2, 5, 6)), size=(3, 2), mode='area')",
        "ops.interpolate(T(f(1, 2, 5)), size=8, mode='linear')",
        "ops.interpolate(T(f(1, 2, 5)), size=8, mode='linear', align_corners=True)",
        "ops.interpolate(T(f(1, 2, 5)), size=8, mode='nearest')",
        "ops.interpolate(T(f(1, 2, 2, 3, 4)), size=(3, 4, 5), mode='trilinear')",
        "ops.interpolate(T(f(1, 2, 2, 3, 4)), size=(3, 4, 5), mode='nearest')",
        "ops.interpolate(T(f(1, 2, 3, 4)), scale_factor=(2.0, 1.5), mode='bilinear',"
        " recompute_scale_factor=True)",
        "nn.ResizeBilinear()(T(f(1, 2, 3, 4)), size=(5, 6))",
        "nn.Upsample((5, 6), mode='bicubic', align_corners=True)(T(f(1, 2, 3, 4)))",
        "nn.Upsample((5, 6), mode='bicubic')(T(f(1, 2, 3, 4)))",
        "nn.Upsample(scale_factor=1.5, recompute_scale_factor=True)(T(f(1, 2, 3, 4)))",
        "nn.ResizeBilinear()(T(f(1, 2, 3, 4)), scale_factor=2)",
        "ops.grid_sample(T(f(1, 2, 4, 5)), T(f(1, 3, 3, 2)))",
        "ops.grid_sample(T(f(1, 2, 4, 5)), T(f(1, 3, 3, 2)), padding_mode='border')",
        "ops.grid_sample(T(f(1, 2, 4, 5)), T(f(1, 3, 3, 2)), padding_mode='reflection')",
        "ops.grid_sample(T(f(1, 2, 4, 5)), T(f(1, 3, 3, 2)), 'nearest', align_corners=True)",
        "ops.grid_sample(T(f(1, 2, 4, 5)), T(f(1, 3, 3, 2)), padding_mode='reflection',"
        " align_corners=True)",
        "ops.CropAndResize()(T(f(2, 5, 6, 3)), T(p(3, 4)), T(i(0, 2, 3)), (3, 2))",
        "ops.CropAndResize(method='nearest')(T(f(2, 5, 6, 3)), T(p(3, 4)), T(i(0, 2, 3)), (3, 2))",
        "ops.DepthToSpace(2)(T(f(2, 8, 2, 3)))",
        "ops.SpaceToDepth(2)(T(f(2, 3, 4, 6)))",
        "ops.pixel_shuffle(T(f(2, 8, 2, 3)), 2)",
        "ops.pixel_unshuffle(T(f(2, 3, 4, 6)), 2)",
        "nn.PixelShuffle(2)(T(f(2, 8, 2, 3)))",
        "nn.PixelUnshuffle(2)(T(f(2, 3, 4, 6)))",
        "ops.affine_grid(T(f(2, 2, 3)), (2, 3, 4, 5))",
    ],
    "labels of sequences": [
        "ops.ctc_greedy_decoder(T(f(5, 3, 4)), K(5, 3, 0))",
        "ops.ctc_greedy_decoder(T(np.repeat(f(3, 2, 3), 2, 0)), K(6, 5))",
        "ops.ctc_greedy_decoder(T(np.repeat(f(3, 2, 3), 2, 0)), K(6, 5), False)",
        "ops.CTCGreedyDecoder(merge_repeated=False)(T(f(4, 2, 3).astype(np.float64)), K(4, 4))",
    ],
    "element types": [
        "ops.max(T(f(2, 3)), 1)",
        "ops.min(T(f(2, 3)), 1)",
        "ops.ArgMaxWithValue()(T(f(2, 3)))",
        "ops.argmin(T(f(2, 3)), 1)",
        "ops.argmax(T(f(2, 3)), 1)",
        "T(f(2, 3)).argmin(1)",
        "T(f(2, 3)).argmax(1)",
        "T(f(2, 3)).argsort()",
        "T(f(2, 3)).sort()",
        "T(f(2, 3)).max(axis=1, return_indices=True)",
        "T(f(2, 3)).min(axis=1, return_indices=True)",
        "T(np.array([True, False])).add(1)",
        "T(np.array([True, False])).mul(2)",
        "T(np.array([True, False])).maximum(1)",
        "T(np.array([True, False])).cumsum(0)",
        "T(np.array([True, False])).cumprod(0)",
        "T(np.arange(6, dtype=np.int32).reshape(2, 3)).cumprod(1)",
        "T(np.arange(6, dtype=np.int32).reshape(2, 3)).trace()",
        "T(np.arange(6, dtype=np.int32).reshape(2, 3)).sum_to_size(2, 1)",
        "T(f(2, 3)).sum(1, True)",
        "ops.trunc(T(np.arange(3, dtype=np.int32)))",
        "ops.diag(T(f(2, 3)))",
        "T(f(2, 3)).diag()",
        "T(f(3)).diag()",
        "ops.norm(T(f(2, 3)), 2)",
        "ops.norm(T(f(2, 3)), 2.0)",
        "ops.norm(T(f(2, 3)), 2.0, dim=(0, 1))",
        "T(f(2, 3)).norm(1)",
        "T(f(2, 3)).norm(2)",
        "T(f(2, 3)).norm(1, dim=1)",
        "ops.unsqueeze(T(f(2, 3)), dim=1)",
        "ops.unbind(T(f(2, 3)), dim=1)",
        "ops.logsumexp(T(f(2, 3)), dim=1)",
        "ops.tensor_split(T(f(2, 3)), (1, 0))",
        "ops.vsplit(T(f(2, 3)), (2, 3))",
        "ops.block_diag(T(f(2, 3).astype(np.float64)))",
        "ops.float_power(T(f(2, 3)), 2.0)",
    ],
    "names of 2.x": [
        "ops.cholesky_solve(T(f(3, 2)), T(np.tril(p(3, 3))))",
        "ops.cholesky_solve(T(f(3, 2)), T(np.triu(p(3, 3))), True)",
        "ops.lu_solve(T(f(3, 1)), T(p(3, 3)), T(np.array([2, 2, 3], np.int32)))",
        "ops.lu_unpack(T(f(3, 4)), T(np.array([2, 3, 3], np.int32)))",
        "ops.lu_unpack(T(f(2, 4, 3)), T(np.array([[2, 3, 3], [1, 3, 3]], np.int32)))",
        "ops.geqrf(T(f(3, 2)))",
        "ops.geqrf(T(f(2, 3)))",
        "ops.logdet(T(np.eye(3, dtype=np.float32) * 2))",
        "ops.logdet(T(np.eye(3, dtype=np.float32) * -2))",
        "ops.log_matrix_determinant(T(f(3, 3)))",
        "ops.matrix_determinant(T(f(2, 3, 3)))",
        "ops.cond(T(f(3, 3)), 1)",
        "ops.cond(T(f(2, 3, 3)), 'nuc')",
        "ops.cond(T(f(2, 3, 3)), 'fro')",
        "ops.cond(T(f(3, 3)), -2)",
        "ops.cov(T(f(3, 4)))",
        "ops.cov(T(f(3, 4)), correction=0, fweights=T(np.array([1, 2, 1, 1])), aweights=T(p(4)))",
        "ops.cov(T(f(4)))",
        "ops.nanmedian(T(np.array([[1, np.nan, 3, 2], [4, 4, 5, 1]], np.float32)))",
        "ops.nanmedian(T(np.array([[1, np.nan, 3, 2], [4, 4, 5, 1]], np.float32)), 0, True)",
        "ops.msort(T(f(3, 2)))",
        "ops.polygamma(T(np.int64(1)), T(p(3)))",
        "ops.polygamma(T(np.int64(2)), T(p(3)))",
        "ops.sgn(T(f(3)))",
        "ops.sgn(T(np.array([3 + 4j, 0], np.complex64)))",
        "ops.diagflat(T(f(2, 2)), 1)",
        "ops.diagflat(T(f(2)), -1)",
        "ops.diagonal_scatter(T(f(3, 4)), T(f(3, seed=5)), 0)",
        "ops.diagonal_scatter(T(f(2, 3, 4)), T(f(2, 3, seed=5)), 1, 1, 2)",
        "ops.diagonal_scatter(T(f(3, 2, 4)), T(f(2, 2, seed=5)), -1, 0, 2)",
        "ops.col2im(T(f(1, 2, 4, 9)), T(np.array([4, 4], np.int32)), [2, 2], [1, 1], [0, 0],"
        " [1, 1])",
        "ops.channel_shuffle(T(f(1, 6, 2, 2)), 3)",
        "ops.mirror_pad(T(f(2, 3)), T(np.array([[1, 1], [2, 1]])), 'REFLECT')",
        "ops.soft_shrink(T(f(3)), 0.3)",
        "ops.stft(T(f(32)), 8)",
        "ops.stft(T(f(32)), 8, 4, 6, None, True, 'REFLECT', True, True, True)",
        "ops.stft(T(f(2, 32)), 8, window=T(p(8)), return_complex=False)",
        "ops.stft(T(f(2, 32)), 8, center=False, onesided=False, return_complex=True)",
        "ops.eps(T(f(2)))",
        "ops.eps(T(f(2).astype(np.float16)))",
        "ops.vecdot(T(f(2, 3)), T(f(2, 3, seed=5)))",
        "ops.expand_as(T(f(3)), T(f(2, 3)))",
        "ops.view_as(T(f(4)), T(f(2, 2)))",
        "ops.coalesce(T(np.array([[0, 0, 1], [1, 1, 2]])), T(f(3)), T(np.array([3, 3])))",
        "ops.bidense(T(f(2, 3)), T(f(2, 4)), T(f(5, 3, 4)), T(f(5)))",
        "ops.floor_divide(T(f(3)), T(p(3)))",
        "ops.arctan2(T(f(3)), T(p(3)))",
        "T(f(3, 2)).argmax_with_value(1)",
        "T(f(3, 2)).argmin_with_value(0, True)",
        "T(np.array([0, 1, 1])).choose([T(np.array([1, 2, 3])), T(np.array([4, 5, 6]))])",
        "T(f(3)).fill(2.5)",
        "T(f(2, 3)).resize(3, 3)",
        "T(f(2, 3)).resize((2, 2))",
        "T(f(2, 3, 4)).mT",
        "T(f(2, 3, 4)).mH",
        "T(f(2, 3)).sum_to_size((1, 3))",
        "T(f(2, 3)).sum_to_size(2, 1)",
        "T(f(2, 3)).stride()",
        "T(np.eye(2, dtype=np.float32)).to_csr()",
        "T(np.eye(2, dtype=np.float32)).to_coo()",
    ],
    "sparse parts": [
        "P('SparseAdd')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), I((0, 1), (2, 3)), T(f(2)), I(3, 4),"
        " T(np.float32(0.3)))",
        "P('SparseReorder')()(I((2, 1), (0, 1), (0, 0)), T(f(3)), I(3, 4))",
        "P('SparseReshape')()(I((0, 0, 0), (1, 2, 3)), I(2, 3, 6), I(9, -1))",
        "P('SparseSparseMaximum')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), I((0, 1), (2, 3)),"
        " T(-p(2)), I(3, 4))",
        "P('SparseSparseMinimum')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), I((0, 1), (2, 3)),"
        " T(p(2)), I(3, 4))",
        "P('SparseDenseCwiseAdd')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), T(f(4)))",
        "P('SparseDenseCwiseMul')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), T(f(3, 1)))",
        "P('SparseDenseCwiseDiv')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), T(p(3, 4)))",
        "P('SparseAddmm')()(I((0, 1), (1, 2)), T(f(2)), I(3, 4), T(f(4, 2)), T(f(3, 2)), T(p(1)),"
        " T(f(1)))",
        "P('SparseMatrixTranspose')()(*parts(2, 3))",
        "P('SparseMatrixTranspose')(True)(*parts(2, 2, 3))",
        "P('SparseMatrixNNZ')()(*parts(2, 2, 3))",
        "P('SparseMatrixSoftmax')(ms.float32)(*parts(2, 3))",
        "P('SparseMatrixMatMul')()(*parts(2, 3), T(f(3, 2)))",
        "P('SparseMatrixMatMul')(transpose_x1=True)(*parts(2, 3), T(f(2, 2)))",
        "P('SparseMatrixMatMul')(adjoint_x2=True)(*parts(2, 3), T(f(2, 3)))",
        "P('SparseMatrixMatMul')(transpose_output=True)(*parts(2, 3), T(f(3, 2)))",
        "P('SparseMatrixMatMul')()(*parts(2, 2, 3), T(f(2, 3, 2)))",
        "P('SparseTensorToCSRSparseMatrix')()(I((0, 1), (1, 2), (1, 3)), T(f(3)), I(2, 4))",
        "P('SparseTensorToCSRSparseMatrix')()(I((0, 0, 1), (0, 1, 2), (1, 1, 3)), T(f(3)),"
        " I(2, 2, 4))",
        *(
            f"P('SparseCountSparseOutput')({given})(I((1, 2), (3, 4), (2, 1), (2, 2), (1, 0)),"
            f" T(np.array([0, 2, 8, 8, 1], np.int32)), I(5, 5), T({weights}))"
            for given, weights in (
                ("", "f(5)"),
                ("True", "f(5)"),
                ("minlength=12", "f(5)"),
                ("maxlength=5", "f(5)"),
                ("", "f(0)"),
            )
        ),
        "P('SparseCountSparseOutput')()(I((1,), (3,), (2,), (2,)), T(np.array([0, 2, 8, 8])), I(4),"
        " T(np.zeros(0, np.int64)))",
    ],
    "places": [
        "P('ResizeLinear1D')()(T(f(1, 2, 5)), (8,))",
        "P('ResizeLinear1D')()(T(f(1, 2, 5)), (3,))",
        "P('ResizeLinear1D')('half_pixel')(T(f(1, 2, 5)), (8,))",
        "P('ResizeLinear1D')('half_pixel')(T(f(1, 2, 5)), (3,))",
        "grads(lambda x: P('ResizeLinear1D')()(x, (8,)), T(f(1, 2, 5)))",
        "grads(lambda x: P('ResizeLinear1D')('half_pixel')(x, (8,)), T(f(1, 2, 5)))",
        "P('DeformableOffsets')((1, 1, 1, 1), (1, 1, 1, 1), (2, 3))(T(f(1, 4, 5, 5)),"
        " T(f(1, 18, 6, 5)))",
        "P('DeformableOffsets')((1, 1, 2, 1), (1, 0, 0, 2), (2, 2), (1, 1, 1, 2),"
        " deformable_groups=2)(T(f(1, 4, 5, 5)), T(f(1, 24, 3, 5)))",
        "grads(P('DeformableOffsets')((1, 1, 1, 1), (1, 1, 1, 1), (2, 3)), T(f(1, 4, 5, 5)),"
        " T(f(1, 18, 6, 5)))",
        "grads(P('DeformableOffsets')((1, 1, 1, 1), (1, 1, 1, 1), (2, 3)), T(f(1, 4, 5, 5)),"
        " T(np.round(f(1, 18, 6, 5))))",
        "ops.deformable_conv2d(T(f(2, 4, 5, 5)), T(f(3, 2, 2, 3)), T(f(2, 18, 6, 5)), (2, 3),"
        " (1, 1, 1, 1), (1, 1, 1, 1), groups=2)",
        "grads(lambda x, w, o: ops.deformable_conv2d(x, w, o, (2, 3), (1, 1, 1, 1), (1, 1, 1, 1)),"
        " T(f(1, 4, 5, 5)), T(f(3, 4, 2, 3)), T(f(1, 18, 6, 5)))",
        "grads(lambda x: ops.grid_sample(x, T(f(1, 3, 3, 2))), T(f(1, 2, 4, 5)))",
        "grads(lambda g: ops.grid_sample(T(f(1, 2, 4, 5)), g, align_corners=True),"
        " T(np.array([-0.5, 0.5, 0.0, -1 / 3, 0.5, 1 / 3], np.float32).reshape(1, 1, 3, 2)))",
        "P('PSROIPooling')(0.5, 2, 3)(T(f(2, 12, 9, 8)), T(regions(2)))",
        "P('PSROIPooling')(0.5, 2, 3)(T(f(2, 12, 9, 8)), T(3 * regions(2)))",
        "grads(lambda x: P('PSROIPooling')(0.5, 2, 3)(x, T(regions(2))), T(f(2, 12, 9, 8)))",
        "P('PSROIPoolingGrad')((9, 8), 0.5, 2, 3)(T(f(2, 3, 2, 2)), T(regions(2)))",
    ],
    "diagonals": [
        *(
            code
            for align in ("RIGHT_LEFT", "LEFT_RIGHT", "LEFT_LEFT", "RIGHT_RIGHT")
            for code in (
                f"ops.matrix_diag_part(T(f(2, 3, 4)), K(-1, 2), T(np.float32(9)), align='{align}')",
                f"ops.matrix_diag(T(f(2, 3, 3)), K(-1, 1), T(np.int32(3)), T(np.int32(4)),"
                f" T(np.float32(9)), align='{align}')",
                f"ops.matrix_set_diag(T(f(2, 3, 4)), T(f(2, 4, 3)), K(-1, 2), align='{align}')",
            )
        ),
        "ops.matrix_diag_part(T(i(0, 9, 4, 3)), K(-2), T(np.int32(7)))",
        "ops.matrix_diag_part(T(i(0, 9, 4, 3)), K(-3, -1), T(np.int32(7)))",
        "ops.matrix_diag(T(f(2, 3)))",
        "ops.matrix_diag(T(f(2, 3)), T(np.int32(1)))",
        "ops.matrix_set_diag(T(f(2, 3, 4)), T(f(2, 3)), T(np.int32(1)))",
        "grads(lambda x: ops.matrix_diag_part(x, K(-1, 2), T(np.float32(9))), T(f(2, 3, 4)))",
        "grads(lambda x: ops.matrix_diag(x, K(-1, 1)), T(f(2, 3, 3)))",
        "grads(lambda x, d: ops.matrix_set_diag(x, d, K(-1, 2)), T(f(2, 3, 4)), T(f(2, 4, 3)))",
    ],
    "windows": [
        "ops.fractional_max_pool2d(T(f(2, 3, 7, 8)), (2, 3), (3, 4), _random_samples=T(p(2, 3, 2)),"
        " return_indices=True)",
        "ops.fractional_max_pool2d(T(f(3, 7, 8)), 2, output_ratio=0.5,"
        " _random_samples=T(p(1, 3, 2)), return_indices=True)",
        "ops.fractional_max_pool3d(T(f(2, 3, 5, 6, 7)), (2, 2, 3), (2, 3, 3),"
        " _random_samples=T(p(2, 3, 3)), return_indices=True)",
        "ops.fractional_max_pool3d(T(f(3, 5, 6, 7)), 2, output_ratio=0.5,"
        " _random_samples=T(p(1, 3, 3)), return_indices=True)",
        "nn.FractionalMaxPool2d(2, (3, 4), _random_samples=T(p(2, 3, 2)))(T(f(2, 3, 7, 8)))",
        "nn.FractionalMaxPool3d(2, (3, 4, 3), return_indices=True,"
        " _random_samples=T(p(2, 3, 3)))(T(f(2, 3, 7, 8, 6)))",
        "P('FractionalMaxPoolWithFixedKsize')(2, (3, 4))(T(i(0, 99, 2, 3, 7, 8)), T(p(2, 3, 2)))",
        "P('FractionalMaxPool3DWithFixedKsize')(2, 3)(T(f(2, 3, 5, 6, 7)), T(p(2, 3, 3)))",
        "P('FractionalMaxPool3DWithFixedKsize')(2, 3, 'NDHWC')(T(f(2, 5, 6, 7, 3)), T(p(2, 3, 3)))",
        "P('FractionalMaxPool')([1.0, 2.0, 3.0, 1.0])(T(f(2, 6, 9, 2)))",
        "P('FractionalMaxPool')([1.0, 2.0, 3.0, 1.0], overlapping=True)(T(f(2, 6, 9, 2)))",
        "P('FractionalMaxPool')([1.0, 2.0, 3.0, 1.0])(T(i(-9, 9, 2, 6, 9, 2)))",
        "P('FractionalAvgPool')([1.0, 2.0, 3.0, 1.0])(T(f(2, 6, 9, 2)))",
        "P('FractionalAvgPool')([1.0, 2.0, 3.0, 1.0], overlapping=True)(T(f(2, 6, 9, 2)))",
        "P('FractionalAvgPool')([1.0, 2.0, 3.0, 1.0])(T(i(-9, 9, 2, 6, 9, 2)))",
        "grads(lambda x: ops.fractional_max_pool2d(x, 2, (3, 4), _random_samples=T(p(2, 3, 2))),"
        " T(f(2, 3, 7, 8)))",
        "grads(lambda x: ops.fractional_max_pool3d(x, 2, (3, 4, 3), _random_samples=T(p(2, 3, 3))),"
        " T(f(2, 3, 7, 8, 6)))",
        "grads(P('FractionalMaxPool')([1.0, 2.0, 3.0, 1.0], overlapping=True), T(f(1, 6, 9, 2)))",
        "grads(P('FractionalAvgPool')([1.0, 2.0, 3.0, 1.0], overlapping=True), T(f(2, 6, 9, 2)))",
        "P('FractionalAvgPoolGrad')(True)(T(np.array([2, 6, 9, 2])), T(f(2, 3, 4, 2)),"
        " T(np.array([0, 2, 3, 6])), T(np.array([0, 2, 5, 7, 9])))",
        "P('FractionalMaxPoolGrad')()(T(f(1, 6, 9, 2)), T(f(1, 3, 4, 2)), T(f(1, 3, 4, 2)),"
        " T(np.array([0, 2, 3, 6])), T(np.array([0, 2, 5, 7, 9])))",
        "P('FractionalMaxPoolGrad')()(T(i(0, 9, 1, 6, 9, 2)), T(i(0, 9, 1, 3, 4, 2)),"
        " T(i(0, 9, 1, 3, 4, 2)), T(np.array([0, 2, 3, 6])), T(np.array([0, 2, 5, 7, 9])))",
        "P('CdistGrad')()(T(f(3, 2)), T(f(3, 4)), T(f(2, 4)), T(p(3, 2)))",
        "ops.lstsq(T(f(5, 3)), T(f(5, 2)))",
        "ops.lstsq(T(f(5, 3)), T(f(5)))",
    ],
    "others": [
        "P('ListDiff')()(T(i(0, 9, 8)), T(i(0, 5, 6)))",
        "ops.sparse_segment_mean(T(f(5, 3)), T(i(0, 5, 6)),"
        " T(np.array([0, 0, 1, 1, 1, 3], np.int32)))",
        "P('SparseSegmentMeanWithNumSegments')()(T(f(5, 3)), T(i(0, 5, 4)),"
        " T(np.array([0, 0, 1, 3], np.int32)), T(np.array([5], np.int32)))",
        "P('SparseSegmentSum')()(T(f(5, 3)), T(i(0, 5, 4)), T(np.array([0, 0, 1, 3], np.int32)))",
        "P('SparseSegmentSqrtN')()(T(f(5, 3)), T(i(0, 5, 4)), T(np.array([0, 0, 1, 3], np.int32)))",
        "grads(lambda x: ops.sparse_segment_mean(x, T(i(0, 5, 4)),"
        " T(np.array([0, 0, 1, 3], np.int32))), T(f(5, 3)))",
        "P('RGBToHSV')()(T(p(2, 3, 4, 3)))",
        "P('RGBToHSV')()(T(np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1]], np.float32)))",
        "P('NoRepeatNGram')(2)(T(i(0, 4, 2, 3, 6)), T(f(2, 3, 5)))",
        "P('NoRepeatNGram')(1)(T(i(0, 4, 2, 3, 6)), T(f(2, 3, 5)))",
        "P('Im2Col')(3)(T(f(2, 3, 5, 6)))",
        "P('Im2Col')((2, 3), (1, 2), (2, 1), (1, 0))(T(f(2, 3, 5, 6)))",
        "P('SparseApplyRMSProp')(0.2, 0.01, 1e-6)(ms.Parameter(T(f(3, 2)), 'a'),"
        " ms.Parameter(T(p(3, 2)), 'b'), ms.Parameter(T(p(3, 2, seed=1)), 'c'),"
        " T(np.float32(0.01)), T(f(3, 2, seed=2)), T(np.array([0, 1, 2], np.int32)))",
        "P('ParallelConcat')()((T(f(1, 2)), T(f(1, 2, seed=1))))",
    ],
    "edges": [
        "ops.xdivy(T(f4(0, 0, 2, -1)), T(f4(0, 3, 5, 2)))",
        "grads(ops.xdivy, T(f4(0, 0, 2, -1)), T(f4(0, 3, 5, 2)))",
        "ops.prelu(T(np.float32(-2)), T(np.array([0.25], np.float32)))",
        "mnp.geomspace(1, 256, 9)",
        "mnp.geomspace(T(f4(1, 2)), T(f4(8, 32)), 4)",
        "mnp.meshgrid(T(f(2, 2)), T(f(3)))",
        "mnp.meshgrid(T(f(2)), T(f(3)), indexing='ij', sparse=True)",
        "mnp.trapz([1.0, 2.0, 3.0], x=[4, 6, 8])",
        "mnp.trapz(T(f(2, 3)), dx=2)",
    ],
    "sparse": [
        "COO(i(0, 3, 5, 2), f(5), (3, 4)).to_dense()",
        "COO(i(0, 3, 5, 2), f(5), (3, 4)).coalesce()",
        "COO(np.array([[0, 1], [1, 2], [1, 0]]), f(3), (3, 4)).to_csr()",
        "COO(i(0, 3, 5, 2), f(5), (3, 4)).abs()",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)).to_dense()",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)).to_coo()",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)).mv(T(f(4, 1)))",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)).mm(T(f(4, 2)))",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)).sum(1)",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)) * T(f(4))",
        "CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)) / T(f(3, 1))",
        "ops.csr_add(CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)),"
        " CSR((0, 1, 2, 3), (2, 2, 1), f(3, seed=1), (3, 4)), T(np.float32(2)),"
        " T(np.float32(3)))",
        "ops.csr_mm(CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)),"
        " CSR((0, 1, 2, 2, 3), (0, 1, 1), f(3, seed=1), (4, 2)))",
        "ops.csr_mm(CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)),"
        " CSR((0, 1, 2, 3), (2, 2, 1), f(3, seed=1), (3, 4)), trans_b=True)",
        "ops.csr_softmax(CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)), ms.float32)",
        "ops.csr_exp(CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)))",
        "ops.coo_tanh(COO(i(0, 3, 5, 2), f(5), (3, 4)))",
        "ops.coo_add(COO(np.array([[0, 1], [1, 2]]), f(2), (3, 4)),"
        " COO(np.array([[0, 1], [2, 2]]), f(2, seed=1), (3, 4)), T(np.float32(0.5)))",
        "ops.coo_concat((COO(np.array([[0, 1], [1, 2]]), f(2), (3, 4)),"
        " COO(np.array([[0, 1], [2, 2]]), f(2, seed=1), (3, 4))), 1)",
        "ops.coo_concat((COO(np.array([[0, 1], [1, 2]]), f(2), (3, 4)),"
        " COO(np.array([[0, 1], [2, 2]]), f(2, seed=1), (3, 4))), 0)",
        "ops.dense_to_sparse_coo(T(np.maximum(f(3, 4), 0)))",
        "ops.dense_to_sparse_csr(T(np.maximum(f(3, 4), 0)))",
        "ops.csr_to_dense(CSR((0, 2, 2, 3), (0, 2, 1), f(3), (3, 4)))",
        "ops.csr_gather(T(np.array([0, 2, 2, 3], np.int32)), T(np.array([0, 2, 1], np.int32)),"
        " T(f(3, 4)), (3, 4))",
        "ops.SparseToDense()(T(np.array([[0, 1], [1, 2], [2, 3]])), T(f(3)), (3, 4))",
        "nn.SparseToDense()(COO(np.array([[0, 1], [1, 2]]), f(2), (3, 4)))",
        "nn.SparseTensorDenseMatmul()(T(np.array([[0, 1], [1, 2], [2, 3]])), T(f(3)), (3, 4),"
        " T(f(4, 2)))",
        "nn.SparseTensorDenseMatmul(True, True)(T(np.array([[0, 1], [1, 2], [2, 3]])), T(f(3)),"
        " (3, 4), T(f(2, 3)))",
        "grads(lambda v, d: nn.SparseTensorDenseMatmul()(T(np.array([[0, 1], [1, 2], [2, 3]])), v,"
        " (3, 4), d), T(f(3)), T(f(4, 2)))",
        "grads(lambda v: ops.SparseToDense()(T(np.array([[0, 1], [1, 2], [2, 3]])), v, (3, 4)),"
        " T(f(3)))",
        "nn.TimeDistributed(nn.ReLU(), 1)(T(f(2, 3, 4)))",
        "filled(nn.TimeDistributed(nn.Dense(4, 2), 1, 0))(T(f(2, 3, 4)))",
        "filled(nn.TimeDistributed(nn.Dense(4, 2), 0, 1))(T(f(2, 3, 4)))",
    ],
    "boxes": [
        "ops.IOU()(T(boxes(5)), T(boxes(4, seed=1)))",
        "ops.IOU(mode='iof')(T(boxes(5)), T(boxes(4, seed=1)))",
        "ops.iou(T(boxes(5)), T(boxes(4, seed=1)))",
        "ops.NMSWithMask(0.3)(T(scored(9)))",
        "ops.ROIAlign(2, 3, 0.5, 2)(T(f(2, 3, 8, 9)), T(rois(4)))",
        "ops.ROIAlign(2, 3, 0.5, 2, 0)(T(f(2, 3, 8, 9)), T(rois(4)))",
        "ops.BoundingBoxEncode()(T(boxes(5)), T(boxes(5, seed=1)))",
        "ops.BoundingBoxEncode((0.1, 0.2, 0.0, 0.1), (0.1, 0.1, 0.2, 0.2))(T(boxes(5)),"
        " T(boxes(5, seed=1)))",
        "ops.BoundingBoxDecode(max_shape=(12, 10), wh_ratio_clip=0.016)(T(boxes(5)), T(f(5, 4)))",
        "ops.CheckValid()(T(boxes(6)), T(np.array([9, 10, 1], np.float32)))",
        "ops.check_valid(T(boxes(6)), T(np.array([9, 10, 1], np.float32)))",
    ],
    "sequences": [
        "ops.ReverseSequence(1, 0)(T(f(3, 4, 2)), T(i(1, 5, 3)))",
        "ops.ReverseSequence(0, 1)(T(f(4, 3)), T(i(1, 5, 3)))",
        "ops.reverse_sequence(T(f(3, 4, 2)), T(i(1, 5, 3)), 1)",
        "ops.CTCLoss()(T(f(5, 2, 4)), T(np.array([[0, 0], [0, 1], [1, 0]], np.int64)),"
        " T(np.array([1, 2, 0], np.int32)), T(np.array([5, 4], np.int32)))",
        "ops.ctc_loss(T(logp(6, 2, 5)), T(i(1, 5, 2, 3)), T(np.array([6, 5])),"
        " T(np.array([3, 2])))",
        "ops.ctc_loss(T(logp(6, 2, 5)), T(i(1, 5, 2, 3)), T(np.array([6, 5])),"
        " T(np.array([3, 2])), reduction='none')",
        "ops.ctc_loss(T(logp(6, 2, 5)), T(i(1, 5, 2, 3)), T(np.array([6, 5])),"
        " T(np.array([3, 2])), reduction='sum', zero_infinity=True)",
        "nn.CTCLoss()(T(logp(6, 2, 5)), T(i(1, 5, 2, 3)), T(np.array([6, 5])),"
        " T(np.array([3, 2])))",
        "ops.LSTM(3, 2, 1, False, False, 0.0)(T(f(4, 2, 3)), T(f(1, 2, 2)), T(f(1, 2, 2, seed=1)),"
        " T(f(40, 1, 1)))[:3]",
        "ops.LSTM(3, 2, 1, True, True, 0.0)(T(f(4, 2, 3)), T(f(2, 2, 2)), T(f(2, 2, 2, seed=1)),"
        " T(f(112, 1, 1)))[:3]",
    ],
    "arrays": [
        "ops.tensor_scatter_elements(T(f(3, 4)), T(i(0, 3, 2, 4)), T(f(2, 4, seed=1)), 0)",
        "ops.tensor_scatter_elements(T(f(3, 4)), T(i(0, 4, 3, 2)), T(f(3, 2, seed=1)), 1, 'add')",
        "ops.narrow(T(f(3, 5)), 1, 1, 3)",
        "ops.argwhere(T(b(3, 4)))",
        "ops.bucketize(T(f(3, 4)), [-1.0, 0.0, 1.0])",
        "ops.bucketize(T(f(3, 4)), [-1.0, 0.0, 1.0], right=True)",
        "ops.baddbmm(T(f(2, 3, 4)), T(f(2, 3, 5)), T(f(2, 5, 4)), beta=0.5, alpha=2.0)",
        "ops.addbmm(T(f(3, 4)), T(f(2, 3, 5)), T(f(2, 5, 4)), beta=0.5, alpha=2.0)",
        "ops.addmm(T(f(3, 4)), T(f(3, 5)), T(f(5, 4)), beta=0.5, alpha=2.0)",
        "ops.addmv(T(f(3)), T(f(3, 5)), T(f(5)), beta=0.5, alpha=2.0)",
        "ops.addr(T(f(3, 4)), T(f(3)), T(f(4)), beta=0.5, alpha=2.0)",
        "ops.svd(T(f(3, 4)), compute_uv=False)",
        "ops.unique_consecutive(T(np.array([1, 1, 2, 2, 3, 1, 1])), True, True)",
        "ops.unique_consecutive(T(np.array([[1, 1, 2], [1, 1, 2], [0, 1, 2]])), False, True, 0)",
        "ops.logspace(0, 2, 5, 10, dtype=ms.float32)",
        "ops.diagonal(T(f(2, 3, 4)), 1, 1, 2)",
        "ops.dot(T(f(2, 3)), T(f(3, 4)))",
        "ops.vstack((T(f(2, 3)), T(f(1, 3))))",
        "ops.hstack((T(f(2, 3)), T(f(2, 1))))",
        "ops.dstack((T(f(2, 3)), T(f(2, 3, seed=1))))",
        "ops.column_stack((T(f(3)), T(f(3, 2))))",
        "ops.cartesian_prod(T(f(2)), T(f(3)))",
        "ops.combinations(T(f(4)), 2)",
        "ops.combinations(T(f(3)), 2, True)",
        "ops.kaiser_window(6, False, 8.0)",
        "ops.hann_window(6)",
        "ops.hamming_window(6)",
        "ops.blackman_window(6)",
        "ops.bartlett_window(6)",
        "ops.tanhshrink(T(f(3, 4)))",
        "ops.softmin(T(f(3, 4)))",
        "ops.softsign(T(f(3, 4)))",
        "ops.polar(T(p(3)), T(f(3)))",
        "ops.view_as_real(T(f(3) + 1j * f(3, seed=1)))",
        "ops.Complex()(T(f(3)), T(f(3, seed=1)))",
        "ops.numel(T(f(3, 4)))",
        "ops.is_tensor(T(f(3)))",
        "ops.is_floating_point(T(f(3)))",
        "ops.LpNorm([0], 2)(T(f(3, 4)))",
        "ops.LpNorm([1], 1, True)(T(f(3, 4)))",
        "ops.Einsum('ij,jk->ik')((T(f(2, 3)), T(f(3, 4))))",
        "ops.rms_norm(T(f(3, 4)), T(f(4)))",
        "ops.cross(T(f(2, 3)), T(f(2, 3, seed=1)), 1)",
        "ops.cdist(T(f(3, 4)), T(f(2, 4)))",
        "ops.cummax(T(f(3, 4)), 1)",
        "ops.cummin(T(f(3, 4)), 1)",
        "ops.logcumsumexp(T(f(3, 4)), 1)",
        "ops.median(T(f(3, 5)))",
        "ops.median(T(f(3, 5)), 1)",
        "ops.nansum(T(f(3, 5)), 1)",
        "ops.nanmean(T(f(3, 5)), 1)",
        "ops.diff(T(f(3, 5)))",
        "ops.trace(T(f(3, 5)))",
        "ops.rot90(T(f(3, 5)), 1, [0, 1])",
        "ops.fliplr(T(f(3, 5)))",
        "ops.flipud(T(f(3, 5)))",
        "ops.ravel(T(f(3, 5)))",
        "ops.repeat_interleave(T(f(3, 2)), 2, 1)",
        "ops.searchsorted(T(np.sort(f(5))), T(f(3)))",
        "ops.histc(T(f(10)), 4, -2.0, 2.0)",
        "ops.bincount(T(i(0, 4, 9)))",
        "ops.heaviside(T(f(4)), T(f(4, seed=1)))",
        "ops.hypot(T(f(4)), T(f(4, seed=1)))",
        "ops.lcm(T(i(1, 9, 4)), T(i(1, 9, 4, seed=1)))",
        "ops.gcd(T(i(1, 9, 4)), T(i(1, 9, 4, seed=1)))",
        "ops.logaddexp(T(f(4)), T(f(4, seed=1)))",
        "ops.logaddexp2(T(f(4)), T(f(4, seed=1)))",
        "ops.copysign(T(f(4)), T(f(4, seed=1)))",
        "ops.exp2(T(f(4)))",
        "ops.log10(T(p(4)))",
        "ops.rad2deg(T(f(4)))",
        "ops.deg2rad(T(f(4)))",
        "ops.sinc(T(f(4)))",
        "ops.erfinv(T(p(4)))",
        "ops.digamma(T(p(4)))",
        "ops.lgamma(T(p(4)))",
        "ops.logit(T(p(4)))",
        "ops.float_power(T(p(4)), 2)",
        "ops.frac(T(f(4)))",
        "ops.signbit(T(f(4)))",
        "ops.kron(T(f(2, 2)), T(f(2, 3)))",
        "ops.inner(T(f(2, 3)), T(f(4, 3)))",
        "ops.mv(T(f(2, 3)), T(f(3)))",
        "ops.renorm(T(f(3, 4)), 2, 0, 1.0)",
        "ops.gather_elements(T(f(3, 4)), 0, T(i(0, 3, 2, 4)))",
        "ops.index_add(ms.Parameter(T(f(3, 4))), T(np.array([0, 2], np.int32)), T(f(2, 4)), 0)",
        "ops.index_fill(T(f(3, 4)), 0, T(np.array([0, 2], np.int32)), 5.0)",
        "ops.nonzero(T(b(3, 4)))",
        "ops.swapaxes(T(f(2, 3, 4)), 0, 2)",
        "ops.block_diag(T(f(2, 2)), T(f(1, 3)))",
        "ops.aminmax(T(f(3, 4)), axis=1)",
        "ops.std_mean(T(f(3, 4)))",
        "ops.var_mean(T(f(3, 4)))",
        "ops.triu_indices(3, 4)",
        "ops.tril_indices(3, 4)",
        "ops.vander(T(f(3)), 3)",
        "ops.unfold(T(f(1, 2, 4, 5)), (2, 3))",
        "ops.fold(T(f(1, 12, 9)), T(np.array([4, 5], np.int32)), (2, 3))",
        "ops.cosine_similarity(T(f(3, 4)), T(f(3, 4, seed=1)))",
        "ops.pdist(T(f(3, 4)))",
        "ops.norm(T(f(3, 4)), dim=1)",
        "ops.max_pool3d(T(f(1, 2, 4, 4, 4)), 2)",
        "ops.avg_pool3d(T(f(1, 2, 4, 4, 4)), 2)",
        "ops.avg_pool1d(T(f(1, 2, 6)), 2, 2)",
        "ops.adaptive_avg_pool1d(T(f(1, 2, 6)), 3)",
        "ops.adaptive_max_pool2d(T(f(1, 2, 6, 6)), 3)",
        "ops.adaptive_max_pool2d(T(f(1, 2, 5, 4)), (3, 2), True)",
        "ops.adaptive_max_pool2d(T(np.zeros((2, 5, 4), np.float32)), (None, 3), True)",
        "ops.adaptive_max_pool3d(T(f(1, 2, 4, 5, 3)), (2, 3, 2), True)",
        "nn.AdaptiveMaxPool2d(3, True)(T(f(1, 2, 5, 4)))",
        "nn.AdaptiveMaxPool3d((2, 1, 2), True)(T(f(2, 4, 5, 3)))",
        "P('AdaptiveMaxPool2D')((2, 3))(T(f(1, 2, 5, 4)))",
        "ops.conv3d(T(f(1, 2, 4, 4, 4)), T(f(3, 2, 2, 2, 2)))",
        "ops.max_pool2d(T(f(1, 2, 4, 4)), 2)",
    ],
    "layers": [
        "filled(nn.Conv3dTranspose(2, 3, 2, has_bias=True))(T(f(1, 2, 3, 3, 3)))",
        "filled(nn.Conv3dTranspose(2, 3, 3, 2, 'pad', 1, output_padding=1))(T(f(1, 2, 3, 3, 3)))",
        "filled(nn.Conv3dTranspose(2, 3, 3, 2, 'valid'))(T(f(1, 2, 3, 3, 3)))",
        "nn.ConstantPad1d((1, 2), 0.5)(T(f(2, 3, 4)))",
        "nn.ConstantPad2d((1, 2, 0, 1), 0.5)(T(f(2, 3, 4)))",
        "nn.ConstantPad3d((1, 2, 0, 1, 1, 1), 0.5)(T(f(2, 3, 4, 2)))",
        "nn.ZeroPad2d((1, 2, 0, 1))(T(f(2, 3, 4)))",
        "nn.ReflectionPad1d((1, 2))(T(f(2, 3, 4)))",
        "nn.ReflectionPad2d(1)(T(f(2, 3, 4)))",
        "nn.ReflectionPad3d(1)(T(f(1, 2, 3, 4, 3)))",
        "nn.ReplicationPad1d((1, 2))(T(f(2, 3, 4)))",
        "nn.ReplicationPad2d((1, 2, 0, 1))(T(f(2, 3, 4)))",
        "nn.ReplicationPad3d(1)(T(f(1, 2, 3, 4, 3)))",
        "nn.MaxPool3d(2, 2)(T(f(1, 2, 4, 4, 4)))",
        "nn.AvgPool3d(2, 2)(T(f(1, 2, 4, 4, 4)))",
        "nn.AdaptiveMaxPool1d(3)(T(f(1, 2, 6)))",
        "nn.AdaptiveMaxPool2d(3)(T(f(1, 2, 6, 7)))",
        "nn.AdaptiveAvgPool3d(2)(T(f(1, 2, 4, 5, 6)))",
        "nn.LPPool1d(2, 3)(T(p(1, 2, 6)))",
        "nn.LPPool2d(2, 2)(T(p(1, 2, 4, 4)))",
        "filled(nn.Conv2dBnAct(2, 3, 2, has_bn=True, activation='relu'))(T(f(1, 2, 4, 4)))",
        "filled(nn.DenseBnAct(4, 3, has_bn=True, activation='relu'))(T(f(2, 4)))",
        "filled(nn.SyncBatchNorm(3))(T(f(2, 3, 4, 4)))",
        "filled(nn.TransformerDecoderLayer(4, 2, 8, 0.0))(T(f(3, 2, 4)), T(f(5, 2, 4)))",
        "filled(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0), 2))(T(f(3, 2, 4)))",
        "filled(nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, 0.0), 2))"
        "(T(f(3, 2, 4)), T(f(5, 2, 4)))",
        "filled(nn.Transformer(4, 2, 1, 1, 8, 0.0))(T(f(5, 2, 4)), T(f(3, 2, 4)))",
        "nn.Unflatten(1, (2, 3))(T(f(2, 6)))",
        "nn.ChannelShuffle(2)(T(f(1, 4, 2, 2)))",
        "nn.RReLU()(T(p(3, 4)))",
        "nn.HSigmoid()(T(f(3, 4)))",
        "nn.LogSigmoid()(T(f(3)))",
        "nn.TripletMarginLoss()(T(f(3, 4)), T(f(3, 4, seed=1)), T(f(3, 4, seed=2)),"
        " T(np.float32(1.0)))",
        "nn.MarginRankingLoss()(T(f(4)), T(f(4, seed=1)), T(np.sign(f(4, seed=2))))",
        "nn.GaussianNLLLoss()(T(f(3, 4)), T(f(3, 4, seed=1)), T(p(3, 4)))",
        "nn.PoissonNLLLoss()(T(f(3, 4)), T(p(3, 4)))",
        "nn.MultiMarginLoss()(T(f(3, 4)), T(i(0, 4, 3)))",
        "nn.DiceLoss()(T(p(3, 4)), T(b(3, 4).astype(np.float32)))",
        "nn.FocalLoss(2.0)(T(f(3, 4)), T(np.array([[1], [0], [3]], np.int32)))",
        "nn.MAELoss()(T(f(3)), T(f(3, seed=1)))",
        "nn.CosineEmbeddingLoss()(T(f(3, 4)), T(f(3, 4, seed=1)),"
        " T(np.sign(f(3)).astype(np.int32)))",
    ],
    "inner operators": [
        "P('CombinedNonMaxSuppression')()(T(boxes(12).reshape(2, 6, 1, 4) / 10),"
        " T(p(2, 6, 2)), K0(3), K0(4), T(np.float32(0.1)), T(np.float32(0.2)))",
        "P('CombinedNonMaxSuppression')(True, False)(T(boxes(24).reshape(2, 6, 2, 4) / 5),"
        " T(p(2, 6, 2)), K0(3), K0(9), T(np.float32(0.1)), T(np.float32(0.2)))",
        "P('CombinedNonMaxSuppression')(clip_boxes=False)("
        "T(boxes(12).reshape(2, 6, 1, 4)[..., [2, 3, 0, 1]]), T(p(2, 6, 2)), K0(3), K0(8),"
        " T(np.float32(0.1)), T(np.float32(0.6)))",
        "P('MatrixLogarithm')()(T((f(2, 3, 3) + 1j * f(2, 3, 3, seed=1)).astype(np.complex64)))",
        "P('MatrixLogarithm')()(T(f(4, 4) + 1j * f(4, 4, seed=1)))",
        "P('MatrixLogarithm')()(T(np.array([[0, 1], [0, 0]], np.complex64)))",
        "P('ConcatOffsetV1')()(K0(-2), (K(2, 3, 4), K(2, 5, 4), K(2, 1, 4)))",
        "(lambda w: (P('UpdateCache')()(w, K(0, 3, -1, 7), T(f(4, 3)), 4), w)[1])(W(4, 3))",
        "(lambda w: (P('UpdateCache')()(w, K(0, 3, -1, 7), T(f(4, 3)), K0(2)), w)[1])(W(4, 3))",
        "adafactor(P('FusedAdaFactor')(), 3, 4)",
        "adafactor(P('FusedAdaFactor')(True, False, True), 2, 3, 4)",
        "adafactor(P('FusedAdaFactor')(True, True, True), 5)",
        "adafactor(P('FusedAdaFactor')(False, True), 3, 4)",
        "adafactor(P('FusedAdaFactorWithGlobalNorm')(True, True), 3, 4, norm=4.0)",
    ],
}


def _source(*key: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def f(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 in (-2, 2)."""
    return _source("f", shape, seed).uniform(-2, 2, shape).astype(np.float32)


def p(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 in (0.1, 0.9)."""
    return _source("p", shape, seed).uniform(0.1, 0.9, shape).astype(np.float32)


def i(low: int, high: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Int32 in [low, high)."""
    return _source("i", shape, low, high, seed).integers(low, high, shape).astype(np.int32)


def b(*shape: int, seed: int = 0) -> np.ndarray:
    """Bool."""
    return _source("b", shape, seed).integers(0, 2, shape).astype(bool)


def boxes(n: int, seed: int = 0) -> np.ndarray:
    """(n, 4): corners (left, top, right, bottom) within 10."""
    low = _source("boxes", n, seed).uniform(0, 6, (n, 2))
    size = _source("sizes", n, seed).uniform(1, 5, (n, 2))
    return np.concatenate([low, low + size], 1).astype(np.float32)


def scored(n: int, seed: int = 0) -> np.ndarray:
    """(n, 5): boxes with scores."""
    scores = _source("scores", n, seed).permutation(n)[:, None] / np.float32(n)
    return np.concatenate([boxes(n, seed), scores.astype(np.float32)], 1)


def rois(n: int) -> np.ndarray:
    """(n, 5): the number of an image, and a box."""
    return np.concatenate([i(0, 2, n, 1).astype(np.float32), boxes(n) * 1.5], 1)


def regions(n: int) -> np.ndarray:
    """(n, 5, 1): the number of an image, and a box, for PSROIPooling."""
    return rois(n)[:, :, None]


def logp(*shape: int) -> np.ndarray:
    """Logarithms of probabilities along the last axis."""
    x = f(*shape)
    return (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(np.float32)


def filler(tensor: Any) -> Any:
    """`filled`: gives a Cell's Parameters fixed numbers, by their order; `tensor` makes one."""

    def filled(cell: Any) -> Any:
        for at, param in enumerate(cell.get_parameters()):
            if "moving_variance" in param.name:
                continue
            param.set_data(tensor(f(*param.shape, seed=at) / 4))
        return cell

    return filled


def differentiator(tensor: Any, ms: Any) -> Any:
    """`grads`: gradients by every argument of the first output, weighted, and summed."""

    def grads(fn: Any, *args: Any) -> Any:
        def total(*given: Any) -> Any:
            out = fn(*given)
            out = out[0] if isinstance(out, tuple) else out
            return (out * tensor(f(*out.shape, seed=9))).sum()

        return ms.grad(total, tuple(range(len(args))))(*args)

    return grads


def scope(tensor: Any, primitive: Any, **modules: Any) -> dict[str, Any]:
    """What the expressions see.

    Args:
        tensor: makes one.
        primitive: `P`: a class of operators by its name, wherever MindSpore has it.
        modules: by their names; `ms` among them.
    """
    mine = {"np": np, "T": tensor, "filled": filler(tensor), "P": primitive}
    mine["grads"] = differentiator(tensor, modules["ms"])
    ms = modules["ms"]
    mine["COO"] = lambda at, v, shape: ms.COOTensor(tensor(at), tensor(v), shape)
    mine["CSR"] = lambda ends, at, v, shape: ms.CSRTensor(
        *(tensor(np.array(x, np.int32)) for x in (ends, at)), tensor(v), shape
    )
    mine["f4"] = lambda *numbers: np.array(numbers, np.float32)
    mine["K0"] = lambda k: tensor(np.array(k, np.int32))
    mine["W"] = lambda *shape: ms.Parameter(tensor(f(*shape, seed=3)), name="w")
    mine["adafactor"] = lambda step, *shape, **more: _adafactor(step, tensor, ms, shape, **more)
    mine["K"] = lambda *k: tensor(np.array(k, np.int32))
    mine["I"] = lambda *k: tensor(np.array(k, np.int64))
    mine["parts"] = lambda *shape: _parts(mine["K"], tensor, *shape)
    arrays = (f, p, i, b, boxes, scored, rois, regions, logp)
    return mine | {fn.__name__: fn for fn in arrays} | modules


def _adafactor(
    step: Any, tensor: Any, ms: Any, shape: tuple[int, ...], norm: float | None = None
) -> list[Any]:
    """The Parameter and its states after two steps of `FusedAdaFactor`."""
    rows, columns = (shape[:-1], shape[:-2] + shape[-1:]) if len(shape) > 1 else ((1,), (1,))
    made = [(f(*shape, seed=3)), *(np.zeros(s, np.float32) for s in (shape, rows, columns, shape))]
    states = [ms.Parameter(tensor(value), name=f"s{at}") for at, value in enumerate(made)]
    settings = [tensor(np.array(v, np.float32)) for v in ((1e-30, 1e-3), 0.7, 0.9, 0.8, 0.01, 0.03)]
    for seed in (4, 5):
        last = [] if norm is None else [tensor(np.float32(norm))]
        step(*settings, tensor(f(*shape, seed=seed)), *states, *last)
    return states


def _parts(whole: Any, tensor: Any, *shape: int) -> list[Any]:
    """The parts of sparse matrices (2, 3) or (2, 2, 3) with three elements."""
    one = len(shape) == 2
    starts, rows = ((0, 3), (0, 2, 3)) if one else ((0, 2, 3), (0, 1, 2, 0, 1, 1))
    return [*(whole(*each) for each in (shape, starts, rows, (0, 2, 1))), tensor(f(3))]


def flat(result: Any) -> list[np.ndarray]:
    """The arrays of a result, in order; numbers as arrays without axes."""
    if hasattr(result, "to_tuple"):  # a sparse Tensor
        return flat(result.to_tuple())
    if isinstance(result, tuple | list):
        return [array for part in result for array in flat(part)]
    return [result.asnumpy() if hasattr(result, "asnumpy") else np.asarray(result)]
