"""Sizes of new arrays, looked at before XLA sees them: it ends the process where they overflow."""

from __future__ import annotations

from collections.abc import Iterable

#: XLA counts elements in Int64.
MOST_ELEMENTS = 2**63 - 1


def check_countable(sizes: Iterable[object], what: str = "shape") -> None:
    """Refuse sizes whose product no computer can count; what is no int is left to others.

    Args:
        sizes: of the axes; below 1 they count as 1.
        what: the argument, for the error.

    Raises:
        ValueError: more than 2**63 - 1 elements.
    """
    count = 1
    for size in sizes:
        if isinstance(size, int) and size > 1:
            count *= size
    if count > MOST_ELEMENTS:
        shown = ", ".join(map(str, sizes))
        raise ValueError(
            f"{what}: {shown} would be {count:.3g} elements; expected at most 2**63 - 1."
        )


def check_matrix(rows: object, columns: object = None) -> None:
    """The same for a matrix; None columns: as many as rows."""
    check_countable((rows, rows if columns is None else columns), "a matrix")
