"""Weights of many layers in one array: each layer has the numbers of one of its own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from paramesh import Parameter
from paramesh import dtype as mstype
from paramesh.initializer import (
    Dirac,
    HeNormal,
    HeUniform,
    Identity,
    Orthogonal,
    Sparse,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    initializer,
)
from paramesh.sampling.recipe import Recipe

SCALED: list[tuple[Any, dict[str, Any]]] = [
    (XavierUniform, {"gain": 2.0}),
    (XavierNormal, {}),
    (HeUniform, {"mode": "fan_out"}),
    (HeNormal, {"nonlinearity": "relu"}),
    (VarianceScaling, {"distribution": "uniform", "mode": "fan_avg"}),
    (VarianceScaling, {"distribution": "truncated_normal"}),
]
#: Shape of one layer, of the stack, and the axes of the stack.
STACKS = [
    ((6, 4), (12, 6, 4), 0),
    ((6, 4), (6, 12, 4), 1),
    ((6, 4), (6, 4, 12), -1),
    ((6, 4, 3, 3), (2, 6, 4, 5, 3, 3), (0, 3)),
    ((6, 4, 3, 3), (2, 5, 6, 4, 3, 3), [1, 0]),
]


@pytest.mark.parametrize(("layer", "stack", "batch"), STACKS)
@pytest.mark.parametrize(("make", "arguments"), SCALED)
def test_the_distribution_is_that_of_one_layer(make, arguments, layer, stack, batch) -> None:
    alone, stacked = make(**arguments), make(**arguments, batch_axis=batch)
    assert stacked.law(stack) == alone.law(layer)
    assert alone.law(stack) != alone.law(layer)


@pytest.mark.parametrize(("make", "arguments"), SCALED)
def test_axes_of_inputs_and_outputs(make, arguments) -> None:
    alone = make(**arguments)
    # As `jax.nn.initializers` has them: (*kernel, in, out).
    in_jax = make(**arguments, in_axis=-2, out_axis=-1)
    assert in_jax.law((3, 3, 4, 6)) == alone.law((6, 4, 3, 3))
    heads = make(**arguments, in_axis=1, out_axis=(2, 3), batch_axis=0)
    assert heads.law((12, 4, 2, 3)) == alone.law((6, 4))


def test_numbers_of_the_case() -> None:
    w = Parameter(initializer(XavierUniform(batch_axis=0), (12, 64, 64)), name="w").asnumpy()
    assert abs(w.std() - 0.125) < 0.003
    assert len({layer.tobytes() for layer in w}) == 12


STRUCTURED: list[tuple[Any, tuple[int, ...]]] = [
    (lambda **axes: Orthogonal(2.0, **axes), (5, 3)),
    (lambda **axes: Orthogonal(**axes), (3, 5)),
    (lambda **axes: Orthogonal(**axes), (4, 2, 3)),
    (lambda **axes: Identity(**axes), (3, 4)),
    (lambda **axes: Dirac(2, **axes), (4, 3, 3)),
    (lambda **axes: Sparse(0.4, **axes), (5, 3)),
]


def holds(init: Any, matrix: Any) -> None:
    """What is true of a matrix of this initializer."""
    if isinstance(init, Orthogonal):
        flat = matrix.reshape(len(matrix), -1).astype(np.float64) / init.gain
        flat = flat if flat.shape[0] >= flat.shape[1] else flat.T
        np.testing.assert_allclose(flat.T @ flat, np.eye(flat.shape[1]), atol=1e-6)
    elif isinstance(init, Sparse):
        assert (matrix == 0).sum(axis=0).tolist() == [2] * matrix.shape[1]
    else:
        plain = type(init)(**{k: v for k, v in init._arguments().items() if k != "batch_axis"})
        whole = Recipe(plain, (0, 0), matrix.shape, mstype.float32).compute()
        np.testing.assert_array_equal(matrix, whole)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(("make", "shape"), STRUCTURED)
def test_each_matrix_is_one_by_itself(make, shape, axis) -> None:
    init = make(batch_axis=axis)
    at = axis % (len(shape) + 1)
    stack = (*shape[:at], 3, *shape[at:])
    recipe = Recipe(init, (1, 2), stack, mstype.float32)
    whole = np.asarray(recipe.compute())
    matrices = list(np.moveaxis(whole, at, 0))
    for matrix in matrices:
        assert matrix.shape == shape
        holds(init, matrix)
    if isinstance(init, Orthogonal | Sparse):
        assert len({matrix.tobytes() for matrix in matrices}) == 3
    index = [slice(None)] * at + [slice(1, 2)]
    np.testing.assert_array_equal(recipe.compute(index), np.take(whole, [1], at))


@pytest.mark.parametrize(("make", "arguments"), SCALED)
def test_a_layers_numbers_come_by_themselves(make, arguments) -> None:
    recipe = Recipe(make(**arguments, batch_axis=0), (1, 2), (4, 6, 4), mstype.float32)
    assert recipe.sliceable
    whole = np.asarray(recipe.compute())
    np.testing.assert_array_equal(recipe.compute([slice(2, 3)]), whole[2:3])


def test_what_it_is_called() -> None:
    assert repr(XavierUniform()) == "XavierUniform(gain=1.0)"
    assert repr(XavierUniform(batch_axis=0)) == "XavierUniform(gain=1.0, batch_axis=(0,))"
    assert repr(Identity()) == "Identity()"
    assert XavierUniform(batch_axis=0) == XavierUniform(batch_axis=[0]) != XavierUniform()
    init = HeNormal(batch_axis=0, in_axis=1, out_axis=2)
    again = pickle.loads(pickle.dumps(init))
    assert again == init
    assert again.law((2, 3, 4)) == init.law((2, 3, 4))


@pytest.mark.parametrize("make", [XavierUniform, HeNormal, VarianceScaling, Orthogonal, Identity])
def test_axes_that_cannot_be(make) -> None:
    for wrong in ("0", 1.0, True, [None]):
        with pytest.raises(TypeError, match=r"\(batch_axis\): expected an int or several, got"):
            make(batch_axis=wrong)
    with pytest.raises(ValueError, match=r"there is no axis 3 in the shape \(2, 3, 4\)"):
        initializer(make(batch_axis=3), (2, 3, 4))
    with pytest.raises(ValueError, match=r"an axis is named twice for the shape \(2, 3, 4\)"):
        initializer(make(batch_axis=(0, -3)), (2, 3, 4))
    with pytest.raises(ValueError, match=r"2 axes.* besides batch_axis=\(0,\), got \(2, 3\)"):
        initializer(make(batch_axis=0), (2, 3))
    if hasattr(make, "in_axis"):
        with pytest.raises(ValueError, match=r"\(in_axis, out_axis\): give both or neither"):
            make(in_axis=0)
        with pytest.raises(ValueError, match="an axis is named twice"):
            initializer(make(in_axis=0, out_axis=1, batch_axis=1), (2, 3, 4))
