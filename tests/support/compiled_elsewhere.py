"""The networks of `benchmarks/search.py`, and what is predicted of them for a target of eight."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from paramesh.parallel.planning.memory.predicted import arguments, passing
from paramesh.parallel.search.machine import TARGETS
from paramesh.parallel.search.plan import find

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

_networks: Any = importlib.import_module("searched.networks")
_unseen: Any = importlib.import_module("searched.unseen")
_fresh: Any = importlib.import_module("searched.fresh")
_peers: Any = importlib.import_module("searched.peers")

ALL: dict[str, Any] = {**_networks.NETWORKS, **_unseen.UNSEEN, **_fresh.FRESH}


def predicted(name: str, target: str) -> tuple[float, float]:
    """Bytes that a device of eight holds and sends in a step of a network."""
    program = _peers.program_of(ALL[name]())
    plan = find(program, TARGETS[target].of_dtype("float32"), sizes=(8,))
    return arguments(plan) + passing(plan), sum(plan.sent().values())
