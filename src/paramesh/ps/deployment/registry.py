"""The runs with servers of this user on this host: where each is, for whoever wants to look at it.

A run has a random port and a token that is printed nowhere, so each one leaves an entry while it
lives, in a folder that this user alone can read (see `files.live_entries`). `paramesh ps status`
and `paramesh watch` find it there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.files.live_entries import LiveEntry, live_entries

SUFFIX = ".json"


class Run(NamedTuple):
    """A run that lives.

    Attributes:
        address: of its Ray cluster.
        job: its name there.
        pid: of the process that has entered it: the launcher, or the script.
        started: seconds since 1970.
        wal_dir: the folder of its logs; None: a temporary one, or nobody knows here.
        servers: how many.
        workers: how many.
        program: the words that started it.
        token: that its cluster asks for; None: the environment has it, or there is none.
        places: the name of the host of each worker, by rank; None: all are on this host.
    """

    address: str
    job: str
    pid: int
    started: float
    wal_dir: str | None
    servers: int
    workers: int
    program: str
    token: str | None
    places: list[str] | None = None

    def __repr__(self) -> str:  # a token is not for logs
        shown = {**self._asdict(), "token": None if self.token is None else "..."}
        return f"Run({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def public(self) -> dict[str, Any]:
        """All that others may read."""
        return {name: value for name, value in self._asdict().items() if name != "token"}


class Entry:
    """That a run of this process lives, until `close` or the end of the process.

    A host where no entry can be made costs a warning, not the run.

    Args:
        address: and the others: see `Run`.
    """

    def __init__(
        self,
        *,
        address: str,
        job: str,
        servers: int,
        workers: int,
        wal_dir: str | None = None,
        token: str | None = None,
        places: list[str] | None = None,
    ) -> None:
        program = " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])
        now = time.time()
        self._facts = Run(
            address, job, os.getpid(), now, wal_dir, servers, workers, program, token, places
        )
        self._entry: LiveEntry | None = None
        try:
            self._entry = LiveEntry(self._content(), SUFFIX)
        except OSError as error:
            warnings.warn(
                "paramesh ps status will not find this run without --address: "
                f"{error.strerror or error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _content(self) -> bytes:
        return json.dumps(self._facts._asdict()).encode()

    def move(self, places: list[str]) -> None:
        """Workers are on other hosts now; see `Run`."""
        self._facts = self._facts._replace(places=places)
        if self._entry is not None:
            with contextlib.suppress(OSError):  # the old content stays
                self._entry.replace(self._content())

    def resize(self, servers: int) -> None:
        """The run has another number of servers now; see `Run`."""
        self._facts = self._facts._replace(servers=servers)
        if self._entry is not None:
            with contextlib.suppress(OSError):  # the old content stays
                self._entry.replace(self._content())

    def staff(self, workers: int) -> None:
        """The run has another number of workers now; see `Run`."""
        self._facts = self._facts._replace(workers=workers)
        if self._entry is not None:
            with contextlib.suppress(OSError):  # the old content stays
                self._entry.replace(self._content())

    def close(self) -> None:
        """The run has ended."""
        if self._entry is not None:
            self._entry.close()


def runs() -> list[Run]:
    """The runs of this user on this host that live, the oldest first.

    What several processes say of one run is put together. Entries of dead processes are removed.

    Raises:
        ParameterServerError: there is none, and a folder is not of this user alone.
    """
    contents, troubles = live_entries(SUFFIX)
    entered = list(_read(contents))
    if troubles and not entered:
        raise ParameterServerError("; ".join(troubles))
    found: dict[tuple[str, str], Run] = {}
    for run in sorted(entered, key=lambda run: run.started):
        first = found.setdefault((run.address, run.job), run)
        found[run.address, run.job] = first._replace(
            # Workers know of moves and changes, and start after their launcher.
            servers=run.servers,
            workers=run.workers,
            wal_dir=first.wal_dir or run.wal_dir,
            token=first.token or run.token,
            places=first.places or run.places,
        )
    return list(found.values())


def _read(contents: list[bytes]) -> Iterator[Run]:
    for content in contents:
        try:
            facts = json.loads(content)
            yield Run(**{name: facts.get(name) for name in Run._fields})
        except (ValueError, AttributeError):  # of another version of paramesh
            continue
