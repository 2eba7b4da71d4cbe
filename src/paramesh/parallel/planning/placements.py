"""The placements of the parallel modes over the devices of a target: nothing is there.

Programs are traced under them as for devices that exist. Nothing is computed and nothing is kept:
Parameters stay recipes, and the layouts that they have for their own devices stay theirs.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from jax.sharding import Sharding, SingleDeviceSharding

from paramesh.errors import ContextError, LayoutError
from paramesh.parallel.layouts.parameter_layouts import Finding
from paramesh.parallel.modes.data_parallel import DataParallel, differs
from paramesh.parallel.modes.semi_auto import SemiAuto
from paramesh.parallel.planning.devices import TargetDevices
from paramesh.parameter import Parameter
from paramesh.state.placement import Placement


class _Device(Protocol):
    """A device of JAX."""

    @property
    def platform(self) -> str:
        """What it is."""
        ...


def platform_of(device: _Device) -> str:
    """The platform of a device as `jax.default_backend` calls it."""
    return "gpu" if device.platform in ("cuda", "rocm", "gpu") else device.platform


class OneDevice(Placement):
    """A program of one device, the first of a target."""

    def __init__(self, on: TargetDevices) -> None:
        self.key = ("stand_alone", "there", on.name)
        self._device = on.devices[0]

    @property
    def platform(self) -> str:
        """Of the target."""
        return platform_of(self._device)

    def state_sharding(self, state: object) -> Sharding:
        """Where a state lies."""
        return SingleDeviceSharding(self._device)

    def input_shardings(self, leaves: Sequence[Any]) -> list[Sharding]:
        """Where inputs lie."""
        return [SingleDeviceSharding(self._device) for _ in leaves]


class BatchOverTarget(DataParallel):
    """`data_parallel` and `hybrid_parallel` over a target."""

    def __init__(self, on: TargetDevices, mode: str) -> None:
        super().__init__(on.devices, mode)
        self.key = (*self.key, "there", on.name)
        if self.division is not None:
            self.division = self.key

    @property
    def platform(self) -> str:
        """Of the target."""
        return platform_of(self.devices[0])

    def adopt(self, params: Sequence[Any]) -> None:
        """Refuse Parameters of which each device would have to hold something else.

        Raises:
            ContextError: there are some.
        """
        for param in params:
            if param.layerwise_parallel:
                raise ContextError(
                    f"Parameter '{param.name}' has a value for each device (layerwise_parallel), "
                    "and those of a target are not there to hold one. Compile for a target "
                    "without it."
                )
        super().adopt(params)

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The inputs as they are: the batch of all devices together.

        Raises:
            LayoutError: the first axis of one cannot be sharded evenly.
        """
        for number, leaf in enumerate(leaves):
            shape = np.shape(leaf)
            if shape and shape[0] % self.count and not self._full_batch:
                raise LayoutError(
                    f"{self.mode}: input {number} has shape {shape}; its first axis, the batch of "
                    f"all devices, must be a multiple of the {self.count} devices of the target."
                )
        return leaves

    def state_sharding(self, state: object) -> Sharding:
        """Where a state lies."""
        return self._sharded if differs(state) else self._everywhere

    def input_shardings(self, leaves: Sequence[Any]) -> list[Sharding]:
        """Where inputs lie."""
        replicated = self._full_batch
        return [
            self._sharded if np.ndim(leaf) and not replicated else self._everywhere
            for leaf in leaves
        ]


class GlobalViewOfTarget(SemiAuto):
    """`semi_auto_parallel`, and `auto_parallel` that propagates strategies, over a target.

    Args:
        on: the devices.
        mode: the mode.
    """

    def __init__(self, on: TargetDevices, mode: str) -> None:
        super().__init__(on.devices, mode)
        self.key = (*self.key, "there", on.name)
        self._basis = (self.key, self._basis[1])
        self._save_to = None
        self._learned: weakref.WeakKeyDictionary[Parameter, Finding] = weakref.WeakKeyDictionary()

    @property
    def platform(self) -> str:
        """Of the target."""
        return platform_of(self.devices[0])

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The inputs as they are: no device of the target holds anything."""
        return leaves

    def _finding(self, param: Parameter) -> Finding | None:
        running = self._thread.found
        if running is not None and param in running:
            return running[param]
        return self._learned.get(param) or self._layouts.said(param, self._basis)

    def _keep(self, found: dict[Parameter, Finding], states: Sequence[Any]) -> None:
        self._learned.update(found)
        self._forget()
        self._shardings.clear()

    def state_sharding(self, state: object) -> Sharding:
        """Where a state lies."""
        assert isinstance(state, Parameter)  # the placement has no pools
        return self.sharding_of(state)

    def input_shardings(self, leaves: Sequence[Any]) -> list[Sharding]:
        """Where inputs lie.

        Raises:
            LayoutError: `dataset_strategy` does not fit them.
        """
        found = self._inputs.of_global([np.shape(leaf) for leaf in leaves])
        return [sharding or self._everywhere for sharding in found]


PlacementOfTarget: TypeAlias = OneDevice | BatchOverTarget | GlobalViewOfTarget


def placement_over(on: TargetDevices, mode: str) -> PlacementOfTarget:
    """The placement of a parallel mode that does not search, over a target.

    Raises:
        ContextError: a program of one device, and a target of several.
    """
    if mode == "stand_alone":
        if on.count > 1:
            raise ContextError(
                f"target={on.name!r} has {on.count} devices, and with parallel_mode='stand_alone' "
                "a program is of one. Name one device, set a parallel mode, or have "
                "paramesh.plan(step, …, target=…) search for layouts."
            )
        return OneDevice(on)
    if mode in ("data_parallel", "hybrid_parallel"):
        return BatchOverTarget(on, mode)
    return GlobalViewOfTarget(on, mode)
