"""The Ray cluster that servers run on: one of this program's own, or one that is there already.

A cluster of its own has its node on this host's loopback, asks for a token that is made for this
run, has no dashboard, and is gone with the program: no process, no file. Some of Ray's services
listen on all interfaces all the same: there the token is what keeps others out, so it is asked for
by name, whatever Ray does by itself, and a cluster that lets in a caller without one is not used.
An address that is on a network is refused unless the cluster asks for a token and encrypts (a token
alone travels readably).
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paramesh import own_exit
from paramesh._compat import ray as ray_inside
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.access import (
    check_access,
    check_version,
    given_token,
    read_again,
    token_variables,
)
from paramesh.ps.deployment.actors import SIGNS, ServerActor
from paramesh.ps.deployment.cluster_hosts import at_home, hosts_of
from paramesh.ps.deployment.host_needs import check_host, hint
from paramesh.ps.deployment.node_failure import NodeWatch
from paramesh.ps.deployment.registry import Entry
from paramesh.ps.deployment.spread import Home, homes_of_servers
from paramesh.ps.durability import identity
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.processes.janitor import Janitor, clean, marked

#: One for the life of the process: Ray reads it once.
_TOKEN = secrets.token_hex(32)

#: Ray listens where its node is, and on Linux replaces 127.0.0.1 by an address of the network.
HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"

#: What Ray's workers import while they wait for work.
PRELOAD = ServerActor.__module__

WITHOUT_RAY = (
    "servers in processes of their own run on Ray, which is not installed: pip install "
    "'paramesh[ps]'. set_ps_context(server_num=0), the default, keeps the server in this process "
    "and needs none."
)

#: A resource of the nodes that have the place for one server each, and the variable that says that
#: servers have to be on such nodes.
SERVER_PLACE, PLACED = "paramesh_server", "PARAMESH_PS_PLACED"

#: Seconds for a head that listens to answer, and for a server to say whose it is.
_PATIENCE = 10.0

LOOPBACK = ("127.0.0.2", "127.0.0.1", "localhost", "::1", "local")


def ray_module() -> Any:
    """Ray, which is an optional package.

    Raises:
        ParameterServerError: it is not installed, or has no token authentication.
    """
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ParameterServerError(WITHOUT_RAY) from None
    check_version()
    return ray


def check_address(address: str) -> None:
    """Raise ParameterServerError if an address is on a network without token and TLS."""
    if _is_here(address):
        return
    missing: list[str] = []
    if not ray_inside.token_is_named():
        missing.append("a token (RAY_AUTH_MODE=token)")
    if not ray_inside.encrypts():
        missing.append("encryption (RAY_USE_TLS=1 and its certificates)")
    if missing:
        raise ParameterServerError(
            f"address={address!r} is not on this host, and the cluster would be reached without "
            f"{' and '.join(missing)}: anyone who can reach a Ray cluster can run programs on it."
        )


def _is_here(address: str) -> bool:
    return address.removeprefix("ray://").rsplit(":", 1)[0].strip("[]") in LOOPBACK


def join(address: str, patience: float = _PATIENCE) -> dict[str, str]:
    """Have Ray join a cluster with the token that the environment gives, if it lets that in.

    A cluster on a network has to ask for a token, and so has one that a token was set for by name.

    Returns:
        The variables that have to be set for it; Ray, if it is imported, knows them.

    Raises:
        ParameterServerError: as `check_access`.
    """
    token = given_token()
    named = ray_inside.token_is_named()
    check_access(address, token, strictly=named or not _is_here(address), patience=patience)
    variables = {} if token is None else token_variables(token)
    os.environ.update(variables)
    read_again()
    return variables


def place_of_driver(address: str) -> dict[str, str]:
    """For `ray.init`: Ray would look for the node of this process at another address."""
    return ray_inside.place_of_driver(HOST) if address.startswith(f"{HOST}:") else {}


def actor_name(name: str, generation: int) -> str:
    """What the actor of a server is called on the cluster.

    Args:
        name: of the server, or standby.
        generation: how often the servers of the run were moved (see `moves`).
    """
    return f"{name}@{generation}" if generation else name


class Cluster:
    """The servers of one run.

    Args:
        servers: how many.
        config: the fields of `RunConfig`.
        address: of a Ray cluster; None: one of its own.
        folder: of logs and snapshots; None: a temporary one, which needs a cluster of its own.
        job: a name for the run; workers of the same run on one cluster give the same.
        kills: planned deaths of servers, by number, for tests.
        standby: a second actor for each server, which follows its log and can take over; on another
            host, if there are several (see `spread`).
        fsync: bring every record of the logs to the disk before an update is answered.
        run: the folder as that of a run, which is entered before a server is started, and left with
            the cluster; None: nobody looks whose it is.

    Attributes:
        actors: the first actor of each server; the one that serves, to begin with.
        standbys: the second ones, if there are any.

    Raises:
        ParameterServerError: Ray is not installed; an address that is not safe; a run that is
            going on.
    """

    def __init__(
        self,
        servers: int,
        config: dict[str, Any],
        *,
        address: str | None = None,
        folder: str | None = None,
        job: str = "default",
        kills: Mapping[int, Iterable[tuple[str, int, int]]] | None = None,
        standby: bool = False,
        fsync: bool = False,
        run: RunFolder | None = None,
    ) -> None:
        self._ray = ray_module()
        self._run = run
        #: Of logs and snapshots, if it stays.
        self.folder = folder
        self.job = job
        self._own = False
        own_exit.register(self.close)
        self._scratch: Path | None = None
        self._janitor: Janitor | None = None
        self._environment: dict[str, str | None] = {}
        self._entry: Entry | None = None
        self._watch: NodeWatch | None = None
        self.actors: list[Any] = []
        self.standbys: list[Any] = []
        if address is not None:
            check_address(address)
            if folder is None:
                raise ParameterServerError(
                    "servers on an existing cluster need a folder for their logs that all its "
                    "hosts share: set_ps_context(wal_dir=...)."
                )
        try:
            if run is not None and address is None:  # before anything is started
                run.enter(secrets.token_hex(8))
            try:
                self._connect(address)
            except ParameterServerError:
                raise
            except Exception as error:  # Ray raises all kinds, plain ones too
                where = "on this host" if address is None else f"at address={address!r}"
                look = "Check whether the host is overloaded, or the address wrong."
                if address is None:
                    look = hint(self._scratch or Path(tempfile.gettempdir()))
                raise ParameterServerError(
                    f"the Ray cluster of the servers could not be started {where}: "
                    f"{str(error).rstrip('.')}. {look}"
                ) from error
            if run is not None:
                run.enter(f"{self._head()}/{job}")
                self._check_job(run, job)
            self._config, self._kills = config, kills or {}
            self._standby, self._fsync, self._shared = standby, fsync, address is not None
            self._moving = threading.Lock()
            self._make_actors(servers if run is None else run.servers)
            self.address = address or self._ray.get_runtime_context().gcs_address
            self._entry = Entry(
                address=self.address,
                job=job,
                servers=len(self.actors),
                workers=config.get("workers", 1),
                wal_dir=self.folder,
                token=given_token(),
            )
        except BaseException:
            alone = config.get("workers", 1) == 1 and not environment.is_placed()
            self.close(servers=alone)  # or they may be others' already
            raise

    def _make_actors(self, servers: int) -> None:
        """Have the actors of the servers that the run has now; those that are there are found."""
        folder, run, standby = self.folder, self._run, self._standby
        if folder is None:
            assert self._scratch is not None
            folder = str(self._scratch / "servers")
        generation = 0 if run is None else run.generation
        # More servers than places may be asked for when a run is moved: then they share the nodes.
        placed, own_place = bool(os.environ.get(PLACED)), not generation
        hosts = hosts_of(
            self._ray.nodes(),
            only=environment.hosts(),
            resource=SERVER_PLACE if placed else None,
        )
        nodes = [host.node for host in hosts]
        homes: list[list[Home]] = []
        if len(nodes) > 1 and (standby or not placed or not own_place):
            homes = homes_of_servers(nodes, servers, standby=standby)
        logs = environment.logs() if self._shared else None
        self.actors, self.standbys = [], []
        for i in range(servers):
            planned = [] if generation else list(self._kills.get(i, ()))
            where = str(identity.server_folder(Path(folder), i))
            config = self._config
            if run is not None:
                config = config | {"workers": run.workers}
            arguments = (where, config, planned)
            more: dict[str, Any] = {"pair": standby, "fsync": self._fsync, "job": self.job}
            if run is not None:
                more |= {"run": (run.name, i), "home": str(run.path)}
            names = {f"server-{i}": self.actors}
            if standby:
                names[f"server-{i}-standby"] = self.standbys
            for place, (name, actors) in enumerate(names.items()):
                options = self._options(actor_name(name, generation), self.job)
                if placed and place == 0 and own_place:
                    # A standby shares a node with another server.
                    options["resources"] = {SERVER_PLACE: 1}
                if homes:
                    options |= at_home(homes[i][place])
                if logs is not None:
                    more["output"] = os.path.join(logs, name)
                made = self._ray.remote(concurrency_groups={SIGNS: 1})(ServerActor)
                actor = made.options(**options)
                actors.append(actor.remote(*arguments, **more))

    @property
    def fixed_workers(self) -> bool:
        """Whether the run has had one number of workers since it was started this time."""
        return self._run is not None and not self._run.changed

    @property
    def resumed(self) -> bool:
        """Whether the run is one from before, which this process was the first to enter."""
        return self._run is not None and self._run.resumed

    @property
    def generation(self) -> int:
        """How often the servers of the run were moved (see `moves`)."""
        return 0 if self._run is None else self._run.generation

    def move_on(self, generation: int) -> bool:
        """Have the servers that the run has moved to, and end the former ones.

        Args:
            generation: of the servers that the caller knows.

        Returns:
            Whether the run has other ones.

        Raises:
            ParameterServerError: what the run says of itself is damaged, or gone.
        """
        if self._run is None:
            return False
        with self._moving:
            if self._run.look():
                former = [*self.actors, *self.standbys]
                self._make_actors(self._run.servers)
                # Other workers that still ask them look at the folder of the run, as this one has.
                for actor in former:
                    self._ray.kill(actor, no_restart=True)
                if self._entry is not None:
                    self._entry.resize(self._run.servers)
        return self._run.generation > generation

    def staff(self, workers: int) -> None:
        """The run has another number of workers now."""
        if self._entry is not None:
            self._entry.staff(workers)

    def pairs(self) -> list[list[Any]]:
        """The actors of each server."""
        if not self.standbys:
            return [[actor] for actor in self.actors]
        return [list(pair) for pair in zip(self.actors, self.standbys, strict=True)]

    def _head(self) -> str:
        """What the cluster is known by as long as it lives."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        heads = [n["NodeID"] for n in nodes if "node:__internal_head__" in n["Resources"]]
        return min(heads or [node["NodeID"] for node in nodes])

    def _check_job(self, run: RunFolder, job: str) -> None:
        """Raise if the servers of that name on the cluster are another run's."""
        ray = self._ray
        try:
            name = actor_name("server-0", run.generation)
            actor = ray.get_actor(name, namespace=f"paramesh-{job}")
            whose = ray.get(
                actor.whose.options(concurrency_group=SIGNS).remote(), timeout=_PATIENCE
            )
        except (ValueError, ray.exceptions.RayError):
            return  # there is none, or it is being started again: its folder is looked at then
        if whose != run.name:
            raise ParameterServerError(
                f"the servers of the job {job!r} on this cluster are those of another run, with "
                f"another wal_dir than '{run.path}'. Give each run a name of its own: "
                "PARAMESH_PS_JOB (`paramesh launch --job`)."
            )

    def _options(self, name: str, job: str) -> dict[str, Any]:
        options: dict[str, Any] = {
            "name": name,
            "namespace": f"paramesh-{job}",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_task_retries": 0,
            "num_cpus": 0,
            # As `settings` of `_compat.ray` has it, for clusters that others have started.
            "enable_task_events": False,
        }
        if self._shared:
            options["lifetime"] = "detached"
        return options

    def _connect(self, address: str | None) -> None:
        ray = self._ray
        if ray.is_initialized():
            if address is None:
                self._make_scratch(None)
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        self._set_environment(ray_inside.settings(PRELOAD))
        if address is not None:
            quiet |= place_of_driver(address)
            before = os.environ.copy()
            self._environment |= {name: before.get(name) for name in join(address)}
            ray.init(address=address, **quiet)
            self._own = True
            return
        # The paths of sockets have a low limit: not below a long TMPDIR.
        scratch = self._make_scratch("/tmp" if os.name == "posix" else None)
        check_host(scratch, HOST)
        self._set_environment(token_variables(_TOKEN) | marked(scratch))
        read_again()
        self._own = True
        with warnings.catch_warnings():
            # JAX warns of forks; what Ray forks does nothing but start another program.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            ray.init(
                address="local",
                num_cpus=1,
                include_dashboard=False,
                **ray_inside.place_of_driver(HOST),
                **ray_inside.scratch_of_cluster(str(scratch / "ray")),
                **quiet,
            )
        where = ray.get_runtime_context().gcs_address
        check_access(where, _TOKEN, strictly=True, patience=_PATIENCE)
        self._watch = NodeWatch(self.folder)

    def _set_environment(self, variables: dict[str, str]) -> None:
        """Set variables until the end; Ray reads them when it starts."""
        self._environment |= {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def _make_scratch(self, where: str | None) -> Path:
        """A folder that is gone with this process, however that ends."""
        self._scratch = Path(tempfile.mkdtemp(prefix="pm-", dir=where))
        self._janitor = Janitor(self._scratch)
        return self._scratch

    def close(self, *, servers: bool = True) -> None:
        """End the servers, and a cluster of its own with all its files.

        Args:
            servers: False: other workers still need the servers.
        """
        own_exit.unregister(self.close)
        if self._entry is not None:
            self._entry.close()
            self._entry = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        ray = self._ray
        if ray.is_initialized() and servers:
            for actor in (*self.actors, *self.standbys):
                ray.kill(actor, no_restart=True)
        if self._own:  # also when it only came half way
            ray.shutdown()
        self.actors, self.standbys = [], []
        self._own = False
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment = {}
        if self._scratch is not None:
            # Ray that was interrupted while it started leaves what has not said where it is yet.
            clean(str(self._scratch), patience=0.0)
            self._scratch = None
        if self._janitor is not None:
            self._janitor.dismiss()
            self._janitor = None
        if self._run is not None:
            self._run.leave()
