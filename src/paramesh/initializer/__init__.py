"""Initializers, and `initializer()`, which makes a Tensor that holds a recipe.

`paramesh.initializer(…)` calls the function of that name.
"""

from paramesh import lazy_names
from paramesh.initializer.factory import (
    ALIASES,
    Constant,
    Dirac,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    JaxInitializer,
    Normal,
    One,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    Zero,
    assignment,
    initializer,
)

_assignment = assignment  # scripts import it by this name

__all__ = [
    "ALIASES",
    "Constant",
    "Dirac",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "JaxInitializer",
    "Normal",
    "One",
    "Orthogonal",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "Zero",
    "initializer",
]

lazy_names.callable_module(__name__)
