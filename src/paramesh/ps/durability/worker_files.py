"""Another number of workers for a run: the files by which it is wanted, and told.

    wal_dir/workers-3.json      {"workers": 4, …}   somebody wants it
    wal_dir/workers-3.stop      {}                  and does not any more
    wal_dir/workers-3.end       {"workers": 4, "border": 120, …}    the run has 4 from step 120 on
                                {"workers": null, "why": "…"}       it has not changed

Who wants a change creates the first file, the launcher starts the workers that it takes, and the
first server decides; for a run at rest, who wants it is all of these (see `resizing.workers`). The
verdict is in the log of the first server before the last file is created, so that file repeats what
the log says. Once a run was changed, the last such file has the number of its workers that counts,
whatever `run.json` says (`current`).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import read_log, start_incarnation
from paramesh.ps.durability.marks import create, damaged, names_in, read
from paramesh.ps.durability.snapshot import read_snapshot, snapshots
from paramesh.ps.specification.worker_sets import Change, Verdict

#: Why a run has not changed, if nobody wants it any more.
WITHDRAWN = "it was withdrawn"

_FILE = re.compile(r"workers-(\d+)\.(json|stop|end)")


def want(folder: Path, before: int, workers: int, session: str) -> int | None:
    """Want another number of workers; the number of the change. None: another one is open.

    Args:
        folder: of the run.
        before: how many workers it has.
        workers: how many there are to be.
        session: that has the run (see `run_lock`).

    Raises:
        OSError: from the file system.
    """
    numbers = _numbers(folder, "json") + _numbers(folder, "end")
    number = max(numbers, default=0) + 1
    if open_change(folder) is not None:
        return None
    said = {"workers": workers, "before": before, "session": session}
    said |= {"pid": os.getpid(), "host": socket.gethostname()}
    return number if create(folder, f"workers-{number}.json", said) else None


def stop(folder: Path, number: int) -> None:
    """Want a change no more; the first server says whether that came in time.

    Raises:
        OSError: from the file system.
    """
    create(folder, f"workers-{number}.stop", {})


def open_change(folder: Path) -> Change | None:
    """The change that is wanted, and that there is no verdict on.

    Raises:
        ParameterServerError: a file is damaged.
        OSError: from the file system.
    """
    wanted, ended = _numbers(folder, "json"), _numbers(folder, "end")
    if not wanted or wanted[-1] in ended:
        return None
    number = wanted[-1]
    said = read(folder / f"workers-{number}.json")
    if said is None:
        return None
    return Change(number, _whole(folder, number, said), number in _numbers(folder, "stop"))


def tell(folder: Path, verdict: Verdict) -> None:
    """Tell what has become of a change; a second time changes nothing.

    Raises:
        ParameterServerError: a file is damaged.
        OSError: from the file system.
    """
    wanted = read(folder / f"workers-{verdict.number}.json") or {}
    said = {name: value for name, value in verdict._asdict().items() if name != "number"}
    said["before"] = wanted.get("before")
    create(folder, f"workers-{verdict.number}.end", said)


def verdict_on(folder: Path, number: int) -> Verdict | None:
    """What has become of a change; None: there is no verdict yet.

    Raises:
        ParameterServerError: the file is damaged.
        OSError: from the file system.
    """
    said = read(folder / f"workers-{number}.end")
    if said is None:
        return None
    try:
        return Verdict(number, said["workers"], said["border"], said["why"])
    except KeyError:
        raise damaged(folder / f"workers-{number}.end") from None


def current(folder: Path, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run says of itself, with the number of workers that it was changed to.

    `workers_before` is the number that it had before: one that has ended before the border was
    reached is started with that number, or with the new one, whichever is larger.

    Args:
        folder: of the run.
        said: what `run.json` says.

    Raises:
        ParameterServerError: a file is damaged.
        OSError: from the file system.
    """
    for number in reversed(_numbers(folder, "end")):
        verdict = verdict_on(folder, number)
        if verdict is not None and verdict.workers is not None:
            before = (read(folder / f"workers-{number}.end") or {}).get("before")
            return {**said, "worker_num": verdict.workers, "workers_before": before}
    return said


def numbers_in_session(folder: Path, session: str) -> set[int]:
    """The numbers of workers that processes of a session may have been started with.

    Args:
        folder: of the run; it need not be there.
        session: which (see `run_lock`).

    Raises:
        ParameterServerError: a file is damaged.
        OSError: from the file system.
    """
    found: set[int] = set()
    if not session or not folder.exists():
        return found
    for number in _numbers(folder, "json"):
        said = read(folder / f"workers-{number}.json")
        if said is not None and said.get("session") == session:
            found |= {_whole(folder, number, said), int(said.get("before", 0))}
    return found


def settle(folder: Path, first_server: Path) -> None:
    """End a change that was open when a session ended, and remove what is of no use any more.

    For who has the run, before a server of the next session is started.

    Args:
        folder: of the run.
        first_server: the folder of its first server.

    Raises:
        ParameterServerError: a file is damaged.
        OSError: from the file system.
    """
    change = open_change(folder)
    if change is not None:
        verdict = None
        if first_server.is_dir():
            # From now on a server of that session, if one lives still, can decide nothing.
            start_incarnation(first_server)
            verdict = _logged(first_server)
        if verdict is None or verdict.number != change.number:
            verdict = Verdict(change.number, None, 0, "the run has ended before it was decided")
        tell(folder, verdict)
    ended = _numbers(folder, "end")
    done = [n for n in ended if (found := verdict_on(folder, n)) is not None and found.workers]
    for number in ended:
        for kind in ("stop", "json"):
            (folder / f"workers-{number}.{kind}").unlink(missing_ok=True)
        if number not in (*done[-1:], ended[-1]):  # no number is given twice
            (folder / f"workers-{number}.end").unlink(missing_ok=True)


def _logged(place: Path) -> Verdict | None:
    """The latest verdict that a server has in its files."""
    found, number = None, 0
    for snapshot in snapshots(place):
        with contextlib.suppress(ParameterServerError):
            meta, _ = read_snapshot(snapshot, arrays=False)
            found, number = Verdict(*meta.get("verdict", ())), snapshot.number
            break
    for record in read_log(place, number, arrays=False):
        if record.meta["kind"] == "workers" and record.meta["number"]:
            found = Verdict(*(record.meta[name] for name in Verdict._fields))
    return found


def _whole(folder: Path, number: int, said: Mapping[str, Any]) -> int:
    if type(said.get("workers")) is not int:
        raise damaged(folder / f"workers-{number}.json")
    return said["workers"]


def _numbers(folder: Path, kind: str) -> list[int]:
    """The numbers of the changes that have such a file, sorted."""
    found = (_FILE.fullmatch(name) for name in names_in(folder))
    return sorted(int(one[1]) for one in found if one is not None and one[2] == kind)
