"""Implicit inputs and outputs of programs over Parameters that live on servers."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.dtype import DTypeLike, to_dtype
from paramesh.parameter import Parameter
from paramesh.ps.specification.specs import is_table
from paramesh.state.placement import ImplicitValue, PrefetchKey

Array = np.ndarray[Any, Any]


class Rows(ImplicitValue):
    """The rows of one lookup in a table: one for each index, zeros for those of padding."""

    def __init__(
        self, table: Parameter, number: int, size: int, ids_dtype: Any, padding: int | None
    ) -> None:
        row = tuple(table.shape[1:])
        super().__init__(f"rows of '{table.name}'", (size, *row), table.dtype)
        self.table = table
        self.number = number
        self.padding = padding
        self.wanted = PrefetchKey(f"the indices of '{table.name}'", (size,), to_dtype(ids_dtype))
        self.wanted.per_device = self.per_device = True
        #: The indices of the running step; NO_ID for padding.
        self.ids: Array = np.empty(0, np.int64)


class Gradient(ImplicitValue):
    """The gradient by a served Parameter, handed out."""

    def __init__(self, param: Parameter, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        super().__init__(f"the gradient by '{param.name}'", shape, to_dtype(dtype))
        self.param = param
        self.per_device = is_table(param)
        self.spec: dict[str, Any] = {}
        self.rows: list[Rows] = []
        self.summed = False
        self.states: dict[str, Parameter] = {}


class Hyper(ImplicitValue):
    """The numbers of a push of an optimizer, handed out."""

    def __init__(self, names: Sequence[str], optimizer: object) -> None:
        super().__init__("the numbers of a push", (len(names),), to_dtype(np.float32))
        self.names = tuple(names)
        #: A program does not keep it alive.
        self.optimizer = weakref.ref(optimizer)
