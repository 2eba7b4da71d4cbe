"""Arguments that operators had in MindSpore 1.x, under which they did what they do not do today."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, ops

ROWS = np.arange(12, dtype=np.float32).reshape(2, 6)
IMAGE = np.random.default_rng(0).normal(size=(1, 2, 4, 3)).astype(np.float32)


def test_split_into_a_number_of_pieces() -> None:
    for pieces in (ops.split(Tensor(ROWS), 1, output_num=3),
                   ops.split(Tensor(ROWS), axis=1, output_num=3)):  # fmt: skip
        for one, other in zip(pieces, np.split(ROWS, 3, 1), strict=True):
            np.testing.assert_array_equal(one.asnumpy(), other)
    assert len(ops.split(Tensor(ROWS), output_num=2)) == 2
    with pytest.raises(ValueError, match="axis 1 has 6, which 4 pieces do not divide"):
        ops.split(Tensor(ROWS), 1, output_num=4)
    with pytest.raises(TypeError, match=r"the second argument is the axis, got \(1, 2\)"):
        ops.split(Tensor(ROWS), (1, 2), output_num=2)
    with pytest.raises(ValueError, match="give split_size_or_sections"):
        ops.split(Tensor(ROWS))


@pytest.mark.parametrize(
    ("of", "best", "where"), [(ops.max, np.max, np.argmax), (ops.min, np.min, np.argmin)]
)
@pytest.mark.parametrize("keep", [False, True])
def test_extremes_with_their_indices_first(of: Any, best: Any, where: Any, keep: bool) -> None:
    for given, axis in (({}, 0), ({"axis": 1}, 1)):
        indices, values = of(Tensor(ROWS), keep_dims=keep, **given)
        np.testing.assert_array_equal(values.asnumpy(), best(ROWS, axis, keepdims=keep))
        np.testing.assert_array_equal(indices.asnumpy(), where(ROWS, axis, keepdims=keep))


def test_axes_in_a_range() -> None:
    """MindSpore's compiler has tuples for ranges, and scripts give them as axes."""
    assert ops.make_range(3) == ops.functional.make_range(0, 3) == (0, 1, 2)
    assert ops.make_range(5, 1, -2) == (5, 3)
    x = Tensor(ROWS)
    for axes in (range(2), ops.make_range(0, x.ndim), [0, 1]):
        assert ops.ReduceMean()(x, axes).asnumpy() == ops.mean(x, axes).asnumpy() == ROWS.mean()
    number = Tensor(np.float32(3))
    assert ops.ReduceMean()(number, range(0)).asnumpy() == 3
    assert ops.transpose(x, range(1, -1, -1)).shape == (6, 2)


def test_the_check_of_a_dense_layers_input() -> None:
    from paramesh.mindspore_internals import check_dense_input_shape

    check_dense_input_shape((3, 4))
    with pytest.raises(ValueError, match=r"BiDense: the input must have .* got the shape \(4,\)"):
        check_dense_input_shape((4,), "BiDense")


def test_groups_of_a_convolution() -> None:
    weight = Tensor(np.ones((2, 1, 2, 2), np.float32))
    with pytest.raises(ValueError, match="groups=3 or group=2"):
        ops.conv2d(Tensor(IMAGE), weight, groups=3, group=2)
    one = ops.conv2d(Tensor(IMAGE), weight, group=2)
    other = ops.conv2d(Tensor(IMAGE), weight, groups=2)
    np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def linear(values: np.ndarray, axis: int, out: int, places: np.ndarray) -> np.ndarray:
    size = values.shape[axis]
    at = np.clip(places, 0, size - 1)
    low = np.floor(at).astype(int)
    shape = [1] * values.ndim
    shape[axis] = out
    part = (at - low).reshape(shape)
    high = np.minimum(low + 1, size - 1)
    return values.take(low, axis) * (1 - part) + values.take(high, axis) * part


PLACES = {
    "align_corners": lambda size, out: np.arange(out) * (size - 1) / (out - 1),
    "half_pixel": lambda size, out: (np.arange(out) + 0.5) * size / out - 0.5,
    "asymmetric": lambda size, out: np.arange(out) * size / out,
}


@pytest.mark.parametrize("placing", [None, *PLACES])
@pytest.mark.parametrize(
    "given", [{"sizes": (8, 6)}, {"scales": (1.0, 1.0, 2.0, 2.0)}], ids=["sizes", "scales"]
)
def test_sizes_and_scales_of_interpolate(given: dict[str, Any], placing: str | None) -> None:
    more: Any = {} if placing is None else {"coordinate_transformation_mode": placing}
    found = ops.interpolate(Tensor(IMAGE), mode="bilinear", **given, **more)
    places = PLACES[placing or "align_corners"]
    expected = linear(IMAGE.astype(np.float64), 2, 8, places(4, 8))
    expected = linear(expected, 3, 6, places(3, 6))
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sizes": (8, 6)}, "mode is 'linear' or 'bilinear'"),
        ({"sizes": (8, 6), "mode": "bilinear", "size": (1, 1)}, "has no size besides"),
        ({"scales": (2.0, 2.0), "mode": "bilinear"}, "scales has 2 factors for 4 axes"),
        (
            {"sizes": (8, 6), "mode": "bilinear", "coordinate_transformation_mode": "centre"},
            "one of align_corners, half_pixel, asymmetric",
        ),
    ],
    ids=["mode", "both", "short", "placing"],
)
def test_what_interpolate_refuses(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ops.interpolate(Tensor(IMAGE), **given)


def test_pieces_of_a_tensor_and_factors_by_their_former_names() -> None:
    x = Tensor(ROWS)
    for one, other in zip(x.split(axis=1, output_num=3), np.split(ROWS, 3, 1), strict=True):
        np.testing.assert_array_equal(one.asnumpy(), other)
    with pytest.raises(ValueError, match="axis 1 has 6, which 4 pieces do not divide"):
        x.split(axis=1, output_num=4)
    with pytest.raises(TypeError, match="give split_size or output_num, got None and None"):
        x.split()
    np.testing.assert_allclose(ops.dot(x1=x, x2=x.T).asnumpy(), ROWS @ ROWS.T)
    with pytest.raises(TypeError, match="dot needs two factors, input and other: other is missing"):
        ops.dot(x1=x)


def test_all_elements_that_are_not_to_be_sorted_stay_where_they_are() -> None:
    x = np.array([[2.0, 0.0, 3.0, 1.0]], np.float32)
    for found in (ops.topk(Tensor(x), 4, sorted=False), ops.TopK(False)(Tensor(x), 4)):
        assert [v.tolist() for v in found] == [x.tolist(), [[0, 1, 2, 3]]]
    values, where = ops.topk(Tensor(x), 2, sorted=False)
    assert (values.tolist(), where.tolist()) == ([[3.0, 2.0]], [[2, 0]])
