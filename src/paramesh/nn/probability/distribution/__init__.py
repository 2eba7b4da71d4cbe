"""Distributions, with MindSpore's names and parameters."""

from paramesh.nn.probability.distribution.base import Distribution
from paramesh.nn.probability.distribution.continuous import Beta, Exponential, Gamma, Uniform
from paramesh.nn.probability.distribution.discrete import (
    Bernoulli,
    Categorical,
    Geometric,
    Poisson,
)
from paramesh.nn.probability.distribution.location_scale import (
    Cauchy,
    Gumbel,
    Logistic,
    LogNormal,
    Normal,
)
from paramesh.nn.probability.distribution.transformed import TransformedDistribution

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Cauchy",
    "Distribution",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "LogNormal",
    "Logistic",
    "Normal",
    "Poisson",
    "TransformedDistribution",
    "Uniform",
]
