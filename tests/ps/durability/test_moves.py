"""The files by which a move to another number of servers begins and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, moves, whose_folder
from paramesh.ps.durability.moves import LEASE, Move, MoveEnded, MoveWatch
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_settings import Identity

TWO, THREE = Identity(2), Identity(3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    whose_folder.own(tmp_path / "run", make=True)
    identity.write(tmp_path / "run", TWO, "session")
    return tmp_path / "run"


def begun(folder: Path) -> Move:
    move = Move(folder, moves.next_number(folder, identity.generation(folder)), 3)
    assert move.begin()
    return move


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_end_moves_the_run_before_run_json_does(folder: Path) -> None:
    before = (folder / whose_folder.RUN).read_bytes()
    move = begun(folder)
    assert moves.open_move(folder) == move.number == 1
    move.finish(identity.said_of(THREE, "new", "resized-1"))
    move.close()
    assert (folder / whose_folder.RUN).read_bytes() == before
    assert identity.read(folder) == THREE
    assert identity.servers_place(folder) == folder / "resized-1"
    assert (identity.generation(folder), identity.run_name(folder)) == (1, "new")
    identity.settle(folder)
    assert (folder / whose_folder.RUN).read_bytes() != before
    assert identity.read(folder) == THREE
    assert not moves.open_move(folder)


def test_only_one_ends_a_move(folder: Path) -> None:
    move = begun(folder)
    assert moves.abandon(folder, 1, "late")
    assert not moves.abandon(folder, 1, "later")
    with pytest.raises(MoveEnded, match="to 3 servers was ended by its servers"):
        move.finish(identity.said_of(THREE, "new", "resized-1"))
    move.close()
    assert identity.read(folder) == TWO
    move = begun(folder)
    move.finish(identity.said_of(THREE, "new", "resized-2"))
    assert not moves.abandon(folder, 2, "late")
    assert identity.read(folder) == THREE
    move.close()


def test_no_number_is_given_twice(folder: Path) -> None:
    late = begun(folder)
    identity.settle(folder)
    assert moves.next_number(folder, 0) == 2
    identity.settle(folder)
    with pytest.raises(MoveEnded):
        late.finish(identity.said_of(THREE, "new", "resized-1"))
    late.close()
    other = Move(folder, 1, 3)
    assert not other.begin()


def test_a_silent_mover_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "host_identity", lambda: "")  # its lock is not seen here
    clock = Clock()
    watch, move = MoveWatch(folder, clock), begun(folder)
    assert watch.look() == 1
    clock.now += LEASE - 1
    assert watch.look() == 1
    move.beat()
    clock.now += 2
    assert watch.look() == 1
    clock.now += LEASE
    assert watch.look() == 0
    assert present_end(folder)["why"].endswith("or was frozen")
    move.close()


def present_end(folder: Path) -> dict[str, str]:
    end = moves.end_of(folder, 1)
    assert end is not None
    assert end["run"] is None
    return dict(end)


@pytest.mark.skipif(os.name != "posix", reason="locks of the kernel")
def test_a_dead_mover_on_this_host_is_given_up_at_once(folder: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from paramesh.ps.durability.moves import Move\n"
        "assert Move(Path(sys.argv[1]), 1, 3).begin(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    assert moves.open_move(folder) == 1
    assert MoveWatch(folder).look() == 0
    present_end(folder)


def test_a_damaged_end_is_an_error(folder: Path) -> None:
    (folder / "move-1.end").write_bytes(b"{")
    with pytest.raises(ParameterServerError, match=r"move-1\.end' is damaged"):
        identity.read(folder)


def test_a_process_of_the_same_session_goes_on_with_the_new_number(folder: Path) -> None:
    first = RunFolder(str(folder), TWO, None)
    first.enter("one")
    said = identity.said_of_moved(folder, THREE, "new", "resized-1", "one")
    place = folder / "resized-1"
    whose_folder.own(place, make=True)
    for number in range(3):
        whose_folder.own(place / f"server-{number}", make=True)
        whose_folder.write_server(place / f"server-{number}", "new", number)
    move = begun(folder)
    move.finish(said)
    move.close()
    assert first.look()
    assert (first.servers, first.generation, first.name) == (3, 1, "new")
    assert not first.look()
    again = RunFolder(str(folder), TWO, None)
    again.check()
    again.enter("one")
    assert again.servers == 3
    first.leave()
    again.leave()
    other = RunFolder(str(folder), TWO, None)
    with pytest.raises(ParameterServerError, match=r"server_num=3.*requests server_num=2"):
        other.enter("another")
