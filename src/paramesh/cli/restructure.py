"""`paramesh merge` and `paramesh reshard`: merge slices into one file, or slice anew."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from paramesh.checkpoint.conversion.converter import (
    Conversion,
    check_target,
    convert_opened,
    target_format,
)
from paramesh.checkpoint.conversion.reshard import Resharded, Resharding, reshard
from paramesh.checkpoint.formats.interface import Source
from paramesh.checkpoint.ranks.source import RankSource, rank_files
from paramesh.checkpoint.ranks.strategy import RankStrategy, read_strategy
from paramesh.checkpoint.sharded.source import FORMAT as SHARDED
from paramesh.cli.checkpoint_writing import arrays_progress, selection, writing
from paramesh.cli.errors import CommandError
from paramesh.cli.figures import counted
from paramesh.cli.inspect import console_for, opened
from paramesh.errors import CheckpointError
from paramesh.parallel.modes.layout_table import byte_text

_RANK = re.compile(r"rank_?(\d+)")


@dataclass(frozen=True)
class Slices:
    """The checkpoint to read.

    Args:
        paths: a checkpoint; a folder with `rank_N`; or the files of all ranks.
        strategy: the strategy file under which per-rank files were saved.
        only: patterns of names.
    """

    paths: Sequence[Path]
    strategy: Path | None = None
    only: Sequence[str] = ()


@contextmanager
def _source(slices: Slices) -> Generator[Source]:
    """The slices as one checkpoint.

    Raises:
        CommandError: they do not form a checkpoint.
    """
    first = slices.paths[0]
    folder = first.is_dir() and any(
        place.is_dir() and _RANK.fullmatch(place.name) for place in first.iterdir()
    )
    if len(slices.paths) == 1 and not folder:
        if slices.strategy is not None:
            raise CommandError(
                f"{first} is a complete checkpoint; a strategy to read it by is for per-rank files"
            )
        with opened(first) as source:
            yield source
        return
    files = rank_files(first) if folder and len(slices.paths) == 1 else _ranks(slices.paths)
    strategy = _strategy(slices.strategy)
    if strategy is None and len(files) > 1:
        raise CommandError(
            f"{first}: {len(files)} per-rank files need the strategy file under which they were "
            "saved, which says which slices each of them has"
        )
    with RankSource(first, files, strategy) as source:
        yield source


def _ranks(paths: Sequence[Path]) -> dict[int, Path]:
    """{rank: file}, by the last `rank_N` or `rankN` in each path, or in the order given."""
    found = [_RANK.findall(str(path)) for path in paths]
    if not any(found):
        return dict(enumerate(paths))
    if not all(found):
        without = paths[found.index([])]
        raise CommandError(f"{without}: has no rank_N in its path, but other files have: rename it")
    ranks = [int(each[-1]) for each in found]
    for rank in ranks:
        if ranks.count(rank) > 1:
            one, other = [p for p, r in zip(paths, ranks, strict=True) if r == rank][:2]
            raise CommandError(f"{one} and {other} are both of rank {rank}")
    return dict(zip(ranks, paths, strict=True))


def _strategy(path: Path | None) -> RankStrategy | None:
    try:
        return read_strategy("--strategy", path)
    except CheckpointError as error:
        raise CommandError(" ".join(str(error).split())) from error


def run_merge(
    slices: Slices,
    target: Path,
    format: str | None = None,
    checksums: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> None:
    """Merge slices into one file.

    Raises:
        CommandError: they cannot be merged; no file was written.
    """
    console = console or console_for()
    with writing(target):
        kind = target_format(format, target)
        if kind == SHARDED:
            raise CommandError(
                f"{target}: merge writes one file; use paramesh reshard to write a folder"
            )
        for path in slices.paths:
            check_target(path, target, kind, force)
        with _source(slices) as source:
            options = Conversion(kind, wanted=selection(source, slices.only), checksums=checksums)
            with arrays_progress("merging", source, options.wanted) as advance:
                found = convert_opened(source, target, options, advance)
            files = len(source.parts())
    console.print(
        f"{slices.paths[0]} -> {target} ({found.format}): {counted(found.arrays, 'parameter')}, "
        f"{byte_text(found.nbytes)}, from {counted(files, 'file')}.",
        markup=False,
    )


def run_reshard(
    slices: Slices,
    target: Path,
    processes: int | None = None,
    devices: int | None = None,
    strategy: Path | None = None,
    layouts: Sequence[str] = (),
    checksums: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> None:
    """Write a sharded checkpoint with other slices.

    Raises:
        CommandError: it cannot be resharded; an existing checkpoint is unchanged.
    """
    console = console or console_for()
    if processes is None and devices is None and strategy is None:
        raise CommandError(
            "give --processes, --devices or --strategy, which say how many slices to write"
        )
    with writing(target):
        rules = _strategy(strategy)
        count = devices or (rules.device_num if rules is not None else processes)
        sources = [path for path in slices.paths if path.exists()]
        if target.exists() and any(os.path.samefile(path, target) for path in sources):
            raise CommandError(f"{target} is the source itself: give another folder")
        with _source(slices) as source:
            options = Resharding(
                processes=processes or count or 1,
                devices=count,
                strategy=rules,
                layouts=dict(_layout(rule) for rule in layouts),
                wanted=selection(source, slices.only),
                checksums=checksums,
                overwrite=force,
            )
            with arrays_progress("resharding", source, options.wanted) as advance:
                found = reshard(source, target, options, advance)
    console.print(_summary(slices.paths[0], found), markup=False)


def _layout(rule: str) -> tuple[str, tuple[int, ...]]:
    pattern, equals, counts = rule.partition("=")
    numbers = counts.strip("()").rstrip(",").split(",")
    if not pattern or not equals or not all(n.strip().isdecimal() for n in numbers):
        raise CommandError(f"--layout {rule}: expected PATTERN=COUNTS, such as '*.weight=4,1'")
    return pattern, tuple(map(int, numbers))


def _summary(source: Path, found: Resharded) -> str:
    sizes = [size for size in found.part_bytes if size] or [0]
    low, high = byte_text(min(sizes)), byte_text(max(sizes))
    share = f"{low} each" if low == high else f"{low} to {high} each"
    return (
        f"{source} -> {found.path} (sharded): {counted(found.arrays, 'parameter')}, "
        f"{byte_text(found.nbytes)}, in {counted(found.slices, 'slice')} and "
        f"{counted(len(sizes), 'file')} of {share}."
    )
