"""Convolutions, pooling, normalisation, embeddings, losses."""

import math
from typing import Any

import numpy as np

from operator_cases import Case, f, i, p


def pair(v):
    return (v, v) if isinstance(v, int) else tuple(v)


def pads_of(mode, padding, sizes, reach, stride):
    """(before, after) of both axes, as MindSpore's `pad_mode` means it."""
    if mode == "same":
        totals = [
            max(0, (math.ceil(n / s) - 1) * s + r - n)
            for n, r, s in zip(sizes, reach, stride, strict=True)
        ]
        return [(t // 2, t - t // 2) for t in totals]
    if isinstance(padding, int) or len(padding) == 2:
        return [(a, a) for a in pair(padding)]
    return [(padding[0], padding[1]), (padding[2], padding[3])]


def windows(v, kernel, stride, pads, dilation, fill):
    """(n, c, h', w', kh, kw): every window of every image."""
    v = np.pad(v, [(0, 0), (0, 0), *pads], constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(v, reach, (2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def conv(
    v,
    w,
    bias=None,
    stride=1,
    pad_mode="valid",
    padding: int | tuple[int, ...] = 0,
    dilation=1,
    groups=1,
):
    stride, dilation, kernel = pair(stride), pair(dilation), w.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = pads_of(pad_mode, padding, v.shape[2:], reach, stride)
    part, made = v.shape[1] // groups, w.shape[0] // groups
    outs = [
        np.einsum(
            "nchwij,ocij->nohw",
            windows(v[:, g * part : (g + 1) * part], kernel, stride, pads, dilation, 0),
            w[g * made : (g + 1) * made],
        )
        for g in range(groups)
    ]
    out = np.concatenate(outs, 1)
    return (out if bias is None else out + bias[:, None, None]).astype(v.dtype)


def conv_nhwc(v, w, **options):
    del options["data_format"]
    out = conv(v.transpose(0, 3, 1, 2), w.transpose(0, 3, 1, 2), **options)
    return out.transpose(0, 2, 3, 1)


def conv_transpose(d, w, size, **options):
    """The transpose of a linear map: its matrix, column by column."""
    out = np.zeros(int(np.prod(size)), np.float64)
    for j in range(out.size):
        e = np.zeros(out.size)
        e[j] = 1
        out[j] = np.sum(conv(e.reshape(size), w.astype(np.float64), **options) * d)
    return out.reshape(size).astype(d.dtype)


def pool(reduce, fill):
    def reference(v, kernel_size=1, strides=1, pad_mode="valid", padding=0, dilation=1, ceil=False):
        kernel, strides, dilation = pair(kernel_size), pair(strides), pair(dilation)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        pads = pads_of(pad_mode, padding, v.shape[2:], reach, strides)
        if ceil:
            pads = [(a, c + 1) for a, c in pads]
        return reduce(windows(v, kernel, strides, pads, dilation, fill), axis=(-2, -1)).astype(
            v.dtype
        )

    return reference


largest, mean, inner_mean = pool(np.max, -np.inf), pool(np.mean, 0), pool(np.nanmean, np.nan)


def normalised(v, axes, eps):
    return (v - v.mean(axes, keepdims=True)) / np.sqrt(v.var(axes, keepdims=True) + eps)


def batch_norm(v, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    axes = (0, *range(2, v.ndim))
    if training:
        mean, var = v.mean(axes), v.var(axes)
    row = (slice(None), *[None] * (v.ndim - 2))
    out = (v - mean[row]) / np.sqrt(var[row] + eps)
    out = out if weight is None else out * weight[row]
    return out if bias is None else out + bias[row]


def batch_norm_with_statistics(v, scale, bias, mean, var, is_training=False):
    used = (v.mean((0, 2, 3)), v.var((0, 2, 3))) if is_training else (mean, var)
    return (batch_norm(v, mean, var, scale, bias, is_training), *used, *used)


def layer_norm(v, shape, weight=None, bias=None, eps=1e-5):
    out = normalised(v, tuple(range(v.ndim - len(shape), v.ndim)), eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def layer_norm_with_statistics(v, gamma, beta, begin_norm_axis=1, begin_params_axis=1):
    axes = tuple(range(begin_norm_axis % v.ndim, v.ndim))
    rstd = 1 / np.sqrt(v.var(axes, keepdims=True) + 1e-7)
    return normalised(v, axes, 1e-7) * gamma + beta, v.mean(axes, keepdims=True), rstd


def group_norm(v, groups, weight=None, bias=None):
    out = normalised(v.reshape(len(v), groups, -1), 2, 1e-5).reshape(v.shape)
    row = (slice(None), *[None] * (v.ndim - 2))
    out = out if weight is None else out * weight[row]
    return out if bias is None else out + bias[row]


def log_softmax(v):
    return v - np.log(np.exp(v).sum(1, keepdims=True))


def nll(v, t, weight=None, ignore_index=-100, reduction="mean", smoothing=0.0):
    c = v.shape[1]
    weight = np.ones(c, v.dtype) if weight is None else weight
    losses, weights = [], []
    for where in np.ndindex(*t.shape):
        row = v[(where[0], slice(None), *where[1:])]
        if t[where] == ignore_index:
            losses.append(0)
            weights.append(0)
            continue
        share = np.full(c, smoothing / c)
        share[t[where]] += 1 - smoothing
        losses.append(-(share * weight * row).sum())
        weights.append(weight[t[where]])
    losses = np.array(losses, v.dtype).reshape(t.shape)
    if reduction == "none":
        return losses
    return (losses.sum() if reduction == "sum" else losses.sum() / np.sum(weights)).astype(v.dtype)


def bce(q, t):
    return -(t * np.log(q) + (1 - t) * np.log(1 - q))


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


images, kernels = f(2, 4, 7, 6), f(6, 4, 3, 3)
x, y = f(2, 3), f(2, 3, seed=1)
logits, classes = f(4, 5), np.array([1, 4, 0, 2], np.int32)
shares = p(4, 5) / p(4, 5).sum(1, keepdims=True)
vectors = [f(4), p(4), f(4, seed=1), f(4, seed=2)]  # mean, variance, weight, bias
conv_settings = {"out_channel": 6, "kernel_size": 3}
POOL = {"kernel_size": 3, "strides": 2, "pad_mode": "same"}


def conv_case(options: dict[str, Any], *, grad=False, w=kernels, v=images):
    renamed = {"padding": "pad", "groups": "group"}
    settings: dict[str, Any] = conv_settings | {renamed.get(k, k): o for k, o in options.items()}
    return Case("conv2d", [v, w], conv, options, {"Conv2D": settings}, grad=grad, tolerance=2e-5)


def transpose_case(options: dict[str, Any], size, w=kernels):
    out = conv(np.zeros(size, np.float32), w, **options).shape
    renamed = {"padding": "pad", "groups": "group"}
    settings: dict[str, Any] = conv_settings | {renamed.get(k, k): o for k, o in options.items()}
    return Case(
        "conv2d_transpose",
        [f(*out), w, size],
        conv_transpose,
        options,
        {"Conv2DTranspose": settings, "Conv2DBackpropInput": settings},
        tolerance=2e-5,
    )


CASES = [
    conv_case({}, grad=True),
    conv_case({"pad_mode": "same", "stride": 2}, grad=True),
    conv_case({"pad_mode": "same", "stride": 3}, w=f(6, 4, 4, 4)),
    conv_case({"pad_mode": "same", "dilation": 2}),
    conv_case({"pad_mode": "pad", "padding": 1, "stride": (2, 1)}),
    conv_case({"pad_mode": "pad", "padding": (0, 1, 2, 1)}),
    conv_case({"groups": 2}, w=f(6, 2, 3, 3)),
    conv_case({"groups": 4, "dilation": (1, 2)}, w=f(8, 1, 3, 3), grad=True),
    Case("conv2d", [images, kernels, f(6)], conv, tolerance=2e-5, settings={"Conv2D": None}),
    Case(
        "depthwise_conv2d",
        [images, f(2, images.shape[1], 3, 3)],
        lambda v, w: conv(v, w.swapaxes(0, 1).reshape(-1, 1, 3, 3), groups=v.shape[1]),
        settings={"DepthwiseConv2dNative": {"channel_multiplier": 2, "kernel_size": 3}},
        tolerance=2e-5,
    ),
    Case(
        "conv2d",
        [images.transpose(0, 2, 3, 1), kernels.transpose(0, 2, 3, 1)],
        conv_nhwc,
        {"data_format": "NHWC", "pad_mode": "same", "stride": 2},
        {"Conv2D": conv_settings | {"data_format": "NHWC", "pad_mode": "same", "stride": 2}},
        tolerance=2e-5,
    ),
    Case(
        "conv1d",
        [f(2, 4, 7), f(6, 2, 3), f(6)],
        lambda v, w, c, stride, groups: conv(v[..., None], w[..., None], c, stride, groups=groups)[
            ..., 0
        ],
        {"stride": 2, "groups": 2},
        tolerance=2e-5,
    ),
    Case(
        "conv1d",
        [f(2, 4, 7), f(6, 4, 3)],
        lambda v, w, pad_mode, padding: conv(
            v[..., None], w[..., None], None, 1, "pad", (padding, padding, 0, 0)
        )[..., 0],
        {"pad_mode": "pad", "padding": 2},
        tolerance=2e-5,
    ),
    transpose_case({"stride": 2}, (1, 4, 5, 5)),
    transpose_case({"stride": 2, "pad_mode": "same"}, (1, 4, 4, 5)),
    transpose_case({"pad_mode": "pad", "padding": 1, "groups": 2}, (1, 4, 3, 3), f(6, 2, 3, 3)),
    Case(
        "max_pool",
        [images],
        largest,
        {"kernel_size": 2, "strides": 2},
        {"MaxPool": {"kernel_size": 2, "strides": 2}},
        grad=True,
    ),
    Case("max_pool", [images], largest, POOL, {"MaxPool": POOL}, grad=True),
    Case(
        "max_pool",
        [images.transpose(0, 2, 3, 1)],
        lambda v, data_format, **o: largest(v.transpose(0, 3, 1, 2), **o).transpose(0, 2, 3, 1),
        POOL | {"data_format": "NHWC"},
        {"MaxPool": POOL | {"data_format": "NHWC"}},
    ),
    Case(
        "max_pool",
        [i(-9, 9, 1, 2, 5, 5)],
        lambda v, **o: pool(np.max, -99)(v, **o),
        POOL,
        {"MaxPool": POOL},
    ),
    Case("max_pool2d", [images, 2], lambda v, k: largest(v, k, k)),
    Case("max_pool2d", [images, 3, 2, 1], lambda v, k, s, q: largest(v, k, s, "pad", q)),
    Case(
        "max_pool2d",
        [images, 2, 1, 0, 2],
        lambda v, k, s, q, d: largest(v, k, s, dilation=d),
    ),
    Case(
        "max_pool2d",
        [images, 2],
        lambda v, k, ceil_mode: largest(v, k, k, ceil=ceil_mode)[:, :, :4, :3],
        {"ceil_mode": True},
    ),
    Case(
        "avg_pool",
        [images],
        mean,
        {"kernel_size": 2, "strides": 2},
        {"AvgPool": {"kernel_size": 2, "strides": 2}},
        grad=True,
    ),
    Case("avg_pool", [images], inner_mean, POOL, {"AvgPool": POOL}),
    Case("avg_pool2d", [images, 3, 2, 1], lambda v, k, s, q: mean(v, k, s, "pad", q), grad=True),
    Case(
        "avg_pool2d",
        [images, 3, 2, 1],
        lambda v, k, s, q, count_include_pad: inner_mean(v, k, s, "pad", q),
        {"count_include_pad": False},
    ),
    Case(
        "avg_pool2d",
        [images, 2, 2],
        lambda v, k, s, divisor_override: mean(v, k, s) * 4 / divisor_override,
        {"divisor_override": 3},
    ),
    Case(
        "avg_pool2d",
        [images, 2, 2],
        lambda v, k, s, ceil_mode: inner_mean(v, k, s, ceil=True)[:, :, :4, :3],
        {"ceil_mode": True},
    ),
    Case(
        "adaptive_avg_pool2d",
        [images, (3, 2)],
        lambda v, s: np.stack(
            [
                np.stack([v[:, :, a:c, d:e].mean((2, 3)) for d, e in ((0, 3), (3, 6))], -1)
                for a, c in ((0, 3), (2, 5), (4, 7))
            ],
            -2,
        ),
        settings={"AdaptiveAvgPool2D": {"output_size": (3, 2)}},
        grad=True,
    ),
    Case(
        "adaptive_avg_pool2d",
        [images, (None, 1)],
        lambda v, s: v.mean(-1, keepdims=True),
        settings={"AdaptiveAvgPool2D": {"output_size": (None, 1)}},
    ),
    # Normalisation.
    Case("batch_norm", [images, *vectors], batch_norm, tolerance=1e-5),
    Case("batch_norm", [images, *vectors, True], batch_norm, grad=True, tolerance=1e-5),
    Case("batch_norm", [f(5, 4), *vectors[:2]], batch_norm, tolerance=1e-5),
    *(
        Case(
            "batch_norm_with_statistics",
            [images, vectors[2], vectors[3], *vectors[:2]],
            batch_norm_with_statistics,
            {"is_training": flag},
            {"BatchNorm": {"is_training": flag}},
            tolerance=1e-5,
        )
        for flag in (False, True)
    ),
    Case("layer_norm", [images, (6,), f(6), f(6, seed=1)], layer_norm, grad=True, tolerance=1e-5),
    Case("layer_norm", [images, (7, 6)], layer_norm, tolerance=1e-5),
    *(
        Case(
            "layer_norm_with_statistics",
            [images, f(*shape), f(*shape, seed=1)],
            layer_norm_with_statistics,
            options,
            {"LayerNorm": options},
            tolerance=1e-5,
        )
        for shape, options in (
            ((4, 7, 6), {}),
            ((6,), {"begin_norm_axis": -1, "begin_params_axis": -1}),
        )
    ),
    Case("group_norm", [images, 2, f(4), f(4, seed=1)], group_norm, grad=True, tolerance=1e-5),
    Case("group_norm", [images, 4], group_norm, tolerance=1e-5),
    Case(
        "l2_normalize",
        [x, 1],
        lambda v, a: v / np.sqrt(np.maximum((v**2).sum(a, keepdims=True), 1e-4)),
        settings={"L2Normalize": {"axis": 1}},
        grad=True,
    ),
    # Bias, embeddings.
    Case("bias_add", [images, f(4)], lambda v, c: v + c[:, None, None], grad=True),
    Case("bias_add", [x, f(3)], np.add),
    Case(
        "bias_add",
        [images, f(6), "NHWC"],
        lambda v, c, d: v + c,
        settings={"BiasAdd": {"data_format": "NHWC"}},
    ),
    Case("embedding", [i(0, 6, 2, 3), f(6, 4)], lambda j, w: w[j], grad=True),
    Case("embedding", [i(0, 6, 2, 3), f(6, 4), 0], lambda j, w, q: w[j]),
    Case(
        "embedding_lookup",
        [f(6, 4), np.array([[0, 4], [9, 10]], np.int32), 4],
        lambda w, j, o: np.array([[w[0] * 0, w[0]], [w[5], w[0] * 0]]),
        grad=True,
    ),
    # Losses.
    Case("mse_loss", [x, y], lambda a, t: ((a - t) ** 2).mean(), grad=True),
    Case("mse_loss", [x, y, "none"], lambda a, t, r: (a - t) ** 2),
    Case("l1_loss", [x, y, "sum"], lambda a, t, r: np.abs(a - t).sum()),
    Case(
        "smooth_l1_loss",
        [x, y, 2.0],
        lambda a, t, k: np.where(np.abs(a - t) < k, (a - t) ** 2 / (2 * k), np.abs(a - t) - k / 2),
        settings={"SmoothL1Loss": {"beta": 2.0}},
        grad=True,
    ),
    Case(
        "huber_loss",
        [x, y, "mean", 0.5],
        lambda a, t, r, d: np.where(
            np.abs(a - t) <= d, (a - t) ** 2 / 2, d * (np.abs(a - t) - d / 2)
        ).mean(),
        grad=True,
    ),
    Case(
        "hinge_embedding_loss",
        [x, np.where(y > 0, 1, -1).astype(np.float32), 0.5, "none"],
        lambda v, t, m, r: np.where(t == 1, v, np.maximum(0, m - v)),
    ),
    Case(
        "margin_ranking_loss",
        [x, y, np.where(x > 0, 1, -1).astype(np.float32), 0.25],
        lambda a, b, t, m: np.maximum(0, t * (b - a) + m).mean(),
    ),
    Case(
        "gaussian_nll_loss",
        [x, y, p(2, 3), True, 0.5, "sum"],
        lambda v, t, s, f, e, r: (
            0.5 * (np.log(2 * np.pi * np.maximum(s, e)) + (v - t) ** 2 / np.maximum(s, e))
        ).sum(),
        grad=True,
    ),
    Case("l2_loss", [x], lambda v: (v**2).sum() / 2, grad=True),
    Case(
        "cosine_similarity",
        [x, y],
        lambda a, c: (a * c).sum(1) / np.sqrt((a**2).sum(1) * (c**2).sum(1)),
        grad=True,
    ),
    Case(
        "binary_cross_entropy", [p(2, 3), p(2, 3, seed=1)], lambda q, t: bce(q, t).mean(), grad=True
    ),
    Case(
        "binary_cross_entropy",
        [p(2, 3), p(2, 3, seed=1), y, "none"],
        lambda q, t, w, r: bce(q, t) * w,
        settings={"BinaryCrossEntropy": {"reduction": "none"}},
    ),
    Case(
        "binary_cross_entropy_with_logits",
        [x, p(2, 3)],
        lambda v, t: bce(sigmoid(v), t).mean(),
        settings={"BCEWithLogitsLoss": None},
        grad=True,
    ),
    Case(
        "binary_cross_entropy_with_logits",
        [x, p(2, 3), y, p(3)],
        lambda v, t, w, k: (
            -w * (k * t * np.log(sigmoid(v)) + (1 - t) * np.log(sigmoid(-v)))
        ).mean(),
    ),
    Case(
        "sigmoid_cross_entropy_with_logits",
        [x, p(2, 3)],
        lambda v, t: bce(sigmoid(v), t),
        grad=True,
    ),
    Case("kl_div", [np.log(p(2, 3)), p(2, 3, seed=1)], lambda q, t: (t * (np.log(t) - q)).mean()),
    Case(
        "kl_div",
        [x, p(2, 3), "batchmean"],
        lambda q, t, r: (t * (np.log(t) - q)).sum() / 2,
        settings={"KLDivLoss": {"reduction": "batchmean"}},
        grad=True,
    ),
    Case("nll_loss", [logits, classes], nll, grad=True),
    Case("nll_loss", [f(2, 5, 3), i(0, 5, 2, 3), p(5), 1, "none"], nll),
    Case("cross_entropy", [logits, classes], lambda v, t: nll(log_softmax(v), t), grad=True),
    Case(
        "cross_entropy",
        [f(2, 5, 3), i(0, 5, 2, 3), p(5), 1, "mean", 0.1],
        lambda v, *a: nll(log_softmax(v), *a),
        grad=True,
    ),
    Case(
        "cross_entropy",
        [logits, classes, None, 4, "sum"],
        lambda v, *a: nll(log_softmax(v), *a),
    ),
    Case(
        "cross_entropy",
        [logits, shares],
        lambda v, t: -(t * log_softmax(v)).sum(1).mean(),
        grad=True,
    ),
    Case(
        "cross_entropy",
        [logits, shares, p(5), -100, "none", 0.2],
        lambda v, t, w, g, r, s: -((t * (1 - s) + s / 5) * w * log_softmax(v)).sum(1),
    ),
    Case(
        "nll_loss_with_weight",
        [logits, classes, p(5)],
        lambda v, t, w: (nll(v, t, w), w[t].sum()),
    ),
    Case(
        "softmax_cross_entropy_with_logits",
        [logits, shares],
        lambda v, t: (-(t * log_softmax(v)).sum(1), np.exp(log_softmax(v)) - t),
    ),
    Case(
        "sparse_softmax_cross_entropy_with_logits",
        [logits, classes],
        lambda v, t: nll(log_softmax(v), t),
        grad=True,
    ),
    Case(
        "sparse_softmax_cross_entropy_with_logits",
        [logits, classes, True],
        lambda v, t, g: (np.exp(log_softmax(v)) - np.eye(5, dtype=v.dtype)[t]) / 4,
        settings={"SparseSoftmaxCrossEntropyWithLogits": {"is_grad": True}},
    ),
]
