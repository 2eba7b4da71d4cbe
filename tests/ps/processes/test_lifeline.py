"""Connections that tell of a death, among others that come to no good."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from paramesh.ps.processes import lifeline
from paramesh.ps.processes.lifeline import Beacon, Lifeline

HOST = "127.0.0.1"


def awaited(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def connected(beacon: Beacon) -> socket.socket:
    made = socket.create_connection((HOST, beacon.address[1]), timeout=20)
    made.settimeout(20)
    return made


@pytest.fixture
def beacon() -> Iterator[Beacon]:
    made = Beacon(HOST)
    yield made
    made.close()


@pytest.fixture
def crowd() -> Iterator[list[socket.socket]]:
    """Connections that are closed at the end."""
    found: list[socket.socket] = []
    yield found
    for one in found:
        one.close()


def test_it_breaks_when_the_process_dies() -> None:
    program = (
        "from paramesh.ps.processes.lifeline import Beacon\nimport time\n"
        f"print(*Beacon({HOST!r}).address, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()
        line = Lifeline((host, int(port)))
        assert not line.broken()
        os.kill(process.pid, signal.SIGSTOP)
        assert not line.broken()
        process.kill()
        process.wait()
        assert awaited(line.broken)
        line.close()


def test_strangers_are_few_and_short(
    beacon: Beacon, crowd: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "STRANGERS", 5)
    monkeypatch.setattr(lifeline, "PATIENCE", 600.0)
    first = Lifeline(beacon.address)
    for _ in range(40):
        crowd.append(connected(beacon))
        assert len(beacon._strangers) <= 6  # one more for a moment
    assert crowd[0].recv(1) == b""  # the oldest had to go
    # A worker among them is held, and those that are held stay.
    later = [Lifeline(beacon.address) for _ in range(20)]
    assert awaited(lambda: len(beacon._strangers) <= 5)
    assert len(beacon._accepted) == 21
    assert not any(line.broken() for line in (first, *later))
    for line in (first, *later):
        line.close()
    assert awaited(lambda: not beacon._accepted)


def test_strangers_have_to_go_after_a_while(
    beacon: Beacon, crowd: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "PATIENCE", 0.05)
    line = Lifeline(beacon.address)
    crowd.append(connected(beacon))
    crowd[0].sendall(b"half a sec")
    assert crowd[0].recv(1) == b""
    assert not line.broken()
    line.close()


@pytest.mark.parametrize("shown", [b"x" * 32, b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n"])
def test_whoever_shows_another_secret_has_to_go(
    beacon: Beacon, crowd: list[socket.socket], shown: bytes
) -> None:
    crowd.append(connected(beacon))
    crowd[0].sendall(shown)
    with contextlib.suppress(ConnectionResetError):  # it had said more than was read
        assert crowd[0].recv(1) == b""
    secret, _, host = beacon.address[0].rpartition("@")
    with pytest.raises(OSError, match="accepts no more|reset"):
        Lifeline((f"{'0' * len(secret)}@{host}", beacon.address[1]))


def test_a_full_beacon_comes_back(beacon: Beacon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "MOST", 3)
    lines = [Lifeline(beacon.address) for _ in range(3)]
    with pytest.raises(OSError, match="accepts no more connections"):
        Lifeline(beacon.address)
    assert not any(line.broken() for line in lines)
    lines.pop().close()
    assert awaited(lambda: len(beacon._accepted) == 2)
    lines.append(Lifeline(beacon.address))
    assert not any(line.broken() for line in lines)
    for line in lines:
        line.close()


#: Has two files left, and lets strangers stay.
POOR = """
import os, resource, time
from paramesh.ps.processes import lifeline
lifeline.PATIENCE, lifeline.PAUSE = 600.0, 0.01
beacon = lifeline.Beacon("127.0.0.1")
used = max(map(int, os.listdir("/proc/self/fd")))  # one of them was for looking
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, used + 2))
print(*beacon.address, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="Linux says how many are open")
def test_a_beacon_without_files_comes_back(crowd: list[socket.socket]) -> None:
    def reached() -> bool:
        try:
            Lifeline((host, int(port))).close()
        except OSError:
            return False
        return True

    with subprocess.Popen(
        [sys.executable, "-c", POOR], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            host, port = process.stdout.readline().split()
            assert reached()
            for _ in range(6):
                crowd.append(socket.create_connection((HOST, int(port)), timeout=20))
            assert awaited(lambda: not reached())
            for one in crowd:
                one.close()
            assert awaited(reached)
            assert process.poll() is None
        finally:
            process.kill()
