"""Layout: how an array is sharded over named axes of devices, and which rank holds which slice.

Glossary
    device matrix   the devices in rows, each axis with a size and a name (an alias); the last axis
                    is the fastest, so (2, 4) puts ranks 0 to 3 into the first row
    rank list       the ranks in the order of the device matrix; without it 0, 1, 2, …
    tensor map      for each axis of the array, the axis of the device matrix that shards it,
                    counted from the last (0 is the last); -1 for none, a tuple for several, the
                    slowest first
    shard           one of the equal slices that an array is split into
    replicas        how many devices hold the same shard
    placement       what is left of a layout when names are forgotten: rank -> shard

A layout knows nothing of arrays: it is a plain value, equal to any other with the same matrix,
names, ranks and map. It needs no device until `sharding` asks for some.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.dtype import DType
from paramesh.errors import LayoutError
from paramesh.parallel.layouts.mesh import all_devices, grouping, in_rows

Index = tuple[slice, ...]
MapEntry = int | tuple[int, ...]

_NONE = "None"
_INTERLEAVED = "interleaved_parallel"


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Layout:
    """Named axes of devices; called with axes, how an array is placed on them.

    As in MindSpore: `layout = Layout((2, 2, 2), ("dp", "sp", "mp"))` names the axes of 8 devices,
    and `layout("dp", "mp")` shards axis 0 of an array over "dp" and axis 1 over "mp";
    `layout(("dp", "sp"), "None")` shards axis 0 over both and axis 1 not at all.

    Attributes:
        device_matrix: sizes of the axes of devices.
        alias_name: their names.
        tensor_map: see the glossary above; () until axes are given.
        rank_list: the ranks in the order of the device matrix.

    Args:
        device_matrix: a tuple of positive ints.
        alias_name: a tuple of as many different names; "None" is not allowed. MindSpore's
            "interleaved_parallel", which must be the last, is not an axis of devices: there it
            shards what one device has once more, so that computing and sending overlap. Here it is
            left out, wherever it stands in a layout: XLA schedules.
        rank_list: as many different ranks as there are devices; None for 0, 1, 2, …

    Raises:
        TypeError: an argument is of another type, or holds one.
        LayoutError: lengths, sizes, names or ranks that contradict each other.
    """

    device_matrix: tuple[int, ...]
    alias_name: tuple[str, ...]
    tensor_map: tuple[MapEntry, ...]
    rank_list: tuple[int, ...]

    def __init__(
        self,
        device_matrix: tuple[int, ...],
        alias_name: tuple[str, ...],
        rank_list: list[int] | tuple[int, ...] | None = None,
    ) -> None:
        _check_types(device_matrix, alias_name, rank_list)
        matrix = tuple(_integer(size, "device_matrix") for size in device_matrix)
        matrix, alias_name = _without_interleaving(matrix, alias_name)
        _check_axes(matrix, alias_name)
        count = math.prod(matrix)
        ranks = range(count) if rank_list is None else rank_list
        ranks = tuple(_integer(rank, "rank_list") for rank in ranks)
        if len(ranks) != count or len(set(ranks)) != count or min(ranks) < 0:
            raise LayoutError(
                f"Layout: rank_list must hold {count} different ranks, one for each device of "
                f"{matrix}, got {rank_list}."
            )
        self._set(matrix, alias_name, (), ranks)

    def _set(self, *values: object) -> None:
        for field, value in zip(dataclasses.fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)

    def _with_map(self, tensor_map: tuple[MapEntry, ...]) -> Self:
        made = object.__new__(type(self))
        made._set(self.device_matrix, self.alias_name, tensor_map, self.rank_list)
        return made

    def __call__(self, *axes: object) -> Self:
        """The layout of an array: for each of its axes a name, "None", or a tuple of names.

        Several names shard one axis over all of them, the first in the largest steps.

        Raises:
            TypeError: an entry is neither str nor tuple of str.
            LayoutError: a name that is not an axis of the devices, or that is used twice.
        """
        used: dict[str, int] = {}
        tensor_map: list[MapEntry] = []
        for at, entry in enumerate(axes):
            names = entry if isinstance(entry, tuple) else (entry,)
            found: list[int] = []
            for name in names:
                if name == _INTERLEAVED and isinstance(entry, tuple) and len(entry) > 1:
                    continue
                if name is None or name in (_NONE, _INTERLEAVED):
                    found.append(-1)
                    continue
                if not isinstance(name, str):
                    raise TypeError(
                        f"{self!r}: axis {at} of the array must be given as a name, 'None' or a "
                        f"tuple of names, got {entry!r}."
                    )
                if name not in self.alias_name:
                    raise LayoutError(
                        f"{self!r}: {name!r} (axis {at} of the array) is not an axis of the "
                        f"devices; these are {', '.join(self.alias_name)}."
                    )
                if name in used:
                    raise LayoutError(
                        f"{self!r}: {name!r} cannot shard both axis {used[name]} and axis {at} of "
                        "the array; each axis of the devices shards one axis of it, once."
                    )
                used[name] = at
                found.append(len(self.alias_name) - 1 - self.alias_name.index(name))
            tensor_map.append(tuple(found) if isinstance(entry, tuple) else found[0])
        return self._with_map(tuple(tensor_map))

    # Other forms of the same.

    @classmethod
    def from_tensor_map(
        cls,
        device_matrix: Sequence[int],
        tensor_map: Sequence[int | Sequence[int]],
        rank_list: Sequence[int] | None = None,
        alias_name: Sequence[str] | None = None,
        name: str = "",
    ) -> Self:
        """The layout with this tensor map; without `alias_name` the axes are d0, d1, …

        Raises:
            TypeError: as `Layout`, or a map that holds no ints.
            LayoutError: as `Layout`; a map entry that is not an axis, or an axis that is used
                twice. `name` is the Parameter that the message speaks of.
        """
        alias = tuple(alias_name or (f"d{axis}" for axis in range(len(device_matrix))))
        base = cls(tuple(device_matrix), alias, None if rank_list is None else list(rank_list))
        entries: list[MapEntry] = []
        used: set[int] = set()
        for entry in tensor_map:
            several = isinstance(entry, Sequence)
            found = [_integer(axis, "tensor_map") for axis in (entry if several else (entry,))]
            for axis in found:
                if not -1 <= axis < len(alias) or axis in used:
                    why = "used twice" if axis in used else f"no axis of {base.device_matrix}"
                    raise LayoutError(
                        f"{subject(name)}tensor map {tuple(tensor_map)}: entry {axis} is {why}. "
                        "Entries count the axes of the device matrix from the last, which is 0."
                    )
                used |= {axis} - {-1}
            entries.append(tuple(found) if several else found[0])
        return base._with_map(tuple(entries))

    def to_dict(self) -> dict[str, Any]:
        """The layout as MindSpore's `Layout.to_dict()` gives it."""
        return {
            "device_matrix": self.device_matrix,
            "tensor_map": self.tensor_map,
            "interleaved_parallel": False,
            "alias_name": self.alias_name,
            "rank_list": list(self.rank_list),
        }

    @classmethod
    def from_dict(cls, layout: Mapping[str, Any], name: str = "") -> Self:
        """The layout that `to_dict` gave; lists do for tuples.

        Raises:
            LayoutError: an entry is missing or contradicts the others.
            TypeError: an entry is of another type.
        """
        missing = [key for key in ("device_matrix", "tensor_map") if key not in layout]
        if missing:
            raise LayoutError(f"{subject(name)}a layout needs {' and '.join(missing)}.")
        return cls.from_tensor_map(
            layout["device_matrix"],
            layout["tensor_map"],
            layout.get("rank_list"),
            layout.get("alias_name"),
            name,
        )

    # What it says of an array.

    @property
    def device_num(self) -> int:
        """How many devices the layout is for."""
        return math.prod(self.device_matrix)

    @property
    def in_order(self) -> bool:
        """Whether the ranks are 0, 1, 2, …"""
        return self.rank_list == tuple(range(self.device_num))

    @property
    def cuts(self) -> tuple[tuple[int, ...], ...]:
        """For each axis of the array the axes of devices that shard it, counted from the first.

        Axes of size 1 are left out.
        """
        last = len(self.device_matrix) - 1
        found = []
        for entry in self.tensor_map:
            axes = (last - e for e in (entry if isinstance(entry, tuple) else (entry,)) if e >= 0)
            found.append(tuple(axis for axis in axes if self.device_matrix[axis] > 1))
        return tuple(found)

    @property
    def parts(self) -> tuple[int, ...]:
        """How many shards each axis of the array is split into."""
        return tuple(math.prod(self.device_matrix[a] for a in axes) for axes in self.cuts)

    def replicas(self) -> int:
        """How many devices hold each shard."""
        return self.device_num // math.prod(self.parts)

    def slice_shape(self, shape: Sequence[int], name: str = "") -> tuple[int, ...]:
        """The shape of one shard of an array of `shape`.

        Raises:
            LayoutError: another number of axes, or an axis that cannot be split into equal shards.
                `name` is the Parameter that the message speaks of.
        """
        shape = tuple(operator.index(n) for n in shape)
        if len(shape) != len(self.tensor_map):
            hint = ". Call it with a name or 'None' for each axis" if not self.tensor_map else ""
            raise LayoutError(
                f"{subject(name)}{self!r} is for arrays of {len(self.tensor_map)} axes, but the "
                f"shape is {shape}{hint}."
            )
        for axis, (size, shards) in enumerate(zip(shape, self.parts, strict=True)):
            if size % shards:
                factors = " x ".join(
                    f"{self.alias_name[a]}={self.device_matrix[a]}" for a in self.cuts[axis]
                )
                raise LayoutError(
                    f"{subject(name)}axis {axis} of shape {shape} has size {size}, which cannot "
                    f"be split into {shards} equal shards ({factors} of {self!r})."
                )
        return tuple(n // shards for n, shards in zip(shape, self.parts, strict=True))

    @functools.cached_property
    def _places(self) -> dict[int, tuple[int, ...]]:
        """Rank -> which shard it holds along each axis of the array."""
        at = np.indices(self.device_matrix).reshape(len(self.device_matrix), -1)
        columns = []
        for axes in self.cuts:
            column = np.zeros(self.device_num, np.int64)
            for axis in axes:
                column = column * self.device_matrix[axis] + at[axis]
            columns.append(column.tolist())
        rows = list(zip(*columns, strict=True)) if columns else [()] * self.device_num
        return dict(zip(self.rank_list, rows, strict=True))

    def slice_index(self, shape: Sequence[int], rank: int, name: str = "") -> Index:
        """The slice of an array of `shape` that `rank` holds.

        Raises:
            LayoutError: as `slice_shape`, or a rank that the layout has not.
        """
        slice_shape = self.slice_shape(shape, name)
        if rank not in self._places:
            self._no_rank(rank, name)
        return tuple(
            slice(i * n, (i + 1) * n) for i, n in zip(self._places[rank], slice_shape, strict=True)
        )

    def _no_rank(self, rank: object, name: str) -> NoReturn:
        ranks = f"0 to {self.device_num - 1}" if self.in_order else str(list(self.rank_list))
        raise LayoutError(f"{subject(name)}{self!r} has the ranks {ranks}, but not {rank!r}.")

    def shards(self, shape: Sequence[int], name: str = "") -> dict[int, Index]:
        """Rank -> the slice that it holds, in the order of the device matrix.

        Raises:
            LayoutError: as `slice_shape`.
        """
        return {rank: self.slice_index(shape, rank, name) for rank in self.rank_list}

    def same_placement(self, other: Layout) -> bool:
        """Whether every rank holds the same shard under both, however they are written."""
        return self.parts == other.parts and self._places == other._places

    # What JAX makes of it.

    def partition_spec(self) -> PartitionSpec:
        """The spec over a mesh whose axes are `alias_name`, one entry for each axis."""
        return _spec(self.cuts, [(alias,) for alias in self.alias_name])

    def mesh(self, devices: Sequence[Any] | None = None, name: str = "") -> Mesh:
        """A mesh of the device matrix, its axes named by `alias_name`.

        Args:
            devices: by rank; None for all devices of all processes.
            name: the Parameter that a message speaks of.

        Raises:
            LayoutError: the layout is for another number of devices, or has other ranks.
        """
        devices = all_devices() if devices is None else devices
        self._check_devices(len(devices), name)
        return Mesh(
            in_rows([devices[rank] for rank in self.rank_list], self.device_matrix),
            self.alias_name,
        )

    def _check_devices(self, count: int, name: str) -> None:
        if self.device_num != count:
            raise LayoutError(
                f"{subject(name)}{self!r} is for {self.device_num} devices, but there are "
                f"{count}. The sizes of a device matrix multiply to the number of devices; "
                "an axis that no array names holds replicas."
            )
        if not self.in_order and set(self.rank_list) != set(range(count)):
            self._no_rank(min(set(range(count)) - set(self.rank_list)), name)

    def sharding(
        self,
        devices: Mesh | Sequence[Any] | None = None,
        name: str = "",
        memory_kind: str | None = None,
    ) -> NamedSharding:
        """The JAX sharding of arrays with this layout.

        Args:
            devices: a mesh (its devices, row by row, are the ranks), devices by rank, or None for
                all devices of all processes. Where the mesh can show this layout the sharding
                names the mesh's axes, so that all layouts of a program share one mesh. Where it
                cannot, the layout gets a mesh of its own over the same devices.
            name: the Parameter that a message speaks of.
            memory_kind: as in `jax.sharding.NamedSharding`.

        Raises:
            LayoutError: the layout is for other devices.
        """
        if isinstance(devices, Mesh):
            self._check_devices(devices.size, name)
            mesh, spec = _over_mesh(self, devices)
        else:
            mesh, spec = self.mesh(devices, name), self.partition_spec()
        return NamedSharding(mesh, spec, memory_kind=memory_kind)

    def __repr__(self) -> str:
        ranks = "" if self.in_order else f", rank_list={list(self.rank_list)}"
        text = f"Layout({self.device_matrix}, {self.alias_name}{ranks})"
        return text + (f"({', '.join(map(repr, self.axes))})" if self.tensor_map else "")

    @property
    def axes(self) -> tuple[str | tuple[str, ...], ...]:
        """What the layout was called with: for each axis of the array a name, "None" or names."""
        last = len(self.alias_name) - 1

        def named(entry: int) -> str:
            return _NONE if entry < 0 else self.alias_name[last - entry]

        return tuple(
            tuple(map(named, entry)) if isinstance(entry, tuple) else named(entry)
            for entry in self.tensor_map
        )


class Placed(NamedTuple):
    """A Parameter as tables and files of layouts see it.

    Attributes:
        shape: of the full array; None where a file does not say.
        dtype: element type; None where a file does not say.
        layout: None for a Parameter that is replicated.
    """

    shape: tuple[int, ...] | None
    dtype: DType | None
    layout: Layout | None


def replicated(ndim: int, device_num: int) -> Layout:
    """The layout of a replicated array of `ndim` axes."""
    return Layout((device_num,), ("replica",))(*[_NONE] * ndim)


# A network has many Parameters and few layouts, and each Mesh costs an array of all devices.
@functools.lru_cache(maxsize=1024)
def _over_mesh(layout: Layout, mesh: Mesh) -> tuple[Mesh, PartitionSpec]:
    """The mesh and spec that show a layout: of this mesh where it can, else of one of its own."""
    groups = grouping(mesh.devices.shape, layout.device_matrix) if layout.in_order else None
    if groups is None:
        return layout.mesh(mesh.devices.ravel().tolist()), layout.partition_spec()
    names = [tuple(mesh.axis_names[axis] for axis in group) for group in groups]
    return mesh, _spec(layout.cuts, names)


def _spec(cuts: Iterable[tuple[int, ...]], names: Sequence[tuple[str, ...]]) -> PartitionSpec:
    entries: list[Any] = []
    for axes in cuts:
        joined = tuple(name for axis in axes for name in names[axis])
        entries.append(None if not joined else joined[0] if len(joined) == 1 else joined)
    return PartitionSpec(*entries)


def subject(name: str) -> str:
    """The start of a message about a Parameter; empty without a name."""
    return f"Parameter '{name}': " if name else ""


def _integer(value: Any, what: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"Layout: {what} must hold ints, got {value!r}.")
    return operator.index(value)


def _check_types(device_matrix: object, alias_name: object, rank_list: object) -> None:
    for what, value in (("device_matrix", device_matrix), ("alias_name", alias_name)):
        if not isinstance(value, tuple):
            raise TypeError(
                f"Layout: {what} must be a tuple, got {type(value).__name__} ({value!r})."
            )
    if rank_list is not None and not isinstance(rank_list, list | tuple):
        raise TypeError(
            f"Layout: rank_list must be a list of ranks or None, got {type(rank_list).__name__} "
            f"({rank_list!r})."
        )


def _without_interleaving(
    matrix: tuple[int, ...], alias_name: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if _INTERLEAVED not in alias_name or len(matrix) != len(alias_name):
        return matrix, alias_name
    if alias_name[-1] != _INTERLEAVED or alias_name.count(_INTERLEAVED) > 1:
        raise LayoutError(
            f"Layout: {_INTERLEAVED!r} must be the last name in alias_name, got {alias_name}."
        )
    if len(matrix) == 1:
        raise LayoutError(f"Layout: {_INTERLEAVED!r} needs an axis of devices before it.")
    return matrix[:-1], alias_name[:-1]


def _check_axes(matrix: tuple[int, ...], alias_name: tuple[Any, ...]) -> None:
    if not matrix or len(matrix) != len(alias_name):
        raise LayoutError(
            f"Layout: needs at least one axis of devices, and a name for each: got {len(matrix)} "
            f"sizes {matrix} and {len(alias_name)} names {alias_name}."
        )
    for size, alias in zip(matrix, alias_name, strict=True):
        if not isinstance(alias, str):
            raise TypeError(f"Layout: alias_name must hold str, got {alias!r}.")
        if not alias or alias == _NONE or alias_name.count(alias) > 1:
            raise LayoutError(
                f"Layout: the axes {alias_name} need names that differ, are not empty, and are "
                "not 'None', which means that an axis is not sharded."
            )
        if size < 1:
            raise LayoutError(f"Layout: axis {alias!r} of the device matrix {matrix} has {size}.")
