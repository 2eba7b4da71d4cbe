"""Operators by MindSpore's names, as functions and as primitive classes.

`ops.matmul(x, y)` and `ops.MatMul()(x, y)` are forms of one operator (see `paramesh.ops.table`).
They take Tensors, Parameters, arrays and numbers, and give Tensors; they work as they stand in
eager mode, in compiled programs and under gradients.
"""

from paramesh.ops import composite, functional, names, operations
from paramesh.ops.lazy import UPPER, upper
from paramesh.ops.names import *  # noqa: F403
from paramesh.ops.table import Primitive
from paramesh.tensor.base import Tensor as Tensor  # scripts take it from here

__all__ = ["Primitive", "composite", "functional", "operations"]
__all__ += names.__all__

__getattr__ = upper(__name__, UPPER, __all__)
