"""The files by which another number of workers is wanted, and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, whose_folder, worker_files
from paramesh.ps.durability.log import latest_incarnation
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.server.server import Server
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.specification.protocol import RunConfig
from paramesh.ps.specification.worker_sets import Change, Verdict


def made(folder: Path, workers: int = 2) -> None:
    whose_folder.own(folder, make=True)
    identity.write(folder, Identity(1, workers), "session")


def test_one_change_at_a_time(tmp_path: Path) -> None:
    made(tmp_path / "run")
    folder = tmp_path / "run"
    assert worker_files.open_change(folder) is None
    assert worker_files.want(folder, 2, 3, "s") == 1
    assert worker_files.want(folder, 2, 4, "s") is None
    assert worker_files.open_change(folder) == Change(1, 3)
    worker_files.stop(folder, 1)
    assert worker_files.open_change(folder) == Change(1, 3, stopped=True)
    worker_files.tell(folder, Verdict(1, None, 0, "why"))
    worker_files.tell(folder, Verdict(1, 3, 7))  # too late
    assert worker_files.verdict_on(folder, 1) == Verdict(1, None, 0, "why")
    assert identity.read(folder).worker_num == 2
    assert worker_files.want(folder, 2, 4, "s") == 2
    worker_files.tell(folder, Verdict(2, 4, 7))
    assert identity.read(folder).worker_num == 4
    assert worker_files.numbers_in_session(folder, "s") == {2, 3, 4}
    assert worker_files.numbers_in_session(folder, "other") == set()


def test_who_may_enter(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made(folder)

    def enter(workers: int, session: str) -> int:
        run = RunFolder(str(folder), Identity(1, workers), None)
        run.enter(session)
        run.leave()
        return run.workers

    first = RunFolder(str(folder), Identity(1, 2), None)
    first.enter("s")
    with pytest.raises(ParameterServerError, match=r"worker_num=2, but .* requests worker_num=3"):
        enter(3, "s")
    worker_files.want(folder, 2, 3, "s")
    assert enter(3, "s") == 2  # it is about to join
    worker_files.tell(folder, Verdict(1, 3, 7))
    assert enter(2, "s") == 3  # it is started again, as it was the first time
    first.leave()
    # The next start says the number; or that from before, whose steps may not have been made.
    assert enter(3, "t") == 3
    assert enter(2, "u") == 3
    with pytest.raises(
        ParameterServerError,
        match=r"worker_num=3, but .* requests worker_num=4.*`paramesh ps workers .* --workers 4`",
    ):
        enter(4, "v")


@pytest.mark.parametrize("decided", [True, False])
def test_what_was_open_when_the_run_ended(decided: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made(folder)
    place = identity.server_folder(folder, 0)
    server = Server(place, RunConfig(workers=2), elastic=True)
    worker_files.want(folder, 2, 1, "s")
    if decided:
        server._append(WorkerChanges.record(Verdict(1, 1, 5)), {})
    worker_files.settle(folder, place)
    assert worker_files.open_change(folder) is None
    verdict = worker_files.verdict_on(folder, 1)
    assert verdict is not None
    assert verdict.workers == (1 if decided else None)
    assert latest_incarnation(place) == server.incarnation + 1
    with pytest.raises(ParameterServerError):  # it is fenced
        server._append(WorkerChanges.record(Verdict(1, 1, 6)), {})
    worker_files.settle(folder, place)
    assert worker_files.want(folder, 2, 3, "t") == 2
    server.close()
