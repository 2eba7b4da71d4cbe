"""`paramesh demo`, `paramesh launch` and `paramesh run`: commands that run a program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paramesh.cli.commands.options import PASS_ON, Module, ProgramArguments
from paramesh.cli.errors import CommandError
from paramesh.cli.run import Program, check, program

_NEW_EXAMPLES = """Example:

paramesh new spirals && cd spirals && python train.py && python -m pytest
"""

_LAUNCH_EXAMPLES = """Examples:

paramesh launch -n 4 train.py --epochs 3

paramesh launch -n 2 --devices-per-process 4 -m project.train

paramesh launch --servers 2 --workers 4 train.py

paramesh launch --address 10.0.0.1:6379 --servers 4 --workers 16 --wal-dir /shared/run train.py
"""

_RUN_EXAMPLES = """Examples:

paramesh run train.py --epochs 3

paramesh run --check train.py

paramesh run --check --json models

paramesh launch -n 4 -m paramesh run train.py
"""


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("demo")(_demo)
    app.command("new", epilog=_NEW_EXAMPLES)(_new)
    app.command("launch", context_settings=PASS_ON, epilog=_LAUNCH_EXAMPLES)(_launch)
    app.command("run", context_settings=PASS_ON, epilog=_RUN_EXAMPLES)(_run)


def _demo(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="MNIST's four IDX files, gzipped or not. Default: scikit-learn's digits.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of epochs. Default: 20, or 5 for MNIST."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**32 - 1, help="Seed of the split, the parameters and the order of images."
        ),
    ] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder.")] = Path("demo"),
    devices: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Shard the network over 2, 4, 8, 16 or 32 devices (virtual ones on a CPU), and "
            "show which device holds which shards.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress of the training.")
    ] = False,
) -> None:
    """Train LeNet-5 on handwritten digits, save it, and load it into a fresh network."""
    from paramesh.cli.demo import Settings, run_demo

    run_demo(Settings(data, epochs, seed, out, devices, quiet))


def _new(
    path: Annotated[
        Path, typer.Argument(metavar="NAME", help="The new folder; its name is the project's.")
    ],
) -> None:
    """Write a small project: a network, data, a training script, and a test that passes.

    The script trains, resumes a run that was interrupted, and saves the
    network. Nothing outside of the new folder is touched.
    """
    from rich.console import Console

    from paramesh.cli.new import new_project

    new_project(path, Console())


def _launch(
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="A script, or with -m a module.")
    ],
    arguments: ProgramArguments = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-n", min=1, help="Number of processes. Default: 1."),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices-per-process",
            min=1,
            metavar="K",
            help="Devices of each process: the GPUs 0 to K-1, K to 2K-1, …, or K virtual devices "
            "of the CPU. Default: one GPU, or what XLA_FLAGS says.",
        ),
    ] = None,
    module: Module = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the coordinator. Default: a free one."),
    ] = None,
    servers: Annotated[
        int | None,
        typer.Option(
            "--servers", min=1, max=256, metavar="S", help="Number of parameter servers, on Ray."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=4096,
            metavar="W",
            help="With --servers: number of independent workers. One that is killed is restarted.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --servers: the Ray cluster to run them on, and the workers on its hosts. "
            "Default: one that is started on this host for the run.",
        ),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            metavar="HOST,…",
            help="With --address: use only these hosts of the cluster (names or addresses). "
            "Default: all.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="With --address: a variable for workers on other hosts, besides JAX_…, XLA_…, "
            "PARAMESH_… and PYTHONPATH. Repeatable.",
        ),
    ] = None,
    wal_dir: Annotated[
        Path | None,
        typer.Option(
            "--wal-dir",
            metavar="DIR",
            help="With --servers: folder of their write-ahead logs. Started with the same folder, "
            "the run resumes. Several hosts have to share it. Default: what the script says, or a "
            "temporary folder.",
        ),
    ] = None,
    restarts: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="How often each worker that was killed, or lost with its host, is restarted.",
        ),
    ] = 3,
    job: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --address: name of the run, for `paramesh ps status`."
        ),
    ] = None,
) -> None:
    """Run a program in several processes, which train together.

    Each line of output is prefixed with the rank of its process. When a
    process fails or is killed, the others are terminated, and its error is
    printed last; its exit code is that of the command. Ctrl-C is passed on
    to all processes.

    With --servers and --workers, a worker that is killed is restarted and
    resumes where it was; an exception in a worker ends the run. With
    --address too, servers and workers are spread over the hosts of a Ray
    cluster, with this host among them, and restarted elsewhere when a host
    is lost. All output is also in WAL_DIR/logs.
    """
    if servers is None and not (workers is address is wal_dir is job is None):
        raise CommandError("--workers, --address, --wal-dir and --job go with --servers")
    if (hosts or env) and (address is None or workers is None):
        raise CommandError("--hosts and --env go with --address and --workers")
    if workers is not None and processes is not None:
        raise CommandError(
            "give -n or --workers, not both: workers are independent, the processes of -n are "
            "joined by JAX"
        )
    from paramesh.cli.launch import Launch, run_launch
    from paramesh.cli.launch_servers import Servers

    of_servers = None
    if servers is not None:
        if workers is None and processes is None:
            workers = 1
        of_servers = Servers(
            servers,
            workers,
            address,
            wal_dir,
            job,
            restarts,
            tuple(word for word in (hosts or "").split(",") if word),
            tuple(env or ()),
        )
    words = tuple(arguments or ())
    raise typer.Exit(
        run_launch(Launch(processes or 1, program, words, module, devices, port, of_servers))
    )


def _run(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PROGRAM",
            help="A script, or with -m a module; with --check a script or a folder.",
        ),
    ],
    arguments: ProgramArguments = None,
    module: Module = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Reject a device_target that this machine does not have."),
    ] = False,
    checked: Annotated[
        bool,
        typer.Option(
            "--check", help="Do not run it: list what the script uses, and what is missing."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: JSON on stdout.")] = False,
) -> Program | None:
    """Run an unchanged MindSpore script: `import mindspore` gives paramesh.

    The script runs as under python: with its own arguments, its folder
    first on sys.path, and tracebacks that show its own lines. A
    device_target of "Ascend" or "GPU" becomes the backend that is
    available, and a line on stderr says so.

    With --check nothing is run. What the script and the local modules that
    it imports use of MindSpore is listed with file and line, if it is
    missing or behaves differently. For a folder: how many of its scripts
    have all they use, and the names that are missing most often. Exit code:
    0; 1 if something is missing; 2 for invalid arguments or data.
    """
    words = list(arguments or ())
    if not checked:
        if as_json:
            raise CommandError("--json goes with --check")
        return program(path, words, module, strict)
    as_json = as_json or words == ["--json"]
    if module or strict or words not in ([], ["--json"]):
        raise CommandError("--check takes one PATH and --json: paramesh run --check PATH")
    from rich.console import Console

    raise typer.Exit(check(Path(path), as_json, Console()))
