"""What every transform is: a callable over the columns of one sample.

Glossary
    transform   takes the arrays of one or more columns, gives an array or a tuple of arrays
    seeded      a copy of a transform that draws from a given generator
    compound    a transform made of others; its copies seed them, too
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from paramesh.dataset import chance

_T = TypeVar("_T", bound="TensorOperation")


class Implementation(enum.IntEnum):
    """What MindSpore runs a transform in. Here everything is Python; scripts compare with it."""

    C = 0
    PY = 1


class TensorOperation:
    """The base of all transforms.

    A subclass defines `__call__`, or `_execute_py` as MindSpore's own subclasses in scripts do.
    """

    implementation: Implementation | None = None
    #: False: the same input gives the same output.
    random: bool = False
    _rng: np.random.Generator | None = None

    def seeded(self: _T, rng: np.random.Generator) -> _T:
        """A copy that draws from `rng`.

        Args:
            rng: the generator; copies of one pipeline may share it.
        """
        made = copy.copy(self)
        made._rng = rng
        return made

    @property
    def rng(self) -> np.random.Generator:
        """The generator given to `seeded`, or this thread's of `paramesh.dataset.chance`."""
        return chance.generator() if self._rng is None else self._rng

    def device(self: _T, device_target: str = "CPU") -> _T:
        """MindSpore's choice of the device that runs the transform; here it is the host.

        Args:
            device_target: "CPU", or "Ascend", which runs on the host, too.

        Raises:
            TypeError: no string.
            ValueError: another device.
        """
        if not isinstance(device_target, str):
            raise TypeError(f"device(device_target): expected a string, got {device_target!r}.")
        if device_target not in ("CPU", "Ascend"):
            raise ValueError(
                f"device(device_target): expected 'CPU' or 'Ascend', got {device_target!r}."
            )
        return self

    def __call__(self, *columns: Any, **options: Any) -> Any:
        """Run over the columns."""
        run = getattr(self, "_execute_py", None)
        if run is None:
            raise NotImplementedError(
                f"{type(self).__name__}: define __call__(self, *columns) or _execute_py."
            )
        return run(*columns, **options)


class PyTensorOperation(TensorOperation):
    """MindSpore's base of transforms in Python, which scripts derive from: define `_execute_py`."""

    implementation: Implementation | None = Implementation.PY


class CompoundOperation(TensorOperation):
    """A transform over others.

    Args:
        transforms: transforms and functions.
    """

    random = True

    def __init__(self, transforms: Iterable[Callable[..., Any]]) -> None:
        self.transforms = list(transforms)

    def seeded(self: _T, rng: np.random.Generator) -> _T:
        """A copy whose transforms draw from `rng`, too."""
        made = super().seeded(rng)
        made.transforms = [seeded(t, rng) for t in self.transforms]  # type: ignore[attr-defined]
        return made


def seeded(transform: Callable[..., Any], rng: np.random.Generator) -> Callable[..., Any]:
    """The transform that draws from `rng`; a function without `seeded` as it is."""
    make = getattr(transform, "seeded", None)
    return transform if make is None else make(rng)


def not_random(function: _T) -> _T:
    """Mark a user's function as one that gives the same output for the same input (decorator)."""
    function.random = False
    return function
