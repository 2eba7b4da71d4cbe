"""Have a run that no process has, so that neither a launcher nor a worker can start it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator
from pathlib import Path

from paramesh.ps.durability.run_lock import AT_REST, RunLock, RunTaken, launchers_place, mover_lock


@contextlib.contextmanager
def at_rest(folder: Path, what: str) -> Generator[None]:
    """Have a run.

    Args:
        folder: of the run.
        what: of it is changed, for messages: "servers", or "workers".

    Raises:
        RunTaken: another process has it.
        ParameterServerError: somebody else is changing it.
        OSError: from the file system.
    """
    mover, place = mover_lock(folder), launchers_place(folder, what)
    mover.take()
    lock = RunLock(folder)
    try:
        place.take()
        try:
            lock.take(f"{AT_REST}{secrets.token_hex(8)}")
            lock.settle()
        except RunTaken as error:
            raise RunTaken(
                f"the number of {what} can be changed only while no process has the run: {error}"
            ) from None
        lock.hold()
        yield
    finally:
        lock.release()
        place.release()
        mover.release()
