"""The servers of `paramesh launch`: on a new Ray node, or in an existing cluster."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paramesh._compat import ray as ray_inside
from paramesh.cli.launch_hosts import HostsOfRun, Wanted, hosts_variables
from paramesh.cli.log_folder import LogFolder
from paramesh.cli.supervisor import ProcessSpec
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.access import given_token, token_variables
from paramesh.ps.deployment.cluster import HOST, check_address, join
from paramesh.ps.deployment.crew import Crew
from paramesh.ps.deployment.host_needs import check_host
from paramesh.ps.deployment.node import (
    check_installed,
    free_port,
    node_variables,
    start_command,
)
from paramesh.ps.deployment.registry import Entry
from paramesh.ps.deployment.status import end_servers
from paramesh.ps.durability.run_folder import launching
from paramesh.ps.processes.descriptors import raise_limit
from paramesh.ps.processes.janitor import Janitor, clean

#: Label of the process that runs the servers.
HOST_LABEL = "servers"


@dataclass(frozen=True)
class Servers:
    """The options of `paramesh launch` for servers.

    Args:
        count: number of servers.
        workers: number of independent workers; None: the joined processes are the workers.
        address: of a Ray cluster; None: a new one for this run.
        wal_dir: the folder of logs and snapshots; None: what the script says, or a temporary one.
        job: the name of the run; None for a unique one on a shared cluster.
        restarts: how often each worker is restarted after a signal has killed it.
        hosts: addresses or names of the hosts of the cluster to use; none: all.
        variables: names of variables, or NAME=VALUE, for workers on other hosts.
    """

    count: int
    workers: int | None = None
    address: str | None = None
    wal_dir: Path | None = None
    job: str | None = None
    restarts: int = 3
    hosts: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


class Deployment(NamedTuple):
    """What serves the workers of a run.

    Attributes:
        processes: that run the servers.
        variables: for the environment of the workers.
        hosts: over which the workers are spread; None: they are all on this one.
        logs: the folder for the output of all; None: there is none.
        entry: of the run.
    """

    processes: list[ProcessSpec]
    variables: Mapping[str, str]
    hosts: HostsOfRun | None = None
    logs: LogFolder | None = None
    entry: Entry | None = None


@contextmanager
def served(
    servers: Servers, program: str | None = None, devices: int | None = None
) -> Generator[Deployment]:
    """What serves the workers of a run.

    At the end, all processes and files are removed; on an existing cluster, the servers of this
    run.

    Args:
        servers: the options for servers.
        program: the path of the script, which all hosts need; None: it is a module.
        devices: of each worker.

    Raises:
        ParameterServerError: Ray is not installed, the address is not safe, a host does not have
            what the run needs, or the run in the folder is still active.
        CommandError: several hosts, and no `wal_dir`.
    """
    variables = {environment.SERVERS: str(servers.count)}
    if servers.workers is not None:
        variables[environment.WORKERS] = str(servers.workers)
    if servers.wal_dir is not None:
        variables[environment.WAL_DIR] = str(servers.wal_dir.absolute())
    if servers.address is not None:
        check_address(servers.address)
        join(servers.address)  # whom it does not let in makes no folder
    with ExitStack() as stack:
        # First: a launch that is refused starts nothing, and ends nothing of the one that goes on.
        if servers.wal_dir is not None:
            stack.enter_context(launching(servers.wal_dir))
        if servers.address is None:
            yield stack.enter_context(_on_own_node(servers, variables))
            return
        job = servers.job or f"launch-{secrets.token_hex(4)}"
        variables |= {environment.ADDRESS: servers.address, environment.JOB: job}
        if servers.workers is None or servers.address.startswith("ray://"):
            # Processes that JAX joins are on one host, and so is who is no member of the cluster.
            yield stack.enter_context(_beside_cluster(servers, variables, job))
            return
        check_installed()
        crew = Crew(servers.address, job)
        stack.callback(crew.close)
        wanted = Wanted(servers.count, servers.workers, servers.hosts, servers.variables, devices)
        hosts, logs = HostsOfRun(crew, wanted), None
        hosts.check(servers.wal_dir, program)
        if servers.wal_dir is not None:
            logs = _log_folder(servers.wal_dir)
        variables |= hosts_variables(hosts, logs)
        entry = _entry(servers, variables[environment.ADDRESS], job, given_token())
        stack.callback(entry.close)
        yield Deployment([], variables, hosts, logs, entry)


def _log_folder(wal_dir: Path) -> LogFolder:
    try:
        return LogFolder(wal_dir.absolute())
    except OSError as error:
        raise ParameterServerError(
            f"the output of the run cannot be kept in '{wal_dir / 'logs'}': "
            f"{error.strerror or error}"
        ) from None


@contextmanager
def _beside_cluster(servers: Servers, variables: dict[str, str], job: str) -> Generator[Deployment]:
    """Workers on this host, servers in a cluster."""
    assert servers.address is not None
    entry = _entry(servers, servers.address, job, given_token())
    try:
        yield Deployment([], variables)
    finally:
        entry.close()
        end_servers(servers.address, job)


@contextmanager
def _on_own_node(servers: Servers, variables: dict[str, str]) -> Generator[Deployment]:
    """Workers and servers on this host, with a Ray node that is started for them."""
    # The length of socket paths is limited, so they are not below a long TMPDIR.
    where = "/tmp" if os.name == "posix" else None
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir=where))
    janitor = Janitor(folder)
    entry: Entry | None = None
    raise_limit()  # processes that are started later inherit it, also Ray's own
    try:
        check_host(folder, HOST)
        port, token, job = free_port(), token_variables(), servers.job or "default"
        variables |= {environment.ADDRESS: f"{HOST}:{port}", environment.JOB: job, **token}
        variables[environment.SCRATCH] = str(folder / "servers")
        command = start_command(folder, port=port)
        node = ProcessSpec(
            HOST_LABEL, command, node_variables(folder) | token, server=True, quiet=True
        )
        entry = _entry(servers, variables[environment.ADDRESS], job, token[ray_inside.AUTH_TOKEN])
        yield Deployment([node], variables)
    finally:
        if entry is not None:
            entry.close()
        clean(str(folder), patience=0.0)
        shutil.rmtree(folder, ignore_errors=True)
        janitor.dismiss()


def _entry(servers: Servers, address: str, job: str, token: str | None) -> Entry:
    return Entry(
        address=address,
        job=job,
        servers=servers.count,
        workers=servers.workers or 1,
        wal_dir=None if servers.wal_dir is None else str(servers.wal_dir.absolute()),
        token=token,
    )
