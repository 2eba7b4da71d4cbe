"""Tensors from arrays of other libraries, over DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import Parameter, Tensor, ops


class Foreign:
    """An array that speaks DLPack and nothing else, as torch's do."""

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        self.array, self.requires_grad = array, requires_grad

    def detach(self) -> Foreign:
        return Foreign(self.array)

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise RuntimeError("Can't export tensors that require gradient")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "int8", "bool", "float16"])
def test_values_types_and_their_own_memory(kind: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    tensor = Tensor(Foreign(array))
    assert tensor.dtype.np_dtype == array.dtype
    np.testing.assert_array_equal(tensor.asnumpy(), array)
    array[0, 0] = 1
    assert not tensor.asnumpy()[0, 0]


def test_what_is_differentiated_elsewhere_is_detached() -> None:
    array = np.ones(3, np.float32)
    assert Tensor(Foreign(array, requires_grad=True), dtype="float16").dtype.long_name == "float16"


def test_what_cannot_be_taken_over() -> None:
    with pytest.raises(TypeError, match=r"A \w+\.Foreign cannot be taken over .*DLPack"):
        Tensor(Foreign(np.array([1], np.longdouble)))


def test_operators_take_them() -> None:
    array = np.array([-1.0, 2.0], np.float32)
    given: Any = Foreign(array)
    assert ops.relu(given).tolist() == [0.0, 2.0]
    assert (Tensor(array) + given).tolist() == [-2.0, 4.0]
    assert Parameter(given, name="w").asnumpy().tolist() == [-1.0, 2.0]


def test_an_operator_that_cannot_take_one_says_so() -> None:
    given: Any = Foreign(np.array([1], np.longdouble))
    given.shape, given.dtype = (1,), "torch.longdouble"
    with pytest.raises(TypeError, match=r"ops.relu: .* DLPack .*\n.*input=torch.longdouble\[1\]"):
        ops.relu(given)
