"""Programs compiled for hardware that is not there, under any placement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from paramesh.dtype import x64_if
from paramesh.parallel.modes.data_parallel import DataParallel, _differs
from paramesh.parallel.modes.semi_auto import SemiAuto
from paramesh.parallel.planning.devices import (
    MissingCompilerError,
    TargetDevices,
    target_devices,
)
from paramesh.parallel.planning.step import platform_of
from paramesh.state import placement, tracing
from paramesh.state.placement import Placement
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.executable import ZERO

#: An H100 and a v5e: eight of them, and one alone.
TARGETS = ("h100:8", "v5e:2x4")
ALONE = {"h100:8": "h100:1", "v5e:2x4": "v5e:1x1"}


def devices_of(name: str) -> TargetDevices:
    """The devices; the test is skipped, with the reason, where their compiler is missing."""
    try:
        return target_devices(name)
    except MissingCompilerError as error:
        pytest.skip(str(error))


def placed(mode: str, on: TargetDevices) -> Placement:
    """The placement of a mode over devices that hold nothing."""
    base: Any
    if mode == "stand_alone":
        base = Placement
    elif mode in ("data_parallel", "hybrid_parallel"):
        base = DataParallel
    else:
        base = SemiAuto

    class There(base):
        platform = platform_of(on.devices[0])

        def place_inputs(self, leaves: list[Any]) -> list[Any]:
            return leaves

    place = There() if mode == "stand_alone" else There(on.devices, mode)
    place.key = (*place.key, "there", on.name)
    return place


@contextmanager
def under(place: Placement) -> Iterator[None]:
    before = placement.use(place)
    try:
        yield
    finally:
        placement.use(before)
        tracing.bump_version()


def compiled_for(fn: Callable[..., Any], args: Any, mode: str, on: TargetDevices) -> Any:
    """The `jax.stages.Compiled` of a call, for devices that are not there."""
    if not isinstance(fn, CompiledFunction):
        fn = CompiledFunction(fn, kept_with=object())
    place = placed(mode, on)
    with under(place):
        _, entry, leaves = fn._traced(tuple(args), {})
        states = [*entry.donated, *entry.kept]
        structs = [
            jax.ShapeDtypeStruct(place.shape(s), s.dtype.np_dtype, sharding=_state(place, s, on))
            for s in states
        ]
        inputs: list[complex | np.int32 | jax.ShapeDtypeStruct] = [
            leaf
            if isinstance(leaf, int | float | complex)
            else jax.ShapeDtypeStruct(
                np.shape(leaf), leaf.dtype, sharding=_input(place, np.ndim(leaf), on)
            )
            for leaf in leaves
        ]
        if entry.pooled:
            inputs.append(ZERO)
        donated = len(entry.donated)
        with x64_if(entry.use_64bit):
            program: Any = entry.program
            return program.lower(structs[:donated], structs[donated:], inputs).compile()


def _state(place: Any, state: Any, on: TargetDevices) -> Any:
    if isinstance(place, DataParallel):
        return place._cut if _differs(state) else place._everywhere
    if isinstance(place, SemiAuto):
        return place.sharding_of(state)
    return SingleDeviceSharding(on.devices[0])


def _input(place: Any, ndim: int, on: TargetDevices) -> Any:
    if isinstance(place, DataParallel):
        return place._cut if ndim else place._everywhere
    if isinstance(place, SemiAuto):
        spec = PartitionSpec(place.mesh.axis_names) if ndim else PartitionSpec()
        return NamedSharding(place.mesh, spec)
    return SingleDeviceSharding(on.devices[0])
