"""What servers and workers write down of what happened to them."""

from __future__ import annotations

import datetime
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.ps.deployment.metrics import ServerWatch, lag
from paramesh.ps.durability.log import Fenced
from paramesh.ps.processes import events
from paramesh.ps.server.server import Server
from paramesh.ps.specification.protocol import RunConfig
from server_runs import MOMENTUM, NUMBERS

SPEC = {"name": "w", "kind": "dense", "shape": [4], "dtype": "float32", "recipe": None}


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def push(server: Server, step: int) -> None:
    server.push(0, 1, step, {"w": {"grad": np.ones(4, np.float32)}}, NUMBERS)


def test_a_server_tells_of_its_starts_snapshots_and_errors(tmp_path: Path) -> None:
    folder = tmp_path / "server-3"
    server = Server(folder, RunConfig(snapshot_every=2))
    watch = ServerWatch(folder)
    watch.look(server)
    server.hello(0, 1)
    server.declare([SPEC | {"optimizer": MOMENTUM}], {"w": np.zeros(4, np.float32)})
    for step in range(3):
        push(server, step)
        watch.look(server)
    server.close()
    server = Server(folder, RunConfig(snapshot_every=2))
    watch = ServerWatch(folder)
    watch.look(server)
    watch.failed(Fenced("another one is there", 3), worker=1, step=7)
    watch.failed(ValueError("no"), worker=1, step=7)
    server.snapshots.last = {"failed": 5.0, "errno": 28.0}
    watch.look(server)
    server.close()
    path = folder / "events.jsonl"
    said = written(path)
    kinds = ["started", "snapshot", "recovered", "fenced", "refused", "snapshot failed"]
    assert [line["event"] for line in said] == kinds
    assert {line["who"] for line in said} == {"server-3"}
    assert all(datetime.datetime.fromisoformat(line["time"]).tzinfo for line in said)
    assert said[1]["version"] == 2
    assert (said[2]["incarnation"], said[2]["version"]) == (2, 3)
    assert (said[4]["error"], said[4]["reason"], said[4]["step"]) == ("ValueError", "no", 7)
    assert said[5]["errno"] == 28
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_events_of_workers_and_of_nobody(tmp_path: Path) -> None:
    log = events.of_worker(str(tmp_path), 2)
    log.note("killed", server=1, pid=7)
    (line,) = written(tmp_path / "worker-2.events.jsonl")
    assert (line["who"], line["event"], line["server"]) == ("worker-2", "killed", 1)
    events.of_worker(None, 0).note("killed")
    # A line that cannot be written stops nothing.
    events.of_worker(str(tmp_path / "is not there"), 0).note("killed")


def test_lag_is_how_far_the_fastest_worker_is_ahead() -> None:
    assert lag({"version": 5, "staged": {}}) == 0
    assert lag({"version": 5, "staged": {5: [0], 6: [1]}}) == 2
