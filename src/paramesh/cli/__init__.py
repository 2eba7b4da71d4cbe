"""The command line: `paramesh`.

Commands are functions of their own modules; their packages are loaded when a command runs, so that
`paramesh --help` is quick and needs none of the extras.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import paramesh
from paramesh.cli.demo import Settings, run_demo
from paramesh.cli.digits import DemoError
from paramesh.cli.launch import Launch, LaunchError, run_launch
from paramesh.cli.servers import show_status
from paramesh.errors import ParameterServerError

__all__ = ["app", "main"]

_INTERRUPTED = 130

_EXAMPLES = """Examples:

paramesh launch -n 4 train.py --epochs 3

paramesh launch -n 2 --devices-per-process 4 -m project.train
"""

app = typer.Typer(
    name="paramesh",
    help="Named, lazy, sharded parameters for JAX, with MindSpore's interface.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


@app.command("demo")
def _demo(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="MNIST's four IDX files, gzipped or not. Without it: scikit-learn's digits.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Times through the data. Without it: 20, or 5 for MNIST."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**32 - 1, help="Decides the split, the parameters and the order of images."
        ),
    ] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("demo"),
) -> None:
    """Train LeNet-5 on handwritten digits, save it, and load it into a fresh network."""
    run_demo(Settings(data=data, epochs=epochs, seed=seed, out=out))


@app.command(
    "launch",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=_EXAMPLES,
)
def _launch(
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="A script, or with -m a module.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Go to the program as they are.")
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, help="How many processes.")
    ] = 1,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices-per-process",
            min=1,
            metavar="K",
            help="Devices of each process: the GPUs 0 to K-1, K to 2K-1, …, or K virtual devices "
            "of the CPU. Without it: one GPU, or what XLA_FLAGS says.",
        ),
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", "-m", help="PROGRAM is the name of a module.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="At which the processes meet. Without it: a free one."),
    ] = None,
) -> None:
    """Run a program in several processes on this host, which train together.

    Every line of a process comes behind its rank. When one fails or is
    killed, the others are ended, and what it said comes last; the exit
    code is its own. Ctrl-C goes to all.
    """
    code = run_launch(Launch(processes, program, tuple(arguments or ()), module, devices, port))
    raise typer.Exit(code)


servers_app = typer.Typer(help="The parameter server.", no_args_is_help=True)
app.add_typer(servers_app, name="ps")


@servers_app.callback()
def _servers() -> None:
    """The parameter server."""


@servers_app.command("status")
def _status(
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of the Ray cluster that the servers are on.")
    ],
    job: Annotated[str, typer.Option(help="The run, as in PARAMESH_PS_JOB.")] = "default",
    every: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Keep the table up to date until Ctrl-C."),
    ] = None,
) -> None:
    """Show the servers of a run: versions, what they hold, rates, and the last snapshots."""
    show_status(address, job, every, Console())


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
    except (DemoError, LaunchError, ParameterServerError) as error:
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
        show()
        code = getattr(error, "exit_code", 2)
    if code == _INTERRUPTED:
        typer.echo("paramesh: interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)
