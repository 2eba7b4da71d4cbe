"""The relay of the tests: bytes pass as they are, at the time that they should."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from relay import Link, Relay


def test_when_bytes_arrive() -> None:
    link = Link(0.02, 0.0)
    assert link.due(1.0, 10**9) == 1.02
    slow = Link(0.5, 1000.0)
    assert slow.due(10.0, 2000) == 12.5
    assert slow.due(10.0, 1000) == 13.5  # behind the others
    assert slow.due(20.0, 1000) == 21.5


@pytest.mark.parametrize("rate", [0.0, 1e8])
def test_bytes_pass_as_they_are_and_ends_are_passed_on(rate: float) -> None:
    sent, echoed = os.urandom(3_000_000), bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay = Relay(f"127.0.0.1:{listening.getsockname()[1]}", 0.001, rate)
        host, _, port = relay.address.partition(":")

        def echo() -> None:
            with listening.accept()[0] as peer:
                while data := peer.recv(1 << 16):
                    peer.sendall(data)

        thread = threading.Thread(target=echo)
        thread.start()
        with socket.create_connection((host, int(port)), timeout=20) as near:
            sender = threading.Thread(
                target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR))
            )
            sender.start()
            while data := near.recv(1 << 16):
                echoed += data
            sender.join()
        thread.join()
        relay.close()
    assert bytes(echoed) == sent
