"""What servers and workers of a run agree on: its config, its points, and its own errors.

point       a named place in the protocol, at which tests kill the process
"""

from __future__ import annotations

import dataclasses

from paramesh.errors import ParameterServerError

MODES = ("sync", "stale", "async")

#: Where `point` is called, in the order of a step; "recovering" is in a start.
POINTS = ("staged", "applied", "half", "logged", "reply", "snapshot", "recovering")

#: And in the order of a checkpoint: its beginning is in the log, a piece of a part comes next,
#: a server's part is there, its end is in the log.
SAVE_POINTS = ("asked", "saving", "part", "written")


class VersionGone(ParameterServerError):
    """A version that a server no longer has, or has not reached."""


class Replaced(ParameterServerError):
    """A message of a worker that was replaced; no other worker is affected."""


class PushesMissing(ParameterServerError):
    """A worker's earlier pushes died with the server before this one: it has to send them again."""


class NotServing(ParameterServerError):
    """A standby was asked for what only its server does; `latest`: the incarnation that serves."""

    def __init__(self, message: str, latest: int) -> None:
        super().__init__(message, latest)
        self.latest = latest

    def __str__(self) -> str:
        return self.args[0]


class Moving(ParameterServerError):
    """The run is moved to another number of servers: this process serves no more, or not yet.

    Attributes:
        latest: the generation of the servers that it has moved to (see `moves`); 0: it has not yet,
            and may never.
    """

    def __init__(self, message: str, latest: int) -> None:
        super().__init__(message, latest)
        self.latest = latest

    def __str__(self) -> str:
        return self.args[0]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What all servers and workers of a run agree on.

    Attributes:
        workers: how many push in each step.
        mode: "sync", "stale" or "async".
        staleness: in stale mode, how many steps a read lags behind.
        snapshot_every: updates between snapshots; 0: none.
        keep_log: write the log. Without it a killed server has lost everything: for tests only.
        keep_history: keep what makes earlier versions readable. Likewise.
    """

    workers: int = 1
    mode: str = "sync"
    staleness: int = 0
    snapshot_every: int = 0
    keep_log: bool = True
    keep_history: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {self.mode!r}.")
        if self.workers < 1 or self.staleness < 0 or self.snapshot_every < 0:
            raise ValueError(
                f"workers must be at least 1, staleness and snapshot_every at least 0; got {self}."
            )
        if self.staleness and self.mode != "stale":
            raise ValueError(f"staleness={self.staleness} requires mode 'stale'.")

    @property
    def behind(self) -> int:
        """How many versions back a server can be read."""
        return 0 if self.mode == "async" else 2 * self.staleness + 1

    @property
    def cut_back(self) -> int:
        """How many updates back snapshots reach: in async mode one of each worker, which other
        servers may lack when the run is moved.
        """
        return self.workers if self.mode == "async" else self.behind

    def version_read(self, step: int) -> int:
        """The version that a step reads, in sync and stale mode."""
        return max(0, step - self.staleness)
