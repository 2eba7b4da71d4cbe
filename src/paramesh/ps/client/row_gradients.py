"""The gradient by a table: a row for each index that was looked up, and what becomes of them.

Glossary
    parts       the gradient as a program computes it: rows of the same id are not added up
    summed      one gradient for each id, in the place where it was looked up first; zeros in the
                other places. Norms, maxima, elementwise functions of it (clipping, signs, checks
                for overflow) are those of the gradient of a table in this process
    given       what an optimizer is called with

Adding up costs time on the device, and nobody sees it if a gradient goes straight to the optimizer.
So a program has both: what it hands to the user is the summed one; an optimizer that is given
exactly that one pushes the parts, and the worker adds them up. The compiler leaves out what is not
used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import x64
from paramesh.ps.client.lookups import Distinct
from paramesh.ps.client.lookups import summed as added_up
from paramesh.ps.specification.id_range import NO_ID, is_unbounded
from paramesh.tensor.argument_types import DTypeLike

Array = np.ndarray[Any, Any]


class Sums:
    """The summed gradients of a running trace, and the parts of each."""

    def __init__(self) -> None:
        # With the summed one, so that its id is not given to another object.
        self._known: dict[int, tuple[Any, Any]] = {}

    def add(self, ids: Sequence[tuple[Any, int | None]], parts: Sequence[Any], rows: int) -> Any:
        """The summed gradient; traceable.

        Args:
            ids: of the lookups whose ids are known so far: (raw ids of one axis, the id of padding
                among them or None).
            parts: the gradients of all lookups; those without ids come last, and are zeros.
            rows: of the table.
        """
        joined = jnp.concatenate(parts)
        flat = _flat(ids, rows, len(joined))
        with x64(flat):
            total = _summed(flat, joined)
        self.know(total, joined)
        return total

    def over_devices(
        self,
        ids: Sequence[tuple[Any, int | None]],
        given: Any,
        rows: int,
        factor: float | None,
        axis: str,
    ) -> Any:
        """The gradient summed over all devices, of one that is summed on each of them.

        It has the places of all devices, one device after another, and is the same on all of them.
        What is pushed is what each device has.

        Args:
            ids: as for `add`, of this device.
            given: the gradient on this device.
            rows: of the table.
            factor: what sums are multiplied by; None for nothing.
            axis: over all devices.
        """
        flat = _flat(ids, rows, len(given))
        parts = self.parts_of(given)
        mine = given if parts is None else parts
        scaled = given
        if factor is not None:
            mine, scaled = (g * jnp.asarray(factor, g.dtype) for g in (mine, given))
        with x64(flat, given):
            everything = jax.lax.all_gather(flat, axis, tiled=True)
            total = _summed(everything, jax.lax.all_gather(scaled, axis, tiled=True))
        self.know(total, mine)
        return total

    def know(self, given: object, pushed: object) -> None:
        """What is pushed in the place of a gradient, if it comes to the optimizer as it is."""
        self._known[id(given)] = given, pushed

    def parts_of(self, given: object) -> Any:
        """The parts of a gradient that is as it was made; None: the user has changed it."""
        known = self._known.get(id(given))
        return None if known is None else known[1]


def _signed(ids: Sequence[Any], rows: int) -> Any:
    """The type that holds all ids of a table: for comparing them with each other."""
    needs_64_bits = is_unbounded(rows) or any(
        one.dtype.itemsize == 8 or (one.dtype == np.uint32 and rows > 1 << 31) for one in ids
    )
    return np.dtype(np.int64 if needs_64_bits else np.int32)


def _flat(ids: Sequence[tuple[Any, int | None]], rows: int, length: int) -> Any:
    """The ids of lookups one after another; one that is no row where none are known, and for
    padding.
    """
    dtype = _signed([one for one, _ in ids], rows)
    nothing = NO_ID if is_unbounded(rows) else -1
    with x64(dtype):
        known = [_marked(one, padding, dtype, nothing) for one, padding in ids]
        rest = length - sum(map(len, known))
        return jnp.concatenate([*known, jnp.full(rest, nothing, dtype)])


def _marked(ids: jax.Array, padding: int | None, dtype: DTypeLike, nothing: int) -> Any:
    """Ids of one type, with `nothing` for padding."""
    found = ids.astype(dtype)
    there = is_padding(ids, padding)
    return found if there is None else jnp.where(there, jnp.asarray(nothing, dtype), found)


def is_padding(ids: Any, padding: int | None) -> Any:
    """Which ids are those of padding; None if they cannot be. For numpy and traced arrays alike."""
    if padding is None:
        return None
    info = np.iinfo(ids.dtype)
    if not info.min <= padding <= info.max:
        return None
    return ids == np.asarray(padding, ids.dtype)


def _summed(ids: jax.Array, grad: jax.Array) -> Any:
    """Rows of the same id added up where the id comes first, zeros elsewhere.

    In an order that depends on the places alone: on every device the same bits each time, which
    adding in place does not promise.
    """
    count = len(ids)
    if count < 2:
        return grad
    order = jnp.argsort(ids, stable=True)
    ids = ids[order]
    begins = jnp.concatenate([jnp.ones(1, bool), ids[1:] != ids[:-1]])
    ends = jnp.concatenate([begins[1:], jnp.ones(1, bool)])
    narrow = grad.dtype.itemsize < 4
    rows = grad[order].astype(jnp.float32) if narrow else grad[order]
    axes = (count, *[1] * (grad.ndim - 1))

    def joined(left: jax.Array, right: jax.Array) -> Any:
        return left[0] | right[0], jnp.where(right[0], right[1], left[1] + right[1])

    _, sums = jax.lax.associative_scan(joined, (begins.reshape(axes), rows))
    # Stable: the first of those of an id is the one that was looked up first.
    first = jax.lax.cummax(jnp.where(begins, jnp.arange(count, dtype=np.int32), 0))
    places = jnp.where(ends, order[first].astype(np.int32), count)
    zeros = jnp.zeros(grad.shape, grad.dtype)
    return zeros.at[places].set(sums.astype(grad.dtype), mode="drop", unique_indices=True)


# On the host, once the program has run.


def to_push(
    ids: Array, grad: Array, rows: int, summed: bool, known: Distinct | None = None
) -> dict[str, Array]:
    """The update of a table.

    Args:
        ids: as for `summed_rows`; NO_ID for padding.
        grad: a row for each.
        rows: of the table.
        summed: `grad` is one that was summed, whatever became of it.
        known: the different rows of these ids, if they are known.
    """
    if summed:
        first = np.sort(np.unique(ids, return_index=True)[1])
        ids, grad = ids[first], grad[first]
    elif known is not None:
        return {"ids": known.ids, "grad": added_up(grad, known.order, known.starts)}
    return summed_rows(ids, grad, rows)


def summed_rows(ids: Array, grad: Array, rows: int) -> dict[str, Array]:
    """One gradient for each row: those of the same row added up in the order of the lookups.

    Args:
        ids: of the lookups, any order; those outside the table are left out.
        grad: a row for each.
        rows: of the table.
    """
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    # NO_ID is the smallest.
    least, end = (NO_ID + 1, len(ids)) if is_unbounded(rows) else (0, np.searchsorted(ids, rows))
    inside = slice(np.searchsorted(ids, least), end)
    order, ids = order[inside], ids[inside]
    begins = np.ones(len(ids), bool)
    np.not_equal(ids[1:], ids[:-1], out=begins[1:])
    starts = np.flatnonzero(begins)
    return {"ids": ids[starts], "grad": added_up(grad, order, starts)}
