"""What a process prints, read by lines first, and then to its end."""

from __future__ import annotations

import subprocess
import threading
from typing import IO


def rest_of(process: subprocess.Popen[str], timeout: float = 300) -> tuple[str, str]:
    """What a process prints until it ends, and its errors ("" if they are not a pipe).

    `communicate` reads the pipe itself. It lacks the lines that came together with one that
    `readline` has returned: on a busy machine, those of all steps made meanwhile.

    Raises:
        subprocess.TimeoutExpired: it has not ended by then; it goes on.
    """
    found: dict[str, str] = {"out": "", "err": ""}

    def read(name: str, pipe: IO[str]) -> None:
        with pipe:
            found[name] = pipe.read()

    pipes = {"out": process.stdout, "err": process.stderr}
    threads = [
        threading.Thread(target=read, args=(name, pipe), daemon=True)
        for name, pipe in pipes.items()
        if pipe is not None
    ]
    for thread in threads:
        thread.start()
    process.wait(timeout)
    for thread in threads:
        thread.join(timeout)
    return found["out"], found["err"]
