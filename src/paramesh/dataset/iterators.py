"""Iterators: rows made ahead by a thread, as tuples or dicts, of Tensors or arrays."""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Protocol, Self

import jax
import numpy as np

from paramesh.dataset import config
from paramesh.dataset.argument_types import ColumnNames
from paramesh.dataset.arrays import is_own
from paramesh.dataset.position import Position
from paramesh.dataset.streams import Stream
from paramesh.dtype import x64
from paramesh.tensor.base import Tensor

#: How columns of metadata begin.
META = "_meta-"

#: Rows that wait are held to so many bytes, beyond the first two.
_MOST_BYTES = 1 << 28

#: How long the end of an iterator waits for a function of the user's that does not return.
_PATIENCE = 5.0


class Epochs(Protocol):
    """Gives the rows of one epoch after the other."""

    left: int
    position: Position

    def begin(self) -> Stream:
        """The rows of the next epoch."""
        ...

    def park(self) -> None:
        """All epochs are through; processes may be kept for the next iterator."""
        ...

    def close(self) -> None:
        """Let go of threads and processes."""
        ...


class _Line:
    """Rows between the thread that makes them and the one that takes them."""

    def __init__(self, rows: Stream, most: int) -> None:
        self.rows, self.most = rows, most
        self.ready: collections.deque[tuple[Any, int]] = collections.deque()
        self.bytes = 0
        self.stopped = self.over = False
        self.error: BaseException | None = None
        self.changed = threading.Condition()

    def full(self) -> bool:
        """Whether enough waits."""
        waiting = len(self.ready)
        return waiting >= self.most or (waiting >= 2 and self.bytes >= _MOST_BYTES)

    def make(self) -> None:
        """Make rows until there are no more, or nobody wants any; the thread's function."""
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.stopped or not self.full())
                    if self.stopped:
                        break
                row = next(self.rows)
                size = sum(getattr(value, "nbytes", 0) for value in row)
                with self.changed:
                    self.ready.append((row, size))
                    self.bytes += size
                    self.changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        finally:
            try:
                self.rows.close()
            finally:
                with self.changed:
                    self.over = True
                    self.changed.notify_all()

    def take(self) -> Any:
        """The next row.

        Raises:
            StopIteration: there is none.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.ready or self.over)
            if self.ready:
                row, size = self.ready.popleft()
                self.bytes -= size
                self.changed.notify_all()
                return row
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        raise StopIteration

    def stop(self) -> None:
        """Make no more."""
        with self.changed:
            self.stopped = True
            self.ready.clear()
            self.changed.notify_all()


class Prefetch:
    """Rows, epoch after epoch; the position is moved on by each one that is given."""

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs
        self._left, self._failed = epochs.left, False
        self._line: _Line | None = None
        self._parts: dict[str, Any] = {"epochs": epochs}
        self._finalizer = weakref.finalize(self, _stop, self._parts)

    def next(self) -> Any:
        """The next row.

        Raises:
            StopIteration: the epoch is over. RuntimeError: all of them are.
        """
        if self._line is None:
            if self._failed:
                raise RuntimeError("This iterator ended with an error. Make another one.")
            if self._left == 0 or not self._finalizer.alive:
                raise RuntimeError(
                    "This iterator has given all its epochs. Make another one, or ask for more "
                    "with num_epochs (-1: without end)."
                )
            self._begin()
        assert self._line is not None
        try:
            row = self._line.take()
        except StopIteration:
            self._end_of_epoch()
            raise
        except BaseException:
            self._parts.pop("line", None)
            self._line = None
            self._failed = True
            self.close()
            raise
        self._epochs.position.row += 1
        return row

    def _begin(self) -> None:
        line = _Line(self._epochs.begin(), config.get_prefetch_size())
        self._line = self._parts["line"] = line
        if config.get_debug_mode():
            line.take = lambda: next(line.rows)  # type: ignore[method-assign]
            return
        thread = threading.Thread(target=line.make, name="paramesh-dataset-prefetch", daemon=True)
        self._parts["thread"] = thread
        thread.start()

    def _end_of_epoch(self) -> None:
        self._epochs.position.ended()
        self._line = None
        self._parts.pop("line", None)
        self._parts.pop("thread", None)
        if self._left > 0:
            self._left -= 1
        if self._left == 0:
            self._epochs.park()
            self.close()

    def close(self) -> None:
        """End threads and processes; a second call does nothing."""
        self._finalizer()


def _stop(parts: dict[str, Any]) -> None:
    line, thread = parts.get("line"), parts.get("thread")
    if line is not None:
        line.stop()
    parts["epochs"].close()  # a thread that waits for a worker process ends with it
    if thread is not None and thread is not threading.current_thread():
        thread.join(_PATIENCE)


def to_tensor(value: object) -> object:
    """A column's value as a Tensor; strings and dicts stay what they are.

    Memory that the pipeline has made itself is handed to JAX as it is; other arrays are copied.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind in "USO":
        return value
    if not is_own(value):
        return Tensor(value)
    with x64(value):
        return Tensor(jax.device_put(value))


class Iterator:
    """What both kinds of iterator share."""

    def __init__(self, source: Prefetch, names: Sequence[str], output_numpy: bool) -> None:
        self._source, self._numpy = source, output_numpy
        # Columns of metadata are given once `rename` has made them columns of data.
        self._which: list[int] | None = None
        if any(name.startswith(META) for name in names):
            self._which = [i for i, name in enumerate(names) if not name.startswith(META)]
            names = [names[i] for i in self._which]
        self._names = list(names)

    def __iter__(self) -> Self:
        return self

    def _row(self) -> Any:
        row = self._source.next()
        if self._which is not None:
            row = tuple(row[i] for i in self._which)
        return row if self._numpy else tuple(map(to_tensor, row))

    def get_col_names(self) -> list[str]:
        """The names of the columns."""
        return list(self._names)

    def stop(self) -> None:
        """End it, with its threads and processes; it gives no more rows."""
        self._source.close()

    release = stop


class TupleIterator(Iterator):
    """Rows as lists, in the order of the columns.

    Raises:
        TypeError, ValueError: `columns` are no names of columns.
    """

    def __init__(
        self,
        source: Prefetch,
        names: Sequence[str],
        output_numpy: bool,
        columns: ColumnNames | None = None,
    ) -> None:
        super().__init__(source, names, output_numpy)
        if columns is not None:
            listed = [columns] if isinstance(columns, str) else list(columns)
            for name in listed:
                if name not in names:
                    raise ValueError(
                        f"create_tuple_iterator: there is no column {name!r}; the columns are "
                        f"{list(names)}."
                    )
            self._which = [list(names).index(name) for name in listed]
            self._names = listed

    def __next__(self) -> list[Any]:
        return list(self._row())


class DictIterator(Iterator):
    """Rows as {name of the column: value}."""

    def __next__(self) -> dict[str, Any]:
        return dict(zip(self._names, self._row(), strict=True))
