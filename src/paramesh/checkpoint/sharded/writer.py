"""Writing sharded checkpoints: every process writes the shards of its own devices, once.

Every process computes the same plan first, without communication: a replicated shard is written by
the process of the lowest rank that has it. Then

    1   process 0 generates a token for this save, and every process writes its file, under a name
        with the token; an existing checkpoint in the folder is unchanged
    2   when all are done, process 0 renames the new index into place: this is the commit
    3   after it, process 0 removes the files that belong to no index, nor to a save that runs

So at every moment the folder has the old checkpoint or the new one, and a folder without an index
has none. The processes exchange their results (see `agreement.py`), and all of them raise if one
failed. The next save into the same folder removes the leftovers of a killed save.

Two programs may save into one folder at the same time: each commits a complete checkpoint, and the
last one stays. All processes have to share the folder. `source.py` describes its contents.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from paramesh.array_types import Array
from paramesh.checkpoint.formats import safetensors_file
from paramesh.checkpoint.formats.apart import Apart, IndexSlice, Joined
from paramesh.checkpoint.formats.boxes import Box, box_of, full_box, sizes
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.safetensors_file import SafetensorsSink
from paramesh.checkpoint.records import Records, host
from paramesh.checkpoint.removal import remove
from paramesh.checkpoint.sharded.agreement import Agreement
from paramesh.checkpoint.sharded.index import (
    index_bytes,
    part_name,
    remove_marks,
    remove_others,
)
from paramesh.checkpoint.sharded.source import INDEX, MARK, PART
from paramesh.checkpoint.staging import Staging
from paramesh.files.atomic import is_locked, write_atomically
from paramesh.parallel.layouts.mesh import all_devices
from paramesh.parallel.modes.parallel_optimizer import SplitState
from paramesh.parameter import Parameter
from paramesh.state import storage
from paramesh.tensor.base import Tensor, wrap


@dataclass(frozen=True)
class _Planned:
    """A slice: the process that writes it, its name and box, and its values (in that process).

    Args:
        ranks: of the devices that have it.
        values: reads the values; None in other processes.
        here: whether the values are in host memory.
    """

    process: int
    ranks: list[int]
    name: str
    box: Box
    flat: bool
    entry: Entry
    values: Callable[[], np.ndarray[Any, Any]] | None
    here: bool = False


@dataclass
class SavePlan:
    """What all processes will write.

    It references the arrays, so that the next step copies them instead of donating them.
    """

    entries: list[Entry] = field(default_factory=list)
    slices: list[list[_Planned]] = field(default_factory=list)
    appended: dict[str, Any] = field(default_factory=dict)
    pinned: list[Any] = field(default_factory=list)

    def pin(self, staging: Staging) -> None:
        """Copy the values of this process that are in host memory, and release their arrays."""
        mine = [
            (slices, i, one)
            for slices in self.slices
            for i, one in enumerate(slices)
            if one.here and one.values is not None
        ]
        copies = staging.copies([one.values() for _, _, one in mine if one.values is not None])
        for (slices, i, one), copy in zip(mine, copies, strict=True):
            slices[i] = replace(one, values=_constant(copy))
        self.pinned = [array for array in self.pinned if not _on_cpu(array)]


def plan_of(records: Records) -> SavePlan:
    """The plan of a save of the current values of these Tensors.

    Raises:
        ValueError: safetensors files do not support an element type.
    """
    plan = SavePlan(appended=dict(records.appended))
    tensors = records.tensors
    located = storage.still(list(tensors.values()), _located)  # all of the same step
    for (name, tensor), (array, first) in zip(tensors.items(), located, strict=True):
        entry = Entry.of(name, tensor.dtype, tensor.shape)
        why = safetensors_file.cannot_hold(entry.dtype)
        if why is not None:
            raise ValueError(f"Cannot save '{name}': {why}.")
        slices = _slices(entry, array) if first is None else _flat_slices(entry, array, first)
        plan.entries.append(entry)
        plan.slices.append(slices)
        plan.pinned.append(array)
    return plan


def _located(tensor: Tensor) -> tuple[Any, int | None]:
    """The array with a Tensor's values, and its start in a pool's array (None: all of it)."""
    slot = tensor._slot if isinstance(tensor, Parameter) else None
    if slot is not None and isinstance(slot.pool, SplitState):
        located = slot.pool.located(slot.at)
        if located is not None:
            return located
    return tensor._get(), None


def _slices(entry: Entry, array: Array) -> list[_Planned]:
    if not isinstance(array, jax.Array) or array.is_fully_replicated:
        return [_one_slice(entry, array)]
    if array.is_fully_addressable and jax.process_count() > 1:
        return [_one_slice(entry, array)]  # each process has its own copy
    holders: dict[Box, list[Any]] = {}
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        holders.setdefault(box_of(index, array.shape), []).append(device)
    here = {shard.device: shard.data for shard in array.addressable_shards}
    return [
        _planned(entry, i, devices, box, False, here)
        for i, (box, devices) in enumerate(holders.items())
    ]


def _one_slice(entry: Entry, array: Array) -> _Planned:
    """A single slice with the full array, which process 0 writes."""
    mine = jax.process_index() == 0
    part = Entry.of(f"{entry.name}/0", entry.dtype, entry.shape)
    devices = list(array.sharding.device_set) if isinstance(array, jax.Array) else []
    return _Planned(
        0,
        _ranks(devices, everywhere=True),
        part.name,
        full_box(entry.shape),
        False,
        part,
        _reader(array) if mine else None,
        _on_cpu(array),
    )


def _flat_slices(entry: Entry, array: Array, first: int) -> list[_Planned]:
    """The slices of an entry of sharded optimizer state that begins at `first` in the array."""
    found: list[_Planned] = []
    here = {shard.device: shard.data for shard in array.addressable_shards}
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        start, stop, _ = index[0].indices(array.shape[0])
        low, high = max(start, first), min(stop, first + entry.size)
        if low < high or (not entry.size and not found):
            high = max(low, high)
            box = ((low - first, high - first),) if entry.size else ((0, 0),)
            part = (low - start, high - start)
            found.append(_planned(entry, len(found), [device], box, True, here, part))
    return found


def _planned(
    entry: Entry,
    i: int,
    devices: list[Any],
    box: Box,
    flat: bool,
    here: dict[Any, Any],
    part: tuple[int, int] | None = None,
) -> _Planned:
    """A slice; of the devices that have it, the one of the lowest rank writes it."""
    writer = min(devices, key=_rank)
    about = Entry.of(f"{entry.name}/{i}", entry.dtype, sizes(box))
    data = here.get(writer)
    return _Planned(
        writer.process_index,
        _ranks(devices),
        about.name,
        box,
        flat,
        about,
        _reader(data, part),
        _on_cpu(data),
    )


def _rank(device: Any) -> tuple[int, int]:
    return device.process_index, device.id


def _ranks(devices: list[Any], everywhere: bool = False) -> list[int]:
    """The ranks of devices.

    Args:
        devices: of at least one process.
        everywhere: if they all belong to one process, whether other processes have the same values
            on their devices.
    """
    known = all_devices()
    if everywhere and len({device.process_index for device in devices}) == 1:
        mine = [d for d in known if d.process_index == devices[0].process_index]
        places = {mine.index(device) for device in devices}
        by_process: dict[int, list[int]] = {}
        for rank, device in enumerate(known):
            by_process.setdefault(device.process_index, []).append(rank)
        return [r for ranks in by_process.values() for i, r in enumerate(ranks) if i in places]
    return sorted(known.index(device) for device in devices)


def _reader(data: Any, part: tuple[int, int] | None = None) -> Any:
    """A function that copies values to the host, to be called when they are written."""
    if data is None:
        return None
    return lambda: host(wrap(data)) if part is None else host(wrap(data))[slice(*part)]


def _constant(array: np.ndarray[Any, Any]) -> Callable[[], np.ndarray[Any, Any]]:
    return lambda: array


def _on_cpu(array: object) -> bool:
    return isinstance(array, jax.Array) and all(
        d.platform == "cpu" for d in array.sharding.device_set
    )


def write(
    save: Agreement,
    plan: SavePlan,
    checksums: bool,
    apart: Apart | None = None,
    error: BaseException | None = None,
) -> None:
    """Write a checkpoint; every process calls it.

    Args:
        save: the agreement of the processes.
        plan: what they write.
        checksums: store checksums.
        apart: what others write, which has begun.
        error: why this process has failed before.

    Raises:
        CheckpointError: another process could not write.
        OSError: from the file system; an existing checkpoint is unchanged.
    """
    path, mine = save.path, save.process
    files = _files(plan, save.token)
    own = path / files[mine] if mine in files else None
    try:
        if own is not None and error is None:
            _write_part(own, plan, mine, checksums)
    except BaseException as raised:  # others wait for this process, even at Ctrl-C
        error = raised

    def commit() -> None:
        if apart is None:
            write_atomically(path / INDEX, _index(plan, files))
        else:
            apart.commit(lambda joined: _index(plan, files, joined))

    try:
        save.conclude(error, own, commit, path / INDEX)
    except BaseException:
        if apart is not None:
            apart.give_up()
            if save.new:
                with contextlib.suppress(OSError):
                    path.rmdir()
        raise
    if mine == 0:
        if apart is None:
            remove_others(path, save.token)
        else:
            remove_marks(path, save.token)


def _files(plan: SavePlan, token: str) -> dict[int, str]:
    """The names of the files by their processes."""
    writers = sorted({one.process for slices in plan.slices for one in slices})
    return {process: part_name(token, process) for process in writers}


def _index(plan: SavePlan, files: dict[int, str], joined: Joined | None = None) -> bytes:
    """The index; `joined`: what others have written."""
    at = {process: i for i, process in enumerate(files)}
    arrays = (
        (
            entry,
            [IndexSlice(at[one.process], one.name, one.box, one.flat, one.ranks) for one in slices],
        )
        for entry, slices in zip(plan.entries, plan.slices, strict=True)
    )
    devices = [device.process_index for device in all_devices()]
    names = list(files.values())
    if joined is None:
        return index_bytes(names, arrays, plan.appended, {}, devices)
    theirs = (
        (entry, [one._replace(file=one.file + len(names)) for one in slices])
        for entry, slices in joined.arrays
    )
    return index_bytes(
        [*names, *joined.files],
        [*arrays, *theirs],
        plan.appended | dict(joined.texts),
        joined.metadata,
        devices,
        joined.served,
    )


def _write_part(path: Path, plan: SavePlan, process: int, checksums: bool) -> None:
    mine = [one for slices in plan.slices for one in slices if one.process == process]
    with SafetensorsSink(path, [one.entry for one in mine], {}, {}, checksums) as sink:
        for one in mine:
            assert one.values is not None
            sink.write(one.name, one.values())


def remove_unfinished(path: Path) -> None:
    """Remove the folder of a save that was killed before its commit, and nothing else."""
    names = [place.name for place in path.iterdir()]
    ours = all(
        PART.fullmatch(name) or name.startswith((MARK, ".part-", f".{MARK}")) for name in names
    )
    if (
        names
        and ours
        and not any(is_locked(path / name) for name in names if name.startswith(MARK))
    ):
        remove(path)


def check_target(path: Path) -> None:
    """Check that a checkpoint can be written there, before anything is written.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is a file.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"save_checkpoint: there is no folder '{path.parent}' for '{path.name}'; create it "
            "first."
        )
    if path.exists() and not path.is_dir():
        raise FileExistsError(
            f"save_checkpoint: '{path}' is a file, but a sharded checkpoint is a folder. Choose "
            "another name, or remove the file."
        )
