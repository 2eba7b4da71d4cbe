"""Distributions of whole numbers: Bernoulli, Categorical, Geometric, Poisson.

Formulas as in Johnson, Kemp and Kotz, "Univariate Discrete Distributions"; names and parameters are
MindSpore's.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc, gammaln, xlog1py, xlogy

from paramesh.dtype import DTypeLike, float32, float_type, int32, int_type, uint_type
from paramesh.nn.probability.arguments import ParameterLike
from paramesh.nn.probability.distribution.family import Family
from paramesh.tensor.base import Tensor

_NUMBERS = (*int_type, *uint_type, *float_type)


class _OfChances(Family):
    """A distribution whose one parameter is a probability."""

    NAMES = ("probs1",)
    DTYPES = _NUMBERS

    @property
    def probs(self) -> Tensor | None:
        """The probability."""
        return self.default_parameters[0]

    def _check_parameter(self, name: str, value: np.ndarray[Any, Any]) -> None:
        if not ((value > 0) & (value < 1)).all():
            raise ValueError(f"{type(self).__name__}: probs must be between 0 and 1, got {value}.")


class Bernoulli(_OfChances):
    """1 with a probability, and 0 otherwise.

    Args:
        probs: the probability of 1, between 0 and 1.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    def __init__(
        self,
        probs: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = int32,
        name: str = "Bernoulli",
    ) -> None:
        super().__init__((probs,), seed, dtype, name)

    @staticmethod
    def _raw_log_prob(x: jax.Array, p: jax.Array) -> jax.Array:
        return xlogy(x, p) + xlog1py(1 - x, -p)

    @staticmethod
    def _raw_cdf(x: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, jnp.where(x < 1, 1 - p, 1))

    @staticmethod
    def _raw_mean(p: jax.Array) -> jax.Array:
        return p

    @staticmethod
    def _raw_mode(p: jax.Array) -> jax.Array:
        return jnp.where(p > 0.5, 1.0, 0.0)

    @staticmethod
    def _raw_var(p: jax.Array) -> jax.Array:
        return p * (1 - p)

    @staticmethod
    def _raw_entropy(p: jax.Array) -> jax.Array:
        return -xlogy(p, p) - xlog1py(1 - p, -p)

    @staticmethod
    def _raw_kl_loss(p_b: jax.Array, p: jax.Array) -> jax.Array:
        return p * jnp.log(p / p_b) + (1 - p) * jnp.log((1 - p) / (1 - p_b))

    @staticmethod
    def _raw_sample(key: jax.Array, shape: tuple[int, ...], p: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, p, shape + p.shape)


class Geometric(_OfChances):
    """The number of failures before the first success.

    Args:
        probs: the probability of a success, between 0 and 1.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    def __init__(
        self,
        probs: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = int32,
        name: str = "Geometric",
    ) -> None:
        super().__init__((probs,), seed, dtype, name)

    @staticmethod
    def _raw_prob(x: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, p * (1 - p) ** jnp.floor(x))

    @staticmethod
    def _raw_cdf(x: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, 1 - (1 - p) ** (jnp.floor(x) + 1))

    @staticmethod
    def _raw_mean(p: jax.Array) -> jax.Array:
        return (1 - p) / p

    @staticmethod
    def _raw_mode(p: jax.Array) -> jax.Array:
        return jnp.zeros_like(p)

    @staticmethod
    def _raw_var(p: jax.Array) -> jax.Array:
        return (1 - p) / p**2

    @staticmethod
    def _raw_entropy(p: jax.Array) -> jax.Array:
        return -(xlogy(p, p) + xlog1py(1 - p, -p)) / p

    @staticmethod
    def _raw_kl_loss(p_b: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.log(p / p_b) + (1 - p) / p * jnp.log((1 - p) / (1 - p_b))

    @staticmethod
    def _raw_sample(key: jax.Array, shape: tuple[int, ...], p: jax.Array) -> jax.Array:
        return jax.random.geometric(key, p, shape + p.shape) - 1


class Poisson(Family):
    """The number of events of which there are `rate` on average.

    Args:
        rate: the mean, above 0; a list, array or Tensor.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("rate",)
    POSITIVE = frozenset({"rate"})
    DTYPES = _NUMBERS

    def __init__(
        self,
        rate: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        name: str = "Poisson",
    ) -> None:
        if isinstance(rate, int | float):
            raise TypeError(f"Poisson: rate must be a list, array or Tensor, got {rate!r}.")
        super().__init__((rate,), seed, dtype, name)

    @property
    def rate(self) -> Tensor | None:
        """The mean."""
        return self.default_parameters[0]

    @staticmethod
    def _raw_log_prob(x: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(x < 0, -jnp.inf, xlogy(x, rate) - rate - gammaln(x + 1))

    @staticmethod
    def _raw_cdf(x: jax.Array, rate: jax.Array) -> jax.Array:
        return jnp.where(x < 0, 0, gammaincc(jnp.maximum(jnp.floor(x) + 1, 1), rate))

    @staticmethod
    def _raw_mean(rate: jax.Array) -> jax.Array:
        return rate

    @staticmethod
    def _raw_mode(rate: jax.Array) -> jax.Array:
        return jnp.floor(rate)

    @staticmethod
    def _raw_var(rate: jax.Array) -> jax.Array:
        return rate

    @staticmethod
    def _raw_sample(key: jax.Array, shape: tuple[int, ...], rate: jax.Array) -> jax.Array:
        return jax.random.poisson(key, rate, shape + rate.shape)


class Categorical(Family):
    """One of the numbers 0, 1, …, with a probability each.

    Args:
        probs: the probability of each number, along the last axis: above 0, together 1.
        seed: of samples; None: 0.
        dtype: of samples.
        name: of the distribution.

    Raises:
        TypeError: another type of an argument. ValueError: parameters out of range, or whose shapes
            do not fit together.
    """

    NAMES = ("probs",)
    DTYPES = _NUMBERS

    def __init__(
        self,
        probs: ParameterLike | None = None,
        seed: int | None = None,
        dtype: DTypeLike = int32,
        name: str = "Categorical",
    ) -> None:
        super().__init__((probs,), seed, dtype, name)

    @property
    def probs(self) -> Tensor | None:
        """The probabilities."""
        return self.default_parameters[0]

    def _check_parameter(self, name: str, value: np.ndarray[Any, Any]) -> None:
        if value.ndim < 1:
            raise ValueError("Categorical: probs needs an axis with the numbers' probabilities.")
        if not ((value > 0) & (value < 1)).all():
            raise ValueError(f"Categorical: probs must be between 0 and 1, got {value}.")
        if not np.allclose(value.sum(-1), 1, atol=1e-5):
            raise ValueError(f"Categorical: probs must be 1 together, got {value}.")

    @staticmethod
    def _raw_log_prob(x: jax.Array, p: jax.Array) -> jax.Array:
        chosen = jnp.clip(x, 0, p.shape[-1] - 1).astype(jnp.int32)
        shape = jnp.broadcast_shapes(x.shape, p.shape[:-1])
        rows = jnp.broadcast_to(p, shape + p.shape[-1:])
        picked = jnp.take_along_axis(rows, jnp.broadcast_to(chosen, shape)[..., None], -1)[..., 0]
        outside = (x < 0) | (x >= p.shape[-1])
        return jnp.where(outside, -jnp.inf, jnp.log(picked))

    @staticmethod
    def _raw_cdf(x: jax.Array, p: jax.Array) -> jax.Array:
        below = jnp.arange(p.shape[-1]) <= x[..., None]
        return jnp.sum(jnp.where(below, p, 0), -1)

    @staticmethod
    def _raw_mean(p: jax.Array) -> jax.Array:
        return jnp.sum(p * jnp.arange(p.shape[-1], dtype=p.dtype), -1)

    @staticmethod
    def _raw_mode(p: jax.Array) -> jax.Array:
        return jnp.argmax(p, -1).astype(jnp.int32)

    @staticmethod
    def _raw_var(p: jax.Array) -> jax.Array:
        numbers = jnp.arange(p.shape[-1], dtype=p.dtype)
        return jnp.sum(p * numbers**2, -1) - jnp.sum(p * numbers, -1) ** 2

    @staticmethod
    def _raw_entropy(p: jax.Array) -> jax.Array:
        return -jnp.sum(xlogy(p, p), -1)

    @staticmethod
    def _raw_kl_loss(p_b: jax.Array, p: jax.Array) -> jax.Array:
        return jnp.sum(p * jnp.log(p / p_b), -1)

    @staticmethod
    def _raw_sample(key: jax.Array, shape: tuple[int, ...], p: jax.Array) -> jax.Array:
        return jax.random.categorical(key, jnp.log(p), shape=shape + p.shape[:-1])
