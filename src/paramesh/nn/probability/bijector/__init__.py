"""Bijectors, with MindSpore's names and parameters."""

from paramesh.nn.probability.bijector.base import Bijector
from paramesh.nn.probability.bijector.functions import (
    Exp,
    GumbelCDF,
    Invert,
    PowerTransform,
    ScalarAffine,
    Softplus,
)

__all__ = [
    "Bijector",
    "Exp",
    "GumbelCDF",
    "Invert",
    "PowerTransform",
    "ScalarAffine",
    "Softplus",
]
