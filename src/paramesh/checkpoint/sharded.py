"""Sharded checkpoints, to write: every process writes what its own devices hold, once.

What to write is planned first, by every process alike and without asking the others: a slice that
several devices hold is written by the process of the lowest rank among them. Then

    1   process 0 draws a token for this save, and every process writes its file, under a name with
        the token; an old checkpoint in the folder is not touched
    2   when all have, process 0 renames the new index into place: this is the commit
    3   when it has, it removes the files that belong to no index

So the folder has the old checkpoint or the new one at every instant, and one that has no index has
none. Processes tell each other after 1 and 2 whether they succeeded, and all of them raise if one
did not. What a killed save leaves is removed by the next one into the same folder.

All processes have to see the same folder. `sharded_source.py` says what is in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from paramesh.atomic import directory_to_disk, write_atomically
from paramesh.checkpoint import safetensors_file
from paramesh.checkpoint.boxes import Box, box_of, full_box, sizes
from paramesh.checkpoint.records import Records, host
from paramesh.checkpoint.safetensors_file import SafetensorsSink
from paramesh.checkpoint.sharded_index import index_bytes, new_token, part_name, remove_others
from paramesh.checkpoint.sharded_source import INDEX
from paramesh.checkpoint.storage import Entry
from paramesh.errors import CheckpointError
from paramesh.parallel.split_state import SplitState
from paramesh.parameter import Parameter
from paramesh.tensor import wrap


@dataclass(frozen=True)
class _Planned:
    """A slice: who writes it, its name and place, and how to get its values (of one's own)."""

    process: int
    name: str
    box: Box
    flat: bool
    entry: Entry
    values: Callable[[], np.ndarray[Any, Any]] | None


@dataclass
class Plan:
    """What all processes are going to write.

    It keeps the arrays, so that later steps leave them alone.
    """

    entries: list[Entry] = field(default_factory=list)
    slices: list[list[_Planned]] = field(default_factory=list)
    appended: dict[str, Any] = field(default_factory=dict)
    held: list[Any] = field(default_factory=list)


def plan_of(records: Records) -> Plan:
    """Plan a save of these Tensors, as they are now.

    Raises:
        ValueError: safetensors files have no such elements.
    """
    plan = Plan(appended=dict(records.appended))
    for name, tensor in records.tensors.items():
        entry = Entry.of(name, tensor.dtype, tensor.shape)
        why = safetensors_file.cannot_hold(entry.dtype)
        if why is not None:
            raise ValueError(f"Cannot save '{name}': {why}.")
        slot = tensor._slot if isinstance(tensor, Parameter) else None
        located = None
        if slot is not None and isinstance(slot.pool, SplitState):
            located = slot.pool.located(slot.at)
        if located is not None:
            array, first = located
            slices = _flat_slices(entry, array, first)
        else:
            array = tensor._get()
            slices = _slices(entry, array)
        plan.entries.append(entry)
        plan.slices.append(slices)
        plan.held.append(array)
    return plan


def _slices(entry: Entry, array: Any) -> list[_Planned]:
    if not isinstance(array, jax.Array) or array.is_fully_replicated:
        return [_whole(entry, array)]
    if array.is_fully_addressable and jax.process_count() > 1:
        return [_whole(entry, array)]  # each process has one of its own
    owners: dict[Box, Any] = {}
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        box = box_of(index, array.shape)
        before = owners.get(box)
        if before is None or _rank(device) < _rank(before):
            owners[box] = device
    here = {shard.device: shard.data for shard in array.addressable_shards}
    return [
        _planned(entry, i, device, box, False, _reader(here.get(device)))
        for i, (box, device) in enumerate(owners.items())
    ]


def _whole(entry: Entry, array: Any) -> _Planned:
    """All of an array that process 0 has."""
    mine = jax.process_index() == 0
    values = _reader(array) if mine else None
    part = Entry.of(f"{entry.name}/0", entry.dtype, entry.shape)
    return _Planned(0, part.name, full_box(entry.shape), False, part, values)


def _flat_slices(entry: Entry, array: Any, first: int) -> list[_Planned]:
    """The parts of a member of divided optimizer state that begins at `first` in the array."""
    found: list[_Planned] = []
    here = {shard.device: shard.data for shard in array.addressable_shards}
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        start, stop, _ = index[0].indices(array.shape[0])
        low, high = max(start, first), min(stop, first + entry.size)
        if low < high or (not entry.size and not found):
            high = max(low, high)
            box = ((low - first, high - first),) if entry.size else ((0, 0),)
            values = _reader(here.get(device), (low - start, high - start))
            found.append(_planned(entry, len(found), device, box, True, values))
    return found


def _planned(entry: Entry, i: int, device: Any, box: Box, flat: bool, values: Any) -> _Planned:
    part = Entry.of(f"{entry.name}/{i}", entry.dtype, sizes(box))
    return _Planned(device.process_index, part.name, box, flat, part, values)


def _rank(device: Any) -> tuple[int, int]:
    return device.process_index, device.id


def _reader(data: Any, part: tuple[int, int] | None = None) -> Any:
    """What brings values to the host when they are to be written, and not before."""
    if data is None:
        return None
    return lambda: host(wrap(data)) if part is None else host(wrap(data))[slice(*part)]


def write(path: Path, plan: Plan, checksums: bool) -> None:
    """Write a checkpoint; every process calls it, in the same order.

    Raises:
        CheckpointError: another process could not write.
        OSError: from the file system; what was in the folder is untouched.
    """
    new = not path.exists()  # as process 0 sees it, since others make it when they have the token
    token = _token()
    index, files = _index(plan, token)
    mine = jax.process_index()
    own = path / files[mine] if mine in files else None
    error: Exception | None = None
    try:
        if not path.is_dir():
            path.mkdir(exist_ok=True)
            directory_to_disk(path.parent)
        if own is not None:
            _write_part(own, plan, mine, checksums)
    except Exception as raised:
        error = raised
    _agree(path, error, own, new)
    try:
        if mine == 0:
            missing = [name for name in files.values() if not (path / name).is_file()]
            if missing:
                raise CheckpointError(
                    f"Process 0 does not see {', '.join(missing)} in '{path}', which other "
                    "processes wrote: save into a folder that all processes share."
                )
            write_atomically(path / INDEX, index)
    except Exception as raised:
        error = raised
    _agree(path, error, own, new)
    if mine == 0:
        remove_others(path, files.values())


def _token() -> str:
    drawn = np.frombuffer(new_token(), np.uint8)
    if jax.process_count() > 1:
        drawn = np.asarray(multihost_utils.broadcast_one_to_all(drawn), np.uint8)
    return drawn.tobytes().hex()


def _index(plan: Plan, token: str) -> tuple[bytes, dict[int, str]]:
    """The index, and the names of the files by their processes."""
    writers = sorted({one.process for slices in plan.slices for one in slices})
    files = {process: part_name(token, process) for process in writers}
    at = {process: i for i, process in enumerate(writers)}
    arrays = (
        (entry, [(at[one.process], one.name, one.box, one.flat) for one in slices])
        for entry, slices in zip(plan.entries, plan.slices, strict=True)
    )
    return index_bytes(list(files.values()), arrays, plan.appended, {}), files


def _write_part(path: Path, plan: Plan, process: int, checksums: bool) -> None:
    mine = [one for slices in plan.slices for one in slices if one.process == process]
    with SafetensorsSink(path, [one.entry for one in mine], {}, {}, checksums) as sink:
        for one in mine:
            assert one.values is not None
            sink.write(one.name, one.values())


def _agree(path: Path, error: Exception | None, own: Path | None, new: bool) -> None:
    """Go on when all processes succeeded; otherwise take back what was made, and raise.

    Args:
        path: the folder.
        error: what went wrong here.
        own: the file of this process, to be taken back.
        new: whether the folder is taken back, too, by process 0.
    """
    several = jax.process_count() > 1
    failed = [0] if error is not None else []
    if several:
        flags = multihost_utils.process_allgather(np.array(error is not None))
        failed = [int(i) for i in np.flatnonzero(flags)]
    if not failed:
        return
    with contextlib.suppress(OSError):  # it may be what went wrong
        if own is not None and not _committed(path, own):
            own.unlink(missing_ok=True)
    if several:
        multihost_utils.sync_global_devices("paramesh: files taken back")
    if new and jax.process_index() == 0:
        with contextlib.suppress(OSError):
            path.rmdir()
    if error is not None:
        raise error
    raise CheckpointError(
        f"'{path}' was not saved, since process {', '.join(map(str, failed))} could not write; its "
        "own message says why. What was there before is untouched."
    )


def _committed(path: Path, own: Path) -> bool:
    """Whether the index names a file: an error after its renaming takes nothing back."""
    try:
        return own.name in (path / INDEX).read_text()
    except OSError:
        return False


def check_target(path: Path) -> None:
    """Refuse what cannot become a checkpoint, before anything is written.

    Raises:
        FileNotFoundError: there is no folder for it.
        FileExistsError: it is a file.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"save_checkpoint: there is no folder '{path.parent}' for '{path.name}'; make it first."
        )
    if path.exists() and not path.is_dir():
        raise FileExistsError(
            f"save_checkpoint: '{path}' is a file, but a sharded checkpoint is a folder. Choose "
            "another name, or remove the file."
        )
