"""What Parameters are to servers, and which of them servers have already.

Glossary
    spec        as for `Store.declare`
    known       Parameters that servers have values of, whoever declared them: another worker, the
                one before this, or an earlier run with the same log
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paramesh.errors import ParameterStateError
from paramesh.parameter import Parameter
from paramesh.ps.partition import Partition
from paramesh.ps.starts import start_of

#: What values can be read by; a recipe and an optimizer are compared when they are declared.
_READ_BY = ("kind", "dtype", "shape", "row_shape", "rows")


def is_table(param: Any) -> bool:
    """Whether a Parameter is on no worker."""
    return param.init_in_server and param.only_rows and param.has_init


def table_start(table: Parameter) -> dict[str, Any]:
    """What the rows of a table start from.

    Raises:
        RecipeError: as `start_of`.
    """
    recipe = table.recipe
    assert recipe is not None
    return start_of(table.name, recipe)


def spec_of(param: Parameter) -> dict[str, Any]:
    """What a served Parameter is, but for its optimizer."""
    common = {"name": param.name, "dtype": param.dtype.long_name}
    if not is_table(param):
        return common | {"kind": "dense", "shape": list(param.shape), "recipe": None}
    size: dict[str, Any] = {"row_shape": list(param.shape[1:]), "rows": param.shape[0]}
    admit, expire = param.row_life
    if admit > 1:
        size["admit"] = admit
    if expire:
        size["expire"] = expire
    return common | {"kind": "rows", "recipe": table_start(param)} | size


def known_among(
    partition: Partition,
    specs: Iterable[Mapping[str, Any]],
    there: Sequence[Iterable[Mapping[str, Any]]],
) -> list[str]:
    """The names of those Parameters that servers have.

    Args:
        partition: of the servers.
        specs: of whole Parameters.
        there: of each server, the specs of the pieces that it has values of.

    Raises:
        ParameterStateError: what is there of that name has another shape or element type.
    """
    by_name = [{piece["name"]: piece for piece in mine} for mine in there]
    found: list[str] = []
    for spec in specs:
        pieces = partition.split_spec(dict(spec))
        pairs = [
            (piece, theirs.get(piece["name"]))
            for mine, theirs in zip(pieces, by_name, strict=True)
            for piece in mine
        ]
        if any(other is None for _, other in pairs):
            continue
        for piece, other in pairs:
            assert other is not None
            mine = {key: piece[key] for key in _READ_BY if key in piece}
            theirs = {key: other[key] for key in _READ_BY if key in other}
            if mine != theirs:
                raise ParameterStateError(
                    f"Parameter '{spec['name']}' is {mine} here, and on the server {theirs}. Does "
                    "the wal_dir belong to another network? Give each its own."
                )
        found.append(spec["name"])
    return found


def others_before(settings: Mapping[str, Any]) -> bool:
    """Whether servers under these settings may have values from before this process."""
    if settings["address"] is not None:
        return True
    folder = settings["wal_dir"]
    return settings["worker_num"] == 1 and folder is not None and os.path.isdir(folder)
