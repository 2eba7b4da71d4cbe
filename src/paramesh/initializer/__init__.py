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
from paramesh.initializer.fans import fan, fans, gain

# Scripts import them by these names.
_assignment = assignment
_calculate_correct_fan, _calculate_fan_in_and_fan_out, _calculate_gain = fan, fans, gain

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
