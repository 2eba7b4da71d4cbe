"""A Ray node in processes of its own, for a run of several processes: command, environment, token.

The node is on the loopback, asks for a token, and keeps its files in one folder. Who starts it ends
it, and removes the folder.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from paramesh._compat import ray as ray_inside
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.access import check_version
from paramesh.ps.deployment.cluster import HOST, PRELOAD, WITHOUT_RAY
from paramesh.ps.processes.janitor import marked

#: Seconds between two looks at a port.
_PAUSE = 0.05


def start_command(
    folder: Path,
    *,
    host: str = HOST,
    port: int | None = None,
    head: str | None = None,
    resources: Mapping[str, float] | None = None,
    metrics: int | None = None,
) -> list[str]:
    """The command that is a Ray node until it is ended with SIGTERM.

    Args:
        folder: for its files.
        host: the address of the node.
        port: at which others reach it: it is the head of a new cluster.
        head: or HOST:PORT of the cluster that it joins.
        resources: that it has for actors, by name.
        metrics: the port at which Prometheus finds its metrics; None: Ray takes any.

    Raises:
        ParameterServerError: Ray is not installed.
    """
    check_installed()
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    words += ["--node-ip-address", host, "--num-cpus", "1"]
    words += ["--include-log-monitor", "false", "--disable-usage-stats"]
    if resources:
        words += ["--resources", json.dumps(dict(resources))]
    if metrics is not None:
        words += ["--metrics-export-port", str(metrics)]
    # Also of a node beside another one: in one folder both would take the same names for sockets.
    words += ["--temp-dir", str(folder / "ray")]
    if head is not None:
        return [*words, "--address", head]
    return [*words, "--head", "--port", str(port), "--include-dashboard", "false"]


def check_installed() -> None:
    """Raise ParameterServerError if there is no Ray that asks for tokens; it is not imported."""
    if not _there("ray"):
        raise ParameterServerError(WITHOUT_RAY)
    check_version()


def _there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it was hidden: its place in sys.modules is None
        return False


def node_variables(folder: Path) -> dict[str, str]:
    """What the environment of a node has besides the token."""
    return {
        ray_inside.TMPDIR: str(folder / "ray"),
        **marked(folder),
        **ray_inside.settings(PRELOAD),
    }


def free_port(host: str = HOST) -> int:
    """A port that nobody has."""
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


def wait_for_cluster(address: str, timeout: float) -> None:
    """Wait until somebody listens at an address.

    Args:
        address: HOST:PORT, with or without ray:// in front.
        timeout: in seconds.

    Raises:
        ParameterServerError: nobody does in time, or the address is not valid.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ParameterServerError(
            f"address={address!r}: the address of a Ray cluster is HOST:PORT or ray://HOST:PORT."
        )
    until = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise ParameterServerError(
                    f"no Ray cluster answers at {address} within {timeout:g} s: {error}. Check "
                    f"that its head node is running at this address."
                ) from None
            time.sleep(_PAUSE)
