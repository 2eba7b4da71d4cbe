"""A connection that says nothing, and breaks when the process at its other end dies.

Ray reports the death of an actor after one to two seconds. The kernel closes a dead process's
connections at once, and tells the other end, on this host or another.

Whoever reaches the port can connect. So a connection first shows a secret, which workers get
through Ray, and gets the answer that it is accepted; nothing else is ever read or written. Those
that have shown none are few, and short: they keep no worker out, nor take the files that the
process needs.

Glossary
    accepted    a connection that has shown the secret: closed by its other end alone, since to
                whom it belongs its end is the death of this process
    stranger    one that has not (yet)
"""

from __future__ import annotations

import hmac
import importlib
import os
import secrets
import selectors
import socket
import threading
import time
from pathlib import Path

#: Open connections of one process; a worker that finds no place has to wait for Ray's report.
MOST = 8192
#: Strangers at one time (the oldest goes for a new one), and seconds that each has.
STRANGERS, PATIENCE = 64, 1.0
#: Seconds without accepting, when the process has no files left.
PAUSE = 0.25
#: Seconds that connecting may take. Without a connection it is Ray that reports a death.
_CONNECTING = 0.5
#: A host that is unreachable or has no power sends nothing: seconds until the kernel asks it,
#: between two questions, and how many go unanswered.
_KEEPALIVE = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}
#: Characters of the secret, and what says that a connection is accepted.
_LENGTH, _ACCEPTED = 32, b"+"


def host_identity() -> str:
    """The same for two processes exactly if a process number means the same to both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # not Linux: no lifeline is offered


class Beacon:
    """What the lifelines of others are tied to: this process, as long as it lives.

    Args:
        host: where it listens; None: where Ray itself reaches this process.

    Attributes:
        address: for `Lifeline`: SECRET@HOST, and the port.
    """

    def __init__(self, host: str | None = None) -> None:
        if host is None:
            host = str(importlib.import_module("ray").util.get_node_ip_address())
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self._listener.setblocking(False)
        self._secret = secrets.token_hex(_LENGTH // 2)
        where: tuple[str, int] = self._listener.getsockname()[:2]
        self.address: tuple[str, int] = (f"{self._secret}@{where[0]}", where[1])
        self._selector = selectors.DefaultSelector()
        self._accepted: set[socket.socket] = set()
        #: When each came, the oldest first, and what it has shown so far.
        self._strangers: dict[socket.socket, tuple[float, bytes]] = {}
        #: Until when nobody is accepted.
        self._closed_until = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="beacon", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let all go, as at the end of the process."""
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread
        self._thread.join()
        for connection in (*self._strangers, *self._accepted):
            self._drop(connection)
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        listening = True
        while not self._closing:
            now = time.monotonic()
            if listening != (now >= self._closed_until):
                listening = not listening
                if listening:
                    self._selector.register(self._listener, selectors.EVENT_READ)
                else:  # it would be ready all the time
                    self._selector.unregister(self._listener)
            for key, _ in self._selector.select(self._next(now, listening)):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if connection is self._listener:
                    self._accept()
                elif connection in self._strangers:
                    self._listen_to(connection)
                elif connection in self._accepted:
                    self._drop(connection)  # it has ended, or speaks, which no lifeline does
            now = time.monotonic()
            for connection, (since, _) in list(self._strangers.items()):
                if now - since <= PATIENCE:
                    break
                self._drop(connection)

    def _next(self, now: float, listening: bool) -> float | None:
        """Seconds until something has to be done if nobody comes."""
        moments = [] if listening else [self._closed_until]
        if self._strangers:
            moments.append(next(iter(self._strangers.values()))[0] + PATIENCE)
        return max(0.0, min(moments) - now) + 0.001 if moments else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it has gone again
            return
        except OSError:  # no file left, or no memory: whoever waits may be served later
            self._closed_until = time.monotonic() + PAUSE
            return
        try:
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
        except OSError:
            connection.close()
            return
        self._strangers[connection] = (time.monotonic(), b"")
        # At once: a worker shows the secret as it connects, and no crowd can push it out.
        self._listen_to(connection)
        if len(self._strangers) > STRANGERS:
            self._drop(next(iter(self._strangers)))

    def _listen_to(self, stranger: socket.socket) -> None:
        since, before = self._strangers[stranger]
        try:
            more = stranger.recv(_LENGTH - len(before))
        except BlockingIOError:
            return
        except OSError:
            more = b""
        shown = before + more
        if more and len(shown) < _LENGTH:
            self._strangers[stranger] = (since, shown)
            return
        known = hmac.compare_digest(shown, self._secret.encode())
        if not known or len(self._accepted) >= MOST:
            self._drop(stranger)
            return
        del self._strangers[stranger]
        self._accepted.add(stranger)
        try:  # Only now: whoever reads it relies on it.
            stranger.send(_ACCEPTED)
        except OSError:
            self._drop(stranger)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._strangers.pop(connection, None)
        self._accepted.discard(connection)
        connection.close()


class Lifeline:
    """A connection to the `Beacon` of another process.

    Args:
        address: of the beacon.

    Raises:
        OSError: there is no way to it, or it has no place.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        secret, _, host = address[0].rpartition("@")
        self._socket = socket.create_connection((host, address[1]), timeout=_CONNECTING)
        try:
            self._socket.sendall(secret.encode())
            if self._socket.recv(1) != _ACCEPTED:
                raise ConnectionRefusedError(f"the process at {host} accepts no more connections")
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        except BaseException:
            self._socket.close()
            raise

    def broken(self) -> bool:
        """Whether the process is dead, or its host unreachable."""
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
