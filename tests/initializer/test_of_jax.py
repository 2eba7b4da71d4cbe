"""JAX's initializers, wherever an Initializer is taken."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import paramesh
from paramesh import Parameter, nn
from paramesh.initializer import JaxInitializer, initializer
from paramesh.sampling.recipe import Recipe
from type_checks import wrong

KINDS = {
    "normal": initializers.normal(0.02),
    "he": initializers.he_normal(in_axis=-1, out_axis=-2),
    "orthogonal": initializers.orthogonal(),
    "zeros": initializers.zeros,
}


def key_of(recipe: Recipe) -> Any:
    """The key that JAX's function is given, as documented: the seed's, and the counter's words."""
    key = jax.random.key(recipe.key[0])
    for word in (0, 0, recipe.key[1]):
        key = jax.random.fold_in(key, word)
    return key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_numbers_are_those_of_the_function_under_a_key_of_the_recipe(kind: str, dtype: str) -> None:
    tensor = initializer(KINDS[kind], (8, 4), dtype)
    assert tensor.has_init
    recipe = tensor.recipe
    assert recipe is not None
    if kind == "orthogonal" and dtype == "bfloat16":
        pytest.skip("LAPACK has no bfloat16")
    with jax.enable_x64(dtype == "float64"):
        wanted = np.asarray(KINDS[kind](key_of(recipe), (8, 4), jnp.dtype(dtype)))
    np.testing.assert_array_equal(np.asarray(recipe.compute()), wanted)
    part = (slice(2, 4), slice(1, 3))
    np.testing.assert_array_equal(np.asarray(recipe.compute(part)), wanted[part])
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    cut = recipe.compute_sharded(NamedSharding(mesh, PartitionSpec("a", "b")))
    np.testing.assert_array_equal(np.asarray(cut), wanted)


def test_layers_and_clones_take_them() -> None:
    paramesh.set_seed(1)
    one = nn.Dense(4, 4, weight_init=KINDS["normal"], bias_init=initializers.ones)
    two = nn.Dense(4, 4, weight_init=KINDS["normal"])
    assert one.weight.has_init
    assert not np.array_equal(one.weight, two.weight)
    np.testing.assert_array_equal(one.bias, np.ones(4))
    twin = one.weight.clone(initializers.constant(2.0))
    assert twin.has_init
    assert float(twin[0, 0]) == 2
    stacked = paramesh.stack(lambda: nn.Dense(4, 4, weight_init=KINDS["normal"]), 2)
    assert stacked.layer(0).weight.has_init
    assert not np.array_equal(stacked.layer(0).weight, stacked.layer(1).weight)
    integers = initializer(initializers.constant(3), (2,), paramesh.int32)
    assert integers.asnumpy().tolist() == [3, 3]


def test_they_are_known_by_their_names() -> None:
    init = JaxInitializer(KINDS["he"])
    assert repr(init) == "JaxInitializer(variance_scaling)"
    assert init == JaxInitializer(KINDS["he"])
    assert init != JaxInitializer(KINDS["normal"])
    assert copy.deepcopy(init) == init
    assert not init.sliceable


def test_functions_of_modules_are_pickled_and_closures_refused() -> None:
    param = Parameter(initializer(initializers.zeros, (2,)), name="w")
    assert pickle.loads(pickle.dumps(param)).has_init
    param = Parameter(initializer(KINDS["normal"], (2,)), name="w")
    with pytest.raises(pickle.PicklingError, match=r"normal\) cannot be pickled.*Call init_data\("):
        pickle.dumps(param)
    param.init_data()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(param)), param)


def test_functions_that_are_none() -> None:
    with pytest.raises(
        ValueError, match=r"makes no array of shape \(4,\): tuple index out of range"
    ):
        initializer(KINDS["he"], (4,))
    with pytest.raises(
        ValueError, match=r"makes no array of shape \(4,\): it gives the shape \(3,\)"
    ):
        initializer(lambda key, shape, dtype: jnp.zeros(3), (4,))
    with pytest.raises(ValueError, match="Expected a function of \\(key, shape, dtype\\)"):
        initializer(wrong(lambda x: x), (4,))
    with pytest.raises(TypeError, match="expected a function of"):
        JaxInitializer(3)  # type: ignore[arg-type]
