"""Arguments for calls of operators, large enough to shard over eight devices.

`OWN` has those of images in other sizes, boxes, sequences, counts, changed copies, matrices and
elementwise work with conditions on its operands. `sharded_update_arguments.py` has those of updates
of Parameters, and `sharded_operator_cases.py` the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DRAW = np.random.default_rng(3)

#: The arguments and the settings of a call.
Given = tuple[tuple[Any, ...], dict[str, Any]]


def f(*shape: int) -> np.ndarray:
    """Float32 in (0.1, 0.9)."""
    return DRAW.uniform(0.1, 0.9, shape).astype(np.float32)


def i(high: int, *shape: int) -> np.ndarray:
    """Int32 in [0, high)."""
    return DRAW.integers(0, high, shape).astype(np.int32)


def b(*shape: int) -> np.ndarray:
    """Bool."""
    return DRAW.integers(0, 2, shape).astype(bool)


def c(*args: Any, **settings: Any) -> Given:
    """A call."""
    return args, settings


def boxes(count: int, size: float = 16.0) -> np.ndarray:
    """(count, 4): (left, top, right, bottom) inside of a square of this size."""
    low, extent = DRAW.uniform(0, size / 2, (count, 2)), DRAW.uniform(0.1, 0.5, (count, 2)) * size
    return np.concatenate([low, low + extent], 1).astype(np.float32)


def scored_boxes(count: int) -> np.ndarray:
    """(count, 5): boxes, and their scores."""
    return np.concatenate([boxes(count), f(count, 1)], 1)


def regions(count: int, images: int) -> np.ndarray:
    """(count, 5): the number of an image, and a box."""
    return np.concatenate([i(images, count, 1).astype(np.float32), boxes(count, 8.0)], 1)


def labels_of_sequences(sequences: int, each: int) -> np.ndarray:
    """(sequences * each, 2), Int64: sequence and place of each label."""
    places = np.stack(np.meshgrid(np.arange(sequences), np.arange(each), indexing="ij"), -1)
    return places.reshape(-1, 2).astype(np.int64)


X, Y = f(8, 16), f(8, 16)
IMAGE = f(8, 8, 8, 8)
_SIZES = np.array([3, 8, 5, 1, 8, 2, 7, 4], np.int32)
_FOURIER = ("FFT", "IFFT", "RFFT", "IRFFT", "HFFT", "IHFFT")
_DRAWN = f(8, 4, 4)
_SQUARE = _DRAWN @ _DRAWN.transpose(0, 2, 1) + np.eye(4, dtype=np.float32)

_SEGMENTS = np.array([0, 0, 1, 1, 2, 3, 3, 3], np.int32)

#: Class name -> its calls.
OWN: dict[str, list[Given]] = {
    # Images read at places, windows that are drawn, patches, colours.
    "DeformableOffsets": [
        c(f(8, 8, 5, 5), f(8, 12, 4, 4), strides=(1, 1, 1, 1), pads=(0, 0, 0, 0), ksize=(2, 2))
    ],
    "FractionalMaxPool3DWithFixedKsize": [c(f(8, 8, 4, 4, 4), f(8, 8, 3), ksize=2, output_shape=2)],
    "FractionalMaxPoolWithFixedKsize": [c(IMAGE, f(8, 8, 2), ksize=2, output_shape=4)],
    "Im2Col": [c(IMAGE, ksizes=2)],
    "PSROIPooling": [
        c(f(2, 8, 9, 8), regions(8, 2)[:, :, None], spatial_scale=0.5, group_size=2, output_dim=2)
    ],
    "RGBToHSV": [c(f(8, 8, 3))],
    "ResizeLinear1D": [c(f(8, 8, 8), (16,))],
    # Matrices.
    "MatrixDiagPartV3": [c(f(8, 8, 8), (-1, 1), 0.5)],
    "MatrixDiagV3": [c(f(8, 3, 8), (-1, 1))],
    "MatrixSetDiagV3": [c(f(8, 8, 8), f(8, 3, 8), (-1, 1))],
    "SparseSegmentMeanWithNumSegments": [c(X, i(8, 8), _SEGMENTS, 4)],
    "SparseSegmentSqrtNWithNumSegments": [c(X, i(8, 8), _SEGMENTS, 4)],
    "SparseSegmentSumWithNumSegments": [c(X, i(8, 8), _SEGMENTS, 4)],
    "SparseTensorDenseMatmul": [c(i(8, 16, 2), f(16), (8, 8), f(8, 16))],
    "SparseToDense": [c(i(8, 16, 2), f(16), (8, 8))],
    "Svd": [c(f(8, 4, 4), compute_uv=False)],
    "CTCLossV2": [c(-f(6, 8, 5), 1 + i(3, 8, 3), np.full(8, 6, np.int32), np.full(8, 3, np.int32))],
    "NoRepeatNGram": [c(i(4, 8, 2, 6), f(8, 2, 8), ngram_size=2)],
    # Boxes.
    "BoundingBoxDecode": [c(boxes(8), f(8, 4), max_shape=(16, 16))],
    "BoundingBoxEncode": [c(boxes(8), boxes(8))],
    "CheckValid": [c(boxes(8), np.array([12, 12, 1], np.float32))],
    "IOU": [c(boxes(8), boxes(16))],
    "NMSWithMask": [c(scored_boxes(8))],
    "ROIAlign": [
        c(f(2, 4, 7, 7), regions(8, 2), pooled_height=2, pooled_width=2, spatial_scale=0.5),
        c(f(1, 3, 8, 8), regions(3, 1), pooled_height=3, pooled_width=3, spatial_scale=1.0),
    ],
    # Images in another size.
    "BatchToSpace": [c(IMAGE, block_size=2, crops=[[0, 0], [0, 0]])],
    "BatchToSpaceND": [c(IMAGE, block_shape=2, crops=[[0, 0], [0, 0]])],
    "DepthwiseConv2dNative": [c(IMAGE, f(2, 8, 3, 3), channel_multiplier=2, kernel_size=3)],
    "SpaceToBatch": [c(IMAGE, block_size=2, paddings=[[0, 0], [0, 0]])],
    "SpaceToBatchND": [c(IMAGE, block_shape=2, paddings=[[0, 0], [0, 0]])],
    "CropAndResize": [
        c(f(4, 7, 7, 4), boxes(4, 1.0), i(4, 4), (3, 3)),
        c(f(3, 8, 8, 3), boxes(3, 1.0), i(3, 3), (3, 3)),
    ],
    "DepthToSpace": [c(IMAGE, block_size=2)],
    "ResizeBilinear": [c(IMAGE, size=(4, 16))],
    "ResizeBilinearV2": [c(IMAGE, (16, 8))],
    "ResizeNearestNeighbor": [c(IMAGE, size=(16, 4))],
    "SpaceToDepth": [c(IMAGE, block_size=2)],
    # Sequences.
    "CTCLoss": [
        c(f(3, 4, 8), labels_of_sequences(3, 1), i(7, 3), np.full(4, 3, np.int32)),
        c(f(8, 1, 5), labels_of_sequences(1, 3), i(4, 3), np.full(1, 8, np.int32)),
    ],
    "DynamicGRUV2": [
        c(f(3, 4, 4), f(4, 24) - 0.5, f(8, 24) - 0.5),
        c(f(4, 4, 3), f(3, 9) - 0.5, f(3, 9) - 0.5, f(9), f(9), None, f(4, 3)),
    ],
    "DynamicRNN": [
        c(f(3, 4, 4), f(12, 32) - 0.5, f(32)),
        c(f(4, 4, 3), f(11, 32) - 0.5, f(32), i(4, 4), f(1, 4, 8), f(1, 4, 8)),
    ],
    "LSTM": [
        c(
            *(f(4, 4, 8), f(1, 4, 8), f(1, 4, 8), f(32 * 8 * 2 + 32, 1, 1) - 0.5),
            input_size=8,
            hidden_size=8,
            num_layers=1,
            has_bias=True,
            bidirectional=False,
            dropout=0.0,
        )
    ],
    "ReverseSequence": [
        c(X, _SIZES, seq_dim=1, batch_dim=0),
        c(f(8, 8, 4), _SIZES, seq_dim=0, batch_dim=1),
    ],
    # Counts.
    "ConfusionMatrix": [c(i(8, 16), i(8, 16), num_classes=8)],
    "SearchSorted": [c(np.sort(X, 1), f(8, 4)), c(np.sort(f(16)), f(8, 4))],
    # Masks.
    "DropoutDoMask": [c(X, i(2, 8, 16).astype(np.uint8), 0.5)],
    # Changed copies.
    "FillDiagonal": [c(X, fill_value=5.0)],
    "InplaceAdd": [c(X, f(4, 16), indices=(0, 2, 4, 6))],
    "InplaceSub": [c(X, f(4, 16), indices=(0, 2, 4, 6))],
    "InplaceUpdate": [c(X, f(4, 16), indices=(0, 2, 4, 6))],
    "PadV3": [c(X, (1, 2, 0, 0), np.float32(1.5))],
    "Padding": [c(f(8, 1), pad_dim_size=8)],
    **{f"TensorScatter{how}": [c(X, i(8, 4, 1), f(4, 16))] for how in ("Div", "Mul")},
    "UniqueWithPad": [c(i(4, 16), 9)],
    # Matrices.
    "CholeskyInverse": [c(np.linalg.cholesky(_SQUARE[0]))],
    "ConjugateTranspose": [c(X + 1j * Y, (1, 0))],
    "MatrixSolve": [c(_SQUARE, f(8, 4, 2))],
    "MatrixTriangularSolve": [c(_SQUARE, f(8, 4, 2))],
    "Renorm": [c(X, p=2, dim=0, maxnorm=1.0)],
    # Transforms.
    **{kind: [c(f(8, 4, 8), None, 1)] for kind in _FOURIER},
    **{kind + end: [c(f(8, 4, 8), None, (1, 2))] for kind in _FOURIER for end in ("2", "N")},
    **{name: [c(X, 1)] for name in ("FFTShift", "IFFTShift")},
    **{name: [c(f(8, 4, 8), 2, None, 1)] for name in ("DCT", "IDCT")},
    **{name: [c(f(8, 4, 8), 2, None, (1, 2))] for name in ("DCTN", "IDCTN")},
    # Elementwise.
    "DataFormatDimMap": [c(i(4, 8))],
    "EqualCount": [c(i(2, 16), i(2, 16))],
    "Mvlgamma": [c(X + 3, p=3)],
    "PopulationCount": [c(i(99, 8, 16))],
    "ReLUV2": [c(IMAGE - 0.5)],
    "Conj": [c(X + 1j * Y)],
    "Gcd": [c(i(40, 8, 16), i(40, 8, 16))],
    "Heaviside": [c(X - 0.5, Y)],
    "Imag": [c(X + 1j * Y)],
    "IsReal": [c(X + 1j * Y)],
    "Lcm": [c(i(40, 8, 16), i(40, 8, 16))],
    "Ldexp": [c(X, i(4, 8, 16))],
    "LeftShift": [c(i(40, 8, 16), i(4, 8, 16))],
    "Real": [c(X + 1j * Y)],
    "RightShift": [c(i(40, 8, 16), i(4, 8, 16))],
    "TruncateDiv": [c(X, Y)],
    "TruncateMod": [c(X, Y)],
    "Zeta": [c(X + 1.5, Y)],
}

#: Of two operands of one shape, with nothing to mind.
PAIRS = """
    ApproximateEqual Complex CopySign Fmax Fmin Hypot Igamma Igammac IsClose LogAddExp LogAddExp2
    MulNoNan NextAfter Polar Xdivy
"""

#: They have tests of their own, `test_random_strategies.py`: each program draws other numbers.
RANDOM = """
    Dropout2D Dropout3D FractionalAvgPool FractionalMaxPool Gamma LogUniformCandidateSampler
    RandomChoiceWithMask RandomGamma RandomShuffle StandardLaplace UniformCandidateSampler
"""

#: Why operators of the modules here have no strategy.
WITHOUT_STRATEGY: dict[str, str] = {
    **dict.fromkeys(RANDOM.split(), "it draws other numbers in each program"),
    "CTCGreedyDecoder": "the shapes of its results hang on values",
    "Bincount": "the shape of its result hangs on values",
    "Coalesce": "the shapes of its results hang on values",
    "ListDiff": "the shape of its result hangs on values",
    "DropoutGenMask": "it takes no Tensor",
    "NPUAllocFloatStatus": "it takes no Tensor",
    "NPUClearFloatStatus": "the status is of the process, not of a program",
    "NPUGetFloatStatus": "the status is of the process, not of a program",
    **dict.fromkeys(
        ("Geqrf", "Orgqr", "Ormqr"), "it keeps all of its axes whole, and has no gradient"
    ),
    "TruncatedNormal": "it takes no Tensor",
}
