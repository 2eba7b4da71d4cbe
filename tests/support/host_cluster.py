"""A Ray cluster with a node on each of several hosts (see `network_hosts`), and launches on it.

As anybody's cluster on a network it asks for a token, and encrypts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from environments import without_virtual_devices
from network_hosts import NET, Network, inner
from paramesh._compat import ray as ray_inside
from paramesh.ps.deployment.access import token_variables
from paramesh.ps.deployment.node import node_variables, start_command

#: Of the head, which is on the first host.
PORT = 6379
_PARAMESH = [sys.executable, "-c", "from paramesh.cli import main; main()"]
#: Seconds for all nodes to come, and for what a test waits for.
_STARTING, _WAITING = 180.0, 300.0
_LISTENS = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
_COUNT = (
    "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='error'); "
    "print(sum(node['Alive'] for node in ray.nodes()))"
)
T = TypeVar("T")


def certificate(folder: Path) -> dict[str, str]:
    """What the environment of every member has to say so that Ray encrypts."""
    key, public = folder / "key.pem", folder / "public.pem"
    names = ",".join([*(f"IP:{NET}.{at}" for at in range(1, 9)), "IP:127.0.0.1", "DNS:localhost"])
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-keyout", str(key), "-out", str(public), "-subj", "/CN=paramesh"]
    subprocess.run([*words, "-addext", f"subjectAltName={names}"], check=True, capture_output=True)
    return {
        ray_inside.USE_TLS: "1",
        ray_inside.TLS_CA_CERT: str(public),
        ray_inside.TLS_SERVER_CERT: str(public),
        ray_inside.TLS_SERVER_KEY: str(key),
    }


def awaited(look: Callable[[], T], what: str) -> T:
    """What a look finds once it finds something."""
    until = time.monotonic() + _WAITING
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"it did not come: {what}")


class HostCluster:
    """A Ray cluster over the hosts of a network.

    Args:
        network: of the hosts; the head is on the first one.
        folder: for the files of the nodes; its path has to be short.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.hosts = list(network.addresses)
        self.folder = folder
        self.environment = without_virtual_devices() | token_variables() | certificate(folder)
        # Ray kills processes where memory is short, and the hosts share this machine's.
        self.environment["RAY_memory_monitor_refresh_ms"] = "0"
        self.address = f"{network.addresses[self.hosts[0]]}:{PORT}"
        self._nodes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Start a node on each host, and wait until they are one cluster."""
        first, *others = self.hosts
        self._start_node(first)
        words = [sys.executable, "-c", _LISTENS, *self.address.split(":")]
        awaited(lambda: self.network.run(first, words).returncode == 0, "the head")
        for host in others:
            self._start_node(host)
        self.wait_for_nodes(len(self.hosts))

    def _start_node(self, host: str) -> None:
        folder = self.folder / host
        folder.mkdir(exist_ok=True)
        here = self.network.addresses[host]
        head = host == self.hosts[0]
        where = {"port": PORT} if head else {"head": self.address}
        environment = self.on(host) | node_variables(folder)
        with (folder / "node.log").open("ab") as log:
            node = self.network.start(
                host,
                start_command(folder, host=here, **where),  # type: ignore[arg-type]
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._nodes.append(node)

    def wait_for_nodes(self, count: int) -> None:
        """Wait until so many nodes live."""
        words = [sys.executable, "-c", _COUNT, self.address]

        def there() -> bool:
            done = self.network.run(self.hosts[0], words, self.on(self.hosts[0]))
            return done.stdout.strip() == str(count)

        awaited(there, f"{count} nodes")

    def on(self, host: str) -> dict[str, str]:
        """The environment of processes on a host."""
        runtime = self.folder / f"run-{host}"
        runtime.mkdir(mode=0o700, exist_ok=True)
        return self.environment | {"XDG_RUNTIME_DIR": str(runtime)}

    def paramesh(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the first host."""
        return self.paramesh_on(self.hosts[0], *words)

    def paramesh_on(self, host: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host."""
        return self.network.run(host, [*_PARAMESH, *words], self.on(host))

    @contextmanager
    def launched(self, output: IO[str], words: Sequence[str]) -> Generator[Launched]:
        """A `paramesh launch` on the first host, ended with the `with` block."""
        first = self.hosts[0]
        command = [*_PARAMESH, "launch", "--address", self.address, *words]
        process = self.network.start(
            first, command, env=self.on(first), stdout=output, stderr=output
        )
        try:
            yield Launched(process, Path(output.name))
        finally:
            if process.poll() is None:
                os.kill(inner(process), signal.SIGKILL)
            process.wait()


class Launched:
    """A launch that is going on.

    Args:
        process: see `Network.start`.
        output: the file with all that it writes.
    """

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._output.read_text(errors="replace")

    def awaited(self, text: str) -> None:
        """Wait until it has written something."""

        def there() -> bool:
            assert self.process.poll() is None or text in self.said, self.said
            return text in self.said

        awaited(there, text)

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(inner(self.process), number)

    def end(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(_WAITING)
