"""How the processes of one sharded save tell each other how it went: by files in its folder.

Processes meet in a collective at the call alone, where all of them are at the same point of the
program. What follows may be done by a thread beside training, and there a collective would get
between those of the training steps; so it goes through the folder, which all have to share anyway.

    .save-TOKEN             the folder is that of process 0: others look for it at the call; locked
                            for as long as process 0 saves
    .save-TOKEN-00001       how process 1 fared: empty, or JSON: its error, and whether it is gone
                            (after Ctrl-C it does not wait for the verdict)
    .save-TOKEN-failed      the verdict of process 0 where it is no commit: JSON, who failed and why

The commit itself, an index with the token in it, is the other verdict. A process that waits for one
that was killed is ended by JAX, or by `paramesh launch`, as in a collective.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import broadcast_one_to_all, process_allgather
from paramesh.errors import CheckpointError
from paramesh.files.atomic import directory_to_disk, hold, write_atomically
from paramesh.parallel.processes.synchronize import wait_for_programs

#: What the names of these files begin with.
MARK = ".save-"
#: Seconds for a file of one host to be seen by another, and for others to note a verdict.
_SEEN = 10.0
_SHORTEST, _LONGEST = 0.001, 0.05


class Agreement:
    """One save: made by all processes in the same order, then concluded by each.

    Args:
        path: the folder; process 0 makes it.

    Attributes:
        token: names the files of this save, the same in all processes.

    Raises:
        OSError: process 0 could not make the folder.
        CheckpointError: that is so, in another process; or one does not see it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process, self.count = jax.process_index(), jax.process_count()
        drawn = secrets.token_bytes(4)
        self._new = not path.exists()
        self._held = -1
        self._gone: set[int] = set()
        error: OSError | None = None
        if self.process == 0:
            try:
                if self._new:
                    path.mkdir(exist_ok=True)
                    directory_to_disk(path.parent)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL  # it follows no link
                self._held = os.open(self._mark(drawn.hex()), flags, 0o666)
                hold(self._held)
            except OSError as raised:
                error = raised
        if self.count == 1:
            if error is not None:
                raise error
            self.token = drawn.hex()
            return
        said = np.frombuffer(drawn + bytes([error is None]), np.uint8)
        wait_for_programs()
        said = np.asarray(broadcast_one_to_all(said), np.uint8).tobytes()
        self.token = said[:4].hex()
        if not said[4]:
            raise error or CheckpointError(
                f"'{path}' was not saved, since process 0 could not make it; its own message says "
                "why."
            )
        blind = not _within(_SEEN, self._mark(self.token).exists)
        wait_for_programs()
        flags = np.asarray(process_allgather(np.array(blind)))
        if flags.any():
            if self.process == 0:
                self._take_back()
            raise CheckpointError(
                f"'{path}' was not saved: process {_listed(np.flatnonzero(flags))} does not see "
                "the folder that process 0 has made. Save into a folder that all processes share."
            )

    def conclude(
        self,
        error: BaseException | None,
        own: Path | None,
        commit: Callable[[], None],
        index: Path,
    ) -> None:
        """Have process 0 commit if all processes succeeded; otherwise raise in all of them.

        Args:
            error: what went wrong in this process.
            own: the file of this process, taken back if the save fails.
            commit: makes the checkpoint one; called by process 0.
            index: the file that has the token in it when that is done.

        Raises:
            BaseException: `error`.
            CheckpointError: another process failed.
        """
        try:
            failed = self._verdict(error, commit, index)
        except BaseException as raised:  # Ctrl-C while it waits, or what commit() raised
            error = raised
            failed = {str(self.process): _text(raised)}
            if self.process == 0:
                self._tell_failed(failed)
        if not failed:
            self._let_go()
            return
        with contextlib.suppress(OSError):  # it may be what went wrong
            if own is not None and not self._committed(index):
                own.unlink(missing_ok=True)
        if self.process:
            if error is None or isinstance(error, Exception):  # it has seen the verdict
                self._mark(self.token, self.process).unlink(missing_ok=True)
        else:
            self._take_back()
        if error is not None:
            raise error
        reasons = "; ".join(f"process {who}: {why}" for who, why in failed.items())
        raise CheckpointError(
            f"'{self.path}' was not saved, since process {_listed(failed)} could not write "
            f"({reasons}). What was there before is untouched."
        )

    def _verdict(
        self, error: BaseException | None, commit: Callable[[], None], index: Path
    ) -> dict[str, str]:
        """{process: reason} of those that failed; none if the checkpoint is there."""
        if self.process:
            hurry = error is not None and not isinstance(error, Exception)
            text = "" if error is None else json.dumps([_text(error), hurry])
            write_atomically(self._mark(self.token, self.process), text.encode())
            if error is not None and hurry:
                return {str(self.process): _text(error)}
            return self._wait_for_verdict(index)
        failed = {} if error is None else {"0": _text(error)}
        if error is None or isinstance(error, Exception):
            for other in range(1, self.count):
                place = self._mark(self.token, other)
                _wait(place.exists)
                text = place.read_text()
                if text:
                    failed[str(other)], hurry = json.loads(text)
                    if hurry:
                        self._gone.add(other)
        if failed:
            self._tell_failed(failed)
        else:
            commit()
        return failed

    def _wait_for_verdict(self, index: Path) -> dict[str, str]:
        told = self._told()
        seen: list[tuple[int, int] | None] = [None]

        def said() -> bool:
            if told.exists():
                return True
            try:
                about = index.stat()
            except FileNotFoundError:
                return False
            state = about.st_ino, about.st_mtime_ns
            if state == seen[0]:
                return False
            seen[0] = state
            return self._committed(index)

        _wait(said)
        return json.loads(told.read_text()) if told.exists() else {}

    def _committed(self, index: Path) -> bool:
        """Whether the index is that of this save: then nothing is taken back any more."""
        try:
            return self.token in index.read_text()
        except OSError:
            return False

    def _tell_failed(self, failed: dict[str, str]) -> None:
        if self.count > 1:
            with contextlib.suppress(OSError):
                write_atomically(self._told(), json.dumps(failed).encode())

    def _take_back(self) -> None:
        """Remove the marks, once the others have looked, and a folder that was made for this."""
        others = [self._mark(self.token, other) for other in range(1, self.count)]
        waiting = [place for i, place in enumerate(others, 1) if i not in self._gone]
        _within(_SEEN, lambda: not any(place.exists() for place in waiting))
        for place in (*others, self._told(), self._mark(self.token)):
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
        self._let_go()
        if self._new:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def _let_go(self) -> None:
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def _mark(self, token: str, process: int | None = None) -> Path:
        return self.path / (f"{MARK}{token}" + ("" if process is None else f"-{process:05d}"))

    def _told(self) -> Path:
        return self.path / f"{MARK}{self.token}-failed"


def _wait(condition: Callable[[], bool]) -> None:
    pause = _SHORTEST
    while not condition():
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    _wait(lambda: condition() or time.monotonic() > until)
    return condition()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _listed(processes: Iterable[Any]) -> str:
    return ", ".join(map(str, processes))
