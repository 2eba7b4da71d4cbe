"""Images whose last steps are done where the result is wanted: in the memory of a batch.

Mirror images, normalization and the order of axes read each pixel once and write it once. Done one
by one, each takes a pass through memory; `Pixels` collects them, and one pass writes the result.

Glossary
    step        an operation of numpy on float32, with one value, or one for each channel
    planar      the result is (channels, height, width)
    foreign     a function that is not of this package: it is given arrays, never `Pixels`
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from paramesh.dataset import opencv
from paramesh.dataset.arrays import Array, own

Step = tuple[np.ufunc, tuple[float, ...]]

_TYPES = (np.dtype(np.uint8), np.dtype(np.float32))


class Pixels:
    """An image and what is still to be done with it.

    Args:
        source: uint8 or float32, (height, width) or (height, width, channels); a view will do.
        planar: the result has the channels first.
        steps: done in this order; the first one makes float32 of the source.
    """

    __slots__ = ("planar", "source", "steps")

    def __init__(self, source: Array, planar: bool = False, steps: tuple[Step, ...] = ()) -> None:
        self.source, self.planar, self.steps = source, planar, steps

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        shape = self.source.shape
        return (shape[2], *shape[:2]) if self.planar else shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result."""
        return _TYPES[1] if self.steps else self.source.dtype

    def then(self, *steps: Step) -> Pixels:
        """With more steps."""
        return Pixels(self.source, self.planar, self.steps + steps)

    def of(self, source: Array) -> Pixels:
        """The same of another source."""
        return Pixels(source, self.planar, self.steps)

    def with_planes(self) -> Pixels:
        """With the channels first."""
        return Pixels(self.source, True, self.steps)

    def alike(self, other: Pixels) -> bool:
        """Whether only the values of the two differ."""
        one, two = self.source, other.source
        same = self.planar == other.planar and one.shape == two.shape and one.dtype == two.dtype
        return same and self.steps == other.steps

    def write_all(self, sources: Array, out: Array) -> None:
        """Do the steps for several images.

        Args:
            sources: (n, height, width) or (n, height, width, channels), in order.
            out: (n, ...) of the result's shape and dtype, in order.
        """
        if self.planar and sources.shape[3] > 1:
            for channel in range(sources.shape[3]):
                _run(self.steps, sources[..., channel], out[:, channel], channel)
        else:
            # One image, as high as all of them.
            long = sources.reshape(-1, *sources.shape[2:])
            Pixels(long, steps=self.steps).write(out.reshape(long.shape))

    def write(self, out: Array) -> None:
        """Do the steps; `out` has the result's shape and dtype."""
        source = self.source
        if not self.steps:
            np.copyto(out, source.transpose(2, 0, 1) if self.planar else contiguous(source))
        elif self.planar:
            planes = opencv.planes(source) if source.dtype == np.uint8 else None
            for channel in range(source.shape[2]):
                if planes is None:
                    _run(self.steps, source[..., channel], out[channel], channel)
                else:
                    opencv.look_up(planes[channel], _table(self.steps, channel), out[channel])
        elif source.ndim == 2:
            _run(self.steps, source, out, 0)
        else:
            # As rows of values: numpy is slow where its innermost axis is as short as a colour.
            height = source.shape[0]
            _run(self.steps, contiguous(source).reshape(height, -1), out.reshape(height, -1), None)


def _run(steps: tuple[Step, ...], source: Array, out: Array, channel: int | None) -> None:
    """Do the steps for one channel; None: for rows in which the channels take turns."""
    for nth, (function, values) in enumerate(steps):
        operand: np.float32 | Array
        if channel is not None or len(values) == 1:
            operand = np.float32(values[(channel or 0) % len(values)])
        else:
            operand = np.tile(np.array(values, np.float32), source.shape[1] // len(values))
        if nth:
            function(out, operand, out=out)
        else:
            function(source, operand, out=out, dtype=np.float32)


@functools.lru_cache(maxsize=64)
def _table(steps: tuple[Step, ...], channel: int) -> Array:
    """The results of the 256 values of a byte."""
    table = np.empty((1, 256), np.float32)
    _run(steps, np.arange(256, dtype=np.uint8)[None], table, channel)
    return table


def lazy(value: object) -> Pixels | None:
    """An array of an image that can wait, or what waits already; None: anything else."""
    if isinstance(value, Pixels):
        return value
    if isinstance(value, np.ndarray) and value.ndim in (2, 3) and value.dtype in _TYPES:
        return Pixels(value)
    return None


def made(value: object) -> Any:
    """The array of what waits; any other value as it is."""
    if not isinstance(value, Pixels):
        return value
    out = own(value.shape, value.dtype)
    value.write(out)
    return out


def contiguous(image: Array) -> Array:
    """The image in the order of its axes, copied if it has to be."""
    if image.flags.c_contiguous or image.ndim != 3 or image.strides[2] != image.itemsize:
        return np.ascontiguousarray(image)
    # A pixel at a time: numpy copies three bytes one by one otherwise.
    whole = image.view(f"V{image.shape[2] * image.itemsize}")
    return np.ascontiguousarray(whole).view(image.dtype)


def waiting(function: object) -> Callable[[Any], Any] | None:
    """The method `lazily` of a transform of this package; None: it has none, or is foreign."""
    method: Callable[[Any], Any] | None = getattr(function, "lazily", None)
    return None if is_foreign(function) else method


def is_foreign(function: object) -> bool:
    """Whether a function, or the class of a transform, is not of this package."""
    module: object = getattr(function, "__module__", None) or type(function).__module__
    return not str(module).startswith("paramesh.dataset.")


def run(function: Callable[..., Any], columns: tuple[Any, ...]) -> tuple[Any, ...]:
    """Run a function over columns, some of which may wait; so may its result."""
    method = waiting(function) if len(columns) == 1 else None
    found = function(*map(made, columns)) if method is None else method(columns[0])
    return found if isinstance(found, tuple) else (found,)


def ready(work: object) -> Callable[[Any], Any]:
    """Of work, the method that gives rows whose images may wait; else the work."""
    found: Callable[[Any], Any] = getattr(work, "waiting", work)  # type: ignore[arg-type]
    return found
