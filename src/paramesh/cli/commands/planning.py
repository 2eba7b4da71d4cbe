"""`paramesh plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paramesh.cli.commands.options import Module
from paramesh.cli.errors import CommandError

_PLAN_EXAMPLES = """Examples:

paramesh plan train.py --target h100:8

paramesh plan train.py --target v5e:8x8 --memory 12GB --html plan.html -- --batch 512

paramesh plan -m project.train --target h100:2x8 --json

paramesh plan --calibrate
"""


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command("plan", epilog=_PLAN_EXAMPLES)(_plan)


def _plan(
    path: Annotated[
        str | None,
        typer.Argument(metavar="PROGRAM", help="A script, or with -m a module."),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]...", help="Passed to the program; its options after --."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:SHAPE",
            help="Target devices: h100:8 (one host), h100:2x8 (two hosts of eight), a100 and h200 "
            "alike; v5e:8x8, v5p:4x4x4, v6e:4x4 (slices of TPUs); cpu:8.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Memory of a device, such as 80GB. Default: that of the hardware."
        ),
    ] = None,
    module: Module = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML report of memory and communication."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure the devices of this machine, for later plans."),
    ] = False,
) -> None:
    """Plan the training step of a script for hardware that is not available.

    The script runs up to its first training step, on one device and
    without initializing weights. Layouts for the step are searched, and it
    is compiled with the compiler of the target, but not run. The plan shows
    the memory and communication of each device, and the predicted time of
    a step.

    Compilers come with the extras plan-cuda and plan-tpu; cpu needs none.
    Exit code: 0; 1 if the step does not fit into memory; 2 for invalid
    arguments or data.
    """
    from rich.console import Console

    from paramesh.cli.plan import PlanOptions, run_calibrate, run_plan

    if calibrate:
        if not (path is target is memory is html is None) or module or as_json:
            raise CommandError("--calibrate stands alone: paramesh plan --calibrate")
        raise typer.Exit(run_calibrate(Console()))
    if path is None or target is None:
        raise CommandError("give a script and its devices: paramesh plan train.py --target h100:8")
    words = tuple(arguments or ())
    asked = PlanOptions(path, words, module, target, memory, as_json, html)
    raise typer.Exit(run_plan(asked, Console()))
