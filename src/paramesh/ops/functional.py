"""The functions: `from paramesh.ops import functional as F`, as in MindSpore 1.x."""

from __future__ import annotations

from typing import Any

from paramesh.ops import names
from paramesh.ops.lazy import UPPER, upper
from paramesh.ops.table import CLASSES

__all__ = [name for name in names.__all__ if name not in CLASSES]  # pyright: ignore[reportUnsupportedDunderAll] - from the table

#: MindSpore has modules below this one (see `compat`).
__path__: list[str] = []

_upper = upper(__name__, [n for n in UPPER if n[0].islower()], __all__)


def __getattr__(name: str) -> Any:
    return getattr(names, name) if name in __all__ else _upper(name)


def __dir__() -> list[str]:
    return sorted(__all__)
