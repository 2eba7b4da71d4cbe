"""Messages for somebody who may ask again: each is kept until it is known to have arrived.

Glossary
    number      of a message, from 1 on; whoever asks says up to which number it has all
    full        more bytes are kept than there may be: `put` waits, so that what produces the
                messages waits too, and none is lost
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """The messages that one reader has not confirmed.

    Args:
        most: bytes that are kept; a single message may have more.
        at_once: bytes that one answer has, and a single message more.
    """

    def __init__(self, most: int = 1 << 24, at_once: int = 1 << 20) -> None:
        self._most = most
        self._at_once = at_once
        self._kept: deque[tuple[int, int, T]] = deque()
        self._bytes = 0
        self._last = 0
        self._changed = threading.Condition()

    def put(self, message: T, size: int = 0) -> None:
        """Add a message; wait while the box is full.

        Args:
            message: what to keep.
            size: its bytes.
        """
        with self._changed:
            while self._kept and self._bytes + size > self._most:
                self._changed.wait()
            self._last += 1
            self._kept.append((self._last, size, message))
            self._bytes += size
            self._changed.notify_all()

    def take(self, seen: int, patience: float) -> list[tuple[int, T]]:
        """The messages after a number, in order; those up to it are forgotten.

        Args:
            seen: the number up to which the reader has all.
            patience: seconds to wait for the first one.

        Returns:
            (number, message); none if none came in time.
        """
        until = time.monotonic() + patience
        with self._changed:
            while self._kept and self._kept[0][0] <= seen:
                self._bytes -= self._kept.popleft()[1]
            self._changed.notify_all()
            while not self._kept and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            found: list[tuple[int, T]] = []
            count = 0
            for number, size, message in self._kept:
                if found and count + size > self._at_once:
                    break
                found.append((number, message))
                count += size
            return found
