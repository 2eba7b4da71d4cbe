"""Offsets and lengths that do not fit their ids are never silent, in compiled programs either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from paramesh import context, nn
from paramesh.ps.integration import session as sessions
from paramesh.tensor import Tensor
from paramesh.transforms import jit, value_and_grad

IDS, ROWS = 6, 12
OFFSETS = "offsets must begin with 0, ascend, and be at most the number of ids, 6; "
LENGTHS = "row_lengths must not be negative, and add up to at most the number of ids, 6; "
#: (name, values that do not fit, what is said of them where they are met before a step)
WRONG = [
    ("row_lengths", [4, 3, 0], LENGTHS + "the least is 0, and they add up to 7"),
    ("row_lengths", [4, -1, 2], LENGTHS + "the least is -1, and they add up to 5"),
    ("offsets", [0, 4, 3], OFFSETS + "the first is 0, the last 3, and the least step .* -1"),
    ("offsets", [1, 2, 3], OFFSETS + "the first is 1, the last 3"),
    ("offsets", [0, 2, 7], OFFSETS + "the first is 0, the last 7"),
]
RIGHT = {"row_lengths": [[1, 2, 3], [0, 0, 0], [6, 0, 0]], "offsets": [[0, 1, 3], [0, 6, 6]]}


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def layer(served: bool, combiner: str = "mean") -> nn.EmbeddingBag:
    bag = nn.EmbeddingBag(ROWS, 2, combiner)
    if served:
        context.set_ps_context(enable_ps=True)
        bag.set_param_ps(init_in_server=True)
    return bag


def bags_of(values: list[int], dtype: type = np.int32) -> tuple[Tensor, Tensor]:
    return Tensor(np.arange(IDS, dtype=np.int32)), Tensor(np.array(values, dtype))


def compiled(bag: nn.EmbeddingBag, name: str) -> Any:
    return jit(lambda ids, values: bag(ids, **{name: values}))


@pytest.mark.parametrize(("name", "values", "said"), WRONG)
def test_on_servers_it_is_an_error_of_the_step(name: str, values: list[int], said: str) -> None:
    dtype = np.int64 if name == "offsets" else np.int32
    bag = layer(served=True)
    step = compiled(bag, name)
    with pytest.raises(ValueError, match=rf"EmbeddingBag of 'embedding_table': {said}"):
        step(*bags_of(values, dtype))
    for fitting in RIGHT[name]:
        assert np.isfinite(step(*bags_of(fitting, dtype)).asnumpy()).all()


@pytest.mark.parametrize(
    ("combiner", "wrong"), list(zip(["mean", "max", "sum", "sqrtn"], WRONG[1:], strict=True))
)
def test_in_this_process_all_bags_are_nan(combiner: str, wrong: tuple[str, list[int], str]) -> None:
    name, values, _ = wrong
    bag = layer(served=False, combiner=combiner)
    step = compiled(bag, name)
    assert np.isnan(step(*bags_of(values)).asnumpy()).all()
    for fitting in RIGHT[name]:
        given = bags_of(fitting)
        np.testing.assert_array_equal(
            step(*given).asnumpy(), bag(given[0], **{name: given[1]}).asnumpy()
        )


def test_a_step_that_is_refused_has_trained_nothing() -> None:
    bag = layer(served=True, combiner="sum")

    class Loss(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.bag = bag

        def construct(self, ids: Tensor, lengths: Tensor) -> Tensor:
            return (self.bag(ids, row_lengths=lengths) ** 2).sum()

    step = nn.TrainOneStepCell(Loss(), nn.SGD(bag.trainable_params(), 0.1))
    first = float(step(*bags_of([1, 2, 3])))
    with pytest.raises(ValueError, match="they add up to 9"):
        step(*bags_of([3, 3, 3]))
    assert 0 < float(step(*bags_of([1, 2, 3]))) < first
    client = sessions.running()
    assert client is not None
    assert client.at == 2


def test_gradients_of_bags_that_fit_are_as_without_the_check() -> None:
    bag = layer(served=False, combiner="sum")
    ids, lengths = bags_of([1, 2, 0])
    slope = value_and_grad(
        lambda i, n: bag(i, row_lengths=n).sum(), None, weights=bag.trainable_params()
    )
    _, (mine,) = jit(slope)(ids, lengths)
    expected = np.zeros((ROWS, 2), np.float32)
    expected[:3] = 1
    np.testing.assert_array_equal(mine.asnumpy(), expected)


def test_each_device_has_its_own_ids() -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel")
    bag = layer(served=True, combiner="sum")
    step = compiled(bag, "row_lengths")
    ids = Tensor(np.arange(16, dtype=np.int32) % ROWS)
    lengths = np.array([1, 1] * 8, np.int32)
    assert np.isfinite(step(ids, Tensor(lengths)).asnumpy()).all()
    lengths[11] = 2
    with pytest.raises(ValueError, match="number of ids, 2; the least is 1, and they add up to 3"):
        step(ids, Tensor(lengths))
