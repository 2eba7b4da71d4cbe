"""What the servers of a run are doing: their numbers, and the rates between two looks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.cluster import check_address, ray_module
from paramesh.ps.node import wait_for_cluster

#: Seconds until a cluster that does not answer is an error, and a server is shown as silent.
PATIENCE = 3.0


def find_servers(address: str, job: str = "default") -> list[tuple[str, Any]]:
    """(name, actor) of the servers of a run on a Ray cluster, and of their standbys, in order.

    Raises:
        ParameterServerError: no cluster there, an address that is not safe, or no such run.
    """
    servers, jobs = _servers_of(address, job)
    if not servers:
        raise ParameterServerError(
            f"there are no servers of the job {job!r} at {address!r}"
            + (f"; there are those of {', '.join(jobs)}." if jobs else ", nor of any other.")
        )
    return servers


def end_servers(address: str, job: str) -> int:
    """End the servers of a run that are left on a Ray cluster; how many there were.

    Raises:
        ParameterServerError: no cluster there, or an address that is not safe.
    """
    servers, _ = _servers_of(address, job)
    ray = ray_module()
    for _, actor in servers:
        ray.kill(actor, no_restart=True)
    return len(servers)


def _servers_of(address: str, job: str) -> tuple[list[tuple[str, Any]], list[str]]:
    """(name, actor) of the servers of a run, and the names of all runs that are there."""
    check_address(address)
    ray = ray_module()
    if not ray.is_initialized():
        # Ray itself tries for minutes, and writes what it thinks of it to the terminal.
        wait_for_cluster(address, PATIENCE)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            raise ParameterServerError(f"no Ray cluster answers at {address!r}: {error}") from error
    listed = ray.util.list_named_actors(all_namespaces=True)
    space = f"paramesh-{job}"
    names = [one["name"] for one in listed if one["namespace"] == space]
    servers = sorted((n for n in names if n.startswith("server-")), key=_place)
    spaces = {one["namespace"] for one in listed if one["namespace"].startswith("paramesh-")}
    jobs = sorted(one.removeprefix("paramesh-") for one in spaces)
    return [(name, ray.get_actor(name, namespace=space)) for name in servers], jobs


def _place(name: str) -> tuple[int, str]:
    return int(name.split("-")[1]), name


def look(servers: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """What each says of itself (see `ServerActor.look`), `name`, and `silent` if it is."""
    ray = ray_module()
    refs = {actor.look.remote(): name for name, actor in servers}
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=PATIENCE)
    found: list[dict[str, Any]] = []
    for ref, name in refs.items():
        stats: dict[str, Any] = {"silent": True}
        if ref in ready:
            with contextlib.suppress(ray.exceptions.RayError):
                stats = ray.get(ref)
        found.append({"name": name, "seen": time.monotonic(), **stats})
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
