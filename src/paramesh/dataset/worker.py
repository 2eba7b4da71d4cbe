"""A worker process of a pipeline: `python -m paramesh.dataset.worker DESCRIPTOR`."""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import signal
import socket
import sys
import threading
from typing import Any

from paramesh import child_processes
from paramesh.dataset import arrays, randomness
from paramesh.dataset.failures import PipelineError, of_user
from paramesh.dataset.segments import Pool, Segment
from paramesh.dataset.wire import DESCRIPTORS, HEADER, Place, receive_exactly

#: Smaller arrays are sent in the message itself.
_SMALL = 1 << 16


def main(descriptor: int) -> None:
    """Make rows of tasks until the other side closes."""
    # Ctrl-C goes to all processes of a terminal; this one ends when its parent closes the link.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=descriptor)
    setup = pickle.loads(_message(link))
    sys.argv = setup["argv"]
    try:
        child_processes.follow(setup["steps"])
        work, failed = pickle.loads(_message(link)), ""
    except EOFError:
        return
    except Exception as error:  # an import of the user's, say
        work, failed = None, str(of_user("starting a worker process", error))
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    send = _Sender(link)
    threading.Thread(target=_read, args=(link, tasks), daemon=True).start()
    while True:
        task, freed, dropped = tasks.get()
        send.pool.settle(freed, dropped)
        if failed:
            send(failed, True)
            continue
        randomness.seed_globals(setup["seed"], task[0], task[1])
        try:
            row = work(task)  # type: ignore[misc]
        except PipelineError as error:
            send(str(error), True)
        except Exception as error:
            send(str(of_user("a worker process", error)), True)
        else:
            send(row, False)
            del row  # its memory is free as soon as the pipeline has no more of it


def _read(link: socket.socket, tasks: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            tasks.put(pickle.loads(_message(link)))
    except (OSError, EOFError):
        os._exit(0)


def _message(link: socket.socket) -> bytes:
    return receive_exactly(link, int.from_bytes(receive_exactly(link, 8), "little"))


class _Sender:
    """Sends rows; their large arrays stay where they are, or are copied to shared memory."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self.pool = Pool()
        self._shares = hasattr(os, "memfd_create")
        if self._shares:
            arrays.take_from(self.pool.take)

    def __call__(self, row: object, failed: bool) -> None:
        held: list[Segment] = []
        new: list[Segment] = []
        copied: list[memoryview] = []
        places: list[Place] = []

        def in_message(buffer: pickle.PickleBuffer) -> bool:
            view = buffer.raw()
            if not self._shares or view.nbytes < _SMALL:
                return True
            segment = self.pool.holding(view)
            # A row may have an array twice; the pipeline is to count it once.
            if segment is None or segment in held or len(new) == DESCRIPTORS - 1:
                places.append((-1, view.nbytes))
                copied.append(view)
                return False
            places.append((segment.number, view.nbytes))
            held.append(segment)
            if not segment.sent:
                new.append(segment)
            return False

        body = pickle.dumps(row, protocol=5, buffer_callback=in_message)
        if not places:
            self._reply(HEADER.pack(len(body), False, failed), body, [])
            return
        for segment in held:
            segment.there = segment.sent = True
        body = pickle.dumps((places, [segment.number for segment in new], body))
        descriptors = [segment.descriptor for segment in new]
        extra = _copied(copied) if copied else None
        if extra is not None:
            descriptors.append(extra)
        try:
            self._reply(HEADER.pack(len(body), True, failed), body, descriptors)
        finally:
            if extra is not None:
                os.close(extra)

    def _reply(self, header: bytes, body: bytes, descriptors: list[int]) -> None:
        try:
            if descriptors:
                socket.send_fds(self._link, [header], descriptors)
            else:
                self._link.sendall(header)
            self._link.sendall(body)
        except OSError:
            os._exit(0)


def _copied(views: list[memoryview]) -> int:
    """The descriptor of shared memory with these bytes."""
    total = sum(arrays.aligned(view.nbytes) for view in views)
    descriptor = os.memfd_create("paramesh-row")
    os.ftruncate(descriptor, total)
    with mmap.mmap(descriptor, total) as memory:
        start = 0
        for view in views:
            memory[start : start + view.nbytes] = view  # type: ignore[assignment]
            start += arrays.aligned(view.nbytes)
    return descriptor


if __name__ == "__main__":
    main(int(sys.argv[1]))
