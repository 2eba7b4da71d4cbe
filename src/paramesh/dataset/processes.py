"""Work in processes: rows come in the order of their tasks, through memory that is not copied.

Workers are new Python processes that get the work by pickle (cloudpickle, so functions and classes
of the script itself work, and the script is not run again). A worker makes the large arrays of a
row in memory that both have (`segments.py`), and JAX on a CPU takes them as they are.

    here                                   worker k of n
    work, once          ------------->     loads it
    task i (i % n == k) ------------->     a thread reads tasks, so that neither side blocks both
    row i, in order     <-------------     or the traceback
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import io
import logging
import mmap
import os
import pickle
import socket
import subprocess
import sys
import time
import types
import weakref
from typing import Any

from paramesh import child_processes
from paramesh.dataset import arrays
from paramesh.dataset.failures import PipelineError
from paramesh.dataset.segments import Mappings
from paramesh.dataset.streams import Stream, Task, Work
from paramesh.dataset.wire import DESCRIPTORS, HEADER, Place, receive_exactly

#: Tasks that a worker holds: the one in work, and the next.
_DEPTH = 2

_WORKER = "paramesh.dataset.worker"


class Unsendable(RuntimeError):
    """The work of an operation cannot be sent to another process."""


class Workers:
    """Some processes that make rows, for as long as the pipeline is used.

    Args:
        work: what they run; pickled once.
        count: how many.
        seed: of the iterator, for the global generators in the workers.
        what: begins the error about a worker that ended.

    Raises:
        Unsendable: the work cannot be pickled.
        RuntimeError: cloudpickle is missing, or a worker does not start.
    """

    def __init__(self, work: Work, count: int, seed: int, what: str) -> None:
        self.what = what
        self.stream: ProcessRows | None = None
        payload = _pickled(work, what)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        self._mappings = [Mappings() for _ in range(count)]
        self._finalizer = weakref.finalize(self, _end, self._processes, self._sockets)
        # Modules of scripts read the arguments when they are imported.
        setup = pickle.dumps({"seed": seed, "steps": child_processes.STEPS, "argv": sys.argv})
        # A Tensor in a row must not make a worker take the accelerator.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "JAX_PLATFORMS": "cpu",
        }
        for _ in range(count):
            ours, theirs = socket.socketpair()
            with theirs:
                self._sockets.append(ours)
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _WORKER, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=environment,
                )
            self._processes.append(process)
        for at in range(count):
            self.send(at, setup)
            self.send(at, payload)

    def __len__(self) -> int:
        return len(self._sockets)

    def send(self, at: int, message: bytes) -> None:
        """Hand bytes to one worker."""
        try:
            self._sockets[at].sendall(len(message).to_bytes(8, "little"))
            self._sockets[at].sendall(message)
        except OSError:
            raise self._ended(at) from None

    def give(self, at: int, task: Task) -> None:
        """Let a worker make the row of a task; what it says of memory is for the worker."""
        self.send(at, pickle.dumps((task, *self._mappings[at].settled()), protocol=5))

    def receive(self, at: int) -> Any:
        """The next row of one worker.

        Raises:
            PipelineError: the work raised an exception, or the worker ended.
        """
        link = self._sockets[at]
        try:
            header, descriptors = _with_descriptors(link)
            size, shares, failed = HEADER.unpack(header)
            body = receive_exactly(link, size)
        except (OSError, EOFError):
            raise self._ended(at) from None
        buffers: list[Any] = []
        if shares:
            places, new, body = pickle.loads(body)
            buffers = self._buffers(at, places, new, descriptors)
        found = pickle.loads(body, buffers=buffers)
        if failed:
            raise PipelineError(found)
        return found

    def _buffers(
        self, at: int, places: list[Place], new: list[int], descriptors: list[int]
    ) -> list[arrays.Array]:
        """The buffers of a row in shared memory, as the pipeline's own."""
        mappings, copied = self._mappings[at], memoryview(b"")
        try:
            for number, descriptor in zip(new, descriptors, strict=False):
                mappings.add(number, descriptor)
            if len(descriptors) > len(new):
                copied = memoryview(mmap.mmap(descriptors[-1], os.fstat(descriptors[-1]).st_size))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        buffers: list[arrays.Array] = []
        start = 0
        for number, length in places:
            if number >= 0:
                buffers.append(mappings.array(number, length))
            else:
                buffers.append(arrays.owned(copied[start : start + length], (length,), "u1"))
                start += arrays.aligned(length)
        return buffers

    def _ended(self, at: int) -> PipelineError:
        process = self._processes[at]
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        hint = " (killed; is there enough memory?)" if code == -9 else ""
        return PipelineError(
            f"{self.what}: worker process {process.pid} ended with exit code {code}{hint}. Its "
            "output, if any, is above. With python_multiprocessing=False it runs in this process."
        )

    def close(self) -> None:
        """End the processes; a second call does nothing."""
        self._finalizer()


def _pickled(work: Work, what: str) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        raise RuntimeError(
            f"{what}: worker processes need cloudpickle: pip install 'paramesh[dataset]', or pass "
            "python_multiprocessing=False."
        ) from None

    class Pickler(cloudpickle.CloudPickler):
        """Modules of MindSpore's paths have classes of their own; they go by name, as others do."""

        def reducer_override(self, obj: object) -> Any:
            if isinstance(obj, types.ModuleType) and type(obj) is not types.ModuleType:
                return importlib.import_module, (obj.__name__,)
            if isinstance(obj, logging.Logger):
                return _logger, (type(obj), _of_logger(obj))
            return super().reducer_override(obj)

    file = io.BytesIO()
    try:
        Pickler(file, protocol=5).dump(work)
        return file.getvalue()
    except Exception as error:
        raise Unsendable(
            f"{what}: the source or function cannot be sent to worker processes "
            f"({type(error).__name__}: {error})"
        ) from error


def _of_logger(logger: logging.Logger) -> dict[str, Any]:
    """What a logger is in a worker: its messages go to that process's root logger."""
    left_out = ("handlers", "parent", "manager", "_cache")
    return {name: value for name, value in vars(logger).items() if name not in left_out}


def _logger(kind: type[logging.Logger], state: dict[str, Any]) -> logging.Logger:
    found = logging.getLogger(state["name"])
    if type(found) is kind:
        return found
    new = kind.__new__(kind)
    logging.Logger.__init__(new, state["name"])
    new.parent = logging.getLogger()
    vars(new).update(state)
    return new


def _with_descriptors(link: socket.socket) -> tuple[bytes, list[int]]:
    """A header, and the descriptors that came with it."""
    header, descriptors, _, _ = socket.recv_fds(link, HEADER.size, DESCRIPTORS)
    if not header:
        raise EOFError
    if len(header) < HEADER.size:
        header += receive_exactly(link, HEADER.size - len(header))
    return header, list(descriptors)


def _end(processes: list[subprocess.Popen[bytes]], sockets: list[socket.socket]) -> None:
    for link in sockets:
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)  # a worker ends when it reads the end; so does a wait
        link.close()
    patience = time.monotonic() + 2
    for process in processes:
        try:
            process.wait(timeout=max(patience - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class ProcessRows(Stream):
    """The rows of tasks, made by worker processes a few ahead.

    A stream that is dropped half way takes its rows out of the workers first.
    """

    def __init__(self, tasks: Stream, workers: Workers) -> None:
        self._tasks, self._workers = tasks, workers
        self._waiting: collections.deque[int] = collections.deque()
        self._sent = 0
        self._over = False
        self._failed: Exception | None = None
        if workers.stream is not None:
            workers.stream.close()
        workers.stream = self

    def __next__(self) -> Any:
        while not self._over and len(self._waiting) < _DEPTH * len(self._workers):
            try:
                task = next(self._tasks)
            except StopIteration:
                self._over = True
            except Exception as error:  # it comes when it is its turn
                self._over, self._failed = True, error
            else:
                at = self._sent % len(self._workers)
                self._workers.give(at, task)
                self._waiting.append(at)
                self._sent += 1
        if not self._waiting:
            if self._failed is not None:
                raise self._failed
            raise StopIteration
        return self._workers.receive(self._waiting.popleft())

    def skip(self, count: int) -> int:
        """Pass over tasks; none is made."""
        if self._waiting:
            return super().skip(count)
        return 0 if self._over else self._tasks.skip(count)

    def close(self) -> None:
        """Let go of what waits."""
        self._over = True
        while self._waiting:
            try:
                self._workers.receive(self._waiting.popleft())
            except PipelineError:
                continue  # of a row that nobody wants any more
        self._tasks.close()
