"""The primitive classes: `from paramesh.ops import operations as P`, as in MindSpore 1.x."""

from __future__ import annotations

from typing import Any

from paramesh.ops import graph_marks, names
from paramesh.ops.composite import Depend, Partial, Print, StopGradient
from paramesh.ops.lazy import UPPER, upper
from paramesh.ops.table import CLASSES, Primitive

__all__: list[str] = []
__all__.extend([*CLASSES, "Depend", "Partial", "Primitive", "Print", "StopGradient"])  # pyright: ignore[reportUnsupportedDunderAll] - from the table

#: MindSpore has modules below this one (see `compat`).
__path__: list[str] = []

_SUMMARIES = ("HistogramSummary", "ImageSummary", "ScalarSummary", "TensorSummary")
_OTHERS = {c.__name__: c for c in (Depend, Partial, Primitive, Print, StopGradient)} | {
    name: getattr(graph_marks, name) for name in _SUMMARIES
}
_upper = upper(__name__, [n for n in UPPER if n[0].isupper()], __all__)


def __getattr__(name: str) -> Any:
    if name in CLASSES:
        return getattr(names, name)
    return _OTHERS.get(name) or _upper(name)


def __dir__() -> list[str]:
    return sorted(__all__)
