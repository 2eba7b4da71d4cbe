"""`paramesh convert`: from one checkpoint file to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from paramesh.checkpoint.conversion.converter import (
    Conversion,
    Converted,
    check_target,
    convert_opened,
    target_format,
)
from paramesh.checkpoint.conversion.name_rules import LIBRARIES
from paramesh.checkpoint.conversion.renaming import Renaming
from paramesh.cli.checkpoint_writing import arrays_progress, selection, writing
from paramesh.cli.errors import CommandError
from paramesh.cli.figures import chooser, counted
from paramesh.cli.inspect import console_for, opened
from paramesh.dtype import DType, float_type, to_dtype
from paramesh.parallel.modes.layout_table import byte_text

_MOST_LISTED = 20


@dataclass(frozen=True)
class ConvertOptions:
    """The options of `paramesh convert`.

    Args:
        format: of the new file.
        dtype: name of the element type of floating-point arrays.
        to: library whose names the new file gets.
        back: library whose names the source has.
        layers: rules PREFIX=KIND.
        rename: rules OLD=NEW, or @FILE.
        only: patterns of names.
        checksums: whether checksums are stored.
        force: whether an existing file is replaced.
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
    source: Path, target: Path, options: ConvertOptions, console: Console | None = None
) -> Converted:
    """Convert a checkpoint, and print a summary.

    Raises:
        CommandError: it cannot be converted; no file was written.
    """
    console = console or console_for()
    conversion = _conversion(options)
    with writing(target):
        check_target(source, target, target_format(options.format, target), options.force)
        with opened(source) as checkpoint:
            selection(checkpoint, options.only)
            with arrays_progress("converting", checkpoint, conversion.wanted) as advance:
                found = convert_opened(checkpoint, target, conversion, advance)
    for line in _lines(source, found, options):
        console.print(line)
    return found


def _conversion(options: ConvertOptions) -> Conversion:
    for option, value in (("--to", options.to), ("--from", options.back)):
        if value is not None and value not in LIBRARIES:
            raise CommandError(f"{option} {value}: expected one of {', '.join(LIBRARIES)}")
    if options.to and options.back:
        raise CommandError(
            "give --to or --from, not both: one of the two files has paramesh's names"
        )
    if options.layers and not (options.to or options.back):
        raise CommandError("--layer goes with --to or --from")
    layers: dict[str, str] = {}
    for rule in options.layers:
        prefix, equals, kind = rule.partition("=")
        if not equals or not kind:
            raise CommandError(f"--layer {rule}: expected PREFIX=KIND, such as 'conv.*=Conv1d'")
        layers[prefix] = kind
    try:
        rename = Renaming(_rules(options.rename))
    except ValueError as error:
        raise CommandError(f"--rename: {error}") from error
    return Conversion(
        format=options.format,
        dtype=_dtype(options.dtype),
        to="torch" if options.to == "torch" else "flax" if options.to else None,
        back="torch" if options.back == "torch" else "flax" if options.back else None,
        layers=layers,
        rename=rename,
        wanted=chooser(options.only),
        checksums=options.checksums,
        overwrite=options.force,
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


def _lines(source: Path, found: Converted, options: ConvertOptions) -> Iterable[Text]:
    changed = f", {len(found.changed):,} renamed" if found.changed else ""
    yield Text(
        f"{source} -> {found.path} ({found.format}): {counted(found.arrays, 'parameter')}, "
        f"{byte_text(found.nbytes)}{changed}."
    )
    if found.unknown:
        library = options.to or options.back
        yield Text(f"Kept unchanged, since there is no rule for {library}:", "bold")
        listed = list(found.unknown.items())
        for name, why in listed[:_MOST_LISTED]:
            yield Text(f"  {name}" + (f": {why}" if why != "no rule" else ""))
        if len(listed) > _MOST_LISTED:
            yield Text(f"  and {len(listed) - _MOST_LISTED:,} more")
    for name, count in found.overflow.items():
        yield Text(
            f"{name}: {counted(count, 'element')} too large for {options.dtype}, now infinite.",
            "bold red",
        )
