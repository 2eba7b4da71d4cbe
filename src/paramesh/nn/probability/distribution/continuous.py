"""Distributions of numbers above 0 or between two ends: Uniform, Exponential, Gamma, Beta.

Formulas as in Johnson, Kotz and Balakrishnan, "Continuous Univariate Distributions"; names and
parameters are MindSpore's.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import (
    betainc,
    betaln,
    digamma,
    gammainc,
    gammaln,
    xlog1py,
    xlogy,
)

from paramesh.dtype import DTypeLike, float32
from paramesh.nn.probability.arguments import ParameterLike
from paramesh.nn.probability.distribution.family import Family
from paramesh.tensor.base import Tensor


class Uniform(Family):
    """The uniform distribution between two numbers.

    Args:
        low: the lower end.
        high: the upper end, above the lower.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("low", "high")

    def __init__(
        self,
        low: ParameterLike | None = None,
        high: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Uniform",
    ) -> None:
        super().__init__((low, high), seed, dtype, name)

    @property
    def low(self) -> Tensor | None:
        """The lower end."""
        return self.default_parameters[0]

    @property
    def high(self) -> Tensor | None:
        """The upper end."""
        return self.default_parameters[1]

    def _check_parameters(self, *values: np.ndarray[Any, Any]) -> None:
        low, high = values
        if not (low < high).all():
            raise ValueError(f"Uniform: low must be below high, got {low} and {high}.")

    @staticmethod
    def _raw_prob(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.where((x < low) | (x > high), 0, 1 / (high - low))

    @staticmethod
    def _raw_cdf(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.clip((x - low) / (high - low), 0, 1)

    @staticmethod
    def _raw_mean(low: jax.Array, high: jax.Array) -> jax.Array:
        return (low + high) / 2

    @staticmethod
    def _raw_var(low: jax.Array, high: jax.Array) -> jax.Array:
        return (high - low) ** 2 / 12

    @staticmethod
    def _raw_entropy(low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.log(high - low)

    @staticmethod
    def _raw_kl_loss(
        low_b: jax.Array, high_b: jax.Array, low: jax.Array, high: jax.Array
    ) -> jax.Array:
        inside = (low_b <= low) & (high <= high_b)
        return jnp.where(inside, jnp.log((high_b - low_b) / (high - low)), jnp.inf)

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], low: jax.Array, high: jax.Array
    ) -> jax.Array:
        part = jax.random.uniform(key, shape + low.shape, low.dtype)
        return low + (high - low) * part


class Exponential(Family):
    """The exponential distribution.

    Args:
        rate: one over the mean, above 0.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("rate",)
    POSITIVE = frozenset({"rate"})

    def __init__(
        self,
        rate: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Exponential",
    ) -> None:
        super().__init__((rate,), seed, dtype, name)

    @property
    def rate(self) -> Tensor | None:
        """One over the mean."""
        return self.default_parameters[0]

    @staticmethod
    def _raw_log_prob(x: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(x < 0, -jnp.inf, jnp.log(rate) - rate * x)

    @staticmethod
    def _raw_cdf(x: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, -jnp.expm1(-rate * x))

    @staticmethod
    def _raw_log_survival(x: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, -rate * x)

    @staticmethod
    def _raw_mean(rate: jax.Array) -> jax.Array:
        return 1 / rate

    @staticmethod
    def _raw_mode(rate: jax.Array) -> jax.Array:
        return jnp.zeros_like(rate)

    @staticmethod
    def _raw_sd(rate: jax.Array) -> jax.Array:
        return 1 / rate

    @staticmethod
    def _raw_entropy(rate: jax.Array) -> jax.Array:
        return 1 - jnp.log(rate)

    @staticmethod
    def _raw_kl_loss(rate_b: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.log(rate / rate_b) + rate_b / rate - 1

    @staticmethod
    def _raw_sample(key: jax.Array, shape: tuple[int, ...], rate: jax.Array) -> jax.Array:
        return jax.random.exponential(key, shape + rate.shape, rate.dtype) / rate


class Gamma(Family):
    """The gamma distribution.

    Args:
        concentration: the shape, above 0; a list, array or Tensor.
        rate: one over the scale, above 0; a list, array or Tensor.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("concentration", "rate")
    POSITIVE = frozenset({"concentration", "rate"})

    def __init__(
        self,
        concentration: ParameterLike | None = None,
        rate: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Gamma",
    ) -> None:
        _check_arrays("Gamma", concentration=concentration, rate=rate)
        super().__init__((concentration, rate), seed, dtype, name)

    @property
    def concentration(self) -> Tensor | None:
        """The shape."""
        return self.default_parameters[0]

    @property
    def rate(self) -> Tensor | None:
        """One over the scale."""
        return self.default_parameters[1]

    @staticmethod
    def _raw_log_prob(x: jax.Array, concentration: jax.Array, rate: jax.Array) -> jax.Array:
        norm = gammaln(concentration) - concentration * jnp.log(rate)
        return xlogy(concentration - 1, x) - rate * x - norm

    @staticmethod
    def _raw_cdf(x: jax.Array, concentration: jax.Array, rate: jax.Array) -> jax.Array:
        return gammainc(concentration, rate * x)

    @staticmethod
    def _raw_mean(concentration: jax.Array, rate: jax.Array) -> jax.Array:
        return concentration / rate

    @staticmethod
    def _raw_mode(concentration: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(concentration > 1, (concentration - 1) / rate, jnp.nan)

    @staticmethod
    def _raw_var(concentration: jax.Array, rate: jax.Array) -> jax.Array:
        return concentration / rate**2

    @staticmethod
    def _raw_entropy(concentration: jax.Array, rate: jax.Array) -> jax.Array:
        digammas = (1 - concentration) * digamma(concentration)
        return concentration - jnp.log(rate) + gammaln(concentration) + digammas

    @staticmethod
    def _raw_kl_loss(
        concentration_b: jax.Array, rate_b: jax.Array, concentration: jax.Array, rate: jax.Array
    ) -> jax.Array:
        digammas = (concentration - concentration_b) * digamma(concentration)
        gammas = gammaln(concentration_b) - gammaln(concentration)
        rates = concentration_b * jnp.log(rate / rate_b) + concentration * (rate_b / rate - 1)
        return digammas + gammas + rates

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], concentration: jax.Array, rate: jax.Array
    ) -> jax.Array:
        full = shape + rate.shape
        return jax.random.gamma(key, jnp.broadcast_to(concentration, full)) / rate


class Beta(Family):
    """The beta distribution.

    Args:
        concentration1: the first shape, above 0; a list, array or Tensor.
        concentration0: the second shape, above 0; a list, array or Tensor.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("concentration1", "concentration0")
    POSITIVE = frozenset({"concentration1", "concentration0"})

    def __init__(
        self,
        concentration1: ParameterLike | None = None,
        concentration0: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Beta",
    ) -> None:
        _check_arrays("Beta", concentration1=concentration1, concentration0=concentration0)
        super().__init__((concentration1, concentration0), seed, dtype, name)

    @property
    def concentration1(self) -> Tensor | None:
        """The first shape."""
        return self.default_parameters[0]

    @property
    def concentration0(self) -> Tensor | None:
        """The second shape."""
        return self.default_parameters[1]

    @staticmethod
    def _raw_log_prob(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b)

    @staticmethod
    def _raw_cdf(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return betainc(a, b, jnp.clip(x, 0, 1))

    @staticmethod
    def _raw_mean(a: jax.Array, b: jax.Array) -> jax.Array:
        return a / (a + b)

    @staticmethod
    def _raw_mode(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where((a > 1) & (b > 1), (a - 1) / (a + b - 2), jnp.nan)

    @staticmethod
    def _raw_var(a: jax.Array, b: jax.Array) -> jax.Array:
        return a * b / ((a + b) ** 2 * (a + b + 1))

    @staticmethod
    def _raw_entropy(a: jax.Array, b: jax.Array) -> jax.Array:
        digammas = (a - 1) * digamma(a) + (b - 1) * digamma(b)
        return betaln(a, b) - digammas + (a + b - 2) * digamma(a + b)

    @staticmethod
    def _raw_kl_loss(a_b: jax.Array, b_b: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        digammas = (a - a_b) * digamma(a) + (b - b_b) * digamma(b)
        return betaln(a_b, b_b) - betaln(a, b) + digammas + (a_b - a + b_b - b) * digamma(a + b)

    @staticmethod
    def _raw_sample(
        key: jax.Array, shape: tuple[int, ...], a: jax.Array, b: jax.Array
    ) -> jax.Array:
        return jax.random.beta(key, a, b, shape + a.shape, a.dtype)


def _check_arrays(owner: str, **parameters: object) -> None:
    """Raise TypeError if a parameter is a plain number, as MindSpore does here."""
    for name, value in parameters.items():
        if isinstance(value, int | float):
            raise TypeError(f"{owner}: {name} must be a list, array or Tensor, got {value!r}.")
