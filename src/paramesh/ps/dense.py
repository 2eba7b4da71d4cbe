"""A dense Parameter on a server, or a range of one.

Glossary
    range       elements that follow one another in the row-major order of the whole, as a flat
                array

An update writes new arrays and leaves the old ones to its undo; the memory of an undo that nobody
needs any more is written again.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from paramesh.dtype import to_dtype
from paramesh.errors import ParameterShapeError, ParameterStateError
from paramesh.ps.rules import BLOCK, Numbers, Rule, arithmetic, make_rule, updated
from paramesh.ps.starts import values_at

Array = np.ndarray[Any, Any]
VALUE = "value"


@dataclasses.dataclass
class DenseUndo:
    """The arrays before an update, by slot."""

    before: dict[str, Array]


class Dense:
    """The elements of one dense Parameter that live in a store.

    Args:
        spec: as for `Store.declare`, with `kind` "dense".
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.shape = tuple(spec["shape"])
        self.size = math.prod(self.shape)
        self.offset: int = spec.get("offset", 0)
        self.dtype = to_dtype(spec["dtype"]).np_dtype
        self.work = arithmetic(self.dtype)
        self.optimizer: dict[str, Any] | None = spec.get("optimizer")
        self.rule: Rule | None = make_rule(self.name, self.optimizer) if self.optimizer else None
        slots = self.rule.slots if self.rule else {}
        self.arrays: dict[str, Array] = {
            slot: np.full(self.size, first, self.dtype) for slot, first in slots.items()
        }
        start = spec.get("recipe")
        if start is not None:
            positions = np.arange(self.size, dtype=np.uint64) + np.uint64(self.offset)
            self.arrays[VALUE] = values_at(start, positions)

    def put(self, values: Any, at: int, field: str) -> None:
        """Give elements from `at` on other values.

        Raises:
            ParameterShapeError: they do not fit.
        """
        flat = np.ravel(np.asarray(values)).astype(self.dtype, copy=False)
        if not 0 <= at <= self.size - len(flat):
            raise ParameterShapeError(
                f"Parameter '{self.name}' has {self.size} elements here; elements {at} to "
                f"{at + len(flat)} do not fit."
            )
        if field == VALUE and VALUE not in self.arrays:
            self.arrays[VALUE] = np.zeros(self.size, self.dtype)
        # A copy, if it has all: what an undo or a reader holds stays as it is.
        array = self.arrays[field].copy()
        array[at : at + len(flat)] = flat
        self.arrays[field] = array

    def read(self, field: str, undo: DenseUndo | None) -> Array:
        """The elements, of the declared shape; not to be written to.

        Raises:
            ParameterStateError: there are no values yet.
        """
        if VALUE not in self.arrays:
            raise ParameterStateError(
                f"Parameter '{self.name}' has no values on the server yet: put them first."
            )
        arrays = self.arrays if undo is None else undo.before
        view = arrays[field].reshape(self.shape)
        view.flags.writeable = False
        return view

    def apply(self, grad: Array, numbers: Numbers, spare: DenseUndo | None) -> DenseUndo:
        """One update from the gradient of all elements here (see `Store.check`)."""
        assert self.rule is not None
        g = np.ravel(grad)
        names = [VALUE, *self.rule.slots]
        old = [self.arrays[name] for name in names]
        if spare is not None:
            new = [spare.before[name] for name in names]
        else:
            new = [np.empty_like(array) for array in old]
        for first in range(0, self.size, BLOCK):
            part = slice(first, first + BLOCK)
            held = [array[part].astype(self.work, copy=False) for array in old]
            piece = g[part].astype(self.work, copy=False)
            values = updated(self.rule, held[0], piece, numbers, held[1:])
            for target, value in zip(new, values, strict=True):
                target[part] = value
        self.arrays = dict(zip(names, new, strict=True))
        return DenseUndo(dict(zip(names, old, strict=True)))

    def undo(self, undo: DenseUndo) -> None:
        """Take the last update back."""
        self.arrays = dict(undo.before)

    def stats(self) -> dict[str, int]:
        """Elements and bytes that exist."""
        return {"elements": self.size, "bytes": sum(a.nbytes for a in self.arrays.values())}
