"""Whom a Ray cluster lets in, asked of heads that answer as Ray's does, and of what is not Ray."""

from __future__ import annotations

import importlib.metadata
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import access

TOKEN = "a" * 64

#: What Ray 2.52 and 2.60 send before they have read anything, and at the end of a call.
GREETING = access._frame(4, 0, 0, bytes.fromhex("000400400000000500400000"))
PING = access._frame(6, 0, 0, bytes(8))
REFUSED = (
    b" \x88@\x0ccontent-type\x10application/grpc\x00\x0bgrpc-status\x0216\x00\x0cgrpc-message\x02no"
)
UNKNOWN = b" \x88@\x0ccontent-type\x10application/grpc@\x0bgrpc-status\x0212"
FIRST = b" \x88@\x0ccontent-type\x10application/grpc"
LAST = b"@\x0bgrpc-status\x010"


def ended(fields: bytes) -> bytes:
    return access._frame(1, 5, 1, fields)


ANSWERED = (
    access._frame(1, 4, 1, FIRST) + access._frame(0, 0, 1, bytes(17)) + access._frame(1, 5, 1, LAST)
)


class Head:
    """Listens, and answers each call by what it has read of it."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.read: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self.listener.getsockname())
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                found = b""
                # Preface, settings, headers, data: the last frame ends the stream.
                while not found.endswith(access._frame(0, 1, 1, bytes(5))):
                    more = connection.recv(1 << 16)
                    if not more:
                        break
                    found += more
                self.read.append(found)
                connection.sendall(self.answer(found))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass


@pytest.fixture
def head(request: pytest.FixtureRequest) -> Iterator[Head]:
    made = Head(request.param)
    with closing(made.listener):
        yield made


def guarded(read: bytes) -> bytes:
    good = f"Bearer {TOKEN}".encode() in read
    return GREETING + PING + (ANSWERED if good else ended(REFUSED))


def open_to_all(read: bytes) -> bytes:
    return GREETING + ANSWERED


@pytest.mark.parametrize("head", [guarded], indirect=True)
def test_a_head_that_asks_for_a_token(head: Head) -> None:
    assert access.status_of(head.address, TOKEN) == 0
    assert access.status_of(head.address, None) == 16
    assert access.status_of(head.address, "b" * 200) == 16  # longer than one byte can say
    assert b"CheckAlive" in head.read[0]
    assert b"RayletDriver" not in head.read[0]
    assert access.status_of(f"ray://{head.address}", None) == 16
    assert b"RayletDriver" in head.read[-1]
    access.check_access(head.address, TOKEN, strictly=True)
    with pytest.raises(ParameterServerError, match="requires a token, and this process has none"):
        access.check_access(head.address, None)
    with pytest.raises(ParameterServerError, match="rejects the token of this process"):
        access.check_access(head.address, "b" * 64, strictly=True)


@pytest.mark.parametrize("head", [open_to_all], indirect=True)
def test_a_head_that_lets_in_everybody(head: Head) -> None:
    access.check_access(head.address, None)
    access.check_access(head.address, TOKEN)
    with pytest.raises(
        ParameterServerError, match="does not require a token: anyone who can reach it"
    ):
        access.check_access(head.address, TOKEN, strictly=True)


@pytest.mark.parametrize(
    "head",
    [
        lambda read: b"",
        lambda read: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda read: GREETING + access._frame(7, 0, 0, bytes(8)),
        lambda read: GREETING + ended(FIRST),
        lambda read: GREETING + ended(FIRST)[:-3],
    ],
    indirect=True,
)
def test_what_is_no_head(head: Head) -> None:
    assert access.status_of(head.address, None) is None
    with pytest.raises(ParameterServerError, match="what listens there does not answer as Ray"):
        access.check_access(head.address, TOKEN)


@pytest.mark.parametrize("head", [lambda read: GREETING + ended(UNKNOWN)], indirect=True)
def test_a_head_that_knows_no_such_call_is_not_taken_for_one_that_asks(head: Head) -> None:
    with pytest.raises(ParameterServerError, match="does not require a token"):
        access.check_access(head.address, TOKEN, strictly=True)


def test_one_that_is_silent_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
        with pytest.raises(OSError, match="timed out"):
            access.status_of(address, None, 0.05)
    with pytest.raises(ParameterServerError, match=f"no Ray cluster answers at {address}: "):
        access.check_access(address, None)


@pytest.mark.parametrize(("version", "good"), [("2.51.1", False), ("2.52.0", True), ("3.0", True)])
def test_a_ray_without_tokens_is_refused(
    version: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if good:
        access.check_version()
        return
    with pytest.raises(ParameterServerError, match=re.escape("pip install 'ray>=2.52'")):
        access.check_version()


def test_where_a_token_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert access.given_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert access.given_token() == "home"
    (tmp_path / "mine").write_text(" file \n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "mine"))
    assert access.given_token() == "file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "word")
    assert access.given_token() == "word"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert access.given_token() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ParameterServerError, match="RAY_AUTH_TOKEN_PATH=.*none: the token cannot"):
        access.given_token()
