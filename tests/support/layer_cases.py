"""Layers by the code that makes them, in the terms of the golden data, and one case for each layer.

`make` gives a Cell from code such as `nn.Dense(5, 3)`. `CASES` has an example with inputs for
every layer that `paramesh.nn` offers, for what has to hold for all of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paramesh import dtype, nn
from paramesh import initializer as initializers
from paramesh.tensor import Tensor


def make(code: str) -> Any:
    """The value of an expression of the golden data."""
    scope = {"np": np, "ms": dtype, "nn": nn, "Tensor": Tensor, "I": initializers}
    return eval(code, scope)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 numbers between -1 and 1."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


class Case(NamedTuple):
    """A layer and its inputs."""

    code: str
    inputs: tuple[Any, ...]

    @property
    def layer(self) -> str:
        return self.code.removeprefix("nn.").partition("(")[0]


_IMAGES = numbers(2, 4, 5, 4)
_SEQUENCES = numbers(2, 4, 6)
_VOLUMES = numbers(1, 4, 2, 3, 2)
_ROWS = numbers(4, 6)
_INDICES = np.array([[0, 3, 3], [9, 1, 0]], np.int32)
_CLASSES = np.array([1, 0, 5, 2], np.int32)
_SHARES = np.abs(numbers(4, 6, seed=1))
_SIGNS = np.where(numbers(4, 6, seed=2) > 0, 1, -1).astype(np.float32)
_LOG_P = -np.abs(numbers(4, 1, 3)) - 1
_PADS = (("Constant", ", 0.5"), ("Reflection", ""), ("Replication", ""))
_PADDED = ((1, _SEQUENCES), (2, _IMAGES), (3, numbers(1, 2, 3, 3, 3)))


def _places(x: np.ndarray, n: int) -> np.ndarray:
    """The first element of each window of 2, counted over the last n axes of what was pooled."""
    shape = x.shape[-n:]
    at = np.ravel_multi_index([2 * i for i in np.indices(shape)], [2 * size for size in shape])
    return np.broadcast_to(at, x.shape).astype(np.int32)


_OF_NUMBERS = """
    ReLU ReLU6 LeakyReLU ELU CELU SeLU GELU FastGelu SiLU Mish HSwish HSigmoid Hardtanh HShrink
    SoftShrink Sigmoid LogSigmoid Tanh Tanhshrink Softplus Softsign Softmax LogSoftmax Softmin GLU
"""
_LOSSES_OF_NUMBERS = """
    MSELoss L1Loss MAELoss RMSELoss SmoothL1Loss HuberLoss SoftmaxCrossEntropyWithLogits
    BCEWithLogitsLoss SoftMarginLoss HingeEmbeddingLoss
"""

CASES = [
    Case("nn.Dense(6, 3)", (_ROWS,)),
    Case("nn.BiDense(6, 6, 2)", (_ROWS, _ROWS)),
    Case("nn.Identity()", (_ROWS,)),
    Case("nn.ClipByNorm()", (_ROWS, np.float32(1.5))),
    Case("nn.Flatten()", (_IMAGES,)),
    Case("nn.Pad(((1, 1), (2, 2)), 'SYMMETRIC')", (_ROWS,)),
    Case("nn.OneHot(depth=10)", (_INDICES,)),
    Case("nn.Upsample(scale_factor=2.0, mode='bilinear')", (_IMAGES,)),
    Case("nn.Unfold((1, 2, 2, 1), (1, 1, 1, 1), (1, 1, 1, 1))", (_IMAGES,)),
    Case("nn.Dropout(p=0.5)", (_ROWS,)),
    Case("nn.Dropout1d(0.5)", (_SEQUENCES,)),
    Case("nn.Dropout2d(0.5)", (_IMAGES,)),
    Case("nn.Dropout3d(0.5)", (_VOLUMES,)),
    Case("nn.Conv1d(4, 6, 3, has_bias=True)", (_SEQUENCES,)),
    Case("nn.Conv2d(4, 6, 3, has_bias=True)", (_IMAGES,)),
    Case("nn.Conv3d(4, 2, 2, has_bias=True)", (_VOLUMES,)),
    Case("nn.Conv1dTranspose(4, 6, 3, stride=2)", (_SEQUENCES,)),
    Case("nn.Conv2dTranspose(4, 6, 3, stride=2)", (_IMAGES,)),
    Case("nn.MaxPool1d(2, 2)", (_SEQUENCES,)),
    Case("nn.MaxPool2d(2, 2)", (_IMAGES,)),
    Case("nn.AvgPool1d(2, 2)", (_SEQUENCES,)),
    Case("nn.AvgPool2d(2, 2)", (_IMAGES,)),
    Case("nn.AdaptiveAvgPool1d(4)", (_SEQUENCES,)),
    Case("nn.AdaptiveAvgPool2d((3, None))", (_IMAGES,)),
    Case("nn.BatchNorm1d(6)", (_ROWS,)),
    Case("nn.BatchNorm2d(4)", (_IMAGES,)),
    Case("nn.BatchNorm3d(4)", (_VOLUMES,)),
    Case("nn.LayerNorm((6,))", (_ROWS,)),
    Case("nn.GroupNorm(2, 4)", (_IMAGES,)),
    Case("nn.InstanceNorm1d(4)", (_SEQUENCES,)),
    Case("nn.InstanceNorm2d(4)", (_IMAGES,)),
    Case("nn.InstanceNorm3d(4)", (_VOLUMES,)),
    Case("nn.Embedding(10, 4, padding_idx=3)", (_INDICES,)),
    Case("nn.EmbeddingLookup(10, 4, target='DEVICE')", (_INDICES,)),
    Case("nn.EmbeddingBag(10, 4)", (_INDICES,)),
    Case(
        "nn.MultiFieldEmbeddingLookup(10, 4, 2)",
        (_INDICES, numbers(2, 3), np.array([[0, 1, 1], [0, 0, 0]], np.int32)),
    ),
    Case("nn.RNN(6, 3)", (_SEQUENCES,)),
    Case("nn.LSTM(6, 3)", (_SEQUENCES,)),
    Case("nn.GRU(6, 3)", (_SEQUENCES,)),
    Case("nn.RNNCell(6, 3)", (_ROWS,)),
    Case("nn.LSTMCell(6, 3)", (_ROWS,)),
    Case("nn.GRUCell(6, 3)", (_ROWS,)),
    Case("nn.MultiheadAttention(6, 2)", (_SEQUENCES,) * 3),
    Case("nn.TimeDistributed(nn.Dense(6, 3), 1)", (_SEQUENCES,)),
    Case("nn.TransformerEncoderLayer(6, 2, 8)", (_SEQUENCES,)),
    Case("nn.PReLU(6)", (_ROWS,)),
    Case("nn.Threshold(0.1, 20)", (_ROWS,)),
    Case("nn.Softmax2d()", (_IMAGES,)),
    Case("nn.CrossEntropyLoss()", (_ROWS, _CLASSES)),
    Case("nn.NLLLoss()", (_ROWS, _CLASSES)),
    Case("nn.BCELoss()", (_SHARES, np.abs(_ROWS))),
    Case("nn.KLDivLoss('batchmean')", (_ROWS, _SHARES)),
    Case("nn.CosineEmbeddingLoss()", (_ROWS, _SHARES, np.array([1, -1, 1, -1], np.int32))),
    Case("nn.CentralCrop(0.5)", (_IMAGES,)),
    Case("nn.ChannelShuffle(2)", (_IMAGES,)),
    Case("nn.Conv2dBnAct(4, 2, 2, has_bn=True, activation='relu')", (_IMAGES,)),
    Case("nn.DenseBnAct(6, 3, has_bn=True, activation='relu')", (_ROWS,)),
    Case("nn.MatMul(transpose_x2=True)", (_ROWS, _ROWS)),
    Case("nn.Moments(0)", (_ROWS,)),
    Case("nn.Norm(1)", (_ROWS,)),
    Case("nn.PixelShuffle(2)", (_IMAGES,)),
    Case("nn.PixelUnshuffle(2)", (_SEQUENCES[:, :, :, None].repeat(2, 3),)),
    Case("nn.ReduceLogSumExp(1)", (_ROWS,)),
    Case("nn.Roll(1, 0)", (_ROWS,)),
    Case("nn.RReLU()", (_ROWS,)),
    Case("nn.SyncBatchNorm(4)", (_IMAGES,)),
    Case("nn.Tril()", (_ROWS,)),
    Case("nn.Triu()", (_ROWS,)),
    Case("nn.Unflatten(1, (2, 3))", (_ROWS,)),
    Case("nn.CTCLoss()", (_LOG_P, np.array([[1, 2]], np.int32), *[np.array([n]) for n in (4, 2)])),
    Case("nn.DiceLoss()", (_SHARES, _SHARES)),
    Case("nn.FocalLoss()", (_ROWS, _CLASSES[:, None])),
    Case("nn.GaussianNLLLoss()", (_ROWS, _SHARES, _SHARES)),
    Case("nn.MarginRankingLoss()", (_ROWS, _SHARES, _SIGNS)),
    Case("nn.MultiLabelSoftMarginLoss()", (_ROWS, _SHARES)),
    Case("nn.MultiMarginLoss()", (_ROWS, _CLASSES)),
    Case("nn.PoissonNLLLoss()", (_ROWS, _SHARES)),
    Case("nn.TripletMarginLoss()", (_ROWS, _SHARES, _SIGNS)),
    Case("nn.TripletMarginWithDistanceLoss()", (_ROWS, _SHARES, _SIGNS)),
    *(Case(f"nn.{name}Pad{n}d(1{more})", (x,)) for name, more in _PADS for n, x in _PADDED),
    Case("nn.ZeroPad2d(1)", (_IMAGES,)),
    Case("nn.Transformer(6, 2, 1, 1, 8)", (_SEQUENCES, _SEQUENCES)),
    Case("nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8), 2)", (_SEQUENCES,) * 2),
    Case("nn.TransformerDecoderLayer(6, 2, 8)", (_SEQUENCES,) * 2),
    Case("nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8), 2)", (_SEQUENCES,)),
    Case("nn.AdaptiveAvgPool3d(2)", (_VOLUMES,)),
    Case("nn.AdaptiveMaxPool1d(3)", (_SEQUENCES,)),
    Case("nn.AdaptiveMaxPool2d(2)", (_IMAGES,)),
    Case("nn.AdaptiveMaxPool3d(2)", (_VOLUMES,)),
    Case("nn.AvgPool3d(2)", (_VOLUMES,)),
    Case("nn.Conv3dTranspose(4, 2, 2, has_bias=True)", (_VOLUMES,)),
    Case("nn.LPPool1d(2, 2)", (np.abs(_SEQUENCES),)),
    Case("nn.LPPool2d(2, 2)", (np.abs(_IMAGES),)),
    Case("nn.MaxPool3d(2)", (_VOLUMES,)),
    *(Case(f"nn.MaxUnpool{n}d(2)", (x, _places(x, n))) for n, x in _PADDED),
    Case("nn.SSIM(filter_size=3)", (np.abs(_IMAGES), np.abs(numbers(2, 4, 5, 4, seed=1)))),
    Case("nn.PSNR()", (np.abs(_IMAGES), np.abs(numbers(2, 4, 5, 4, seed=1)))),
    Case("nn.MSSSIM(power_factors=(0.5, 0.5), filter_size=2)", (np.abs(numbers(2, 3, 8, 8)),) * 2),
    Case("nn.MultiClassDiceLoss()", (_SHARES, _SHARES)),
    Case("nn.L1Regularizer(0.1)", (_ROWS,)),
    *(Case(f"nn.{name}()", (_ROWS,)) for name in _OF_NUMBERS.split()),
    *(Case(f"nn.{name}()", (_ROWS, _SIGNS)) for name in _LOSSES_OF_NUMBERS.split()),
]
