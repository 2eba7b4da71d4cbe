"""`paramesh inspect`, `convert`, `merge` and `reshard`: commands that work on checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paramesh.cli.commands.options import Checksums, FileFormat, Force, NewFile, Only
from paramesh.cli.errors import CommandError
from paramesh.cli.suggestions import among

_INSPECT_EXAMPLES = """Examples:

paramesh inspect net.safetensors

paramesh inspect net.ckpt --stats --only encoder --sort size

paramesh inspect before.safetensors after.safetensors --rtol 1e-3

paramesh inspect net.safetensors --json | jq '.totals'

paramesh inspect net.safetensors --html report.html --strategy strategy.json
"""

_CONVERT_EXAMPLES = """Examples:

paramesh convert net.ckpt net.safetensors

paramesh convert net.safetensors half.safetensors --dtype bfloat16

paramesh convert net.ckpt encoder.safetensors --only encoder --rename encoder=

paramesh convert net.safetensors torch.safetensors --to torch

paramesh convert bert.safetensors net.safetensors --from torch --layer 'embeddings.*=Embedding'

paramesh convert net.safetensors flax.safetensors --to flax --layer '*.attn=MultiheadAttention:8'

paramesh convert pytorch_model.bin flax.safetensors --from torch --to flax

paramesh convert net.safetensors folder --format huggingface --to torch
"""

_MERGE_EXAMPLES = """Examples:

paramesh merge run.sharded net.safetensors

paramesh merge checkpoints net.safetensors --strategy strategy.ckpt

paramesh merge rank_*/net.ckpt net.ckpt --strategy strategy.ckpt
"""

_RESHARD_EXAMPLES = """Examples:

paramesh reshard net.safetensors net.sharded --processes 4

paramesh reshard run.sharded other.sharded --strategy strategy.json --processes 2

paramesh reshard net.ckpt net.sharded --devices 8 --layout 'fc*.weight=4,2'

paramesh reshard checkpoints net.sharded --from-strategy strategy.ckpt --processes 4
"""


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("inspect", epilog=_INSPECT_EXAMPLES)(_inspect)
    app.command("convert", epilog=_CONVERT_EXAMPLES)(_convert)
    app.command("merge", epilog=_MERGE_EXAMPLES)(_merge)
    app.command("reshard", epilog=_RESHARD_EXAMPLES)(_reshard)


def _sorts(incomplete: str) -> list[str]:
    from paramesh.cli.inspect import SORTS

    return among(*SORTS)(incomplete)


def _libraries(incomplete: str) -> list[str]:
    from paramesh.checkpoint.conversion.name_rules import LIBRARIES

    return among(*LIBRARIES)(incomplete)


def _inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A checkpoint.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="A checkpoint to compare with.")
    ] = None,
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Read every array, and show min, max, mean, std, NaN, Inf."),
    ] = False,
    only: Only = None,
    sort: Annotated[
        str, typer.Option(help="Sort by file, name or size.", autocompletion=_sorts)
    ] = "file",
    largest: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show only the N largest.")
    ] = None,
    depth: Annotated[
        int, typer.Option(min=0, metavar="N", help="Levels of the tree of totals; 0: no tree.")
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write an HTML report: searchable tree, histograms, devices."
        ),
    ] = None,
    strategy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --html: a strategy file, for the device map."),
    ] = None,
    rtol: Annotated[float, typer.Option(min=0.0, help="With OTHER: relative tolerance.")] = 0.0,
    atol: Annotated[float, typer.Option(min=0.0, help="With OTHER: absolute tolerance.")] = 0.0,
) -> None:
    """Show the contents of a checkpoint, or the differences between two.

    Arrays are read in chunks, so that a file may be larger than memory.
    Exit code: 0; with OTHER, 0 if the checkpoints are equal and 1 if they
    differ; 2 for invalid arguments or data.
    """
    from paramesh.cli.inspect import SORTS, View, run_compare, run_inspect, run_report

    if sort not in SORTS:
        raise CommandError(f"--sort {sort}: expected one of {', '.join(SORTS)}")
    view = View(only or (), sort, largest, depth, stats, as_json)
    if other is not None:
        if stats or html is not None:
            option = "--stats" if stats else "--html"
            raise CommandError(f"{option} is for one checkpoint; two are compared")
        raise typer.Exit(run_compare(path, other, view, rtol, atol))
    if rtol or atol:
        raise CommandError("--rtol and --atol are for two checkpoints: paramesh inspect A B")
    if strategy is not None and html is None:
        raise CommandError("--strategy goes with --html")
    if html is not None:
        if as_json:
            raise CommandError("give --html or --json, not both")
        run_report(path, html, view, strategy)
        return
    run_inspect(path, view)


def _convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A checkpoint.")],
    target: NewFile,
    format: FileFormat = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Cast floating-point arrays: bfloat16, float16, float32 or float64.",
            autocompletion=among("bfloat16", "float16", "float32", "float64"),
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="LIBRARY",
            help="Library whose names and layouts DST gets: torch or flax.",
            autocompletion=_libraries,
        ),
    ] = None,
    back: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LIBRARY",
            help="Library whose names and layouts SRC has: torch or flax.",
            autocompletion=_libraries,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX=KIND",
            help="Kind of the layer at a prefix in SRC, where its names do not tell. Repeatable.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="Replace the prefix OLD of names by NEW; * matches anything. @FILE: a file with "
            "one rule per line. The first rule that matches applies. Repeatable.",
        ),
    ] = None,
    only: Only = None,
    checksums: Checksums = False,
    force: Force = False,
) -> None:
    """Convert a checkpoint: its format, element type, names and layouts.

    One array is in memory at a time, and DST appears only when complete.
    Names without a rule are kept, and listed.
    """
    from paramesh.cli.convert import ConvertOptions, run_convert

    run_convert(
        source,
        target,
        ConvertOptions(
            format=format,
            dtype=dtype,
            to=to,
            back=back,
            layers=layer or (),
            rename=rename or (),
            only=only or (),
            checksums=checksums,
            force=force,
        ),
    )


def _merge(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC",
            help="A sharded checkpoint, a folder with rank_0, …, or the files of all ranks.",
        ),
    ],
    target: NewFile,
    strategy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The strategy file under which per-rank files were saved, also MindSpore's.",
        ),
    ] = None,
    format: FileFormat = None,
    only: Only = None,
    checksums: Checksums = False,
    force: Force = False,
) -> None:
    """Merge the slices of a checkpoint into one file.

    One array is in memory at a time, and DST appears only when complete.
    Replicated slices are read once.
    """
    from paramesh.cli.restructure import Slices, run_merge

    run_merge(Slices(sources, strategy, only or ()), target, format, checksums, force)


def _reshard(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="A checkpoint of any format, or a folder with rank_0, rank_1, …"
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The new folder.")],
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, metavar="N", help="Number of part files. Default: one per device."
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of devices of the layouts. Default: one per process."
        ),
    ] = None,
    strategy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Shard by the layouts of this strategy file."),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=COUNTS",
            help="Number of slices along each axis of the parameters that match. The first pattern "
            "that matches applies. Repeatable.",
        ),
    ] = None,
    from_strategy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The strategy file under which the per-rank files in SRC were saved.",
        ),
    ] = None,
    only: Only = None,
    checksums: Checksums = False,
    force: Force = False,
) -> None:
    """Write a sharded checkpoint with other slices.

    A large parameter without a layout is sharded along axis 0. One slice is
    in memory at a time, and DST is a checkpoint only when complete.
    """
    from paramesh.cli.restructure import Slices, run_reshard

    slices = Slices([source], from_strategy, only or ())
    run_reshard(slices, target, processes, devices, strategy, layout or (), checksums, force)
