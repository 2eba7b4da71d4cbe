"""Layers over sparse matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh.nn.cell import Cell
from paramesh.ops import sparse as ops
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor
from paramesh.tensor.sparse_tensors import COOTensor


class SparseToDense(Cell):
    """A COOTensor as a Tensor, with zeros where it has no element."""

    def construct(self, sparse_tensor: COOTensor) -> Tensor:
        """The whole of a COOTensor.

        Raises:
            TypeError: another argument.
        """
        if not isinstance(sparse_tensor, COOTensor):
            raise TypeError(f"SparseToDense takes a COOTensor, got {type(sparse_tensor).__name__}.")
        return ops.sparse_dense(sparse_tensor)


class SparseTensorDenseMatmul(Cell):
    """A matrix that is given by its elements, times a matrix.

    Args:
        adjoint_st: take the conjugate transpose of the first matrix.
        adjoint_dt: take that of the second.

    Raises:
        TypeError: no bools.
    """

    def __init__(self, adjoint_st: bool = False, adjoint_dt: bool = False) -> None:
        super().__init__()
        for name, value in (("adjoint_st", adjoint_st), ("adjoint_dt", adjoint_dt)):
            if not isinstance(value, bool):
                raise TypeError(f"SparseTensorDenseMatmul: {name} must be a bool, got {value!r}.")
        self.adj_st = adjoint_st
        self.adj_dt = adjoint_dt

    def construct(
        self,
        indices: TensorLike,
        values: TensorLike,
        sparse_shape: Sequence[int],
        dense: TensorLike,
    ) -> Any:
        """(m, k) and (k, n) -> (m, n), of indices (e, 2) and values (e,)."""
        return ops.sparse_tensor_dense_matmul(
            indices, values, sparse_shape, dense, self.adj_st, self.adj_dt
        )
