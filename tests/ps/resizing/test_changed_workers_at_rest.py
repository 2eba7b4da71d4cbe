"""A run at rest that gets another number of workers: what is decided, and kept, and killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, whose_folder, worker_files
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.workers import Changed, change_at_rest
from paramesh.ps.server.server import Server
from paramesh.ps.specification.protocol import RunConfig
from paramesh.ps.specification.worker_sets import Verdict

SGD = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}
SPEC = {"name": "w", "kind": "dense", "shape": [2], "dtype": "float32", "recipe": None}


class Killed(Exception):
    pass


class Run:
    """Two servers of two workers, that were killed after some steps."""

    def __init__(self, folder: Path, mode: str = "sync", servers: int = 2) -> None:
        self.folder = folder
        self.mine = Identity(servers, 2, mode, 1 if mode == "stale" else 0)
        whose_folder.own(folder, make=True)
        identity.write(folder, self.mine, "session")

    def server(self, number: int) -> Server:
        mine = identity.read(self.folder)
        return Server(
            identity.server_folder(self.folder, number),
            RunConfig(mine.worker_num, mine.mode, mine.staleness),
            elastic=True,
            leads=number == 0,
        )

    def push(self, number: int, *pushes: tuple[int, int, int]) -> None:
        """Worker, step, and of how many."""
        server = self.server(number)
        server.declare([SPEC | {"optimizer": SGD}], {"w": np.zeros(2, np.float32)})
        for worker, step, of in pushes:
            incarnation = server.workers.incarnations.get(worker, 1)
            server.hello(worker, incarnation)
            update = {"w": {"grad": np.full(2, worker + 1.0, np.float32)}}
            server.push(worker, incarnation, step, update, {"learning_rate": 1.0}, of, True)
        server.close()

    def steps(self, first: int, last: int, of: int, servers: tuple[int, ...] = (0, 1)) -> None:
        for number in servers:
            self.push(number, *[(w, step, of) for step in range(first, last) for w in range(of)])

    def sets(self, number: int) -> str:
        server = self.server(number)
        server.close()
        return str(server.changes.sets)


@pytest.mark.parametrize("mode", ["sync", "stale", "async"])
def test_the_border_is_the_step_that_comes_next(mode: str, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", mode)
    with pytest.raises(ParameterServerError, match="has made no step"):
        change_at_rest(run.folder, 3)
    run.steps(0, 5, 2)
    assert change_at_rest(run.folder, 2) == Changed(2, 2, None, 2)
    assert change_at_rest(run.folder, 3) == Changed(2, 3, 5, 3)
    assert identity.read(run.folder).worker_num == 3
    assert change_at_rest(run.folder, 1) == Changed(3, 1, 5, 1)  # after all
    assert run.sets(0) == "2 workers, 1 from step 5"
    assert run.sets(1) == "2 workers"  # it sees it by the first push
    run.steps(5, 7, 1)
    assert [run.sets(number) for number in (0, 1)] == ["2 workers, 1 from step 5"] * 2
    assert change_at_rest(run.folder, 2) == Changed(1, 2, 7, 2)
    # Only who says the number may start it.
    with pytest.raises(ParameterServerError, match=r"worker_num=2, but .* worker_num=1"):
        RunFolder(str(run.folder), Identity(2, 1, mode, run.mine.staleness), None).check()


def test_it_goes_back_to_the_number_before(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.steps(0, 5, 2)
    change_at_rest(run.folder, 3)
    assert change_at_rest(run.folder, 2) == Changed(3, 2, 5, 2)
    assert run.sets(0) == "2 workers"
    run.steps(5, 6, 2)


def test_steps_that_a_server_lacks_are_made_with_the_former_number(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.steps(0, 5, 2)
    run.steps(5, 6, 2, (1,))
    assert change_at_rest(run.folder, 1) == Changed(2, 1, 6, 2)
    for workers in (1, 2):  # the former number may be started, and the new one is told what it is
        RunFolder(str(run.folder), Identity(2, workers), None).check()
    run.steps(5, 6, 2, (0,))
    run.steps(6, 7, 1)


def test_in_async_mode_each_worker_has_steps_that_it_lacks(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", "async")
    run.steps(0, 3, 2)
    for number in (0, 1):
        run.push(number, (0, 3, 2), (0, 4, 2))
    assert change_at_rest(run.folder, 1) == Changed(2, 1, 5, 2)
    for number in (0, 1):
        run.push(number, (1, 3, 2), (1, 4, 2), (0, 5, 1))
        with pytest.raises(ParameterServerError, match="as one of 1 workers"):
            run.push(number, (1, 5, 1))
    assert change_at_rest(run.folder, 2) == Changed(1, 2, 6, 2)


def test_a_change_whose_steps_nobody_made_is_void(tmp_path: Path) -> None:
    """Also if a server has met it, and was killed before its first step."""
    run = Run(tmp_path / "run")
    run.steps(0, 5, 2)
    for number, verdict in enumerate((Verdict(1, 3, 5), Verdict(0, 3, 5))):
        server = run.server(number)
        server._set_workers(verdict)
        server.close()
    worker_files.want(run.folder, 2, 3, "session")
    worker_files.tell(run.folder, Verdict(1, 3, 5))
    assert change_at_rest(run.folder, 4) == Changed(3, 4, 5, 4)
    assert [run.sets(number) for number in (0, 1)] == ["2 workers, 4 from step 5", "2 workers"]
    run.steps(5, 6, 4)


@pytest.mark.parametrize("where", ["locked", "wanted", "forgotten", "decided"])
def test_killed_at_every_point(where: str, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.steps(0, 5, 2)

    def kill(name: str) -> None:
        if name == where:
            raise Killed

    with pytest.raises(Killed):
        change_at_rest(run.folder, 3, point=kill)
    # The next start completes it, or the run has its former number.
    workers = 3 if where == "decided" else 2
    if workers == 3:
        with pytest.raises(ParameterServerError, match="start it again with worker_num=3"):
            RunFolder(str(run.folder), run.mine, None).enter("with the former number")
    folder = RunFolder(str(run.folder), Identity(2, workers), None)
    folder.enter("next")
    folder.leave()
    assert identity.read(run.folder).worker_num == workers
    run.steps(5, 6, workers)


def test_a_run_that_is_live_is_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.steps(0, 5, 2)
    folder = RunFolder(str(run.folder), run.mine, None)
    folder.enter("live")
    with pytest.raises(ParameterServerError, match="the number of workers can be changed only"):
        change_at_rest(run.folder, 3)
    folder.leave()
    with pytest.raises(ValueError, match="1 to 4096 workers, not 0"):
        change_at_rest(run.folder, 0)
