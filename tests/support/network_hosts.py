"""Several hosts on this machine: Linux namespaces on a switch, whose wires can be cut and be slow.

Glossary
    host        a tree of processes with a network, process numbers, mounts and a name of its own;
                one address on the switch, and no way out
    switch      a namespace with a bridge; the machine's own network is not touched
    wire        from a host to the switch: a veth pair, or, where it has a delay, two TAP devices
                with a relay between them (see `network_relay`; few kernels have netem)
    cut         nothing passes the wire any more, and nobody is told, as where a cable is pulled

All of it is gone when its processes are: nothing has a name on the machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

#: The first three numbers of all addresses.
NET = "10.77.0"
_BRIDGE = "switch"
#: Seconds that a namespace may take to be there.
_PATIENCE = 20.0
_TOOLS = ("unshare", "nsenter", "ip")
#: The first process of a host: the kernel ends the others with it, and it buries the dead.
_INIT = (
    "import signal\n"
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    "print('up', flush=True)\n"
    "while True:\n"
    "    signal.pause()\n"
)
RELAY = Path(__file__).with_name("network_relay.py")


@functools.cache
def why_not() -> str | None:
    """Why this machine cannot have such hosts; None if it can."""
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"network namespaces need {', '.join(missing)}"
    try:
        with Network(["first", "second"]) as network:
            done = network.run("first", [sys.executable, "-I", "-S", "-c", ""])
            if done.returncode:
                return f"a namespace cannot run a program: {done.stderr.strip()}"
    except (OSError, RuntimeError) as error:
        return f"network namespaces cannot be made here: {error}"
    return None


def why_no_delay() -> str | None:
    """Why wires with a delay are not possible; None if they are."""
    if not Path("/dev/net/tun").exists():
        return "a wire with a delay needs /dev/net/tun"
    return why_not()


def _ip(where: int, *words: str) -> None:
    """Run `ip` in the network of a process."""
    done = subprocess.run(
        ["nsenter", "--target", str(where), "--net", "ip", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _only_child(parent: int) -> int | None:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text().split()[0])
    return None


def inner(process: subprocess.Popen[Any]) -> int:
    """The number, on the machine, of a program that `Network.start` has started."""
    until = time.monotonic() + _PATIENCE
    while (pid := _only_child(process.pid)) is None:
        if time.monotonic() > until or process.poll() is not None:
            raise RuntimeError(f"{process.args} has started nothing")
        time.sleep(0.01)
    return pid


class Network:
    """Hosts on a switch, for a `with` block.

    Args:
        names: of the hosts; the first one has the address NET.1.
        delay: seconds that every packet needs from a host to the switch or back.
        private: folders that each host has for itself, empty, in the place of the machine's.

    Raises:
        RuntimeError: the machine cannot have them.
    """

    def __init__(
        self, names: Sequence[str], delay: float = 0.0, private: Sequence[Path] = ()
    ) -> None:
        self.addresses = {name: f"{NET}.{at}" for at, name in enumerate(names, 1)}
        self._delay = delay
        self._private = private
        #: The processes that hold namespaces, by name of the host, and their numbers.
        self._holders: dict[str, subprocess.Popen[str]] = {}
        self._pids: dict[str, int] = {}
        self._relays: dict[str, subprocess.Popen[bytes]] = {}
        self._started: list[subprocess.Popen[Any]] = []
        self._switch = 0

    def __enter__(self) -> Network:
        try:
            self._switch = self._hold(_BRIDGE, ["--net"])
            _ip(self._switch, "link", "add", _BRIDGE, "type", "bridge")
            _ip(self._switch, "link", "set", _BRIDGE, "up")
            for name in self.addresses:
                self._add(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _hold(self, name: str, kinds: Sequence[str]) -> int:
        """Make namespaces; the number of the first process in them."""
        process = subprocess.Popen(
            ["unshare", *kinds, sys.executable, "-I", "-S", "-c", _INIT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._holders[name] = process
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "up\n":
            raise RuntimeError(process.stderr.read().strip() or "unshare has failed")
        child = _only_child(process.pid) if "--fork" in kinds else process.pid
        assert child is not None
        return child

    def _add(self, name: str) -> None:
        kinds = ["--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        pid = self._pids[name] = self._hold(name, kinds)
        port = f"to-{name}"
        if self._delay:
            self._connect_slowly(name, pid, port)
        else:
            words = ["link", "add", port, "mtu", "9000", "type", "veth"]
            _ip(self._switch, *words, "peer", "name", "eth0", "mtu", "9000", "netns", str(pid))
        _ip(self._switch, "link", "set", port, "master", _BRIDGE, "up")
        _ip(pid, "link", "set", "lo", "up")
        _ip(pid, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
        _ip(pid, "link", "set", "eth0", "up")
        self.run(name, ["hostname", name]).check_returncode()
        for folder in self._private:
            self.run(name, ["mount", "-t", "tmpfs", name, str(folder)]).check_returncode()

    def _connect_slowly(self, name: str, pid: int, port: str) -> None:
        words = [f"{self._switch}:{port}", f"{pid}:eth0", str(self._delay)]
        relay = subprocess.Popen(
            [sys.executable, "-I", "-S", str(RELAY), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._relays[name] = relay
        assert relay.stdout is not None
        if relay.stdout.readline() != b"up\n":
            raise RuntimeError("the relay of a wire has failed")

    def _words(self, name: str) -> list[str]:
        kinds = ["--net", "--uts", "--mount", "--pid"]
        return ["nsenter", "--target", str(self._pids[name]), *kinds, f"--wd={os.getcwd()}"]

    def start(self, name: str, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host; `inner` says which process it is.

        Args:
            name: of the host.
            command: of the program.
            options: for `Popen`.
        """
        process = subprocess.Popen([*self._words(name), "--", *command], **options)
        self._started.append(process)
        return process

    def run(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a host to its end."""
        return subprocess.run(
            [*self._words(name), "--", *command],
            capture_output=True,
            text=True,
            env=None if env is None else dict(env),
            timeout=200,
            check=False,
        )

    def cut(self, name: str) -> None:
        """Let nothing pass between a host and the others."""
        _ip(self._switch, "link", "set", f"to-{name}", "nomaster")

    def mend(self, name: str) -> None:
        """Undo `cut`."""
        _ip(self._switch, "link", "set", f"to-{name}", "master", _BRIDGE)

    def remove(self, name: str) -> None:
        """End a host as a power failure does: no process of it says a word any more."""
        self.cut(name)
        self._end(name)

    def _end(self, name: str) -> None:
        holder = self._holders.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pids.pop(name, holder.pid), signal.SIGKILL)
        holder.kill()
        holder.wait()
        for pipe in (holder.stdout, holder.stderr):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        """End all hosts, and the switch."""
        for name in list(self._holders):
            self._end(name)
        for process in self._started:  # their programs have ended with their hosts
            process.wait(_PATIENCE)
        for relay in self._relays.values():
            relay.kill()
            relay.wait()
            assert relay.stdout is not None
            relay.stdout.close()
        self._relays.clear()
