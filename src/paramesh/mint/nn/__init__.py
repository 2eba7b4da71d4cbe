"""`mint.nn`: layers with torch's arguments, over those of `nn`; `mint.nn.functional` beside them.

What both have with one meaning is one class. Weights are torch's by name (`weight`, `bias`,
`running_mean`), and start as MindSpore's `mint` has them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from paramesh import nn, ops
from paramesh.dtype import float32, int64
from paramesh.initializer.factory import HeUniform, Uniform
from paramesh.mint.nn import functional
from paramesh.mint.nn.inplace import written
from paramesh.mint.nn.padding import UpsamplingBilinear2d as UpsamplingBilinear2d
from paramesh.mint.nn.padding import UpsamplingNearest2d as UpsamplingNearest2d
from paramesh.mint.nn.padding import ZeroPad1d as ZeroPad1d
from paramesh.mint.nn.padding import ZeroPad3d as ZeroPad3d
from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.nn.conv import BaseConv
from paramesh.nn.sync_batch_norm import batch_norm
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import DTypeLike, Ints, TensorLike
from paramesh.tensor.base import Tensor

GLU = nn.GLU
AdaptiveAvgPool1d = nn.AdaptiveAvgPool1d
AdaptiveAvgPool2d = nn.AdaptiveAvgPool2d
AdaptiveAvgPool3d = nn.AdaptiveAvgPool3d
AdaptiveMaxPool1d = nn.AdaptiveMaxPool1d
AdaptiveMaxPool2d = nn.AdaptiveMaxPool2d
BCELoss = nn.BCELoss
ConstantPad1d = nn.ConstantPad1d
ConstantPad2d = nn.ConstantPad2d
ConstantPad3d = nn.ConstantPad3d
CosineEmbeddingLoss = nn.CosineEmbeddingLoss
CrossEntropyLoss = nn.CrossEntropyLoss
Identity = nn.Identity
L1Loss = nn.L1Loss
LogSigmoid = nn.LogSigmoid
MarginRankingLoss = nn.MarginRankingLoss
Mish = nn.Mish
MSELoss = nn.MSELoss
NLLLoss = nn.NLLLoss
PixelShuffle = nn.PixelShuffle
ReflectionPad1d = nn.ReflectionPad1d
ReflectionPad2d = nn.ReflectionPad2d
ReflectionPad3d = nn.ReflectionPad3d
ReplicationPad1d = nn.ReplicationPad1d
ReplicationPad2d = nn.ReplicationPad2d
ReplicationPad3d = nn.ReplicationPad3d
Sigmoid = nn.Sigmoid
SoftMarginLoss = nn.SoftMarginLoss
Tanh = nn.Tanh
TripletMarginLoss = nn.TripletMarginLoss
ZeroPad2d = nn.ZeroPad2d
SELU, Hardsigmoid, Hardswish, Hardshrink = nn.SeLU, nn.HSigmoid, nn.HSwish, nn.HShrink
SmoothL1Loss, PReLU, Softsign = nn.SmoothL1Loss, nn.PReLU, nn.Softsign
Softshrink, MaxUnpool2d = nn.SoftShrink, nn.MaxUnpool2d


class Linear(nn.Dense):
    """x @ weight.T + bias.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        bias: whether there is a bias.
        weight_init: what the weight starts from; None: uniform on +-1/sqrt(in_features).
        bias_init: the same for the bias.
        dtype: element type of the Parameters; None: Float32.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True,
        weight_init: arguments.Init = None,
        bias_init: arguments.Init = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_features, out_features, weight_init, bias_init, bias, dtype=dtype or float32
        )
        self.in_features, self.out_features = in_features, out_features


class Dropout(nn.Dropout):
    """Zero with probability p, and x / (1 - p) otherwise, in training.

    Args:
        p: the probability.
        inplace: write the result into the input.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p=p)
        self.inplace = inplace

    def construct(self, x: TensorLike) -> Any:
        """(...) -> (...)."""
        found = super().construct(x)
        return written("Dropout", x, found) if self.inplace else found


class Dropout2d(nn.Dropout2d):
    """Whole channels of zeros with probability p, in training.

    Args:
        p: the probability.
        inplace: write the result into the input.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p)
        self.inplace = inplace

    def construct(self, x: TensorLike) -> Any:
        """(n, c, ...) -> (n, c, ...)."""
        found = super().construct(x)
        return written("Dropout2d", x, found) if self.inplace else found


class _Conv(BaseConv):
    formats = ("torch",)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1,
        padding: int | tuple[int, ...] | str = 0, dilation: Ints = 1, groups: int = 1,
        bias: bool = True, padding_mode: str = "zeros", dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        owner = type(self).__name__
        arguments.choice(owner, "padding_mode", padding_mode, ("zeros",))
        named = isinstance(padding, str)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding if named else "pad",
            0 if named else padding, dilation, groups, bias, None, None, "torch", dtype or float32,
        )  # fmt: skip
        self._pads = padding if named else self.padding

    def _sizes(self, name: str, value: Ints) -> tuple[int, ...]:
        return arguments.integers(type(self).__name__, name, value, self.n)

    def _checked_padding(self, padding: Ints) -> Any:
        return arguments.integers(type(self).__name__, "padding", padding, self.n, low=0)

    def construct(self, input: TensorLike) -> Any:
        """(n, c, ...) -> (n, out, ...)."""
        fn = getattr(functional, f"conv{self.n}d")
        return fn(
            input, self.weight, self.bias, self.stride, self._pads, self.dilation, self.group
        )  # fmt: skip


class Conv1d(_Conv):
    """A convolution of sequences with torch's arguments; weight (out, c / groups, length)."""

    n = 1


class Conv2d(_Conv):
    """A convolution of images with torch's arguments; weight (out, c / groups, h, w)."""

    n = 2


class Conv3d(_Conv):
    """A convolution of volumes with torch's arguments; weight (out, c / groups, d, h, w)."""

    n = 3


class ConvTranspose2d(Cell):
    """A transposed convolution with torch's arguments; weight (in, out / groups, h, w)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1,
        padding: Ints = 0, output_padding: Ints = 0, groups: int = 1, bias: bool = True,
        dilation: Ints = 1, padding_mode: str = "zeros", dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        owner = "ConvTranspose2d"
        arguments.choice(owner, "padding_mode", padding_mode, ("zeros",))
        kernel = arguments.integers(owner, "kernel_size", kernel_size, 2)
        kind = dtype or float32
        self.weight = arguments.weight(
            owner, "weight", None, (in_channels, out_channels // groups, *kernel), kind,
            default=HeUniform(math.sqrt(5)),
        )  # fmt: skip
        self.bias = None
        if bias:
            start = Uniform(1 / math.sqrt(out_channels // groups * math.prod(kernel)))
            self.bias = arguments.weight(owner, "bias", None, (out_channels,), kind, default=start)
        self.settings = (stride, padding, output_padding, groups, dilation)

    def construct(self, input: TensorLike) -> Any:
        """(n, in, h, w) -> (n, out, h', w')."""
        return ops.conv_transpose2d(input, self.weight, self.bias, *self.settings)


class _BatchNorm(Cell):
    normalize = staticmethod(functional.batch_norm)

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        owner, kind, shape = type(self).__name__, dtype or float32, (num_features,)
        self.num_features, self.eps = num_features, eps
        if momentum is None:
            raise ValueError(f"{owner}(momentum): None, a mean over all batches, is not offered.")
        self.momentum, self.track_running_stats = momentum, track_running_stats
        self.weight = self.bias = None
        if affine:
            self.weight = arguments.weight(owner, "weight", "ones", shape, kind)
            self.bias = arguments.weight(owner, "bias", "zeros", shape, kind)
        self.running_mean = self.running_var = None
        if track_running_stats:
            frozen: dict[str, Any] = {"requires_grad": False}
            self.running_mean = arguments.weight(owner, "mean", "zeros", shape, kind, **frozen)
            self.running_var = arguments.weight(owner, "var", "ones", shape, kind, **frozen)
            self.num_batches_tracked = Parameter(
                Tensor(np.array(0), int64), name="num_batches_tracked", requires_grad=False
            )

    def construct(self, input: TensorLike) -> Any:
        """(n, c, ...) -> (n, c, ...)."""
        mean, var = self.running_mean, self.running_var
        if mean is None or var is None:
            zeros = ops.zeros((self.num_features,))
            mean, var = zeros, zeros
        elif self.training:
            ops.assign_add(self.num_batches_tracked, 1)
        of_batch = self.training or not self.track_running_stats
        return self.normalize(
            input, mean, var, self.weight, self.bias, of_batch, self.momentum, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (n, c) or (n, c, l), with torch's arguments and names."""


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (n, c, h, w), with torch's arguments and names."""


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (n, c, d, h, w), with torch's arguments and names."""


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation by the batch of all devices; see `nn.SyncBatchNorm`."""

    normalize = staticmethod(batch_norm)


class LayerNorm(Cell):
    """The last axes with mean 0 and variance 1, with torch's arguments and names."""

    def __init__(
        self, normalized_shape: Ints, eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.normalized_shape, self.eps = shape, eps
        self.weight = self.bias = None
        if elementwise_affine:
            kind = dtype or float32
            self.weight = arguments.weight("LayerNorm", "weight", "ones", shape, kind)
            if bias:
                self.bias = arguments.weight("LayerNorm", "bias", "zeros", shape, kind)

    def construct(self, input: TensorLike) -> Any:
        """(..., *normalized_shape)."""
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(Cell):
    """Groups of channels with mean 0 and variance 1, with torch's arguments and names."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = self.bias = None
        if affine:
            kind = dtype or float32
            self.weight = arguments.weight("GroupNorm", "weight", "ones", (num_channels,), kind)
            self.bias = arguments.weight("GroupNorm", "bias", "zeros", (num_channels,), kind)

    def construct(self, input: TensorLike) -> Any:
        """(n, c, ...) -> (n, c, ...)."""
        return ops.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class Embedding(Cell):
    """Rows of a table, which start normal; `max_norm` and `scale_grad_by_freq` are not offered."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
        sparse: bool = False, _weight: arguments.Init = None, _freeze: bool = False,
        dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if max_norm is not None or scale_grad_by_freq:
            raise ValueError("Embedding: max_norm and scale_grad_by_freq are not offered.")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self.weight = arguments.weight(
            "Embedding", "weight", _weight, (num_embeddings, embedding_dim), dtype or float32,
            default="normal", requires_grad=not _freeze,
        )  # fmt: skip

    def construct(self, input: TensorLike) -> Any:
        """(...) -> (..., embedding_dim)."""
        return ops.embedding(input, self.weight, self.padding_idx)


def _layer(name: str, fn: str, defaults: dict[str, Any], train: bool = False) -> type[Cell]:
    """A layer without Parameters, of a function and its settings."""

    def __init__(self: Any, *args: object, **kwargs: object) -> None:  # noqa: N807
        Cell.__init__(self)
        names = list(defaults)
        settings = defaults | dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or set(settings) - set(names):
            raise TypeError(f"{name} takes {', '.join(names)}, got {args} and {kwargs}.")
        missing = [key for key, value in settings.items() if value is _REQUIRED]
        if missing:
            raise TypeError(f"{name}: {', '.join(missing)} is missing.")
        self.settings = settings

    def construct(self: Any, *inputs: Any) -> Any:
        return getattr(functional, fn)(*inputs, **self.settings)

    doc = f"The layer of `functional.{fn}`, with these settings: {', '.join(defaults) or 'none'}."
    members = {"__init__": __init__, "construct": construct, "__doc__": doc, "__module__": __name__}
    return type(name, (Cell,), members)


_REQUIRED = object()
_POOL = {"kernel_size": _REQUIRED, "stride": None, "padding": 0}
ReLU, ReLU6 = (
    _layer("ReLU", "relu", {"inplace": False}),
    _layer("ReLU6", "relu6", {"inplace": False}),
)
SiLU, GELU = (
    _layer("SiLU", "silu", {"inplace": False}),
    _layer("GELU", "gelu", {"approximate": "none"}),
)
ELU = _layer("ELU", "elu", {"alpha": 1.0, "inplace": False})
LeakyReLU = _layer("LeakyReLU", "leaky_relu", {"negative_slope": 0.01})
Softplus = _layer("Softplus", "softplus", {"beta": 1, "threshold": 20})
Hardtanh = _layer("Hardtanh", "hardtanh", {"min_val": -1.0, "max_val": 1.0, "inplace": False})
Threshold = _layer(
    "Threshold", "threshold", {"threshold": _REQUIRED, "value": _REQUIRED, "inplace": False}
)
Softmax = _layer("Softmax", "softmax", {"dim": -1})
LogSoftmax = _layer("LogSoftmax", "log_softmax", {"dim": None})
Flatten = _layer("Flatten", "flatten", {"start_dim": 1, "end_dim": -1})
MaxPool2d = _layer("MaxPool2d", "max_pool2d",
                   _POOL | dict(dilation=1, return_indices=False, ceil_mode=False))  # fmt: skip
_AVERAGE = _POOL | {"ceil_mode": False, "count_include_pad": True}
AvgPool1d = _layer("AvgPool1d", "avg_pool1d", _AVERAGE)
AvgPool2d = _layer("AvgPool2d", "avg_pool2d", _AVERAGE | {"divisor_override": None})
AvgPool3d = _layer("AvgPool3d", "avg_pool3d", _AVERAGE | {"divisor_override": None})
Unfold = _layer(
    "Unfold", "unfold", {"kernel_size": _REQUIRED, "dilation": 1, "padding": 0, "stride": 1}
)
Fold = _layer("Fold", "fold", {"output_size": _REQUIRED, "kernel_size": _REQUIRED, "dilation": 1,
                               "padding": 0, "stride": 1})  # fmt: skip
Upsample = _layer("Upsample", "interpolate", {"size": None, "scale_factor": None, "mode": "nearest",
                                              "align_corners": None})  # fmt: skip
KLDivLoss = _layer("KLDivLoss", "kl_div", {"reduction": "mean", "log_target": False})
BCEWithLogitsLoss = _layer("BCEWithLogitsLoss", "binary_cross_entropy_with_logits",
                           {"weight": None, "reduction": "mean", "pos_weight": None})  # fmt: skip

_HERE = """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
    AvgPool1d AvgPool2d AvgPool3d BCELoss BCEWithLogitsLoss BatchNorm1d BatchNorm2d BatchNorm3d Cell
    ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose2d
    CosineEmbeddingLoss CrossEntropyLoss Dropout Dropout2d ELU Embedding Flatten Fold GELU GLU
    GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity KLDivLoss L1Loss LayerNorm
    LeakyReLU Linear LogSigmoid LogSoftmax MSELoss MarginRankingLoss MaxPool2d MaxUnpool2d Mish
    NLLLoss PReLU PixelShuffle ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid SmoothL1Loss SoftMarginLoss
    Softmax Softplus Softshrink Softsign SyncBatchNorm Tanh Threshold TripletMarginLoss Unfold
    Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d functional
"""
globals()["__all__"] = sorted(_HERE.split())  # checkers read no computed one
