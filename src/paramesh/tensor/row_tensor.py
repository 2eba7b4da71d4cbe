"""RowTensor: some rows of a Tensor, and zeros elsewhere, as gradients of embeddings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import x64
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.conversion import TensorInput


class RowTensor:
    """Rows of a Tensor by their numbers; a row that is named twice counts as the sum.

    Args:
        indices: (n,): which rows.
        values: (n, ...): the rows.
        shape: of the whole, (rows, ...).
        row_tensor: another one, instead of the three.

    Raises:
        TypeError: something is missing. ValueError: shapes that do not fit.
    """

    def __init__(
        self,
        indices: TensorInput | None = None,
        values: TensorInput | None = None,
        shape: Sequence[int] | None = None,
        row_tensor: RowTensor | None = None,
    ) -> None:
        if row_tensor is not None:
            indices, values = row_tensor.indices, row_tensor.values
            shape = row_tensor.dense_shape
        if indices is None or values is None or shape is None:
            raise TypeError("RowTensor takes indices, values and shape, or row_tensor.")
        self._indices = indices if isinstance(indices, Tensor) else Tensor(indices)
        self._values = values if isinstance(values, Tensor) else Tensor(values)
        self._shape = tuple(int(n) for n in shape)
        rows = self._indices.shape
        if len(rows) != 1 or self._values.shape != (*rows, *self._shape[1:]):
            raise ValueError(
                f"RowTensor: indices {self._indices.shape} and values {self._values.shape} do not "
                f"fit the shape {self._shape}: expected (n,) and (n, *{self._shape[1:]})."
            )

    @property
    def indices(self) -> Tensor:
        """(n,): which rows."""
        return self._indices

    @property
    def values(self) -> Tensor:
        """(n, ...): the rows."""
        return self._values

    @property
    def dense_shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return self._shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """The element type of the rows."""
        return self._values.dtype

    def to_dense(self) -> Tensor:
        """The whole, with zeros in all other rows."""
        values, at = raw(self._values), raw(self._indices)
        with x64(values, at):
            return wrap(jnp.zeros(self._shape, values.dtype).at[at].add(values))

    def __repr__(self) -> str:
        return (
            f"RowTensor(shape={list(self._shape)}, dtype={self.dtype}, indices={self._indices!r}, "
            f"values={self._values!r})"
        )


def _flatten(rows: RowTensor) -> tuple[tuple[Any, Any], tuple[int, ...]]:
    return (rows._indices, rows._values), rows._shape


def _unflatten(shape: tuple[int, ...], parts: tuple[Any, Any]) -> RowTensor:
    made = object.__new__(RowTensor)
    made._indices, made._values = parts
    made._shape = shape
    return made


jax.tree_util.register_pytree_node(RowTensor, _flatten, _unflatten)
