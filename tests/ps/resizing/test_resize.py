"""A run that gets another number of servers goes on as one that always had it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh import ps
from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.initializer import initializer
from paramesh.ps.durability import identity, snapshot_view, whose_folder
from paramesh.ps.durability.run_lock import LaunchLock, RunLock
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing import build as builds
from paramesh.ps.resizing import targets
from paramesh.ps.resizing.plan import make_plan
from paramesh.ps.resizing.resize import resize
from paramesh.ps.resizing.sources import Facts
from paramesh.ps.server.server import Server
from paramesh.ps.server.store import Update
from paramesh.ps.specification.id_range import UNBOUNDED
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.partition import LEAST, Partition
from paramesh.ps.specification.protocol import RunConfig

ROWS = 300
SIZE = 2 * LEAST + 5
RATE = {"learning_rate": 0.5, "momentum": 0.9}
SGD = {"rule": "SGD", "momentum": True, "dampening": 0.0, "nesterov": False}
ADAGRAD = {"rule": "Adagrad", "accum": 0.1, "update_slots": True}
START = np.linspace(-1, 1, SIZE).astype(np.float32)
#: The counts of what happened to rows, of which only the sum over the servers says something.
ACCOUNT = "account/"


def recipe(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    made = initializer("normal", shape).recipe
    assert made is not None
    return initial_values_of(name, made)


def table(name: str, rows: int = ROWS, **life: Any) -> dict[str, Any]:
    said = {"name": name, "kind": "rows", "row_shape": [3], "rows": rows, "dtype": "float32"}
    start = recipe(name, (ROWS, 3))
    return said | {"optimizer": ADAGRAD, "recipe": start} | life


SPECS: list[dict[str, Any]] = [
    {"name": "w", "kind": "dense", "shape": [SIZE], "dtype": "float32"}
    | {"recipe": None, "optimizer": SGD},
    {"name": "b", "kind": "dense", "shape": [2, 2], "dtype": "float32"}
    | {"recipe": recipe("b", (2, 2)), "optimizer": SGD},
    table("plain"),
    table("met", UNBOUNDED, admit=2, expire=3),
]


def update_of(worker: int, step: int) -> Update:
    """What a worker pushes; the same whenever it is asked."""
    rng = np.random.default_rng([worker, step])
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for spec in SPECS:
        shape = tuple(spec.get("shape", ()))
        if spec["kind"] == "rows":
            low = 0 if spec["name"] == "plain" else -40
            ids = np.unique(rng.integers(low, 40 if low else ROWS, 30))
            found[spec["name"]] = {"ids": ids}
            shape = (len(ids), 3)
        found.setdefault(spec["name"], {})["grad"] = rng.standard_normal(shape).astype(np.float32)
    return found


class Fleet:
    """The servers of a run in this process; with the same folder they recover."""

    def __init__(
        self, folder: Path, servers: int, config: RunConfig, specs: Iterable[Any] = SPECS
    ) -> None:
        self.folder, self.config = folder, config
        self.partition = Partition(servers)
        mine = Identity(servers, config.workers, config.mode, config.staleness)
        whose_folder.own(folder, make=True)
        identity.write(folder, mine, "session")
        self.servers = [Server(identity.server_folder(folder, at), config) for at in range(servers)]
        self.incarnations: list[int] = []
        self.known = [[spec["name"] for spec in server.known()] for server in self.servers]
        for worker in range(config.workers):
            asked = max(server.hello(worker, None)["worker"] for server in self.servers)
            self.incarnations.append(asked)
            for server in self.servers:
                server.hello(worker, asked, life=7)
        for at, server in enumerate(self.servers):
            listed = [piece for spec in specs for piece in self.partition.split_spec(spec)[at]]
            server.declare(listed, self.partition.split_values("w", START)[at])

    def push(self, worker: int, step: int, servers: int | None = None) -> None:
        split = self.partition.split_updates(update_of(worker, step))
        for server, mine in list(zip(self.servers, split, strict=True))[:servers]:
            server.push(worker, self.incarnations[worker], step, mine, RATE)

    def steps(self, steps: Iterable[int]) -> None:
        for step in steps:
            for worker in range(self.config.workers):
                self.push(worker, step)

    def close(self) -> None:
        for server in self.servers:
            server.close()


def said_by(server: Server) -> dict[str, Any]:
    """All that makes a server, in a form that can be compared."""
    found: dict[str, Any] = {
        key: array.tobytes()
        for key, array in server.store.dump()
        if not key.startswith((ACCOUNT, "admitted/", "dropped/"))
    }
    state = server.workers.state()
    return found | {
        "version": server.version,
        "next": state["next"],
        "known": sorted(server.known(), key=lambda spec: spec["name"]),
        "valued": server._valued,
        "given": server._given,
    }


def rows_of(fleet: Fleet) -> Counter[str]:
    """How many rows the tables have, by name."""
    found = Counter[str]()
    for server in fleet.servers:
        found.update({k: v["rows"] for k, v in server.store.stats().items() if v["kind"] == "rows"})
    return found


def check_same(found: Fleet, expected: Fleet) -> None:
    for mine, theirs in zip(found.servers, expected.servers, strict=True):
        ours, others = said_by(mine), said_by(theirs)
        assert ours.keys() == others.keys()
        assert [key for key in ours if ours[key] != others[key]] == []
    reports = [
        [server.store.life()["met"] for server in fleet.servers] for fleet in (found, expected)
    ]
    for key in ("admitted", "rejected", "expired", "candidates", "rows"):
        assert len({sum(report[key] for report in mine) for mine in reports}) == 1, key


def check_reads(found: Fleet, expected: Fleet, steps: Iterable[int]) -> None:
    """Steps read the same from both."""
    for step in steps:
        for mine, theirs in zip(found.servers, expected.servers, strict=True):
            for name, spec in theirs.store.specs().items():
                ids = np.arange(40) if spec["kind"] == "rows" else None
                np.testing.assert_array_equal(
                    mine.read(step, name, ids), theirs.read(step, name, ids)
                )


SYNC = RunConfig(2)
STALE = RunConfig(2, "stale", 2, snapshot_every=3)
ASYNC = RunConfig(2, "async", snapshot_every=4)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 2), (2, 5)])
@pytest.mark.parametrize("config", [SYNC, STALE, ASYNC], ids=["sync", "stale", "async"])
def test_the_run_goes_on(config: RunConfig, before: int, after: int, tmp_path: Path) -> None:
    run = Fleet(tmp_path / "run", before, config)
    run.steps(range(7))
    run.close()
    out = tmp_path / "out" if before == after else None
    done = resize(run.folder, after, out)
    assert done[:3] == (out or run.folder, before, after)
    assert done.version == (14 if config.mode == "async" else 7)

    always = Fleet(tmp_path / "always", after, config)
    always.steps(range(7))
    resized = Fleet(done.path, after, config)
    assert done.rows == rows_of(always)
    assert resized.incarnations == [2, 2]
    assert all(server.incarnation > 1 for server in resized.servers)
    check_same(resized, always)
    if config.mode != "async":
        check_reads(resized, always, range(7, 8 + config.staleness))
    resized.steps(range(7, 12))
    always.steps(range(7, 12))
    check_same(resized, always)
    resized.close()
    again = Fleet(done.path, after, config)
    check_same(again, always)
    again.close()
    always.close()


@pytest.mark.parametrize("lacking", [1, 2])
@pytest.mark.parametrize("config", [SYNC, STALE], ids=["sync", "stale"])
def test_servers_of_a_killed_run(config: RunConfig, lacking: int, tmp_path: Path) -> None:
    """They are at different versions, and some have staged what others do not."""
    run = Fleet(tmp_path / "run", 3, config)
    run.steps(range(6))
    for worker in range(2):
        run.push(worker, 6, 3 - lacking)
    run.close()
    done = resize(run.folder, 2)
    assert done.version == 6

    always = Fleet(tmp_path / "always", 2, config)
    always.steps(range(6))
    resized = Fleet(run.folder, 2, config)
    check_same(resized, always)
    check_reads(resized, always, range(6, 7 + config.staleness))
    resized.steps(range(6, 9))
    always.steps(range(6, 9))
    check_same(resized, always)
    resized.close()
    always.close()


def test_damage_is_named_where_it_keeps_older_versions_away(tmp_path: Path) -> None:
    run = Fleet(tmp_path / "run", 1, STALE)
    run.steps(range(4))
    run.close()
    log = min(identity.server_folder(run.folder, 0).glob("log-*"))
    log.write_bytes(b"\1" + log.read_bytes()[1:])
    with pytest.raises(ParameterServerError, match=f"can be rebuilt.*'{log}' is damaged at byte 0"):
        resize(run.folder, 2)


@pytest.mark.parametrize("hole", ["segment", "text", "array", "snapshot"])
def test_what_a_later_snapshot_makes_up_for(hole: str, tmp_path: Path) -> None:
    """A power cut has taken a part of the log, say, and the server has gone on from a snapshot."""
    config = dataclasses.replace(SYNC, snapshot_every=2)
    run = Fleet(tmp_path / "run", 2, config)
    run.steps(range(6))
    run.close()
    server = identity.server_folder(run.folder, 0)
    middle = sorted(server.glob("log-*"))[-2]
    before = middle.read_bytes()
    place = {"text": 70, "array": len(before) - 80}.get(hole)
    if place is not None:
        middle.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    elif hole == "segment":
        middle.unlink()
    else:
        oldest = min(server.glob("snapshot-*"))
        oldest.write_bytes(b"\1" + oldest.read_bytes()[1:])
        min(server.glob("log-*")).unlink()
    assert resize(run.folder, 3).version == 6

    always = Fleet(tmp_path / "always", 3, SYNC)
    always.steps(range(6))
    resized = Fleet(run.folder, 3, config)
    check_same(resized, always)
    resized.steps(range(6, 8))
    always.steps(range(6, 8))
    check_same(resized, always)
    resized.close()
    always.close()


def test_pushes_that_only_some_servers_have(tmp_path: Path) -> None:
    """In async mode they are left out, and their worker sends them again."""
    run = Fleet(tmp_path / "run", 2, ASYNC)
    run.steps(range(5))
    run.push(0, 5, 1)  # a kill: worker 0 has no answer
    run.push(1, 5)
    run.close()
    done = resize(run.folder, 3)
    assert done.version == 11
    resized = Fleet(run.folder, 3, ASYNC)
    always = Fleet(tmp_path / "always", 3, ASYNC)
    always.steps(range(5))
    always.push(1, 5)
    check_same(resized, always)
    for fleet in (resized, always):
        fleet.push(0, 5)
        fleet.steps(range(6, 8))
    check_same(resized, always)
    resized.close()
    always.close()


@pytest.mark.parametrize("every", [1, 3])
def test_snapshots_have_a_push_that_another_server_lacks(every: int, tmp_path: Path) -> None:
    """In async mode: a worker was frozen between two servers, and the others went on."""
    config = RunConfig(3, "async", snapshot_every=every)
    run = Fleet(tmp_path / "run", 2, config)
    run.steps(range(4))
    run.push(0, 4, 1)
    run.push(1, 4)
    run.close()
    assert resize(run.folder, 3, tmp_path / "soon").version == 13  # one snapshot is from before it

    run = Fleet(run.folder, 2, config)
    for step in range(5, 9):
        run.push(1, step)
        run.push(2, step - 1)
    with pytest.raises(ParameterServerError, match="has a push of worker 0 that another server"):
        resize(run.folder, 3)
    run.push(0, 4)
    run.close()
    assert resize(run.folder, 3).version == 22


def test_given_values_and_a_parameter_that_is_being_declared(tmp_path: Path) -> None:
    run = Fleet(tmp_path / "run", 2, SYNC)
    ids = np.arange(50)
    values = np.ones((50, 3), np.float32)
    for server, places in zip(run.servers, run.partition.split_rows(ids), strict=True):
        server.put("plain", {"value": values[places], "accum": values[places]}, ids[places])
    run.steps(range(3))
    late = {**SPECS[0], "name": "late"}
    run.servers[0].declare(run.partition.split_spec(late)[0], {})
    half = {**SPECS[0], "name": "half"}
    for at, server in enumerate(run.servers):
        found = run.partition.split_values("half", START)[at] if at else {}
        server.declare(run.partition.split_spec(half)[at], found)
    run.close()
    resize(run.folder, 3)
    resized = Fleet(run.folder, 3, SYNC)
    for server in resized.servers:
        assert "plain" in server._given
        assert not any(name.startswith("late") for name in server.store.specs())
        for name in server.store.specs():
            if name.startswith("half"):
                with pytest.raises(ParameterStateError, match="no values"):
                    server.read(3, name)
        server.put("plain", {"value": values}, ids)  # by a worker that is started again: nothing
    resized.push(0, 3)
    for at, server in enumerate(resized.servers):
        given = resized.partition.split_values("half", START)[at]
        server.declare(resized.partition.split_spec(half)[at], given)
        for name, expected in given.items():
            np.testing.assert_array_equal(server.read(3, name), expected)
    rows = np.concatenate([server.store.rows("plain") for server in resized.servers])
    assert set(ids) <= set(rows)
    resized.close()


class Killed(BaseException):
    """In the place of a kill: nothing is tidied up."""


def points(run: Path, after: int, out: Path | None = None) -> list[str]:
    found: list[str] = []
    resize(run, after, out, point=found.append)
    return found


def killed_at(place: int, reached: list[str]) -> Callable[[str], None]:
    def point(name: str) -> None:
        reached.append(name)
        if len(reached) == place + 1:
            raise Killed

    return point


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_kill_leaves_the_one_or_the_other(elsewhere: bool, tmp_path: Path) -> None:
    config = RunConfig(1, "stale", 1)
    run = Fleet(tmp_path / "run", 2, config)
    run.steps(range(4))
    run.close()
    expected = [Fleet(tmp_path / f"always-{count}", count, config) for count in (2, 3)]
    for fleet in expected:
        fleet.steps(range(4))
    kept = tmp_path / "kept"
    shutil.copytree(run.folder, kept)
    all_points = points(kept, 3, tmp_path / "kept-out" if elsewhere else None)
    assert [*dict.fromkeys(all_points)][-2:] == (
        ["built", "moved"] if elsewhere else ["moved", "removed"]
    )
    for place, name in enumerate(all_points):
        folder = tmp_path / f"run-{place}"
        shutil.copytree(run.folder, folder)
        out = tmp_path / f"out-{place}" if elsewhere else None
        with pytest.raises(Killed):
            resize(folder, 3, out, point=killed_at(place, []))
        moved = name in ("moved", "removed")
        if out is not None:
            assert out.exists() == moved
        resized = moved and out is None
        with pytest.raises(ParameterServerError, match="paramesh ps resize"):
            identity.check(folder, Identity(2 if resized else 3, 1, "stale", 1))
        survivor = Fleet(folder, 3 if resized else 2, config)
        check_same(survivor, expected[resized])
        survivor.close()
        # Once more, from whatever was left.
        done = resize(folder, 3, None if out is None or moved else out)
        again = Fleet(done.path, 3, config)
        check_same(again, expected[1])
        again.close()
        assert identity.left_over(folder) == []
    for fleet in expected:
        fleet.close()


def test_memory_is_a_share_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one server is held, and no array that is written is larger than a block."""
    config = RunConfig(1, snapshot_every=1)
    run = Fleet(tmp_path / "run", 4, config)
    run.steps(range(4))
    run.close()
    monkeypatch.setattr(snapshot_view, "PIECE", 512)
    monkeypatch.setattr(snapshot_view, "_SLOTS", 16)
    held: list[Server] = []
    written: list[int] = []
    state = builds.Source.state
    add = targets._SnapshotFile.add

    def counted(source: builds.Source, cut: builds.Cut) -> Server:
        assert all(not server.store.specs() for server in held)
        held.append(state(source, cut))
        return held[-1]

    def measured(file: Any, said: Any, arrays: Any) -> None:
        if not any(field in arrays for field in ("candidates", "account")):
            written.append(sum(array.nbytes for array in arrays.values()))
        add(file, said, arrays)

    monkeypatch.setattr(builds.Source, "state", counted)
    monkeypatch.setattr(targets._SnapshotFile, "add", measured)
    resize(run.folder, 3)
    assert len(held) == 4
    assert 0 < max(written) <= 3 * 512  # a value, and two fields of its optimizer
    assert sum(written) >= 2 * 4 * SIZE


@given(
    servers=st.integers(1, 9),
    after=st.integers(1, 9),
    capacity=st.integers(20, 10_000),
)
def test_a_capacity_is_divided_anew(servers: int, after: int, capacity: int) -> None:
    spec = table("t", max_rows=capacity)
    before, following = Partition(servers), Partition(after)
    facts = [Facts(mine, set(), set()) for mine in before.split_spec(spec)]
    plan = make_plan(Path("run"), facts, before, following)
    assert plan.specs["t"] == following.split_spec(spec)


def test_a_small_capacity_that_nobody_knows() -> None:
    before = Partition(5)
    facts = [Facts(mine, set(), set()) for mine in before.split_spec(table("t", max_rows=2))]
    with pytest.raises(
        ParameterServerError, match="'t': max_rows is 1 to 5, not more than the 5 servers"
    ):
        make_plan(Path("run"), facts, before, Partition(2))


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    run = Fleet(tmp_path / "run", 2, RunConfig())
    run.steps(range(2))
    run.close()
    return run.folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*.bin")}


@pytest.mark.parametrize("lock", ["run", "launch"])
def test_a_live_run_is_refused(lock: str, ended: Path) -> None:
    before = files(ended)
    who: Any = RunLock(ended) if lock == "run" else LaunchLock(ended)
    if lock == "run":
        who.take("another")
        who.settle()
    else:
        who.take()
    with pytest.raises(ParameterServerError, match=rf"number of .*process {os.getpid()} on host"):
        resize(ended, 3)
    who.release()
    assert files(ended) == before
    assert resize(ended, 3).after == 3


def test_what_is_refused(ended: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1..256 servers: 0"):
        resize(ended, 0)
    with pytest.raises(ParameterServerError, match="is not the wal_dir of a run"):
        resize(tmp_path, 3)
    with pytest.raises(FileExistsError, match="not an empty folder"):
        resize(ended, 3, ended)
    (ended / "server-1" / "log-0000000000000000-00000001.bin").unlink()
    before = files(ended)
    with pytest.raises(ParameterServerError, match=r"versions: \[2, 0\].* lost its log"):
        resize(ended, 3)
    assert files(ended) == before
    assert not list(ended.glob("resized-*"))


def test_as_many_as_there_are(ended: Path) -> None:
    before = files(ended)
    assert resize(ended, 2) == (ended, 2, 2, 2, {})
    assert files(ended) == before


def test_a_run_that_lost_its_run_json(ended: Path) -> None:
    resize(ended, 3)
    (ended / "run.json").unlink()
    with pytest.raises(ParameterServerError, match=r"run\.json' is missing"):
        identity.check(ended, Identity(3))


def test_a_server_of_the_former_run(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "backup")
    place = resize(ended, 3).path / "resized-1" / "server-0"
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "backup" / "server-0", place)
    with pytest.raises(ParameterServerError, match="does not belong to the run"):
        identity.check(ended, Identity(3))


def test_run_json_that_points_elsewhere(ended: Path) -> None:
    said = json.loads((ended / "run.json").read_text())
    (ended / "run.json").write_text(json.dumps(said | {"format": 2, "folder": "../other"}))
    with pytest.raises(ParameterServerError, match="is damaged"):
        identity.check(ended, Identity(2))


def test_a_reader_reads_the_same(ended: Path) -> None:
    ids = np.arange(ROWS)
    with ps.connect(ended) as read:
        rows, values = read.lookup("plain", ids), read.value("w")
    resize(ended, 4)
    with ps.connect(ended) as read:
        assert read.version == 2
        np.testing.assert_array_equal(read.lookup("plain", ids), rows)
        np.testing.assert_array_equal(read.value("w"), values)
