"""The servers of `paramesh launch`: on a new Ray node, or in an existing cluster."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paramesh._compat import ray as ray_inside
from paramesh.cli.supervisor import ProcessSpec
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.access import given_token, token_variables
from paramesh.ps.deployment.cluster import HOST, check_address
from paramesh.ps.deployment.node import free_port, node_variables, start_command
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
    """

    count: int
    workers: int | None = None
    address: str | None = None
    wal_dir: Path | None = None
    job: str | None = None
    restarts: int = 3


@contextmanager
def served(servers: Servers) -> Generator[tuple[list[ProcessSpec], dict[str, str]]]:
    """The processes that run the servers, and the environment variables for the workers.

    At the end, all processes and files are removed; on an existing cluster, the servers of this
    run.

    Raises:
        ParameterServerError: Ray is not installed, the address is not safe, or the run in the
            folder is still active.
    """
    variables = {environment.SERVERS: str(servers.count)}
    if servers.workers is not None:
        variables[environment.WORKERS] = str(servers.workers)
    if servers.address is not None:
        check_address(servers.address)
    if servers.wal_dir is None:
        with _served(servers, variables) as found:
            yield found
        return
    variables[environment.WAL_DIR] = str(servers.wal_dir.absolute())
    with launching(servers.wal_dir), _served(servers, variables) as found:
        yield found


@contextmanager
def _served(
    servers: Servers, variables: dict[str, str]
) -> Generator[tuple[list[ProcessSpec], dict[str, str]]]:
    if servers.address is not None:
        job = servers.job or f"launch-{secrets.token_hex(4)}"
        variables |= {environment.ADDRESS: servers.address, environment.JOB: job}
        entry = _entry(servers, servers.address, job, given_token())
        try:
            yield [], variables
        finally:
            entry.close()
            end_servers(servers.address, job)
        return
    # The length of socket paths is limited, so they are not below a long TMPDIR.
    where = "/tmp" if os.name == "posix" else None
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir=where))
    janitor = Janitor(folder)
    entry: Entry | None = None
    raise_limit()  # processes that are started later inherit it, also Ray's own
    try:
        port, token, job = free_port(), token_variables(), servers.job or "default"
        variables |= {environment.ADDRESS: f"{HOST}:{port}", environment.JOB: job, **token}
        variables[environment.SCRATCH] = str(folder / "servers")
        command = start_command(folder, port=port)
        node = ProcessSpec(
            HOST_LABEL, command, node_variables(folder) | token, server=True, quiet=True
        )
        entry = _entry(servers, variables[environment.ADDRESS], job, token[ray_inside.AUTH_TOKEN])
        yield [node], variables
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
