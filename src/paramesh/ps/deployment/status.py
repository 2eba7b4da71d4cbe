"""What the servers of a run are doing: their numbers, and the rates between two looks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.access import token_variables
from paramesh.ps.deployment.cluster import check_address, join, place_of_driver, ray_module
from paramesh.ps.deployment.node import wait_for_cluster

#: Seconds until a cluster that does not answer is an error, and a server is shown as silent.
PATIENCE = 3.0


class RunEnded(ParameterServerError):
    """The run that was looked at has come to its end."""


def find_servers(
    address: str, job: str = "default", token: str | None = None
) -> list[tuple[str, Any]]:
    """(name, actor) of the servers of a run on a Ray cluster, and of their standbys, in order.

    Args:
        address: of the cluster.
        job: the name of the run there.
        token: of the cluster; None: as the environment says.

    Raises:
        ParameterServerError: no cluster there, another token, an address that is not safe, or no
            such run.
        RunEnded: it ended while it was looked for.
    """
    servers, jobs = _servers_of(address, job, token)
    if not servers:
        others = f"there are those of {', '.join(jobs)}" if jobs else "nor of any other"
        raise ParameterServerError(
            f"there are no servers of the job {job!r} at {address!r}; {others}. A run that has "
            f"just started may not have any yet, and one that has ended has none left."
        )
    return servers


def end_servers(address: str, job: str) -> int:
    """End the servers of a run that are left on a Ray cluster; how many there were.

    Raises:
        ParameterServerError: no cluster there, or an address that is not safe.
    """
    servers, _ = _servers_of(address, job, None, former=True)
    ray = ray_module()
    for _, actor in servers:
        ray.kill(actor, no_restart=True)
    return len(servers)


def _servers_of(
    address: str, job: str, token: str | None, *, former: bool = False
) -> tuple[list[tuple[str, Any]], list[str]]:
    """(name, actor) of the servers of a run, and the names of all runs that are there.

    Args:
        address: and the next two: as for `find_servers`.
        job: likewise.
        token: likewise.
        former: with those that the run was moved from (see `moves`).
    """
    ray = connect(address, token)
    try:
        listed = ray.util.list_named_actors(all_namespaces=True)
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        raise _ended(address, error) from None
    space = f"paramesh-{job}"
    names = [one["name"] for one in listed if one["namespace"] == space]
    servers = sorted((n for n in names if n.startswith("server-")), key=_place)
    if not former and servers:  # those that the run was moved from may be there still
        latest = max(_generation(name) for name in servers)
        servers = [name for name in servers if _generation(name) == latest]
    spaces = {one["namespace"] for one in listed if one["namespace"].startswith("paramesh-")}
    jobs = sorted(one.removeprefix("paramesh-") for one in spaces - {"paramesh-roster"})
    found: list[tuple[str, Any]] = []
    for name in servers:
        try:
            shown = name.partition("@")[0]
            found.append((shown, ray.get_actor(name, namespace=space)))
        except ValueError:  # ended since they were listed
            continue
        except (OSError, RuntimeError, ray.exceptions.RayError) as error:
            raise _ended(address, error) from None
    return found, jobs


def connect(address: str, token: str | None) -> Any:
    """Connect this process to a Ray cluster, unless it is connected; the module.

    Args:
        address: of the cluster.
        token: of the cluster; None: as the environment says.

    Raises:
        ParameterServerError: no cluster there, another token, an address that is not safe, or no
            node of it on this host.
    """
    check_address(address)
    ray = ray_module()
    if ray.is_initialized():
        return ray
    # Ray itself tries for minutes, and writes what it thinks of it to the terminal.
    wait_for_cluster(address, PATIENCE)
    if token is not None:
        os.environ.update(token_variables(token))
    join(address, PATIENCE)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="error",
            **place_of_driver(address),
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ParameterServerError(
            f"the Ray cluster at {address!r} does not accept a program: {error}. Check that "
            f"it is still running and that one of its nodes is on this host."
        ) from error
    return ray


def _ended(address: str, error: Exception) -> RunEnded:
    lines = str(error).strip().splitlines() or [""]
    return RunEnded(
        f"the run at {address} has ended, or its Ray cluster has, while it was looked at "
        f"({type(error).__name__}: {lines[0]})."
    )


def _place(name: str) -> tuple[int, str]:
    return int(name.partition("@")[0].split("-")[1]), name


def _generation(name: str) -> int:
    return int(name.partition("@")[2] or 0)


def look(servers: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """What each says of itself (see `ServerActor.look`), `name`, and `silent` if it is.

    Raises:
        RunEnded: the cluster has ended, or all of the servers were.
    """
    ray = ray_module()
    found: list[dict[str, Any]] = []
    ended: list[Exception] = []
    try:
        refs = {actor.look.remote(): name for name, actor in servers}
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=PATIENCE)
        for ref, name in refs.items():
            stats: dict[str, Any] = {"silent": True}
            if ref in ready:
                try:
                    stats = ray.get(ref)
                except ray.exceptions.RayActorError as error:
                    if type(error) is ray.exceptions.ActorDiedError:  # and is not started again
                        ended.append(error)
                except ray.exceptions.RayError as error:
                    stats["trouble"] = str(error).strip().splitlines()[-1]
            found.append({"name": name, "seen": time.monotonic(), **stats})
    except (OSError, RuntimeError) as error:  # Ray's word for a cluster that is gone
        raise _ended("that address", error) from None
    if found and len(ended) == len(found):
        raise RunEnded("the run has ended: its servers no longer exist.")
    return found


def rates(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, float]:
    """Updates, and bytes pushed and pulled, in a second between two looks; 0 after a restart."""
    silent = before.get("silent") or now.get("silent")
    if silent or before.get("incarnation") != now["incarnation"] or now["seen"] <= before["seen"]:
        return {"updates": 0.0, "bytes": 0.0, "bytes_pulled": 0.0}
    seconds = now["seen"] - before["seen"]
    return {
        "updates": (now["version"] - before["version"]) / seconds,
        "bytes": (now["bytes_pushed"] - before["bytes_pushed"]) / seconds,
        "bytes_pulled": (now["bytes_pulled"] - before["bytes_pulled"]) / seconds,
    }
