"""Functions of `paramesh.numpy` over slices, grids and types; results are MindSpore 2.10's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor
from paramesh import numpy as mnp
from paramesh import numpy_functions as fn
from type_checks import wrong

#: By name, since the table of `numpy` is not known to type checkers.
np_: Any = mnp
X = Tensor(np.array([[1, 3, 2], [5, 4, 5]], np.float32))
ONES = np_.ones((2, 3))

#: (what is computed, the values, the element type)
CASES: dict[str, tuple[Any, Any, Any]] = {
    "along 1": (lambda: fn.apply_along_axis(np_.sum, 1, X), [6, 14], np.float32),
    "along 0": (lambda: fn.apply_along_axis(lambda v, k: v * k, 0, X, 2),
                [[2, 6, 4], [10, 8, 10]], np.float32),
    "along more": (lambda: fn.apply_along_axis(np_.diag, -1, ONES), [np.eye(3)] * 2, np.float32),
    "over all": (lambda: fn.apply_over_axes(np_.sum, X, [0, 1]), [[20]], np.float32),
    "over one": (lambda: fn.apply_over_axes(np_.sum, ONES, 1), [[3], [3]], np.float32),
    "over kept": (lambda: fn.apply_over_axes(lambda a, axis: a * 2, ONES, (0, 1)),
                  np.full((2, 3), 4), np.float32),
    "argwhere": (lambda: fn.argwhere([[0, 1], [2, 0]]), [[0, 1], [1, 0]], np.int64),
    "argwhere none": (lambda: fn.argwhere(np_.zeros(3)), np.zeros((0, 1)), np.int64),
    "asfarray": (lambda: fn.asfarray([1, 2]), [1, 2], np.float32),
    "asfarray f16": (lambda: fn.asfarray([1, 2], paramesh.float16), [1, 2], np.float16),
    "asfarray int": (lambda: fn.asfarray([1, 2], paramesh.int32), [1, 2], np.float32),
    "fabs": (lambda: fn.fabs(Tensor([-1, 2])), [1, 2], np.int64),
    "fabs f16": (lambda: fn.fabs([-1.0], dtype=paramesh.float16), [1], np.float16),
    "sometrue": (lambda: fn.sometrue([[1, 0], [0, 0]], 1), [True, False], np.bool_),
    "sometrue kept": (lambda: fn.sometrue([1, 0], keepdims=True), [True], np.bool_),
    "mgrid": (lambda: fn.mgrid[0:3, 0:2], np.mgrid[0:3, 0:2], np.int32),
    "mgrid 1": (lambda: fn.mgrid[0:5], np.arange(5), np.int32),
    "mgrid count": (lambda: fn.mgrid[-1:1:5j], [-1, -0.5, 0, 0.5, 1], np.float32),
    "mgrid step": (lambda: fn.mgrid[0:1:0.25], [0, 0.25, 0.5, 0.75], np.float32),
    "mgrid both": (lambda: fn.mgrid[1:2, 0:1:2j], [[[1, 1]], [[0, 1]]], np.float32),
    "ogrid 0": (lambda: fn.ogrid[0:2:3j, 0:2][0], [[0], [1], [2]], np.float32),
    "ogrid 1": (lambda: fn.ogrid[0:2:3j, 0:2][1], [[0, 1]], np.int32),
    "piecewise": (lambda: fn.piecewise(Tensor([-1.0, 0, 2]), [[True, False, False],
                                                              [False, False, True]], [2, 4]),
                  [2, 0, 4], np.int32),
    "piecewise functions": (
        lambda: fn.piecewise(Tensor(np.array([-1, 0, 2], np.float32)), [[True, False, False]],
                             [lambda v, k: -v * k, lambda v, k: v * k], 3),
        [3, 0, 6], np.float32),
    "piecewise one": (lambda: fn.piecewise(Tensor([1, 2]), [True, False], [2.5]), [2.5, 0],
                      np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_mindspore_gives(name: str) -> None:
    compute, values, kind = CASES[name]
    found = compute().asnumpy()
    assert found.dtype == kind
    np.testing.assert_array_equal(found, values)


def test_every_name_is_one_of_numpys() -> None:
    assert set(fn.__all__) <= set(vars(mnp)["__all__"])
    assert all(getattr(mnp, name) is getattr(fn, name) for name in fn.__all__)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("float32", "int64", "float32"),
        ("float16", "int32", "float16"),
        ("int8", "uint8", "int16"),
        ("uint32", "int32", "int64"),
        ("uint64", "int8", "float64"),
        ("bool_", "bool_", "bool_"),
        ("float16", "float64", "float64"),
    ],
)
def test_types_meet_as_in_mindspore(one: str, other: str, wanted: str) -> None:
    kinds = [getattr(paramesh, name) for name in (one, other, wanted)]
    assert fn.promote_types(kinds[0], kinds[1]) == kinds[2]
    assert fn.promote_types(kinds[1], kinds[0]) == kinds[2]


def test_numbers_count_as_32_bits() -> None:
    half = Tensor(np.ones(2, np.float16))
    assert fn.result_type(half, 3.5) == paramesh.float32
    assert fn.result_type(Tensor(np.ones(1, np.int8)), 3) == paramesh.int32
    assert fn.result_type(True, 3) == paramesh.int32
    assert fn.result_type(paramesh.int16, "float32") == paramesh.float32
    assert fn.result_type(half, np.int8) == paramesh.float16
    assert (fn.float_, fn.int_) == (paramesh.float32, paramesh.int32)


def test_scalars_and_text() -> None:
    scalars = [3, 2.5, True, "a", np.float32(1)]
    others = [[1], Tensor(3), None, 1j, np.ones(1)]
    assert [fn.isscalar(one) for one in [*scalars, *others]] == [True] * 5 + [False] * 5
    assert fn.array_str(np_.arange(5)) == "[0 1 2 3 4]"
    assert (-np.inf, np.inf) == (fn.NINF, fn.PINF)
    assert repr(fn.mgrid) == "<numpy.mgrid>"


def test_inside_of_a_program() -> None:
    @paramesh.jit
    def program(x: Any) -> Any:
        return fn.apply_along_axis(np_.sum, 1, x) + fn.piecewise(x[:, 0], [x[:, 0] > 2], [1, 0])

    np.testing.assert_array_equal(program(X).asnumpy(), [6, 15])


def test_mistakes_name_the_function() -> None:
    for match, call in {
        "axis 3 is out of bounds for array of dimension 2": lambda: fn.apply_along_axis(
            np_.sum, 3, X),
        "apply_over_axes: func gave 0 axes for 2": lambda: fn.apply_over_axes(
            lambda a, axis: a.sum(), X, 0),
        "numpy.argwhere takes a Tensor, an array": lambda: fn.argwhere(wrong("a")),
        "numpy.array_str takes a Tensor, got list": lambda: fn.array_str(wrong([1])),
        "2 conditions need 2 values": lambda: fn.piecewise(X, [X > 1, X > 2], [1]),
        "numpy.mgrid takes slices": lambda: fn.mgrid[wrong(3)],
        "result_type needs at least one": lambda: fn.result_type(),
    }.items():  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=match):
            call()
