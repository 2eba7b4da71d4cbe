"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Settings of commands that pass unknown options on to the program that they start.
PASS_ON = {"allow_interspersed_args": False, "ignore_unknown_options": True}

ProgramArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ARGS]...", help="Passed to the program unchanged."),
]
Module = Annotated[bool, typer.Option("--module", "-m", help="PROGRAM is the name of a module.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Only these parameters: a prefix that ends at a dot, or a pattern with * for the full "
        "name. Repeatable.",
    ),
]
NewFile = Annotated[Path, typer.Argument(metavar="DST", help="The new file.")]
FileFormat = Annotated[
    str | None,
    typer.Option("--format", help="Format of DST. Default: by its suffix."),
]
Checksums = Annotated[
    bool, typer.Option("--checksums", help="Store checksums of the arrays in DST.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace DST if it exists.")]
