"""The Ray node of a process that was started by itself: it ends with the process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.cluster import HOST
from paramesh.ps.deployment.host_needs import check_host
from paramesh.ps.deployment.node import node_variables, start_command
from paramesh.ps.deployment.node_failure import what_ended, what_to_do, without_noise
from paramesh.ps.processes.descriptors import raise_limit
from paramesh.ps.processes.janitor import Janitor, clean

#: Seconds between two looks at the cluster.
_PAUSE = 0.2


@contextlib.contextmanager
def node_here(
    folder: Path, variables: dict[str, str], patience: float = 0.0, **more: Any
) -> Generator[subprocess.Popen[bytes]]:
    """A Ray node that ends with the `with` block, or with this process; the folder too.

    Args:
        folder: for its files.
        variables: of its environment.
        patience: seconds in which other processes that have files of the folder open may end.
        more: for `start_command`.
    """
    janitor = Janitor(folder)
    check_host(folder, HOST if more.get("host") == HOST else None)
    raise_limit()  # the node has it too
    try:
        with open(folder / "node.log", "wb") as log:
            node = subprocess.Popen(
                start_command(folder, **more),
                env=os.environ | node_variables(folder) | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield node
        finally:
            node.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(5)
            if node.poll() is None:
                node.kill()
                node.wait()
    finally:
        janitor.dismiss()  # first: it has the folder's name in its command line
        clean(str(folder), patience)


def check_node(node: subprocess.Popen[bytes], folder: Path) -> None:
    """Raise ParameterServerError, with the reason, if a node has ended."""
    if node.poll() is None:
        return
    text = (folder / "node.log").read_text(errors="replace")
    ended = what_ended(text)
    if ended is not None:
        raise ParameterServerError(
            f"the Ray node of this process has ended: {ended}. "
            + what_to_do(None)
            + " Start all processes of the run again."
        )
    raise ParameterServerError(
        f"the Ray node of this process ended with exit status {node.returncode}; its last output "
        f"was:\n" + without_noise(text)[-2000:]
    )


def wait_for_node(
    ray: ModuleType, node: subprocess.Popen[bytes], folder: Path, mark: str, timeout: float
) -> None:
    """Wait until the node of this process has joined the cluster; a place is there only then.

    Args:
        ray: connected to the cluster.
        node: and `folder`: from `node_here`.
        folder: of the node.
        mark: a resource that this node alone has.
        timeout: in seconds.

    Raises:
        ParameterServerError: it has not joined in time, or has ended.
    """
    until = time.monotonic() + timeout
    while not any(other["Alive"] and mark in other["Resources"] for other in ray.nodes()):
        check_node(node, folder)
        if time.monotonic() > until:
            raise ParameterServerError(
                f"the Ray node of this server has not joined the cluster within {timeout:g} s. "
                f"Check whether the host is overloaded."
            )
        time.sleep(_PAUSE)
