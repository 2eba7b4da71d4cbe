"""How Parameters are described to servers, and which of them servers already have.

Glossary
    spec        as for `Store.declare`
    known       Parameters that servers have values of, whichever process declared them: another
                worker, the predecessor of this one, or an earlier run with the same log
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.parameter import Parameter
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.partition import PIECE, Partition

#: What values can be read by; a recipe and an optimizer are compared when they are declared.
_READ_BY = ("kind", "dtype", "shape", "whole", "row_shape", "rows")


def is_table(param: Any) -> bool:
    """Whether a Parameter is on no worker."""
    return param.init_in_server and param.only_rows and param.has_init


def table_initial_values(table: Parameter) -> dict[str, Any]:
    """What the rows of a table start from.

    Raises:
        RecipeError: as `initial_values_of`.
    """
    recipe = table.recipe
    assert recipe is not None
    return initial_values_of(table.name, recipe)


def spec_of(param: Parameter) -> dict[str, Any]:
    """What a served Parameter is, but for its optimizer."""
    common = {"name": param.name, "dtype": param.dtype.long_name}
    if not is_table(param):
        return common | {"kind": "dense", "shape": list(param.shape), "recipe": None}
    size: dict[str, Any] = {"row_shape": list(param.shape[1:]), "rows": param.shape[0]}
    size |= param.row_life
    return common | {"kind": "rows", "recipe": table_initial_values(param)} | size


def known_among(
    partition: Partition,
    specs: Sequence[Mapping[str, Any]],
    there: Sequence[Iterable[Mapping[str, Any]]],
) -> list[str]:
    """The names of those Parameters that servers have.

    Args:
        partition: of the servers.
        specs: of full Parameters.
        there: of each server, the specs of the pieces that it has values of.

    Raises:
        ParameterServerError: as `check_same`.
    """
    check_same(partition, specs, there)
    by_name = [{piece["name"] for piece in mine} for mine in there]
    return [
        spec["name"]
        for spec in specs
        if all(
            piece["name"] in theirs
            for mine, theirs in zip(partition.split_spec(dict(spec)), by_name, strict=True)
            for piece in mine
        )
    ]


def check_same(
    partition: Partition,
    specs: Sequence[Mapping[str, Any]],
    there: Sequence[Iterable[Mapping[str, Any]]],
) -> None:
    """Raise ParameterServerError if servers have something else by the name of a Parameter.

    Args:
        partition: of the servers.
        specs: of full Parameters.
        there: as for `known_among`.
    """
    by_owner: list[dict[str, list[Mapping[str, Any]]]] = []
    for theirs in there:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for piece in theirs:
            found.setdefault(owner_of(piece), []).append(piece)
        by_owner.append(found)
    for spec in specs:
        for mine, found in zip(partition.split_spec(dict(spec)), by_owner, strict=True):
            expected = {piece["name"]: piece for piece in mine}
            for other in found.get(spec["name"], ()):
                piece = expected.get(other["name"])
                if piece is None or any(
                    piece[key] != other[key] for key in _READ_BY if key in piece and key in other
                ):
                    raise _another(spec, other)


def check_renamed(
    specs: Sequence[Mapping[str, Any]],
    there: Sequence[Iterable[Mapping[str, Any]]],
    named: Collection[str],
) -> None:
    """Raise ParameterServerError if a Parameter of a run seems to have another name in a script.

    It would begin with its initial values, beside others that are trained.

    Args:
        specs: of the full Parameters of the script's first step.
        there: as for `known_among`.
        named: all that the script has named so far, those of `specs` too.
    """
    known = {owner_of(piece): piece for theirs in there for piece in theirs}
    for spec in specs:
        if spec["name"] in known:
            continue
        alike = sorted(
            name
            for name, other in known.items()
            if name not in named and other.get("optimizer") and _alike(spec, other)
        )
        if alike:
            raise ParameterServerError(
                f"Parameter '{spec['name']}' is not in the run that the servers continue, which "
                f"has {', '.join(map(repr, alike))} of the same shape and type, that "
                f"this script does not train: it was renamed, or another script was started. Under "
                f"the new name it would begin with its initial values. Restore the name (of the "
                f"attribute that holds it, or of the Cell around it). For another network use a "
                f"new wal_dir, and transfer what fits with a checkpoint."
            )


def _alike(spec: Mapping[str, Any], piece: Mapping[str, Any]) -> bool:
    whole = spec if spec["kind"] == "rows" else {**spec, "whole": spec["shape"]}
    return all(whole.get(key) == piece.get(key) for key in _READ_BY if key != "shape")


def owner_of(piece: Mapping[str, Any]) -> str:
    """The name of the Parameter that a piece on a server is of."""
    match = PIECE.fullmatch(piece["name"]) if piece["kind"] == "dense" else None
    return piece["name"] if match is None else match[1]


def _another(spec: Mapping[str, Any], other: Mapping[str, Any]) -> ParameterServerError:
    mine, theirs = _described(spec), _described(other)
    if spec["kind"] != other["kind"]:  # the rest may be the same
        whole = " as a whole (without init_in_server=True, or its values were there before)"
        mine += whole * (spec["kind"] == "dense")
        theirs += whole * (other["kind"] == "dense")
    return ParameterServerError(
        f"Parameter '{spec['name']}' is {mine} here, but {theirs} in the "
        f"run that the servers continue. Shape, dtype and location of a Parameter cannot change "
        f"during a run: restore them in the network. For another network use a new wal_dir, and "
        f"transfer what fits with a checkpoint."
    )


def _described(spec: Mapping[str, Any]) -> str:
    if spec["kind"] == "rows":
        shape = [spec["rows"], *spec["row_shape"]]
        return f"a table of shape {tuple(shape)} and type {spec['dtype']}"
    if "whole" not in spec and "offset" in spec:  # of an older log
        return f"of another shape ('{spec['name']}' is a piece of it), type {spec['dtype']}"
    return f"of shape {tuple(spec.get('whole', spec['shape']))} and type {spec['dtype']}"


def others_before(settings: Mapping[str, Any]) -> bool:
    """Whether servers under these settings may have values from before this process."""
    if settings["address"] is not None:
        return True
    folder = settings["wal_dir"]
    return settings["worker_num"] == 1 and folder is not None and os.path.isdir(folder)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str]:
    """In what two specs differ, and nothing else: of each, for messages."""
    mine, theirs = _flat(one), _flat(other)
    names = [n for n in {**mine, **theirs} if mine.get(n, n) != theirs.get(n, n)]
    said = (
        ", ".join(f"{n}={found[n]!r}" if n in found else f"without {n}" for n in names)
        for found in (mine, theirs)
    )
    return next(said), next(said)


def _flat(spec: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in spec.items():
        inside = isinstance(value, dict)
        found |= _flat(value, f"{before}{name}.") if inside else {f"{before}{name}": value}
    return found


def same_spec(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two specs say the same."""
    # Pieces in older logs do not say of which shape they are a piece.
    both = "whole" in a and "whole" in b
    return a == b if both else _partless(a) == _partless(b)


def _partless(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "whole"}
