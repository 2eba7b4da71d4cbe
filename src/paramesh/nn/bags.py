"""The ids of bags, and how the rows of a bag become one.

Glossary
    bag         the ids of one feature of one example: none, one or many
    padded      bags of one length, as an array (..., length); what is missing is an id of padding
    ragged      the ids of all bags one after another, as an array (ids,)
    combiner    how rows become one: `sum`, `mean`, `sqrtn` (the sum, divided by the root of the
                number of ids) or `max`
    share       what a row is multiplied by: its weight; 0 for padding
    owner       of a ragged id, the number of its bag

A bag without ids is zeros under every combiner. Of equal rows, `max` takes the first: it alone gets
the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

COMBINERS = ("sum", "mean", "sqrtn", "max")


class Bags(NamedTuple):
    """To which bag the rows of a lookup belong.

    Attributes:
        owner: None: the rows are (..., length, width), padded. Otherwise (rows,): the number of
            the bag of each row; `number` for rows of no bag.
        number: of ragged bags, how many there are.
        ascending: whether the numbers of bags ascend.
    """

    owner: Any = None
    number: int = 0
    ascending: bool = True

    def total(self, values: jax.Array) -> Any:
        """(..., length, n) -> (..., n), or (rows, n) -> (number, n): the sums of bags."""
        if self.owner is None:
            return values.sum(axis=-2)
        return jax.ops.segment_sum(
            values, self.owner, self.number, indices_are_sorted=self.ascending
        )

    def largest(self, values: jax.Array, inside: jax.Array) -> Any:
        """As `total`, the first of the largest values that are inside; zeros where none is.

        Args:
            values: (..., length, n) or (rows, n).
            inside: the same shape with one in place of n.
        """
        lowest = jnp.asarray(-jnp.inf, values.dtype)
        candidates = jnp.where(inside, jax.lax.stop_gradient(values), lowest)
        if self.owner is None:
            if not values.shape[-2]:
                return jnp.zeros((*values.shape[:-2], values.shape[-1]), values.dtype)
            first = jnp.expand_dims(jnp.argmax(candidates, axis=-2), -2)
            top = jnp.take_along_axis(values, first, axis=-2).squeeze(-2)
            return jnp.where(inside.any(axis=-2), top, jnp.zeros((), values.dtype))
        rows = len(values)
        if not rows or not self.number:
            return jnp.zeros((self.number, values.shape[-1]), values.dtype)
        tops = jax.ops.segment_max(
            candidates, self.owner, self.number, indices_are_sorted=self.ascending
        )
        mine = inside & (candidates == tops[jnp.minimum(self.owner, self.number - 1)])
        places = jnp.where(mine, jnp.arange(rows, dtype=jnp.int32)[:, None], rows)
        first = jax.ops.segment_min(
            places, self.owner, self.number, indices_are_sorted=self.ascending
        )
        top = jnp.take_along_axis(values, jnp.minimum(first, rows - 1), axis=0)
        return jnp.where((first >= 0) & (first < rows), top, jnp.zeros((), values.dtype))


def of_offsets(offsets: jax.Array, ids: int, include_last: bool) -> Bags:
    """Ragged bags by where each begins.

    Args:
        offsets: (bags,) integers, ascending, the first 0; with `include_last` one more at the end:
            where the last bag ends.
        ids: how many there are.
        include_last: see `offsets`.
    """
    begins = offsets.astype(jnp.int32)
    count = len(begins) - include_last
    places = jnp.arange(ids, dtype=jnp.int32)
    owner = jnp.searchsorted(begins, places, side="right").astype(jnp.int32) - 1
    # Ids before the first bag: there are none in what was checked.
    return Bags(jnp.where(owner < 0, 0, jnp.minimum(owner, count)), count)


def of_lengths(lengths: jax.Array, ids: int) -> Bags:
    """Ragged bags by their lengths, (bags,) integers; ids after the last bag belong to none."""
    ends = jnp.cumsum(lengths.astype(jnp.int32))
    places = jnp.arange(ids, dtype=jnp.int32)
    owner = jnp.searchsorted(ends, places, side="right").astype(jnp.int32)
    return Bags(owner, len(lengths))


def check_offsets(owner: str, offsets: jax.Array, ids: int, include_last: bool) -> None:
    """Raise unless offsets are the beginnings of bags; their values only where they are known.

    Raises:
        TypeError: no integers.
        ValueError: not one axis, not ascending from 0, or beyond the ids.
    """
    _check_integers(owner, "offsets", offsets)
    if include_last and not len(offsets):
        raise ValueError(
            f"{owner}: offsets are empty, but with include_last_offset they end with the number "
            f"of ids."
        )
    known = _known(offsets)
    if known is None or not len(known):
        return
    if known[0] != 0 or (known[1:] < known[:-1]).any() or known[-1] > ids:
        raise ValueError(
            f"{owner}: offsets must begin with 0, ascend, and be at most the number of ids, "
            f"{ids}; got {_shown(known)}."
        )


def check_lengths(owner: str, lengths: jax.Array, ids: int) -> None:
    """Raise unless lengths are those of bags; their values only where they are known.

    Raises:
        TypeError: no integers.
        ValueError: not one axis, negative, or more than there are ids.
    """
    _check_integers(owner, "row_lengths", lengths)
    known = _known(lengths)
    if known is not None and len(known) and (known.min() < 0 or known.sum() > ids):
        raise ValueError(
            f"{owner}: row_lengths must not be negative, and add up to at most the number of "
            f"ids, {ids}; got {_shown(known)}, which add up to {int(known.sum())}."
        )


class Extent(NamedTuple):
    """What of traced offsets or lengths says whether they fit; to be looked at later.

    Attributes:
        what: "offsets" or "row_lengths".
        ids: how many ids there are.
        facts: (3,) Int32: of offsets the first, the least step from one to the next, and the last;
            of lengths 0, the least, and their sum.
    """

    what: str
    ids: int
    facts: jax.Array

    @property
    def fits(self) -> jax.Array:
        """Whether they fit; traced."""
        return (self.facts[0] == 0) & (self.facts[1] >= 0) & (self.facts[2] <= self.ids)


def check_extent(
    owner: str, what: str, ids: int, facts: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
) -> None:
    """Raise ValueError if offsets or lengths do not fit.

    Args:
        owner: the layer, for the message.
        what: as in `Extent`.
        ids: as in `Extent`.
        facts: the values of `Extent.facts`; of several devices, one after another.
    """
    for first, least, last in facts.reshape(-1, 3).tolist():
        if first == 0 and least >= 0 and last <= ids:
            continue
        if what == "offsets":
            raise ValueError(
                f"{owner}: offsets must begin with 0, ascend, and be at most the number of ids, "
                f"{ids}; the first is {first}, the last {last}, and the least step from one to the "
                f"next {least}."
            )
        raise ValueError(
            f"{owner}: row_lengths must not be negative, and add up to at most the number of ids, "
            f"{ids}; the least is {least}, and they add up to {last}."
        )


def extent_of_offsets(offsets: jax.Array, ids: int) -> Extent | None:
    """The extent of traced offsets; None: they are known, and were checked, or there are none."""
    if not isinstance(offsets, jax.core.Tracer) or not len(offsets):
        return None
    begins = offsets.astype(jnp.int32)
    least = jnp.diff(begins).min(initial=0)
    return Extent("offsets", ids, jnp.stack([begins[0], least, begins[-1]]))


def extent_of_lengths(lengths: jax.Array, ids: int) -> Extent | None:
    """As `extent_of_offsets`, of lengths."""
    if not isinstance(lengths, jax.core.Tracer) or not len(lengths):
        return None
    counts = lengths.astype(jnp.int32)
    return Extent(
        "row_lengths", ids, jnp.stack([jnp.zeros_like(counts[0]), counts.min(), counts.sum()])
    )


def check_numbers(owner: str, name: str, numbers: jax.Array, count: int) -> None:
    """Raise unless these are integers from 0 to `count - 1`, where their values are known.

    Raises:
        TypeError: no integers.
        ValueError: one out of range.
    """
    if np.dtype(numbers.dtype).kind not in "iu":
        raise TypeError(f"{owner}: {name} must be integers, got {np.dtype(numbers.dtype)}.")
    known = _known(numbers)
    if known is not None and known.size and not 0 <= known.min() <= known.max() < count:
        wrong = known[(known < 0) | (known >= count)].reshape(-1)
        raise ValueError(
            f"{owner}: {name} must be from 0 to {count - 1}, got {_shown(np.unique(wrong))}."
        )


def _check_integers(owner: str, name: str, values: jax.Array) -> None:
    if np.dtype(values.dtype).kind not in "iu":
        raise TypeError(f"{owner}: {name} must be integers, got {np.dtype(values.dtype)}.")
    if values.ndim != 1:
        raise ValueError(f"{owner}: {name} must have one axis, got shape {tuple(values.shape)}.")


def _known(values: jax.Array) -> np.ndarray[Any, Any] | None:
    """The values, unless they are traced."""
    if isinstance(values, jax.core.Tracer):
        return None
    return np.asarray(values).astype(np.int64)


def _shown(values: np.ndarray[Any, Any]) -> str:
    some = ", ".join(map(str, values[:8].tolist()))
    return f"[{some}{', …' if len(values) > 8 else ''}]"


def pooled(rows: Any, bags: Bags, combiner: str, inside: Any, weights: Any = None) -> Any:
    """The rows of each bag as one row.

    Args:
        rows: (..., length, width) of padded bags, (rows, width) of ragged ones.
        bags: to which bag each row belongs.
        combiner: one of `COMBINERS`. With weights, `mean` divides the weighted sum by the sum of
            the weights, and `sqrtn` by the root of the sum of their squares, as TensorFlow's
            `embedding_lookup_sparse`; where that is 0, the bag is zeros.
        inside: which rows count, the shape of `rows` without its last axis; None: all of them.
        weights: of each row, the same shape; None: 1. Not for `max`.

    Returns:
        (..., width) or (bags, width), in the type of the rows. Float16 and BFloat16 are added up in
        Float32.
    """
    dtype = rows.dtype
    work = jnp.float32 if dtype.itemsize < 4 else dtype
    rows = rows.astype(work)
    everything = jnp.ones(rows.shape[:-1], bool) if inside is None else inside
    everything = everything[..., None]
    if combiner == "max":
        return bags.largest(rows, everything).astype(dtype)
    share = everything.astype(work)
    if weights is not None:
        share = share * weights.astype(work)[..., None]
    added = bags.total(rows if weights is None and inside is None else rows * share)
    if combiner == "sum":
        return added.astype(dtype)
    if combiner == "mean":
        return divided(added, bags.total(share), lambda x: x).astype(dtype)
    return divided(added, bags.total(share * share), jnp.sqrt).astype(dtype)


def divided(top: jax.Array, bottom: jax.Array, function: Callable[[Any], Any]) -> Any:
    """`top / function(bottom)`, and zeros (with gradients of zero) where `bottom` is 0."""
    nothing = bottom == 0
    safe = function(jnp.where(nothing, jnp.ones_like(bottom), bottom))
    return jnp.where(nothing, jnp.zeros_like(top), top / safe)
