"""Whom a Ray cluster lets in: asked of its head directly, before Ray is.

Ray's own tools try for most of a minute before they say that a token is wrong, and say nothing at
all of a cluster that asks for none. So this speaks to the head itself: one call of gRPC over a
plain socket, with a token or without, and what it is answered with.

Glossary
    mode        RAY_AUTH_MODE: "token", or "disabled". What holds where nobody sets it depends on
                the version of Ray, so it is always set by name
    refused     the head's answer to a caller whose token is another one, or who has none

Token authentication is in Ray from 2.52 on; before that whoever reaches a cluster can run programs
on it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import secrets
import socket
import ssl
import struct
import time
from pathlib import Path

from paramesh._compat import ray as ray_inside
from paramesh.errors import ParameterServerError

#: The first Ray with token authentication.
LEAST = (2, 52)

#: What gRPC says of a call: it was answered, or refused for want of the token.
_OK, _REFUSED = 0, 16
#: Any call that the head answers will do; this one changes nothing and takes no argument.
_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"
#: Of Ray Client, which a cluster offers at another port (`ray://`).
_CLIENT_CALL = "/ray.rpc.RayletDriver/ClusterInfo"
#: Seconds for one answer, and between two tries.
_ANSWER, _PAUSE = 3.0, 0.1

#: Kinds of frames, and flags (RFC 9113, section 6).
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _AWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Places in HPACK's table (RFC 7541, appendix A).
_POST, _HTTP, _HTTPS = 0x83, 0x86, 0x87
_AUTHORITY, _PATH, _AUTHORIZATION, _CONTENT_TYPE = 1, 4, 23, 31


def check_version() -> None:
    """Raise ParameterServerError if the Ray that is installed has no token authentication."""
    installed = importlib.metadata.version("ray")
    numbers = re.findall(r"\d+", installed)[:2]
    if tuple(map(int, numbers)) < LEAST:
        least = ".".join(map(str, LEAST))
        raise ParameterServerError(
            f"Ray {installed} is installed, which does not support tokens: anyone who can reach "
            f"its ports could run programs as this user. Servers need Ray {least} or later: "
            f"pip install 'ray>={least}'."
        )


def given_token() -> str | None:
    """The token that the environment gives, as Ray looks for it; None if there is none.

    Raises:
        ParameterServerError: RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    if os.environ.get(ray_inside.AUTH_MODE, "token").lower() != "token":
        return None
    if token := os.environ.get(ray_inside.AUTH_TOKEN):
        return token
    if path := os.environ.get(ray_inside.AUTH_TOKEN_PATH):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ParameterServerError(
                f"RAY_AUTH_TOKEN_PATH={path}: the token cannot be read: {error.strerror}."
            ) from None
    try:
        return Path.home().joinpath(".ray", "auth_token").read_text().strip() or None
    except (OSError, RuntimeError):  # there is none, or no home
        return None


def token_variables(token: str | None = None) -> dict[str, str]:
    """What the environment of every member of a cluster has, so that they know each other.

    Args:
        token: None makes one, of 64 hexadecimal digits.
    """
    return {
        ray_inside.AUTH_MODE: "token",
        ray_inside.AUTH_TOKEN: token or secrets.token_hex(32),
    }


def read_again() -> None:
    """Have Ray look at the environment again, if it was imported before; it does so once.

    Raises:
        ParameterServerError: it was, and does not take the token.
    """
    if not ray_inside.read_token_again():
        raise ParameterServerError(
            "Ray was imported before a token was configured, and accepts none afterwards. "
            "Import it later, or start this program with RAY_AUTH_MODE=token."
        )


def status_of(
    address: str, token: str | None, timeout: float = _ANSWER, call: str | None = None
) -> int | None:
    """How the head of a cluster answers a caller with this token.

    Args:
        address: HOST:PORT, or ray://HOST:PORT.
        token: None: a caller without one.
        timeout: seconds for the answer.
        call: what to ask, where it is not the head: /SERVICE/METHOD.

    Returns:
        The number of gRPC's status (0: answered, 16: refused); None for what speaks no gRPC.

    Raises:
        OSError: nobody answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    host = host.strip("[]")
    path = call or (_CLIENT_CALL if address.startswith("ray://") else _CALL)
    with socket.create_connection((host, int(port)), timeout=timeout) as plain:
        encrypt = ray_inside.encrypts()
        with _encrypted(plain) if encrypt else plain as connection:
            fields = bytes([_POST, _HTTPS if encrypt else _HTTP])
            fields += _field(_PATH, path) + _field(_AUTHORITY, f"{host}:{port}")
            fields += _field(_CONTENT_TYPE, "application/grpc") + _field("te", "trailers")
            if token is not None:
                fields += _field(_AUTHORIZATION, f"Bearer {token}")
            connection.sendall(
                _PREFACE
                # No table of fields that were sent before: each answer can be read by itself.
                + _frame(_SETTINGS, 0, 0, struct.pack(">HI", 1, 0))
                + _frame(_HEADERS, _END_HEADERS, 1, fields)
                + _frame(_DATA, _END_STREAM, 1, bytes(5))
            )
            return _status(connection)


def _encrypted(plain: socket.socket) -> ssl.SSLSocket:
    # As Ray does: both sides show a certificate, and the names in them do not count.
    settings = ssl.create_default_context(cafile=os.environ.get(ray_inside.TLS_CA_CERT))
    settings.check_hostname = False
    settings.set_alpn_protocols(["h2"])
    mine = os.environ.get(ray_inside.TLS_SERVER_CERT)
    if mine is not None:
        settings.load_cert_chain(mine, os.environ.get(ray_inside.TLS_SERVER_KEY))
    return settings.wrap_socket(plain)


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    head = struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
    return head + content


def _field(name: int | str, value: str) -> bytes:
    """A field that is in no table afterwards (RFC 7541, section 6.2.2)."""
    if isinstance(name, str):
        start = b"\0" + _text(name)
    else:
        start = bytes([name]) if name < 15 else bytes([15, name - 15])
    return start + _text(value)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, size = len(data) - 127, b""
    while rest >= 128:
        rest, part = divmod(rest, 128)
        size += bytes([part + 128])
    return b"\x7f" + size + bytes([rest]) + data


def _status(connection: socket.socket) -> int | None:
    with connection.makefile("rb") as source:
        while len(head := source.read(9)) == 9:
            kind, flags = head[3], head[4]
            content = source.read(int.from_bytes(head[:3], "big"))
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                connection.sendall(_frame(kind, _ACK, 0, content if kind == _PING else b""))
            elif kind == _HEADERS and flags & _END_STREAM:
                found = re.search(rb"grpc-status(?:\x01(\d)|\x02(\d\d))", content)
                return None if found is None else int(found[1] or found[2])
            elif kind in (_RESET, _AWAY):
                return None
    return None


def check_access(
    address: str, token: str | None, *, strictly: bool = False, patience: float = 0.0
) -> None:
    """Make sure that a cluster lets in this token, and, if it has to, nobody without one.

    Args:
        address: HOST:PORT, or ray://HOST:PORT.
        token: None: this process has none.
        strictly: a cluster that lets in callers without a token is refused.
        patience: seconds for a head that is starting.

    Raises:
        ParameterServerError: it does not let in this token, or lets in everybody, or is not a
            cluster.
    """
    if strictly and _asked(address, None, patience) != _REFUSED:
        raise ParameterServerError(
            f"the Ray cluster at {address} does not require a token: anyone who can reach it can "
            f"run programs on it. Start it with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, the same "
            f"on "
            "every node."
        )
    if _asked(address, token, patience) != _REFUSED:
        return
    if token is None:
        raise ParameterServerError(
            f"the Ray cluster at {address} requires a token, and this process has none: set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to that of the "
            "cluster."
        )
    raise ParameterServerError(
        f"the Ray cluster at {address} rejects the token of this process, which belongs to "
        f"another cluster. Check RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and ~/.ray/auth_token, in "
        f"this order."
    )


def _asked(address: str, token: str | None, patience: float) -> int:
    until = time.monotonic() + patience
    while True:
        try:
            status = status_of(address, token)
            why = "what listens there does not answer as Ray does"
        except OSError as error:
            status, why = None, str(error)
        if status is not None:
            return status
        if time.monotonic() >= until:
            raise ParameterServerError(
                f"no Ray cluster answers at {address}: {why}. Check that its head node is "
                f"running at this address."
            )
        time.sleep(_PAUSE)
