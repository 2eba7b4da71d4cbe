"""Values that programs take in or give out for a placement, besides the Parameters.

Glossary
    implicit value  such a value; to a program, it is a Parameter
    prefetch key    an implicit value that has to be known before the program runs: a smaller
                    program, extracted from it, computes it
"""

from __future__ import annotations

from typing import Any

from paramesh.array_types import Array
from paramesh.dtype import DType
from paramesh.state import storage


class ImplicitValue:
    """A value that programs take in or give out for a placement; to them, it is a Parameter.

    Args:
        name: for messages.
        shape: of its array.
        dtype: its DType.

    Attributes:
        per_device: every device has its own shard, of this shape; the array has the shards joined
            along the first axis.
    """

    _slot = None
    _recipe = None
    is_init = False
    layerwise_parallel = False
    per_device = False

    def __init__(self, name: str, shape: tuple[int, ...], dtype: DType) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self._contents: Any = None
        self._domain = storage.Domain()

    @property
    def value(self) -> Any:
        """The raw value, None before the first."""
        return self._contents

    def _cache_key(self) -> tuple[int, ...]:
        return self.shape

    def _concrete(self) -> Any:
        return self._contents

    def _store(self, value: Array | None) -> None:
        storage.commit([(self, "_contents", value)])


class PrefetchKey(ImplicitValue):
    """An implicit value that programs write, and that is known before they run."""

    def check(self, value: object) -> None:
        """Raise an error if a program must not run with this value.

        Args:
            value: what it will write, as a numpy array.
        """
