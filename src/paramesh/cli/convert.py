"""`paramesh convert`: from one checkpoint file to another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from paramesh.checkpoint.conversion.converter import Conversion, Converted, convert
from paramesh.checkpoint.conversion.name_rules import LIBRARIES
from paramesh.checkpoint.conversion.renaming import Renaming
from paramesh.cli.errors import CommandError
from paramesh.cli.figures import chooser, counted
from paramesh.cli.inspect import console_for, opened, progress
from paramesh.dtype import DType, float_type, to_dtype
from paramesh.errors import CheckpointError
from paramesh.parallel.modes.layout_table import byte_text

_MOST_LISTED = 20


@dataclass(frozen=True)
class Wishes:
    """What the command line was given.

    Args:
        format: of the new file.
        dtype: name of the element type of floating-point arrays.
        to: library whose names are wanted.
        back: library whose names the source has.
        layers: rules PREFIX=KIND.
        rename: rules OLD=NEW, or @FILE.
        only: patterns of names.
        checksums: whether checksums are kept.
        force: whether a file that is there is replaced.
    """

    format: str | None = None
    dtype: str | None = None
    to: str | None = None
    back: str | None = None
    layers: Sequence[str] = ()
    rename: Sequence[str] = ()
    only: Sequence[str] = ()
    checksums: bool = False
    force: bool = False


def run_convert(
    source: Path, target: Path, wishes: Wishes, console: Console | None = None
) -> Converted:
    """Convert a checkpoint, and say what became of it.

    Raises:
        CommandError: it cannot be done; there is no new file.
    """
    console = console or console_for()
    conversion = _conversion(wishes)
    try:
        size = os.path.getsize(source) if source.is_file() else 0
        with progress("converting", size) as advance:
            last = 0

            def told(done: int, total: int) -> None:
                nonlocal last
                # The bar counts the source's bytes, of which the new file may have more or fewer.
                share = int(size * done / total) if total else size
                advance(share - last)
                last = share

            with opened(source) as checkpoint:
                if wishes.only and not any(map(conversion.wanted, checkpoint.names())):
                    patterns = " or ".join(map(repr, wishes.only))
                    raise CommandError(f"{source}: no parameter matches {patterns}")
            found = convert(source, target, conversion, told)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error
    except FileExistsError as error:
        hint = "; --force replaces it" if str(error).endswith("was left as it is.") else ""
        raise CommandError(str(error).removesuffix(".") + hint) from error
    except OSError as error:
        place = error.filename or target
        raise CommandError(f"{place}: {error.strerror or error}") from error
    for line in _lines(source, found, wishes):
        console.print(line)
    unused = conversion.rename.unused if isinstance(conversion.rename, Renaming) else []
    for rule in unused:
        console.print(Text(f"--rename {rule}: no name begins with it or matches it.", "bold red"))
    return found


def _conversion(wishes: Wishes) -> Conversion:
    for option, value in (("--to", wishes.to), ("--from", wishes.back)):
        if value is not None and value not in LIBRARIES:
            raise CommandError(f"{option} {value}: there are rules for {' and '.join(LIBRARIES)}")
    if wishes.to and wishes.to == wishes.back:
        raise CommandError(f"--from {wishes.back} --to {wishes.to}: the two are the same")
    if wishes.layers and not (wishes.to or wishes.back):
        raise CommandError("--layer goes with --to or --from")
    layers: dict[str, str] = {}
    for rule in wishes.layers:
        prefix, equals, kind = rule.partition("=")
        if not equals or not kind:
            raise CommandError(f"--layer {rule}: expected PREFIX=KIND, such as 'conv.*=Conv1d'")
        layers[prefix] = kind
    try:
        rename = Renaming(_rules(wishes.rename))
    except ValueError as error:
        raise CommandError(f"--rename: {error}") from error
    return Conversion(
        format=wishes.format,
        dtype=_dtype(wishes.dtype),
        to="torch" if wishes.to == "torch" else "flax" if wishes.to else None,
        back="torch" if wishes.back == "torch" else "flax" if wishes.back else None,
        layers=layers,
        rename=rename,
        wanted=chooser(wishes.only),
        checksums=wishes.checksums,
        overwrite=wishes.force,
    )


def _dtype(name: str | None) -> DType | None:
    if name is None:
        return None
    known = [kind for kind in float_type if name in (kind.long_name, str(kind))]
    if not known:
        names = ", ".join(kind.long_name for kind in float_type)
        raise CommandError(f"--dtype {name}: expected one of {names}")
    return to_dtype(known[0])


def _rules(given: Sequence[str]) -> Iterable[str]:
    for rule in given:
        if not rule.startswith("@"):
            yield rule
            continue
        try:
            lines = Path(rule[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise CommandError(f"--rename {rule}: cannot be read: {error}") from error
        yield from (line.strip() for line in lines if line.strip() and line.lstrip()[0] != "#")


def _lines(source: Path, found: Converted, wishes: Wishes) -> Iterable[Text]:
    changed = f", {len(found.changed):,} renamed" if found.changed else ""
    yield Text(
        f"{source} -> {found.path} ({found.format}): {counted(found.arrays, 'parameter')}, "
        f"{byte_text(found.nbytes)}{changed}."
    )
    if found.architecture is not None:
        yield Text(f"By the rules for {found.architecture} of transformers.")
    for what, listed in (("Left out", found.dropped), ("Not read", found.skipped)):
        if listed:
            yield Text(f"{what}:", "bold")
            yield from _listed(list(listed.items()))
    if found.unknown:
        library = wishes.to or wishes.back
        yield Text(f"As they were, for want of a rule for {library}:", "bold")
        yield from _listed(list(found.unknown.items()))
    for name, count in found.overflow.items():
        yield Text(
            f"{name}: {counted(count, 'element')} too large for {wishes.dtype}, now infinite.",
            "bold red",
        )


def _listed(pairs: Sequence[tuple[str, str]]) -> Iterable[Text]:
    for name, why in pairs[:_MOST_LISTED]:
        yield Text(f"  {name}" + (f": {why}" if why != "no rule" else ""))
    if len(pairs) > _MOST_LISTED:
        yield Text(f"  and {len(pairs) - _MOST_LISTED:,} more")
