"""Recipes: keys, slices, many at once, shards, and initializers of the user's own."""

from __future__ import annotations

import math
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from paramesh import initializer as inits
from paramesh.dtype import bfloat16, float32, float64
from paramesh.errors import RecipeError
from paramesh.sampling import (
    batched as rows,
)
from paramesh.sampling import (
    distribution as spec,
)
from paramesh.sampling import (
    recipe,
    seed,
    slices,
)
from paramesh.sampling.recipe import Initializer, Recipe, compute_many, get_seed, next_key, set_seed
from recipe_cases import numbers


def test_keys_are_counted_from_the_seed():
    set_seed(3)
    assert [next_key() for _ in range(3)] == [(3, 0), (3, 1), (3, 2)]
    assert get_seed() == 3
    set_seed(4)
    assert next_key() == (4, 0)


def test_without_a_seed_the_seed_is_zero(monkeypatch):
    monkeypatch.setattr(seed, "_keys", seed._Keys())
    assert get_seed() is None
    assert next_key() == (0, 0)


def test_threads_never_draw_the_same_key():
    drawn: list[recipe.Key] = []

    def draw() -> None:
        for _ in range(500):
            drawn.append(next_key())

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 2000


@pytest.mark.parametrize(
    "keys_of_two", [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0), (0, 1 << 32))]
)
def test_other_keys_give_other_numbers(keys_of_two):
    a, b = (numbers(inits.Uniform(1.0), (4096,), key=key).astype(np.float64) for key in keys_of_two)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(4096)
    assert np.count_nonzero(a == b) < 5


def test_recipes_are_values():
    one = Recipe(inits.Normal(0.5), (1, 2), (3, 4), float32)
    assert one == Recipe(inits.Normal(0.5), (1, 2), [3, 4], np.float32)  # type: ignore[arg-type]
    assert hash(one) == hash(pickle.loads(pickle.dumps(one)))
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != Recipe(inits.Normal(0.25), (1, 2), (3, 4), float32)
    assert (one.size, one.nbytes, one.with_dtype(float64).nbytes) == (12, 48, 96)
    assert one.with_shape([5]).shape == (5,)
    assert one.with_shape([5]).key == one.key


@pytest.mark.parametrize(
    ("init", "text"),
    [
        (inits.Normal(), "Normal(sigma=0.01, mean=0.0)"),
        (inits.Zero(), "Zero()"),
        (inits.Constant(3), "Constant(value=3)"),
        (
            inits.HeUniform(),
            "HeUniform(negative_slope=0.0, mode='fan_in', nonlinearity='leaky_relu')",
        ),
        (inits.Sparse(0.1), "Sparse(sparsity=0.1, sigma=0.01)"),
        (inits.Identity(), "Identity()"),
    ],
)
def test_initializers_print_as_they_are_written(init, text):
    assert repr(init) == text
    assert eval(text, dict(vars(inits))) == init
    assert hash(eval(text, dict(vars(inits)))) == hash(init)


def test_which_initializers_are_sliceable():
    for init in (
        inits.Zero(),
        inits.Normal(),
        inits.HeNormal(),
        inits.Identity(),
        inits.Dirac(),
        inits.VarianceScaling(),
    ):
        assert init.sliceable, init
    for init in (inits.Orthogonal(), inits.Sparse(0.1), Triangular(1.0)):
        assert not init.sliceable, init


def test_an_array_too_large_for_any_memory_has_slices():
    huge = Recipe(inits.Normal(1.0), (0, 0), (2**30, 2**13), float32)
    last = np.asarray(huge.compute((slice(2**30 - 2, 2**30), slice(2**13 - 3, None))))
    rows = np.asarray(huge.compute((slice(2**30 - 2, 2**30),)))
    assert np.array_equal(last, rows[:, -3:])
    # The middle of these rows is where the lower word of the position starts again.
    turn = 2**32 // 2**13
    around = np.asarray(huge.compute((slice(turn - 1, turn + 1),)))
    assert np.array_equal(
        around[:, 5:8], np.asarray(huge.compute((slice(turn - 1, turn + 1), slice(5, 8))))
    )
    assert np.array_equal(around[1:], np.asarray(huge.compute((slice(turn, turn + 1),))))
    first = np.asarray(huge.compute((slice(0, 1),)))
    for other in (rows[:1], around[1:]):
        assert np.count_nonzero(first == other) < 5


def test_a_run_that_crosses_a_word_is_as_its_parts():
    # 2^17 elements in one program around position 2^32, and the halves in others.
    whole = Recipe(inits.Normal(1.0), (0, 0), (2**17, 2**16), float32)
    both = np.asarray(whole.compute((slice(2**16 - 1, 2**16 + 1),)))
    for row in (0, 1):
        at = 2**16 - 1 + row
        assert np.array_equal(both[row : row + 1], np.asarray(whole.compute((slice(at, at + 1),))))


def test_inside_a_trace_a_recipe_gives_a_concrete_array():
    seen = []

    def add(x):
        for shape in [(4,), (300, 300)]:
            seen.append(Recipe(inits.Normal(1.0), (0, 0), shape, float32).compute())
        return x + seen[0]

    result = jax.jit(jax.vmap(add))(jnp.zeros((2, 4), jnp.float32))
    assert not any(isinstance(s, Tracer) for s in seen)
    assert np.array_equal(np.asarray(result)[1], numbers(inits.Normal(1.0), (4,)))
    assert np.array_equal(np.asarray(seen[1]), numbers(inits.Normal(1.0), (300, 300)))


def test_users_settings_are_left_alone():
    state = np.random.get_state()
    before = dict(jax.config.values)
    for init in (inits.Normal(), inits.Orthogonal(), inits.Sparse(0.5), Triangular(1.0)):
        for dtype in (float32, float64):
            numbers(init, (4, 4), dtype)
    assert jax.config.values == before
    assert jnp.ones(3).dtype == jnp.float32
    after = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(state, after, strict=True))


def test_equal_kinds_share_one_program():
    shape = (300, 301)
    numbers(inits.Normal(1.0), shape)
    before = slices._slice_program.cache_info().misses
    for n, init in enumerate([inits.Normal(2.0, 1.0), inits.HeNormal(), inits.XavierNormal()]):
        numbers(init, shape, key=(n, n))
    # A slice of a larger array, and the same shape as a run of full rows.
    numbers(inits.Normal(), (900, 301), index=(slice(300, 600),))
    assert slices._slice_program.cache_info().misses == before
    misses = rows._row_program.cache_info().misses
    numbers(inits.Normal(1.0), (2, 3))
    numbers(inits.Normal(1.0), (900,), index=(slice(7, 20),))
    assert rows._row_program.cache_info().misses <= misses + 1


def test_compute_many_gives_the_numbers_of_compute():
    shapes = [(3,), (5, 7), (), (40, 50), (300, 300), (2, 1025), (1, 1024), (0, 4)]
    kinds = [
        inits.Normal(0.5),
        inits.Uniform(),
        inits.TruncatedNormal(1.0),
        inits.One(),
        inits.Normal(2.0, 1.0),
    ]
    recipes = [
        Recipe(init, (n, m), shape, dtype)
        for n, init in enumerate(kinds)
        for m, shape in enumerate(shapes)
        for dtype in (float32, bfloat16)
    ] + [Recipe(inits.Orthogonal(), (0, 0), (4, 4), float32)]
    for one, array in zip(recipes, compute_many(recipes), strict=True):
        assert array.shape == one.shape
        assert array.dtype == one.dtype.np_dtype
        assert np.array_equal(np.asarray(array), np.asarray(one.compute())), one


def test_wide_arrays_run_over_several_row_programs():
    # 1,100 recipes of one row each do not fit in one program.
    recipes = [Recipe(inits.Normal(1.0), (0, n), (2,), float32) for n in range(1100)]
    arrays = np.stack([np.asarray(a) for a in compute_many(recipes)])
    assert np.array_equal(arrays[-1], np.asarray(recipes[-1].compute()))
    assert len({tuple(row) for row in arrays.tolist()}) == 1100


# Sharded.


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))


SPECS = [
    PartitionSpec(),
    PartitionSpec("x"),
    PartitionSpec(None, "y"),
    PartitionSpec("y", "x"),
    PartitionSpec(("x", "y")),
    PartitionSpec(None, ("y", "x")),
]


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    ("init", "shape"),
    [
        (inits.Normal(0.5), (16, 24)),
        (inits.Normal(0.5), (264, 320)),
        (inits.Constant(2), (264, 320)),
        (inits.Identity(), (16, 24)),
        (inits.Identity(), (264, 320)),
        (inits.Orthogonal(), (16, 24)),
    ],
    ids=str,
)
def test_sharded_is_the_same(init, shape, spec):
    whole = Recipe(init, (2, 5), shape, float32)
    sharding = NamedSharding(mesh(), spec)
    array = whole.compute_sharded(sharding)
    assert array.sharding.is_equivalent_to(sharding, len(shape))
    assert np.array_equal(np.asarray(array), np.asarray(whole.compute()))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_sharded_by_the_later_axes_of_a_kernel():
    whole = Recipe(inits.HeNormal(), (2, 5), (8, 512, 8, 4), float32)
    sharding = NamedSharding(mesh(), PartitionSpec(None, "x", "y"))
    array = whole.compute_sharded(sharding)
    assert np.array_equal(np.asarray(array), np.asarray(whole.compute()))
    shard = array.addressable_shards[5]
    assert np.array_equal(np.asarray(shard.data), np.asarray(whole.compute(shard.index)))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_sharded_wide_and_on_one_device():
    whole = Recipe(inits.Normal(1.0), (0, 0), (264, 320), float64)
    array = whole.compute_sharded(NamedSharding(mesh(), PartitionSpec("x")))
    assert array.dtype == np.float64
    expected = np.asarray(whole.compute())
    assert np.array_equal(np.asarray(array), expected)
    last = SingleDeviceSharding(jax.devices()[-1])
    array = whole.compute_sharded(last)
    assert array.devices() == {jax.devices()[-1]}
    assert np.array_equal(np.asarray(array), expected)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_a_sharding_that_does_not_divide():
    with pytest.raises(RecipeError, match=r"Normal.*cannot be laid out"):
        Recipe(inits.Normal(), (0, 0), (5, 5), float32).compute_sharded(
            NamedSharding(mesh(), PartitionSpec("x"))
        )


# Initializers of the user's own.


class Triangular(Initializer):
    """As in MindSpore: filled in place."""

    scale: float

    def __init__(self, scale):
        super().__init__(scale=scale)

    def _initialize(self, arr):
        arr[:] = np.random.triangular(-self.scale, 0, self.scale, arr.shape)


class Ramp(Initializer):
    """Sliceable: numbers from indices and several draws."""

    def draw(self, bits):
        ramp = bits.index(0) * 100 + bits.index(-1)
        return ramp.astype(bits.dtype) + bits.uniform() * bits.uniform(0.25, 0.5)


class Shifted(inits.Normal):
    """A subclass of a sliceable one that is filled in place."""

    def _initialize(self, arr):
        inits.Normal(self.sigma)(arr)
        arr += 10


def test_an_initializer_as_in_mindspore():
    one = inits.initializer(Triangular(2.0), [30, 40])
    assert one.recipe is not None
    again = one.recipe.compute()
    np.random.seed(5)
    assert np.array_equal(one.asnumpy(), np.asarray(again))
    assert 1.5 < np.abs(one.asnumpy()).max() <= 2.0
    part = np.asarray(again)[3:5, 7:9]
    index = (slice(3, 5), slice(7, 9))
    assert np.array_equal(numbers(Triangular(2.0), (30, 40), index=index), part)
    assert not np.array_equal(numbers(Triangular(2.0), (30, 40), key=(0, 1)), np.asarray(again))
    assert Triangular(2.0) == Triangular(2.0) != Triangular(3.0)


def test_an_initializer_that_calls_another():
    whole = numbers(Shifted(0.5), (50, 40))
    assert whole.mean() == pytest.approx(10, abs=0.1)
    assert not Shifted(0.5).sliceable
    for _ in range(2):  # drawing other keys in between makes no difference
        next_key()
        assert np.array_equal(numbers(Shifted(0.5), (50, 40)), whole)


def test_a_sliceable_initializer_of_ones_own():
    whole = numbers(Ramp(), (20, 30))
    assert np.array_equal(whole // 1, np.add.outer(np.arange(20) * 100, np.arange(30)))
    assert np.array_equal(numbers(Ramp(), (20, 30), index=(slice(4, 9),)), whole[4:9])
    assert Ramp() == Ramp()
    assert numbers(Ramp(), (20, 30), float64).dtype == np.float64


def test_an_initializer_of_the_wrong_shape_or_without_numbers():
    class Wrong(Initializer):
        def draw(self, bits):
            return jnp.zeros((3,), jnp.float32)

    with pytest.raises(RecipeError, match=r"shape \(3,\) for a slice of shape \(4, 4\)"):
        numbers(Wrong(), (4, 4))
    lazy = inits.initializer(Initializer(), [4])
    with pytest.raises(NotImplementedError, match="Define `draw"):
        lazy.init_data()


def test_calling_an_initializer_fills_an_array():
    array = np.zeros((3, 4), np.float16)
    inits.One()(array)
    assert (array == 1).all()
    inits.Normal(1.0)(array)
    assert len(np.unique(array)) > 6


@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        ((slice(None, None, 2),), ValueError, "step 1"),
        ((1,), TypeError, r"slice\(i, i \+ 1\)"),
        ((slice(None),) * 3, IndexError, "has 3 slices"),
    ],
)
def test_what_is_no_slice(index, error, match):
    with pytest.raises(error, match=match):
        Recipe(inits.One(), (0, 0), (4, 4), float32).compute(index)


@pytest.mark.parametrize("size", [8, 300_000])
def test_64_bit_floats_for_tpus_are_computed_on_the_host(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TPUs have no floats with the bits of float64; the numbers are those of a CPU."""
    drawn = Recipe(inits.Normal(1.0), (1, 2), (size,), float64)
    with jax.enable_x64(True):
        want = np.asarray(drawn.compute())
        for module in (slices, rows):
            monkeypatch.setattr(module, "default_platform", lambda: "tpu")
        got = np.asarray(drawn.compute())
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, want)
    assert not spec.computed_on("tpu", float64)
    assert spec.computed_on("tpu", float32)
    assert spec.computed_on("gpu", float64)
