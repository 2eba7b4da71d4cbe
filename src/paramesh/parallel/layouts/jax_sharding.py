"""Layouts in JAX's words: NamedSharding and PartitionSpec as Layouts, and all of them as shardings.

A PartitionSpec names axes of a mesh without saying which: the one of `jax.set_mesh`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from paramesh import context
from paramesh.array_types import Tree
from paramesh.errors import LayoutError, ParameterStateError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.mesh import all_devices
from paramesh.parallel.layouts.strategy import layout_of
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.base import Tensor, raw
from paramesh.tensor.trees import unpack

_KINDS = (
    "a device, a jax.sharding.Sharding, a PartitionSpec, a paramesh.parallel.Layout, or a tuple of "
    "ints: into how many shards each axis is split"
)


def as_layout(place: object, shape: Sequence[int], name: str = "") -> Any:
    """A NamedSharding or PartitionSpec as a Layout; anything else as it is.

    Args:
        place: what was given.
        shape: of the array, whose last axes a spec may leave out.
        name: the Parameter that a message speaks of.

    Raises:
        LayoutError: a spec without a mesh, more entries than axes, axes that the mesh does not
            have, or a sharding that is not made of named axes.
    """
    if isinstance(place, PartitionSpec):
        _check_entries(place, name)
        place = NamedSharding(_mesh(name), place)
    if not isinstance(place, NamedSharding):
        if isinstance(place, Sharding):
            raise LayoutError(
                f"{_subject(name)}a {type(place).__name__} is not a layout; expected a "
                "NamedSharding, a PartitionSpec, a Layout or a tuple of ints."
            )
        return place
    _check_entries(place.spec, name)
    spec = tuple(place.spec)
    if len(spec) > len(shape):
        raise LayoutError(
            f"{_subject(name)}{place.spec} has {len(spec)} entries, but the shape is "
            f"{tuple(shape)}."
        )
    ranks = {device: rank for rank, device in enumerate(all_devices())}
    devices = _devices(place.mesh, name)
    names = tuple(map(str, place.mesh.axis_names))
    if not names:
        raise LayoutError(f"{_subject(name)}{place} has a mesh without axes.")
    base = Layout(tuple(devices.shape), names, [ranks[device] for device in devices.flat])
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    return base(*("None" if entry is None else entry for entry in entries))


def _check_entries(spec: PartitionSpec, name: str) -> None:
    for entry in tuple(spec):
        if not (entry is None or isinstance(entry, str | tuple)):
            raise LayoutError(
                f"{_subject(name)}{spec} has the entry {entry!r}; expected names of axes, tuples "
                "of them, and None."
            )


def _devices(mesh: object, name: str) -> np.ndarray[Any, Any]:
    if not isinstance(mesh, Mesh):
        raise LayoutError(
            f"{_subject(name)}{mesh} has no devices. Give a NamedSharding over a jax.sharding.Mesh."
        )
    found: Any = mesh.devices
    return found


def _mesh(name: str) -> Mesh:
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        raise LayoutError(
            f"{_subject(name)}a PartitionSpec needs a mesh whose axes it names. Call "
            "jax.set_mesh(mesh) before, or give NamedSharding(mesh, spec)."
        )
    return mesh


def _subject(name: str) -> str:
    return f"Parameter '{name}': " if name else ""


def as_sharding(place: object, shape: Sequence[int], name: str = "") -> Sharding:
    """The sharding of an array of a shape, from everything that determines it.

    Raises:
        TypeError: `place` says no such thing.
        LayoutError: it does not fit the shape or the devices.
    """
    if isinstance(place, jax.Device):
        return SingleDeviceSharding(place)
    if isinstance(place, Sharding) and not isinstance(place, NamedSharding):
        return place
    sharding = place if isinstance(place, NamedSharding) else None
    try:
        layout = as_layout(place, shape, name)
        if isinstance(layout, tuple):
            layout = layout_of(layout, tuple(shape), len(all_devices()), name)
    except ValueError as error:
        if isinstance(error, LayoutError):
            raise
        raise LayoutError(f"{_subject(name)}{error}") from None
    if not isinstance(layout, Layout):
        raise TypeError(f"{_subject(name)}expected {_KINDS}; got {place!r}.")
    layout.slice_shape(shape, name)
    if sharding is not None:  # with its own mesh, and its kind of memory
        return _propagating(sharding)
    if isinstance(place, PartitionSpec):
        return _propagating(NamedSharding(_mesh(name), place))
    return layout.sharding(name=name)


def _propagating(sharding: NamedSharding) -> NamedSharding:
    """The same over a mesh of automatic axes: explicit ones would be part of every array's type.

    Operators of MindSpore say nothing of how their results are sharded, XLA finds it.
    """
    mesh = sharding.mesh
    if all(kind == AxisType.Auto for kind in mesh.axis_types):
        return sharding
    plain = Mesh(_devices(mesh, ""), mesh.axis_names)
    return NamedSharding(plain, sharding.spec, memory_kind=sharding.memory_kind)


def device_put(x: Tree, place: object) -> Any:
    """`jax.device_put` of Tensors: the same values, on other devices.

    Args:
        x: a Tensor, a Parameter, an array or a number, or containers of them. Of a Parameter its
            value is taken; `Parameter.to_device` moves the Parameter itself.
        place: a device, a `jax.sharding.Sharding`, a `PartitionSpec` (of the mesh of
            `jax.set_mesh`), a `parallel.Layout`, or a tuple of ints: into how many shards each axis
            is split. One for all.

    Returns:
        The same containers, with Tensors where there were Tensors and Parameters.

    Raises:
        TypeError: `place` is none of these.
        LayoutError: it does not fit a shape or the devices.
    """
    arrays, nest = unpack(x, "Tensor")
    return nest.build([jax.device_put(a, as_sharding(place, a.shape)) for a in arrays])


def move(param: Parameter, place: object) -> None:
    """Bring a Parameter to other devices; a recipe is run where its value belongs.

    Raises:
        ParameterStateError: in a program.
        TypeError, LayoutError: as `as_sharding`.
    """
    sharding = as_sharding(place, param.shape, param.name)
    if tracing.current() is not None:
        raise ParameterStateError(
            f"Parameter '{param.name}': a program cannot bring a Parameter to other devices. Do it "
            "before, or pin a value in the program with jax.lax.with_sharding_constraint."
        )
    recipe = param.recipe
    array = recipe.compute_sharded(sharding) if recipe else jax.device_put(raw(param), sharding)
    tracing.write(param, array)


def set_place(param: Parameter, place: Any) -> None:
    """What `Parameter.sharding = place` does.

    Raises:
        TypeError, LayoutError: as `as_sharding`.
    """
    if isinstance(place, jax.Device) or context.get_auto_parallel_context("parallel_mode") in (
        "stand_alone",
    ):
        move(param, place)
    else:
        param.layout = place


def sharding_of(param: Tensor) -> Sharding | None:
    """The sharding of a Tensor's array; of a Parameter without data, where its layout says; else
    None.

    In a program, the sharding of its type, if JAX knows one.
    """
    layout = param.layout if isinstance(param, Parameter) else None
    if param.recipe is not None:
        return None if layout is None else as_sharding(layout, param.shape)
    value = raw(param)
    found = getattr(value, "sharding", None)
    return found if isinstance(found, Sharding) else None
