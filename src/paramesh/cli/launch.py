"""`paramesh launch`: one program in several processes, with or without servers.

They are on this host; workers of servers on a Ray cluster are on all hosts of it.

Glossary
    process     one of several that JAX joins, and that take part in each collective (`-n`)
    worker      an independent process that exchanges gradients through servers (`--workers`); it is
                restarted if it is killed
"""

from __future__ import annotations

import functools
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from paramesh.cli.errors import CommandError
from paramesh.cli.joining_workers import folder_of_run, joining
from paramesh.cli.launch_hosts import CREW_LABEL
from paramesh.cli.launch_servers import HOST_LABEL, Servers, served
from paramesh.cli.supervisor import Add, Failure, Interrupted, ProcessSpec, Show, supervise
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.node_failure import what_ended, what_to_do, without_noise

_VIRTUAL = "--xla_force_host_platform_device_count"


class LaunchError(CommandError):
    """The processes cannot be started; the message is one line with the reason."""


@dataclass(frozen=True)
class Launch:
    """What to run.

    Args:
        processes: number of processes.
        program: path of a script, or name of a module.
        arguments: for the program.
        module: whether `program` is a module.
        devices: of each process; None for one GPU, or as many CPU devices as the environment says.
        port: of the coordinator; None for a free one.
        servers: the servers of the run; None: there are none.
    """

    processes: int
    program: str
    arguments: Sequence[str] = ()
    module: bool = False
    devices: int | None = None
    port: int | None = None
    servers: Servers | None = None


def run_launch(launch: Launch) -> int:
    """Run the processes to their end, and print their output.

    Returns:
        The exit code: 0, or that of the process that failed first (128 and the signal's number if
        it was killed), which is shown last.

    Raises:
        LaunchError: the program does not exist, or cannot be started.
        KeyboardInterrupt: after Ctrl-C; all processes have ended.
    """
    if launch.servers is None:
        return _run(workers(launch), launch)
    program = None if launch.module else launch.program
    check_program(launch)
    with served(launch.servers, program, launch.devices) as deployment:
        processes = workers(launch, deployment.variables)
        hosts, logs = deployment.hosts, deployment.logs
        later = None
        if launch.servers.workers is not None:

            def joiner(rank: int, count: int) -> ProcessSpec:
                spec = _independent_worker(launch, dict(deployment.variables), rank, count)
                return spec if hosts is None else hosts.joining(rank, spec, logs)

            place = folder_of_run(launch.servers.wal_dir, deployment.variables)
            later = functools.partial(joining, place, joiner)
        if hosts is None:
            return _run([*deployment.processes, *processes], launch, None, later)
        spread = hosts.spread(processes, deployment.entry, logs)
        return _run(spread, launch, lambda show: hosts.shown(show, logs), later)


def _run(
    processes: Sequence[ProcessSpec],
    launch: Launch,
    beside: Callable[[Show], AbstractContextManager[None]] | None = None,
    later: Callable[[Add], AbstractContextManager[None]] | None = None,
) -> int:
    color = Console().color_system is not None
    try:
        failure = supervise(processes, sys.stdout.buffer, sys.stderr.buffer, color, beside, later)
    except Interrupted as interrupted:
        if interrupted.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        return 128 + interrupted.number
    except OSError as error:
        raise LaunchError(f"{error.filename or sys.executable}: {error.strerror}") from error
    if failure is None:
        return 0
    sys.stderr.write(_failure_text(failure, launch))
    return failure.code


def check_program(launch: Launch) -> None:
    """Raise LaunchError if there is no such script."""
    if not launch.module and not Path(launch.program).is_file():
        raise LaunchError(f"{launch.program}: no such script; for a module, give -m")


def workers(launch: Launch, variables: Mapping[str, str] | None = None) -> list[ProcessSpec]:
    """The processes that train, by rank.

    Args:
        launch: what to run.
        variables: for the environment of all of them, from `served`.

    Raises:
        LaunchError: there is no such script.
    """
    check_program(launch)
    words = _words(launch)
    each = launch.devices or 1
    servers = launch.servers
    if servers is not None and servers.workers is not None:
        return [
            _independent_worker(launch, dict(variables or {}), at, servers.workers)
            for at in range(servers.workers)
        ]
    shared = {
        **(variables or {}),
        "PARAMESH_COORDINATOR": f"127.0.0.1:{launch.port or _free_port()}",
        "PARAMESH_PROCESSES": str(launch.processes),
        # Its handler would prevent SIGTERM from terminating a process.
        "JAX_ENABLE_PREEMPTION_SERVICE": "0",
    }
    if launch.devices is not None:
        shared["XLA_FLAGS"] = _virtual_devices(each)
    return [
        ProcessSpec(
            f"rank {at}" if each == 1 else f"process {at}",
            words,
            shared
            | {
                "PARAMESH_PROCESS": str(at),
                "PARAMESH_DEVICES": f"{at * each}-{at * each + each - 1}",
            }
            | ({} if servers is None else {environment.RANK: str(at)}),
        )
        for at in range(launch.processes)
    ]


def _words(launch: Launch) -> list[str]:
    words = [sys.executable, "-m", "paramesh.parallel.processes.worker"]
    words += ["-m"] if launch.module else []
    return [*words, launch.program, *launch.arguments]


def _independent_worker(
    launch: Launch, variables: dict[str, str], at: int, count: int
) -> ProcessSpec:
    """The worker of a rank, among so many."""
    servers, each = launch.servers, launch.devices
    assert servers is not None
    # Whatever the environment says.
    variables |= {"PARAMESH_PROCESSES": "1", "PARAMESH_PROCESS": "0"}
    variables |= {environment.RANK: str(at), environment.WORKERS: str(count)}
    if each is not None:
        variables["XLA_FLAGS"] = _virtual_devices(each)
        mine = range(at * each, (at + 1) * each)
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))
    return ProcessSpec(f"worker {at}", _words(launch), variables, restarts=servers.restarts)


def _virtual_devices(count: int) -> str:
    others = re.sub(rf"{_VIRTUAL}=\S*", "", os.environ.get("XLA_FLAGS", "")).split()
    return " ".join([*others, f"{_VIRTUAL}={count}"])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _failure_text(failure: Failure, launch: Launch) -> str:
    count = (launch.servers and launch.servers.workers) or launch.processes
    of = f" of {count}"
    if failure.label == HOST_LABEL:
        return _servers_failure_text(failure, launch)
    if failure.label == CREW_LABEL:
        return _cluster_failure_text(failure, launch)
    text = f"\nparamesh: {failure.label}{of} {failure.what}"
    text += "; the others were terminated." if count > 1 else "."
    if failure.code == 128 + 9:
        text += " If nobody killed it, the host ran out of memory."
    if failure.said.strip():
        text += f" Its last output:\n\n{failure.said.rstrip()}"
    return text + "\n"


def _servers_failure_text(failure: Failure, launch: Launch) -> str:
    folder = launch.servers and launch.servers.wal_dir
    ended = what_ended(failure.said)
    what = ended or f"Ray, which runs the servers, {failure.what}"
    text = f"\nparamesh: {what}. The servers and all workers were terminated. "
    text += what_to_do(None if folder is None else str(folder.absolute()), "--wal-dir")
    said = "" if ended else without_noise(failure.said)
    if said:
        text += f" Its last output:\n\n{said}"
    return text + "\n"


def _cluster_failure_text(failure: Failure, launch: Launch) -> str:
    servers = launch.servers
    assert servers is not None
    folder = None if servers.wal_dir is None else str(servers.wal_dir.absolute())
    text = (
        f"\nparamesh: the Ray cluster at {servers.address} is gone: its head, or the node of this "
        "host, has ended or was unreachable for too long. All workers were terminated. "
    )
    text += what_to_do(folder, "--wal-dir")
    return text + (f" Ray's last word: {failure.said.strip()}\n" if failure.said.strip() else "\n")
