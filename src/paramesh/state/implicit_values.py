"""Values that programs take in or give out for a placement, besides the Parameters.

Glossary
    implicit value  such a value; to a program, it is a Parameter
    prefetch key    an implicit value that has to be known before the program runs: a smaller
                    program, cut out of it, computes it
"""

from __future__ import annotations

from typing import Any

from paramesh.state import storage


class ImplicitValue:
    """A value that programs take in or give out for a placement; to them, it is a Parameter.

    Args:
        name: for messages.
        shape: of its array.
        dtype: its DType.

    Attributes:
        per_device: every device has a part of its own of it, of this shape; the array has the parts
            joined along the first axis.
    """

    _slot = None
    _recipe = None
    is_init = False
    layerwise_parallel = False
    per_device = False

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self._contents: Any = None
        self._domain = storage.Domain()

    @property
    def value(self) -> Any:
        """The raw value, None before the first."""
        return self._contents

    def _cache_key(self) -> Any:
        return self.shape

    def _concrete(self) -> Any:
        return self._contents

    def _store(self, value: Any) -> None:
        storage.commit([(self, "_contents", value)])


class PrefetchKey(ImplicitValue):
    """A hidden value that programs write, and that is known before they run."""
