"""Dense layers, and layers that rearrange: Flatten, Pad, OneHot, Upsample, Unfold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from paramesh.dtype import float32, x64
from paramesh.initializer.factory import HeUniform, Uniform
from paramesh.nn import arguments
from paramesh.nn.activation import get_activation
from paramesh.nn.arguments import Init
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner
from paramesh.ops import array, linalg, nn_ops, resizing, selecting
from paramesh.ops import math as ops
from paramesh.ops.table import Primitive
from paramesh.state import placement
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap


class Dense(Cell):
    """x @ weight.T + bias, and then an activation.

    Args:
        in_channels: size of the input's last axis.
        out_channels: size of the output's last axis.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number;
            None for uniform on +-1/sqrt(in_channels), as in MindSpore 2.10.
        bias_init: the same for the bias.
        has_bias: whether there is a bias.
        activation: the name of an activation, a Cell, or a class operator such as `ops.ReLU()`.
        dtype: element type of the Parameters.

    Weights:
        weight: (out_channels, in_channels).
        bias: (out_channels,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or an initial value that does not fit.
        KeyError: no activation of that name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight_init: Init = None,
        bias_init: Init = None,
        has_bias: bool = True,
        activation: str | Cell | Primitive | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "Dense"
        self.in_channels = arguments.integer(owner, "in_channels", in_channels)
        self.out_channels = arguments.integer(owner, "out_channels", out_channels)
        self.has_bias = arguments.flag(owner, "has_bias", has_bias)
        self.weight = arguments.weight(
            owner,
            "weight_init",
            weight_init,
            (out_channels, in_channels),
            dtype,
            default=HeUniform(math.sqrt(5)),
        )
        self.bias = None
        if has_bias:
            start = Uniform(1 / math.sqrt(in_channels))
            self.bias = arguments.weight(
                owner, "bias_init", bias_init, (out_channels,), dtype, default=start
            )
        self.activation = _activation(owner, activation)
        # For strategies: dense.matmul.shard(((2, 1), (4, 1))), as in MindSpore.
        self.matmul = ops.MatMul(transpose_b=True)
        self.bias_add = nn_ops.BiasAdd()

    activation_flag = Inner(lambda layer: layer.activation is not None)
    reshape = Inner(lambda layer: array.Reshape())
    shape_op = Inner(lambda layer: array.Shape())

    def construct(self, x: TensorLike) -> Tensor:
        """(..., in_channels) -> (..., out_channels).

        Raises:
            ValueError: another size; TypeError: another element type than the weight's.
        """
        out = self._product(arguments.tensor("Dense", x))
        return out if self.activation is None else self.activation(out)

    def _product(self, x: Tensor) -> Tensor:
        """What the activation gets."""
        if self.matmul.sharded or self.bias_add.sharded:
            # Over two axes, for which scripts write their strategies.
            out = self.matmul(x.reshape((-1, x.shape[-1])), self.weight)
            out = out if self.bias is None else self.bias_add(out, self.bias)
            return out.reshape((*x.shape[:-1], self.out_channels))
        return ops.dense(x, self.weight, self.bias)

    def extend_repr(self) -> str:
        """The settings, as MindSpore prints them."""
        shown = (
            f"input_channels={self.in_channels}, output_channels={self.out_channels}, "
            f"has_bias={self.has_bias}"
        )
        return shown if self.activation is None else f"{shown}, activation={self.activation}"


def _activation(owner: str, given: object) -> Cell | Primitive | None:
    if given is None or isinstance(given, str):
        return get_activation(given, owner)
    if not isinstance(given, Cell | Primitive):
        raise TypeError(
            f"{owner}(activation): expected a name, a Cell or a class operator, "
            f"got {given!r} ({type(given).__name__})."
        )
    return given


class BiDense(Cell):
    """x1.T @ weight[k] @ x2 + bias[k] for every output k.

    Args:
        in1_channels: size of the first input's last axis.
        in2_channels: size of the second input's last axis.
        out_channels: size of the output's last axis.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number;
            None for uniform on +-1/sqrt(in1_channels).
        bias_init: the same for the bias.
        has_bias: whether there is a bias.
        dtype: element type of the Parameters.

    Weights:
        weight: (out_channels, in1_channels, in2_channels).
        bias: (out_channels,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or an initial value that does not fit.
    """

    def __init__(
        self,
        in1_channels: int,
        in2_channels: int,
        out_channels: int,
        weight_init: Init = None,
        bias_init: Init = None,
        has_bias: bool = True,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "BiDense"
        self.in1_channels = arguments.integer(owner, "in1_channels", in1_channels)
        self.in2_channels = arguments.integer(owner, "in2_channels", in2_channels)
        self.out_channels = arguments.integer(owner, "out_channels", out_channels)
        self.has_bias = arguments.flag(owner, "has_bias", has_bias)
        start = Uniform(1 / math.sqrt(in1_channels))
        shape = (out_channels, in1_channels, in2_channels)
        self.weight = arguments.weight(
            owner, "weight_init", weight_init, shape, dtype, default=start
        )
        self.bias = None
        if has_bias:
            self.bias = arguments.weight(
                owner, "bias_init", bias_init, (out_channels,), dtype, default=start
            )

    def construct(self, input1: TensorLike, input2: TensorLike) -> Tensor:
        """(..., in1_channels), (..., in2_channels) -> (..., out_channels)."""
        return linalg.bidense(input1, input2, self.weight, self.bias)

    def extend_repr(self) -> str:
        """The settings, as MindSpore prints them."""
        return (
            f"in1_channels={self.in1_channels}, in2_channels={self.in2_channels}, "
            f"out_channels={self.out_channels}, has_bias={self.has_bias}"
        )


class Identity(Cell):
    """The input itself; further arguments of the constructor are ignored, as in MindSpore."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def construct(self, input: TensorLike) -> TensorLike:
        """(...) -> (...)."""
        return input


class ClipByNorm(Cell):
    """Values scaled down so that their 2-norm, over some axes, is at most a number.

    Args:
        axis: an axis or several; None: one norm over all.
    """

    def __init__(self, axis: int | tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.axis = axis

    def construct(self, x: TensorLike, clip_norm: TensorLike) -> Tensor:
        """(...), (...) that broadcasts over it -> (...), Float32 (Float64 stays)."""
        value, most = raw(x), raw(clip_norm)
        with x64(value):
            if value.dtype.itemsize < 4 or not jnp.issubdtype(value.dtype, jnp.floating):
                value = value.astype(jnp.float32)
            total = jnp.sum(value * value, axis=self.axis, keepdims=True)
            # The gradient of the root at 0 is infinite: a norm of 0 never becomes one.
            norm = jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)
            most = jnp.asarray(most, value.dtype)
            return wrap(value * most / jnp.maximum(norm, most))


class Flatten(Cell):
    """Some axes, from the second to the last by default, as one.

    Args:
        start_dim: the first of the axes.
        end_dim: the last of the axes.

    Raises:
        TypeError: not ints.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = arguments.integer("Flatten", "start_dim", start_dim, -(2**31))
        self.end_dim = arguments.integer("Flatten", "end_dim", end_dim, -(2**31))

    def construct(self, x: TensorLike) -> Tensor:
        """(n, ...) -> (n, size of the rest)."""
        return array.flatten(x, start_dim=self.start_dim, end_dim=self.end_dim)


class Pad(Cell):
    """More elements at both ends of every axis.

    Args:
        paddings: ((before, after), …), one pair for each axis.
        mode: `CONSTANT` (zeros), `REFLECT` (mirrored without the edge) or `SYMMETRIC` (with it).

    Raises:
        TypeError: `paddings` is not a tuple; ValueError: an unknown mode.
    """

    def __init__(self, paddings: tuple[tuple[int, int], ...], mode: str = "CONSTANT") -> None:
        super().__init__()
        if not isinstance(paddings, tuple):
            raise TypeError(f"Pad(paddings): expected a tuple of pairs, got {paddings!r}.")
        self.paddings = paddings
        self.mode = arguments.choice("Pad", "mode", mode, ("CONSTANT", "REFLECT", "SYMMETRIC"))

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> as many axes, each longer by its pair."""
        return array.pad_axes(x, self.paddings, self.mode)


class OneHot(Cell):
    """`on_value` at each index and `off_value` elsewhere, along a new axis.

    Args:
        axis: where the new axis goes.
        depth: size of the new axis.
        on_value: the value at an index.
        off_value: the value elsewhere.
        dtype: element type of the result.

    Raises:
        TypeError, ValueError: `depth` is not an int of at least 1.
    """

    def __init__(
        self,
        axis: int = -1,
        depth: int = 1,
        on_value: float = 1.0,
        off_value: float = 0.0,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        self.axis = arguments.integer("OneHot", "axis", axis, -(2**31))
        self.depth = arguments.integer("OneHot", "depth", depth)
        self.on_value, self.off_value = on_value, off_value
        self.dtype = arguments.element_type("OneHot", dtype)

    def construct(self, indices: TensorLike) -> Tensor:
        """(...) integers -> (..., depth)."""
        values = selecting.one_hot(indices, self.depth, self.on_value, self.off_value, self.axis)
        return values.astype(self.dtype)


class Upsample(Cell):
    """Images (or sequences, or volumes) in another size, by `ops.interpolate`.

    Args:
        size: the size of each spatial axis, one int for all or a tuple.
        scale_factor: instead of `size`, a factor for each spatial axis, one for all or a tuple.
        mode: `nearest`, `nearest-exact`, `area`, `linear` (n, c, l), `bilinear` or `bicubic`
            (n, c, h, w), or `trilinear` (n, c, d, h, w).
        align_corners: whether the corner elements keep their places; for linear and cubic modes.
        recompute_scale_factor: MindSpore's; the scale is that of the sizes in any case.

    Raises:
        ValueError: both or neither of `size` and `scale_factor`; an unknown mode; `align_corners`
            for another mode.
    """

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"Upsample: expected either size or scale_factor, got size={size!r} and "
                f"scale_factor={scale_factor!r}."
            )
        self.size, self.scale_factor = size, scale_factor
        self.mode = arguments.choice("Upsample", "mode", mode, tuple(resizing.MODES))
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor
        if align_corners is not None and mode in resizing.WITHOUT_CORNERS:
            raise ValueError(
                f"Upsample(align_corners): it means nothing for mode={mode!r}: leave it out."
            )

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, ...) -> (n, c, ...) of the wanted size.

        Raises:
            ValueError: an input that the mode does not take, or another number of axes than sizes.
        """
        return resizing.interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )


class Unfold(Cell):
    """Patches of images, each as a column of channels.

    Args:
        ksizes: size of a patch: (1, height, width, 1).
        strides: distance of the patches: (1, down, right, 1).
        rates: distance of a patch's points: (1, down, right, 1).
        padding: `valid` or `same`, in any case.

    Raises:
        TypeError, ValueError: a value that is not such a tuple; an unknown `padding`.
    """

    def __init__(
        self,
        ksizes: int | Sequence[int],
        strides: int | Sequence[int],
        rates: int | Sequence[int],
        padding: str = "valid",
    ) -> None:
        super().__init__()
        self.ksizes, self.strides, self.rates = (
            _middle(name, value)
            for name, value in (("ksizes", ksizes), ("strides", strides), ("rates", rates))
        )
        mode = padding.lower() if isinstance(padding, str) else padding
        self.padding = arguments.choice("Unfold", "padding", mode, ("valid", "same"))

    def construct(self, input_x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, height * width * c, h', w'): the points of a patch, then channels."""
        value = raw(arguments.tensor("Unfold", input_x))
        n, c = value.shape[:2]
        with x64(value):
            patches = placement.current().undivided(self._patches, value)
            sizes = patches.shape[2:]
            # JAX has the channels first.
            points = patches.reshape(n, c, -1, *sizes).swapaxes(1, 2)
            return wrap(points.reshape(n, -1, *sizes))

    def _patches(self, value: Array) -> Array:
        return jax.lax.conv_general_dilated_patches(
            value,
            self.ksizes,
            self.strides,
            self.padding.upper(),
            rhs_dilation=self.rates,
            precision=jax.lax.Precision.HIGHEST,
        )


def _middle(name: str, value: object) -> tuple[int, ...]:
    numbers = arguments.integers("Unfold", name, value, 4)
    if numbers[0] != 1 or numbers[3] != 1:
        raise ValueError(f"Unfold({name}): expected (1, down, right, 1), got {value!r}.")
    return numbers[1:3]
