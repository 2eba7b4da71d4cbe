"""`paramesh.numpy`: numpy's functions over Tensors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, numpy_functions
from paramesh import numpy as mnp
from type_checks import untyped, wrong

RNG = np.random.default_rng(0)
X = RNG.uniform(0.1, 0.9, (3, 4)).astype(np.float32)
Y = RNG.uniform(0.1, 0.9, (3, 4)).astype(np.float32)
V = np.array([3.0, 1.0, 2.0], np.float32)
W = np.array([1.0, 4.0, 2.5], np.float32)
M = RNG.uniform(-1, 1, (3, 3)).astype(np.float32)
I = np.array([6, 4, 9], np.int32)  # noqa: E741
J = np.array([4, 6, 3], np.int32)
B = np.array([[True, False], [True, True]])

_OF_ONE = """
    abs absolute arccos arcsin arcsinh arctan arctanh cbrt ceil cos cosh deg2rad degrees exp exp2
    expm1 floor isfinite isinf isnan log log10 log1p log2 negative positive rad2deg radians
    reciprocal rint sign signbit sin sinh sqrt square tan tanh trunc fix all amax amin any around
    argmax argmin argsort atleast_1d atleast_2d atleast_3d average count_nonzero cumprod cumsum diff
    fliplr flipud flip max mean min nanmax nanmean nanmin nanstd nansum nanvar norm ones_like prod
    ptp ravel size sort squeeze std sum transpose tril triu unique var zeros_like copy isneginf
    isposinf nancumsum round corrcoef cov diag diagonal array asarray nonzero unwrap gradient
"""
_OF_TWO = """
    add arctan2 array_equal array_equiv copysign divide equal float_power floor_divide fmod
    greater greater_equal heaviside hypot isclose less less_equal logaddexp logaddexp2
    logical_and logical_or logical_xor maximum minimum mod multiply not_equal power remainder
    subtract true_divide append divmod inner
"""
#: Name -> arguments, for what takes more than one or two arrays.
_OTHERS: dict[str, list[tuple[Any, ...]]] = {
    "arange": [(5,), (1.0, 2.0, 0.25)],
    "arccosh": [(X + 1,)],
    "bartlett": [(5,)],
    "blackman": [(5,)],
    "choose": [(np.array([1, 0, 1]), [V, W])],
    "hamming": [(5,)],
    "hanning": [(5,)],
    "histogram2d": [(V, W, 2)],
    "histogram_bin_edges": [(V, 3)],
    "histogramdd": [(X, 2)],
    "in1d": [(I, J)],
    "indices": [((2, 3),)],
    "intersect1d": [(I, J)],
    "ix_": [(I, J)],
    "bitwise_not": [(I,)],
    "polyder": [(V,)],
    "polyint": [(V,)],
    "polymul": [(V, W)],
    "polysub": [(V, W)],
    "ravel_multi_index": [(np.array([[1, 0], [2, 1]]), (2, 3))],
    "setdiff1d": [(I, J)],
    "tril_indices_from": [(X,)],
    "triu_indices_from": [(X,)],
    "array_split": [(X, 2)],
    "bincount": [(I,)],
    "bitwise_and": [(I, J)],
    "bitwise_or": [(I, J)],
    "bitwise_xor": [(I, J)],
    "broadcast_arrays": [(X, V[:1])],
    "broadcast_to": [(V, (2, 3))],
    "clip": [(X, 0.3, 0.6)],
    "column_stack": [([V, W],)],
    "concatenate": [([X, Y],), ((X, Y), 1)],
    "convolve": [(V, W)],
    "correlate": [(V, W), (V, W[:2])],
    "cross": [(V, W)],
    "diag_indices": [(3,)],
    "diagflat": [(V,)],
    "digitize": [(V, np.array([0.0, 1.5, 2.5], np.float32))],
    "dot": [(M, V)],
    "dsplit": [(np.ones((2, 2, 4), np.float32), 2)],
    "dstack": [([V, W],)],
    "ediff1d": [(V,)],
    "empty": [],
    "empty_like": [],
    "expand_dims": [(X, 1)],
    "eye": [(3,), (2, 3)],
    "full": [((2, 3), 1.5)],
    "full_like": [(X, 2)],
    "gcd": [(I, J)],
    "geomspace": [(1.0, 8.0, 4)],
    "histogram": [(V, 3)],
    "hsplit": [(X, 2)],
    "hstack": [([V, W],)],
    "identity": [(3,)],
    "interp": [(V, np.array([0.0, 2.0], np.float32), np.array([1.0, 5.0], np.float32))],
    "invert": [(I,)],
    "isin": [(I, J)],
    "kron": [(V, W)],
    "lcm": [(I, J)],
    "linspace": [(0.0, 1.0, 5)],
    "logical_not": [(B,)],
    "logspace": [(0.0, 2.0, 3)],
    "matmul": [(M, M)],
    "meshgrid": [(V, W)],
    "moveaxis": [(X, 0, 1)],
    "ones": [((2, 3),)],
    "outer": [(V, W)],
    "pad": [(X, ((1, 0), (0, 2)))],
    "polyadd": [(V, W)],
    "polyval": [(V, 2.0)],
    "repeat": [(X, 2, 1)],
    "reshape": [(X, (2, 6)), (X, -1)],
    "roll": [(X, 1, 0)],
    "rollaxis": [(X, 1)],
    "rot90": [(X,)],
    "searchsorted": [(np.sort(V), W)],
    "select": [([V > 1.5, V > 0.5], [V, W])],
    "split": [(X, 2, 1)],
    "stack": [([V, W],), ((V, W), 1)],
    "swapaxes": [(X, 0, 1)],
    "take": [(V, np.array([0, 2]))],
    "take_along_axis": [(X, np.array([[0], [2], [1]]), 1)],
    "tensordot": [(M, M, 1)],
    "tile": [(V, (2, 2))],
    "trace": [(M,)],
    "trapezoid": [(V,)],
    "trapz": [(V, None, 0.5)],
    "matrix_power": [(M, 3)],
    "multi_dot": [([M, M, V],)],
    "tri": [(3,)],
    "tril_indices": [(3,)],
    "triu_indices": [(3,)],
    "unravel_index": [(5, (2, 3))],
    "vander": [(V,)],
    "vsplit": [(X[:2], 2)],
    "vstack": [([V, W],)],
    "where": [(X > 0.5, X, Y)],
    "zeros": [((2, 3),)],
}
CASES = [(name, (X,)) for name in _OF_ONE.split() if name not in ("unwrap", "gradient")]
CASES += [("unwrap", (V,)), ("gradient", (V,))]
CASES += [(name, (X, Y)) for name in _OF_TWO.split()]
CASES += [(name, args) for name, listed in _OTHERS.items() for args in listed]
_THEIRS = {
    "matrix_power": np.linalg.matrix_power,
    "multi_dot": np.linalg.multi_dot,
    "norm": np.linalg.norm,
    "trapz": np.trapezoid,
    "in1d": np.isin,
}
#: What scripts use most; the rest takes a compilation each.
_MOST = """
    arange zeros ones sum diag reshape expand_dims concatenate log transpose minimum repeat isin
    take_along_axis where tile squeeze split sqrt norm array full mean stack ones_like tensordot
    roll meshgrid eye matmul square flip zeros_like fix divmod unique
"""
PARAMS = [
    pytest.param(*case, marks=[] if case[0] in _MOST.split() else [pytest.mark.slow], id=case[0])
    for case in CASES
]


def tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Tensor(value)
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(tensors(v) for v in value)
    return value


def flat(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [part for each in value for part in flat(each)]
    return [value]


@pytest.mark.parametrize(("name", "args"), PARAMS)
def test_it_equals_numpy(name: str, args: tuple[Any, ...]) -> None:
    given = flat(getattr(mnp, name)(*map(tensors, args)))
    expected = (_THEIRS.get(name) or getattr(np, name))(*args)
    for mine, theirs in zip(given, flat(expected), strict=True):
        if name in ("size",):
            assert mine == theirs
            continue
        assert isinstance(mine, Tensor)
        assert mine.shape == np.shape(theirs)
        np.testing.assert_allclose(mine.asnumpy(), theirs, rtol=2e-5, atol=1e-6)


def test_every_function_has_a_case() -> None:
    functions = {name for name in mnp.__all__ if callable(getattr(mnp, name))}
    types = {name for name in functions if isinstance(getattr(mnp, name), paramesh.DType)}
    functions -= set(numpy_functions.__all__)  # which have cases of their own
    assert functions - types == {name for name, _ in CASES} | {
        *("empty", "empty_like", "rand", "randint", "randn")
    }


def test_element_types() -> None:
    assert mnp.zeros(2).dtype == mnp.empty(2).dtype == mnp.full(2, 1.5).dtype == paramesh.float32
    assert mnp.arange(3).dtype == mnp.array([1, 2]).dtype == paramesh.int32
    assert mnp.zeros(2, dtype=paramesh.float64).dtype == paramesh.float64
    assert mnp.ones(2, mnp.int64).dtype == paramesh.int64
    wide = Tensor(np.array([1.0, 2.0]), paramesh.float64)
    assert mnp.empty_like(wide).dtype == mnp.stack([wide, wide]).dtype == paramesh.float64
    half = mnp.full(2, 1.0) * Tensor([1, 2], paramesh.float16)
    assert half.dtype == paramesh.float32  # `full` gave a Tensor, not a number


def test_lists_of_numbers() -> None:
    assert mnp.trapz([1.0, 2.0, 3.0], x=[4, 6, 8]).asnumpy() == 8
    assert mnp.add([1, 2], [3, 4]).asnumpy().tolist() == [4, 6]
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'no'"):
        untyped(mnp.add)([1, 2], [3, 4], no=1)


def test_meshgrid_of_any_shape() -> None:
    first, second = mnp.meshgrid(Tensor(M), Tensor(V))
    theirs = np.meshgrid(M, V)
    assert np.array_equal(first.asnumpy(), theirs[0])
    assert np.array_equal(second.asnumpy(), theirs[1])


def test_a_first_argument_has_mindspores_name() -> None:
    parts = mnp.split(x=Tensor(X), indices_or_sections=2, axis=1)
    assert [part.shape for part in parts] == [(3, 2), (3, 2)]
    assert next(iter(inspect.signature(mnp.split).parameters)) == "x"


def test_it_is_differentiated_and_compiled() -> None:
    x = Tensor([1.0, 2.0])
    assert paramesh.grad(lambda t: mnp.sum(mnp.square(t)))(x).asnumpy().tolist() == [2, 4]
    assert paramesh.jit(lambda t: mnp.where(t > 1, t, 0))(x).asnumpy().tolist() == [0, 2]
    assert mnp.add(Parameter(Tensor([1.0, 1.0]), name="p"), x).asnumpy().tolist() == [2, 3]


def test_a_name_that_there_is_not_gets_a_suggestion() -> None:
    with pytest.raises(AttributeError, match=r"'paramesh\.numpy' has no .* Did you mean arange"):
        _ = getattr(mnp, "aragne")  # noqa: B009 - checkers know that there is none


def test_arguments_have_names_as_in_mindspore() -> None:
    assert np.array_equal(mnp.where(condition=X > 0.5, x=X, y=Y).asnumpy(), np.where(X > 0.5, X, Y))
    assert np.array_equal(mnp.where(X > 0.5, x=X, y=0.0).asnumpy(), np.where(X > 0.5, X, 0))
    assert list(inspect.signature(mnp.where).parameters)[:3] == ["condition", "x", "y"]
    with pytest.raises(TypeError, match="z"):
        untyped(mnp.where)(X > 0.5, x=X, z=Y)


def test_random_numbers_come_from_the_seed() -> None:
    def drawn() -> list[Tensor]:
        paramesh.set_seed(3)
        return [mnp.rand(2, 3), mnp.randn((2, 3)), mnp.randint(5, shape=(100,)), mnp.randint(2, 4)]

    uniform, normal, whole, one = drawn()
    assert uniform.shape == normal.shape == (2, 3)
    assert set(whole.asnumpy().tolist()) == set(range(5))
    assert whole.dtype == mnp.int32
    assert one.shape == ()
    assert int(one) in (2, 3)
    for a, b in zip(drawn(), drawn(), strict=True):
        assert np.array_equal(a.asnumpy(), b.asnumpy())


def test_errors_name_the_function_and_show_what_it_was_given() -> None:
    x = Tensor(np.ones((2, 3), np.float32))
    for call, error, says in [
        (
            lambda: mnp.mean(x, wrong("a")),
            TypeError,
            r"numpy.mean: .*\nIn numpy.mean\(Float32\[2, 3\], 'a'",
        ),
        (lambda: mnp.argmax(x, 5), ValueError, r"numpy.argmax: there is no such axis"),
        (lambda: mnp.add(x, wrong(None)), TypeError, r"add"),
    ]:
        with pytest.raises(error, match=says):
            call()


@pytest.mark.parametrize("name", ["add", "sum", "clip", "mean", "concatenate"])
def test_nothing_is_written_into_tensors(name: str) -> None:
    given = [Tensor(X)] if name in ("sum", "mean") else [Tensor(X), Tensor(Y)]
    args = ([*given],) if name == "concatenate" else given
    with pytest.raises(TypeError, match=rf"^numpy\.{name} takes no `out`"):
        getattr(mnp, name)(*args, out=Tensor(X))


def test_interp_knows_left_from_right() -> None:
    # jax.numpy.interp mixes them up where it was called with the other one before.
    xp, fp, x = np.arange(5.0), np.array([3.0, 1, 4, 1, 5]), np.array([-2.0, 1.5, 9])
    for ends in ({}, {"left": 7.0}, {"right": 8.0}, {"left": 0.5}, {"left": 1.0, "right": 2.0}):
        got = mnp.interp(Tensor(x), Tensor(xp), fp.tolist(), **ends)
        np.testing.assert_allclose(got.asnumpy(), np.interp(x, xp, fp, **ends))


@pytest.mark.parametrize(
    ("kind", "sums", "products"),
    [
        ("uint8", "Int32", "UInt32"),
        ("int8", "Int32", "Int32"),
        ("int16", "Int32", "Int32"),
        ("int32", "Int32", "Int32"),
        ("float16", "Float16", "Float16"),
    ],
)
def test_running_sums_of_small_integers_do_not_overflow(
    kind: str, sums: str, products: str
) -> None:
    """Element types as MindSpore 2.10 gives them."""
    x = Tensor(np.arange(1, 7).astype(kind))
    total, product = mnp.cumsum(x), mnp.cumprod(x)
    assert (str(total.dtype), str(product.dtype)) == (sums, products)
    assert (total[-1].item(), product[-1].item()) == (21, 720)
    assert str(mnp.cumsum(x, dtype=paramesh.float32).dtype) == "Float32"
