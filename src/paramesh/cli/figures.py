"""How numbers, sizes and names are written in what the commands print."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

_GLOB = re.compile(r"[*?\[]")


def number(value: float | None) -> str:
    """A statistic in at most ten characters, `-` for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as the tables have it: `(64, 3, 7, 7)`."""
    return str(tuple(shape))


def counted(count: int, what: str, many: str | None = None) -> str:
    """`1 parameter`, `1,200 parameters`."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def chooser(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Tells whether a name is wanted: it matches one of the patterns, or there are none.

    A pattern with `*`, `?` or `[` has to match the whole name; another one is a prefix that ends
    at a dot: `encoder` takes `encoder.0.weight`, and not `encoder2.weight`.
    """

    def wanted(name: str) -> bool:
        return not patterns or any(_matches(name, pattern) for pattern in patterns)

    return wanted


def _matches(name: str, pattern: str) -> bool:
    if _GLOB.search(pattern):
        return fnmatchcase(name, pattern)
    return name == pattern or name.startswith(pattern if pattern.endswith(".") else pattern + ".")
