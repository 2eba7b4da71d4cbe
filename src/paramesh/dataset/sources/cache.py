"""DatasetCache: MindSpore's server that keeps rows in memory; taken, and of no effect here."""

from __future__ import annotations

from typing import Any


class DatasetCache:
    """What scripts pass as `cache=`.

    Args:
        session_id, size, spilling, hostname, port, num_connections, prefetch_size: MindSpore's.

    Raises:
        TypeError, ValueError: `session_id` is no int of at least 1.
    """

    def __init__(
        self,
        session_id: int,
        size: int = 0,
        spilling: bool = False,
        hostname: str | None = None,
        port: int | None = None,
        num_connections: int | None = None,
        prefetch_size: int | None = None,
    ) -> None:
        if not isinstance(session_id, int) or isinstance(session_id, bool):
            raise TypeError(f"DatasetCache: session_id must be an int, got {session_id!r}.")
        if session_id < 1:
            raise ValueError(f"DatasetCache: session_id must be at least 1, got {session_id}.")
        self.session_id, self.size, self.spilling = session_id, size, spilling

    def get_stat(self) -> Any:
        """Statistics of the server.

        Raises:
            RuntimeError: there is no server.
        """
        raise RuntimeError("DatasetCache.get_stat: there is no cache server here.")
