"""The strategy of per-rank files: which ranks have which slices.

Glossary
    holder      a rank that has a slice; a replicated slice has several holders
    needed      ranks whose files together have all slices, one rank for each slice
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from paramesh.checkpoint.formats.boxes import Box, box_of, common
from paramesh.errors import LayoutError, StrategyFileError
from paramesh.parallel.layouts.layout import Layout, Placed, subject
from paramesh.parallel.layouts.layout_tuple import from_tuple
from paramesh.parallel.layouts.strategy_file import load_strategy_for


class RankStrategy:
    """The layouts of one strategy, all for the same ranks.

    Args:
        layouts: {name: layout}; None for a replicated array.
        where: the strategy file, for messages.
        device_num: number of ranks; None: that of the layouts.

    Raises:
        StrategyFileError: the layouts are for different numbers of devices.
    """

    def __init__(
        self,
        layouts: Mapping[str, Layout | None],
        where: str = "the strategy",
        device_num: int | None = None,
    ) -> None:
        self.layouts = dict(layouts)
        self.where = where
        counts = {one.device_num for one in layouts.values() if one is not None}
        counts |= set() if device_num is None else {device_num}
        if len(counts) > 1:
            raise StrategyFileError(
                f"{where} has layouts for different numbers of devices: {sorted(counts)}."
            )
        self.device_num = counts.pop() if counts else 1

    @property
    def ranks(self) -> range:
        """All ranks."""
        return range(self.device_num)

    def names(self, name: str) -> bool:
        """Whether the strategy has an entry for a Parameter."""
        return name in self.layouts

    def check_rank(self, rank: int) -> None:
        """Check that there is a rank.

        Raises:
            ValueError: there is no such rank.
        """
        if rank not in self.ranks:
            raise ValueError(
                f"There is no rank {rank}: {self.where} is for {self.device_num} devices, the "
                f"ranks 0 to {self.device_num - 1}."
            )

    def slice_counts(self, name: str) -> tuple[int, ...]:
        """The number of slices along each axis; () for a replicated array."""
        layout = self.layouts.get(name)
        return () if layout is None or max(layout.parts, default=1) == 1 else layout.parts

    def shape_of(self, name: str, part: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the full array whose slices have a shape.

        Raises:
            StrategyFileError: their number of axes is not that of the layout.
        """
        parts = self.slice_counts(name)
        if not parts:
            return part
        if len(parts) != len(part):
            raise StrategyFileError(
                f"{subject(name)}{self.where} has a layout of {len(parts)} axes "
                f"({self.layouts[name]!r}), but the ranks have slices of shape {list(part)}."
            )
        return tuple(size * pieces for size, pieces in zip(part, parts, strict=True))

    def boxes(self, name: str, shape: tuple[int, ...]) -> dict[Box, list[int]]:
        """The box of every slice of an array, and the ranks that have it, ascending.

        Raises:
            StrategyFileError: the layout does not fit the shape.
        """
        layout = self.layouts.get(name)
        if layout is None or not self.slice_counts(name):
            return {tuple((0, size) for size in shape): list(self.ranks)}
        try:
            shards = layout.shards(shape, name)
        except LayoutError as error:
            raise StrategyFileError(f"{self.where} does not fit: {error}") from error
        found: dict[Box, list[int]] = {}
        for rank in sorted(shards):
            found.setdefault(box_of(shards[rank], shape), []).append(rank)
        return found

    def needed(
        self, available: Collection[int], names: Iterable[str], partial: bool = False
    ) -> list[int]:
        """The ranks whose files are needed for all slices of some Parameters, ascending.

        Args:
            available: the ranks with files.
            names: of the Parameters.
            partial: ignore slices without a file, instead of raising.

        Raises:
            ValueError: a needed file is missing.
        """
        found: set[int] = set()
        for layout in dict.fromkeys(self.layouts.get(name) for name in names):
            if layout is None:
                continue
            for place, holders in _holders(layout).items():
                present = [rank for rank in holders if rank in available]
                # Ranks that are needed anyway come first.
                if present and found.isdisjoint(present):
                    found.add(min(present))
                elif not present and not partial:
                    raise missing(holders, f"slice {list(place)} of {layout!r}")
        if not found and available:
            found.add(min(available))
        if not found:
            raise missing(self.ranks, "every Parameter")
        return sorted(found)

    def needed_by(self, rank: int, other: RankStrategy | None) -> list[int]:
        """The ranks whose files have the elements of a rank under another strategy, ascending.

        Args:
            rank: of the other strategy.
            other: that strategy; None: rank 0 has the full arrays.

        Raises:
            ValueError: the other strategy has no such rank.
            StrategyFileError: the two strategies do not match.
        """
        target = RankStrategy({}, "no strategy") if other is None else other
        target.check_rank(rank)
        near = rank % self.device_num
        found: set[int] = set()
        seen: set[tuple[Any, Any]] = set()
        for name, layout in self.layouts.items():
            pair = layout, target.layouts.get(name)
            parts = self.slice_counts(name)
            if not parts or pair in seen or (other is not None and not other.names(name)):
                continue
            seen.add(pair)
            others = target.slice_counts(name) or (1,) * len(parts)
            if len(others) != len(parts):
                raise StrategyFileError(
                    f"{subject(name)}{self.where} has a layout of {len(parts)} axes, but "
                    f"{target.where} one of {len(others)}."
                )
            # The smallest array that both can slice shows which slices overlap.
            shape = tuple(map(math.lcm, parts, others))
            mine = next(box for box, held in target.boxes(name, shape).items() if rank in held)
            for box, holders in self.boxes(name, shape).items():
                if common(box, mine) is not None and found.isdisjoint(holders):
                    found.add(near if near in holders else min(holders))
        return sorted(found) or [near]


def missing(holders: Collection[int], what: str) -> ValueError:
    """The error to raise for slices without a file."""
    ranks = ", ".join(map(str, list(holders)[:8])) + (", …" if len(holders) > 8 else "")
    one = "rank" if len(holders) == 1 else "one of the ranks"
    return ValueError(f"The file of {one} {ranks} is needed for {what}, but it is missing.")


def _holders(layout: Layout) -> dict[tuple[Any, ...], list[int]]:
    """Every slice, by its index along each axis, and the ranks that have it, ascending."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for rank, index in sorted(layout.shards(layout.parts).items()):
        found.setdefault(tuple(part.start for part in index), []).append(rank)
    return found


def read_strategy(argument: str, path: object) -> RankStrategy | None:
    """The strategy of a file; None for None.

    Args:
        argument: its name in the call, for messages.
        path: of a file in any of the formats of `load_strategy`.

    Raises:
        TypeError: `path` is not a path.
        StrategyFileError: the file does not exist or is not valid.
    """
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{argument} must be the path of a strategy file or None, got {path!r}.")
    found, count = load_file(path)
    return RankStrategy(layouts_in(found), f"strategy file '{Path(path)}'", count)


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, Placed], int | None]:
    """Load a strategy file: its layouts, and its number of devices if the file has it.

    Raises:
        StrategyFileError: the file does not exist or is not valid.
    """
    try:
        return load_strategy_for(path)
    except OSError as error:
        raise StrategyFileError(
            f"Strategy file '{path}' cannot be read: {error.strerror or error}."
        ) from error


def layouts_in(strategy: Mapping[str, Any]) -> dict[str, Layout | None]:
    """{name: Layout} from a dict of anything that describes a layout.

    A value may be a `Layout`, an entry of `build_searched_strategy`, MindSpore's list or tuple
    (device matrix, tensor map, slice shape, …), or None for a replicated array.

    Raises:
        ValueError: a value is none of these, or contradictory.
    """
    found: dict[str, Layout | None] = {}
    for name, value in strategy.items():
        layout = value.layout if isinstance(value, Placed) else value
        if isinstance(layout, list | tuple):
            try:
                layout = from_tuple(tuple(layout), name=name)
            except TypeError as error:
                raise StrategyFileError(f"{subject(name)}{error}") from error
        elif layout is not None and not isinstance(layout, Layout):
            raise StrategyFileError(
                f"{subject(name)}a strategy must be a Layout, an entry of build_searched_strategy, "
                f"or (device matrix, tensor map, slice shape), got {value!r}."
            )
        found[name] = layout
    return found
