"""The command line: `paramesh`.

Commands are in `commands`, by group; each hands over to a module here, whose packages are loaded
when the command runs, so that `paramesh --help` is quick and needs none of the extras.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import paramesh
from paramesh.cli.commands import checkpoints, planning, programs, ps, watching
from paramesh.cli.errors import CommandError
from paramesh.cli.run import Program
from paramesh.cli.suggestions import with_suggestion
from paramesh.errors import ParameterServerError

__all__ = ["app", "main"]

_INTERRUPTED = 130

app = typer.Typer(
    name="paramesh",
    help="Named, lazy, sharded parameters for JAX, with MindSpore's interface.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for _group in (programs, planning, watching, checkpoints, ps):
    _group.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"paramesh {paramesh.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Named, lazy, sharded parameters for JAX, with MindSpore's interface."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process.

    Args:
        arguments: the words after `paramesh`; None for those of the process.

    Exit codes: 0; 2 for a mistake in the arguments or in the data, with one line on stderr that
    says what to do; 130 after Ctrl-C.
    """
    try:
        # Not standalone: click would end the process before anything can be said. Ctrl-C comes out
        # as Abort, or as the code, depending on the version of typer.
        words = list(sys.argv[1:] if arguments is None else arguments)
        code = app(words, prog_name="paramesh", standalone_mode=False)
    except (CommandError, ParameterServerError) as error:
        typer.echo(f"paramesh: {error}", err=True)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except Exception as error:
        # Click's mistakes in arguments know how to show themselves (they have no common public
        # base in typer's releases, which bring a click of their own).
        show = getattr(error, "show", None)
        if show is None:
            raise
        with_suggestion(error)
        show()
        code = getattr(error, "exit_code", 2)
    if isinstance(code, Program):
        # Outside of everything above: the program's exceptions and contexts are its own.
        status = code.run()
        # Looked up after the program: one that is part of a run with servers sees the end by it.
        sys.exit(status)
    if code == _INTERRUPTED:
        typer.echo("paramesh: interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)
