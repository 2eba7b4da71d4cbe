"""A planned conversion as a checkpoint to read: the source of a second conversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.checkpoint.conversion.name_plan import ConversionPlan, Planned
from paramesh.checkpoint.formats.interface import Array, Source


class PlannedSource(Source):
    """The arrays that a plan makes, each when it is read; the last one is kept.

    Args:
        source: the checkpoint that the plan is for; it stays open with its owner.
        plan: the plan.
        assemble: makes an array: (array, elements that became infinite).

    Attributes:
        kinds: of the layers that the names do not tell.
    """

    def __init__(
        self,
        source: Source,
        plan: ConversionPlan,
        assemble: Callable[[Source, Planned], tuple[Any, int]],
    ) -> None:
        super().__init__(source.path)
        self._source, self._assemble = source, assemble
        self._planned = {planned.entry.name: planned for planned in plan.arrays}
        self._entries = {planned.entry.name: planned.entry for planned in plan.arrays}
        self._last: tuple[str, Array] | None = None
        self.format, self.appended, self.metadata = source.format, source.appended, source.metadata
        self.kinds = dict(plan.kinds)

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        self._with_elements(name, start, stop)
        if self._last is None or self._last[0] != name:
            self._last = None  # first, so that not both are there
            array, _ = self._assemble(self._source, self._planned[name])
            self._last = name, array.reshape(-1)
        return self._last[1][start:stop]

    def verify(self) -> bool:
        """Nothing is compared."""
        return False

    def forget(self) -> None:
        """Let go of the pages of the source."""
        self._source.forget()

    def close(self) -> None:
        """Let go of the last array."""
        self._last = None
