"""MindSpore in a process of its own, with a python of its own.

MindSpore wants other versions of numpy and protobuf than the rest, and its threads are its own.
What it runs is `mindspore_worker.py`; the two talk in lines of JSON.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any

from networks.contestants import Unavailable
from networks.definitions import Network

WORKER = Path(__file__).parent / "mindspore_worker.py"
#: Seconds in which one answer has to come.
LIMIT = 600.0


class Process:
    """The process, with the network built in it.

    Args:
        network: which.
        python: the interpreter that has MindSpore.
        file: the first weights and the batch, as `definitions.write` writes them.
        mode: `graph` or `pynative`.

    Raises:
        Unavailable: no interpreter is named, it does not start, or it has no MindSpore.
    """

    def __init__(
        self, network: Network, python: str | None, file: Path, mode: str = "graph"
    ) -> None:
        if python is None:
            raise Unavailable("not asked for: --mindspore-python names a python that has it")
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=file.parent,  # it leaves reports of what it could not compile there
            )
        except OSError as error:
            raise Unavailable(f"{python} does not start: {error.strerror}") from error
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        try:
            answer = self.ask(do="build", network=network.key, file=str(file), mode=mode)
        except Unavailable:
            self.close()
            raise
        self.version: str = answer["version"]

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, wait for its answer.

        Raises:
            Unavailable: there is none, or it is an error.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable("its process has ended") from None
        end = time.monotonic() + LIMIT
        if not self._selector.select(max(0.0, end - time.monotonic())):
            raise Unavailable(f"no answer within {LIMIT:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise Unavailable(f"its process ended with status {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Run steps; (the seconds of each, the last loss)."""
        answer = self.ask(do="steps", count=steps)
        return answer["times"], answer["loss"]

    def close(self) -> None:
        """End the process."""
        self._selector.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
