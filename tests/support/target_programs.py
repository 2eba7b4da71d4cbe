"""Programs compiled for hardware that is not there, under any placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paramesh.parallel.planning.devices import (
    MissingCompilerError,
    TargetDevices,
    target_devices,
)
from paramesh.parallel.planning.lowering import lowered_over
from paramesh.parallel.planning.placements import placement_over
from paramesh.transforms.stages import compiled_for_target

#: An H100 and a v5e: eight of them, and one alone.
TARGETS = ("h100:8", "v5e:2x4")
ALONE = {"h100:8": "h100:1", "v5e:2x4": "v5e:1x1"}


def devices_of(name: str) -> TargetDevices:
    """The devices; the test is skipped, with the reason, where their compiler is missing."""
    try:
        return target_devices(name)
    except MissingCompilerError as error:
        pytest.skip(str(error))


def compiled_for(fn: Callable[..., Any], args: Any, mode: str, on: TargetDevices) -> Any:
    """The `jax.stages.Compiled` of a call, for devices that are not there."""
    return compiled_for_target(lowered_over(placement_over(on, mode), fn, args, {}).stage)
