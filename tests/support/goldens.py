"""The golden data of tests/golden (its README names the files and keys), read once each."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

DIRECTORY = Path(__file__).parent.parent / "golden"


@functools.cache
def load(name: str) -> Any:
    """The contents of `<name>.json`; shared by all callers, so not to be changed."""
    return json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def arrays(name: str) -> Mapping[str, np.ndarray]:
    """The arrays of `<name>.npz` by key; each is read when it is asked for."""
    return np.load(DIRECTORY / f"{name}.npz", allow_pickle=False)


def records(*areas: str) -> list[dict[str, Any]]:
    """The records of `behaviour.json` whose area is one of `areas` or lies under one.

    `records("set_data")` gives the areas `set_data` and `set_data.dtype`. An area without a record
    is an error, so that a parametrized test cannot come out empty unnoticed.
    """
    everything = load("behaviour")
    found = []
    for area in areas:
        part = [r for r in everything if r["area"] == area or r["area"].startswith(area + ".")]
        if not part:
            raise LookupError(f"no golden record has the area {area!r}")
        found += part
    return found


def case_id(record: Mapping[str, Any]) -> str:
    """The name of a record, for `pytest.mark.parametrize(..., ids=case_id)`."""
    return f"{record['area']}/{record['case']}"
