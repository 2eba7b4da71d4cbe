"""Distributions of a location and a scale: Normal, Cauchy, Logistic, Gumbel, and LogNormal.

Formulas as in Johnson, Kotz and Balakrishnan, "Continuous Univariate Distributions"; names and
parameters are MindSpore's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import (
    erf,
    gammaln,
    log_ndtr,
)

from paramesh.dtype import DTypeLike, float32
from paramesh.nn.probability.arguments import ParameterLike
from paramesh.nn.probability.distribution.family import Family
from paramesh.tensor.base import Tensor

_LOG_2PI = float(np.log(2 * np.pi))
_EULER = float(np.euler_gamma)


class _LocationScale(Family):
    """A distribution that a location moves and a positive scale stretches."""

    NAMES = ("loc", "scale")
    POSITIVE = frozenset({"scale"})

    @property
    def loc(self) -> Tensor | None:
        """The location."""
        return self.default_parameters[0]

    @property
    def scale(self) -> Tensor | None:
        """The scale."""
        return self.default_parameters[1]


class Normal(Family):
    """The normal distribution.

    Args:
        mean: the mean.
        sd: the standard deviation, above 0.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("mean", "sd")
    POSITIVE = frozenset({"sd"})

    def __init__(
        self,
        mean: ParameterLike | None = None,
        sd: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Normal",
    ) -> None:
        super().__init__((mean, sd), seed, dtype, name)

    @staticmethod
    def _raw_log_prob(x: jax.Array, mean: jax.Array, sd: jax.Array) -> jax.Array:
        return -(((x - mean) / sd) ** 2) / 2 - _LOG_2PI / 2 - jnp.log(sd)

    @staticmethod
    def _raw_cdf(x: jax.Array, mean: jax.Array, sd: jax.Array) -> jax.Array:
        return (1 + erf((x - mean) / (sd * np.sqrt(2)))) / 2

    @staticmethod
    def _raw_log_cdf(x: jax.Array, mean: jax.Array, sd: jax.Array) -> jax.Array:
        return log_ndtr((x - mean) / sd)

    @staticmethod
    def _raw_log_survival(x: jax.Array, mean: jax.Array, sd: jax.Array) -> jax.Array:
        return log_ndtr((mean - x) / sd)

    @staticmethod
    def _raw_mean(mean: jax.Array, sd: jax.Array) -> jax.Array:
        return mean

    @staticmethod
    def _raw_mode(mean: jax.Array, sd: jax.Array) -> jax.Array:
        return mean

    @staticmethod
    def _raw_sd(mean: jax.Array, sd: jax.Array) -> jax.Array:
        return sd

    @staticmethod
    def _raw_entropy(mean: jax.Array, sd: jax.Array) -> jax.Array:
        return (1 + _LOG_2PI) / 2 + jnp.log(sd)

    @staticmethod
    def _raw_kl_loss(
        mean_b: jax.Array, sd_b: jax.Array, mean: jax.Array, sd: jax.Array
    ) -> jax.Array:
        ratio = jnp.log(sd / sd_b)
        return ((mean - mean_b) / sd_b) ** 2 / 2 + jnp.expm1(2 * ratio) / 2 - ratio

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], mean: jax.Array, sd: jax.Array
    ) -> jax.Array:
        return mean + sd * jax.random.normal(key, shape + mean.shape, mean.dtype)


class LogNormal(_LocationScale):
    """The distribution whose logarithm is normal.

    Args:
        loc: the mean of the logarithm.
        scale: the standard deviation of the logarithm, above 0.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    def __init__(
        self,
        loc: ParameterLike | None = None,
        scale: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "LogNormal",
    ) -> None:
        super().__init__((loc, scale), seed, dtype, name)

    @staticmethod
    def _raw_log_prob(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        log = jnp.log(x)
        return Normal._raw_log_prob(log, loc, scale) - log

    @staticmethod
    def _raw_cdf(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return Normal._raw_cdf(jnp.log(x), loc, scale)

    @staticmethod
    def _raw_mean(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.exp(loc + scale**2 / 2)

    @staticmethod
    def _raw_mode(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.exp(loc - scale**2)

    @staticmethod
    def _raw_var(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.expm1(scale**2) * jnp.exp(2 * loc + scale**2)

    @staticmethod
    def _raw_entropy(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return loc + (1 + _LOG_2PI) / 2 + jnp.log(scale)

    @staticmethod
    def _raw_kl_loss(
        loc_b: jax.Array, scale_b: jax.Array, loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        return Normal._raw_kl_loss(loc_b, scale_b, loc, scale)

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        return jnp.exp(Normal._raw_sample(key, shape, loc, scale))


class Cauchy(_LocationScale):
    """The Cauchy distribution. It has no mean, standard deviation and variance.

    Args:
        loc: the median.
        scale: half of the distance between the quartiles, above 0.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    def __init__(
        self,
        loc: ParameterLike | None = None,
        scale: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Cauchy",
    ) -> None:
        super().__init__((loc, scale), seed, dtype, name)

    @staticmethod
    def _raw_log_prob(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return -jnp.log(np.pi * scale) - jnp.log1p(((x - loc) / scale) ** 2)

    @staticmethod
    def _raw_cdf(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return 0.5 + jnp.arctan2(x - loc, scale) / np.pi

    @staticmethod
    def _raw_mode(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return loc

    @staticmethod
    def _raw_entropy(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.log(4 * np.pi * scale)

    @staticmethod
    def _raw_kl_loss(
        loc_b: jax.Array, scale_b: jax.Array, loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        above = (scale + scale_b) ** 2 + (loc - loc_b) ** 2
        return jnp.log(above / (4 * scale * scale_b))

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        return loc + scale * jax.random.cauchy(key, shape + loc.shape, loc.dtype)


class Logistic(_LocationScale):
    """The logistic distribution.

    Args:
        loc: the mean.
        scale: the scale, above 0.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    def __init__(
        self,
        loc: ParameterLike | None = None,
        scale: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Logistic",
    ) -> None:
        super().__init__((loc, scale), seed, dtype, name)

    @staticmethod
    def _raw_log_prob(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        z = (x - loc) / scale
        return -z - 2 * jax.nn.softplus(-z) - jnp.log(scale)

    @staticmethod
    def _raw_cdf(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jax.nn.sigmoid((x - loc) / scale)

    @staticmethod
    def _raw_log_cdf(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return -jax.nn.softplus((loc - x) / scale)

    @staticmethod
    def _raw_survival_function(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jax.nn.sigmoid((loc - x) / scale)

    @staticmethod
    def _raw_log_survival(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return -jax.nn.softplus((x - loc) / scale)

    @staticmethod
    def _raw_mean(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return loc

    @staticmethod
    def _raw_mode(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return loc

    @staticmethod
    def _raw_sd(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return scale * (np.pi / np.sqrt(3))

    @staticmethod
    def _raw_entropy(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.log(scale) + 2

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        return loc + scale * jax.random.logistic(key, shape + loc.shape, loc.dtype)


class Gumbel(_LocationScale):
    """The Gumbel distribution, of the largest of many numbers.

    Args:
        loc: the mode.
        scale: the scale, above 0.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    def __init__(
        self,
        loc: ParameterLike | None = None,
        scale: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Gumbel",
    ) -> None:
        super().__init__((loc, scale), seed, dtype, name)

    @staticmethod
    def _raw_log_prob(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        z = (x - loc) / scale
        return -z - jnp.exp(-z) - jnp.log(scale)

    @staticmethod
    def _raw_cdf(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.exp(-jnp.exp((loc - x) / scale))

    @staticmethod
    def _raw_log_cdf(x: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
        return -jnp.exp((loc - x) / scale)

    @staticmethod
    def _raw_mean(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return loc + scale * _EULER

    @staticmethod
    def _raw_mode(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return loc

    @staticmethod
    def _raw_sd(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return scale * (np.pi / np.sqrt(6))

    @staticmethod
    def _raw_entropy(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.log(scale) + 1 + _EULER

    @staticmethod
    def _raw_kl_loss(
        loc_b: jax.Array, scale_b: jax.Array, loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        ratio = scale / scale_b
        linear = _EULER * (ratio - 1) + (loc - loc_b) / scale_b - jnp.log(ratio)
        return linear + jnp.expm1((loc_b - loc) / scale_b + gammaln(ratio + 1))

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], loc: jax.Array, scale: jax.Array
    ) -> jax.Array:
        return loc + scale * jax.random.gumbel(key, shape + loc.shape, loc.dtype)
