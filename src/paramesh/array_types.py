"""Names for the types of values, used in annotations: arrays, shapes, trees.

Glossary
    raw value   the array behind a Tensor: a `jax.Array`, inside of programs a tracer (which is one
                for type checkers and for `isinstance`)
    tree        Tensors, arrays, numbers and anything else in tuples, lists, dicts and other pytrees
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

__all__ = ["Array", "ArrayLike", "HostArray", "Json", "Shape", "Tree"]

Array = jax.Array
HostArray: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = tuple[int, ...]
#: Its containers are the user's, so nothing about it can be checked.
Tree: TypeAlias = Any
#: What a JSON text held: whoever reads it checks each part of it.
Json: TypeAlias = Any
