"""The random initializers: uniform, normal, and those whose variance follows from the shape.

Arguments, defaults and distributions are those of MindSpore 2.10, except where the documentation
of an initializer here says otherwise. `fan_in` and `fan_out` of a shape (out, in, *kernel) are
`in` and `out` times the size of the kernel. `batch_axis`, `in_axis` and `out_axis` are those of
`jax.nn.initializers`, for weights of many layers that are stacked in one array.

All reject at construction what can never work. TypeError: an argument of the wrong type.
ValueError: an argument out of range, or, once there is a shape, a shape that the initializer has no
numbers for.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from paramesh.initializer.arguments import (
    Axes,
    Shape,
    axes_given,
    axis_positions,
    choice,
    not_negative,
    real_number,
)
from paramesh.sampling.recipe import DistributionSpec, Initializer, Sampler

# Standard deviation of a standard normal truncated at -2 and 2.
_SIGMA_TRUNCATED_AT_TWO = 0.87962566103423978


# Sampling functions: what compiled programs compute. Their numbers are arguments of the programs.


def _uniform(bits: Sampler, low: jax.Array, high: jax.Array) -> jax.Array:
    return bits.uniform(low, high)


def _normal(bits: Sampler, mean: jax.Array, sigma: jax.Array) -> jax.Array:
    return bits.normal(mean, sigma)


def _truncated_normal(
    bits: Sampler,
    mean: jax.Array,
    sigma: jax.Array,
    smallest: jax.Array,
    largest: jax.Array,
    low: jax.Array,
    width: jax.Array,
) -> jax.Array:
    values = bits.cut_normal(mean, sigma, low, width)
    return jnp.minimum(jnp.maximum(values, smallest), largest)


class _Scaled(Initializer):
    """Base of the initializers whose standard deviation follows from the shape.

    The axes of one layer are (out, in, *kernel), in this order and wherever `batch_axis` leaves
    them, unless `out_axis` and `in_axis` say which they are.
    """

    batch_axis: tuple[int, ...] = ()
    in_axis: tuple[int, ...] = ()
    out_axis: tuple[int, ...] = ()

    def __init__(self, *axes: Axes | None, **arguments: object) -> None:
        owner = type(self).__name__
        given = dict(zip(("batch_axis", "in_axis", "out_axis"), axes, strict=True))
        found = {name: axes_given(owner, name, value) for name, value in given.items()}
        if bool(found["in_axis"]) != bool(found["out_axis"]):
            raise ValueError(f"{owner}(in_axis, out_axis): give both or neither.")
        # Those that are not given are not shown by `repr`.
        super().__init__(**arguments, **{name: value for name, value in found.items() if value})

    def check(self, shape: Shape) -> None:
        """At least 2 axes besides the batch axes, and those that are named."""
        self._fans(shape)

    def _fans(self, shape: Shape) -> tuple[int, int]:
        named = axis_positions(self, shape, (*self.batch_axis, *self.in_axis, *self.out_axis))
        stacked = named[: len(self.batch_axis)]
        layer = [axis for axis in range(len(shape)) if axis not in stacked]
        if self.in_axis:
            inputs = named[len(stacked) : len(stacked) + len(self.in_axis)]
            outputs = named[len(stacked) + len(self.in_axis) :]
        elif len(layer) < 2:
            besides = f" besides batch_axis={self.batch_axis}" if stacked else ""
            raise ValueError(
                f"{self!r} needs a shape of at least 2 axes (out, in, *kernel){besides}, got "
                f"{shape}. Use Normal or Uniform for a shape without fan_in and fan_out."
            )
        else:
            outputs, inputs = layer[:1], layer[1:2]
        kernel = math.prod(shape[axis] for axis in layer if axis not in (*inputs, *outputs))
        fan_in, fan_out = (math.prod(shape[a] for a in axes) for axes in (inputs, outputs))
        return fan_in * kernel, fan_out * kernel


# The family.


class Uniform(Initializer):
    """Uniform on [-scale, scale).

    Args:
        scale: half the width.
    """

    scale: float

    def __init__(self, scale: float = 0.07) -> None:
        super().__init__(scale=real_number("Uniform", "scale", scale))

    def law(self, shape: Shape) -> DistributionSpec:
        """Uniform with these bounds."""
        return DistributionSpec(_uniform, (-self.scale, self.scale))


class Normal(Initializer):
    """Normal with this mean and standard deviation.

    Args:
        sigma: standard deviation, >= 0.
        mean: mean.
    """

    sigma: float
    mean: float

    def __init__(self, sigma: float = 0.01, mean: float = 0.0) -> None:
        super().__init__(
            sigma=not_negative("Normal", "sigma", sigma), mean=real_number("Normal", "mean", mean)
        )

    def law(self, shape: Shape) -> DistributionSpec:
        """Normal with these numbers."""
        return DistributionSpec(_normal, (self.mean, self.sigma))


class TruncatedNormal(Initializer):
    """Normal, truncated to the interval from `a` to `b` by inverting the distribution there.

    As in MindSpore 2.10, `a` and `b` are values of the result, not multiples of sigma: the default
    is practically not truncated.

    Args:
        sigma: standard deviation before truncation, >= 0.
        mean: mean before truncation.
        a: smallest value.
        b: largest value.

    Raises:
        ValueError: also if a > b, or if the interval is so far out that it holds less than 1/65536
            of the normal distribution.
    """

    sigma: float
    mean: float
    a: float
    b: float

    def __init__(
        self, sigma: float = 0.01, mean: float = 0.0, a: float = -2.0, b: float = 2.0
    ) -> None:
        owner = "TruncatedNormal"
        super().__init__(
            sigma=not_negative(owner, "sigma", sigma),
            mean=real_number(owner, "mean", mean),
            a=real_number(owner, "a", a),
            b=real_number(owner, "b", b),
        )
        if self.a > self.b:
            raise ValueError(f"{owner}(a, b): expected a <= b, got a={self.a} and b={self.b}.")
        _truncated_spec(self, self.mean, self.sigma, self.a, self.b)

    def law(self, shape: Shape) -> DistributionSpec:
        """The truncated normal with these numbers."""
        return _truncated_spec(self, self.mean, self.sigma, self.a, self.b)


def _truncated_spec(
    init: Initializer, mean: float, sigma: float, a: float, b: float
) -> DistributionSpec:
    """The spec of a normal truncated to [a, b]; probabilities are counted in units of 2^-32."""
    if sigma == 0:
        if not a <= mean <= b:
            raise ValueError(f"{init!r} has no values: sigma is 0 and mean is not in [a, b].")
        return DistributionSpec(_normal, (mean, 0.0))
    low, high = (
        round(0.5 * math.erfc((mean - x) / sigma / math.sqrt(2)) * 2.0**32) for x in (a, b)
    )
    if (low, high) == (0, 1 << 32):
        return DistributionSpec(_normal, (mean, sigma))
    if high - low < 1 << 16:
        raise ValueError(
            f"{init!r}: the interval from a={a} to b={b} holds less than 1/65536 of the normal "
            f"distribution with mean {mean} and sigma {sigma}. Expected one that holds more; a and "
            "b are values of the result, not multiples of sigma."
        )
    return DistributionSpec(_truncated_normal, (mean, sigma, a, b), (low, high - low))


class XavierUniform(_Scaled):
    """Uniform on [-x, x) with x = gain * sqrt(6 / (fan_in + fan_out)).

    Source: X. Glorot and Y. Bengio, AISTATS 2010.

    Args:
        gain: factor.
        batch_axis: axes along which layers are stacked; the fans are those of one layer.
        in_axis: which axes are the inputs. By default, of the axes that are not batch axes the
            first are the outputs and the second the inputs.
        out_axis: which are the outputs; together with `in_axis`.
    """

    gain: float

    def __init__(
        self,
        gain: float = 1,
        *,
        batch_axis: Axes = (),
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
    ) -> None:
        gain = real_number("XavierUniform", "gain", gain)
        super().__init__(batch_axis, in_axis, out_axis, gain=gain)

    def law(self, shape: Shape) -> DistributionSpec:
        """Uniform with the bounds for this shape."""
        bound = self.gain * math.sqrt(6 / sum(self._fans(shape)))
        return DistributionSpec(_uniform, (-bound, bound))


class XavierNormal(_Scaled):
    """Normal with mean 0 and standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Source: X. Glorot and Y. Bengio, AISTATS 2010.

    Args:
        gain: factor, >= 0.
        batch_axis: axes along which layers are stacked; the fans are those of one layer.
        in_axis: which axes are the inputs. By default, of the axes that are not batch axes the
            first are the outputs and the second the inputs.
        out_axis: which are the outputs; together with `in_axis`.
    """

    gain: float

    def __init__(
        self,
        gain: float = 1,
        *,
        batch_axis: Axes = (),
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
    ) -> None:
        gain = not_negative("XavierNormal", "gain", gain)
        super().__init__(batch_axis, in_axis, out_axis, gain=gain)

    def law(self, shape: Shape) -> DistributionSpec:
        """Normal with the standard deviation for this shape."""
        return DistributionSpec(_normal, (0.0, self.gain * math.sqrt(2 / sum(self._fans(shape)))))


_LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
)
_NONLINEARITIES = (*_LINEAR, "tanh", "relu", "leaky_relu")
_FAN_MODES = ("fan_in", "fan_out")


class _He(_Scaled):
    """What HeUniform and HeNormal share: the standard deviation gain / sqrt(fan)."""

    negative_slope: float
    mode: str
    nonlinearity: str

    def __init__(
        self,
        negative_slope: float = 0,
        mode: str = "fan_in",
        nonlinearity: str = "leaky_relu",
        *,
        batch_axis: Axes = (),
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
    ) -> None:
        owner = type(self).__name__
        lower = mode.lower() if isinstance(mode, str) else mode
        super().__init__(
            batch_axis,
            in_axis,
            out_axis,
            negative_slope=real_number(owner, "negative_slope", negative_slope, wrong=ValueError),
            mode=choice(owner, "mode", lower, _FAN_MODES),
            nonlinearity=choice(owner, "nonlinearity", nonlinearity, _NONLINEARITIES),
        )

    def _sigma(self, shape: Shape) -> float:
        if self.nonlinearity in _LINEAR:
            gain = 1.0
        elif self.nonlinearity == "tanh":
            gain = 5 / 3
        elif self.nonlinearity == "relu":
            gain = math.sqrt(2)
        else:
            gain = math.sqrt(2 / (1 + self.negative_slope**2))
        return gain / math.sqrt(self._fans(shape)[_FAN_MODES.index(self.mode)])


class HeUniform(_He):
    """Uniform on [-x, x) with x = gain * sqrt(3 / fan).

    Source: K. He et al., ICCV 2015.

    Args:
        negative_slope: slope of leaky_relu for negative inputs; it counts for leaky_relu only.
        mode: `fan_in` or `fan_out` (in any case).
        nonlinearity: what follows the layer. The gain is 1 for linear layers and sigmoid, 5/3 for
            tanh, sqrt(2) for relu and sqrt(2 / (1 + negative_slope^2)) for leaky_relu.
        batch_axis: axes along which layers are stacked; the fans are those of one layer.
        in_axis: which axes are the inputs. By default, of the axes that are not batch axes the
            first are the outputs and the second the inputs.
        out_axis: which are the outputs; together with `in_axis`.
    """

    def law(self, shape: Shape) -> DistributionSpec:
        """Uniform with the bounds for this shape."""
        bound = math.sqrt(3) * self._sigma(shape)
        return DistributionSpec(_uniform, (-bound, bound))


class HeNormal(_He):
    """Normal with mean 0 and standard deviation gain / sqrt(fan).

    Source: K. He et al., ICCV 2015.

    Args:
        negative_slope: slope of leaky_relu for negative inputs; it counts for leaky_relu only.
        mode: `fan_in` or `fan_out` (in any case).
        nonlinearity: what follows the layer; the gain is as for `HeUniform`.
        batch_axis: axes along which layers are stacked; the fans are those of one layer.
        in_axis: which axes are the inputs. By default, of the axes that are not batch axes the
            first are the outputs and the second the inputs.
        out_axis: which are the outputs; together with `in_axis`.
    """

    def law(self, shape: Shape) -> DistributionSpec:
        """Normal with the standard deviation for this shape."""
        return DistributionSpec(_normal, (0.0, self._sigma(shape)))


class VarianceScaling(_Scaled):
    """Mean 0 and variance scale / n, where n is fan_in, fan_out or the mean of both.

    `truncated_normal` is a normal truncated at twice its standard deviation, which is widened so
    that the result has the variance. (MindSpore 2.10 documents this, but draws from `uniform`.)

    Args:
        scale: > 0.
        mode: `fan_in`, `fan_out` or `fan_avg`.
        distribution: `truncated_normal`, `untruncated_normal` or `uniform`.
        batch_axis: axes along which layers are stacked; the fans are those of one layer.
        in_axis: which axes are the inputs. By default, of the axes that are not batch axes the
            first are the outputs and the second the inputs.
        out_axis: which are the outputs; together with `in_axis`.
    """

    scale: float
    mode: str
    distribution: str

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        *,
        batch_axis: Axes = (),
        in_axis: Axes | None = None,
        out_axis: Axes | None = None,
    ) -> None:
        owner = "VarianceScaling"
        super().__init__(
            batch_axis,
            in_axis,
            out_axis,
            scale=not_negative(owner, "scale", scale),
            mode=choice(owner, "mode", mode, ("fan_in", "fan_out", "fan_avg")),
            distribution=choice(
                owner,
                "distribution",
                distribution,
                ("truncated_normal", "untruncated_normal", "uniform"),
            ),
        )
        if self.scale == 0:
            raise ValueError(f"{owner}(scale): expected a number > 0, got {scale}.")

    def law(self, shape: Shape) -> DistributionSpec:
        """The distribution with the variance for this shape."""
        fan_in, fan_out = self._fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        sigma = math.sqrt(self.scale / n)
        if self.distribution == "uniform":
            bound = math.sqrt(3) * sigma
            return DistributionSpec(_uniform, (-bound, bound))
        if self.distribution == "untruncated_normal":
            return DistributionSpec(_normal, (0.0, sigma))
        sigma /= _SIGMA_TRUNCATED_AT_TWO
        return _truncated_spec(self, 0.0, sigma, -2 * sigma, 2 * sigma)
