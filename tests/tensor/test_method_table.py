"""The methods of Tensor that come from a table, against numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paramesh.tensor import Tensor
from paramesh.tensor.method_table import MAKES, WRITES

A = np.array([[0.3, -0.7, 0.2], [0.9, -0.1, 0.6], [-0.4, 0.8, -0.5]], np.float32)
B = np.array([[0.5, 0.7, -0.2], [-0.9, 0.1, 0.6], [0.4, 0.8, 0.5]], np.float32)
INDEX = np.array([[2, 0, 1], [1, 1, 0], [0, 2, 2]], np.int32)
ERF = np.vectorize(math.erf)

#: Same name and meaning in numpy, of one array.
UNARY = [
    "absolute",
    "ceil",
    "conj",
    "cosh",
    "deg2rad",
    "expm1",
    "floor",
    "imag",
    "isinf",
    "log1p",
    "negative",
    "positive",
    "rad2deg",
    "real",
    "reciprocal",
    "sign",
    "signbit",
    "sinc",
    "sinh",
    "tan",
    "trunc",
    "fliplr",
    "flipud",
    "trace",
    "tril",
    "triu",
    "count_nonzero",
    "cumprod",
    "nan_to_num",
    "nansum",
    "ptp",
    "amax",
    "amin",
    "round",
]
#: Of two.
BINARY = [
    "add",
    "divide",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
    "true_divide",
    "floor_divide",
    "outer",
    "equal",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "not_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "remainder",
    "isclose",
]
OTHER: dict[str, Callable[[], tuple[Any, Any]]] = {
    "acos": lambda: (Tensor(A).acos(), np.arccos(A)),
    "asin": lambda: (Tensor(A).asin(), np.arcsin(A)),
    "atan": lambda: (Tensor(A).atan(), np.arctan(A)),
    "asinh": lambda: (Tensor(A).asinh(), np.arcsinh(A)),
    "acosh": lambda: (Tensor(A + 2).acosh(), np.arccosh(A + 2)),
    "atanh": lambda: (Tensor(A).atanh(), np.arctanh(A)),
    "atan2": lambda: (Tensor(A).atan2(Tensor(B)), np.arctan2(A, B)),
    "log2": lambda: (Tensor(A + 2).log2(), np.log2(A + 2)),
    "log10": lambda: (Tensor(A + 2).log10(), np.log10(A + 2)),
    "erf": lambda: (Tensor(A).erf(), ERF(A)),
    "erfc": lambda: (Tensor(A).erfc(), 1 - ERF(A)),
    "bmm": lambda: (Tensor(A[None]).bmm(Tensor(B[None])), (A @ B)[None]),
    "mm": lambda: (Tensor(A).mm(Tensor(B)), A @ B),
    "addmm": lambda: (Tensor(A).addmm(Tensor(A), Tensor(B)), A + A @ B),
    "t": lambda: (Tensor(A).t(), A.T),
    "inverse": lambda: (Tensor(A).inverse(), np.linalg.inv(A)),
    "det": lambda: (Tensor(A).det(), np.linalg.det(A)),
    "frac": lambda: (Tensor(A * 3).frac(), A * 3 - np.trunc(A * 3)),
    "fmod": lambda: (Tensor(A * 3).fmod(2), np.fmod(A * 3, 2)),
    "lerp": lambda: (Tensor(A).lerp(Tensor(B), 0.25), A + 0.25 * (B - A)),
    "gather": lambda: (Tensor(A).gather(1, Tensor(INDEX)), np.take_along_axis(A, INDEX, 1)),
    "index_select": lambda: (Tensor(A).index_select(0, Tensor(INDEX[0])), A[INDEX[0]]),
    "masked_select": lambda: (Tensor(A).masked_select(Tensor(A > 0)), A[A > 0]),
    "nonzero": lambda: (Tensor(A > 0).nonzero(), np.argwhere(A > 0)),
    "narrow": lambda: (Tensor(A).narrow(0, 1, 2), A[1:3]),
    "roll": lambda: (Tensor(A).roll(1, 0), np.roll(A, 1, 0)),
    "rot90": lambda: (Tensor(A).rot90(1, (0, 1)), np.rot90(A)),
    "flip": lambda: (Tensor(A).flip((0,)), np.flip(A, 0)),
    "logsumexp": lambda: (Tensor(A).logsumexp(1), np.log(np.exp(A).sum(1))),
    "softmax": lambda: (Tensor(A).softmax(1), np.exp(A) / np.exp(A).sum(1, keepdims=True)),
    "where": lambda: (Tensor(A).where(Tensor(A > 0), Tensor(B)), np.where(A > 0, A, B)),
    "bincount": lambda: (Tensor(INDEX[0]).bincount(), np.bincount(INDEX[0])),
    "new_ones": lambda: (Tensor(A).new_ones((2, 2)), np.ones((2, 2))),
    "repeat_interleave": lambda: (Tensor(A).repeat_interleave(2, 0), np.repeat(A, 2, 0)),
    "type_as": lambda: (Tensor(INDEX).type_as(Tensor(A)), INDEX.astype(np.float32)),
}


@pytest.mark.parametrize("name", UNARY)
def test_of_one_array(name: str) -> None:
    got = getattr(Tensor(A), name)(*((0,) if name == "cumprod" else ()))
    want = getattr(np, name)(A, *((0,) if name == "cumprod" else ()))
    np.testing.assert_allclose(got.asnumpy() if isinstance(got, Tensor) else got, want, 1e-5, 1e-6)


@pytest.mark.parametrize("name", BINARY)
def test_of_two_arrays(name: str) -> None:
    a, b = (A[0], B[0]) if name == "outer" else (A, B)
    got = getattr(Tensor(a), name)(Tensor(b))
    if name == "equal":  # torch's: whether all are equal
        want: Any = np.equal(a, b) if getattr(got, "shape", ()) else np.array_equal(a, b)
    else:
        want = getattr(np, name)(a, b)
    np.testing.assert_allclose(np.asarray(got), want, 1e-5, 1e-6)


@pytest.mark.parametrize("name", OTHER)
def test_of_other_arguments(name: str) -> None:
    got, want = OTHER[name]()
    np.testing.assert_allclose(np.asarray(got), want, 1e-5, 1e-5)


def test_names_in_the_tests_are_of_the_table() -> None:
    assert {*UNARY, *BINARY, *OTHER} <= MAKES.keys()


@pytest.mark.parametrize(
    ("name", "args", "want"),
    [
        ("add_", (1,), A + 1),
        ("mul_", (2,), A * 2),
        ("sub_", (1,), A - 1),
        ("div_", (2,), A / 2),
        ("zero_", (), A * 0),
        ("fill_", (3,), A * 0 + 3),
        ("tanh_", (), np.tanh(A)),
        ("exp_", (), np.exp(A)),
    ],
)
def test_writes_change_the_tensor_and_give_it(
    name: str, args: tuple[int, ...], want: np.ndarray
) -> None:
    assert name in WRITES
    tensor = Tensor(A)
    assert getattr(tensor, name)(*args) is tensor
    np.testing.assert_allclose(tensor.asnumpy(), want, 1e-6)
