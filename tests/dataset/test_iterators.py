"""Iterators: epochs, order, positions, and their end."""

from __future__ import annotations

import functools
import gc
import json
import operator
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds
from paramesh.dataset import arrays
from paramesh.tensor import Tensor


class Rows:
    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __getitem__(self, index: int) -> Any:
        return np.array([index, index], np.float32), np.int32(index)

    def __len__(self) -> int:
        return self.count


class Noise:
    """A random transform, by the contract of `paramesh.dataset.vision`."""

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self.rng = rng

    def seeded(self, rng: np.random.Generator) -> Noise:
        return Noise(rng)

    def __call__(self, x: Any) -> Any:
        assert self.rng is not None
        return (x + self.rng.standard_normal(x.shape)).astype(np.float32)


@pytest.fixture(autouse=True)
def settings():
    yield
    ds.config.reset()


def order(data: Any, name: str = "y") -> list[Any]:
    return [row[name].tolist() for row in data.create_dict_iterator(1, output_numpy=True)]


def whole(data: Any) -> list[Any]:
    return [row["x"].tolist() for row in data.create_dict_iterator(1, output_numpy=True)]


def pipelines() -> dict[str, Any]:
    """Pipelines whose order and numbers depend on chance, in every way there is."""

    def rows(**arguments: Any) -> Any:
        return ds.GeneratorDataset(Rows(), ["x", "y"], **arguments)

    def streamed() -> Any:
        return ds.GeneratorDataset(lambda: iter(Rows(10)[i] for i in range(10)), ["x", "y"])

    return {
        "sampler": rows(),
        "noise": rows().map(Noise(), "x"),
        "threads": rows().map(Noise(), "x", num_parallel_workers=3).batch(3),
        "window": rows(shuffle=False).shuffle(4).map(Noise(), "x").batch(2),
        "streamed": streamed().shuffle(4).map(Noise(), "x"),
        "repeat": rows().map(Noise(), "x").repeat(3).batch(4, drop_remainder=True),
        "filter": rows().map(Noise(), "x").filter(lambda y: y % 2 == 0, "y").shuffle(3),
        "zip": rows().map(Noise(), "x").zip(rows().rename(["x", "y"], ["a", "b"])),
        "concat": (rows().map(Noise(), "x") + rows()).shuffle(5),
        "batches": rows().map(Noise(), "x").batch(4) + rows().batch(4),
        "nested": rows().map(Noise(), "x").repeat(2).shuffle(3).repeat(2).batch(7),
        "take": rows().skip(2).take(7).map(lambda x: x + 1, "x").shuffle(3).batch(2),
        "buckets": rows().map(Noise(), "x").bucket_batch_by_length("x", [3], [3, 3]),
        "sized": rows().map(Noise(), "x").batch(lambda info: info.get_batch_num() + 1),
    }


@pytest.mark.parametrize("name", pipelines())
def test_a_state_goes_on_at_the_very_row(name: str) -> None:
    ds.config.set_seed(3)
    straight = pipelines()[name]
    size = straight.get_dataset_size()
    expected = [whole(straight) for _ in range(2)]
    for stop in range(1, size):
        ds.config.set_seed(3)
        first = pipelines()[name]
        list(first.create_tuple_iterator(num_epochs=1))
        iterator = first.create_dict_iterator(output_numpy=True)
        seen = [next(iterator)["x"].tolist() for _ in range(stop)]
        state = json.loads(json.dumps(first.save_state()))
        ds.config.set_seed(99)
        second = pipelines()[name]
        second.load_state(state)
        assert seen + whole(second) == expected[1]


def test_functions_of_batches_are_told_the_epoch_of_the_pipeline() -> None:
    """As recorded from MindSpore 2.10: repetitions are of one epoch, and begin with batch 0."""

    def told(column: Any, info: Any) -> Any:
        return [[info.get_epoch_num(), info.get_batch_num()] for _ in column]

    def batches() -> Any:
        rows = ds.NumpySlicesDataset(np.arange(4), ["x"], shuffle=False)
        return rows.batch(2, per_batch_map=told, input_columns=["x"])

    def seen(pipeline: Any) -> Any:
        iterator = pipeline.create_tuple_iterator(num_epochs=2, output_numpy=True)
        return [[row[0][0].tolist() for row in iterator] for _ in range(2)]

    assert seen(batches()) == [[[0, 0], [0, 1]], [[1, 0], [1, 1]]]
    twice = [[[0, 0], [0, 1]] * 2, [[1, 0], [1, 1]] * 2]
    assert seen(batches().repeat(2)) == twice
    assert seen(batches().map(lambda x: x, "x").repeat(2)) == twice
    four = [[[0, 0], [0, 1]] * 4, [[1, 0], [1, 1]] * 4]
    assert seen(batches().repeat(2).repeat(2)) == four
    endless = batches().repeat().take(5).create_tuple_iterator(num_epochs=1, output_numpy=True)
    assert [row[0][0].tolist() for row in endless] == [[0, 0], [0, 1], [0, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("name", pipelines())
def test_the_same_seed_gives_the_same_rows_and_each_epoch_others(name: str) -> None:
    ds.config.set_seed(3)
    first = pipelines()[name]
    iterator = first.create_dict_iterator(num_epochs=2, output_numpy=True)
    epochs = [[row["x"].tolist() for row in iterator] for _ in range(2)]
    ds.config.set_seed(3)
    second = pipelines()[name]
    assert [whole(second), whole(second)] == epochs
    assert epochs[0] != epochs[1]


def test_without_a_seed_two_datasets_differ() -> None:
    big = [ds.GeneratorDataset(Rows(50), ["x", "y"]) for _ in range(2)]
    assert order(big[0]) != order(big[1])


def test_shards_without_a_seed_take_different_rows() -> None:
    shards = [ds.GeneratorDataset(Rows(12), ["x", "y"], num_shards=3, shard_id=i) for i in range(3)]
    assert sorted(functools.reduce(operator.iadd, map(order, shards), [])) == list(range(12))
    assert order(shards[0]) != order(shards[0])


def test_setting_the_seed_again_begins_anew() -> None:
    data = ds.GeneratorDataset(Rows(), ["x", "y"])
    ds.config.set_seed(1)
    first = [order(data), order(data)]
    ds.config.set_seed(1)
    assert [order(data), order(data)] == first


def test_subsets_of_a_split_stay_disjoint_in_every_epoch() -> None:
    train, test = ds.GeneratorDataset(Rows(), ["x", "y"]).split([0.7, 0.3])
    for _ in range(2):
        assert sorted(order(train) + order(test)) == list(range(10))
    train.use_sampler(ds.SequentialSampler(0, 2))
    assert len(order(train)) == 2


def test_split_of_a_shuffled_source_without_randomize_stays_disjoint() -> None:
    parts = ds.GeneratorDataset(Rows(), ["x", "y"]).split([5, 5], randomize=False)
    assert sorted(functools.reduce(operator.iadd, map(order, parts), [])) == list(range(10))


def test_state_of_another_pipeline_is_refused() -> None:
    rows = ds.GeneratorDataset(Rows(), ["x", "y"])
    state = rows.batch(2).save_state()
    with pytest.raises(ValueError, match="that of another pipeline: build the dataset by the same"):
        rows.batch(3).load_state(state)
    with pytest.raises(TypeError, match="load_state: must be what save_state gave, got 3"):
        rows.load_state(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="load_state: must be what save_state gave"):
        rows.load_state({"seed": 1, "epoch": -1, "row": 0})


def test_passing_over_reads_no_row() -> None:
    read: list[int] = []

    class Source(Rows):
        def __getitem__(self, index: int) -> Any:
            read.append(index)
            return super().__getitem__(index)

    data = (
        ds.GeneratorDataset(Source(100), ["x", "y"], shuffle=False).map(lambda x: x, "x").batch(5)
    )
    ds.config.set_prefetch_size(1)
    data.pass_over(18)
    assert order(data)[0] == [90, 91, 92, 93, 94]
    assert min(read) == 90


def test_an_iterator_that_was_broken_off_counts_as_an_epoch() -> None:
    ds.config.set_seed(1)
    data = ds.GeneratorDataset(Rows(), ["x", "y"])
    expected = [order(data), order(data)]
    ds.config.set_seed(1)
    next(data.create_tuple_iterator())
    assert order(data) == expected[1]
    next(data.create_tuple_iterator())
    data.reset()
    assert data.save_state()["row"] == 0


def test_several_iterators_of_one_dataset_do_not_disturb_each_other() -> None:
    data = ds.GeneratorDataset(Rows(), ["x", "y"], shuffle=False)
    a, b = (data.create_dict_iterator(1, output_numpy=True) for _ in range(2))
    pairs = [(int(next(a)["y"]), int(next(b)["y"])) for _ in range(10)]
    assert pairs == [(i, i) for i in range(10)]


def test_epochs_of_one_iterator_end_with_an_error_that_says_so() -> None:
    iterator = ds.GeneratorDataset(Rows(2), ["x", "y"]).create_tuple_iterator(num_epochs=2)
    assert [len(list(iterator)) for _ in range(2)] == [2, 2]
    with pytest.raises(RuntimeError, match="has given all its epochs"):
        next(iterator)


def test_tensors_take_over_memory_of_batches_and_copy_that_of_users() -> None:
    mine = np.zeros((4, 16), np.float32)
    row = next(iter(ds.GeneratorDataset([(mine,)], ["x"]).create_tuple_iterator(num_epochs=1)))
    mine[:] = 1
    assert float(row[0].sum()) == 0
    data = ds.NumpySlicesDataset(np.ones((4, 16), np.int64)).batch(4)
    (batch,) = next(data.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert arrays.is_own(batch)
    assert not arrays.is_own(mine)
    (tensor,) = next(data.create_tuple_iterator(num_epochs=1))
    assert isinstance(tensor, Tensor)
    assert str(tensor.dtype) == "Int64"


def test_strings_and_dicts_stay_what_they_are() -> None:
    data = ds.GeneratorDataset([("a", {"k": 1})], ["s", "d"], shuffle=False)
    row = next(data.create_dict_iterator(num_epochs=1))
    assert row["s"].item() == "a"
    assert row["d"] == {"k": 1}


def test_dropped_iterators_end_their_threads() -> None:
    before, data = threading.active_count(), None
    for _ in range(3):
        data = ds.GeneratorDataset(Rows(1000), ["x", "y"]).map(Noise(), "x", num_parallel_workers=2)
        next(data.create_dict_iterator(output_numpy=True))
    del data
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("paramesh-dataset"):
            thread.join(10)
    assert threading.active_count() <= before


class _Batches:
    """A source that reads a batch by the array of its indices, as MindSpore 1 lets it."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        assert index.shape == (3,)
        return (index * 10, index[:1])


class _Rows(ds.Sampler):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        super().__init__(len(rows))

    def __iter__(self) -> Any:
        return iter(self.rows)


def test_a_sampler_may_give_rows_of_indices(tmp_path: Path) -> None:
    rows = [np.array([4, 0, 2]), np.array([1, 3, 5])]
    data = ds.GeneratorDataset(_Batches(), ["x", "first"], sampler=_Rows(rows))
    got = [row["x"].tolist() for row in data.create_dict_iterator(1, output_numpy=True)]
    assert got == [[40, 0, 20], [10, 30, 50]]
    assert data.get_dataset_size() == 2
    uneven = ds.GeneratorDataset(_Batches(), ["x", "first"], sampler=_Rows([[1, 2], [3]]))
    with pytest.raises(RuntimeError, match=r"as many in each row; got shapes \[\(1,\), \(2,\)\]"):
        next(uneven.create_dict_iterator())
    np.zeros((6, 3073), np.uint8).tofile(tmp_path / "data_batch_1.bin")
    images = ds.Cifar10Dataset(str(tmp_path), sampler=_Rows(rows))
    with pytest.raises(RuntimeError, match="_Rows gives rows of indices; this source reads one"):
        next(images.create_dict_iterator())


def test_an_error_comes_at_its_row_with_the_users_line() -> None:
    def divide(y: Any) -> Any:
        return np.int32(6 // int(3 - y))  # the line

    data = ds.GeneratorDataset(Rows(), ["x", "y"], shuffle=False)
    for workers in (None, 2):
        iterator = data.map(divide, "y", num_parallel_workers=workers).create_dict_iterator(
            1, output_numpy=True
        )
        assert [int(next(iterator)["y"]) for _ in range(3)] == [2, 3, 6]
        with pytest.raises(RuntimeError, match=r"map, column 'y': .*divide raised Zero") as caught:
            next(iterator)
        assert "# the line" in str(caught.value)
        with pytest.raises(RuntimeError, match="This iterator ended with an error"):
            next(iterator)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_debug_mode_runs_in_the_thread_that_asks() -> None:
    ds.config.set_debug_mode(True)
    seen: set[str] = set()

    def note(x: Any) -> Any:
        seen.add(threading.current_thread().name)
        return x

    data = ds.GeneratorDataset(Rows(), ["x", "y"]).map(note, "x", num_parallel_workers=4)
    assert len(order(data)) == 10
    assert seen == {threading.main_thread().name}


def test_random_numbers_do_not_depend_on_the_number_of_workers() -> None:
    found = []
    for workers in (1, 2, 5):
        ds.config.set_seed(7)
        data = ds.GeneratorDataset(Rows(), ["x", "y"]).map(
            Noise(), "x", num_parallel_workers=workers
        )
        found.append(whole(data))
    assert found[0] == found[1] == found[2]
    assert len(np.unique(found[0])) == 20


def test_shards_of_one_seed_draw_different_numbers() -> None:
    ds.config.set_seed(7)
    drawn = []
    for shard in range(2):
        data = ds.GeneratorDataset([np.zeros(2)] * 8, ["x"], num_shards=2, shard_id=shard)
        drawn.append(whole(data.map(Noise(), "x")))
    assert len(np.unique(drawn)) == 16
