"""What a run on servers writes down of itself, and who has it: without servers and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import ps
from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, run_lock, whose_folder
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_lock import RunLock, WorkerLock
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.server.server import Server
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import RunConfig
from server_runs import MOMENTUM, table_spec

TWO = Identity(server_num=2)
SIZE = 1 << 17
DENSE: dict[str, Any] = {
    "name": "net.w",
    "kind": "dense",
    "shape": [SIZE],
    "dtype": "float32",
    "recipe": None,
    "optimizer": MOMENTUM,
}


TWO_WORKERS = Identity(2, 2)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files, with when they were written."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(folder: Path, mine: Identity = TWO) -> RunFolder:
    return RunFolder(str(folder), mine, None)


def begun(
    folder: Path, mine: Identity = TWO, *, former: bool = False, snapshot: bool = False
) -> Path:
    """The folder of a run whose servers have made two steps; `former`: nothing says what it is."""
    if not former:
        first = run(folder, mine)
        first.enter("first")
        first.leave()
    partition = Partition(mine.server_num)
    ids = np.arange(10)
    rng = np.random.default_rng(0)
    updates = {
        "net.w": {"grad": rng.standard_normal(SIZE).astype(np.float32)},
        "t": {"ids": ids, "grad": np.ones((10, 2), np.float32)},
    }
    specs = [partition.split_spec(spec) for spec in (DENSE, table_spec())]
    for number, mine_of_it in enumerate(partition.split_updates(updates)):
        place = identity.server_folder(folder, number)
        server = Server(place, RunConfig(workers=1, mode=mine.mode))
        server.hello(0, 1)
        listed = [piece for pieces in specs for piece in pieces[number]]
        if former:  # pieces did not say of which shape they were
            listed = [{k: v for k, v in piece.items() if k != "whole"} for piece in listed]
        zeros = partition.split_values("net.w", np.zeros(SIZE, np.float32))[number]
        server.declare(listed, zeros)
        for step in range(2):
            server.push(0, 1, step, mine_of_it, {"learning_rate": 0.1, "momentum": 0.9})
            if snapshot:
                server.snapshot()
        server.close()
    return folder


def exchanged(folder: Path) -> None:
    (folder / "server-0").rename(folder / "spare")
    (folder / "server-1").rename(folder / "server-0")
    (folder / "spare").rename(folder / "server-1")


def removed(folder: Path) -> None:
    shutil.rmtree(folder / "server-1")


def of_another_run(folder: Path) -> None:
    other = begun(folder.with_name("other"))
    shutil.rmtree(folder / "server-1")
    shutil.copytree(other / "server-1", folder / "server-1")


def damaged(folder: Path) -> None:
    (folder / "run.json").write_text("{")


def saying(**what: object) -> Callable[[Path], None]:
    """`run.json` says something else."""

    def change(folder: Path) -> None:
        said = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(said | what))

    return change


def of_another_paramesh(folder: Path) -> None:
    said = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(said | {"format": 3}))


def linked(folder: Path) -> None:
    (folder / "server-1").rename(folder.with_name("elsewhere"))
    (folder / "server-1").symlink_to(folder.with_name("elsewhere"))


def open_to_all(folder: Path) -> None:
    (folder / "server-0").chmod(0o777)


def anothers(folder: Path) -> None:
    os.chown(folder / "server-1", 65534, -1)


def without_the_rest(folder: Path) -> None:
    """Only the folder of a server was copied."""
    shutil.rmtree(folder / "server-1")
    (folder / "run.json").unlink()


def nothing(folder: Path) -> None:
    """As it is."""


REFUSED: list[tuple[Callable[[Path], None], Identity, str]] = [
    (nothing, Identity(1), r"a run with server_num=2, but this .* requests server_num=1.*resize"),
    (nothing, Identity(3), r"server_num=2, but this start requests server_num=3"),
    (nothing, Identity(2, 2, "async"), "worker_num=1, mode='sync', .* worker_num=2, mode='async'"),
    (nothing, Identity(2, 1, "stale", 1), r"mode='sync', staleness=0, .*mode='stale', staleness=1"),
    (exchanged, TWO, r"server-0' is the folder of server 1, not of server 0.*restore the names"),
    (removed, TWO, "server-1', the folder of server 1, does not exist, although the run has"),
    (of_another_run, TWO, "server-1' does not belong to the run in .*: it was copied there"),
    (damaged, TWO, r"run.json' is damaged"),
    (saying(server_num="2"), TWO, r"run.json' is damaged"),
    (saying(worker_num=True), TWO, r"run.json' is damaged"),
    (saying(shards=0), TWO, r"run.json' is damaged"),
    (saying(mode="x"), TWO, r"run.json' is damaged"),
    (saying(run=None), TWO, r"run.json' is damaged"),
    (of_another_paramesh, TWO, r"by another version of paramesh \(format 3, expected 1 or 2"),
    (without_the_rest, TWO, r"run.json' is missing, and the server of|it has no run.json"),
    (without_the_rest, Identity(1), r"run.json' is missing, and the server of .* a part of its"),
    (linked, TWO, "cannot use a folder: '.*server-1' is a symbolic link"),
    (open_to_all, TWO, r"cannot use a folder: '.*server-0' is writable by others"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "mine", "message"),
    [
        *REFUSED,
        pytest.param(
            anothers, TWO, "server-1' belongs to",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away"),
        ),
    ],
)  # fmt: skip
def test_a_refused_start_changes_nothing(
    change: Callable[[Path], None], mine: Identity, message: str, tmp_path: Path
) -> None:
    folder = begun(tmp_path / "run")
    change(folder)
    before = contents(folder)
    with pytest.raises(ParameterServerError, match=message):
        run(folder, mine).enter("second")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [(change, message) for change, mine, message in REFUSED
     if mine == TWO and change not in (linked, open_to_all)],
)  # fmt: skip
def test_a_reader_refuses_the_same(
    change: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    """It would read rows where they are not, and give their initial values."""
    folder = begun(tmp_path / "run")
    change(folder)
    with pytest.raises(ParameterServerError, match=message):
        ps.connect(folder)


def test_what_fits_goes_on_by_the_same_name(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    names = set()
    for path in (tmp_path / "run", tmp_path / "link"):
        again = run(path)
        again.enter("again")
        assert again.path == tmp_path / "run"
        names.add(again.name)
        again.leave()
    assert names == {json.loads((tmp_path / "run" / "run.json").read_text())["run"]}


def test_who_goes_on_with_a_run_from_before(tmp_path: Path) -> None:
    found: list[bool] = []
    for session in ("first", "second"):
        entered = [run(tmp_path / "run", TWO_WORKERS) for _ in range(2)]
        for rank, worker in enumerate(entered):
            worker.enter(session)
            found.append(worker.resumed)
            if rank == 1:  # killed, and started again in the same session
                worker.leave()
                again = run(tmp_path / "run", TWO_WORKERS)
                again.enter(session)
                found.append(again.resumed)
                again.leave()
        entered[0].leave()
    assert found == [False, False, False, True, False, False]


def test_a_start_that_came_to_nothing_is_made_again(tmp_path: Path) -> None:
    """It died before it wrote which run it is: another number of servers may begin there."""
    first = run(tmp_path / "run")
    first.enter("first")
    first.leave()
    (tmp_path / "run" / "run.json").unlink()
    second = run(tmp_path / "run", Identity(3))
    second.enter("second")
    second.leave()
    assert json.loads((tmp_path / "run" / "server-2" / "server.json").read_text()) == {
        "run": second.name,
        "server": 2,
    }


@pytest.mark.parametrize("snapshot", [False, True])
def test_runs_from_before_there_were_such_files(snapshot: bool, tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", former=True, snapshot=snapshot)
    refused: list[tuple[Callable[[Path], None], Identity, str]] = [
        (nothing, Identity(1), "server_num=2, but this start requests server_num=1"),
        (nothing, Identity(3), "server_num=2, but this start requests server_num=3"),
        (nothing, Identity(2, 3), "worker_num=1, but this start requests worker_num=3"),
        (exchanged, TWO, r"which does not belong to server \d of 2: folders were"),
        (exchanged, TWO, ""),
    ]
    for change, mine, message in refused:
        change(folder)
        before = contents(folder)
        if message:
            with pytest.raises(ParameterServerError, match=message):
                run(folder, mine).check()
        assert contents(folder) == before
    fits = run(folder)
    fits.enter("again")
    fits.leave()
    whose_folder.check_server(folder / "server-1", str(fits.name), 1)
    server = Server(folder / "server-1", RunConfig())
    server.hello(0, 2)
    assert server.version == 2
    # And the same Parameter is declared, with the shape that nobody had written down.
    server.declare(Partition(2).split_spec(DENSE)[1], {})
    server.close()


def test_a_former_run_of_which_a_folder_is_missing(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", former=True)
    shutil.rmtree(folder / "server-0")
    with pytest.raises(
        ParameterServerError, match="a folder of server 1, but none, or an empty one, for server 0"
    ):
        run(folder).check()


# Who has it.


def test_a_second_session_learns_who_has_the_run(tmp_path: Path) -> None:
    first, member, second = run(tmp_path), run(tmp_path), run(tmp_path)
    first.enter("a")
    member.enter("a")  # another worker of the same run
    first.leave()
    before = contents(tmp_path)
    before.pop(run_lock.BEAT_FILE)
    message = rf"is going on: process {os.getpid()} on host .* of user '.+', since 2\d+-.* has it\."
    with pytest.raises(ParameterServerError, match=message):
        second.enter("b")
    after = contents(tmp_path)
    after.pop(run_lock.BEAT_FILE)
    assert after == before
    member.leave()
    second.enter("b")
    second.leave()
    assert json.loads((tmp_path / run_lock.HOLDER).read_text())["epoch"] == 2


def test_a_second_worker_of_one_number(tmp_path: Path) -> None:
    first, second = (RunFolder(str(tmp_path), TWO, 0) for _ in range(2))
    first.enter("a")
    with pytest.raises(
        ParameterServerError, match=rf"worker 0 of the .*: process {os.getpid()} on"
    ):
        second.enter("a")
    other = RunFolder(str(tmp_path), TWO, 1)
    other.enter("a")
    first.leave()
    second.enter("a")
    second.leave()
    other.leave()


HOLDER = """
import os, sys, time
from pathlib import Path
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.durability.run_folder import RunFolder
run = RunFolder(sys.argv[1], Identity(2), 0)
run.enter("theirs")
child = os.fork()
if child == 0:
    time.sleep(60)
print(child, flush=True)
time.sleep(60)
"""


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    """By `kill -9`, and with a child that it has forked and that lives on."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        mine = RunFolder(str(tmp_path), TWO, 0)
        with pytest.raises(ParameterServerError, match=f"process {process.pid} on host"):
            mine.enter("mine")
        process.kill()
        process.wait()
        os.kill(child, 0)
        mine.enter("mine")
        mine.leave()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.kill(child, signal.SIGKILL)


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.1)
    monkeypatch.setattr(run_lock, "LEASE", 1.0)
    monkeypatch.setattr(run_lock, "_PARTING", 0.1)


def unseen(file: int, *, shared: bool) -> bool:
    """Each host sees its own locks alone."""
    return True


@pytest.mark.usefixtures("_hasty")
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease holds there; nobody knows whether he is the last, so nobody says goodbye."""
    monkeypatch.setattr(run_lock, "_lock", lambda file, shared: None)
    first = run(tmp_path)
    first.enter("first")
    with pytest.raises(ParameterServerError, match="is going on: process"):
        run(tmp_path).enter("second")
    first.leave()
    second = run(tmp_path)
    second.enter("second")
    second.leave()


@pytest.mark.usefixtures("_hasty")
def test_workers_of_one_run_on_several_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sees the other's lock: they write the same, and the run lives with either."""
    monkeypatch.setattr(run_lock, "_lock", unseen)
    monkeypatch.setattr(identity, "check", lambda folder, mine: None)  # both at the same time
    workers = [run(tmp_path), run(tmp_path)]
    for worker in workers:
        worker.enter("a")
    monkeypatch.undo()
    monkeypatch.setattr(run_lock, "_lock", unseen)
    monkeypatch.setattr(run_lock, "host_identity", lambda: "this host")
    monkeypatch.setattr(run_lock, "BEAT", 0.1)
    monkeypatch.setattr(run_lock, "LEASE", 20.0)
    assert workers[0].name == workers[1].name == identity.check(tmp_path, TWO)
    workers[0].leave()
    while "ended" in json.loads((tmp_path / run_lock.HOLDER).read_text()):
        time.sleep(0.05)
    with pytest.raises(ParameterServerError, match="is going on: process"):
        run(tmp_path).enter("b")
    workers[1].leave()
    assert json.loads((tmp_path / run_lock.HOLDER).read_text())["ended"]


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("how", ["alive", "dead", "goodbye"])
def test_another_host_is_watched(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its lock is not seen, the lease says whether the run is alive."""
    monkeypatch.setattr(run_lock, "_lock", unseen)
    monkeypatch.setattr(run_lock, "host_identity", lambda: "the other host")
    first = run(tmp_path)
    first.enter("first")
    if how == "dead":
        first._lock._stop.set()  # nothing is reported any more, not even the end
    elif how == "goodbye":
        first.leave()
    monkeypatch.setattr(run_lock, "host_identity", lambda: "this host")
    second = run(tmp_path)
    began = time.monotonic()
    if how == "alive":
        with pytest.raises(ParameterServerError, match="is going on: process"):
            second.enter("second")
    else:
        second.enter("second")
        assert (time.monotonic() - began >= run_lock.LEASE) == (how == "dead")
        # Who comes back learns that the run is another's, and tells nothing of it any more.
        said = json.loads((tmp_path / run_lock.HOLDER).read_text())
        assert said["session"] == "second"
        first.leave()
        assert json.loads((tmp_path / run_lock.HOLDER).read_text()) == said
        second.leave()
    first.leave()


def test_a_lock_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    (folder / run_lock.LOCK).symlink_to(precious)
    with pytest.raises(
        ParameterServerError, match=r"wal_dir='.*run' cannot be used: '.*run.lock' is"
    ):
        run(folder).enter("a")
    (folder / "worker-0.lock").symlink_to(precious)
    with pytest.raises(PermissionError, match=r"worker-0.lock' is a symbolic link"):
        WorkerLock(folder, 0).take()
    assert precious.read_text() == "mine"
    assert not RunLock(folder).held
