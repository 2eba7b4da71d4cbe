"""Initializers: the records of MindSpore 2.10, and the errors for what is not an initializer."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

import goldens
from paramesh import dtype as mstype
from paramesh import initializer as inits
from paramesh.dtype import bfloat16, complex64, float16, float32, float64, int8, int32, int64, uint8
from paramesh.parameter import Parameter
from paramesh.sampling.recipe import Initializer, Recipe, compute_many, set_seed
from paramesh.tensor import Tensor
from recipe_cases import numbers
from type_checks import wrong

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


def make(expr: str) -> Initializer:
    return eval(expr, dict(SCOPE))


def different(area: str, case: str) -> dict[str, Any] | None:
    return DIFFERENCES.get((f"initializers.{area}", case))


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
    kurtosis = scipy.stats.kurtosis(values.reshape(-1), fisher=False) if values.std() else None
    if difference is None:
        if record["kurtosis"] is None:
            assert kurtosis is None
        elif min(values.size, record["samples"]) > 10_000:
            assert kurtosis == pytest.approx(record["kurtosis"], abs=0.15)
        assert (values == 0).mean() == pytest.approx(record["frac_zero"], abs=1e-4)
    else:  # truncated at two standard deviations of the normal, not uniform
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
        assert (np.imag(values) == 0).all()
    if "value" in record:
        expected = record["value"]
        expected = complex(expected["re"], expected["im"]) if dtype.is_complex() else expected
        assert (values == np.array(expected, values.dtype)).all()


@pytest.mark.parametrize("dtype", [int8, uint8, int32, int64], ids=str)
def test_integers_are_truncated_as_numpy_truncates_them(dtype):
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
    assert np.array_equal(np.real(numbers(init, (64, 64), mstype.complex128)), wide)
    assert np.array_equal(np.real(numbers(init, (64, 64), complex64)), narrow)


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
    np.random.seed(99)  # not part of the stream, unlike MindSpore's
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
        (lambda: inits.Constant(wrong(1j)), ValueError, "one number"),
        (lambda: inits.Sparse(2.0), ValueError, "share from 0 to 1"),
        (lambda: inits.VarianceScaling(math.inf), ValueError, "finite"),
        (lambda: inits.initializer(wrong(inits.One), [2]), TypeError, r"Write One\(\)"),
        (lambda: inits.initializer("sparse", [2, 2]), TypeError, "Sparse needs its argument"),
        (
            lambda: inits.initializer(Tensor([1.0, 2.0]), [3]),
            ValueError,
            r"\(2,\), but shape is \(3,\)",
        ),
        (
            lambda: Recipe(wrong(inits.Normal), (0, 0), (2,), float32),
            TypeError,
            "expected an Initializer",
        ),
    ],
)
def test_mistakes_are_named(construct, error, match):
    with pytest.raises(error, match=match):
        construct()


def test_infinity_is_no_integer():
    assert np.isinf(numbers(inits.Constant(math.inf), (2,))).all()
    with pytest.raises(ValueError, match="no value of element type Int32"):
        numbers(inits.Constant(math.inf), (2,), int32)


def test_an_initializer_of_mindspores_kind_with_its_helper() -> None:
    class Two(inits.Initializer):
        def _initialize(self, arr: Any) -> None:
            inits._assignment(arr, 2)

    assert inits.initializer(Two(), [2, 1], int32).asnumpy().tolist() == [[2], [2]]
    array = np.zeros((2, 2))
    inits._assignment(array, np.array([1, 2]))
    assert array.tolist() == [[1, 2], [1, 2]]


def test_what_scripts_scale_their_own_values_by() -> None:
    assert inits._calculate_fan_in_and_fan_out((4, 3)) == (3, 4)
    assert inits._calculate_fan_in_and_fan_out((4, 3, 2, 5)) == (30, 40)
    assert inits._calculate_correct_fan((4, 3, 2, 5), "FAN_OUT") == 40
    assert [inits._calculate_gain(name) for name in ("sigmoid", "conv2d", "tanh")] == [1, 1, 5 / 3]
    assert inits._calculate_gain("relu") == np.sqrt(2)
    assert inits._calculate_gain("leaky_relu", 1) == 1
    assert inits._calculate_gain("leaky_relu") == np.sqrt(2 / 1.0001)
    with pytest.raises(ValueError, match="need a shape"):
        inits._calculate_fan_in_and_fan_out((4,))
    with pytest.raises(ValueError, match="'fan_in' or 'fan_out', got 'fan'"):
        inits._calculate_correct_fan((4, 3), "fan")
    with pytest.raises(ValueError, match="got 'selu'"):
        inits._calculate_gain("selu")
    with pytest.raises(ValueError, match="slope"):
        inits._calculate_gain("leaky_relu", True)
