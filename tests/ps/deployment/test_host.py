"""The process of a server: where its output goes, and when it gives memory back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.ps.deployment import host as hosts
from server_loops import LoopClient, LoopHost, LoopServer
from server_runs import SPECS, START

PROGRAM = """
import os, sys
from paramesh.ps.deployment.host import Host
print("before", flush=True)
Host().speak_to(sys.argv[1])
print("by Python", flush=True)
os.write(2, b"by a library\\n")
print(Host().name(), flush=True)
"""


def run(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )


def test_all_output_goes_to_a_file_of_this_host_and_where_there_is_none_stays(
    tmp_path: Path,
) -> None:
    done = run(tmp_path / "server-0")
    (file,) = tmp_path.iterdir()
    *lines, name = file.read_text().splitlines()
    assert lines == ["by Python", "by a library"]
    assert file.name == f"server-0.{name}.log"
    assert done.stdout == "before\n"
    run(tmp_path / "server-0")  # started again: added to what is there
    assert file.read_text().count("by a library") == 2
    done = run(tmp_path / "nowhere" / "server-0")
    assert "by Python" in done.stdout
    assert "paramesh: the output of this server stays here: " in done.stderr


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(LoopHost, "give_back", lambda self: found.append(1))
    return found


def test_memory_is_given_back_once_for_all_that_ask_meanwhile(
    given_back: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "GIVE_BACK", 0.01)

    async def run() -> None:
        host = LoopHost()
        for times in (1, 2):
            for _ in range(3):
                host.give_back_soon()
            assert len(given_back) == times - 1
            while len(given_back) < times:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert len(given_back) == times

    asyncio.run(run())


def test_a_server_that_nobody_asks_any_more_gives_back_what_its_last_step_has_left(
    tmp_path: Path, given_back: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(LoopHost, "give_back_soon", lambda self: asked.append(self))
    server = LoopServer(tmp_path / "server-0")
    try:
        client = LoopClient([server], "ray")
        client.declare([SPECS[0]], START)
        assert not asked
        update = {"w": {"grad": np.ones_like(START["w"])}}
        client.step(0, update, {"learning_rate": 0.1, "momentum": 0.9}, [])
        assert len(asked) == 1
    finally:
        server.close()
