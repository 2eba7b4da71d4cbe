"""Writing per-rank files, each with the slices of its rank.

The files of many ranks are written in parallel, array by array: each slice is read once, and only
one slice is in memory at a time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from paramesh.checkpoint.formats.boxes import Box, sizes
from paramesh.checkpoint.formats.interface import Entry, Sink, Source
from paramesh.checkpoint.left_out import LeftOutWarning
from paramesh.checkpoint.opening import open_sink
from paramesh.checkpoint.ranks.strategy import RankStrategy
from paramesh.files.atomic import directory_to_disk

#: At most so many files are open at the same time.
_MAX_OPEN = 128
_STAGED = ".transform-"


def write_ranks(
    source: Source,
    strategy: RankStrategy | None,
    files: Mapping[int, Path],
    format: str,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write per-rank files, each atomically.

    Args:
        source: has the full arrays, or at least every slice of the ranks.
        strategy: the slices of each rank; None: each rank has the full arrays. What it does not
            name is left out, with a `LeftOutWarning`, except numbers of shape ().
        files: {rank: file}.
        format: "ckpt" or "safetensors".
        advance: called with (bytes done, bytes in total) after each array.

    Raises:
        StrategyFileError: the strategy does not fit the arrays.
        ValueError: the format does not support them; a slice is missing in the source.
        OSError: from the file system.
    """
    chosen = _chosen(source, strategy)
    boxes = {e.name: ({} if strategy is None else strategy.boxes(e.name, e.shape)) for e in chosen}
    done, total = 0, sum(entry.nbytes for entry in chosen) * len(files)
    ranks = list(files)
    for first in range(0, len(ranks), _MAX_OPEN):
        with contextlib.ExitStack() as stack:
            sinks = {
                rank: stack.enter_context(
                    open_sink(
                        files[rank],
                        format,
                        [_part(entry, boxes[entry.name], rank) for entry in chosen],
                        source.appended,
                        source.metadata,
                    )
                )
                for rank in ranks[first : first + _MAX_OPEN]
            }
            for entry in chosen:
                _write(source, entry, boxes[entry.name], sinks)
                done += entry.nbytes * len(sinks)
                advance(done, total)


def _chosen(source: Source, strategy: RankStrategy | None) -> list[Entry]:
    if strategy is None:
        return source.entries()
    chosen = [e for e in source.entries() if strategy.names(e.name) or not e.shape]
    left = [e.name for e in source.entries() if e.shape and not strategy.names(e.name)]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        warnings.warn(
            f"{strategy.where} does not name {', '.join(left[:3])}{more} of '{source.path}': left "
            "out.",
            LeftOutWarning,
            stacklevel=4,
        )
    return chosen


def _part(entry: Entry, boxes: Mapping[Box, list[int]], rank: int) -> Entry:
    """The entry of the slice of an array that a rank has."""
    shape = next((sizes(box) for box, holders in boxes.items() if rank in holders), entry.shape)
    return Entry.of(entry.name, entry.dtype, shape)


def _write(
    source: Source, entry: Entry, boxes: Mapping[Box, list[int]], sinks: Mapping[int, Sink]
) -> None:
    """Write the slices of an array; a replicated slice is read once."""
    left = set(sinks)
    for box, holders in boxes.items():
        mine = left.intersection(holders)
        if mine:
            part = source.read_box(entry.name, box)
            for rank in sorted(mine):
                sinks[rank].write(entry.name, part)
            left -= mine
            source.forget()
    if left:
        full = source.read(entry.name)
        for rank in sorted(left):
            sinks[rank].write(entry.name, full)
        source.forget()


class StagedRanks:
    """A folder `rank_N` for each rank, whose files appear together; a context manager.

    They are written into a hidden folder, and moved when all are complete. Existing files of the
    same names are removed first: a kill in between leaves ranks without a file, which is not a
    valid checkpoint, and never files of two checkpoints.

    Args:
        folder: of `rank_0`, `rank_1`, …; created if missing.
        names: {rank: name of its file}.

    Raises:
        OSError: from the file system.
    """

    def __init__(self, folder: Path, names: Mapping[int, str]) -> None:
        self._folder = folder
        self._names = names
        self._new = not folder.exists()
        folder.mkdir(exist_ok=True)
        for place in folder.glob(f"{_STAGED}*"):  # left by a killed process
            shutil.rmtree(place, ignore_errors=True)
        self._staged = folder / f"{_STAGED}{secrets.token_hex(4)}"
        self._staged.mkdir()

    def __enter__(self) -> dict[int, Path]:
        """{rank: path to write its file to}."""
        return {rank: self._staged / f"{rank}{Path(n).suffix}" for rank, n in self._names.items()}

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)
            if kind is not None and self._new:
                with contextlib.suppress(OSError):
                    self._folder.rmdir()

    def _commit(self) -> None:
        targets = {rank: self._folder / f"rank_{rank}" / n for rank, n in self._names.items()}
        for target in targets.values():
            target.parent.mkdir(exist_ok=True)
            target.unlink(missing_ok=True)
        for rank, target in targets.items():
            os.replace(self._staged / f"{rank}{target.suffix}", target)
            directory_to_disk(target.parent)
        directory_to_disk(self._folder)
