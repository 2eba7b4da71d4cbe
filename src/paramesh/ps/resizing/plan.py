"""What another number of servers has of each Parameter.

Glossary
    full spec   the spec of a Parameter as workers declare it, before it is split into pieces

A Parameter that only some servers have, or have values of, was being declared when the run was
killed. No update refers to it yet, and its worker declares it again: it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.ps.resizing.sources import Facts
from paramesh.ps.specification.partition import Partition, Piece
from paramesh.ps.specification.specs import owner_of


class Plan(NamedTuple):
    """What the new servers have.

    Attributes:
        specs: by name, of each new server those of its pieces (see `Partition.split_spec`).
        sizes: by name, the elements of the dense Parameters.
        owners: by the name of a former piece, its Parameter and its first element; 0 for tables.
        valued: names of the dense Parameters that have values of their own.
        given: names of the Parameters that `put` gave values.
    """

    specs: dict[str, list[list[dict[str, Any]]]]
    sizes: dict[str, int]
    owners: dict[str, tuple[str, int]]
    valued: set[str]
    given: set[str]

    def names(self, server: int, names: set[str]) -> list[str]:
        """Of Parameters, the names of a new server's pieces, sorted."""
        return sorted(spec["name"] for name in names for spec in self.specs[name][server])


def make_plan(folder: Path, facts: Sequence[Facts], before: Partition, after: Partition) -> Plan:
    """What the new servers have.

    Args:
        folder: of the run, for messages.
        facts: of the former servers.
        before: of Parameters over them.
        after: over the new ones.

    Raises:
        ParameterServerError: what the servers say does not fit together, or does not say what the
            full Parameter is.
    """
    found: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for place, mine in enumerate(facts):
        for spec in mine.specs:
            by_server = found.setdefault(owner_of(spec), [{} for _ in facts])
            by_server[place][spec["name"]] = spec
    plan = Plan({}, {}, {}, set(), set())
    for name, by_server in found.items():
        full = _full_spec(folder, name, by_server, before)
        expected = [{spec["name"]: spec for spec in mine} for mine in before.split_spec(full)]
        if [sorted(mine) for mine in by_server] != [sorted(mine) for mine in expected]:
            if any(
                set(mine) - set(theirs) for mine, theirs in zip(by_server, expected, strict=True)
            ):
                raise ParameterServerError(
                    f"the servers in '{folder}' have other pieces of Parameter '{name}' than "
                    f"{before.servers} servers have: restore the wal_dir from a backup."
                )
            continue
        plan.specs[name] = after.split_spec(full)
        if full["kind"] == "rows":
            plan.owners[name] = name, 0
            if any(name in mine.given for mine in facts):
                plan.given.add(name)
            continue
        pieces = [(place, spec) for place, mine in enumerate(by_server) for spec in mine.values()]
        plan.sizes[name] = math.prod(full["shape"])
        plan.owners.update({spec["name"]: (name, spec["offset"]) for _, spec in pieces})
        if all(spec["name"] in facts[place].valued for place, spec in pieces):
            plan.valued.add(name)
        if any(spec["name"] in facts[place].given for place, spec in pieces):
            plan.given.add(name)
    return plan


def _full_spec(
    folder: Path, name: str, by_server: Sequence[Mapping[str, dict[str, Any]]], before: Partition
) -> dict[str, Any]:
    spec = next(spec for mine in by_server for spec in mine.values())
    if spec["kind"] == "rows":
        if "max_rows" not in spec:
            return spec
        parts = [mine[name]["max_rows"] for mine in by_server if name in mine]
        return spec | {"max_rows": _full_capacity(name, parts, before)}
    if "whole" not in spec:
        raise ParameterServerError(
            f"the servers in '{folder}' do not say of which shape Parameter '{name}' is: their "
            f"log was begun by an earlier version of paramesh. Transfer the values with a "
            f"checkpoint into a run with a new wal_dir."
        )
    rest = {key: value for key, value in spec.items() if key not in ("whole", "offset")}
    return rest | {"name": name, "shape": spec["whole"]}


def _full_capacity(name: str, parts: list[int], before: Partition) -> int:
    """The most rows of a full table, from those of the servers."""
    if len(parts) < before.servers:
        return sum(parts)  # it is left out
    # A server with no part of a small capacity has one row all the same.
    probe: dict[str, Any] = {"kind": "rows", "name": name}
    fitting = [
        full
        for full in range(max(1, sum(parts) - before.servers), sum(parts) + 1)
        if [mine[0]["max_rows"] for mine in before.split_spec(probe | {"max_rows": full})] == parts
    ]
    if not fitting:
        raise ParameterServerError(
            f"Parameter '{name}': its servers have at most {parts} rows, which are the parts of no "
            f"max_rows: restore the wal_dir from a backup."
        )
    if len(fitting) > 1:
        raise ParameterServerError(
            f"Parameter '{name}': max_rows is {fitting[0]} to {fitting[-1]}, not more than the "
            f"{before.servers} servers, and they do not say which. Transfer the values with a "
            f"checkpoint into a run with a new wal_dir."
        )
    return fitting[0]


def overlaps(pieces: Sequence[Piece], start: int, stop: int) -> list[tuple[Piece, slice, int]]:
    """Where consecutive elements of a dense Parameter go.

    Args:
        pieces: of the Parameter on the new servers.
        start: the first element.
        stop: the one after the last.

    Returns:
        The piece, which of the elements, and at which element of the piece they begin.
    """
    found: list[tuple[Piece, slice, int]] = []
    for piece in pieces:
        first, end = max(start, piece.start), min(stop, piece.stop)
        if first < end:
            found.append((piece, slice(first - start, end - start), first - piece.start))
    return found
