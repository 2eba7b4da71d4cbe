"""What scripts ask Tensors about their memory, and the methods that put elements in places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor
from paramesh.errors import ValueNeededError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_memory() -> None:
    x = Tensor(X)
    assert x.stride() == [3, 1]
    assert [x.stride(at) for at in (0, 1, -1)] == [3, 1, 1]
    assert Tensor(1.0).stride() == []
    assert (x.storage_offset(), x.is_pinned(), x.is_shared()) == (0, False, False)
    assert x.pin_memory() is x
    assert x.get_bytes() == X.tobytes()
    assert isinstance(x.data_ptr(), int)
    assert x.device == "CPU"
    assert x.move_to("Ascend").asnumpy().tolist() == X.tolist()
    with pytest.raises(IndexError, match="2 axes have no axis 2"):
        x.stride(2)
    with pytest.raises(ValueError, match="to must be one of CPU"):
        x.move_to("disk")


def test_memory_in_programs() -> None:
    @paramesh.jit
    def ask(x: Any) -> Any:
        assert x.device == "CPU"
        with pytest.raises(ValueNeededError, match="no addresses"):
            x.data_ptr()
        return x * x.stride(0)

    assert ask(Tensor(X)).asnumpy().tolist() == (3 * X).tolist()


@pytest.mark.parametrize("accumulate", [False, True])
def test_elements_put_in_places(accumulate: bool) -> None:
    wanted = X.copy()
    np.put(wanted, [4, 0], [7, 8])
    x = Tensor(X)
    assert x.put_(Tensor([4, 0]), Tensor([7.0, 8.0]), accumulate) is x
    moved = wanted + (X * np.isin(np.arange(6), [4, 0]).reshape(2, 3) if accumulate else 0)
    assert x.asnumpy().tolist() == moved.tolist()
    rows, columns = np.array([1, 0]), np.array([2, 1])
    placed = Tensor(X).index_put((Tensor(rows), Tensor(columns)), Tensor([9.0, 8.0]), accumulate)
    wanted = X.copy()
    wanted[rows, columns] = np.array([9, 8]) + (X[rows, columns] if accumulate else 0)
    assert placed.asnumpy().tolist() == wanted.tolist()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (5, 2), (2, 2, 2)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape: tuple[int, ...], wrap: bool) -> None:
    wanted = np.zeros(shape, np.float32)
    np.fill_diagonal(wanted, 3.0, wrap)
    found = Tensor(np.zeros(shape, np.float32)).fill_diagonal_(3.0, wrap)
    assert found.asnumpy().tolist() == wanted.tolist()


def test_other_writes() -> None:
    x = Tensor(X)
    rows = Tensor(np.full((1, 3), 9, np.float32))
    assert x.index_copy_(0, Tensor([1]), rows).asnumpy().tolist() == [[0, 1, 2], [9, 9, 9]]
    assert Tensor([-7.0, 7.0]).floor_divide_(2).asnumpy().tolist() == [-4, 3]
    assert Tensor([-7.0, 0.0, 7.0]).sign_().asnumpy().tolist() == [-1, 0, 1]
    product = Tensor(np.ones((2, 2), np.float32)).addmm_(Tensor(X), Tensor(X.T), alpha=2)
    assert product.asnumpy().tolist() == (1 + 2 * X @ X.T).tolist()


def test_unique_and_kthvalue() -> None:
    x = Tensor(np.array([[3, 1, 3], [2, 1, 2]]))
    assert x.unique().asnumpy().tolist() == [1, 2, 3]
    kept, inverse, counts = x.unique(True, True, True)
    assert kept.asnumpy()[inverse.asnumpy()].tolist() == x.asnumpy().tolist()
    assert counts.asnumpy().tolist() == [2, 2, 2]
    assert x.unique(dim=1).asnumpy().tolist() == [[1, 3], [1, 2]]
    value, place = x.kthvalue(2, 1)
    assert (value.asnumpy().tolist(), place.asnumpy().tolist()) == ([3, 2], [0, 0])
    with pytest.raises(ValueError, match="k must be from 1 to 3"):
        x.kthvalue(4)


def test_rounding_and_matrices() -> None:
    assert round(Tensor(2.567), 2).asnumpy() == np.float32(2.57)
    assert round(Tensor([2.5, 3.5])).asnumpy().tolist() == [2, 4]
    assert Tensor(X).mT.asnumpy().tolist() == X.T.tolist()
    assert Tensor(np.array([[1j]])).mH.asnumpy().tolist() == [[-1j]]
    with pytest.raises(ValueError, match="mT needs two axes"):
        Tensor([1.0]).mT  # noqa: B018 - the error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.put_(Tensor([1, 2]), Tensor([1.0])), "source must have 2 elements"),
        (lambda x: x[0].fill_diagonal_(1.0), "a matrix or axes of one size"),
        (lambda x: x.sum_to_size(2, 2), "does not broadcast"),
        (lambda x: x.fills(Tensor([1.0, 2.0])), "value must be one number"),
    ],
)
def test_refusals(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Tensor(X))
