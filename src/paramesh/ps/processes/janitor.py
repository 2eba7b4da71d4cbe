"""Removes a folder when the process that made it has died, with the processes that work in it.

Run as a program of its own, by path and without site packages, so that it is small and starts at
once:

    python -I -S janitor.py FOLDER PID [detached]

It is in a session of its own: signals to its parent's terminal or group do not reach it. It imports
nothing of paramesh.

Ray ends the children of an actor with it. A detached one is the child of nobody that lives.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: Seconds that the processes have to end by themselves, and until a folder that is still written to
#: is left alone.
PATIENCE, LONGEST = 3.0, 20.0

DETACHED, _LEFT = "detached", b"1"

#: The variable that marks processes: the folders that they were started for.
MARK = "PARAMESH_WORKS_IN"


class Janitor:
    """The program for one folder of this process.

    Args:
        folder: to remove if this process dies; its name has to occur nowhere else.
        detached: for an actor of Ray's. It is there until this process ends, dismissed or not.
    """

    def __init__(self, folder: Path, *, detached: bool = False) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if os.name == "posix":
            words = [str(folder), str(os.getpid()), *([DETACHED] if detached else [])]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if detached else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if self._process.stdout is not None:
                with self._process.stdout as said:
                    if said.read(1) == _LEFT:  # it has left another one behind
                        self._process.wait()

    def dismiss(self) -> None:
        """This process has removed the folder itself."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def handle_of(pid: int) -> int | None:
    """A handle of the parent, whose process id this is; None: it has ended, or there are none."""
    with contextlib.suppress(AttributeError, OSError):  # Linux has them
        handle = os.pidfd_open(pid)
        if os.getppid() == pid:
            return handle
    return None


def wait_for_end(pid: int, handle: int | None) -> None:
    """Return when the parent, whose process id this is, has ended."""
    if handle is not None:
        select.select([handle], [], [])
    while os.getppid() == pid:
        time.sleep(0.5)


def marked(folder: Path) -> dict[str, str]:
    """What the environment of processes has to say so that `users` finds them, and what they start.

    Args:
        folder: in which they work.
    """
    others = [path for path in os.environ.get(MARK, "").split(os.pathsep) if path]
    return {MARK: os.pathsep.join(dict.fromkeys([*others, str(folder)]))}


def _is_marked(entry: Path, folder: str) -> bool:
    name = f"{MARK}=".encode()
    return any(
        folder.encode() in line.removeprefix(name).split(os.pathsep.encode())
        for line in (entry / "environ").read_bytes().split(b"\0")
        if line.startswith(name)
    )


def users(folder: str) -> list[int]:
    """Processes that were started for a folder and still work in it.

    They are marked, and have it in their command line or a file of it open. Others may have a file
    open too: somebody who looks at a log.
    """
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.name == str(os.getpid()) or not _is_marked(entry, folder):
                continue
            links = (entry / "fd").iterdir()
            if folder.encode() in (entry / "cmdline").read_bytes() or any(
                link.readlink().as_posix().startswith(folder + "/") for link in links
            ):
                found.append(int(entry.name))
    return found


def clean(folder: str, patience: float = PATIENCE) -> None:
    """End the processes that use a folder, and remove it.

    Args:
        folder: an absolute path.
        patience: seconds that the processes have to end by themselves.
    """
    began = time.monotonic()
    while (spent := time.monotonic() - began) < LONGEST:
        working = users(folder)
        for pid in working if spent >= patience else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not working or spent >= patience:
            shutil.rmtree(folder, ignore_errors=True)
            if not working and not os.path.exists(folder):
                return
        time.sleep(0.1)


def main(words: Sequence[str]) -> None:
    """Wait for the parent to end, and clean up.

    Args:
        words: the folder, the parent's process id, and `DETACHED` or nothing.
    """
    folder, pid, *more = words
    handle = handle_of(int(pid))
    if DETACHED in more:
        if handle is not None and os.fork():
            os.write(sys.stdout.fileno(), _LEFT)
            os._exit(0)
        os.close(sys.stdout.fileno())  # without handles it stays a child
    wait_for_end(int(pid), handle)
    clean(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
