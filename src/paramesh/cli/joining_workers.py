"""Workers that join a run while it goes on: its launcher starts them.

Who wants them says so in the folder of the run (see `ps.durability.worker_files`). Those that leave
end by themselves.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from paramesh.cli.supervisor import Add, ProcessSpec
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import environment
from paramesh.ps.deployment.registry import runs
from paramesh.ps.durability import identity, whose_folder, worker_files

#: Seconds between two looks at the folder of the run.
LOOK = 0.5


def folder_of_run(wal_dir: Path | None, variables: Mapping[str, str]) -> Callable[[], Path | None]:
    """Finds the folder of a launched run; None: it has none yet.

    Args:
        wal_dir: that was given to the launcher, if there was any.
        variables: of the workers.
    """

    def find() -> Path | None:
        if wal_dir is not None:
            return wal_dir.absolute()
        scratch = Path(variables.get(environment.SCRATCH, ""))
        if (scratch / whose_folder.RUN).exists():
            return scratch
        # The script has given one; its workers have told where they are.
        address, job = variables.get(environment.ADDRESS), variables.get(environment.JOB)
        found = [run.wal_dir for run in runs() if (run.address, run.job) == (address, job)]
        return next((Path(folder) for folder in found if folder is not None), None)

    return find


@contextlib.contextmanager
def joining(
    place: Callable[[], Path | None], joiner: Callable[[int, int], ProcessSpec], add: Add
) -> Generator[None]:
    """A thread has the workers started that the run in a folder is to get.

    Args:
        place: finds the folder.
        joiner: makes a worker of its rank, and how many there are to be. What it raises, if no host
            has room, ends the change.
        add: starts it.
    """
    ends, seen = threading.Event(), set[int]()

    def look() -> None:
        while not ends.wait(LOOK):
            # The folder is not there yet, or away: the next time.
            with contextlib.suppress(ParameterServerError, OSError):
                folder = place()
                if folder is not None and (folder / whose_folder.RUN).exists():
                    _start(folder, seen, joiner, add)

    thread = threading.Thread(target=look, name="joining workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def _start(
    folder: Path, seen: set[int], joiner: Callable[[int, int], ProcessSpec], add: Add
) -> None:
    change = worker_files.open_change(folder)
    if change is None or change.stopped or change.number in seen:
        return
    before = identity.read(folder).worker_num
    try:
        specs = [joiner(rank, change.workers) for rank in range(before, change.workers)]
    except ParameterServerError as error:
        seen.add(change.number)
        worker_files.stop(folder, change.number)
        print(f"paramesh: no worker is started: {error}", file=sys.stderr, flush=True)
        return
    seen.add(change.number)
    for spec in specs:
        wanted = f"the run is to have {change.workers} workers"
        print(f"paramesh: {spec.label} is started: {wanted}", file=sys.stderr, flush=True)
        add(spec)
