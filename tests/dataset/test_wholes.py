"""Batches that are made without each row: the same numbers, errors and memory as row by row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds
from paramesh.dataset import arrays, transforms, vision
from paramesh.dataset.operations.mapping import Mapped
from paramesh.dataset.sources.base import Fetched

ROW_BY_ROW: Callable[..., Any] = lambda self, tasks: None  # noqa: E731


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    ds.config.set_seed(3)
    yield
    ds.config.reset()


class Doubled(transforms.TypeCast):
    """Of a user: that it is elementwise cannot be known."""

    def __call__(self, array: Any) -> np.ndarray:
        return super().__call__(array) * (2 if array.ndim < 4 else 3)


def images(kind: type = np.uint8, channels: int = 3) -> np.ndarray:
    data = np.random.default_rng(1).random((11, 5, 6, channels)) * 255
    return data.astype(kind)


def source(columns: Any, **options: Any) -> Any:
    names = ["x", "y"][: len(columns)]
    return ds.NumpySlicesDataset(tuple(columns), names, **options)


def batches(data: Any) -> list[tuple[np.ndarray, ...]]:
    return list(data.create_tuple_iterator(num_epochs=1, output_numpy=True))


def outcome(data: Any) -> Any:
    try:
        return batches(data)
    except Exception as error:
        return type(error), str(error)


def assert_same(made: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert made == expected
        return
    assert len(made) == len(expected)
    for one, other in zip(itertools.chain(*made), itertools.chain(*expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        assert arrays.is_own(one) is arrays.is_own(other)


def linear(channels: int) -> list[Any]:
    by_channel = [50.0 + i for i in range(channels)]
    return [
        vision.Rescale(1 / 255.0, 0.0),
        vision.Rescale(0.3, -1.0),
        vision.Normalize([120.0] * channels, by_channel),
        vision.HWC2CHW(),
        vision.ToTensor(),
        transforms.TypeCast(np.float32),
        transforms.TypeCast(np.int8),
        vision.Normalize([1.0] * 4, [2.0] * 4),  # an error
        vision.Normalize([0.5], [1.5], is_hwc=False),
        vision.HorizontalFlip(),
        transforms.Compose([vision.HWC2CHW(), vision.Rescale(0.1, 0.2)]),
        Doubled(np.float32),
        lambda image: image[::2],
        vision.RandomHorizontalFlip(),
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_batches_are_those_of_rows(
    kind: type, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains = [*itertools.product(linear(channels), repeat=1)]
    chains += itertools.islice(itertools.product(linear(channels), repeat=2), channels, None, 9)
    data = (images(kind, channels), np.arange(11))

    def made() -> list[Any]:
        ds.config.set_seed(3)
        return [outcome(source(data, shuffle=True).map(list(c), "x").batch(4)) for c in chains]

    found = made()
    monkeypatch.setattr(Fetched, "whole", ROW_BY_ROW)
    for one, other in zip(found, made(), strict=True):
        assert_same(one, other)


COLUMNS = {
    "labels": np.arange(11),
    "flags": np.arange(11) % 2 == 0,
    "rows of numbers": np.arange(33.0).reshape(11, 3),
    "strings": np.array([f"row {i}" for i in range(11)]),
    "lists": [np.arange(3) + i for i in range(11)],
    "large rows": np.zeros((11, 5000), np.float32),
}
PIPELINES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda data: data,
    "cast": lambda data: data.map(transforms.TypeCast(np.float16), "x"),
    "projected": lambda data: data.map(transforms.TypeCast(np.int32), "x", "z").project(["y", "z"]),
    "ordered": lambda data: data.project(["y", "x"]).rename("x", "z"),
    "shuffled and repeated": lambda data: data.shuffle(5).repeat(2),
    "passed over": lambda data: data.skip(3).take(7),
    "two columns into one": lambda data: data.map(lambda x, y: (x,), ["x", "y"], "x"),
    "one column into two": lambda data: data.map(lambda x: (x, x), "x", ["x", "z"]),
}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("column", COLUMNS)
def test_pipelines_give_what_they_give_row_by_row(
    column: str, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Any:
        ds.config.set_seed(3)
        data = source((COLUMNS[column], np.arange(11, dtype=np.int16)), shuffle=False)
        return outcome(PIPELINES[pipeline](data).batch(3, drop_remainder=True))

    found = made()
    monkeypatch.setattr(Fetched, "whole", ROW_BY_ROW)
    assert_same(found, made())


@pytest.mark.parametrize(
    ("chain", "rows"),
    [
        ([vision.Rescale(0.1, 1.0), vision.HWC2CHW()], 0),
        ([vision.HorizontalFlip(), vision.HWC2CHW()], 11),
        ([vision.RandomVerticalFlip(), vision.HWC2CHW()], 11),
        ([Doubled(np.float32)], 11),
    ],
    ids=["linear", "mirrored", "random", "of a user"],
)
def test_rows_are_made_only_where_they_must_be(
    chain: list[Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    waiting = Mapped.waiting

    def counted(self: Mapped, task: Any) -> Any:
        nonlocal seen
        seen += 1
        return waiting(self, task)

    monkeypatch.setattr(Mapped, "waiting", counted)
    assert len(batches(source((images(),)).map(chain, "x").batch(4))) == 3
    assert seen == rows


def test_batches_are_nobody_elses_memory() -> None:
    data = np.arange(12.0).reshape(6, 2)
    (batch,) = batches(source((data,), shuffle=False).batch(6))
    batch[0][:] = -1
    np.testing.assert_array_equal(data, np.arange(12.0).reshape(6, 2))
