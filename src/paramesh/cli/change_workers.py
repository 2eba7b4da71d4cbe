"""`paramesh ps workers`: another number of workers for a run, live or at rest."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.console import Console

from paramesh.cli.errors import CommandError
from paramesh.errors import ParameterServerError
from paramesh.files.ownership import followed
from paramesh.ps.durability import identity, whose_folder, worker_files
from paramesh.ps.durability.run_lock import changer_lock, is_live, session_in
from paramesh.ps.resizing.workers import change_at_rest
from paramesh.ps.specification.worker_sets import Verdict

#: Seconds between two looks for the verdict, and that a change which was stopped takes at most.
_LOOK, _STOPPING = 0.1, 15.0


def change_workers(wal_dir: Path, workers: int, timeout: float, console: Console) -> None:
    """Have a run get another number of workers, and say from which step on.

    Args:
        wal_dir: the folder of the run.
        workers: how many it gets.
        timeout: seconds until a live run is left as it is, if not all that join are there.
        console: where to.

    Raises:
        CommandError: it is not the folder of a run; somebody else is changing it; a live run
            refuses, or does not get that far; files of one at rest are damaged.
    """
    try:
        folder = followed(Path(os.path.abspath(wal_dir)))
        identity.read(folder)
        whose_folder.own(folder)
        if not is_live(folder):
            _change_at_rest(wal_dir, folder, workers, console)
            return
        lock = changer_lock(folder)
        lock.take()
        try:
            _change(folder, workers, timeout, console)
        finally:
            lock.release()
    except ParameterServerError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{wal_dir}: {error.strerror or error}") from error


def _change(folder: Path, workers: int, timeout: float, console: Console) -> None:
    left = worker_files.open_change(folder)
    if left is not None:  # whoever wanted it was killed
        _stopped(folder, left.number)
    before, session = identity.read(folder).worker_num, session_in(folder)
    if not session:  # it has just come to its end
        raise CommandError("the run has just come to its end: repeat the command")
    if before == workers:
        console.print(f"'{folder}' has {_workers(workers)} already", soft_wrap=True)
        return
    number = worker_files.want(folder, before, workers, session)
    if number is None:
        raise CommandError("somebody on another host is changing the number of workers")
    if workers > before:
        ranks = _listed([str(rank) for rank in range(before, workers)])
        what = f"waiting for {'worker' if workers == before + 1 else 'workers'} {ranks} to start"
    else:
        what = "waiting for the border of a step"
    console.print(f"{what} …", highlight=False, soft_wrap=True)
    try:
        verdict = _verdict(folder, number, session, timeout)
        why = (
            f"not all workers were there within {timeout:g} seconds. `paramesh launch --workers` "
            "starts those of its runs; its output says what became of them"
        )
        if workers < before:
            why = f"the run has made no step within {timeout:g} seconds"
        if verdict is None:
            verdict = _stopped(folder, number)
    except KeyboardInterrupt:
        verdict, why = _stopped(folder, number), "Ctrl-C"
        if verdict.workers is None:
            raise
    if verdict.workers is None:
        said = verdict.why if verdict.why != worker_files.WITHDRAWN else why
        raise CommandError(f"the run has {_workers(before)} as before: {said}")
    console.print(
        f"from step {verdict.border} on, '{folder}' has {_workers(workers)}; it had {before}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"Once the run has ended, start it with worker_num={workers}.",
        highlight=False,
        soft_wrap=True,
    )


def _change_at_rest(wal_dir: Path, folder: Path, workers: int, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    done = change_at_rest(folder, workers)
    if done.border is None:
        say(f"'{wal_dir}' has {_workers(done.after)} already")
        return
    say(f"from step {done.border} on, '{wal_dir}' has {_workers(done.after)}; it had {done.before}")
    say(f"Start it with worker_num={done.start}.")
    if done.start > done.after:
        say(
            "Not all steps before that one are on all servers: workers make them with the former "
            "number, and those that are not needed then end by themselves. The script has to "
            "divide its batches (paramesh.train.divided, or worker_share)."
        )


def _verdict(folder: Path, number: int, session: str, seconds: float) -> Verdict | None:
    """The verdict on a change; None: there is none after so many seconds.

    Raises:
        CommandError: the run has ended.
    """
    until = time.monotonic() + seconds
    while (verdict := worker_files.verdict_on(folder, number)) is None:
        if not folder.exists() or session_in(folder) != session:
            raise CommandError("the run has ended before its number of workers was changed")
        if time.monotonic() > until:
            return None
        time.sleep(_LOOK)
    return verdict


def _stopped(folder: Path, number: int) -> Verdict:
    """Stop a change; the verdict on it.

    Raises:
        CommandError: there is none: the run makes no steps.
    """
    worker_files.stop(folder, number)
    verdict = _verdict(folder, number, session_in(folder), _STOPPING)
    if verdict is None:
        raise CommandError(
            "the run has as many workers as before, and will keep them: the change is withdrawn "
            "with the next step that it makes. It makes none at the moment; `paramesh ps status` "
            "shows which workers it waits for"
        )
    return verdict


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _listed(words: list[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last
