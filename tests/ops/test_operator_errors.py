"""What an operator says of arguments that it cannot take: stated once, for every operator."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import paramesh
import paramesh.numpy as mnp
from paramesh import Tensor, mint, ops
from paramesh.initializer import Zero
from paramesh.ops.operator_errors import explained
from paramesh.ops.table import TABLE, function
from type_checks import wrong

X = Tensor(np.ones((2, 3), np.float32))
BIG = 10**10


def required(name: str) -> list[str]:
    parameters = inspect.signature(TABLE[name].compute).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind in kinds]


def first_is_array(name: str) -> bool:
    wanted = required(name)
    kinds = TABLE[name].kinds
    return bool(wanted) and wanted[0] in kinds and kinds[wanted[0]].name != "DTYPE"


for _name in dir(ops):
    getattr(ops, _name, None)  # operators come into the table when their module is first used


@pytest.mark.parametrize(
    "given", [None, object(), "a word", {"a": 1}], ids=["None", "object", "str", "dict"]
)
def test_the_first_array_is_named_in_every_operator(given: object) -> None:
    names = [name for name in TABLE if first_is_array(name)]
    assert len(names) > 400
    unclear: dict[str, str] = {}
    for name in names:
        wanted = required(name)
        try:
            TABLE[name](name, tuple(given for _ in wanted), {})
        except TypeError as error:
            if not str(error).startswith(f"ops.{name}: {wanted[0]} must be "):
                unclear[name] = str(error)
        except Exception as error:
            unclear[name] = repr(error)
        else:
            unclear[name] = "it was taken"
    assert unclear == {}


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: wrong(ops.argmax)(X, 2),
            ValueError,
            "dim 2 is outside the 2 axes: expected -2 to 1",
        ),
        (
            lambda: wrong(ops.argmax)(1.0, 2),
            ValueError,
            "dim 2 is outside the 0 axes: there is none",
        ),
        (
            lambda: wrong(ops.softmax)(X, "a"),
            TypeError,
            "axis must be an int or a tuple of ints, got 'a'",
        ),
        (
            lambda: wrong(ops.sum)(X, 1.7),
            TypeError,
            "dim must be an int, a tuple of ints or None, got 1.7",
        ),
        (
            lambda: wrong(ops.avg_pool2d)(X, {}),
            TypeError,
            "kernel_size must be an int or a tuple of ints",
        ),
        (lambda: wrong(ops.elu)(X, None), TypeError, "alpha must be a number, got None"),
        (lambda: wrong(ops.cat)([X], "x"), TypeError, "axis must be an int, got 'x'"),
        (lambda: wrong(ops.max_pool_with_argmax)(X.expand_dims(0)), ValueError, "number of axes"),
        (lambda: wrong(ops.kl_div)(X, X, "all"), ValueError, "all"),
        (lambda: wrong(ops.randn)(2, -1), ValueError, "from 0 on"),
        (lambda: wrong(ops.coo_abs)(X), TypeError, "ops.coo_abs takes a COOTensor, got Tensor"),
        (lambda: wrong(ops.clip_by_global_norm)(3), TypeError, "clip_by_global_norm .* got 3"),
        (lambda: wrong(ops.clip_by_global_norm)((X,), ()), TypeError, "clip_norm must be a number"),
        (lambda: wrong(ops.all_gather)(object()), TypeError, "tensor must be a Tensor"),
        (lambda: wrong(ops.AvgPool3D)(pad_mode=5), TypeError, "ops.AvgPool3D: .*\\n.*pad_mode=5"),
    ],
)
def test_what_is_said(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_errors_that_name_the_argument_stay_as_they_are() -> None:
    def compute(x: Any, size: Any) -> None: ...

    compute.__annotations__ = {"x": int, "size": int}
    told = explained(ValueError("size must be even"), "f", {"x": "a", "size": 3}, compute, {})
    assert str(told) == "ops.f: x must be an int, got 'a' (str).\nIt was given x='a', size=3."
    told = explained(ValueError("x must be even"), "f", {"x": "a", "size": 3}, compute, {})
    assert str(told) == "ops.f: x must be even\nIt was given x='a', size=3."
    assert type(explained(KeyError("u"), "f", {"x": 1}, compute, {})) is TypeError


def test_annotations_that_are_postponed_would_lose_their_marks() -> None:
    def compute(x: Any) -> Any: ...

    compute.__annotations__ = {"x": "Array"}
    with pytest.raises(RuntimeError, match="annotations are postponed"):
        function(compute)


@pytest.mark.parametrize("make", [ops.rand_like, ops.randn_like])
def test_likes_take_arrays_and_names_of_types(make: Any) -> None:
    assert make(np.ones((2, 3), np.float32)).dtype == paramesh.float32
    assert make(X, dtype="float16").dtype == paramesh.float16


@pytest.mark.parametrize(
    "call",
    [
        lambda: wrong(ops.zeros)((BIG, BIG)),
        lambda: wrong(ops.full)([BIG, BIG], 1.0),
        lambda: wrong(ops.eye)(BIG),
        lambda: wrong(ops.tile)(X, (BIG, BIG)),
        lambda: wrong(ops.broadcast_to)(X[0, 0], (BIG, BIG)),
        lambda: wrong(ops.randn)(BIG, BIG),
        lambda: wrong(ops.scatter_nd)(Tensor([[1, 1]]), Tensor([1.0]), (BIG, BIG)),
        lambda: mint.zeros(BIG, BIG),
        lambda: mint.full((BIG, BIG), 1.0),
        lambda: mnp.zeros((BIG, BIG)),
        lambda: mint.eye(BIG),
        lambda: mint.tile(X, (BIG, BIG)),
        lambda: mint.broadcast_to(X[0, 0], (BIG, BIG)),
        lambda: mnp.identity(BIG, paramesh.float32),
        lambda: mnp.eye(BIG, None),
        lambda: mnp.eye(N=BIG),
        lambda: mnp.eye(2, 10**19),
        lambda: X[0, 0].expand(BIG, BIG),
        lambda: X.new_zeros((BIG, BIG)),
        lambda: X.tile((BIG, BIG)),
        lambda: X[0, 0].broadcast_to((BIG, BIG)),
        lambda: Tensor(shape=(BIG, BIG), dtype=paramesh.float32, init=Zero()).asnumpy(),
        lambda: paramesh.nn.Dense(BIG, BIG).init_parameters_data(),
    ],
)
def test_what_cannot_be_counted_is_refused(call: Any) -> None:
    """XLA ends the process where the number of elements overflows."""
    with pytest.raises(ValueError, match=r"would be 1e\+2\d elements|2e\+19 elements"):
        call()
