"""`paramesh merge` and `paramesh reshard`: slices into one file, and into other slices."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
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
from paramesh.cli.errors import CommandError
from paramesh.cli.figures import chooser, counted
from paramesh.cli.inspect import console_for, opened, progress
from paramesh.errors import CheckpointError, LayoutError
from paramesh.parallel.modes.layout_table import byte_text

_RANK = re.compile(r"rank_?(\d+)")


@dataclass(frozen=True)
class Slices:
    """Where slices come from.

    Args:
        paths: a checkpoint; a folder of `rank_N`; or the files of all ranks.
        strategy: the strategy file that files of ranks were saved under.
        only: patterns of names.
    """

    paths: Sequence[Path]
    strategy: Path | None = None
    only: Sequence[str] = ()


@contextmanager
def _errors(target: Path) -> Generator[None]:
    """One line for what can go wrong."""
    try:
        yield
    except FileExistsError as error:
        hint = "; --force replaces it" if str(error).endswith("was left as it is.") else ""
        raise CommandError(str(error).removesuffix(".") + hint) from error
    except (CheckpointError, LayoutError, FileNotFoundError, ValueError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    except OSError as error:
        raise CommandError(f"{error.filename or target}: {error.strerror or error}") from error


@contextmanager
def _source(slices: Slices) -> Generator[Source]:
    """The checkpoint that the slices make together.

    Raises:
        CommandError: they make none.
    """
    first = slices.paths[0]
    folder = first.is_dir() and any(
        place.is_dir() and _RANK.fullmatch(place.name) for place in first.iterdir()
    )
    if len(slices.paths) == 1 and not folder:
        if slices.strategy is not None:
            raise CommandError(
                f"{first} is one checkpoint by itself; a strategy to read it by is for files of "
                "ranks"
            )
        with opened(first) as source:
            yield source
        return
    files = rank_files(first) if folder and len(slices.paths) == 1 else _ranks(slices.paths)
    strategy = _strategy(slices.strategy)
    if strategy is None and len(files) > 1:
        raise CommandError(
            f"{first}: {len(files)} files of ranks need the strategy file that they were saved "
            "under, which tells what each of them holds"
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
        raise CommandError(f"{without}: has no rank_N in its path, but others have: rename it")
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


def _told(advance: Callable[[int], None], size: int) -> Callable[[int, int], None]:
    """What tells a bar of so many bytes how much is done."""
    last = 0

    def told(done: int, total: int) -> None:
        nonlocal last
        share = int(size * done / total) if total else size
        advance(share - last)
        last = share

    return told


def _chooser(source: Source, only: Sequence[str]) -> Callable[[str], bool]:
    wanted = chooser(only)
    if only and not any(map(wanted, source.names())):
        patterns = " or ".join(map(repr, only))
        raise CommandError(f"{source.path}: no parameter matches {patterns}")
    return wanted


def run_merge(
    slices: Slices,
    target: Path,
    format: str | None = None,
    checksums: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> None:
    """Make one file of slices.

    Raises:
        CommandError: it cannot be done; there is no new file.
    """
    console = console or console_for()
    with _errors(target):
        kind = target_format(format, target)
        if kind == SHARDED:
            raise CommandError(f"{target}: merge makes one file; paramesh reshard makes a folder")
        for path in slices.paths:
            check_target(path, target, kind, force)
        with _source(slices) as source:
            wishes = Conversion(kind, wanted=_chooser(source, slices.only), checksums=checksums)
            size = sum(e.nbytes for e in source.entries() if wishes.wanted(e.name))
            with progress("merging", size) as advance:
                found = convert_opened(source, target, wishes, _told(advance, size))
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
    """Write a checkpoint as a sharded one, cut otherwise.

    Raises:
        CommandError: it cannot be done; what was there is untouched.
    """
    console = console or console_for()
    if processes is None and devices is None and strategy is None:
        raise CommandError("give --processes, --devices or --strategy: into how many parts?")
    with _errors(target):
        rules = _strategy(strategy)
        count = devices or (rules.device_num if rules is not None else processes)
        given = [path for path in slices.paths if path.exists()]
        if target.exists() and any(os.path.samefile(path, target) for path in given):
            raise CommandError(f"{target} is the source itself: give another folder")
        with _source(slices) as source:
            wishes = Resharding(
                processes=processes or count or 1,
                devices=count,
                strategy=rules,
                layouts=dict(_layout(rule) for rule in layouts),
                wanted=_chooser(source, slices.only),
                checksums=checksums,
                overwrite=force,
            )
            size = sum(e.nbytes for e in source.entries() if wishes.wanted(e.name))
            with progress("resharding", size) as advance:
                found = reshard(source, target, wishes, _told(advance, size))
    console.print(_summary(slices.paths[0], found), markup=False)


def _layout(rule: str) -> tuple[str, tuple[int, ...]]:
    pattern, equals, parts = rule.partition("=")
    numbers = parts.strip("()").rstrip(",").split(",")
    if not pattern or not equals or not all(n.strip().isdecimal() for n in numbers):
        raise CommandError(f"--layout {rule}: expected PATTERN=PARTS, such as '*.weight=4,1'")
    return pattern, tuple(map(int, numbers))


def _summary(source: Path, found: Resharded) -> str:
    sizes = [size for size in found.held if size] or [0]
    low, high = byte_text(min(sizes)), byte_text(max(sizes))
    share = f"{low} each" if low == high else f"{low} to {high} each"
    return (
        f"{source} -> {found.path} (sharded): {counted(found.arrays, 'parameter')}, "
        f"{byte_text(found.nbytes)}, in {counted(found.slices, 'slice')} and "
        f"{counted(len(sizes), 'file')} of {share}."
    )
