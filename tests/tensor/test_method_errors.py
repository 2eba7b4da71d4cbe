"""What a method of Tensor says of arguments that it cannot take: stated once, for every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import Parameter, Tensor
from paramesh.tensor.method_errors import of_method, shown
from paramesh.tensor.method_table import MAKES, WRITES
from paramesh.tensor.methods import ArrayMethods
from type_checks import wrong

X = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
METHODS = sorted(
    {*MAKES, *WRITES} | {n for n in vars(ArrayMethods) if not n.startswith("_")} - {"T", "mH", "mT"}
)


def test_no_method_fails_without_its_name_or_its_arguments() -> None:
    unclear: dict[str, str] = {}
    for name in METHODS:
        for given in ((object(),), (object(), object()), ({"a": 1}, 0, "b")):
            try:
                getattr(Tensor(X), name)(*given)
            except (TypeError, ValueError, IndexError) as error:
                text = str(error)
                if (
                    not text.startswith(("Tensor.", "ops."))
                    and name not in text
                    and "got" not in text
                ):
                    unclear[name] = repr(error)
            except Exception as error:
                unclear[name] = repr(error)
    assert unclear == {}


@pytest.mark.parametrize(
    "call",
    [
        lambda: wrong(X.reshape)(2.9, 3),
        lambda: wrong(X.reshape)("6"),
        lambda: wrong(X.view)(6.0),
        lambda: wrong(X.expand)(2.9, 3),
        lambda: wrong(X.new_zeros)(2.5),
        lambda: wrong(X.transpose)(1.2, 0),
        lambda: wrong(X.sum)("1"),
        lambda: wrong(X.max)(1.0),
        lambda: wrong(X.mean)((0, 1.5)),
    ],
)
def test_sizes_and_axes_are_not_rounded(call: Any) -> None:
    with pytest.raises(
        TypeError, match=r"Tensor\.\w+: '(float|str)' object .*\nIn Float32\[2, 3\]"
    ):
        call()


@pytest.mark.parametrize("name", ["add", "sub", "mul", "eq", "maximum", "div", "add_", "mul_"])
def test_operands_are_those_of_the_operators(name: str) -> None:
    method = getattr(Tensor(X), name)
    np.testing.assert_array_equal(
        method([1, 2, 4]).asnumpy(), getattr(Tensor(X), name)(Tensor([1.0, 2.0, 4.0])).asnumpy()
    )
    for given in (None, "a", {}):
        with pytest.raises(TypeError, match="other must be a Tensor, an array or a number, got"):
            method(given)


def test_lists_of_axes_are_taken_as_tuples() -> None:
    assert float(X.amax([0, 1])) == 5.0
    assert X.flip([0, 1]).asnumpy()[0, 0] == 5.0
    assert X.new_zeros([2, 2]).shape == (2, 2)


def test_an_axis_that_is_none_of_it() -> None:
    with pytest.raises(
        ValueError, match=r"Tensor.argmax: there is no such axis.\nIn .*argmax\(5\)"
    ):
        X.argmax(5)


def test_arguments_are_shown_by_type_and_shape() -> None:
    param = Parameter(X, name="fc.weight")
    assert shown((param, [X], 3)) == "(Parameter 'fc.weight' Float32[2, 3], (Float32[2, 3],), 3)"
    assert len(shown("a" * 200)) == 80


def test_errors_that_say_it_already_stay_as_they_are() -> None:
    assert of_method(ValueError("reshape: 6 elements"), "view", X, (), {}) is None
    assert of_method(ValueError("no axes for sum"), "sum", X, (), {}) is None
    assert of_method(RuntimeError("u"), "sum", X, (), {}) is None
