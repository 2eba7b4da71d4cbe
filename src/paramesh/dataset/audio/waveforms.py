"""What an audio transform is given: arrays whose last axis is time."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import TensorOperation


class AudioTensorOperation(TensorOperation):
    """A transform of audio: one array in, one array out, unless it says otherwise."""

    #: The fewest axes of the array.
    axes = 1

    def _run(self, signal: np.ndarray) -> Any:
        raise NotImplementedError

    def __call__(self, signal: np.ndarray) -> Any:
        """Run over an array.

        Raises:
            TypeError: no array.
            RuntimeError: no numbers, or too few axes.
        """
        check.of_type(signal, np.ndarray, f"{type(self).__name__}(signal)")
        return self._run(floats(signal, type(self).__name__, self.axes))


def floats(signal: np.ndarray, name: str, axes: int = 1) -> np.ndarray:
    """The array as float32 or float64.

    Raises:
        RuntimeError: no real numbers, or too few axes.
    """
    if signal.dtype.kind not in "iuf":
        raise RuntimeError(f"{name}: expected numbers, got {signal.dtype}.")
    if signal.ndim < axes:
        raise RuntimeError(
            f"{name}: expected at least {axes} axes, the last one time, got the shape "
            f"{signal.shape}."
        )
    return signal if signal.dtype == np.float64 else signal.astype(np.float32, copy=False)


def sample_rate(value: float, name: str) -> None:
    """Check a number of samples in a second: an int that is not 0.

    Raises:
        TypeError: no int.
        ValueError: 0, or too large.
    """
    check.of_type(value, int, name)
    check.within(value, -(2**31), check.INT32_MAX, name)
    if value == 0:
        raise ValueError(f"{name}: expected a rate other than 0, got 0.")


def real(value: float, name: str) -> None:
    """Check a number from -2**24 to 2**24.

    Raises:
        TypeError: no number.
        ValueError: it is outside.
    """
    check.number(value, name)
    check.within(value, -check.LARGEST, check.LARGEST, name)


def above_zero(value: float, name: str) -> None:
    """Check a number above 0 and up to 2**24.

    Raises:
        TypeError: no number.
        ValueError: it is outside.
    """
    check.number(value, name)
    check.within(value, 0, check.LARGEST, name, above=True)
