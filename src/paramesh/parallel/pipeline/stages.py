"""The devices of each stage, and arrays that are on some of them.

Stages are groups of neighbouring devices in the order of ranks, so a stage spans as few hosts as
can be. All of them have the same number, and a sharding means the same on each: the program of a
stage is traced over the devices of stage 0, and its shardings are moved to those of the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from paramesh.array_types import Array, ArrayLike
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel.layouts.mesh import device_mesh, in_rows
from paramesh.parallel.layouts.program_inputs import ProgramInputs


class Stages:
    """The stages of a placement.

    Args:
        devices: all of them, by rank.
        count: how many stages.
        inputs: how inputs are laid out in a stage: the setting `dataset_strategy`, or "full_batch".
        planned: whether programs are compiled alone, so that all processes are one.

    Raises:
        ContextError: the stages do not divide the devices, or there are several processes.
    """

    def __init__(
        self,
        devices: Sequence[Any],
        count: int,
        inputs: str | tuple[Any, ...],
        planned: bool = False,
    ) -> None:
        if len(devices) % count:
            raise ContextError(
                f"set_auto_parallel_context: pipeline_stages={count} does not divide the "
                f"{len(devices)} devices. Choose a divisor, or another device_num."
            )
        if len({device.process_index for device in devices}) > 1 and not planned:
            raise ContextError(
                f"set_auto_parallel_context: pipeline_stages={count} needs all devices in one "
                "process; with several processes, leave it at 1 and shard over all devices "
                "(strategies, or parallel_mode='auto_parallel')."
            )
        size = len(devices) // count
        self.count = count
        self.devices = tuple(devices)
        self.groups = tuple(tuple(devices[i * size : (i + 1) * size]) for i in range(count))
        self._meshes = [device_mesh(group) for group in self.groups]
        self._inputs = [ProgramInputs(mesh, inputs) for mesh in self._meshes]
        self._first = {device: at for at, device in enumerate(self.groups[0])}
        self._moved: dict[tuple[Mesh, int], Mesh] = {}
        #: {(where an array is, the stage that wants it): where it goes}.
        self._ways: dict[tuple[Sharding, int], NamedSharding] = {}
        self._everywhere = [NamedSharding(mesh, PartitionSpec()) for mesh in self._meshes]

    def mesh(self, stage: int) -> Mesh:
        """The mesh of a stage, with the axes of that of stage 0."""
        return self._meshes[stage]

    def moved_mesh(self, mesh: Mesh, stage: int) -> Mesh:
        """A mesh over the devices of stage 0, over those of another; other meshes as they are.

        Args:
            mesh: the mesh.
            stage: the other stage.
        """
        devices = mesh.devices.ravel().tolist() if isinstance(mesh, Mesh) else []
        if not stage or not devices or any(device not in self._first for device in devices):
            return mesh
        key = (mesh, stage)
        if key not in self._moved:
            group = self.groups[stage]
            there = in_rows([group[self._first[d]] for d in devices], mesh.devices.shape)
            self._moved[key] = Mesh(there, mesh.axis_names, axis_types=mesh.axis_types)
        return self._moved[key]

    def moved(self, sharding: Sharding, stage: int) -> Any:
        """A sharding over the devices of stage 0, over those of another.

        Args:
            sharding: a NamedSharding is moved; others stay.
            stage: the other stage.
        """
        if not isinstance(sharding, NamedSharding):
            return sharding
        mesh = self.moved_mesh(sharding.mesh, stage)  # type: ignore[arg-type]
        if mesh is sharding.mesh:
            return sharding
        return NamedSharding(mesh, sharding.spec, memory_kind=sharding.memory_kind)

    def stage_of(self, array: Array | jax.ShapeDtypeStruct) -> int | None:
        """The stage whose devices, and no others, an array is on; None if there is none."""
        devices = array.sharding.device_set
        for stage, group in enumerate(self.groups):
            if devices == set(group):
                return stage
        return None

    def sent(self, array: ArrayLike, stage: int) -> Any:
        """The same array on the devices of a stage, sharded as it was.

        Args:
            array: on the devices of another stage; one that is anywhere else is replicated.
            stage: where to.
        """
        place = self._everywhere[stage]
        if isinstance(array, jax.Array):
            key = (array.sharding, stage)
            place = self._ways.get(key) or self._ways.setdefault(key, self._way(array, stage))
        return jax.device_put(array, place)

    def _way(self, array: Array | jax.ShapeDtypeStruct, stage: int) -> NamedSharding:
        """Where an array goes that a stage wants."""
        sharding, source = array.sharding, self.stage_of(array)
        if source is None or not isinstance(sharding, NamedSharding):
            return self._everywhere[stage]
        mesh = sharding.mesh
        if not isinstance(mesh, Mesh):
            return self._everywhere[stage]
        there = dict(zip(self.groups[source], self.groups[stage], strict=True))
        moved = [there[device] for device in mesh.devices.ravel().tolist()]
        return NamedSharding(
            Mesh(in_rows(moved, mesh.devices.shape), mesh.axis_names), sharding.spec
        )

    def shown(self, value: jax.ShapeDtypeStruct | ArrayLike, stage: int) -> Any:
        """`sent` for the shape and sharding of an array: how it would lie there.

        Args:
            value: a `jax.ShapeDtypeStruct`; what has no sharding is replicated.
            stage: where to.
        """
        place = self._everywhere[stage]
        if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
            if value.sharding is not None:
                place = self._way(value, stage)
        elif not isinstance(value, np.ndarray | np.generic):
            return value
        return jax.ShapeDtypeStruct(np.shape(value), value.dtype, sharding=place)

    def sharding_of_input(self, shape: tuple[int, ...], at: int, stage: int) -> NamedSharding:
        """How a raw input lies on the devices of a stage.

        Args:
            shape: of the input.
            at: its place among the inputs that have axes.
            stage: which one.

        Raises:
            LayoutError: a strategy does not fit it.
        """
        if not shape:
            return self._everywhere[stage]
        return self._inputs[stage].sharding_of(shape, at)

    def placed(self, leaf: ArrayLike, at: int, stage: int) -> Any:
        """A raw input on the devices of a stage, laid out as the settings say.

        Args:
            leaf: the input.
            at: its place among the inputs that have axes.
            stage: where to.

        Raises:
            LayoutError: a strategy does not fit it.
        """
        if not np.ndim(leaf):
            return self.sent(leaf, stage) if isinstance(leaf, jax.Array) else leaf
        return self._inputs[stage].place([leaf], at)[0]

    def check(self, stage: int, name: str) -> None:
        """Raise if there is no such stage.

        Raises:
            LayoutError: there is none.
        """
        if stage >= self.count:
            raise LayoutError(
                f"Cell '{name}' has pipeline_stage={stage}, but there are {self.count} stages, "
                f"0 to {self.count - 1} (pipeline_stages of set_auto_parallel_context)."
            )


class Held:
    """A value of a running step: the arrays that there are of it, by stage.

    Args:
        stages: the stages.
        arrays: {stage: array}; at least one. -1 stands for no stage.
    """

    __slots__ = ("_arrays", "_stages")

    def __init__(self, stages: Stages, arrays: dict[int, Any]) -> None:
        self._stages = stages
        self._arrays = arrays

    def at(self, stage: int) -> Any:
        """The array on the devices of a stage, which is sent there if need be."""
        array = self._arrays.get(stage)
        if array is None:
            first = next(iter(self._arrays.values()))
            array = self._arrays[stage] = self._stages.sent(first, stage)
        return array

    def add(self, stage: int, array: Array) -> None:
        """Another array of the same value."""
        self._arrays[stage] = array

    def parts(self, count: int, stage: int) -> list[Any]:
        """Its `count` parts along the first axis, in a stage."""
        return _rows(self.at(stage), count)


class Input(Held):
    """An input of a step: it is placed in the stages that ask for it.

    Args:
        stages: the stages.
        leaf: raw.
        place: among the inputs that have axes.
    """

    __slots__ = ("_leaf", "_place")

    def __init__(self, stages: Stages, leaf: ArrayLike, place: int) -> None:
        super().__init__(stages, {})
        self._leaf, self._place = leaf, place

    def at(self, stage: int) -> Any:
        """The array on the devices of a stage."""
        array = self._arrays.get(stage)
        if array is None:
            array = self._stages.placed(self._leaf, self._place, stage)
            self._arrays[stage] = array
        return array

    def parts(self, count: int, stage: int) -> list[Any]:
        """Its `count` parts along the first axis, each placed in a stage."""
        leaf = self._leaf
        if isinstance(leaf, jax.Array):
            parts = _rows(leaf, count)
        else:
            leaf = np.asarray(leaf)
            rows = leaf.shape[0] // count
            parts = [leaf[i * rows : (i + 1) * rows] for i in range(count)]
        return [self._stages.placed(part, self._place, stage) for part in parts]


class Rows(NamedTuple):
    """A value whose rows are to be cut into micro-batches."""

    held: Held


@jax.jit(static_argnums=1)
def _rows(array: Array, count: int) -> list[Array]:
    rows = array.shape[0] // count
    return [array[i * rows : (i + 1) * rows] for i in range(count)]
