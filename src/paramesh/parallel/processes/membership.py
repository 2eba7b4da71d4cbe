"""This process among others: what the environment says, joining them, and leaving.

Glossary
    process     one Python program; it has one device or more
    index       a process's place among the processes, from 0
    rank        a device's place among all devices (see `mesh.py`); with one device for each process
                it is the index
    coordinator the process 0, at whose address the others meet

Who says how many processes there are, in this order:
    paramesh launch     PARAMESH_COORDINATOR, PARAMESH_PROCESSES, PARAMESH_PROCESS
    MindSpore           MS_WORKER_NUM, MS_NODE_ID, or RANK_SIZE, RANK_ID; the address in
                        MS_SCHED_HOST and MS_SCHED_PORT
    SLURM, Open MPI     as JAX itself reads them
JAX has to know the others before it opens a device, so `join` comes first in a program.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from paramesh.errors import ContextError
from paramesh.parallel.processes.failures import fail, watch

#: MindSpore's own defaults for an address that is not given.
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8118

#: Seconds that a process waits for the others to come.
JOIN_SECONDS = 300
#: A process that has not been heard of for so many seconds is taken to be dead.
HEARTBEAT_SECONDS = 20
#: Seconds that a process which is done waits for the others: a day.
LEAVE_SECONDS = 86_400

_WORKER, _SCHEDULER = "MS_WORKER", "MS_SCHED"


@dataclass(frozen=True)
class Membership:
    """What the environment says of this process.

    Attributes:
        address: host:port of the coordinator; None where JAX finds it by itself.
        count: how many processes there are.
        index: which one this is.
        said_by: the variables that said so, with their values.
        devices: the devices of this host that belong to this process; None for all, or for JAX's
            choice.
    """

    address: str | None
    count: int
    index: int
    said_by: str
    devices: tuple[int, ...] | None = None


class _State:
    membership: Membership | None = None
    workers: int | None = None


_state = _State()


def detect(environment: Mapping[str, str] | None = None) -> Membership | None:
    """What the environment says of this process; None if it is alone.

    Raises:
        ContextError: a variable is missing, or its value is not valid; the message names both.
    """
    variables = os.environ if environment is None else environment
    for read in (_launched, _mindspore, _slurm, _open_mpi):
        found = read(Variables(variables))
        if found is not None:
            return found if found.count > 1 else None
    return None


def join(timeout: float = JOIN_SECONDS, heartbeat: float = HEARTBEAT_SECONDS) -> bool:
    """Meet the other processes, if the environment says that there are others.

    Comes before the first use of a device. Called again it does nothing. A process that was
    connected by `jax.distributed.initialize` stays as it is. On the CPU JAX's collectives are
    gloo's, on GPUs NCCL's. From here on an uncaught exception ends this process at once, without
    waiting for the others, so that they learn of it.

    Args:
        timeout: seconds to wait for the others.
        heartbeat: a process that has not been heard of for so many seconds is taken to be dead,
            and the others end.

    Returns:
        Whether this process is one of several.

    Raises:
        SystemExit: this is MindSpore's scheduler (MS_ROLE), which has nothing to do here.
        ContextError: the variables contradict each other, the coordinator cannot be reached or its
            port is taken, or devices are in use already. Where other processes do not come in
            time, the coordinator ends with a message, since JAX cannot go on.
    """
    if _state.membership is not None:
        return True
    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    found = detect()
    if found is None:
        return False
    options: dict[str, Any] = {}
    if found.address is not None:
        options = {
            "coordinator_address": found.address,
            "num_processes": found.count,
            "process_id": found.index,
            "local_device_ids": found.devices,
            "cluster_detection_method": "deactivate",
        }
        host, port = _split(found)
        if host in ("127.0.0.1", "localhost"):
            options["coordinator_bind_address"] = f"127.0.0.1:{port}"
        # JAX ends the process with a C++ stack where it cannot connect: look first.
        if found.index == 0:
            _check_free(port, found)
        else:
            _wait_for(host, port, timeout, found)
    try:
        with _bounded(timeout, found):
            jax.distributed.initialize(
                initialization_timeout=int(timeout) + 30,
                heartbeat_timeout_seconds=max(1, int(heartbeat)),
                shutdown_timeout_seconds=LEAVE_SECONDS,
                **options,
            )
    except RuntimeError as error:
        if "must be called before" not in str(error):
            raise
        raise ContextError(
            f"This is process {found.index} of {found.count} ({found.said_by}), but devices were "
            "used before it met the others, so JAX can no longer connect them. Call "
            "paramesh.communication.init() before the first Tensor is made, or start the program "
            "with `paramesh launch`, which does."
        ) from None
    _state.membership = found
    watch()
    return True


def membership() -> Membership | None:
    """What `join` went by; None if this process is alone or was connected otherwise."""
    return _state.membership


def worker_of_servers() -> tuple[int, int] | None:
    """(rank, number) of this worker among those that meet at parameter servers alone.

    None for another process, and for those that JAX has joined.

    Raises:
        ContextError: a variable has a value that it cannot have.
    """
    if "PARAMESH_PS_WORKERS" not in os.environ or jax.process_count() > 1:
        return None
    count, rank = Variables(os.environ).members("PARAMESH_PS_WORKERS", "PARAMESH_PS_RANK")
    return rank, _state.workers or count


def set_workers_of_servers(count: int | None) -> None:
    """The parameter servers have another number of workers by now; None: as when they began."""
    _state.workers = count


def leave() -> None:
    """Leave the others: waits until all of them leave. Does nothing if this process is alone.

    Devices cannot be used over processes afterwards; a process joins once.
    """
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
    _state.membership = None


class Variables:
    """Reads variables of the environment, and remembers which for messages.

    What it reads raises ContextError where it is missing, or no value that it can be.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._seen: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return bool(self._variables.get(name))

    def text(self, name: str, default: str | None = None) -> str:
        """The value of a variable, or a default for one that is not there or empty."""
        value = self._variables.get(name) or default
        if value is None:
            raise ContextError(f"{self} is set, but {name} is not; both are needed.")
        if name in self:
            self._seen[name] = value
        return value

    def number(self, name: str, low: int, high: int, what: str, default: int | None = None) -> int:
        """An integer from low to high; `what` says what it is."""
        text = self.text(name, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError:
            raise ContextError(f"{name}={text!r} must be an integer: {what}.") from None
        if not low <= value <= high:
            raise ContextError(f"{name}={value} is outside {low}..{high}: it is {what} ({self}).")
        return value

    def members(self, count: str, index: str) -> tuple[int, int]:
        """The number of processes and the place of this one, from the variables of these names."""
        size = self.number(count, 1, 1 << 20, "how many processes there are")
        return size, self.number(index, 0, size - 1, f"the place of this process among {size}")

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._seen.items())


def _launched(variables: Variables) -> Membership | None:
    if "PARAMESH_PROCESSES" not in variables:
        return None
    count, index = variables.members("PARAMESH_PROCESSES", "PARAMESH_PROCESS")
    address = variables.text("PARAMESH_COORDINATOR") if count > 1 else None
    devices = None
    if "PARAMESH_DEVICES" in variables:
        first, last = variables.text("PARAMESH_DEVICES").split("-")
        devices = tuple(range(int(first), int(last) + 1))
    return Membership(address, count, index, str(variables), devices)


def _mindspore(variables: Variables) -> Membership | None:
    if "MS_WORKER_NUM" in variables:
        count, index = "MS_WORKER_NUM", "MS_NODE_ID"
    elif "RANK_SIZE" in variables:
        count, index = "RANK_SIZE", "RANK_ID"
    else:
        return None
    if variables.number("MS_SERVER_NUM", 0, 256, "how many servers there are", 0):
        return None  # they meet where the script asks for servers (see `ps.roles`)
    role = variables.text("MS_ROLE", _WORKER)
    if role == _SCHEDULER:
        print(
            f"paramesh: {variables}: worker 0 does what a scheduler does, so this process ends.",
            file=sys.stderr,
        )
        raise SystemExit(0)
    if role != _WORKER:
        raise ContextError(f"{variables}: expected {_WORKER}, or {_SCHEDULER}, which ends at once.")
    size, place = variables.members(count, index)
    host = variables.text("MS_SCHED_HOST", DEFAULT_HOST)
    port = variables.number("MS_SCHED_PORT", 1, 65535, "a port of worker 0", DEFAULT_PORT)
    devices = None
    if "DEVICE_ID" in variables:
        devices = (variables.number("DEVICE_ID", 0, 4095, "this process's device on its host"),)
    return Membership(f"{host}:{port}", size, place, str(variables), devices)


def _slurm(variables: Variables) -> Membership | None:
    # The first three are there inside of a step (srun) only, not in the script of a batch job.
    needed = ("SLURM_STEP_NODELIST", "SLURM_LOCALID", "SLURM_PROCID", "SLURM_NTASKS")
    if not all(name in variables for name in needed):
        return None
    count, index = variables.members("SLURM_NTASKS", "SLURM_PROCID")
    return Membership(None, count, index, str(variables))


def _open_mpi(variables: Variables) -> Membership | None:
    if "OMPI_COMM_WORLD_SIZE" not in variables:
        return None
    count, index = variables.members("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    if "OMPI_MCA_orte_hnp_uri" in variables or count == 1:
        return Membership(None, count, index, str(variables))
    # Open MPI 5 no longer says where the launcher is, and JAX no longer knows it.
    place = "OMPI_COMM_WORLD_LOCAL_RANK"
    local = variables.number(place, 0, count - 1, "this process's place on its host")
    if "JAX_COORDINATOR_ADDRESS" in variables:
        return Membership(
            variables.text("JAX_COORDINATOR_ADDRESS"), count, index, str(variables), (local,)
        )
    here = variables.number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, count, "the processes of this host")
    if here < count:
        raise ContextError(
            f"{variables}: this is Open MPI over several hosts, which does not say where process "
            "0 is. Say it: mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT …"
        )
    job = variables.text("PMIX_NAMESPACE", "")
    port = 61440 + zlib.crc32(job.encode()) % 4096
    return Membership(f"127.0.0.1:{port}", count, index, str(variables), (local,))


def _split(found: Membership) -> tuple[str, int]:
    host, _, port = str(found.address).rpartition(":")
    if not host or not port.isdigit():
        raise ContextError(
            f"The address of process 0 must be HOST:PORT, got {found.address!r} ({found.said_by})."
        )
    return host.strip("[]"), int(port)


def _check_free(port: int, found: Membership) -> None:
    with socket.socket(socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", port))
        except OSError as error:
            raise ContextError(
                f"Port {port}, at which process 0 of {found.count} is to meet the others, cannot "
                f"be opened: {error.strerror} ({found.said_by}). Another run may have it: end "
                "that, or choose another port."
            ) from error


def _wait_for(host: str, port: int, timeout: float, found: Membership) -> None:
    until = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise ContextError(
                    f"Process {found.index} of {found.count} did not reach process 0 at "
                    f"{host}:{port} within {timeout:g} s: {error} ({found.said_by}). Look whether "
                    "process 0 runs, and runs there."
                ) from None
            time.sleep(0.05)


@contextlib.contextmanager
def _bounded(timeout: float, found: Membership) -> Generator[None]:
    """End this process with a message when the `with` block takes longer.

    JAX's own end to the wait is an abort with a C++ stack, which cannot be caught.
    """

    def end() -> None:
        fail(
            f"paramesh: process {found.index} of {found.count} waited {timeout:g} s for the "
            f"others, and not all of them came ({found.said_by}).",
        )

    timer = threading.Timer(timeout, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
