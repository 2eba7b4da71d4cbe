"""The agreement of all processes on the result of a sharded save, through files in its folder.

Processes use a collective only at the call, where all are at the same point of the program. The
rest may run in a background thread, where a collective would interfere with those of training
steps; so they communicate through the folder, which all have to share anyway.

    .save-TOKEN             shows that the folder is that of process 0: other processes look for it
                            at the call; locked while process 0 saves
    .save-TOKEN-00001       the result of process 1: empty, or JSON: its error, and whether it was
                            interrupted (after Ctrl-C it does not wait for the verdict)
    .save-TOKEN-failed      the verdict of process 0 if it is not a commit: JSON, who failed and why

The commit itself, an index with the token in it, is the other verdict. A process that waits for a
killed one is terminated by JAX, or by `paramesh launch`, as in a collective.
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
from paramesh.checkpoint.sharded.index import make_mark
from paramesh.checkpoint.sharded.source import MARK
from paramesh.errors import CheckpointError
from paramesh.files.atomic import directory_to_disk, write_atomically
from paramesh.parallel.processes.synchronize import wait_for_programs

#: Seconds until a file of one host is visible to another, and until others have read a verdict.
_VISIBLE = 10.0
_SHORTEST, _LONGEST = 0.001, 0.05


class Agreement:
    """One save: constructed by all processes in the same order, then concluded by each.

    Args:
        path: the folder; process 0 creates it.

    Attributes:
        token: names the files of this save, the same in all processes.
        new: there was no folder before.

    Raises:
        OSError: process 0 could not create the folder (in process 0).
        CheckpointError: the same, in the other processes; or a process does not see the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process, self.count = jax.process_index(), jax.process_count()
        token = secrets.token_bytes(4)
        self.new = not path.exists()
        self._lock_fd = -1
        self._gone: set[int] = set()
        error: OSError | None = None
        if self.process == 0:
            try:
                if self.new:
                    path.mkdir(exist_ok=True)
                    directory_to_disk(path.parent)
                self._lock_fd = make_mark(path, token.hex())
            except OSError as raised:
                error = raised
        if self.count == 1:
            if error is not None:
                raise error
            self.token = token.hex()
            return
        received = np.frombuffer(token + bytes([error is None]), np.uint8)
        wait_for_programs()
        received = np.asarray(broadcast_one_to_all(received), np.uint8).tobytes()
        self.token = received[:4].hex()
        if not received[4]:
            raise error or CheckpointError(
                f"'{path}' was not saved, since process 0 could not create it; see the error of "
                "that process."
            )
        unseen = not _within(_VISIBLE, self._mark(self.token).exists)
        wait_for_programs()
        flags = np.asarray(process_allgather(np.array(unseen)))
        if flags.any():
            if self.process == 0:
                self._clean_up()
            raise CheckpointError(
                f"'{path}' was not saved: process {_listed(np.flatnonzero(flags))} does not see "
                "the folder that process 0 has created. Save into a folder that all processes "
                "share."
            )

    def conclude(
        self,
        error: BaseException | None,
        own: Path | None,
        commit: Callable[[], None],
        index: Path,
    ) -> None:
        """Commit in process 0 if all processes succeeded; otherwise raise in all of them.

        Args:
            error: the error of this process, or None.
            own: the file of this process, removed if the save fails.
            commit: commits the checkpoint; called by process 0.
            index: the file that contains the token once it is committed.

        Raises:
            BaseException: `error`.
            CheckpointError: another process failed.
        """
        try:
            failed = self._verdict(error, commit, index)
        except BaseException as raised:  # Ctrl-C while it waits, or an error of commit()
            error = raised
            failed = {str(self.process): _text(raised)}
            if self.process == 0:
                self._report_failure(failed)
        if not failed:
            self._unlock()
            return
        with contextlib.suppress(OSError):  # it may be the cause of the failure
            if own is not None and not self._committed(index):
                own.unlink(missing_ok=True)
        if self.process:
            if error is None or isinstance(error, Exception):  # it has seen the verdict
                self._mark(self.token, self.process).unlink(missing_ok=True)
        else:
            self._clean_up()
        if error is not None:
            raise error
        reasons = "; ".join(f"process {who}: {why}" for who, why in failed.items())
        raise CheckpointError(
            f"'{self.path}' was not saved, since process {_listed(failed)} could not write "
            f"({reasons}). The previous checkpoint, if any, is unchanged."
        )

    def _verdict(
        self, error: BaseException | None, commit: Callable[[], None], index: Path
    ) -> dict[str, str]:
        """{process: reason} of those that failed; empty if the checkpoint is committed."""
        if self.process:
            interrupted = error is not None and not isinstance(error, Exception)
            text = "" if error is None else json.dumps([_text(error), interrupted])
            write_atomically(self._mark(self.token, self.process), text.encode())
            if error is not None and interrupted:
                return {str(self.process): _text(error)}
            return self._wait_for_verdict(index)
        failed = {} if error is None else {"0": _text(error)}
        if error is None or isinstance(error, Exception):
            for other in range(1, self.count):
                place = self._mark(self.token, other)
                _wait(place.exists)
                text = place.read_text()
                if text:
                    failed[str(other)], interrupted = json.loads(text)
                    if interrupted:
                        self._gone.add(other)
        if failed:
            self._report_failure(failed)
        else:
            commit()
        return failed

    def _wait_for_verdict(self, index: Path) -> dict[str, str]:
        verdict = self._verdict_path()
        seen: list[tuple[int, int] | None] = [None]

        def received() -> bool:
            if verdict.exists():
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

        _wait(received)
        return json.loads(verdict.read_text()) if verdict.exists() else {}

    def _committed(self, index: Path) -> bool:
        """Whether the index is that of this save: then nothing is removed any more."""
        try:
            return self.token in index.read_text()
        except OSError:
            return False

    def _report_failure(self, failed: dict[str, str]) -> None:
        if self.count > 1:
            with contextlib.suppress(OSError):
                write_atomically(self._verdict_path(), json.dumps(failed).encode())

    def _clean_up(self) -> None:
        """Remove the marks, once others have read them, and the folder if it is new."""
        others = [self._mark(self.token, other) for other in range(1, self.count)]
        waiting = [place for i, place in enumerate(others, 1) if i not in self._gone]
        _within(_VISIBLE, lambda: not any(place.exists() for place in waiting))
        for place in (*others, self._verdict_path(), self._mark(self.token)):
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
        self._unlock()
        if self.new:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def _unlock(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def _mark(self, token: str, process: int | None = None) -> Path:
        return self.path / (f"{MARK}{token}" + ("" if process is None else f"-{process:05d}"))

    def _verdict_path(self) -> Path:
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
