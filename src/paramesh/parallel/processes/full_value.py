"""The full value of an array that is sharded over several processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh._compat.jax import process_allgather
from paramesh.tensor.base import Tensor


def whole(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The values of a Tensor or Parameter, all of them, as a numpy array.

    If it is sharded over several processes, every process has to call this, in the same
    order; each gets the full array, and needs the memory for it.

    Args:
        tensor: of any layout.

    Raises:
        TypeError: not a Tensor.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"whole: expected a Tensor or Parameter, got {type(tensor).__name__}.")
    value = tensor._get()
    if value.is_fully_addressable or value.is_fully_replicated:
        return tensor.asnumpy()
    return np.array(process_allgather(value, tiled=True))
