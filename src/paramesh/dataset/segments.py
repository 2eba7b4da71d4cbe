"""Memory that worker processes write batches into and the pipeline reads, used again and again.

To get zeroed pages from the system for each batch, and to copy the batch into them, takes longer
than many a batch is worth. So a worker allocates large batches in segments, anonymous files of the
system's memory. It sends the descriptor of a segment once and its number from then on. The pipeline
maps it once, and says which segments nobody has any more with the next task that it sends.

    worker                                            pipeline
    Pool.take: a segment that is free, or a new one
    a batch in it, its number       ------------->    Mappings.array: a view of the mapping
                                                      the last array over it goes
    Pool.settle: it is free         <-------------    Mappings.settled, with the next task
"""

from __future__ import annotations

import collections
import mmap
import os
import threading
from collections.abc import Sequence

import numpy as np

from paramesh.dataset.arrays import Array, Memory

#: Segments of a worker that are kept though nobody has them.
_IDLE = 3


class Segment:
    """Some shared memory of a worker.

    Args:
        number: among the worker's.
        size: in bytes.
    """

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.descriptor = os.memfd_create("paramesh-rows")
        os.ftruncate(self.descriptor, size)
        self.memory = mmap.mmap(self.descriptor, size)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        self.address = self.bytes.ctypes.data
        self.sent = False
        #: Who has it: arrays of this process, the pipeline.
        self.here = self.there = False


class _Held(Memory):
    """Memory in a segment; the base of the arrays over it."""

    __slots__ = ("ended",)

    def __init__(self, segment: Segment, size: int, ended: collections.deque[Segment]) -> None:
        super().__init__(segment, segment.bytes[:size])
        self.ended = ended

    def __del__(self) -> None:
        # No lock: this may run in a thread that holds it.
        self.ended.append(self.holder)  # type: ignore[arg-type]


class Pool:
    """The segments of a worker process."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment] = {}
        self._at: dict[int, Segment] = {}
        self._ended: collections.deque[Segment] = collections.deque()
        self._lock = threading.Lock()
        self._next = 0

    def take(self, size: int) -> Memory:
        """Memory of so many bytes."""
        with self._lock:
            self._end()
            for segment in self._segments.values():
                usable = size <= len(segment.bytes) <= 2 * size
                if usable and not segment.here and not segment.there:
                    break
            else:
                segment = Segment(self._next, size)
                self._next += 1
                self._segments[segment.number] = self._at[segment.address] = segment
            segment.here = True
        return _Held(segment, size, self._ended)

    def _end(self) -> None:
        while self._ended:
            segment = self._ended.popleft()
            segment.here = False
            if segment.sent:
                continue  # the pipeline says when it goes
            idle = [s for s in self._segments.values() if not (s.here or s.sent)]
            if len(idle) > _IDLE:
                self._drop(segment.number)

    def _drop(self, number: int) -> None:
        segment = self._segments.pop(number)
        del self._at[segment.address]
        os.close(segment.descriptor)

    def holding(self, view: memoryview) -> Segment | None:
        """The segment that begins with these bytes; None: they are elsewhere."""
        return self._at.get(np.frombuffer(view, np.uint8).ctypes.data) if view.nbytes else None

    def settle(self, freed: Sequence[int], dropped: Sequence[int]) -> None:
        """What the pipeline has said of its segments: they are free, or not to be kept."""
        with self._lock:
            for number in freed:
                self._segments[number].there = False
            for number in dropped:
                self._drop(number)


class _Seen(Memory):
    """Memory in a mapping of a segment."""

    __slots__ = ("ended", "number")

    def __init__(self, mapping: Array, size: int, number: int, ended: collections.deque[int]):
        super().__init__(mapping, mapping[:size])
        self.number, self.ended = number, ended

    def __del__(self) -> None:
        self.ended.append(self.number)


class Mappings:
    """The pipeline's view of the segments of one worker."""

    def __init__(self) -> None:
        self._mapped: dict[int, Array] = {}
        self._free: set[int] = set()
        self._ended: collections.deque[int] = collections.deque()

    def add(self, number: int, descriptor: int) -> None:
        """A segment that is new."""
        memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._mapped[number] = np.frombuffer(memory, np.uint8)

    def array(self, number: int, size: int) -> Array:
        """The first bytes of a segment, as the pipeline's own."""
        self._free.discard(number)
        return np.asarray(_Seen(self._mapped[number], size, number, self._ended))

    def settled(self) -> tuple[list[int], list[int]]:
        """The segments that have become free, and those that are not to be kept."""
        freed: list[int] = []
        dropped: list[int] = []
        while self._ended:
            number = self._ended.popleft()
            if len(self._free) < _IDLE:
                self._free.add(number)
                freed.append(number)
            else:
                del self._mapped[number]
                dropped.append(number)
        return freed, dropped
