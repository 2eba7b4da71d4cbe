"""MindSpore's way to start a run: the same script as scheduler, servers and workers.

    MS_ROLE                         MS_SCHED, MS_PSERVER (MS_SERVER) or MS_WORKER
    MS_SCHED_HOST, MS_SCHED_PORT    where the scheduler is
    MS_SERVER_NUM, MS_WORKER_NUM    how many there are
    MS_NODE_ID                      which of its role this one is, if it matters

They count from `set_ps_context(enable_ps=True)` on, as in MindSpore. There all meet. The scheduler
and the servers stay in that call, and the process ends in it, with exit code 0, when the workers
are done; a worker comes back from it when all others are there.

The scheduler starts the head of a Ray cluster at its address, and keeps a `Roster`. A server starts
a node of that cluster, which is the only place for one of the servers.

On the loopback the token is in a file of the scheduler that the same user alone can read. Elsewhere
all processes need it from the user, and encryption (`cluster.check_address`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from paramesh import own_exit
from paramesh._compat import ray as ray_inside
from paramesh.errors import ContextError, ParameterServerError
from paramesh.parallel.processes.failures import fail
from paramesh.parallel.processes.membership import DEFAULT_HOST, DEFAULT_PORT, Variables
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.access import token_variables
from paramesh.ps.deployment.cluster import (
    HOST,
    LOOPBACK,
    PLACED,
    SERVER_PLACE,
    check_address,
    join,
    place_of_driver,
    ray_module,
)
from paramesh.ps.deployment.member_node import check_node, node_here, wait_for_node
from paramesh.ps.deployment.node import check_installed, wait_for_cluster
from paramesh.ps.deployment.roster import BEAT, Key, Roster
from paramesh.ps.processes.exit_status import ExitStatus
from paramesh.ps.processes.janitor import clean

_ROLES = {
    "MS_SCHED": "scheduler",
    "MS_PSERVER": "server",
    "MS_SERVER": "server",
    "MS_WORKER": "worker",
}
_NAME, _SPACE = "roster", "paramesh-roster"
#: Seconds between two questions, for an answer, and for the others to leave when all is done.
_PAUSE, _PATIENCE, _PARTING = 0.2, 10.0, 15.0
#: What there is to do when the scheduler, or its node, no longer exists.
_AGAIN = (
    "Start all processes of the run again with the same wal_dir: it goes on from the last step "
    "that the servers have."
)


class Role(NamedTuple):
    """What this process is in the run."""

    role: str
    servers: int
    workers: int
    host: str
    port: int
    wish: int | None
    said_by: str

    @property
    def address(self) -> str:
        """HOST:PORT of the scheduler."""
        return f"{self.host}:{self.port}"


def detect(given: Mapping[str, str]) -> Role | None:
    """What the environment says of this process; None if it is not of a run with servers.

    Raises:
        ContextError: a variable is missing or not valid; the message names both.
    """
    variables = Variables(given)
    if "MS_ROLE" not in variables or "MS_SERVER_NUM" not in variables:
        return None
    servers = variables.number("MS_SERVER_NUM", 0, 256, "how many servers there are")
    if servers == 0:
        return None
    name = variables.text("MS_ROLE")
    if name not in _ROLES:
        raise ContextError(f"MS_ROLE={name!r} is not one of {', '.join(_ROLES)}.")
    workers = variables.number("MS_WORKER_NUM", 1, 4096, "how many workers there are")
    host = variables.text("MS_SCHED_HOST", DEFAULT_HOST)
    port = variables.number("MS_SCHED_PORT", 1, 65535, "a port of the scheduler", DEFAULT_PORT)
    wish = None
    if "MS_NODE_ID" in variables and _ROLES[name] != "scheduler":
        count = servers if _ROLES[name] == "server" else workers
        wish = variables.number("MS_NODE_ID", 0, count - 1, "the place of this process")
    place = HOST if host in LOOPBACK else host
    return Role(_ROLES[name], servers, workers, place, port, wish, str(variables))


class _State:
    taken: Role | None = None


_state = _State()


def take_part(role: Role, timeout: float) -> environment.Outside:
    """Be what the environment says: come back as a worker, or end this process as another role.

    Args:
        role: from `detect`.
        timeout: seconds for the others to come.

    Returns:
        What is said of the settings of `set_ps_context`.

    Raises:
        SystemExit: with code 0, of a scheduler or a server: the workers are done.
        ParameterServerError: some of the others did not come in time, or have failed; Ray is not
            installed; an address that is not safe.
    """
    settings = {"server_num": role.servers, "worker_num": role.workers, "address": role.address}
    said = environment.Outside(settings, {}, dict.fromkeys(settings, role.said_by))
    if _state.taken is None:
        check_address(role.address)
        check_installed()
        if role.role == "scheduler":
            _schedule(role, timeout)
        wait_for_cluster(role.address, timeout)
        os.environ.update(_token(role))
        if role.role == "server":
            _serve(role, timeout)
        _work(role, timeout)
        _state.taken = role
    fallbacks = {"wal_dir": str(folder_of(role.port) / "servers")} if role.host == HOST else {}
    return said._replace(fallbacks=fallbacks)


# The token.


def folder_of(port: int) -> Path:
    """The folder of a scheduler on the loopback: the others of its run have to find it."""
    where = "/tmp" if os.name == "posix" else tempfile.gettempdir()
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(where, f"pm-{user}-{port}")


def _given_token() -> bool:
    return bool(os.environ.get(ray_inside.AUTH_TOKEN) or os.environ.get(ray_inside.AUTH_TOKEN_PATH))


def _token(role: Role) -> dict[str, str]:
    """What the scheduler has left for this user.

    Raises:
        ParameterServerError: there is nothing of this user alone.
    """
    if _given_token() or role.host != HOST:
        return {ray_inside.AUTH_MODE: "token"}
    path = folder_of(role.port) / "token"
    try:
        facts = path.parent.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise ParameterServerError(
                f"'{path.parent}' is not private to this user: no token is read from it."
            )
        return token_variables(path.read_text())
    except OSError as error:
        raise ParameterServerError(
            f"the scheduler at {role.address} has not written a token to '{path}': "
            f"{error.strerror}. "
            "Check that it runs as this user, and with MS_ROLE=MS_SCHED."
        ) from None


# The roles.


def _connect(role: Role) -> Any:
    ray = ray_module()
    join(role.address)
    ray.init(
        address=role.address,
        namespace=_SPACE,
        log_to_driver=False,
        logging_level="error",
        **place_of_driver(role.address),
    )
    return ray


def _schedule(role: Role, timeout: float) -> NoReturn:
    """Start the head, keep the roster until the workers are done, and end."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((role.host, role.port))
        except OSError as error:
            raise ParameterServerError(
                f"port {role.port} of the scheduler cannot be opened: {error.strerror} "
                f"({role.said_by}). Another run may be using it: stop that one, or choose "
                f"another port."
            ) from error
    folder = (
        folder_of(role.port)
        if role.host == HOST
        else Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    )
    token = {ray_inside.AUTH_MODE: "token"}
    if role.host == HOST:
        if folder.exists():  # of a scheduler that has no port: it no longer exists
            clean(str(folder), patience=0.0)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise ParameterServerError(
                f"'{folder}', where the other processes look for the token, cannot be created: "
                f"{error.strerror}."
            ) from error
        if not _given_token():
            token = token_variables()
            path = folder / "token"
            path.touch(mode=0o600)
            path.write_text(token[ray_inside.AUTH_TOKEN])
    os.environ.update(token)
    with node_here(folder, token, _PARTING, host=role.host, port=role.port) as node:
        wait_for_cluster(role.address, timeout)
        ray = _connect(role)
        try:
            options = {"name": _NAME, "num_cpus": 0, "max_concurrency": 1}
            actor = ray.remote(Roster).options(**options)
            roster = actor.remote(role.servers, role.workers, timeout)
            found = ray.get(roster.look.remote())
            while not found["done"] and not found["failed"]:
                time.sleep(_PAUSE)
                check_node(node, folder)
                found = ray.get(roster.look.remote())
            until = time.monotonic() + _PARTING
            while found["here"] and time.monotonic() < until:
                time.sleep(_PAUSE)
                found = ray.get(roster.look.remote())
        except ray.exceptions.RayError as error:
            check_node(node, folder)
            raise ParameterServerError(
                f"the roster of the scheduler at {role.address} no longer responds "
                f"({type(error).__name__}). {_AGAIN}"
            ) from error
        finally:
            ray.shutdown()
    if found["failed"]:
        raise ParameterServerError(f"the run has failed: {found['failed']}")
    raise SystemExit(0)


def _meet(role: Role, key: Key, timeout: float) -> tuple[Any, int]:
    """The roster, and the number of this process, when all are there.

    Raises:
        ParameterServerError: some did not come in time, or the run has failed.
    """
    ray = ray_module()
    until = time.monotonic() + timeout
    roster: Any = None
    waiting = "the scheduler"
    while True:
        try:
            roster = roster or ray.get_actor(_NAME, namespace=_SPACE)
            said = ray.get(roster.meet.remote(role.role, key, role.wish), timeout=_PATIENCE)
        except ValueError:  # the scheduler is not so far yet
            said: dict[str, Any] = {"number": None, "waiting": waiting, "failed": None}
        except ray.exceptions.RayError as error:
            raise _ended(role, error) from None
        if said["failed"]:
            _leave(ray, roster, role.role, key)
            raise ParameterServerError(f"the run has failed: {said['failed']}")
        if said["number"] is not None:
            return roster, said["number"]
        waiting = said["waiting"]
        if time.monotonic() > until:
            if roster is not None:
                _leave(ray, roster, role.role, key)
            raise ParameterServerError(
                f"this {role.role} waited {timeout:g} s for {waiting}, which did not arrive "
                f"({role.said_by})."
            )
        time.sleep(_PAUSE)


def _key() -> Key:
    return socket.gethostname(), os.getpid()


def _serve(role: Role, timeout: float) -> NoReturn:
    """Have a node with the place for one server until the workers are done, and end."""
    folder = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp" if os.name == "posix" else None))
    host = role.host if role.host == HOST else socket.gethostbyname(socket.gethostname())
    mark = f"paramesh-{folder.name}"
    place = {SERVER_PLACE: 1.0, mark: 1.0}
    with node_here(folder, {}, host=host, head=role.address, resources=place) as node:
        ray = _connect(role)
        key = _key()
        roster: Any = None
        try:
            wait_for_node(ray, node, folder, mark, timeout)
            roster, _ = _meet(role, key, timeout)
            said: dict[str, Any] = {"done": False, "failed": None}
            while not said["done"] and not said["failed"]:
                check_node(node, folder)
                time.sleep(BEAT)
                try:
                    said = ray.get(roster.beat.remote("server", key), timeout=_PATIENCE)
                except ray.exceptions.RayError as error:
                    raise _ended(role, error) from None
            _leave(ray, roster, "server", key)
        except BaseException as error:
            if roster is not None:
                what = f"{type(error).__name__}: {error}".removesuffix(": ")
                _leave(ray, roster, "server", key, what)
            raise
        finally:
            ray.shutdown()
    if said["failed"]:
        raise ParameterServerError(f"the run has failed: {said['failed']}")
    raise SystemExit(0)


def _work(role: Role, timeout: float) -> None:
    """Meet the others, and tell the scheduler that this worker lives, and how it ends."""
    ray = _connect(role)
    key = _key()
    roster, number = _meet(role, key, timeout)
    os.environ |= {environment.RANK: str(number), environment.WORKERS: str(role.workers)}
    os.environ[PLACED] = "1"
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(ray, role, roster, key, stop), daemon=True)
    exit_status = ExitStatus()

    def goodbye() -> None:
        stop.set()
        beating.join(_PATIENCE)
        if ray.is_initialized():
            _leave(ray, roster, "worker", key, exit_status.error())

    # Later ones are called before: the session with the servers is at its end then.
    own_exit.register(goodbye)
    beating.start()


def _leave(ray: Any, roster: Any, role: str, key: Key, error: str | None = None) -> None:
    with contextlib.suppress(ray.exceptions.RayError):  # the scheduler has ended
        ray.get(roster.leave.remote(role, key, error), timeout=_PATIENCE)


def _ended(role: Role, error: Exception) -> ParameterServerError:
    what = f"has ended ({type(error).__name__})"
    if isinstance(error, TimeoutError):
        what = f"has not answered for {_PATIENCE:g} s"
    return ParameterServerError(f"the scheduler at {role.address} {what}. {_AGAIN}")


def _beat(ray: Any, role: Role, roster: Any, key: Key, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        try:
            said = ray.get(roster.beat.remote("worker", key), timeout=_PATIENCE)
        except ray.exceptions.RayError as error:
            if not stop.is_set():
                fail(f"paramesh: {_ended(role, error)}")
            return
        if said["failed"] and not stop.is_set():
            _leave(ray, roster, "worker", key)
            fail(f"paramesh: the run has failed: {said['failed']}")
        if said["replaced"] and not stop.is_set():
            fail("paramesh: another worker has taken this one's place, which was silent for long.")
