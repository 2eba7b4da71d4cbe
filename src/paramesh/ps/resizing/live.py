"""Give a live run another number of servers, at the border of a step.

Glossary
    mover       the process that does it: `paramesh ps resize`, or a worker. It speaks to nobody: it
                takes from the servers what they serve by, reads their files, and writes others
    pause       from when the first server is fenced until the new ones serve: no step is made

    begun       servers that start from now on wait, instead of serving
    fenced      the mover has the latest incarnation of every server: what is in their logs now is
                all that anybody was answered from
    built       the new servers' folders are there (see `build`), cut off at one version
    committed   the end of the move is there (see `moves`): the run has moved
    moved       `run.json` says so

The end is the commit point. Until then a death of the mover leaves the run as it was: its servers
find an open move whose mover is dead, end it, and start again; they had lost nothing. From then on
the run has the new number of servers, whoever dies: they start from their folders, which workers
find by `run.json` and the end.

What a fenced server still does changes nothing. It cannot answer a push, and what it writes behind
the cut is not read. A push that was not answered by all servers is with its worker still, which
sends it to the new ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from paramesh.errors import ParameterServerError
from paramesh.files.atomic import directory_to_disk
from paramesh.files.ownership import followed
from paramesh.ps.durability import identity, moves, whose_folder
from paramesh.ps.durability.log import start_incarnation
from paramesh.ps.durability.moves import Move, MoveEnded, MoveWatch
from paramesh.ps.durability.run_lock import AT_REST, RunTaken, mover_lock, session_in
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.build import (
    Point,
    Resized,
    build,
    new_name,
    sources_of,
    version_of,
    with_servers,
)
from paramesh.ps.resizing.sources import NotYet, PushesUnfinished, check_saves
from paramesh.ps.specification.partition import Partition

T = TypeVar("T")

#: Seconds that a move waits for checkpoints that are being written, or for a worker that has pushed
#: to some servers only; and between two looks.
_SAVES, _LOOK = 120.0, 0.5
#: How often a copy is tried: a fenced server that ends a snapshot may drop files that are read.
_TRIES = 3

Beating = Callable[[Move], AbstractContextManager[None]]


@contextlib.contextmanager
def beating(move: Move) -> Generator[None]:
    """A thread tells that this process lives."""
    stop = threading.Event()

    def beats() -> None:
        while not stop.wait(moves.BEAT):
            with contextlib.suppress(OSError):  # a disk that is full or away: the next one
                move.beat()

    thread = threading.Thread(target=beats, name="move", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def resize_live(
    wal_dir: str | os.PathLike[str],
    servers: int,
    *,
    point: Point = lambda name: None,
    beating: Beating = beating,
) -> Resized:
    """Give a live run another number of servers, at the border of a step.

    The run pauses for about as long as its servers' files take to be read and written once. Its
    workers go on by themselves.

    Args:
        wal_dir: the folder of the run.
        servers: how many servers it gets, 1 to 256.
        point: called with the name of every point that is reached.
        beating: tells that this process lives while a move is open.

    Raises:
        ValueError: a number of servers that there cannot be.
        RunTaken: somebody else is changing it.
        MoveEnded: this process was frozen for too long; the run is as it was.
        ParameterServerError: it is not the folder of a run; its files are damaged, or it was begun
            by an earlier version of paramesh; a checkpoint, or a worker's push, takes too long.
        OSError: from the file system. The run is as it was, or has moved.
    """
    try:
        folder = followed(Path(os.path.abspath(wal_dir)))
        mine = identity.read(folder)
        whose_folder.own(folder)
    except OSError as error:
        raise ParameterServerError(
            f"wal_dir='{wal_dir}' cannot be read: {error.strerror or error}"
        ) from error
    after = Partition(servers, mine.shards)
    lock = mover_lock(folder)
    lock.take()
    try:
        if session_in(folder).startswith(AT_REST):
            raise RunTaken(
                f"the number of servers of the run in '{folder}' is being changed by another "
                f"process. Repeat the command when it has ended."
            )
        return move_live(folder, after, point, beating)
    finally:
        lock.release()


def move_live(folder: Path, after: Partition, point: Point, beating: Beating) -> Resized:
    """As `resize_live`, for who has the place of the mover.

    Raises:
        MoveEnded, ParameterServerError, OSError: as `resize_live`.
    """
    watch = MoveWatch(folder)
    until, pause = time.monotonic() + _SAVES, _LOOK
    while True:
        if watch.look():  # of a mover that is dead, or on a host that does not see the lock
            time.sleep(_LOOK)
            continue
        generation = identity.generation(folder)
        try:
            mine = identity.read(folder)
            identity.check(folder, mine)
            if mine.server_num == after.servers:
                version = _read(version_of, folder, mine)
                return Resized(folder, after.servers, after.servers, version, {})
            check_saves(_read(sources_of, folder, mine)[0])
            move = _begun(folder, generation, after)
            if move is not None:
                try:
                    return _move(move, mine, after, point, beating)
                finally:
                    move.close()
        except NotYet as error:
            if time.monotonic() > until:
                raise ParameterServerError(
                    f"the number of servers was not changed: {error} This has taken longer than "
                    f"{_SAVES:g} seconds. Repeat the command later."
                ) from None
            time.sleep(pause)
            if isinstance(error, PushesUnfinished):
                pause *= 2  # the run pauses each time that this is looked at
        except (ParameterServerError, OSError):
            # What was read may have been removed by another one, which has moved the run.
            if identity.generation(folder) == generation:
                raise


def _read(look: Callable[[Path, Identity], T], folder: Path, mine: Identity) -> T:
    """What `look` finds in the files of live servers, which may remove some while it reads."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(ParameterServerError, FileNotFoundError):
            return look(folder, mine)
        time.sleep(_LOOK)
    return look(folder, mine)


def _begun(folder: Path, generation: int, after: Partition) -> Move | None:
    """Begin a move of the run as it was at a generation; None: another process came first."""
    number = moves.next_number(folder, generation)
    # What earlier ones have left. Who has read `run.json` before takes it from there.
    identity.settle(folder)
    move = Move(folder, number, after.servers)
    if not move.begin():
        return None
    # Whoever was frozen before it began knows the servers of a run that others have moved since.
    if identity.generation(folder) == generation:
        return move
    moves.abandon(folder, number, "the run was moved before it began")
    move.close()
    return None


def _move(move: Move, mine: Identity, after: Partition, point: Point, beating: Beating) -> Resized:
    folder = move.folder
    place, run = folder / f"resized-{move.number}", new_name(folder)
    try:
        with beating(move):
            point("begun")
            for number in range(mine.server_num):
                start_incarnation(identity.server_folder(folder, number))
                point("fenced")
            version, rows = _built(folder, mine, place, run, after, point)
            point("built")
            mine_after, session = with_servers(mine, after), session_in(folder)
            move.finish(identity.said_of_moved(folder, mine_after, run, place.name, session))
    except (Exception, KeyboardInterrupt) as error:
        if not _has_moved(move, error):
            if identity.servers_place(folder) != place:
                shutil.rmtree(place, ignore_errors=True)
            raise
        version, rows = version_of(folder, identity.read(folder)), {}
    point("committed")
    # The run has moved. What fails from here on is made up for by whoever comes next.
    former: list[Path] = []
    with contextlib.suppress(OSError):
        identity.settle(folder)
        point("moved")
        former = identity.left_over(folder)
    for left in former:
        with contextlib.suppress(OSError):  # a server that has not ended yet still writes events
            shutil.rmtree(left)
        point("removed")
    return Resized(folder, mine.server_num, after.servers, version, rows)


def _has_moved(move: Move, error: BaseException) -> bool:
    """End a move that has failed, unless it has ended; whether the run has moved.

    Raises:
        MoveEnded: others have ended it. The run has gone on since, and that its files were not as
            this process expected says nothing.
    """
    if isinstance(error, MoveEnded):
        return False
    mine = moves.abandon(move.folder, move.number, str(error) or type(error).__name__)
    end = moves.end_of(move.folder, move.number)
    moved = end is not None and end["run"] is not None
    if not mine and not moved and isinstance(error, ParameterServerError | OSError):
        raise move.ended() from error
    return moved


def _built(
    folder: Path, mine: Identity, place: Path, run: str, after: Partition, point: Point
) -> tuple[int, dict[str, int]]:
    left = _TRIES
    while True:
        try:
            whose_folder.own(place, make=True)
            found = build(folder, mine, place, run, after, point, live=True)
        except NotYet:
            raise
        except (ParameterServerError, FileNotFoundError):
            left -= 1
            if not left:
                raise
            shutil.rmtree(place)
            time.sleep(_LOOK)
        else:
            directory_to_disk(place)
            directory_to_disk(folder)
            return found
