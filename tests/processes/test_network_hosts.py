"""The hosts that tests have: that they are apart, that wires can be cut and slow, and all ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from network_hosts import Network, inner, why_no_delay, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

_ANSWER = """
import socket
server = socket.create_server(("10.77.0.1", 5000))
print("up", flush=True)
while True:
    server.accept()[0].sendall(b"x")
"""
_ASK = """
import os, socket, time
began = time.monotonic()
with socket.create_connection(("10.77.0.1", 5000), timeout=2) as one:
    one.recv(1)
print(socket.gethostname(), os.getpid() < 100, time.monotonic() - began)
"""


def ask(network: Network, host: str) -> subprocess.CompletedProcess[str]:
    return network.run(host, [sys.executable, "-I", "-S", "-c", _ASK])


def answering(network: Network) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-I", "-S", "-c", _ANSWER]
    server = network.start("one", words, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    return server


def test_hosts_are_apart_can_be_cut_off_and_removed(tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    with Network(["one", "two"], private=[tmp_path]) as network:
        with answering(network) as server:
            name, own_numbers, _ = ask(network, "two").stdout.split()
            assert (name, own_numbers) == ("two", "True")
            listed = network.run("two", ["ls", str(tmp_path)])
            assert (listed.returncode, listed.stdout) == (0, "")
            network.cut("two")
            assert "TimeoutError" in ask(network, "two").stderr
            network.mend("two")
            assert ask(network, "two").returncode == 0
            pid = inner(server)
            network.remove("one")
            server.wait(20)
        assert not Path(f"/proc/{pid}").exists()
        assert "Error" in ask(network, "two").stderr


@pytest.mark.skipif(why_no_delay() is not None, reason=str(why_no_delay()))
def test_a_wire_with_a_delay_takes_it_there_and_back() -> None:
    with Network(["one", "two"], delay=0.05) as network, answering(network) as server:
        seconds = float(ask(network, "two").stdout.split()[2])
        assert seconds >= 4 * 0.05  # to the switch and on, and back, to connect alone
        network.cut("two")
        assert "TimeoutError" in ask(network, "two").stderr
        server.kill()
