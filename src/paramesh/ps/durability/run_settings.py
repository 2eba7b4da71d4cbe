"""The settings that a run on servers keeps as long as its folder, and what is said of others."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.specification.partition import LEAST, SHARDS

#: What a run keeps as long as its folder, by name in the file: what it is called in messages.
_KEPT = {
    "server_num": "server_num",
    "shards": "virtual shards",
    "least": "elements of a range",
    "worker_num": "worker_num",
    "mode": "mode",
    "staleness": "staleness",
}
ELSEWHERE = (
    "To change these settings, save a checkpoint with the former ones, and load it into a run with "
    "a new wal_dir."
)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is by its settings.

    Attributes:
        server_num: how many servers.
        worker_num: how many push in each step.
        mode: "sync", "stale" or "async".
        staleness: in stale mode; otherwise 0.
        shards, least: how Parameters are partitioned, see `partition`.
    """

    server_num: int
    worker_num: int = 1
    mode: str = "sync"
    staleness: int = 0
    shards: int = SHARDS
    least: int = LEAST


def compare(folder: Path, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise ParameterServerError if a run has other settings than a start asks for.

    Args:
        folder: of the run.
        mine: the fields of the `Identity` that is asked for.
        theirs: of the run.
    """
    wrong = [key for key in _KEPT if theirs.get(key) != mine[key]]
    if wrong:
        said = ", ".join(f"{_KEPT[key]}={theirs.get(key)!r}" for key in wrong)
        asked = ", ".join(f"{_KEPT[key]}={mine[key]!r}" for key in wrong)
        raise ParameterServerError(
            f"'{folder}' has a run with {said}, but this start requests {asked}. These cannot "
            f"change during a run: start it again with {said}. {_remedy(folder, mine, wrong)}"
        )


def _remedy(folder: Path, mine: Mapping[str, Any], wrong: list[str]) -> str:
    place = shlex.quote(str(folder))
    said = {
        "server_num": f"`paramesh ps resize {place} --servers {mine['server_num']}`",
        "worker_num": f"`paramesh ps workers {place} --workers {mine['worker_num']}`",
    }
    ways = [f"To change {key}, run {way}." for key, way in said.items() if key in wrong]
    others = [key for key in wrong if key not in said]
    return " ".join([*ways, *([ELSEWHERE] if others else [])])
