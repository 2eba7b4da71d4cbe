"""Operators that write Parameters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import DTypeLike

import paramesh.ops as ops
from paramesh.errors import ParameterDtypeError, ParameterShapeError
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from paramesh.transforms import jit
from type_checks import wrong

FORMS = {
    "function": (ops.assign, ops.assign_add, ops.assign_sub),
    "class": (ops.Assign(), ops.AssignAdd(), ops.AssignSub()),
    "compiled": tuple(map(jit, (ops.assign, ops.assign_add, ops.assign_sub))),
}
forms = pytest.mark.parametrize("form", FORMS)


def param(values=(1, 1), dtype: DTypeLike = np.float32) -> Parameter:
    return Parameter(Tensor(np.array(values, dtype)), name="w")


@forms
def test_values(form: str) -> None:
    assign, add, sub = FORMS[form]
    p = param()
    for fn, expected in ((assign, [2, 3]), (add, [4, 6]), (sub, [2, 3])):
        result = fn(p, Tensor([2.0, 3.0]))
        assert type(result) is Tensor
        assert p.asnumpy().tolist() == result.asnumpy().tolist() == expected


@forms
def test_other_element_types(form: str) -> None:
    assign, add, sub = FORMS[form]
    for fn, expected in ((assign, [2, 3]), (add, [3, 4]), (sub, [-1, -2])):
        p = param()
        fn(p, Tensor(np.array([2, 3], np.float16)))
        assert p.dtype.long_name == "float32"
        assert p.asnumpy().tolist() == expected
        for dtype in (np.float16, np.int32):
            p = param(dtype=dtype)
            with pytest.raises(ParameterDtypeError, match="'w' is .*Float32 data"):
                fn(p, Tensor(np.array([2, 3], np.float32)))
            assert p.asnumpy().tolist() == [1, 1]


@forms
def test_other_shapes(form: str) -> None:
    for fn in FORMS[form]:
        p = param()
        with pytest.raises(ParameterShapeError, match=r"'w' has shape \(2,\).*\(3,\)"):
            fn(p, Tensor(np.ones(3, np.float32)))
        assert p.asnumpy().tolist() == [1, 1]


def test_numbers() -> None:
    p = param(dtype=np.int32)
    assert ops.assign_add(p, 2).asnumpy().tolist() == [3, 3]
    with pytest.raises(ParameterDtypeError, match="the number 0.5"):
        ops.assign_add(p, 0.5)
    count = Parameter(0, name="count")
    assert ops.assign(count, 5).asnumpy() == 5
    wide = param(dtype=np.float64)
    assert ops.assign_sub(wide, 1e-12).asnumpy()[0] == 1 - 1e-12


@forms
def test_only_parameters(form: str) -> None:
    for fn in FORMS[form]:
        with pytest.raises(TypeError, match="variable must be a Parameter.*got Tensor"):
            fn(wrong(Tensor([1.0])), Tensor([1.0]))


def test_result_outlives_the_next_step() -> None:
    p = param()
    result = ops.assign(p, Tensor([2.0, 3.0]))
    jit(lambda: ops.assign_add(p, 1.0))()
    assert result.asnumpy().tolist() == [2, 3]
    assert p.asnumpy().tolist() == [3, 4]


def test_writes_in_a_program_are_read_there() -> None:
    p = param()

    @jit
    def program(x):
        ops.assign_add(p, x)
        return p * 10

    assert program(Tensor([1.0, 2.0])).asnumpy().tolist() == [20, 30]
    assert p.asnumpy().tolist() == [2, 3]


@pytest.mark.parametrize("compiled", [False, True])
def test_scatter(compiled: bool) -> None:
    p = param([[1, 1], [2, 2], [3, 3]])
    rows, places = np.array([2, 0], np.int32), np.array([[0, 1], [2, 0]], np.int32)
    twice = np.array([1, 1], np.int32)
    change = np.array([[10, 20], [30, 40]], np.float32)
    for fn, cls, index, updates, expected in (
        (ops.scatter_update, ops.ScatterUpdate, rows, change, [[30, 40], [2, 2], [10, 20]]),
        (ops.scatter_add, ops.ScatterAdd, twice, change, [[1, 1], [42, 62], [3, 3]]),
        (ops.scatter_nd_update, ops.ScatterNdUpdate, places, change[0], [[1, 10], [2, 2], [20, 3]]),
        (ops.scatter_nd_add, ops.ScatterNdAdd, places, change[0], [[1, 11], [2, 2], [23, 3]]),
    ):
        for form in (fn, cls()):
            ops.assign(p, Tensor(np.array([[1, 1], [2, 2], [3, 3]], np.float32)))
            call = jit(form) if compiled and form is fn else form
            result = call(p, Tensor(index), Tensor(updates))
            assert p.asnumpy().tolist() == result.asnumpy().tolist() == expected
