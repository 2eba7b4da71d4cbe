"""Transforms over other transforms: all of them, some, one, in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.dataset import pixels
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import CompoundOperation

__all__ = ["Compose", "RandomApply", "RandomChoice", "RandomOrder"]


def _columns(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _run(transforms: list[Callable[..., Any]], columns: tuple[Any, ...]) -> Any:
    for transform in transforms:
        columns = _columns(transform(*columns))
    return columns[0] if len(columns) == 1 else columns


class Compose(CompoundOperation):
    """All transforms, one after the other; a tuple of one is the columns of the next.

    Args:
        transforms: a list of transforms and functions; the members of a Compose in it are joined.

    Raises:
        TypeError: no list, or a member cannot be called.
        ValueError: empty, or a member is a class.
    """

    def __init__(self, transforms: list[Callable[..., Any]]) -> None:
        check.callables(transforms, "Compose.transforms")
        super().__init__(self.decompose(transforms))
        self.random = any(getattr(t, "random", True) for t in self.transforms)

    @staticmethod
    def decompose(operations: list[Callable[..., Any]]) -> list[Callable[..., Any]]:
        """The list with each Compose in it replaced by its members."""
        flat: list[Callable[..., Any]] = []
        for operation in operations:
            flat += operation.transforms if isinstance(operation, Compose) else [operation]
        return flat

    def __call__(self, *columns: object) -> Any:
        """Run all of them over the columns."""
        if not columns:
            raise TypeError(
                "Compose was called without an image. Pass the Compose itself: Compose([...]), not "
                "Compose([...])()."
            )
        return _run(self.transforms, columns)

    def lazily(self, column: object) -> Any:
        """As when it is called with one column; the results may wait."""
        columns: tuple[Any, ...] = (column,)
        for transform in self.transforms:
            columns = pixels.run(transform, columns)
        return columns[0] if len(columns) == 1 else columns


class RandomApply(CompoundOperation):
    """All transforms with probability `prob`, or none.

    Args:
        transforms: a list of transforms and functions.
        prob: from 0 to 1.

    Raises:
        TypeError: no list, a member that cannot be called, or `prob` is no number.
        ValueError: empty, a member that is a class, or `prob` outside.
    """

    def __init__(self, transforms: list[Callable[..., Any]], prob: float = 0.5) -> None:
        check.callables(transforms, "RandomApply.transforms")
        check.probability(prob, "RandomApply.prob")
        super().__init__(transforms)
        self.prob = prob

    def __call__(self, *columns: object) -> Any:
        """Run all, or give the columns back."""
        if self.rng.random() >= self.prob:
            return columns[0] if len(columns) == 1 else columns
        return _run(self.transforms, columns)


class RandomChoice(CompoundOperation):
    """One of the transforms, each as probable as the others.

    Args:
        transforms: a list of transforms and functions.

    Raises:
        TypeError: no list, or a member cannot be called.
        ValueError: empty, or a member is a class.
    """

    def __init__(self, transforms: list[Callable[..., Any]]) -> None:
        check.callables(transforms, "RandomChoice.transforms")
        super().__init__(transforms)

    def __call__(self, *columns: object) -> Any:
        """Run one of them."""
        return self.transforms[int(self.rng.integers(len(self.transforms)))](*columns)


class RandomOrder(CompoundOperation):
    """All transforms, in an order drawn each time.

    Args:
        transforms: a list of transforms and functions.

    Raises:
        TypeError: no list, or a member cannot be called.
        ValueError: empty, or a member is a class.
    """

    def __init__(self, transforms: list[Callable[..., Any]]) -> None:
        check.callables(transforms, "RandomOrder.transforms")
        super().__init__(transforms)

    def __call__(self, *columns: object) -> Any:
        """Run all of them."""
        order = self.rng.permutation(len(self.transforms))
        return _run([self.transforms[i] for i in order], columns)
