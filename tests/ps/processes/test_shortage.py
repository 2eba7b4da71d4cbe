"""A server that lacks memory, threads or files says so, and goes on with what it has."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.processes.shortage import Shortage, shortage
from paramesh.ps.server import background, snapshot_writer
from paramesh.ps.server import server as servers
from paramesh.ps.server.server import Server
from paramesh.ps.specification.packing import pack_updates
from paramesh.ps.specification.protocol import RunConfig
from server_runs import NUMBERS, SIZE, SPECS, START


def grads(size: int = SIZE) -> dict[str, Any]:
    return {"w": {"grad": np.full(size, 0.5, np.float32)}}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError("Unable to allocate 3 GiB"), "no memory left .*Unable to allocate 3 GiB"),
        (RuntimeError("can't start new thread"), "no threads left"),
        (OSError(errno.EMFILE, "Too many open files"), r"no open files \(RLIMIT_NOFILE\) left"),
        (OSError(errno.ENOSPC, "No space left"), "no room on its disk left"),
    ],
)
@pytest.mark.parametrize("call", ["push", "step"])
def test_a_shortage_has_the_name_of_its_server(
    error: Exception, what: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        actor = ServerActor(str(tmp_path / "server-3"), {"workers": 2})
        await actor.declare(SPECS, START)
        workers = [(await actor.hello(rank, 1, 7))["worker"] for rank in range(2)]
        other = asyncio.ensure_future(
            actor.step(
                (0, workers[0], 0, pack_updates(grads()), NUMBERS, 2, False, ["w"], 1, None, 0)
            )
        )
        await asyncio.sleep(0)
        good, lacking = Server.push, iter([error])

        def push(self: Server, *arguments: Any) -> None:
            for one in lacking:
                raise one
            good(self, *arguments)

        monkeypatch.setattr(Server, "push", push)
        mine = (1, workers[1], 0, pack_updates(grads()), NUMBERS, 2, False)
        asked = {
            "push": lambda: actor.push(*mine),
            "step": lambda: actor.step((*mine, [], 1, None, 0)),
        }
        message = rf"server-3 \(process {os.getpid()} on .*\) has {what}.*same wal_dir"
        with pytest.raises(ParameterServerError, match=message):
            await asked[call]()
        with pytest.raises(ParameterServerError, match=message):  # who waits for it hears so too
            await asyncio.wait_for(other, 60)
        # Nothing of it is there, and the next try is as good as the first.
        assert actor._state().version == 0
        await actor.push(*mine)
        assert actor._state().version == 1

    asyncio.run(run())


def test_other_errors_are_left_alone() -> None:
    for error in (RuntimeError("something else"), OSError(errno.EIO, "bad disk"), ValueError("no")):
        assert shortage("server-0", "push", error) is None
    assert isinstance(shortage("server-0", "push", MemoryError()), Shortage)


class NoThreads(ThreadPoolExecutor):
    """Takes work, as Python's does, and cannot start a thread for it while none is allowed."""

    allowed = False

    def _adjust_thread_count(self) -> None:
        if not self.allowed:
            raise RuntimeError("can't start new thread")
        super()._adjust_thread_count()  # pyright: ignore[reportAttributeAccessIssue]


def trained(folder: Path, change: Callable[[Server, int], None], **options: Any) -> Server:
    """Eight steps of one worker; `change` is called before each."""
    server = Server(folder, RunConfig(snapshot_every=2), **options)
    server.declare(SPECS, START)
    worker = server.hello(0, 1, 7)["worker"]
    for step in range(8):
        change(server, step)
        server.push(0, worker, step, grads(), NUMBERS)
    return server


def test_without_threads_a_server_does_everything_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allow(server: Server, step: int) -> None:
        NoThreads.allowed = step >= 5

    expected = trained(tmp_path / "plain", lambda server, step: None)
    monkeypatch.setattr(background, "ThreadPoolExecutor", NoThreads)
    server = trained(tmp_path / "poor", allow, beside=1, snapshots_beside=True)
    server.close()
    for found in (server, Server(tmp_path / "poor", RunConfig(snapshot_every=2))):
        assert found.version == 8
        np.testing.assert_array_equal(found.store.read("w"), expected.store.read("w"))
        found.close()
    expected.close()


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
@pytest.mark.parametrize("beside", [False, True])
def test_a_snapshot_that_cannot_begin_costs_itself_alone(
    error: Exception, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = snapshot_writer.write_snapshot
    rotate = servers.Log.rotate

    def fail(server: Server, step: int) -> None:
        def broken(*arguments: Any) -> None:
            raise error

        server.snapshots.wait()
        monkeypatch.setattr(servers.Log, "rotate", broken if step == 3 else rotate)
        monkeypatch.setattr(snapshot_writer, "write_snapshot", broken if step == 5 else good)
        if step in (4, 6):
            assert "failed" in server.last_snapshot
        if step in (2, 3):
            assert server.last_snapshot["version"] == 2

    server = trained(tmp_path, fail, snapshots_beside=beside)
    server.close()
    assert server.version == 8
    assert server.last_snapshot["version"] == 8
    recovered = Server(tmp_path, RunConfig(snapshot_every=2))
    np.testing.assert_array_equal(recovered.store.read("w"), server.store.read("w"))
    recovered.close()
