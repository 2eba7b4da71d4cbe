"""The hosts of a Ray cluster, and what Ray has to be told so that actors start on theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paramesh._compat import ray as ray_inside
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.spread import ClusterHost, Home, ordered

#: Ray places by home only what asks for something, and memory is what others rarely ask for.
_BYTES = 1 << 20


def hosts_of(
    nodes: Iterable[Mapping[str, Any]],
    *,
    only: Sequence[str] = (),
    resource: str | None = None,
) -> list[ClusterHost]:
    """The hosts that live, in their order; see `spread`.

    Args:
        nodes: as `ray.nodes()` has them.
        only: addresses of hosts; the others do not count, unless none of these lives.
        resource: that a node has to have.
    """
    found = [
        ClusterHost(
            str(node["NodeManagerAddress"]),
            str(node["NodeManagerHostname"]),
            str(node["NodeID"]),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in nodes
        if node["Alive"] and (resource is None or resource in node["Resources"])
    ]
    return ordered([host for host in found if host.address in only] or found)


def chosen(hosts: Sequence[ClusterHost], wanted: Sequence[str]) -> list[ClusterHost]:
    """The hosts that a user means.

    Args:
        hosts: that there are.
        wanted: addresses or names; none: all.

    Raises:
        ParameterServerError: one of them is not there, or means several.
    """
    if not wanted:
        return list(hosts)
    found: list[ClusterHost] = []
    for word in wanted:
        meant = [host for host in hosts if word in (host.address, host.name)]
        if len(meant) != 1:
            there = ", ".join(map(str, hosts))
            how = "is not a host" if not meant else "is the name of several hosts"
            raise ParameterServerError(f"'{word}' {how} of the cluster, which has {there}.")
        found += meant
    return ordered(dict.fromkeys(found))


def at_home(home: Home) -> dict[str, Any]:
    """Options of an actor that starts at home, and elsewhere when its home is lost."""
    return {"scheduling_strategy": ray_inside.near(home.node, home.away), "memory": _BYTES}
