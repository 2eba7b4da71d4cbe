"""Per-rank files, read as one checkpoint of full arrays.

MindSpore saves so in its parallel modes: `rank_0/net.ckpt`, `rank_1/net.ckpt`, … have the same
names, and each file has the slices of its rank. A strategy says which slices these are; of a
replicated slice one copy is read. Files are mapped, and only those with needed slices are opened.

What the strategy does not name is taken to be replicated. Since it may be the wrong strategy, this
is verified: the copies in the opened files are compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paramesh.checkpoint.formats.assembled_source import Slice, SlicedSource, Slicing
from paramesh.checkpoint.formats.boxes import Box
from paramesh.checkpoint.formats.interface import Array, Entry, Source
from paramesh.checkpoint.formats.statistics import CHUNK
from paramesh.checkpoint.opening import open_source
from paramesh.checkpoint.ranks.strategy import RankStrategy, missing
from paramesh.errors import CheckpointError, StrategyFileError

_FOLDER = re.compile(r"rank_(\d+)")
#: The file names of MindSpore's `ModelCheckpoint`: epoch, then step of the epoch.
_POSITION = re.compile(r"-(\d+)_(\d+)\.\w+")
_MISSING = -1
SUFFIXES = (".ckpt", ".safetensors")


class RankSource(SlicedSource):
    """The files of several ranks, open for reading.

    Args:
        path: the name of the checkpoint in messages.
        files: {rank: file}; for a replicated slice, one file is enough.
        strategy: the layouts of the arrays; None: rank 0 has the full arrays.
        partial: whether a missing slice is an error only when it is read.

    Raises:
        ValueError: the file of a rank is missing, or the strategy does not have a rank.
        CheckpointError: a file is not valid, or they do not fit each other.
        StrategyFileError: the strategy does not fit them.
    """

    format = "ranks"

    def __init__(
        self,
        path: Path,
        files: Mapping[int, Path],
        strategy: RankStrategy | None,
        partial: bool = False,
    ) -> None:
        super().__init__(path)
        self._strategy = RankStrategy({}, "no strategy") if strategy is None else strategy
        self._ranks: list[int] = []
        self._replicated: set[str] = set()
        opened: list[Source] = []
        self._parts = opened
        if strategy is not None:
            for rank in files:
                strategy.check_rank(rank)
        try:
            # The first file has the names of all Parameters, which say what other files are needed.
            available = files if strategy is not None else [0] if 0 in files else []
            self._ranks = self._strategy.needed(available, ())
            opened.append(open_source(files[self._ranks[0]]))
            names = opened[0].names()
            for rank in self._strategy.needed(available, names, partial):
                if rank != self._ranks[0]:
                    self._ranks.append(rank)
                    opened.append(open_source(files[rank]))
            self._open(names)
        except BaseException:
            self.close()
            raise

    def _open(self, names: list[str]) -> None:
        first = self._parts[0]
        for part in self._parts[1:]:
            others = part.names()
            if set(others) != set(names):
                absent = sorted(set(names) ^ set(others))[0]
                has, lacks = (first, part) if absent in names else (part, first)
                raise CheckpointError(
                    f"'{has.path}' has '{absent}', but '{lacks.path}' does not: the files are not "
                    "of one checkpoint."
                )
        for name in names:
            entry = first.entry(name)
            for part in self._parts[1:]:
                other = part.entry(name)
                if (other.dtype, other.shape) != (entry.dtype, entry.shape):
                    raise CheckpointError(
                        f"'{name}' is {entry.dtype}{list(entry.shape)} in '{first.path}', but "
                        f"{other.dtype}{list(other.shape)} in '{part.path}': they are not slices "
                        "of one array."
                    )
            if not self._strategy.names(name):
                self._replicated.add(name)
            self._add_sliced(*self._slicing(name, entry))
        self.appended = first.appended
        self.metadata = first.metadata
        self.scalars_may_be_appended = first.scalars_may_be_appended

    def _slicing(self, name: str, entry: Entry) -> tuple[Entry, Slicing]:
        shape = self._strategy.shape_of(name, entry.shape)
        slices: list[Slice] = []
        for box, holders in self._strategy.boxes(name, shape).items():
            file = next((i for i, rank in enumerate(self._ranks) if rank in holders), _MISSING)
            slices.append(Slice(box, file, name))
        return Entry.of(name, entry.dtype, shape), Slicing(shape, tuple(slices))

    def _read_slice(self, one: Slice, shared: Box) -> Array:
        if one.file == _MISSING:
            boxes = self._strategy.boxes(one.name, self.entry(one.name).shape)
            raise missing(boxes[one.box], f"'{one.name}'")
        if one.name in self._replicated:
            self._compare(one.name)
            self._replicated.discard(one.name)
        return super()._read_slice(one, shared)

    def _compare(self, name: str) -> None:
        """Raise unless an array that should be replicated has the same bits in all opened files."""
        first, *others = self._parts
        count = first.entry(name).size
        for start in range(0, count, CHUNK):
            stop = min(start + CHUNK, count)
            mine = first.read_flat(name, start, stop).view(np.uint8)
            for part in others:
                if not np.array_equal(mine, part.read_flat(name, start, stop).view(np.uint8)):
                    raise StrategyFileError(
                        f"'{name}' is not in {self._strategy.where}, so every rank should have "
                        f"the full array, but its values in '{first.path}' and '{part.path}' "
                        "differ. Is this the strategy under which the files were saved?"
                    )

    @property
    def ranks(self) -> list[int]:
        """The ranks whose files are open."""
        return sorted(self._ranks)


def rank_files(folder: Path) -> dict[int, Path]:
    """The files `rank_N/*.ckpt` (or `.safetensors`) of a folder, one for each rank.

    Where a folder has several, the latest epoch and step that all ranks have is used if the files
    have the names of MindSpore's `ModelCheckpoint`; otherwise the last by name, in natural order.

    Raises:
        NotADirectoryError: it is not a folder.
        ValueError: there are no such files; a folder has files of both formats, or none.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is not a folder.")
    found: dict[int, list[Path]] = {}
    for place in folder.iterdir():
        named = _FOLDER.fullmatch(place.name)
        if named is None or not place.is_dir():
            continue
        files = [p for p in place.iterdir() if p.suffix in SUFFIXES and p.name[0] != "."]
        if not files:
            raise ValueError(f"'{place}' has no checkpoint in it ({' or '.join(SUFFIXES)}).")
        if len({p.suffix for p in files}) > 1:
            raise ValueError(
                f"'{place}' has {' and '.join(SUFFIXES)} files: keep the files of one kind."
            )
        if int(named[1]) in found:
            raise ValueError(f"'{folder}' has two folders for rank {int(named[1])}.")
        found[int(named[1])] = files
    if not found:
        raise ValueError(f"'{folder}' has no folders rank_0, rank_1, … with checkpoints in them.")
    return {rank: _last(files, found) for rank, files in sorted(found.items())}


def _last(files: list[Path], all_files: Mapping[int, list[Path]]) -> Path:
    if len(files) == 1:
        return files[0]
    positions = [{_position(p) for p in rank} for rank in all_files.values()]
    shared = set.intersection(*positions) - {None}
    if shared:
        files = [p for p in files if _position(p) in shared]
        return max(files, key=lambda p: (_position(p) or (0, 0), _natural(p.name)))
    return max(files, key=lambda p: _natural(p.name))


def _position(path: Path) -> tuple[int, int] | None:
    found = _POSITION.search(path.name)
    return None if found is None else (int(found[1]), int(found[2]))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """The sort key of natural order, which puts `net-9` before `net-10`."""
    return [(0, int(t)) if t.isdigit() else (1, t) for t in re.split(r"(\d+)", name) if t]
