"""The mesh: all devices of all processes, in an order that every layout agrees on.

Glossary
    rank            a device's place in the list of all devices: by process, then by device id
    device matrix   the ranks, arranged in rows: sizes of its axes, the last one fastest
    boundary        how many ranks one step along an axis of a device matrix passes over, and the
                    number of all ranks: (2, 4) has the boundaries 1, 4 and 8
    factor axes     the axes d0, d1, … of a mesh, split so fine that each axis of a device matrix is
                    some of them, side by side

XLA wants all arrays of one program on the same devices in the same order. So there is one list of
devices, and a layout is a way of grouping it. With a power of two of devices, the factor axes are
all of size 2 and every device matrix is a grouping of them. With 12 devices, (3, 4) and (4, 3) have
boundaries 4 and 3, of which none divides the other: one mesh cannot show both. A layout that a mesh
cannot show gets a mesh of its own over the same list (see `Layout.sharding`), and XLA takes both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from paramesh.errors import LayoutError


def all_devices() -> tuple[Any, ...]:
    """The devices of all processes of the default backend, by rank."""
    return tuple(sorted(jax.devices(), key=lambda d: (d.process_index, d.id)))


def prime_factors(number: int) -> tuple[int, ...]:
    """The prime factors of a positive number, the largest first; () for 1."""
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    if number > 1:
        found.append(number)
    return tuple(reversed(found))


def boundaries(matrix: Sequence[int]) -> tuple[int, ...]:
    """The boundaries of a device matrix in rising order, each once: (2, 1, 4) -> (1, 4, 8)."""
    found = {1}
    for axis in range(len(matrix)):
        found.add(math.prod(matrix[axis:]))
    return tuple(sorted(found))


def factor_sizes(device_num: int, matrices: Iterable[Sequence[int]] = ()) -> tuple[int, ...]:
    """Sizes of the factor axes of `device_num` devices.

    They are primes. Where `matrices` leave a choice, larger primes come first: 12 gives (3, 2, 2),
    so that groups of 2 and 4 neighbouring devices can be named.

    Args:
        device_num: how many devices.
        matrices: device matrices which the mesh is to show, each of `device_num` devices.

    Raises:
        LayoutError: a matrix is of another number of devices, or no single mesh shows them all.
    """
    if device_num < 1:
        raise LayoutError(f"A mesh needs at least one device, got device_num={device_num}.")
    wanted: dict[int, tuple[int, ...]] = {1: (), device_num: ()}
    for matrix in matrices:
        if math.prod(matrix) != device_num:
            raise LayoutError(
                f"The device matrix {tuple(matrix)} is for {math.prod(matrix)} devices, but the "
                f"mesh has {device_num}."
            )
        for boundary in boundaries(matrix):
            wanted.setdefault(boundary, tuple(matrix))
    chain = sorted(wanted)
    sizes: list[int] = []
    for low, high in itertools.pairwise(chain):
        if high % low:
            raise LayoutError(
                f"No single mesh of {device_num} devices shows the device matrices {wanted[low]} "
                f"and {wanted[high]}: one groups {low} neighbouring devices, the other {high}, and "
                f"{low} does not divide {high}. Give each its own mesh, or use matrices that "
                "refine each other."
            )
        sizes[:0] = prime_factors(high // low)
    return tuple(sizes) or (1,)


def device_mesh(
    devices: Sequence[Any] | None = None, matrices: Iterable[Sequence[int]] = ()
) -> Mesh:
    """One mesh over the devices, with factor axes named d0, d1, …

    Args:
        devices: by rank; None for `all_devices()`.
        matrices: device matrices which the mesh is to show (see `factor_sizes`).

    Raises:
        LayoutError: as `factor_sizes`.
    """
    devices = all_devices() if devices is None else devices
    sizes = factor_sizes(len(devices), matrices)
    return Mesh(in_rows(devices, sizes), tuple(f"d{axis}" for axis in range(len(sizes))))


def in_rows(devices: Sequence[Any], sizes: Sequence[int]) -> np.ndarray[Any, Any]:
    """An object array of devices, the last axis fastest."""
    array = np.empty(len(devices), dtype=object)
    array[:] = devices
    return array.reshape(tuple(sizes))


def grouping(sizes: Sequence[int], matrix: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
    """Which axes of a mesh, side by side, make each axis of a device matrix.

    An axis of size 1 is made of none. (2, 2, 2) shows (2, 1, 4) as ((0,), (), (1, 2)).

    Args:
        sizes: of the mesh.
        matrix: of as many devices.

    Returns:
        Indices of mesh axes for each axis of the matrix, or None if this mesh cannot show it.
    """
    if math.prod(sizes) != math.prod(matrix):
        return None
    groups: list[tuple[int, ...]] = []
    axis = len(sizes)
    for size in reversed(matrix):
        group: tuple[int, ...] = ()
        while size > 1:
            axis -= 1
            if size % sizes[axis]:
                return None
            if sizes[axis] > 1:
                group = (axis, *group)
            size //= sizes[axis]
        groups.append(group)
    return tuple(reversed(groups))
