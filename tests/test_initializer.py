"""Initializers and recipes: the records of MindSpore 2.10, and what paramesh promises besides."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import goldens
from paramesh import dtype as mstype
from paramesh import initializer as inits
from paramesh import keys, philox, recipe
from paramesh.dtype import bfloat16, complex64, float16, float32, float64, int8, int32, int64, uint8
from paramesh.errors import RecipeError
from paramesh.parameter import Parameter
from paramesh.recipe import Initializer, Recipe, compute_many, get_seed, next_key, set_seed
from paramesh.tensor import Tensor

GOLDEN = goldens.load("initializers")
DIFFERENCES = {
    (d["area"], d["case"]): d
    for d in json.loads((goldens.DIRECTORY / "differences_initializer.json").read_text())
}
SCOPE: dict[str, Any] = {
    "I": inits,
    "np": np,
    "math": math,
    "ms": mstype,
    "mstype": mstype,
    "Tensor": Tensor,
    "Parameter": Parameter,
    "initializer": inits.initializer,
}


@pytest.fixture(autouse=True)
def _fresh_keys():
    set_seed(0)


def make(expr: str) -> Initializer:
    return eval(expr, dict(SCOPE))


def numbers(init: Initializer, shape=(), dtype=float32, key=(0, 0), index=None) -> np.ndarray:
    return np.asarray(Recipe(init, key, shape, dtype).compute(index))


def different(area: str, case: str) -> dict[str, Any] | None:
    return DIFFERENCES.get((f"initializers.{area}", case))


# The generator.


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    with jax.enable_x64(True):
        words = philox.philox4x32(tuple(map(jnp.uint32, counter)), tuple(map(jnp.uint32, key)))
    assert tuple(int(w) for w in words) == expected


def edge_words() -> np.ndarray:
    near = np.arange(200, dtype=np.uint32)
    middle = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    return np.concatenate([near, 2**31 - 1 - near, 2**31 + near, 2**32 - 1 - near, middle])


def true_normal(position: np.ndarray, bits: int) -> np.ndarray:
    """The exact inverse of the normal distribution for signed positions of so many bits."""
    magnitude = np.where(position < 0, -1 - position, position)
    centre = np.ldexp(magnitude.astype(np.float64) + 0.5, 1 - bits)
    tail = np.ldexp((2 ** (bits - 1) - 1 - magnitude).astype(np.float64) + 0.5, -bits)
    inner = np.sqrt(2) * scipy.special.erfinv(np.minimum(centre, 0.5))
    z = np.where(centre < 0.5, inner, -scipy.special.ndtri(tail))
    return np.where(position < 0, -z, z)


def test_normal_numbers_are_the_inverse_of_the_distribution():
    first = edge_words()
    second = first[::-1].copy()
    with jax.enable_x64(True):
        zero = np.uint32(0)
        single = np.asarray(jax.jit(philox.normal32)(first, zero))
        double = np.asarray(jax.jit(philox.normal64)(first, second, zero))
    exact = true_normal(first.view(np.int32).astype(np.int64), 32)
    np.testing.assert_allclose(single, exact, rtol=8e-7)
    position = (first.astype(np.uint64) << np.uint64(32)) | second
    np.testing.assert_allclose(double, true_normal(position.view(np.int64), 64), rtol=4e-15)


def test_normal_numbers_do_not_depend_on_how_the_program_is_compiled():
    # Operation by operation nothing can be joined, so these are the bits that rounding says.
    first = edge_words()[:1000]
    with jax.enable_x64(True), jax.disable_jit():
        alone = np.asarray(philox.normal32(jnp.asarray(first), jnp.uint32(0)))
        alone64 = np.asarray(philox.normal64(jnp.asarray(first), jnp.asarray(first), jnp.uint32(0)))
    with jax.enable_x64(True):
        joined = np.asarray(jax.jit(philox.normal32)(first, np.uint32(0)))
        joined64 = np.asarray(jax.jit(philox.normal64)(first, first, np.uint32(0)))
    assert np.array_equal(alone, joined)
    assert np.array_equal(alone64, joined64)


@pytest.mark.parametrize(
    ("init", "dtype", "digest"),
    [
        (inits.Uniform(), float32, "479ffbddfc8fc398"),
        (inits.Uniform(), float64, "f97e924dfc9c76a4"),
        (inits.Normal(), float32, "0c21c0cbe9ca6c67"),
        (inits.Normal(), float64, "b86b18152992f6bf"),
        (inits.Normal(), bfloat16, "24590d9667d1c2f5"),
        (inits.TruncatedNormal(1.0), float32, "4da4e22fbea35c91"),
        (inits.TruncatedNormal(1.0), float64, "73a0e5af49929810"),
    ],
    ids=str,
)
def test_the_numbers_of_a_key_never_change(init, dtype, digest):
    # On every platform and in every release. A change here is a break to be announced.
    values = numbers(init, (64, 64), dtype, key=(2024, 7))
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == digest


def test_the_distribution_fits_closely():
    # 2^18 numbers each: a wrong tail or a wrong width shows.
    shape = (512, 512)
    for init, expected in [
        (inits.Normal(1.0), scipy.stats.norm()),
        (inits.Uniform(1.0), scipy.stats.uniform(-1, 2)),
        (inits.TruncatedNormal(1.0, 0.0, 0.5, 3.0), scipy.stats.truncnorm(0.5, 3.0)),
        (inits.TruncatedNormal(2.0, 1.0, -2.0, 2.0), scipy.stats.truncnorm(-1.5, 0.5, 1, 2)),
    ]:
        values = numbers(init, shape).ravel()
        assert scipy.stats.kstest(values, expected.cdf).pvalue > 1e-3, init


# The records of MindSpore 2.10.


def standard_errors(values: np.ndarray, record: dict[str, Any]) -> tuple[float, float]:
    """How far mean and std may be from the record's, as one standard error each."""
    both = 1 / values.size + 1 / record["samples"]
    kurtosis = record["kurtosis"] or 3.0
    return (
        record["std"] * math.sqrt(both),
        record["std"] * math.sqrt((kurtosis - 1) / 4 * both),
    )


def stats_id(record: dict[str, Any]) -> str:
    return f"{record['expr']} {record['shape']}"


def stacked(init: Initializer, shape: tuple[int, ...]) -> np.ndarray:
    """Enough arrays of this shape to estimate moments from, each with a key of its own."""
    count = min(max(1, 65536 // math.prod(shape)), 512)
    recipes = [Recipe(init, (11, n), shape, float32) for n in range(count)]
    return np.stack([np.asarray(a) for a in compute_many(recipes)])


@pytest.mark.parametrize("record", GOLDEN["stats"], ids=stats_id)
def test_golden_stats(record):
    init, shape = make(record["expr"]), tuple(record["shape"])
    if "error" in record:
        with pytest.raises(ValueError, match="needs a shape"):
            Recipe(init, (0, 0), shape, float32)
        return
    if record.get("deterministic"):
        check_deterministic(numbers(init, shape), record)
        return
    values = stacked(init, shape).astype(np.float64)
    mean_error, std_error = standard_errors(values, record)
    difference = different("stats", stats_id(record))
    if "gram_side" in record:
        check_orthogonal(values, record)
        # The rows are not independent; the Gram matrix says more than the moments.
        return
    assert abs(values.mean() - record["mean"]) <= 5 * mean_error
    assert abs(values.std() - record["std"]) <= 5 * std_error + 1e-12
    kurtosis = scipy.stats.kurtosis(values, axis=None, fisher=False) if values.std() else None
    if difference is None:
        if record["kurtosis"] is None:
            assert kurtosis is None
        elif min(values.size, record["samples"]) > 10_000:
            assert kurtosis == pytest.approx(record["kurtosis"], abs=0.15)
        assert (values == 0).mean() == pytest.approx(record["frac_zero"], abs=1e-4)
    else:  # cut at two standard deviations of the normal, not uniform
        assert kurtosis == pytest.approx(2.37, abs=0.05)
        assert np.abs(values).max() <= record["std"] * 1.02 * 2 / 0.8796
    if "zeros_per_column" in record:
        zeros = record["zeros_per_column"]
        for matrix in values:
            assert set((matrix == 0).sum(axis=0)) == {zeros[0]}


def check_deterministic(values: np.ndarray, record: dict[str, Any]) -> None:
    assert values.astype(np.float64).mean() == pytest.approx(record["mean"], abs=1e-12)
    assert (values.min(), values.max()) == (record["min"], record["max"])
    if record.get("value") is not None:
        assert values.tolist() == record["value"]
    if "nonzero_index" in record:
        assert np.argwhere(values).tolist() == record["nonzero_index"]
        assert values[np.nonzero(values)].tolist() == record["nonzero_value"]


def check_orthogonal(values: np.ndarray, record: dict[str, Any]) -> None:
    for array in values[:3]:
        matrix = array.reshape(array.shape[0], -1)
        gram = matrix @ matrix.T if record["gram_side"] == "W W^T" else matrix.T @ matrix
        expected = record["gram_diag"] * np.eye(len(gram))
        np.testing.assert_allclose(gram, expected, atol=1e-6)


def test_orthogonal_matrices_prefer_no_direction():
    # Without the signs of the triangular factor the diagonal would be biased.
    matrices = stacked(inits.Orthogonal(), (6, 6))
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    assert abs(diagonals.mean()) < 5 / math.sqrt(6 * diagonals.size)


@pytest.mark.parametrize("name", GOLDEN["aliases"])
def test_golden_aliases(name):
    assert inits.ALIASES[name].__name__ == GOLDEN["aliases"][name]


def test_no_alias_beyond_the_golden_ones():
    assert set(inits.ALIASES) == set(GOLDEN["aliases"])


@pytest.mark.parametrize("name", GOLDEN["alias_resolution"])
def test_golden_alias_resolution(name):
    expected = GOLDEN["alias_resolution"][name]
    shape = [3, 3, 3] if name.lower() == "dirac" else [4, 4]
    if isinstance(expected, str):
        assert type(inits.initializer(name, shape).init).__name__ == expected
    else:
        with pytest.raises((TypeError, ValueError), match="name|needs its argument") as caught:
            inits.initializer(name, shape)
        assert type(caught.value).__name__ == expected["error"]


SHAPES_OF_BAD_ARGS = {"init [8]": (8,), "init [4,6]": (4, 6), "init [8,4,3,3]": (8, 4, 3, 3)}


def bad_args_outcome(expr: str) -> dict[str, str]:
    try:
        init = make(expr)
    except Exception as error:
        return {"construct": type(error).__name__}
    outcome = {"construct": "ok"}
    for name, shape in SHAPES_OF_BAD_ARGS.items():
        try:
            numbers(init, shape)
            outcome[name] = "ok"
        except Exception as error:
            outcome[name] = type(error).__name__
    return outcome


@pytest.mark.parametrize("record", GOLDEN["bad_args"], ids=lambda r: r["expr"])
def test_golden_bad_args(record):
    expected = {
        name: value if isinstance(value, str) else value["error"]
        for name, value in record.items()
        if name != "expr"
    }
    if expected["construct"] != "ok":
        expected = {"construct": expected["construct"]}
    outcome = bad_args_outcome(record["expr"])
    difference = different("bad_args", record["expr"])
    if difference is None:
        assert outcome == expected
    else:
        assert outcome != expected
        assert outcome["construct"] == difference["paramesh"].removesuffix(" at construction")


@pytest.mark.parametrize("record", GOLDEN["shape_rules"], ids=stats_id)
def test_golden_shape_rules(record):
    if "error" in record:
        with pytest.raises(ValueError, match=r"needs a shape .*got \("):
            Recipe(make(record["expr"]), (0, 0), tuple(record["shape"]), float32)
    else:
        values = numbers(make(record["expr"]), tuple(record["shape"]))
        assert np.isfinite(values).all()


@pytest.mark.parametrize("record", GOLDEN["dtypes"], ids=lambda r: f"{r['expr']} {r['dtype']}")
def test_golden_dtypes(record):
    dtype = getattr(mstype, record["dtype"])
    values = numbers(make(record["expr"]), (8, 8), dtype)
    assert values.dtype == dtype.np_dtype
    assert str(dtype) == record["result"]
    if not dtype.is_complex():
        as_float = values.astype(np.float64)
        assert bool((as_float == np.round(as_float)).all()) == record["integral"]
    else:
        assert (values.imag == 0).all()
    if "value" in record:
        expected = record["value"]
        expected = complex(expected["re"], expected["im"]) if dtype.is_complex() else expected
        assert (values == np.array(expected, values.dtype)).all()


@pytest.mark.parametrize("dtype", [int8, uint8, int32, int64], ids=str)
def test_integers_are_cut_as_numpy_cuts_them(dtype):
    whole = numbers(inits.Normal(100.0), (64, 64))
    expected = whole.astype(np.int64).astype(dtype.np_dtype)
    assert np.array_equal(numbers(inits.Normal(100.0), (64, 64), dtype), expected)


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_narrow_floats_are_rounded_from_float32(dtype):
    whole = numbers(inits.Normal(1.0), (64, 64))
    assert np.array_equal(numbers(inits.Normal(1.0), (64, 64), dtype), whole.astype(dtype.np_dtype))


@pytest.mark.parametrize(
    "init", [inits.Normal(1.0), inits.Uniform(1.0), inits.TruncatedNormal(1.0)], ids=repr
)
def test_float64_has_more_digits_of_the_same_numbers(init):
    narrow = numbers(init, (64, 64))
    wide = numbers(init, (64, 64), float64)
    assert wide.dtype == np.float64
    assert np.abs(wide - narrow).max() < 2e-5
    assert np.count_nonzero(wide != narrow) > 4000
    assert np.array_equal(numbers(init, (64, 64), mstype.complex128).real, wide)
    assert np.array_equal(numbers(init, (64, 64), complex64).real, narrow)


SEED_CALLS = [k for k in GOLDEN["seed"] if k.startswith("set_seed(")]


@pytest.mark.parametrize("call", SEED_CALLS)
def test_golden_set_seed(call):
    expected = GOLDEN["seed"][call]
    difference = different("seed", call)
    if expected == "ok":
        eval(call)
        return
    with pytest.raises((TypeError, ValueError), match=r"set_seed\(seed\): expected an int") as e:
        eval(call)
    name = type(e.value).__name__
    assert name == (difference["paramesh"] if difference else expected["error"])
    assert difference is None or name != expected["error"]


def test_golden_seed_sequences():
    facts = GOLDEN["seed"]

    def two() -> list[list[float]]:
        return [inits.initializer("normal", [8]).init_data().tolist() for _ in range(2)]

    set_seed(7)
    first = two()
    assert (first[0] == first[1]) == facts["two draws after one set_seed equal"]
    set_seed(7)
    assert (two() == first) == facts["draw repeats after set_seed again"]
    set_seed(8)
    assert (two() != first) == facts["different seed gives different"]
    np.random.seed(99)  # no part of the stream, unlike MindSpore's
    set_seed(7)
    assert (two() == first) == facts["set_seed alone fixes the stream"]
    assert different("seed", "np.random.seed alone fixes the stream")
    normal = inits.Normal()
    assert normal.sigma == facts["Normal attribute sigma"]
    assert normal.mean == facts["Normal attribute mean"]
    assert normal._kwargs == facts["Normal attribute _kwargs"]
    assert not hasattr(normal, "init_kwargs")
    assert different("seed", "Initializer.seed default")
    assert not hasattr(normal, "seed")


def behaviour_outcome(record: dict[str, Any]) -> dict[str, Any]:
    *before, last = record["code"].split("\n")
    scope = dict(SCOPE)
    try:
        exec("\n".join(before), scope)
        result = eval(last, scope)
    except Exception as error:
        return {"error": type(error).__name__}
    return {"result": in_json(result)}


def in_json(value: Any) -> Any:
    if isinstance(value, list):
        return [in_json(v) for v in value]
    if isinstance(value, Tensor):
        return {
            "type": "Tensor",
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "value": in_json(value.tolist()),
        }
    return {"re": value.real, "im": value.imag} if isinstance(value, complex) else value


@pytest.mark.parametrize("record", goldens.records("initializer()"), ids=goldens.case_id)
def test_golden_behaviour(record):
    expected = {k: record[k] for k in ("result", "error") if k in record}
    outcome = behaviour_outcome(record)
    difference = DIFFERENCES.get((record["area"], record["case"]))
    if difference is None:
        assert outcome == expected
    else:
        assert outcome != expected
        assert outcome.get("error", "accepted") == difference["paramesh"]


def test_every_difference_names_a_record():
    known = {("initializer()", r["case"]) for r in goldens.records("initializer()")}
    known |= {("initializers.stats", stats_id(r)) for r in GOLDEN["stats"]}
    known |= {("initializers.bad_args", r["expr"]) for r in GOLDEN["bad_args"]}
    known |= {("initializers.seed", k) for k in GOLDEN["seed"]}
    assert set(DIFFERENCES) <= known
    for difference in DIFFERENCES.values():
        assert set(difference) == {"area", "case", "paramesh", "reason"}


# Errors of our own.


@pytest.mark.parametrize(
    ("construct", "error", "match"),
    [
        (lambda: inits.Normal(math.nan), ValueError, "finite"),
        (lambda: inits.Normal(True), TypeError, "True"),
        (lambda: inits.TruncatedNormal(a=1, b=-1), ValueError, "a <= b"),
        (lambda: inits.TruncatedNormal(0.01, 0.0, 0.5, 1.0), ValueError, "not multiples of sigma"),
        (lambda: inits.TruncatedNormal(0.0, 5.0), ValueError, "sigma is 0"),
        (lambda: inits.Constant(1j), ValueError, "one number"),
        (lambda: inits.Sparse(2.0), ValueError, "share from 0 to 1"),
        (lambda: inits.VarianceScaling(math.inf), ValueError, "finite"),
        (lambda: inits.initializer(inits.One, [2]), TypeError, r"Write One\(\)"),
        (lambda: inits.initializer("sparse", [2, 2]), TypeError, "Sparse needs its argument"),
        (
            lambda: inits.initializer(Tensor([1.0, 2.0]), [3]),
            ValueError,
            r"\(2,\), but shape is \(3,\)",
        ),
        (lambda: Recipe(inits.Normal, (0, 0), (2,), float32), TypeError, "expected an Initializer"),
    ],
)
def test_mistakes_are_named(construct, error, match):
    with pytest.raises(error, match=match):
        construct()


def test_infinity_is_no_integer():
    assert np.isinf(numbers(inits.Constant(math.inf), (2,))).all()
    with pytest.raises(ValueError, match="no value of element type Int32"):
        numbers(inits.Constant(math.inf), (2,), int32)


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


# Recipes.


def test_keys_are_counted_from_the_seed():
    set_seed(3)
    assert [next_key() for _ in range(3)] == [(3, 0), (3, 1), (3, 2)]
    assert get_seed() == 3
    set_seed(4)
    assert next_key() == (4, 0)


def test_without_a_seed_the_seed_is_zero(monkeypatch):
    monkeypatch.setattr(keys, "_keys", keys._Keys())
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
    assert eval(text, vars(inits)) == init
    assert hash(eval(text, vars(inits))) == hash(init)


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
    assert not any(isinstance(s, jax.core.Tracer) for s in seen)
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
    from paramesh import drawing, rows

    shape = (300, 301)
    numbers(inits.Normal(1.0), shape)
    before = drawing._slice_program.cache_info().misses
    for n, init in enumerate([inits.Normal(2.0, 1.0), inits.HeNormal(), inits.XavierNormal()]):
        numbers(init, shape, key=(n, n))
    # A part of a larger array, and the same shape as a run of whole rows.
    numbers(inits.Normal(), (900, 301), index=(slice(300, 600),))
    assert drawing._slice_program.cache_info().misses == before
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
