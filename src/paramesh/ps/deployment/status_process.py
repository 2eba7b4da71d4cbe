"""Looks at the servers of a run from a process of its own.

Ray ends a process that is connected to a cluster together with it, and whoever ends a cluster of
its own ends what still uses its files: in the middle of a word, with twenty lines of Ray's. So it
is a process of no consequence that connects, and who asks lives to say that the run has ended.

    python -P -m paramesh.ps.deployment.status_process HOST:PORT JOB

For every line that it reads it looks once and writes a line of JSON: {"servers": [...]}, or the
reason why it ends: {"error": "...", "ended": whether the run has}. The token is in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TextIO

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.access import token_variables
from paramesh.ps.deployment.status import RunEnded, find_servers, look

#: Seconds until a cluster that has been found and says nothing any more has ended.
PATIENCE = 20.0


class Looker:
    """The servers of a run, looked at through another process; for a `with` block.

    Args:
        address: of the Ray cluster.
        job: the name of the run there.
        token: of the cluster; None: as the environment says.
    """

    def __init__(self, address: str, job: str, token: str | None = None) -> None:
        self._address = address
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 (closed at the end)
        variables = {} if token is None else token_variables(token)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "paramesh.ps.deployment.status_process", address, job],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            start_new_session=True,  # Ctrl-C is for who asks
        )
        self._rest = b""
        self._looked = False

    def look(self) -> list[dict[str, Any]]:
        """What each server says of itself, as `status.look`.

        Raises:
            RunEnded: the run, or its Ray cluster, has ended.
            ParameterServerError: as `find_servers`.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        line = self._line()
        if line is None:
            if self._looked:
                raise RunEnded(
                    f"the run at {self._address} has ended, and its Ray cluster with it."
                )
            self._noise.seek(0)
            said = self._noise.read().decode(errors="replace").strip().splitlines()
            raise ParameterServerError(
                f"the run at {self._address} could not be inspected"
                + (f": {said[-1]}" if said else ": its Ray cluster has ended.")
            )
        answer = json.loads(line)
        if "error" in answer:
            raise (RunEnded if answer["ended"] else ParameterServerError)(answer["error"])
        self._looked = True
        return answer["servers"]

    def _line(self) -> bytes | None:
        """The next line; None if there will be none. Ray may write lines of its own."""
        assert self._process.stdout is not None
        until = time.monotonic() + (PATIENCE if self._looked else 4 * PATIENCE)
        while True:
            line, found, self._rest = self._rest.partition(b"\n")
            if found and line.startswith(b"{"):
                return line
            if not found:
                self._rest = line
                left = max(0.0, until - time.monotonic())
                if not select.select([self._process.stdout], [], [], left)[0]:
                    return None
                more = os.read(self._process.stdout.fileno(), 1 << 16)
                if not more:
                    return None
                self._rest += more

    def __enter__(self) -> Looker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._noise):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def main(words: Sequence[str], source: TextIO, out: TextIO) -> None:
    """Answer the lines of `source`; see the module.

    Args:
        words: the address, and the job.
        source: a line for each look.
        out: gets the answers.
    """
    address, job = words
    servers: list[tuple[str, Any]] = []
    for _ in source:
        try:
            servers = servers or find_servers(address, job)
            answer: dict[str, Any] = {"servers": look(servers)}
        except ParameterServerError as error:
            answer = {"error": str(error), "ended": isinstance(error, RunEnded)}
        print(json.dumps(answer, allow_nan=False), file=out, flush=True)
        if "error" in answer:
            break


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin, sys.stdout)
    os._exit(0)  # Ray would take its time, and speak
