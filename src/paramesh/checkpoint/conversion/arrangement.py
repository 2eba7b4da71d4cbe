"""Arrangements: reversible reorderings of axes, from MindSpore's layout of a weight to another one.

Glossary
    arrangement     a sequence of steps; each maps a view of an array to another view of the same
                    elements, and back
    step            Transpose, Squeeze, Flip or Split

All steps work on views, so that elements are copied once, from the file into the new array:
`arrangement.back(new)` is a view of `new` with the shape of the old array, and values that are
assigned to it are in the new arrangement in `new`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paramesh.array_types import HostArray


class Step(Protocol):
    """One step of an arrangement."""

    def there(self, array: HostArray) -> Any:
        """A view in the new arrangement."""
        ...

    def back(self, array: HostArray) -> Any:
        """A view in the old arrangement of an array in the new one."""
        ...


@dataclass(frozen=True)
class Transpose:
    """Axis i of the result is axis `order[i]`."""

    order: tuple[int, ...]

    def there(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        return array.transpose(self.order)

    def back(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        return array.transpose(np.argsort(self.order))


@dataclass(frozen=True)
class Squeeze:
    """The result is without `axis`, which has size 1."""

    axis: int

    def there(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        return np.squeeze(array, self.axis)

    def back(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        return np.expand_dims(array, self.axis)


@dataclass(frozen=True)
class Flip:
    """The first `axes` axes run backwards."""

    axes: int

    def there(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        return array[(slice(None, None, -1),) * self.axes]

    def back(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        return self.there(array)


@dataclass(frozen=True)
class Split:
    """`axis` becomes two, the first of size `count`.

    A negative `axis` counts from the end of the array that is split.
    """

    axis: int
    count: int

    def there(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        at = self.axis % array.ndim
        head, size, tail = array.shape[:at], array.shape[at], array.shape[at + 1 :]
        return _same_memory(array, (*head, self.count, size // self.count, *tail))

    def back(self, array: HostArray) -> Any:
        """A view; see `Step`."""
        at = self.axis % (array.ndim - 1)
        head, pair, tail = array.shape[:at], array.shape[at : at + 2], array.shape[at + 2 :]
        return _same_memory(array, (*head, math.prod(pair), *tail))


@dataclass(frozen=True)
class Arrangement:
    """A sequence of steps; without steps the identity."""

    steps: tuple[Step, ...] = ()

    def there(self, array: HostArray) -> Any:
        """A view of an array in the new arrangement.

        Raises:
            ValueError: the shape of the array does not allow it.
        """
        for step in self.steps:
            array = step.there(array)
        return array

    def back(self, array: HostArray) -> Any:
        """A view in the old arrangement of an array in the new one.

        Raises:
            ValueError: the shape of the array does not allow it.
        """
        for step in reversed(self.steps):
            array = step.back(array)
        return array

    def shape(self, shape: tuple[int, ...], back: bool = False) -> tuple[int, ...]:
        """The shape of the result for an array of this shape.

        Raises:
            ValueError: the shape does not allow it.
        """
        # A view of one element: no memory, whatever the shape.
        probe = np.broadcast_to(np.zeros((), np.bool_), shape)
        for step in reversed(self.steps) if back else self.steps:
            if isinstance(step, Split):
                probe = np.broadcast_to(np.zeros((), np.bool_), _split(step, probe.shape, back))
            else:
                probe = step.back(probe) if back else step.there(probe)
        return probe.shape


def _split(step: Split, shape: tuple[int, ...], back: bool) -> tuple[int, ...]:
    at = step.axis % (len(shape) - 1 if back else len(shape))
    if back:
        if shape[at] != step.count:
            raise ValueError(f"axis {at} of {shape} is not {step.count}")
        return (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
    if shape[at] % step.count:
        raise ValueError(f"axis {at} of {shape} is not a multiple of {step.count}")
    return (*shape[:at], step.count, shape[at] // step.count, *shape[at + 1 :])


def _same_memory(array: HostArray, shape: tuple[int, ...]) -> Any:
    found = array.reshape(shape)
    # numpy copies where there is no such view, and values assigned to the copy would be lost.
    assert not array.size or np.may_share_memory(found, array), (array.strides, shape)
    return found


SAME = Arrangement()
