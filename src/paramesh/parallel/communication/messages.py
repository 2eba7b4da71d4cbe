"""Messages from one process to another: bytes, by way of the coordinator that joined them.

The two alone take part. A message of a channel arrives in the order in which it was sent. Sending
does not wait. All of it goes through one process, so it is for objects and for what is small; many
values meet faster in collective operations (see `members`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter

from paramesh._compat.jax import fetch, post

#: Bytes of one entry at the coordinator.
CHUNK = 1 << 20
#: Seconds after which a receiver gives up, and those between two looks (and chances for signals).
PATIENCE, LOOK = 1800.0, 5.0

_counts: Counter[tuple[str, int, int]] = Counter()
_lock = threading.Lock()


def ticket(channel: str, source: int, target: int) -> str:
    """The name of the next message between two ranks; both of them count."""
    with _lock:
        key = (channel, source, target)
        _counts[key] += 1
        return f"paramesh/{channel}/{source}/{target}/{_counts[key]}"


def send(name: str, data: bytes) -> None:
    """Leave a message under the name of its ticket."""
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    for i, part in enumerate(parts):
        post(f"{name}/{i}", part)
    post(f"{name}/parts", str(len(parts)).encode())


def receive(name: str, call: str, source: int) -> bytes:
    """Wait for a message.

    Raises:
        RuntimeError: it has not come in half an hour.
    """
    end = time.monotonic() + PATIENCE
    parts = None
    while parts is None:
        parts = fetch(f"{name}/parts", LOOK)
        if parts is None and time.monotonic() > end:
            raise RuntimeError(
                f"{call}: nothing came from rank {source} in {PATIENCE:g} s. Does it send as often "
                "as this process receives?"
            )
    found: list[bytes] = []
    for i in range(int(parts)):
        part = fetch(f"{name}/{i}", PATIENCE)
        assert part is not None  # it was there before `parts`
        found.append(part)
    return b"".join(found)
