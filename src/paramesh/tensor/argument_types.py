"""Types of arguments: what a user may give for a Tensor, a number, a shape or an element type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from paramesh.dtype import DType
from paramesh.tensor.base import Tensor

#: An array of any kind; operators and layers give Tensors.
TensorLike = Tensor | jax.Array | np.ndarray[Any, Any]

#: An array or a number.
NumberLike = TensorLike | int | float | complex

#: What stands for an element type: `paramesh.float32`, a numpy dtype, its name, or a python type.
DTypeLike = DType | np.dtype[Any] | str | type[Any]

#: One int for all axes, or one for each.
Ints = int | Sequence[int]

#: A raw value, or a number that meets it in arithmetic.
RawNumber = jax.Array | int | float

#: How the losses of the elements become one: `none` keeps them.
Reduction = Literal["mean", "sum", "none"]

#: A loss, or any other function of Tensors: a Cell or a plain function.
TensorFunction = Callable[..., Any]

#: What functions take that make arrays of their arguments: also nested lists of numbers.
ArrayLike = TensorLike | np.generic | int | float | complex | Sequence[Any]
