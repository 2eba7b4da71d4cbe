"""Values that decide shapes: known outside of programs, and in gradients that are not compiled."""

from __future__ import annotations

from typing import Any

import jax.core
import numpy as np

from paramesh._compat.jax import to_concrete_value
from paramesh.array_types import Tree
from paramesh.errors import ValueNeededError
from paramesh.tensor import one_call
from paramesh.tensor.base import raw


def values_if_known(value: object) -> np.ndarray[Any, Any] | None:
    """The values of a Tensor or array, which may be differentiated; None: not computed yet."""
    array: Tree = raw(value)
    if isinstance(array, jax.core.Tracer):
        array = to_concrete_value(array)
        if array is None:
            one_call.refuse_values()
    return None if array is None else np.asarray(array)


def known_values(value: object, what: str) -> np.ndarray[Any, Any]:
    """The values of a Tensor or array, which may be differentiated but not compiled.

    Args:
        value: the Tensor or array.
        what: for what they are needed, for the error: "unique gives a shape that depends on …".

    Raises:
        ValueNeededError: a program has yet to compute them.
    """
    values = values_if_known(value)
    if values is None:
        raise ValueNeededError(
            f"{what}, which a compiled program cannot have. Call it outside the program (or in "
            "PYNATIVE_MODE)."
        )
    return values
