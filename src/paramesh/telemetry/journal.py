"""The file of a training process for whoever watches it, and all such files of this user.

One JSON object: `facts` of the process, `samples` and `events` (see `recorder`), and what other
parts of the process say of themselves (`sources`). It is replaced as a whole, by an atomic rename,
and exists as long as the process trains (see `files.live_entries`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from paramesh.files.live_entries import LiveEntry, live_entries
from paramesh.telemetry.recorder import Event, Recorder, Sample

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

SUFFIX = ".watch"

#: Bytes of one file that are read; a full one has about a fifth of it.
_MOST_BYTES = 1 << 22


class Facts(NamedTuple):
    """Who trains.

    Attributes:
        group: the same for processes that train together.
        rank: of this process among them.
        pid: its number.
        host: its host.
        program: the words that started it.
        started: seconds since 1970.
        devices: what it computes on, in words.
    """

    group: str
    rank: int
    pid: int
    host: str
    program: str
    started: float
    devices: str


class Watched(NamedTuple):
    """A process that trains now.

    Attributes:
        facts: who it is.
        written: when its journal was written, in seconds since 1970.
        samples: the oldest first.
        events: the oldest first.
        sources: what parts of it say of themselves, by name.
    """

    facts: Facts
    written: float
    samples: list[Sample]
    events: list[Event]
    sources: dict[str, Json]


class Journal:
    """The file of this process; made with the first `write`.

    A host where it cannot be made is no reason to stop a training: `error` says why, and nothing
    is written. One that cannot be replaced, on a full disk say, is tried again.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.error: str | None = None
        self._entry: LiveEntry | None = None

    def write(self, recorder: Recorder, sources: Mapping[str, Json]) -> None:
        """Replace the content by what is known now."""
        if self.error is not None and self._entry is None:
            return
        said = {
            "facts": self.facts._asdict(),
            "written": round(time.time(), 3),
            "samples": recorder.samples,
            "events": recorder.events,
            "sources": dict(sources),
        }
        content = json.dumps(said, allow_nan=False, separators=(",", ":")).encode()
        try:
            if self._entry is None:
                self._entry = LiveEntry(content, SUFFIX)
            else:
                self._entry.replace(content)
            self.error = None
        except OSError as error:
            self.error = error.strerror or str(error)

    def close(self) -> None:
        """Remove it."""
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.close()


def watched() -> tuple[list[Watched], list[str]]:
    """(the processes of this user on this host that train, oldest first; folders not usable)."""
    contents, troubles = live_entries(SUFFIX, _MOST_BYTES)
    found = [one for one in map(_read, contents) if one is not None]
    return sorted(found, key=lambda one: (one.facts.started, one.facts.rank)), troubles


def _read(content: bytes) -> Watched | None:
    try:
        said = json.loads(content)
        return Watched(
            Facts(**said["facts"]),
            float(said["written"]),
            [Sample(*values) for values in said["samples"]],
            [Event(*values) for values in said["events"]],
            dict(said["sources"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):  # of another version of paramesh
        return None
