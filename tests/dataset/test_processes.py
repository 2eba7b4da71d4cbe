"""Worker processes: the same rows, errors with the user's line, and their end."""

from __future__ import annotations

import functools
import logging
import operator
import os
import signal
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from paramesh import dataset as ds
from paramesh.dataset import arrays
from paramesh.dataset.segments import Mappings, Pool, Segment

# Workers cannot import a module of the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Rows:
    def __getitem__(self, index: int) -> Any:
        if index == 17:
            raise KeyError("no seventeen")  # the line
        return np.full((64, 64, 5), index, np.float32), np.int32(os.getpid()), np.random.rand()

    def __len__(self) -> int:
        return 18


def test_workers_give_the_same_rows_in_order_and_errors_and_are_kept_over_epochs() -> None:
    ds.config.set_seed(1)
    data = ds.GeneratorDataset(
        Rows(), ["x", "pid", "r"], sampler=list(range(12)), num_parallel_workers=2
    ).batch(2)
    rows: list[Any] = []
    for _ in range(2):
        iterator = data.create_dict_iterator(num_epochs=1, output_numpy=True)
        held = list(iterator)  # memory is not used again while somebody has it
        rows.append([(r["x"][:, 0, 0, 0].tolist(), set(r["pid"]), list(r["r"])) for r in held])
    for epoch in rows:
        assert functools.reduce(operator.iadd, (each[0] for each in epoch), []) == list(range(12))
    pids = [set().union(*(each[1] for each in epoch)) for epoch in rows]
    assert pids[0] == pids[1]
    assert len(pids[0]) == 2
    assert os.getpid() not in pids[0]
    # The global generators are seeded for each task, of which this one has two rows.
    numbers = [number for epoch in rows for each in epoch for number in each[2]]
    assert len(set(numbers)) == 24

    ds.config.reset()
    bad = ds.GeneratorDataset(
        Rows(), ["x", "pid", "r"], sampler=[3, 17], num_parallel_workers=2
    ).create_dict_iterator(output_numpy=True)
    assert next(bad)["x"][0, 0, 0] == 3
    with pytest.raises(RuntimeError, match=r"Rows\[17\] raised KeyError: 'no seventeen'") as caught:
        next(bad)
    assert "# the line" in str(caught.value)


def test_a_killed_worker_is_an_error_and_the_others_end() -> None:
    data = ds.GeneratorDataset(Rows(), ["x", "pid", "r"], shuffle=False, num_parallel_workers=2)
    iterator = data.create_dict_iterator(output_numpy=True)
    pids = {int(next(iterator)["pid"]) for _ in range(2)}
    victim = pids.pop()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"exit code -9 \(killed; is there enough memory\?\)"):
        list(iterator)
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(pids.pop(), 0)


def test_work_that_cannot_be_pickled_runs_in_this_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "open").open("w") as file:
        data = ds.GeneratorDataset(list(range(4)), ["x"], shuffle=False).map(
            lambda x: (file, x, os.getpid())[1:],
            output_columns=["x", "pid"],
            python_multiprocessing=True,
            num_parallel_workers=2,
        )
        iterator = data.create_dict_iterator(num_epochs=2, output_numpy=True)
        for _ in range(2):
            rows = [(int(row["x"]), int(row["pid"])) for row in iterator]
            assert rows == [(i, os.getpid()) for i in range(4)]
    (said,) = [record.getMessage() for record in caplog.records]
    assert "cannot be sent to worker processes (PicklingError: Cannot pickle files" in said
    assert "so it runs in this process. Open files and connections in __getitem__" in said


def taken(pool: Pool, size: int) -> tuple[Segment, np.ndarray]:
    array = np.asarray(pool.take(size))
    segment = pool.holding(array.data)
    assert segment is not None
    return segment, array


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="rows are sent in messages")
def test_segments_are_used_again_when_neither_side_has_them() -> None:
    pool, mappings = Pool(), Mappings()
    segment, array = taken(pool, 1 << 17)
    segment.sent = segment.there = True
    mappings.add(segment.number, segment.descriptor)
    seen = mappings.array(segment.number, 1000)
    array[:1000] = 7
    assert (seen == 7).all()
    assert arrays.is_own(seen)
    part = seen[500:]
    del seen, array
    pool.settle(*mappings.settled())
    assert taken(pool, 1 << 17)[0] is not segment, "the pipeline has a part of it"
    del part
    pool.settle(*mappings.settled())
    assert taken(pool, (1 << 17) - 64)[0] is segment


def _send(pool: Pool, mappings: Mappings, count: int) -> None:
    """Arrays that both sides have at a time, and then neither."""
    held = [taken(pool, 1 << 20) for _ in range(count)]
    for segment, _ in held:
        segment.sent = segment.there = True
        mappings.add(segment.number, segment.descriptor)
    views = [mappings.array(segment.number, 8) for segment, _ in held]
    assert len(views) == count


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="rows are sent in messages")
def test_a_few_segments_wait_and_others_are_let_go() -> None:
    pool, mappings = Pool(), Mappings()
    _send(pool, mappings, 6)
    freed, dropped = mappings.settled()
    assert (len(freed), len(dropped)) == (3, 3)
    pool.settle(freed, dropped)
    again = [taken(pool, 1 << 20) for _ in range(6)]
    assert sorted(freed) == [each.number for each, _ in again if each.sent]
    # Those that are never sent, likewise.
    several = [taken(pool, 1 << 22)[1] for _ in range(6)]
    places = {array.ctypes.data for array in several}
    del several
    several = [taken(pool, 1 << 22)[1] for _ in range(6)]
    assert len(places & {array.ctypes.data for array in several}) >= 3


class Named(logging.Logger):
    """A logger as projects define it: not one that `getLogger` knows."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.rank = 3


@pytest.mark.slow
def test_loggers_and_arguments_are_sent_to_workers() -> None:
    mine = Named("mine")
    mine.addHandler(logging.StreamHandler())
    known = logging.getLogger("known")
    data = ds.GeneratorDataset([1, 2], ["x"], shuffle=False).map(
        lambda x: (
            mine.rank,
            mine.handlers == [],
            mine.isEnabledFor(40),
            known.name,
            len(sys.argv),
        ),
        output_columns=["rank", "bare", "enabled", "known", "arguments"],
        python_multiprocessing=True,
        num_parallel_workers=2,
    )
    row = next(data.create_tuple_iterator(output_numpy=True))
    assert [each.item() for each in row] == [3, True, True, "known", len(sys.argv)]
