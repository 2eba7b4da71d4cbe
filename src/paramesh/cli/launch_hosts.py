"""`paramesh launch --address`: workers on all hosts of a Ray cluster.

Where which one is, and where it goes when its host is lost, is decided by `ps.deployment.spread`.
A worker on the host of the launcher is its child, as ever; the others are started by the crew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramesh._compat import ray as ray_inside
from paramesh.cli.errors import CommandError
from paramesh.cli.log_folder import LogFolder, Show
from paramesh.cli.supervisor import NoPlace, ProcessSpec, Running
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.cluster import check_address
from paramesh.ps.deployment.cluster_hosts import chosen
from paramesh.ps.deployment.crew import Crew
from paramesh.ps.deployment.registry import Entry
from paramesh.ps.deployment.spread import Assignment, ClusterHost
from paramesh.ps.processes.child import End, Line

#: Label of the crew among the processes of a run.
CREW_LABEL = "cluster"
#: How variables of this process begin that workers on other hosts get too. A token does not travel:
#: each host has it, or there would be no node of the cluster.
_FORWARDED = ("JAX_", "XLA_", "PARAMESH_", "PYTHONPATH", ray_inside.AUTH_MODE)


@dataclass(frozen=True)
class Wanted:
    """Where a run is wanted.

    Args:
        servers: how many servers it has.
        workers: how many workers.
        hosts: addresses or names; none: all hosts.
        variables: names of variables of this process, or NAME=VALUE, for workers elsewhere.
        devices: GPUs of each worker; None: as each host has it.
    """

    servers: int
    workers: int
    hosts: Sequence[str] = ()
    variables: Sequence[str] = ()
    devices: int | None = None


class HostsOfRun:
    """The hosts of a run, and which worker is where.

    Args:
        crew: of the cluster.
        wanted: the run.

    Raises:
        ParameterServerError: a host that is not there, or not enough room for the workers; an
            address that is not safe for several hosts.
        CommandError: a variable that is not set.
    """

    def __init__(self, crew: Crew, wanted: Wanted) -> None:
        self.crew = crew
        hosts = chosen(crew.hosts, wanted.hosts)
        #: Their numbers, in the order of the rule.
        self._numbers = [crew.hosts.index(host) for host in hosts]
        devices = wanted.devices
        gpus = devices is not None and any(host.gpus for host in hosts)
        rooms = [host.gpus // devices if gpus and devices else None for host in hosts]
        self._assignment = Assignment(len(hosts), wanted.servers, wanted.workers, rooms)
        self._devices = devices
        self._hosts = hosts
        self._variables = forwarded(wanted.variables)
        self._show: Show | None = None
        self._entry: Entry | None = None
        if self.several:
            check_address(crew.address)

    @property
    def several(self) -> bool:
        """Whether anything may be on another host than this one."""
        return self._numbers != [self.crew.here]

    @property
    def addresses(self) -> str:
        """Of the hosts, for `PARAMESH_PS_HOSTS`."""
        return ",".join(host.address for host in self._hosts)

    @property
    def places(self) -> list[str]:
        """The name of the host of each worker."""
        return [self.host_of(worker).name for worker in sorted(self._assignment.hosts)]

    def host_of(self, worker: int) -> ClusterHost:
        """The host of a worker."""
        return self._hosts[self._assignment.hosts[worker]]

    def check(self, wal_dir: Path | None, program: str | None) -> None:
        """Make sure that all hosts have what the run needs.

        Args:
            wal_dir: of the run.
            program: the path of the script; None: it is a module.

        Raises:
            CommandError: several hosts, and no wal_dir that they could share.
            ParameterServerError: as `Crew.check`.
        """
        if not self.several:
            return
        if wal_dir is None:
            there = ", ".join(map(str, self._hosts))
            raise CommandError(
                f"a run on several hosts ({there}) needs --wal-dir: a folder that all of them "
                "share. For a run on this host alone, give --hosts "
                f"{self.crew.hosts[self.crew.here].name}"
            )
        others = [number for number in self._numbers if number != self.crew.here]
        path = None if program is None else os.path.abspath(program)
        try:
            self.crew.check(others, wal_dir.absolute(), path)
        except OSError as error:
            raise ParameterServerError(
                f"wal_dir='{wal_dir}' cannot be used: {error.strerror or error}"
            ) from None

    def spread(
        self, workers: Sequence[ProcessSpec], entry: Entry | None, logs: LogFolder | None
    ) -> list[ProcessSpec]:
        """Workers, each on its host; and the crew, which serves them.

        Args:
            workers: by rank, as they would be on this host.
            entry: is told where they are.
            logs: gets their lines.
        """
        self._entry = entry
        self.crew.on_loss = self._lose
        self.crew.begin()
        if entry is not None:
            entry.move(self.places)
        watch = ProcessSpec(
            CREW_LABEL, (), server=True, start=lambda spec, report, line, end: self.crew.watch(end)
        )
        return [watch, *(self._on_host(at, spec, logs) for at, spec in enumerate(workers))]

    def joining(self, worker: int, spec: ProcessSpec, logs: LogFolder | None) -> ProcessSpec:
        """Another worker, on its host.

        Args:
            worker: its rank.
            spec: of it, as it would be on this host.
            logs: gets its lines.

        Raises:
            ParameterServerError: no host has room for it.
        """
        self._assignment.place(worker)
        if self._entry is not None:
            self._entry.move(self.places)
        return self._on_host(worker, spec, logs)

    @contextlib.contextmanager
    def shown(self, show: Show, logs: LogFolder | None) -> Generator[None]:
        """Have `show` told of what happens to hosts and servers."""
        self._show = show
        with contextlib.nullcontext() if logs is None else logs.followed(show):
            yield
        self._show = None

    def _lose(self, number: int) -> None:
        if number not in self._numbers:
            return
        self._assignment.lose(self._numbers.index(number))
        if self._show is not None:
            host = self.crew.hosts[number]
            text = f"host {host} is lost: what ran there is started again on the others"
            self._show(CREW_LABEL, text.encode())

    def _on_host(self, worker: int, spec: ProcessSpec, logs: LogFolder | None) -> ProcessSpec:
        at = self._assignment.hosts[worker]
        number, host = self._numbers[at], self._hosts[at]
        variables = dict(spec.variables)
        if self._devices is not None:
            first = self._assignment.slot(worker) * self._devices
            mine = range(first, first + self._devices)
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))

        def again(end: End) -> ProcessSpec:
            if end.lost is None:
                return here
            try:
                self._assignment.place_again(worker)
            except ParameterServerError:
                raise NoPlace("no host that is left has room for it") from None
            if self._entry is not None:
                self._entry.move(self.places)
            return self._on_host(worker, spec, logs)

        here = dataclasses.replace(
            spec,
            label=f"{spec.label} on {host.name}",
            variables=variables,
            start=None if number == self.crew.here else self._starter(number),
            again=again,
            log=None if logs is None else _log(logs, worker, host.name),
        )
        return here

    def _starter(
        self, number: int
    ) -> Callable[[ProcessSpec, Path, Line, Callable[[End], None]], Running]:
        def start(
            spec: ProcessSpec, report: Path, line: Line, ended: Callable[[End], None]
        ) -> Running:
            variables = {**self._variables, **spec.variables}
            return self.crew.start(number, spec.command[1:], variables, line, ended)

        return start


def _log(logs: LogFolder, worker: int, host: str) -> Callable[[bytes], None]:
    return lambda text: logs.write(worker, host, text)


def forwarded(wanted: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of this process that workers on other hosts get.

    Args:
        wanted: names of more than the usual ones, or NAME=VALUE.
        environ: of this process.

    Raises:
        CommandError: one of them is not set.
    """
    environ = os.environ if environ is None else environ
    found = {name: value for name, value in environ.items() if name.startswith(_FORWARDED)}
    for word in wanted:
        name, is_set, value = word.partition("=")
        if not name or (not is_set and name not in environ):
            raise CommandError(f"--env {word}: there is no such variable; give NAME or NAME=VALUE")
        found[name] = value if is_set else environ[name]
    return found


def hosts_variables(hosts: HostsOfRun, logs: LogFolder | None) -> dict[str, str]:
    """For the environment of the workers: where servers start, and where their output goes."""
    found = {environment.HOSTS: hosts.addresses}
    if logs is not None:
        found[environment.LOGS] = str(logs.path)
    if hosts.several:
        found[environment.ADDRESS] = hosts.crew.address
    return found
