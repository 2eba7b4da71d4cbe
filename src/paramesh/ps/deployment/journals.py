"""What workers on other hosts say of their training, for whoever watches the run on this one.

A training process has its journal in a file of its own host (see `telemetry.journal`). The launcher
keeps a copy of it on its host, as long as the process runs: `paramesh watch` there finds all of a
run, and need not know of other hosts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from paramesh.files.live_entries import LiveEntry, live_entries
from paramesh.telemetry.journal import SUFFIX

#: Seconds between two copies, and bytes of a journal that are read.
EVERY, _MOST = 2.0, 1 << 22


def journals_of(processes: Iterable[int]) -> dict[int, bytes]:
    """The journals of some processes of this host, by their numbers; not all have one."""
    wanted = set(processes)
    found: dict[int, bytes] = {}
    for content in live_entries(SUFFIX, _MOST)[0] if wanted else ():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # of another version
            number = json.loads(content)["facts"]["pid"]
            if number in wanted:
                found[number] = content
    return found


class JournalCopies:
    """Copies of journals on this host, until `close`; whoever reads them finds them alive."""

    def __init__(self) -> None:
        self._entries: dict[int, LiveEntry] = {}

    def put(self, key: int, content: bytes) -> None:
        """Replace the copy of a process; a host where none can be made is watched without."""
        with contextlib.suppress(OSError):
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = LiveEntry(content, SUFFIX)
            else:
                entry.replace(content)

    def drop(self, key: int) -> None:
        """The process has ended."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.close()

    def close(self) -> None:
        """All have."""
        for key in list(self._entries):
            self.drop(key)
