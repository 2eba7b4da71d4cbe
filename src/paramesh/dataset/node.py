"""A node of a pipeline: a source or an operation, and what every one of them can be asked."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames
from paramesh.dataset.config import MOST_WORKERS
from paramesh.dataset.iterators import DictIterator, Prefetch, TupleIterator
from paramesh.dataset.position import Place, Position
from paramesh.dataset.runs import Pass, Run
from paramesh.dataset.streams import Lazy, Stream, given
from paramesh.dataset.streams import Place as Where


class Node:
    """A source or an operation, with what it takes its rows from.

    Args:
        children: the nodes it takes rows from.
        num_parallel_workers: of threads or processes; None: the setting's number.

    Raises:
        TypeError, ValueError: `num_parallel_workers` is no int of at least 1, or more than a host
            can have.
    """

    def __init__(
        self, children: Sequence[Node] = (), num_parallel_workers: int | None = None
    ) -> None:
        if num_parallel_workers is not None:
            if not isinstance(num_parallel_workers, int) or isinstance(num_parallel_workers, bool):
                raise TypeError(
                    f"{self._title()}: num_parallel_workers must be an int, "
                    f"got {num_parallel_workers!r}."
                )
            if not 1 <= num_parallel_workers <= MOST_WORKERS:
                raise ValueError(
                    f"{self._title()}: num_parallel_workers must be in [1, {MOST_WORKERS}], "
                    f"got {num_parallel_workers}."
                )
        self.children: list[Node] = list(children)
        self.num_parallel_workers = num_parallel_workers
        self._place = Place()
        self._counted: int | None = None
        self._seen_first: tuple[Any, ...] | None = None
        #: A run whose iterator is through: the next one goes on with its worker processes.
        self._parked: Run | None = None

    # What a source or an operation defines.

    def _begin(self, at: Pass) -> Lazy:
        """One epoch of it."""
        raise NotImplementedError

    def _names(self) -> list[str]:
        """The names of its columns, in order."""
        return self.children[0]._names()

    def _length(self) -> int | None:
        """Rows of one epoch, if it is known without a pass through the data."""
        return self.children[0]._length()

    def _title(self) -> str:
        return type(self).__name__

    def _detail(self) -> Any:
        """What tells it from another of its class, for `save_state`; JSON."""
        return None

    def _shard(self) -> int:
        """Which shard of a source this is; 0 where rows are not dealt out."""
        return max((child._shard() for child in self.children), default=0)

    # Rows.

    def _rows(self, at: Pass) -> Stream:
        """The rows of one epoch."""
        return at.run.rows(self._begin(at), at.path, self._title())

    def _child(self, at: Pass, which: int = 0, epoch: int | None = None) -> Lazy:
        """One epoch of a child."""
        return self.children[which]._begin(at.below(which, epoch))

    def _child_rows(self, at: Pass, which: int = 0, epoch: int | None = None) -> Stream:
        """The rows of one epoch of a child."""
        return self.children[which]._rows(at.below(which, epoch))

    def _over(self, at: Pass, place: Where, which: int = 0) -> Lazy:
        """A child's tasks for work of this node that is to run at a place: as one, if they can."""
        child = self._child(at, which)
        joint = child.place.together(place)
        if joint is not None:
            return Lazy(child.tasks, child.work, joint)
        below = at.below(which)
        rows = at.run.rows(child, below.path, self.children[which]._title())
        return Lazy(at.plain(rows).tasks, given, place)

    # What a user asks.

    def get_col_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._names())

    def get_dataset_size(self) -> int:
        """Rows (batches, after `batch`) of one epoch.

        Where that is not known otherwise (a generator, `filter`), it takes a pass through the data.
        """
        if self._counted is None:
            length = self._length()
            self._counted = self._count_rows() if length is None else length
        return self._counted

    def __len__(self) -> int:
        return self.get_dataset_size()

    def _count_rows(self) -> int:
        run = Run(self._place.coming().seed, shard=self._shard())
        rows = self._rows(Pass(run, (), self._place.coming().epoch))
        try:
            return sum(1 for _ in rows)
        finally:
            rows.close()
            run.close()

    def _first(self) -> tuple[Any, ...]:
        if self._seen_first is None:
            run = Run(self._place.coming().seed, serial=True, shard=self._shard())
            rows = self._rows(Pass(run, (), self._place.coming().epoch))
            try:
                found = next(rows, None)
            finally:
                rows.close()
                run.close()
            if found is None:
                raise RuntimeError(f"{self._title()}: there is no row whose shape could be told.")
            self._seen_first = found
            return found
        return self._seen_first

    def output_shapes(self, estimate: bool = False) -> list[list[int | None]]:
        """The shape of each column, from the first row; it is made for that.

        Args:
            estimate: look at all rows: axes that differ between them are None.

        Raises:
            TypeError: `estimate` is no bool. RuntimeError: there is no row.
        """
        if not isinstance(estimate, bool):
            raise TypeError(f"output_shapes: estimate must be a bool, got {estimate!r}.")
        if not estimate:
            return [list(np.shape(value)) for value in self._first()]
        run = Run(self._place.coming().seed, shard=self._shard())
        found: list[list[int | None]] | None = None
        rows = self._rows(Pass(run, (), self._place.coming().epoch))
        try:
            for row in rows:
                shapes: list[list[int | None]] = [list(np.shape(value)) for value in row]
                found = shapes if found is None else list(map(_merged, found, shapes))
        finally:
            rows.close()
            run.close()
        if found is None:
            raise RuntimeError(f"{self._title()}: there is no row whose shape could be told.")
        return found

    def output_types(self) -> list[Any]:
        """The numpy dtype of each column, from the first row (`np.str_` of strings)."""
        kinds: list[Any] = []
        for value in self._first():
            dtype = np.asarray(value).dtype
            kinds.append({"U": np.str_, "S": np.bytes_, "O": dict}.get(dtype.kind, dtype))
        return kinds

    def get_batch_size(self) -> int | None:
        """Rows in a batch; 1 before any `batch`."""
        return self.children[0].get_batch_size() if self.children else 1

    def get_repeat_count(self) -> int:
        """How often the data comes in one epoch (-1: without end)."""
        return self.children[0].get_repeat_count() if self.children else 1

    def num_classes(self) -> int | None:
        """Classes of the source, if it has any."""
        return self.children[0].num_classes() if self.children else None

    def get_class_indexing(self) -> dict[str, Any]:
        """The names of the classes and their numbers, if the source has any."""
        return self.children[0].get_class_indexing() if self.children else {}

    def is_shuffled(self) -> bool:
        """Whether something here shuffles."""
        return any(child.is_shuffled() for child in self.children)

    def is_sharded(self) -> bool:
        """Whether the source gives one shard."""
        return any(child.is_sharded() for child in self.children)

    # Iterators.

    def create_tuple_iterator(
        self,
        columns: ColumnNames | None = None,
        num_epochs: int = -1,
        output_numpy: bool = False,
        do_copy: bool = False,
    ) -> TupleIterator:
        """An iterator over rows as lists; each `for` over it goes through one epoch.

        Args:
            columns: the names of the ones to give, in this order; None: all.
            num_epochs: how many; -1: without end.
            output_numpy: give numpy arrays; False: Tensors.
            do_copy: MindSpore's; rows are never written to here, so it has no effect.

        Raises:
            TypeError, ValueError: an argument of another kind.
        """
        _check_iterator(num_epochs, output_numpy, do_copy)
        source = Prefetch(_Epochs(self, num_epochs, self._place.start()))
        return TupleIterator(source, self._names(), output_numpy, columns)

    def create_dict_iterator(
        self, num_epochs: int = -1, output_numpy: bool = False, do_copy: bool = False
    ) -> DictIterator:
        """An iterator over rows as dicts; each `for` over it goes through one epoch.

        Args:
            num_epochs: how many; -1: without end.
            output_numpy: give numpy arrays; False: Tensors.
            do_copy: MindSpore's; rows are never written to here, so it has no effect.

        Raises:
            TypeError, ValueError: an argument of another kind.
        """
        _check_iterator(num_epochs, output_numpy, do_copy)
        source = Prefetch(_Epochs(self, num_epochs, self._place.start()))
        return DictIterator(source, self._names(), output_numpy)

    def __iter__(self) -> Iterator[list[Any]]:
        return self.create_tuple_iterator(num_epochs=1)

    # The position.

    def set_epoch(self, epoch: int) -> None:
        """The next iterator begins with this epoch, from 1; `Model.train` calls it."""
        self._place.begin_with(epoch - 1)

    def pass_over(self, rows: int) -> None:
        """The next iterator begins behind so many rows of its epoch; they are not made."""
        self._place.pass_over(rows)

    def reset(self) -> None:
        """The next iterator begins with the next epoch; where the last one stopped is forgotten."""
        self._place.forget()

    def save_state(self) -> dict[str, Any]:
        """Where the last iterator of this dataset is: a small dict for JSON.

        It holds the seed, the epoch, the rows of it that were given, and a mark of the pipeline.
        Rows that were prefetched and not given yet do not count.
        """
        return self._place.saved() | {"pipeline": self._mark()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Let the next iterator go on where another one was, at the very row.

        Shuffling and random transforms go on as they would have; numbers that a source or function
        draws itself do not, except in worker processes, which are seeded for each row.

        Raises:
            TypeError: no state. ValueError: it is that of another pipeline.
        """
        if not isinstance(state, dict) or not {"seed", "epoch", "row"} <= state.keys():
            raise TypeError(f"load_state: must be what save_state gave, got {state!r}.")
        if state.get("pipeline", self._mark()) != self._mark():
            raise ValueError(
                "load_state: the state is that of another pipeline: build the dataset by the same "
                "operations, with the same arguments, as the one that save_state was called of."
            )
        self._place.load(state)

    def _mark(self) -> str:
        return hashlib.sha256(json.dumps(self._described()).encode()).hexdigest()[:16]

    def _described(self) -> list[Any]:
        return [type(self).__name__, self._detail(), *(c._described() for c in self.children)]

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        """A copy of the operations; sources and functions are shared."""
        new = copy.copy(self)
        memo[id(self)] = new
        new.children = [copy.deepcopy(child, memo) for child in self.children]
        new._place, new._parked, new._counted, new._seen_first = Place(), None, None, None
        return new


class _Epochs:
    """The rows of a root, one epoch after the other, and the threads and processes for them."""

    def __init__(self, root: Node, count: int, position: Position) -> None:
        self.left, self.position = count, position
        self._root = root
        parked, root._parked = root._parked, None
        if parked is not None and parked.seed != position.seed:
            parked.close()
            parked = None
        self._run: Run | None = (
            Run(position.seed, shard=root._shard()) if parked is None else parked
        )

    def begin(self) -> Stream:
        """The rows of the next epoch, from the position on."""
        here = self.position
        here.begun = True
        assert self._run is not None
        rows = self._root._rows(Pass(self._run, (), here.epoch))
        if here.row:
            rows.skip(here.row)
        return rows

    def park(self) -> None:
        """All epochs are through: keep worker processes, which take long to start."""
        if self._run is not None and self._run.has_workers() and self._root._parked is None:
            self._root._parked, self._run = self._run, None

    def close(self) -> None:
        """End threads and processes."""
        if self._run is not None:
            self._run.close()


def _merged(a: list[int | None], b: list[int | None]) -> list[int | None]:
    if len(a) != len(b):
        raise RuntimeError(f"output_shapes: rows have {len(a)} axes and {len(b)} axes.")
    return [n if n == m else None for n, m in zip(a, b, strict=True)]


def _check_iterator(num_epochs: object, output_numpy: object, do_copy: object) -> None:
    if not isinstance(num_epochs, int) or isinstance(num_epochs, bool):
        raise TypeError(f"num_epochs must be an int, got {num_epochs!r}.")
    if num_epochs < 1 and num_epochs != -1:
        # MindSpore's class for 0.
        kind = RuntimeError if num_epochs == 0 else ValueError  # as in MindSpore
        raise kind(f"num_epochs must be at least 1, or -1, got {num_epochs}.")
    for name, value in (("output_numpy", output_numpy), ("do_copy", do_copy)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool, got {value!r}.")
