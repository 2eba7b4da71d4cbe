"""Where MindSpore updates the rows of sparse gradients, as scripts say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self


class RowUpdates:
    """An optimizer's operator for sparse gradients: another way to set the optimizer's `target`.

    Args:
        set_target: sets the `target`, and raises an error for what is none.
    """

    def __init__(self, set_target: Callable[[str], None]) -> None:
        self._set_target = set_target

    def set_device(self, device_target: str) -> Self:
        """Set the optimizer's `target`; returns self.

        Raises:
            TypeError, ValueError: as for `target`.
        """
        self._set_target(device_target)
        return self

    def add_prim_attr(self, name: str, value: str) -> Self:
        """Set the optimizer's `target` by "primitive_target"; returns self.

        Other attributes are for MindSpore's compiler, and change nothing.

        Raises:
            TypeError, ValueError: as for `target`.
        """
        return self.set_device(value) if name == "primitive_target" else self
