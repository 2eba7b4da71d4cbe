"""Normalisation layers: of the batch, of layers, of groups, of instances.

Each computes (x - mean) / sqrt(variance + eps) * gamma + beta; they differ in what mean and
variance are taken over. Sources: Ioffe and Szegedy 2015 (batch), Ba et al. 2016 (layer), Wu and He
2018 (group), Ulyanov et al. 2016 (instance).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from paramesh.dtype import float32
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import nn_ops as ops
from paramesh.ops.table import Primitive
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor


class _BatchNorm(Cell):
    """Batch normalisation for inputs with one of some numbers of axes.

    Moving averages follow MindSpore: new = momentum * old + (1 - momentum) * batch, with the
    unbiased variance of the batch. They are written only where the batch's statistics are used:
    in training, or always with `use_batch_statistics=True`.
    """

    shapes: ClassVar[dict[int, str]]
    #: What computes it.
    normalize = staticmethod(ops.batch_norm)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        moving_mean_init: Init = "zeros",
        moving_var_init: Init = "ones",
        use_batch_statistics: bool | None = None,
        data_format: str = "NCHW",
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.num_features = arguments.integer(owner, "num_features", num_features)
        self.eps = arguments.number(owner, "eps", eps, low=0)
        self.momentum = arguments.number(owner, "momentum", momentum, 0, 1)
        affine = arguments.flag(owner, "affine", affine)
        self.use_batch_statistics = use_batch_statistics
        if use_batch_statistics is not None:
            arguments.flag(owner, "use_batch_statistics", use_batch_statistics, wrong=ValueError)
        formats = ("NCHW", "NHWC") if 4 in self.shapes else ("NCHW", "NCDHW")
        self.data_format = arguments.choice(owner, "data_format", data_format, formats)
        shape = (self.num_features,)
        self.moving_mean = arguments.weight(
            owner,
            "moving_mean_init",
            moving_mean_init,
            shape,
            dtype,
            name="mean",
            requires_grad=False,
        )
        self.moving_variance = arguments.weight(
            owner,
            "moving_var_init",
            moving_var_init,
            shape,
            dtype,
            name="variance",
            requires_grad=False,
        )
        self.gamma = arguments.weight(
            owner, "gamma_init", gamma_init, shape, dtype, name="gamma", requires_grad=affine
        )
        self.beta = arguments.weight(
            owner, "beta_init", beta_init, shape, dtype, name="beta", requires_grad=affine
        )

    def construct(self, x: TensorLike) -> Tensor:
        """The input's shape and element type. In training, the moving averages are written."""
        x = arguments.tensor(type(self).__name__, x)
        if x.ndim not in self.shapes:
            raise ValueError(
                f"{type(self).__name__}: expected an input {' or '.join(self.shapes.values())}, "
                f"got {x.shape}."
            )
        of_batch = self.training if self.use_batch_statistics is None else self.use_batch_statistics
        name = "bn_train" if of_batch else "bn_infer"
        if sharded(self, name):
            operator = getattr(self, name)
            state = self.moving_mean, self.moving_variance
            return operator(x, self.gamma, self.beta, *state)[0]
        last = self.data_format == "NHWC"
        out = self.normalize(
            x.transpose(0, 3, 1, 2) if last else x,
            self.moving_mean,
            self.moving_variance,
            self.gamma,
            self.beta,
            of_batch,
            1 - self.momentum,
            self.eps,
        )
        return out.transpose(0, 2, 3, 1) if last else out

    def extend_repr(self) -> str:
        """The settings and Parameters, as MindSpore prints them."""
        return (
            f"num_features={self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"gamma={self.gamma}, beta={self.beta}, moving_mean={self.moving_mean}, "
            f"moving_variance={self.moving_variance}"
        )

    bn_train = Inner(lambda layer: layer._operator(True))
    bn_infer = Inner(lambda layer: layer._operator(False))

    def _operator(self, training: bool) -> Primitive:
        order = "NHWC" if self.data_format == "NHWC" else "NCHW"
        return ops.BatchNorm(training, self.eps, 1 - self.momentum, order)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (n, c) or (n, c, l), over all axes but c.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the old value in the moving averages, 0 to 1.
        affine: whether gamma and beta are trained.
        gamma_init: initial value of gamma: a Tensor, an Initializer, its name or a number.
        beta_init: the same for beta.
        moving_mean_init: the same for the moving mean.
        moving_var_init: the same for the moving variance.
        use_batch_statistics: True: always the batch's statistics; False: always the moving ones;
            None: the batch's in training, otherwise the moving ones.
        data_format: `NCHW`, the only one.
        dtype: element type of the Parameters.

    Weights:
        moving_mean, moving_variance (named `mean` and `variance` on their own), gamma, beta: (c,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; `use_batch_statistics` neither bool nor None.
    """

    shapes: ClassVar[dict[int, str]] = {2: "(n, c)", 3: "(n, c, l)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (n, c, h, w), over all axes but c.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the old value in the moving averages, 0 to 1.
        affine: whether gamma and beta are trained.
        gamma_init: initial value of gamma: a Tensor, an Initializer, its name or a number.
        beta_init: the same for beta.
        moving_mean_init: the same for the moving mean.
        moving_var_init: the same for the moving variance.
        use_batch_statistics: True: always the batch's statistics; False: always the moving ones;
            None: the batch's in training, otherwise the moving ones.
        data_format: `NCHW` or `NHWC`.
        dtype: element type of the Parameters.

    Weights:
        moving_mean, moving_variance (named `mean` and `variance` on their own), gamma, beta: (c,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; `use_batch_statistics` neither bool nor None.
    """

    shapes: ClassVar[dict[int, str]] = {4: "(n, c, h, w)"}


class BatchNorm3d(Cell):
    """Batch normalisation of volumes (n, c, d, h, w), over all axes but c.

    As in MindSpore, the Parameters belong to a `BatchNorm2d` in the attribute `bn2d`.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the old value in the moving averages, 0 to 1.
        affine: whether gamma and beta are trained.
        gamma_init: initial value of gamma: a Tensor, an Initializer, its name or a number.
        beta_init: the same for beta.
        moving_mean_init: the same for the moving mean.
        moving_var_init: the same for the moving variance.
        use_batch_statistics: as for `BatchNorm2d`.
        dtype: element type of the Parameters.

    Weights:
        bn2d.moving_mean, bn2d.moving_variance, bn2d.gamma, bn2d.beta: (c,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; `use_batch_statistics` neither bool nor None.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        moving_mean_init: Init = "zeros",
        moving_var_init: Init = "ones",
        use_batch_statistics: bool | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        self.bn2d = BatchNorm2d(
            num_features,
            eps,
            momentum,
            affine,
            gamma_init,
            beta_init,
            moving_mean_init,
            moving_var_init,
            use_batch_statistics,
            dtype=dtype,
        )

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, d, h, w) -> the same. In training, the moving averages are written."""
        x = arguments.tensor("BatchNorm3d", x)
        if x.ndim != 5:
            raise ValueError(f"BatchNorm3d: expected an input (n, c, d, h, w), got {x.shape}.")
        n, c, d, h, w = x.shape
        return self.bn2d(x.reshape(n, c, d * h, w)).reshape(n, c, d, h, w)


class LayerNorm(Cell):
    """Layer normalisation: over the axes from `begin_norm_axis` to the last.

    Args:
        normalized_shape: shape of gamma and beta, a tuple or list.
        begin_norm_axis: first axis that mean and variance are taken over.
        begin_params_axis: first axis of the input that gamma and beta belong to.
        gamma_init: initial value of gamma: a Tensor, an Initializer, its name or a number.
        beta_init: the same for beta.
        epsilon: added to the variance.
        dtype: element type of the Parameters.

    Weights:
        gamma, beta: `normalized_shape`.

    Raises:
        TypeError: an argument of the wrong type, `normalized_shape` an int among them.
        ValueError: a number out of range.
    """

    def __init__(
        self,
        normalized_shape: Sequence[int],
        begin_norm_axis: int = -1,
        begin_params_axis: int = -1,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        epsilon: float = 1e-7,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "LayerNorm"
        if not isinstance(normalized_shape, tuple | list):
            raise TypeError(
                f"LayerNorm(normalized_shape): expected a tuple or list of ints, got "
                f"{normalized_shape!r}."
            )
        shape = tuple(arguments.integer(owner, "normalized_shape", n) for n in normalized_shape)
        if not shape:
            raise ValueError("LayerNorm(normalized_shape): expected at least one axis, got none.")
        self.normalized_shape = shape
        self.begin_norm_axis = arguments.integer(
            owner, "begin_norm_axis", begin_norm_axis, -(2**31)
        )
        self.begin_params_axis = arguments.integer(
            owner, "begin_params_axis", begin_params_axis, -(2**31)
        )
        self.epsilon = arguments.number(owner, "epsilon", epsilon, low=0)
        self.gamma = arguments.weight(owner, "gamma_init", gamma_init, shape, dtype, name="gamma")
        self.beta = arguments.weight(owner, "beta_init", beta_init, shape, dtype, name="beta")
        # For subclasses, whose `construct` calls it with the input, gamma and beta.
        self.layer_norm = ops.LayerNorm(self.begin_norm_axis, self.begin_params_axis, self.epsilon)

    def construct(self, input_x: TensorLike) -> Tensor:
        """(...) -> the same, of the input's element type."""
        if sharded(self, "layer_norm"):
            return self.layer_norm(input_x, self.gamma, self.beta)[0]
        return ops.layer_norm_with_statistics(
            input_x,
            self.gamma,
            self.beta,
            self.begin_norm_axis,
            self.begin_params_axis,
            self.epsilon,
        )[0]

    def extend_repr(self) -> str:
        """The settings and Parameters, as MindSpore prints them."""
        return (
            f"normalized_shape={self.normalized_shape}, begin_norm_axis={self.begin_norm_axis}, "
            f"begin_params_axis={self.begin_params_axis}, gamma={self.gamma}, beta={self.beta}"
        )

    layer_norm = Inner(
        lambda layer: ops.LayerNorm(layer.begin_norm_axis, layer.begin_params_axis, layer.epsilon)
    )


class GroupNorm(Cell):
    """Group normalisation of (n, c, ...): over groups of channels and all that follows.

    Args:
        num_groups: number of groups that the channels make.
        num_channels: number of channels.
        eps: added to the variance.
        affine: whether gamma and beta are trained.
        gamma_init: initial value of gamma: a Tensor, an Initializer, its name or a number.
        beta_init: the same for beta.
        dtype: element type of the Parameters.

    Weights:
        gamma, beta: (num_channels,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; channels that do not divide into groups.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "GroupNorm"
        self.num_groups = arguments.integer(owner, "num_groups", num_groups)
        self.num_channels = arguments.integer(owner, "num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels={num_channels} does not divide into "
                f"num_groups={num_groups} groups."
            )
        self.eps = arguments.number(owner, "eps", eps, low=0)
        affine = arguments.flag(owner, "affine", affine)
        shape = (self.num_channels,)
        self.gamma = arguments.weight(
            owner, "gamma_init", gamma_init, shape, dtype, name="gamma", requires_grad=affine
        )
        self.beta = arguments.weight(
            owner, "beta_init", beta_init, shape, dtype, name="beta", requires_grad=affine
        )

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, ...) -> the same, of the input's element type."""
        return ops.group_norm(x, self.num_groups, self.gamma, self.beta, self.eps)

    def extend_repr(self) -> str:
        """The settings."""
        return f"num_groups={self.num_groups}, num_channels={self.num_channels}"


class _InstanceNorm(Cell):
    """Instance normalisation, by the statistics of each image in training and evaluation alike.

    In training, the moving averages are written: new = (1 - momentum) * old + momentum * the mean
    over the batch, with the unbiased variance of each instance.
    """

    shape: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        gamma_init: Init = "ones",
        beta_init: Init = "zeros",
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.num_features = arguments.integer(owner, "num_features", num_features)
        self.eps = arguments.number(owner, "eps", eps, low=0)
        self.momentum = arguments.number(owner, "momentum", momentum, 0, 1)
        affine = arguments.flag(owner, "affine", affine)
        shape = (self.num_features,)
        self.moving_mean = arguments.weight(
            owner, "", "zeros", shape, dtype, name="mean", requires_grad=False
        )
        self.moving_variance = arguments.weight(
            owner, "", "ones", shape, dtype, name="variance", requires_grad=False
        )
        self.gamma = arguments.weight(
            owner, "gamma_init", gamma_init, shape, dtype, name="gamma", requires_grad=affine
        )
        self.beta = arguments.weight(
            owner, "beta_init", beta_init, shape, dtype, name="beta", requires_grad=affine
        )

    def construct(self, x: TensorLike) -> Tensor:
        """The input's shape and element type. In training, the moving averages are written."""
        x = arguments.tensor(type(self).__name__, x)
        if x.ndim != self.shape.count(",") + 1:
            raise ValueError(
                f"{type(self).__name__}: expected an input {self.shape}, got {x.shape}."
            )
        out = ops.group_norm(x, self.num_features, self.gamma, self.beta, self.eps)
        if self.training:
            self._follow(x)
        return out

    def _follow(self, x: Tensor) -> None:
        inside = tuple(range(2, x.ndim))
        upcast = x.astype(self.moving_mean.dtype)
        statistics = upcast.mean(inside), upcast.var(inside, ddof=1)
        for moving, of_batch in zip(
            (self.moving_mean, self.moving_variance), statistics, strict=True
        ):
            moving.assign(moving * (1 - self.momentum) + of_batch.mean(0) * self.momentum)

    def extend_repr(self) -> str:
        """The settings and Parameters, as MindSpore prints them."""
        return (
            f"num_features={self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"gamma={self.gamma}, beta={self.beta}"
        )


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of sequences (n, c, l), over l.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the batch in the moving averages, 0 to 1.
        affine: whether gamma and beta are trained.
        gamma_init: initial value of gamma: a Tensor, an Initializer, its name or a number.
        beta_init: the same for beta.
        dtype: element type of the Parameters.

    Weights:
        moving_mean, moving_variance (named `mean` and `variance` on their own), gamma, beta: (c,).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number out of range.
    """

    shape: ClassVar[str] = "(n, c, l)"


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of images (n, c, h, w), over h and w.

    Arguments, weights and errors are those of `InstanceNorm1d`.
    """

    shape: ClassVar[str] = "(n, c, h, w)"


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of volumes (n, c, d, h, w), over d, h and w.

    Arguments, weights and errors are those of `InstanceNorm1d`.
    """

    shape: ClassVar[str] = "(n, c, d, h, w)"
