"""Operators of MindSpore's inside: what the recordings do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh import mindspore_inner_operators as inner
from type_checks import untyped, wrong

BOXES = np.array([[[[0, 0, 1, 1]], [[0, 0, 1, 0.9]], [[0, 0, 0.2, 0.2]], [[3, 3, 3, 3]]]])
SCORES = np.array([[[0.9], [0.8], [0.7], [0.6]]])


def best(
    boxes: Any = BOXES, scores: Any = SCORES, each: Any = 4, total: Any = 3, **more: Any
) -> Any:
    arrays = (Tensor(np.array(a, np.float32)) for a in (boxes, scores))
    suppress: Any = ops.CombinedNonMaxSuppression(**more)
    return suppress(*arrays, each, total, 0.5, 0.65)


def test_better_boxes_leave_out_what_they_overlap() -> None:
    """The second shares nine tenths with the first; the last has too small a score."""
    boxes, scores, classes, counts = (out.asnumpy() for out in best())
    assert np.allclose(scores, [[0.9, 0.7, 0]])
    assert counts.tolist() == [2]
    assert np.allclose(boxes, [[[0, 0, 1, 1], [0, 0, 0.2, 0.2], [0] * 4]])
    assert classes.tolist() == [[0, 0, 0]]
    assert counts.dtype == np.int32


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[[[0, 0, 1, 1]], [[2, 2, 3, 3]], [[4, 4, 5, 5]]]])
    found = best(boxes, np.full((1, 3, 1), 0.8), clip_boxes=False)[0].asnumpy()
    assert np.array_equal(found, boxes[:, :, 0])


def shapes(*given: Any) -> Callable[[], Any]:
    return lambda: inner.ConcatOffsetV1()(0, [Tensor(np.array(s, np.int32)) for s in given])


def cached(places: Any, rows: Any) -> Any:
    return inner.UpdateCache()(Parameter(np.zeros((4, 2), np.float32), name="w"), places, rows, 4)


def step(param: Any, *states: Any) -> Any:
    numbers = [Tensor(np.array(v, np.float32)) for v in ((1e-30, 1e-3), 1, 0.9, 0.8, 0.01, 0.1)]
    adapt: Any = ops.FusedAdaFactor()
    return adapt(Tensor(numbers[0]), *numbers[1:], param, param, *states)


W = Parameter(np.ones((2, 3), np.float32), name="w")
ROWS, COLUMNS = (Parameter(np.ones(n, np.float32), name=f"s{n}") for n in (2, 3))
TWO = Tensor(np.array([0, 1], np.int32))
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: best(pad_per_class=wrong(1)), TypeError, "pad_per_class must be a bool, got int"),
    (lambda: best(BOXES[0]), ValueError, r"boxes must be \(n, m, 1 or classes, 4\)"),
    (lambda: best(BOXES[:, :2]), ValueError, "do not fit together"),
    (lambda: best(each=0), ValueError, "must be above 0, got 0, 3"),
    (lambda: best(total=Tensor([1])), ValueError, r"max_total_size must be a number .* got \(1,\)"),
    (
        lambda: ops.CombinedNonMaxSuppression()(Tensor(BOXES), Tensor(SCORES), 1, 1, 0, 0),
        TypeError,
        "boxes must be Float32, got Float64",
    ),
    (
        lambda: untyped(ops.CombinedNonMaxSuppression())(
            *(Tensor(np.array(a, np.float32)) for a in (BOXES, SCORES)), 1, 1, 1.5, 0
        ),
        ValueError,
        "iou_threshold must be between 0 and 1, got 1.5",
    ),
    (shapes([1, 2]), ValueError, "two or more shapes"),
    (shapes([1, 2], [1, 3]), ValueError, "differ along another axis than 0"),
    (lambda: inner.ConcatOffsetV1()(2, [TWO, TWO]), ValueError, "axis must be from -2 to 1, got 2"),
    (lambda: inner.ConcatOffsetV1()(0, [Tensor([1.0])] * 2), TypeError, "Int32, got Float32"),
    (lambda: ops.MatrixLogarithm()(Tensor(np.eye(2))), TypeError, "Complex128, got Float64"),
    (
        lambda: ops.MatrixLogarithm()(Tensor(np.ones((2, 3), np.complex64))),
        ValueError,
        r"\(\.\.\., m, m\), got \(2, 3\)",
    ),
    (lambda: cached(Tensor([0.0]), Tensor([[1.0, 2.0]])), TypeError, "whole numbers, got Float32"),
    (lambda: cached(TWO, Tensor([[1.0, 2.0]])), ValueError, r"a row for each index, \(2, 2\)"),
    (lambda: step(W, W, COLUMNS, ROWS, W), ValueError, r"exp_avg_sq_row must be \(2,\) for param"),
    (lambda: step(W, ROWS, ROWS, COLUMNS, W), ValueError, r"exp_avg must be \(2, 3\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_logarithm_of_each_matrix() -> None:
    """That of one without an inverse is not a number; the exponential takes the others back."""
    given = np.array([[[1, 2], [0, 3]], [[0, 1], [0, 0]], [[-1, 0], [0, 4]]], np.complex64)
    found = ops.MatrixLogarithm()(Tensor(given)).asnumpy()
    assert np.isnan(found[1]).all()
    assert found.dtype == np.complex64
    back = ops.matrix_exp(Tensor(found[[0, 2]])).asnumpy()
    np.testing.assert_allclose(back, given[[0, 2]], atol=1e-5)


def test_operators_that_write_do_so_in_compiled_programs() -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.w = Parameter(np.zeros((4, 2), np.float32), name="w")
            self.update = inner.UpdateCache()

        def construct(self, places: Tensor, rows: Tensor) -> Any:
            return self.update(self.w, places, rows, 3)

    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    net = Net()
    out = net(Tensor(np.array([2, 3, -1, 0], np.int32)), ops.ones((4, 2)))
    assert out.asnumpy().tolist() == [0]
    assert net.w.asnumpy()[:, 0].tolist() == [1, 0, 1, 0]
