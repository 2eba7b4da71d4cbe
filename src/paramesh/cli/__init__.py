"""The command line: `paramesh`.

Commands are in `commands`, by group; each hands over to a module here, whose packages are loaded
when the command runs, so that `paramesh --help` is quick and needs none of the extras.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

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
    with _printable():
        code = _code(arguments)
    if isinstance(code, Program):
        # Outside of everything above: the program's exceptions and contexts are its own.
        status = code.run()
        # Looked up after the program: one that is part of a run with servers sees the end by it.
        sys.exit(status)
    if code == _INTERRUPTED:
        typer.echo("paramesh: interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _code(arguments: Sequence[str] | None) -> Any:
    """What the command returns, or the exit code of its mistake."""
    try:
        # Not standalone: click would end the process before anything can be said. Ctrl-C comes out
        # as Abort, or as the code, depending on the version of typer.
        words = list(sys.argv[1:] if arguments is None else arguments)
        return app(words, prog_name="paramesh", standalone_mode=False)
    except (CommandError, ParameterServerError) as error:
        typer.echo(f"paramesh: {error}", err=True)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except Exception as error:
        # Click's mistakes in arguments know how to show themselves (they have no common public
        # base in typer's releases, which bring a click of their own).
        show = getattr(error, "show", None)
        if show is None:
            raise
        with_suggestion(error)
        show()
        return getattr(error, "exit_code", 2)


#: What we write ourselves, in ASCII.
_IN_ASCII = {"…": "...", "µ": "u", "×": "x", "–": "-"}


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for a character that cannot be encoded."""
    if isinstance(error, UnicodeEncodeError):
        known = _IN_ASCII.get(error.object[error.start])
        if known is not None:
            return known, error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error("paramesh.printable", _in_ascii)


@contextmanager
def _printable() -> Generator[None]:
    """Have characters that the terminal or file cannot show written as escapes, as on stderr.

    Names of Parameters may have any; output in ASCII is usual in containers without a locale.
    """
    streams = [
        stream
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict"
    ]
    for stream in streams:
        stream.reconfigure(errors="paramesh.printable")
    try:
        yield
    finally:
        for stream in streams:
            stream.reconfigure(errors="strict")
