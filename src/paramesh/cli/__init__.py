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
from paramesh.checkpoint.conversion.name_rules import LIBRARIES
from paramesh.cli.convert import Wishes, run_convert
from paramesh.cli.demo import Settings, run_demo
from paramesh.cli.errors import CommandError
from paramesh.cli.inspect import SORTS, View, run_compare, run_inspect, run_report
from paramesh.cli.launch import Launch, run_launch
from paramesh.cli.launch_servers import Servers
from paramesh.cli.new import new_project
from paramesh.cli.plan import ConversionPlan, run_calibrate, run_plan
from paramesh.cli.restructure import Slices, run_merge, run_reshard
from paramesh.cli.run import Program, check, program
from paramesh.cli.servers import show_status
from paramesh.cli.suggestions import among, with_suggestion
from paramesh.errors import ParameterServerError

__all__ = ["app", "main"]

_INTERRUPTED = 130

_EXAMPLES = """Examples:

paramesh launch -n 4 train.py --epochs 3

paramesh launch -n 2 --devices-per-process 4 -m project.train

paramesh launch --servers 2 --workers 4 train.py
"""

app = typer.Typer(
    name="paramesh",
    help="Named, lazy, sharded parameters for JAX, with MindSpore's interface.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


#: Options that several commands have.
_Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="A prefix that ends at a dot, or a pattern with * for the whole name. Repeatable.",
    ),
]
_Format = Annotated[
    str | None,
    typer.Option(
        help="Of DST. Without it: what its name ends with.",
        autocompletion=among("safetensors", "ckpt", "huggingface", "sharded"),
    ),
]
_Checksums = Annotated[
    bool, typer.Option("--checksums", help="Keep checksums of the arrays in DST.")
]
_Force = Annotated[bool, typer.Option("--force", help="Replace DST if it is there.")]


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
    devices: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cut the network over 2, 4, 8, 16 or 32 devices, virtual ones on a CPU, and show "
            "which of them holds what.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress of the training.")
    ] = False,
) -> None:
    """Train LeNet-5 on handwritten digits, save it, and load it into a fresh network."""
    run_demo(Settings(data, epochs, seed, out, devices, quiet))


_NEW_EXAMPLES = """Example:

paramesh new spirals && cd spirals && python train.py && python -m pytest
"""


@app.command("new", epilog=_NEW_EXAMPLES)
def _new(
    path: Annotated[
        Path, typer.Argument(metavar="NAME", help="The new folder; its name is the project's.")
    ],
) -> None:
    """Write a small project: a network, data, a training script, and a test that passes.

    The script trains, goes on where it was interrupted, and saves the
    network. Nothing outside of the new folder is touched.
    """
    new_project(path, Console())


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
        int | None,
        typer.Option("--processes", "-n", min=1, help="How many processes. Without it: one."),
    ] = None,
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
    servers: Annotated[
        int | None,
        typer.Option(
            "--servers", min=1, max=256, metavar="S", help="How many parameter servers, on Ray."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=4096,
            metavar="W",
            help="With --servers: how many workers, each on its own beside the others. One that is "
            "killed is started again.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --servers: of the Ray cluster that they are on. Without it: one is started "
            "here, and ended.",
        ),
    ] = None,
    wal_dir: Annotated[
        Path | None,
        typer.Option(
            "--wal-dir",
            metavar="DIR",
            help="With --servers: for their logs. Started with it again, the run goes on. Without "
            "it: what the script says, or a temporary one.",
        ),
    ] = None,
    restarts: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="How often each worker that was killed is started again."
        ),
    ] = 3,
    job: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --address: of the run, for `paramesh ps status`."),
    ] = None,
) -> None:
    """Run a program in several processes on this host, which train together.

    Every line of a process comes behind its rank. When one fails or is
    killed, the others are ended, and what it said comes last; the exit
    code is its own. Ctrl-C goes to all.

    With --servers and --workers, a worker that is killed is started again
    and goes on where it was; an exception in it ends the run.
    """
    if servers is None and not (workers is address is wal_dir is job is None):
        raise CommandError("--workers, --address, --wal-dir and --job go with --servers")
    if workers is not None and processes is not None:
        raise CommandError("give -n, or --workers: workers are not joined by JAX, processes are")
    asked = None
    if servers is not None:
        if workers is None and processes is None:
            workers = 1
        asked = Servers(servers, workers, address, wal_dir, job, restarts)
    words = tuple(arguments or ())
    raise typer.Exit(
        run_launch(Launch(processes or 1, program, words, module, devices, port, asked))
    )


_RUN_EXAMPLES = """Examples:

paramesh run train.py --epochs 3

paramesh run --check train.py

paramesh run --check --json models

paramesh launch -n 4 -m paramesh run train.py
"""


@app.command(
    "run",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=_RUN_EXAMPLES,
)
def _run(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PROGRAM",
            help="A script, or with -m a module; with --check a script or a folder.",
        ),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Go to the program as they are.")
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", "-m", help="PROGRAM is the name of a module.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a device_target that this machine does not have."),
    ] = False,
    checked: Annotated[
        bool,
        typer.Option(
            "--check", help="Run nothing: list what the script uses, and what is missing."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: JSON on stdout.")] = False,
) -> Program | None:
    """Run a MindSpore script as it is: `import mindspore` gives paramesh.

    The script sees what it sees under python: its arguments, its folder
    first among the import paths, and tracebacks at its own lines. A
    device_target of "Ascend" or "GPU" becomes the backend that is there,
    with a line that says so.

    With --check nothing is run. What the script and the local modules that
    it imports use of MindSpore is listed with file and line: missing, or
    there with a difference. For a folder: how many of its scripts have
    everything, and the names that are missing most. Exit code: 0; 1 if
    something is missing; 2 after a mistake.
    """
    words = list(arguments or ())
    if not checked:
        if as_json:
            raise CommandError("--json goes with --check")
        return program(path, words, module, strict)
    as_json = as_json or words == ["--json"]
    if module or strict or words not in ([], ["--json"]):
        raise CommandError("--check takes one PATH and --json: paramesh run --check PATH")
    raise typer.Exit(check(Path(path), as_json, Console()))


_PLAN_EXAMPLES = """Examples:

paramesh plan train.py --target h100:8

paramesh plan train.py --target v5e:8x8 --memory 12GB --html plan.html -- --batch 512

paramesh plan -m project.train --target h100:2x8 --json

paramesh plan --calibrate
"""


@app.command("plan", epilog=_PLAN_EXAMPLES)
def _plan(
    path: Annotated[
        str | None,
        typer.Argument(metavar="PROGRAM", help="A script, or with -m a module."),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]...", help="Go to the program; options of it behind --."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:SHAPE",
            help="The devices: h100:8 (one host), h100:2x8 (two hosts of eight), a100 and h200 "
            "alike; v5e:8x8, v5p:4x4x4, v6e:4x4 (slices of TPUs); cpu:8.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Of a device, such as 80GB. Without it: what the hardware has."
        ),
    ] = None,
    module: Annotated[
        bool, typer.Option("--module", "-m", help="PROGRAM is the name of a module.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page: who holds what, and what is sent when."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Measure the devices that are here; later plans count with that."
        ),
    ] = False,
) -> None:
    """Plan the training step of a script for hardware that need not be there.

    The script runs up to its first training step, on one device and
    without computing weights. The step is searched for layouts, compiled
    with the compiler of that hardware, and never run: what each device
    would hold, what it would send, and how long a step should take.

    Compilers come with the extras plan-cuda and plan-tpu; cpu needs none.
    Exit code: 0; 1 if the step does not fit; 2 after a mistake.
    """
    if calibrate:
        if not (path is target is memory is html is None) or module or as_json:
            raise CommandError("--calibrate stands alone: paramesh plan --calibrate")
        raise typer.Exit(run_calibrate(Console()))
    if path is None or target is None:
        raise CommandError("give a script and its devices: paramesh plan train.py --target h100:8")
    words = tuple(arguments or ())
    asked = ConversionPlan(path, words, module, target, memory, as_json, html)
    raise typer.Exit(run_plan(asked, Console()))


servers_app = typer.Typer(help="The parameter server.", no_args_is_help=True)
app.add_typer(servers_app, name="ps")


@servers_app.callback()
def _servers() -> None:
    """The parameter server."""


@servers_app.command("status")
def _status(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Of the Ray cluster that the servers are on. Without it: that of the run of this "
            "user on this host, or the list of these runs if there are several.",
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The run, as in PARAMESH_PS_JOB. Without it: the only one that is known at the "
            "address, or 'default'.",
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Keep the table up to date until Ctrl-C."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each look, and no table.")
    ] = False,
) -> None:
    """Show the servers of a run: versions, what they hold, rates, and the last snapshots.

    A run that this user has started on this host is found by itself, with
    its token. For another one give --address, and its token in
    RAY_AUTH_TOKEN.

    Columns: how often a server was started; its virtual shards; updates
    that it has applied, and how many it is behind the foremost server;
    steps that the fastest worker is ahead of it; rows of tables, bytes
    held and bytes of its log; what came in and went out; workers whose
    gradients wait for those of others; the last snapshot.
    """
    show_status(address, job, every, Console(), json_lines=json)


_INSPECT_EXAMPLES = """Examples:

paramesh inspect net.safetensors

paramesh inspect net.ckpt --stats --only encoder --sort size

paramesh inspect before.safetensors after.safetensors --rtol 1e-3

paramesh inspect net.safetensors --json | jq '.totals'

paramesh inspect net.safetensors --html report.html --strategy strategy.json
"""


@app.command("inspect", epilog=_INSPECT_EXAMPLES)
def _inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A checkpoint.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="Compare with this one.")
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Read every array: min, max, mean, std, NaN, Inf.")
    ] = False,
    only: _Only = None,
    sort: Annotated[
        str, typer.Option(help="Order: file, name or size.", autocompletion=among(*SORTS))
    ] = "file",
    largest: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show the N largest alone.")
    ] = None,
    depth: Annotated[
        int, typer.Option(min=0, metavar="N", help="Levels of the totals by prefix; 0: none.")
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page: a tree to search, histograms, devices."),
    ] = None,
    strategy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --html: a strategy file, for the map of devices."),
    ] = None,
    rtol: Annotated[
        float, typer.Option(min=0.0, help="With OTHER: relative difference that does not count.")
    ] = 0.0,
    atol: Annotated[
        float, typer.Option(min=0.0, help="With OTHER: absolute difference that does not count.")
    ] = 0.0,
) -> None:
    """Show what is in a checkpoint, or what is different between two.

    Arrays are read a part at a time, so that a file larger than memory can
    be looked at. Exit code: 0; with OTHER 0 if there is no difference and 1
    if there is; 2 after a mistake.
    """
    if sort not in SORTS:
        raise CommandError(f"--sort {sort}: there are {', '.join(SORTS)}")
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


@app.command("convert", epilog=_CONVERT_EXAMPLES)
def _convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A checkpoint.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The new file.")],
    format: _Format = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Of all floating-point arrays: bfloat16, float16, float32, float64.",
            autocompletion=among("bfloat16", "float16", "float32", "float64"),
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="LIBRARY",
            help="Take the names and layouts of torch or flax.",
            autocompletion=among(*LIBRARIES),
        ),
    ] = None,
    back: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LIBRARY",
            help="SRC has those of torch or flax.",
            autocompletion=among(*LIBRARIES),
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX=KIND",
            help="Which layer a prefix in SRC is, where the names do not tell. Repeatable.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="Names that begin with OLD begin with NEW; * stands for anything. @FILE has one "
            "rule a line. The first that fits counts. Repeatable.",
        ),
    ] = None,
    only: _Only = None,
    checksums: _Checksums = False,
    force: _Force = False,
) -> None:
    """Convert a checkpoint: its format, element type, names and layouts.

    Arrays go through memory one at a time, and DST appears when it is
    complete. Names without a rule stay as they are, and are listed.
    """
    run_convert(
        source,
        target,
        Wishes(
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


_MERGE_EXAMPLES = """Examples:

paramesh merge run.sharded net.safetensors

paramesh merge checkpoints net.safetensors --strategy strategy.ckpt

paramesh merge rank_*/net.ckpt net.ckpt --strategy strategy.ckpt
"""


@app.command("merge", epilog=_MERGE_EXAMPLES)
def _merge(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC",
            help="A sharded checkpoint, a folder of rank_0, rank_1, …, or the files of all ranks.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The new file.")],
    strategy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The strategy file, paramesh's or MindSpore's, that files of ranks were saved "
            "under.",
        ),
    ] = None,
    format: _Format = None,
    only: _Only = None,
    checksums: _Checksums = False,
    force: _Force = False,
) -> None:
    """Make one file of a checkpoint that lies in slices.

    Arrays go through memory one at a time, and DST appears when it is
    complete. Of slices that several ranks hold, one copy is read.
    """
    run_merge(Slices(sources, strategy, only or ()), target, format, checksums, force)


_RESHARD_EXAMPLES = """Examples:

paramesh reshard net.safetensors net.sharded --processes 4

paramesh reshard run.sharded other.sharded --strategy strategy.json --processes 2

paramesh reshard net.ckpt net.sharded --devices 8 --layout 'fc*.weight=4,2'

paramesh reshard checkpoints net.sharded --from-strategy strategy.ckpt --processes 4
"""


@app.command("reshard", epilog=_RESHARD_EXAMPLES)
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
            min=1, max=4096, metavar="N", help="Into how many part files. Without it: one a device."
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="For how many devices layouts are. Without it: one a process."
        ),
    ] = None,
    strategy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Cut by the layouts of this strategy file."),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=PARTS",
            help="Cut what matches into so many parts along each axis. The first that fits counts. "
            "Repeatable.",
        ),
    ] = None,
    from_strategy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The strategy file that files of ranks in SRC have."),
    ] = None,
    only: _Only = None,
    checksums: _Checksums = False,
    force: _Force = False,
) -> None:
    """Write a checkpoint as a sharded one, cut otherwise.

    What no layout is given for is cut along axis 0 if it is large. Slices
    go through memory one at a time, and DST is no checkpoint before it is
    complete.
    """
    slices = Slices([source], from_strategy, only or ())
    run_reshard(slices, target, processes, devices, strategy, layout or (), checksums, force)


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
        sys.exit(code.run())
    if code == _INTERRUPTED:
        typer.echo("paramesh: interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)
