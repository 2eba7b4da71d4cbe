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
from paramesh.dataset.wire import HEADER, receive_exactly

#: Smaller rows are sent in the message itself.
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
    threading.Thread(target=_read, args=(link, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        if failed:
            _send(link, failed, True)
            continue
        randomness.seed_globals(setup["seed"], task[0], task[1])
        try:
            row = work(task)  # type: ignore[misc]
        except PipelineError as error:
            _send(link, str(error), True)
        except Exception as error:
            _send(link, str(of_user("a worker process", error)), True)
        else:
            _send(link, row, False)


def _read(link: socket.socket, tasks: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            tasks.put(pickle.loads(_message(link)))
    except (OSError, EOFError):
        os._exit(0)


def _message(link: socket.socket) -> bytes:
    return receive_exactly(link, int.from_bytes(receive_exactly(link, 8), "little"))


def _send(link: socket.socket, row: object, failed: bool) -> None:
    found: list[pickle.PickleBuffer] = []
    body = pickle.dumps(row, protocol=5, buffer_callback=found.append)
    views = [buffer.raw() for buffer in found]
    lengths = [view.nbytes for view in views]
    if not hasattr(os, "memfd_create") or sum(lengths) < _SMALL:
        body = pickle.dumps(row, protocol=5) if views else body
        _reply(link, HEADER.pack(len(body), 0, failed), body, None)
        return
    step = arrays.ALIGNMENT
    total = sum(-(-length // step) * step for length in lengths)
    descriptor = os.memfd_create("paramesh-row")
    try:
        os.ftruncate(descriptor, total)
        with mmap.mmap(descriptor, total) as memory:
            start = 0
            for view, length in zip(views, lengths, strict=True):
                memory[start : start + length] = view  # type: ignore[assignment]
                start += -(-length // step) * step
        body = pickle.dumps((lengths, body))
        _reply(link, HEADER.pack(len(body), total, failed), body, descriptor)
    finally:
        os.close(descriptor)


def _reply(link: socket.socket, header: bytes, body: bytes, descriptor: int | None) -> None:
    try:
        if descriptor is None:
            link.sendall(header)
        else:
            socket.send_fds(link, [header], [descriptor])
        link.sendall(body)
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
