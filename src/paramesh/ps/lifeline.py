"""A connection that says nothing, and breaks when the process at its other end dies.

Ray reports the death of an actor after one to two seconds. The kernel closes a dead process's
connections at once, and tells the other end, on this host or another. Nothing is read from such a
connection, so whoever reaches it can do no more than hold one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import socket
import threading
from pathlib import Path

#: Connections that one process holds; more wait, and are as good.
_MOST = 8192
#: Seconds that connecting may take. Without a connection it is Ray that reports a death.
_PATIENCE = 0.5
#: A host that is cut off or has no power sends nothing: seconds until the kernel asks it, between
#: two questions, and how many go unanswered.
_KEEPALIVE = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}


def host_identity() -> str:
    """The same for two processes exactly if a process number means the same to both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # not Linux: nobody is told to be here


class Beacon:
    """What the lifelines of others are tied to: this process, as long as it lives.

    Attributes:
        address: for `Lifeline`.
    """

    def __init__(self) -> None:
        # Where Ray itself reaches this process.
        host = importlib.import_module("ray").util.get_node_ip_address()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        threading.Thread(target=self._hold, name="beacon", daemon=True).start()

    def _hold(self) -> None:
        held = 0
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    with contextlib.suppress(OSError):
                        if key.fileobj is not self._listener:
                            # It has ended, or speaks, which no lifeline does.
                            selector.unregister(key.fileobj)
                            key.fileobj.close()
                            held -= 1
                        elif held < _MOST:
                            connection, _ = self._listener.accept()
                            connection.setblocking(False)
                            selector.register(connection, selectors.EVENT_READ)
                            held += 1
                        else:  # as many as this process should ever see
                            selector.unregister(self._listener)


class Lifeline:
    """A connection to the `Beacon` of another process.

    Args:
        address: of the beacon.

    Raises:
        OSError: there is no way to it.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=_PATIENCE)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def broken(self) -> bool:
        """Whether the process is dead, or its host cut off."""
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Let go."""
        self._socket.close()
