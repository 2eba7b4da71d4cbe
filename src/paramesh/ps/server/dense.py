"""A dense Parameter on a server, or a range of one.

Glossary
    range       consecutive elements in the row-major order of the full array, as a flat array

An update writes new arrays and leaves the old ones to its undo; the memory of an undo that is no
longer needed is reused. So an array that was read never changes while it is referenced.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.dtype import to_dtype
from paramesh.errors import ParameterShapeError, ParameterStateError
from paramesh.ps.durability.snapshot_view import DenseView
from paramesh.ps.server.update_rules import (
    BLOCK,
    Numbers,
    UpdateRule,
    arithmetic,
    make_update_rule,
    updated,
)
from paramesh.ps.specification.initial_values import values_at

Array = np.ndarray[Any, Any]
VALUE = "value"


@dataclasses.dataclass
class DenseUndo:
    """The arrays before an update, by slot."""

    before: dict[str, Array]


def _unread(array: Array) -> bool:
    """Whether nobody but the caller's one name holds an array, or a view of it."""
    return array.flags.owndata and sys.getrefcount(array) == _ONE_NAME


def _count_of_one_name() -> int:
    def count(array: Array) -> int:
        return sys.getrefcount(array)

    array = np.empty(0)
    return count(array)


#: What `_unread` counts for an array that only its caller has a name for.
_ONE_NAME = _count_of_one_name()


class Dense:
    """The elements of one dense Parameter that live in a store.

    Args:
        spec: as for `Store.declare`, with `kind` "dense".
        empty: without values and state, which are loaded.
    """

    def __init__(self, spec: dict[str, Any], *, empty: bool = False) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.shape = tuple(spec["shape"])
        self.size = math.prod(self.shape)
        self.offset: int = spec.get("offset", 0)
        self.dtype = to_dtype(spec["dtype"]).np_dtype
        self.work = arithmetic(self.dtype)
        self.optimizer: dict[str, Any] | None = spec.get("optimizer")
        self.update_rule: UpdateRule | None = (
            make_update_rule(self.name, self.optimizer) if self.optimizer else None
        )
        if self.update_rule is not None and self.update_rule.row_slots:
            assert self.optimizer is not None
            raise ValueError(
                f"Parameter '{self.name}': {self.optimizer['rule']} updates tables of rows alone."
            )
        slots = self.update_rule.slots if self.update_rule else {}
        self.arrays: dict[str, Array] = {}
        if empty:
            return
        self.arrays |= {
            slot: np.full(self.size, first, self.dtype) for slot, first in slots.items()
        }
        start = spec.get("recipe")
        if start is not None:
            positions = np.arange(self.size, dtype=np.uint64) + np.uint64(self.offset)
            self.arrays[VALUE] = values_at(start, positions)

    def put(self, values: object, at: int, field: str) -> None:
        """Give elements from `at` on other values.

        Raises:
            ParameterShapeError: they do not fit.
        """
        flat = np.ravel(np.asarray(values)).astype(self.dtype, copy=False)
        if not 0 <= at <= self.size - len(flat):
            raise ParameterShapeError(
                f"Parameter '{self.name}' has {self.size} elements on this server; elements {at} "
                f"to {at + len(flat)} are out of range."
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
                f"Parameter '{self.name}' has no values on the server yet: send them with put "
                f"first."
            )
        arrays = self.arrays if undo is None else undo.before
        view = arrays[field].reshape(self.shape)
        view.flags.writeable = False
        return view

    def apply(self, grad: Array, numbers: Numbers, spare: DenseUndo | None) -> DenseUndo:
        """One update from the gradient of all elements here (see `Store.check`)."""
        assert self.update_rule is not None
        g = np.ravel(grad)
        names = [VALUE, *self.update_rule.slots]
        old = [self.arrays[name] for name in names]
        new: list[Array] = []
        for array, name in zip(old, names, strict=True):
            kept = None if spare is None else spare.before.pop(name)
            new.append(kept if kept is not None and _unread(kept) else np.empty_like(array))
            del kept
        direct = all(array.dtype == self.work for array in (*old, g))
        for first in range(0, self.size, BLOCK):
            part = slice(first, first + BLOCK)
            held = [array[part] for array in old]
            targets = [array[part] for array in new]
            if direct:
                updated(self.update_rule, held[0], g[part], numbers, held[1:], targets)
                continue
            held = [array.astype(self.work) for array in held]
            piece = g[part].astype(self.work)
            values = updated(self.update_rule, held[0], piece, numbers, held[1:])
            for target, value in zip(targets, values, strict=True):
                target[...] = value
        self.arrays = dict(zip(names, new, strict=True))
        return DenseUndo(dict(zip(names, old, strict=True)))

    def undo(self, undo: DenseUndo) -> None:
        """Take the last update back."""
        self.arrays = dict(undo.before)

    def view(self, undos: Sequence[DenseUndo] = ()) -> DenseView:
        """The elements as they are now, or were before some updates, the earliest first."""
        return DenseView(self.spec, undos[0].before if undos else self.arrays, self.size)

    def load(self, at: int, fields: dict[str, Array]) -> None:
        """Take over a piece of a held one.

        Raises:
            ParameterShapeError: it does not fit.
        """
        for field, values in fields.items():
            if not 0 <= at <= self.size - len(values):
                raise ParameterShapeError(
                    f"Parameter '{self.name}' has {self.size} elements here; a snapshot has "
                    f"{len(values)} from {at} on."
                )
            if field not in self.arrays:
                self.arrays[field] = np.empty(self.size, self.dtype)
            self.arrays[field][at : at + len(values)] = values

    def stats(self) -> dict[str, int]:
        """Elements and bytes that exist."""
        return {"elements": self.size, "bytes": sum(a.nbytes for a in self.arrays.values())}
