"""Validation of the ids that are looked up in a table on servers.

A row outside a table does not exist: it could only read as zeros, and could never train. So it is
an error of the call that looks it up, before anything is computed or pushed.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import numpy as np

from paramesh.dtype import to_dtype
from paramesh.parameter import Parameter
from paramesh.ps.client.row_gradients import is_padding
from paramesh.ps.specification.id_range import NO_ID, inside, is_unbounded, range_of

Array = np.ndarray[Any, Any]

#: So many of the wrong ids are named.
_NAMED = 5


@dataclasses.dataclass
class IdCounts:
    """Lookup ids that do not select a row.

    Attributes:
        padding_ids: ids of padding that were looked up.
        refused_ids: ids outside the table that were asked for.
    """

    padding_ids: int = 0
    refused_ids: int = 0


_counts: weakref.WeakKeyDictionary[Parameter, IdCounts] = weakref.WeakKeyDictionary()


def id_counts(table: Parameter) -> IdCounts:
    """What was counted of a table in this process; to be added to."""
    return _counts.setdefault(table, IdCounts())


def all_counts() -> IdCounts:
    """What was counted of all tables that there are."""
    counted = list(_counts.values())
    return IdCounts(sum(c.padding_ids for c in counted), sum(c.refused_ids for c in counted))


def check_integers(table: Parameter, ids: Any) -> None:
    """Raise TypeError unless these are integers."""
    if np.dtype(ids.dtype).kind not in "iu":
        raise TypeError(
            f"Parameter '{table.name}': rows are looked up by integers, got "
            f"{to_dtype(ids.dtype)}. Cast the ids first."
        )


def marked(ids: Array, padding: int | None) -> Array:
    """Ids as Int64, with NO_ID for those of padding."""
    found = ids.astype(np.int64)
    there = is_padding(ids, padding)
    if there is not None:
        found[there] = NO_ID
    return found


def checked(table: Parameter, ids: Array, padding: int | None) -> Array:
    """As `marked`, of ids that were looked up.

    Raises:
        ValueError: an id that is neither a row of the table nor padding.
    """
    found = marked(ids, padding)
    rows = table.shape[0]
    there = inside(found, rows)
    if there.all():
        return found
    padded = is_padding(ids, padding)
    wrong = ~there if padded is None else ~there & ~padded
    counts = id_counts(table)
    refused = int(wrong.sum())
    counts.padding_ids += len(found) - int(there.sum()) - refused
    counts.refused_ids += refused
    if refused:
        named = [int(one) for one in dict.fromkeys(ids[wrong].tolist())]
        more = ", …" if len(named) > _NAMED else ""
        advice = "For a padding id, use nn.EmbeddingLookup(padding_idx=…)."
        if not is_unbounded(rows):
            advice = (
                "Map ids into the table (for example `id % vocab_size`), make it larger, or let "
                f"it take any id (vocab_size=None). {advice}"
            )
        raise ValueError(
            f"Parameter '{table.name}' has {range_of(rows)}, and "
            f"{refused} of {len(found)} ids are out of range: "
            f"{', '.join(map(str, named[:_NAMED]))}{more}. A row that does not exist cannot be "
            f"trained. {advice}"
        )
    return found
