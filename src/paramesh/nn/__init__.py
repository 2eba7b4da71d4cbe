"""Cells: layers, losses and networks that own Parameters.

Optimizers, schedules and training cells can be imported from here too, as in MindSpore. They live
on upper floors, and are imported when they are first used.
"""

from paramesh import lazy_names
from paramesh.nn.activation import (
    CELU,
    ELU,
    GELU,
    GLU,
    FastGelu,
    Hardtanh,
    HShrink,
    HSigmoid,
    HSwish,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    SeLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softmax2d,
    Softmin,
    Softplus,
    SoftShrink,
    Softsign,
    Tanh,
    Tanhshrink,
    Threshold,
    get_activation,
)
from paramesh.nn.attention import MultiheadAttention, TransformerEncoderLayer
from paramesh.nn.basic import (
    BiDense,
    ClipByNorm,
    Dense,
    Flatten,
    Identity,
    OneHot,
    Pad,
    Unfold,
    Upsample,
)
from paramesh.nn.cell import Cell, no_init_parameters
from paramesh.nn.containers import CellDict, CellList, SequentialCell
from paramesh.nn.conv import Conv1d, Conv2d, Conv3d
from paramesh.nn.conv_transpose import Conv1dTranspose, Conv2dTranspose
from paramesh.nn.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from paramesh.nn.embedding import Embedding, EmbeddingLookup
from paramesh.nn.embedding_bag import EmbeddingBag, MultiFieldEmbeddingLookup
from paramesh.nn.fractional_pooling import FractionalMaxPool2d, FractionalMaxPool3d
from paramesh.nn.fused import (
    CentralCrop,
    ChannelShuffle,
    Conv2dBnAct,
    DenseBnAct,
    MatMul,
    Moments,
    Norm,
    PixelShuffle,
    PixelUnshuffle,
    Range,
    ReduceLogSumExp,
    ResizeBilinear,
    Roll,
    RReLU,
    Tril,
    Triu,
    Unflatten,
)
from paramesh.nn.image import MSSSIM, PSNR, SSIM
from paramesh.nn.kv_cache import KVCache, reserve_caches, reset_caches
from paramesh.nn.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    HingeEmbeddingLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    LossBase,
    MAELoss,
    MSELoss,
    NLLLoss,
    RMSELoss,
    SmoothL1Loss,
    SoftMarginLoss,
    SoftmaxCrossEntropyWithLogits,
)
from paramesh.nn.margin_losses import (
    CTCLoss,
    DiceLoss,
    FocalLoss,
    GaussianNLLLoss,
    MarginRankingLoss,
    MultiClassDiceLoss,
    MultiLabelSoftMarginLoss,
    MultiMarginLoss,
    PoissonNLLLoss,
    TripletMarginLoss,
    TripletMarginWithDistanceLoss,
)
from paramesh.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
)
from paramesh.nn.padding import (
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad2d,
)
from paramesh.nn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from paramesh.nn.recurrent import GRU, LSTM, RNN
from paramesh.nn.recurrent_cells import GRUCell, LSTMCell, RNNCell
from paramesh.nn.regularizers import L1Regularizer
from paramesh.nn.sparse import SparseTensorDenseMatmul, SparseToDense
from paramesh.nn.sync_batch_norm import SyncBatchNorm
from paramesh.nn.time_distributed import TimeDistributed
from paramesh.nn.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
)
from paramesh.nn.unpooling import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d
from paramesh.nn.volumes import (
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool3d,
    Conv3dTranspose,
    LPPool1d,
    LPPool2d,
    MaxPool3d,
)

__all__ = [
    "Cell",
    "CellDict",
    "CellList",
    "SequentialCell",
    "no_init_parameters",
    "KVCache",
    "reset_caches",
    "reserve_caches",
    # Dense layers, and layers that rearrange
    "Dense",
    "SparseTensorDenseMatmul",
    "SparseToDense",
    "BiDense",
    "Identity",
    "ClipByNorm",
    "Flatten",
    "Pad",
    "OneHot",
    "Upsample",
    "Unfold",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    # convolutions and pooling
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Conv1dTranspose",
    "Conv2dTranspose",
    "MaxPool1d",
    "MaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    # normalisation
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "LayerNorm",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    # embeddings, sequences, attention
    "Embedding",
    "EmbeddingLookup",
    "EmbeddingBag",
    "MultiFieldEmbeddingLookup",
    "RNN",
    "LSTM",
    "GRU",
    "RNNCell",
    "LSTMCell",
    "GRUCell",
    "MultiheadAttention",
    "TransformerEncoderLayer",
    # activations
    "get_activation",
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "PReLU",
    "ELU",
    "CELU",
    "SeLU",
    "GELU",
    "FastGelu",
    "SiLU",
    "Mish",
    "HSwish",
    "HSigmoid",
    "Hardtanh",
    "HShrink",
    "SoftShrink",
    "Threshold",
    "Sigmoid",
    "LogSigmoid",
    "Tanh",
    "Tanhshrink",
    "Softplus",
    "Softsign",
    "Softmax",
    "Softmax2d",
    "LogSoftmax",
    "Softmin",
    "GLU",
    # losses
    "LossBase",
    "MSELoss",
    "L1Loss",
    "MAELoss",
    "RMSELoss",
    "SmoothL1Loss",
    "HuberLoss",
    "SoftmaxCrossEntropyWithLogits",
    "CrossEntropyLoss",
    "NLLLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "KLDivLoss",
    "SoftMarginLoss",
    "HingeEmbeddingLoss",
    "CosineEmbeddingLoss",
    # images
    "MSSSIM",
    "PSNR",
    "SSIM",
    # regularizers
    "L1Regularizer",
    # fused
    "CentralCrop",
    "ChannelShuffle",
    "Conv2dBnAct",
    "DenseBnAct",
    "MatMul",
    "Moments",
    "Norm",
    "PixelShuffle",
    "PixelUnshuffle",
    "Range",
    "ReduceLogSumExp",
    "ResizeBilinear",
    "Roll",
    "RReLU",
    "SyncBatchNorm",
    "Tril",
    "Triu",
    "Unflatten",
    # margin losses
    "MultiClassDiceLoss",
    "CTCLoss",
    "DiceLoss",
    "FocalLoss",
    "GaussianNLLLoss",
    "MarginRankingLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "PoissonNLLLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
    # padding
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad2d",
    # transformer
    "Transformer",
    "TimeDistributed",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    # volumes
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool3d",
    "Conv3dTranspose",
    "LPPool1d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool2d",
    "MaxPool3d",
]

# Names whose homes are above this floor: imported when they are used, and not before.
_LAZY = lazy_names.homes(
    {
        "paramesh.optim": """
            Optimizer SGD Momentum Adam AdamWeightDecay AdamOffload LazyAdam AdaMax Adagrad
            ProximalAdagrad Adadelta RMSProp Rprop ASGD FTRL AdaFactor Lion RowwiseAdagrad
            RowwiseAdam Lamb LARS thor
            LearningRateSchedule ExponentialDecayLR NaturalExpDecayLR InverseDecayLR CosineDecayLR
            PolynomialDecayLR WarmUpLR
            piecewise_constant_lr exponential_decay_lr natural_exp_decay_lr inverse_decay_lr
            cosine_decay_lr polynomial_decay_lr warmup_lr
        """,
        "paramesh.train": """
            WithLossCell WithEvalCell WithGradCell TrainOneStepCell TrainOneStepWithLossScaleCell
            ParameterUpdate MicroBatchInterleaved PipelineCell GradAccumulationCell
            PipelineGradReducer DistributedGradReducer
            DynamicLossScaleUpdateCell FixedLossScaleUpdateCell
            Metric Accuracy Loss MAE MSE TopKCategoricalAccuracy Top1CategoricalAccuracy
            Top5CategoricalAccuracy BleuScore ConfusionMatrix CosineSimilarity Dice F1 Fbeta
            ConfusionMatrixMetric HausdorffDistance MeanSurfaceDistance OcclusionSensitivity
            RootMeanSquareDistance
            Perplexity Precision ROC Recall auc get_metric_fn get_metrics names rearrange_inputs
        """,
        "paramesh.nn.second_order": "Conv2dThor DenseThor EmbeddingThor",
        "paramesh.nn.unregistered": "UnregisteredWarning",
    }
)

#: What other libraries call what is here.
_INSTEAD = {
    "Linear": "nn.Dense",
    "Module": "nn.Cell",
    "Sequential": "nn.SequentialCell",
    "ModuleList": "nn.CellList",
    "ModuleDict": "nn.CellDict",
    "Parameter": "paramesh.Parameter",
    "Conv": "nn.Conv2d",
    "Embed": "nn.Embedding",
    "ParameterList": "paramesh.ParameterTuple",
    "AdamW": "nn.AdamWeightDecay",
    "LSTMLayer": "nn.LSTM",
    "Transformer": "nn.TransformerEncoderLayer",
    "MultiHeadAttention": "nn.MultiheadAttention",
    "MultiHeadDotProductAttention": "nn.MultiheadAttention",
    "BatchNorm": "nn.BatchNorm1d, BatchNorm2d or BatchNorm3d",
    "RMSNorm": "nn.LayerNorm, or a Cell of your own",
    "ConvTranspose": "nn.Conv2dTranspose",
    "ConvTranspose1d": "nn.Conv1dTranspose",
    "ConvTranspose2d": "nn.Conv2dTranspose",
    "Param": "paramesh.Parameter",
    "Variable": "paramesh.Parameter",
    "functional": "paramesh.ops",
    "init": "paramesh.initializer",
    "utils": "paramesh.ops, such as ops.clip_by_global_norm",
    "jit": "paramesh.jit",
    "grad": "paramesh.grad",
    "relu": "ops.relu, or the Cell nn.ReLU",
    "tanh": "ops.tanh, or the Cell nn.Tanh",
    "sigmoid": "ops.sigmoid, or the Cell nn.Sigmoid",
    "softmax": "ops.softmax, or the Cell nn.Softmax",
    "gelu": "ops.gelu, or the Cell nn.GELU",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__getattr__ = lazy_names.opened(__name__, _LAZY, __dir__, _INSTEAD)
