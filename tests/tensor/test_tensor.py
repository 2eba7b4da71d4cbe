"""Tensor: its methods against numpy's, its place among numpy, JAX and DLPack, its errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import paramesh
from paramesh import dtype as dt
from paramesh.initializer import Normal, initializer
from paramesh.tensor import Tensor
from paramesh.tensor.base import as_value, raw, wrap
from paramesh.tensor.methods import ArrayMethods
from type_checks import untyped, wrong

# One shape for all, so that JAX compiles each operation once.
FLOATS = np.array([[0.5, -2.0, 3.25], [4.0, 0.25, -1.5]], np.float32)
INTS = np.array([[5, -2, 3], [4, 0, -7]], np.int32)
WIDE = np.array([[2**40, 3], [-(2**41), 2**33 + 1]], np.int64)
FINE = np.array([[1 + 2.0**-40, 3.0], [-1e200, 0.5]], np.float64)


def check(got: Any, expected: Any, dtype: dt.DType, rtol: float = 1e-6) -> None:
    assert got.dtype is dtype
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got.asnumpy(), expected, rtol=rtol)


# What a method gives, what numpy gives; the element types that come out of Float32 and Int32.
SAME = (dt.float32, dt.int32)
SUM = (dt.float32, dt.int64)
FRACTION = (dt.float32, dt.float32)
BOOL = (dt.bool_, dt.bool_)
INDEX = (dt.int64, dt.int64)
METHODS: list[tuple[str, Callable[[Any], Any], Callable[[np.ndarray], Any], Any]] = [
    ("reshape", lambda t: t.reshape(3, 2), lambda a: a.reshape(3, 2), SAME),
    ("reshape -1", lambda t: t.reshape((-1,)), np.ravel, SAME),
    ("view", lambda t: t.view(6), np.ravel, SAME),
    ("view_as", lambda t: t.view_as(np.zeros((3, 2))), lambda a: a.reshape(3, 2), SAME),
    ("transpose", lambda t: t.transpose(), lambda a: a.T, SAME),
    ("transpose axes", lambda t: t.transpose(1, 0), lambda a: a.T, SAME),
    ("transpose tuple", lambda t: t.transpose((1, 0)), lambda a: a.T, SAME),
    ("permute", lambda t: t.permute(1, 0), lambda a: a.T, SAME),
    ("T", lambda t: t.T, lambda a: a.T, SAME),
    ("mT", lambda t: t.mT, lambda a: a.T, SAME),
    ("mH", lambda t: t.mH, lambda a: a.T, SAME),
    ("swapaxes", lambda t: t.swapaxes(0, -1), lambda a: a.T, SAME),
    ("expand_dims", lambda t: t.expand_dims(1), lambda a: a[:, None], SAME),
    ("unsqueeze", lambda t: t.unsqueeze(-1), lambda a: a[..., None], SAME),
    ("squeeze", lambda t: t[:1].squeeze(), lambda a: a[0], SAME),
    ("squeeze axis", lambda t: t[:1].squeeze(0), lambda a: a[0], SAME),
    ("flatten", lambda t: t.flatten(), np.ravel, SAME),
    ("flatten F", lambda t: t.flatten("F"), lambda a: a.ravel("F"), SAME),
    ("ravel", lambda t: t.ravel(), np.ravel, SAME),
    ("broadcast_to", lambda t: t.broadcast_to((2, 2, 3)), lambda a: np.stack([a, a]), SAME),
    ("expand_as", lambda t: t.expand_as(np.zeros((1, 2, 3))), lambda a: a[None], SAME),
    ("repeat", lambda t: t.repeat(2, 1), lambda a: a.repeat(2, 1), SAME),
    ("tile", lambda t: t.tile((2, 1)), lambda a: np.tile(a, (2, 1)), SAME),
    ("sum", lambda t: t.sum(), np.sum, SUM),
    ("sum axis", lambda t: t.sum(1), lambda a: a.sum(1), SUM),
    ("sum keepdims", lambda t: t.sum((0, 1), keepdims=True), lambda a: [[a.sum()]], SUM),
    ("sum no axes", lambda t: t.sum(()), np.sum, SUM),
    ("sum dtype", lambda t: t.sum(dtype=dt.float16), np.sum, (dt.float16, dt.float16)),
    ("prod", lambda t: t.prod(0), lambda a: a.prod(0), SUM),
    ("mean", lambda t: t.mean(), np.mean, FRACTION),
    ("mean axis", lambda t: t.mean(-1, keepdims=True), lambda a: a.mean(1)[:, None], FRACTION),
    ("var", lambda t: t.var(ddof=1), lambda a: a.var(ddof=1), FRACTION),
    ("std", lambda t: t.std(0), lambda a: a.std(0), FRACTION),
    ("max", lambda t: t.max(), np.max, SAME),
    ("max axis", lambda t: t.max(1), lambda a: a.max(1), SAME),
    ("min", lambda t: t.min(0, keepdims=True), lambda a: a.min(0)[None], SAME),
    ("argmax", lambda t: t.argmax(), np.argmax, INDEX),
    ("argmax axis", lambda t: t.argmax(1), lambda a: a.argmax(1), INDEX),
    ("argmin", lambda t: t.argmin(0), lambda a: a.argmin(0), (dt.int32, dt.int32)),
    ("cumsum", lambda t: t.cumsum(1), lambda a: a.cumsum(1), SAME),
    ("all", lambda t: t.all(1), lambda a: a.all(1), BOOL),
    ("any", lambda t: t.any(), np.any, BOOL),
    ("clip", lambda t: t.clip(-1, 3), lambda a: a.clip(-1, 3), SAME),
    ("clip open", lambda t: t.clamp(min=0), lambda a: a.clip(0, None), SAME),
    ("abs", lambda t: t.abs(), np.abs, SAME),
    ("abs()", abs, np.abs, SAME),
    ("neg", lambda t: -t, np.negative, SAME),
    ("pos", lambda t: +t, np.positive, SAME),
    ("square", lambda t: t.square(), np.square, SAME),
    ("sqrt", lambda t: t.abs().sqrt(), lambda a: np.sqrt(np.abs(a)), FRACTION),
    ("rsqrt", lambda t: (t.abs() + 1).rsqrt(), lambda a: 1 / np.sqrt(np.abs(a) + 1), FRACTION),
    ("exp", lambda t: t.exp(), np.exp, FRACTION),
    ("log", lambda t: (t.abs() + 1).log(), lambda a: np.log(np.abs(a) + 1), FRACTION),
    ("sin", lambda t: t.sin(), np.sin, FRACTION),
    ("cos", lambda t: t.cos(), np.cos, FRACTION),
    ("tanh", lambda t: t.tanh(), np.tanh, FRACTION),
    ("sigmoid", lambda t: t.sigmoid(), lambda a: 1 / (1 + np.exp(-a)), FRACTION),
    ("pow", lambda t: t.pow(2), lambda a: a**2, SAME),
    ("isnan", lambda t: t.isnan(), np.isnan, BOOL),
    ("isfinite", lambda t: t.isfinite(), np.isfinite, BOOL),
    ("matmul", lambda t: t.matmul(t.T), lambda a: a @ a.T, SAME),
    ("take", lambda t: t.take([4, 0]), lambda a: a.take([4, 0]), SAME),
    ("take axis", lambda t: t.take(Tensor([2, 0]), 1), lambda a: a[:, [2, 0]], SAME),
    ("masked_fill", lambda t: t.masked_fill(t < 0, 1), lambda a: np.where(a < 0, 1, a), SAME),
    (
        "itemset",
        lambda t: t.itemset(1, 7),
        lambda a: np.where(np.arange(a.size).reshape(a.shape) == 1, 7, a),
        SAME,
    ),
    ("split", lambda t: t.split(2, 1)[1], lambda a: a[:, 2:], SAME),
    ("split sizes", lambda t: t.split([1, 2], 1)[1], lambda a: a[:, 1:], SAME),
    ("sort", lambda t: t.sort()[0], np.sort, SAME),
    ("sort indices", lambda t: t.sort(0)[1], lambda a: a.argsort(0), (dt.int32, dt.int32)),
    (
        "argsort",
        lambda t: t.argsort(descending=True),
        lambda a: (-a).argsort(),
        (dt.int32, dt.int32),
    ),
    ("topk", lambda t: t.topk(2)[0], lambda a: -np.sort(-a)[:, :2], SAME),
    ("topk indices", lambda t: t.topk(1)[1][:, 0], lambda a: a.argmax(1), (dt.int32, dt.int32)),
    ("half", lambda t: t.half(), np.asarray, (dt.float16, dt.float16)),
    ("bool", lambda t: t.bool(), lambda a: a != 0, BOOL),
    ("int", lambda t: t.int(), lambda a: a.astype(np.int32), (dt.int32, dt.int32)),
    ("long", lambda t: t.long(), lambda a: a.astype(np.int64), INDEX),
    ("float", lambda t: t.float(), np.asarray, FRACTION),
    ("astype", lambda t: t.astype("float64"), np.asarray, (dt.float64, dt.float64)),
    ("to", lambda t: t.to(dt.bfloat16), np.asarray, (dt.bfloat16, dt.bfloat16)),
    ("value", lambda t: t.value(), np.asarray, SAME),
    ("copy", lambda t: t.copy(), np.asarray, SAME),
]


@pytest.mark.parametrize(
    ("name", "method", "numpy_s", "dtypes"), METHODS, ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("which", [0, 1], ids=["float32", "int32"])
def test_method_against_numpy(
    which: int, name: str, method: Any, numpy_s: Any, dtypes: Any
) -> None:
    array = (FLOATS, INTS)[which]
    # Exponentials in half the digits; everything else to the last but one.
    check(method(Tensor(array)), numpy_s(array), dtypes[which], 2e-6)


def test_methods_are_all_in_the_table() -> None:
    public = {n for n in vars(ArrayMethods) if not n.startswith("_")}
    covered = {name.split()[0].strip("()") for name, *_ in METHODS}
    assert public - covered == {"clamp"}  # in the table under clip


WIDE_CASES: list[tuple[str, Callable[[Any], Any]]] = [
    ("+", lambda a: a + 1),
    ("+ self", lambda a: a + a),
    ("-", lambda a: 3 - a),
    ("*", lambda a: a * 3),
    ("//", lambda a: a // 7),
    ("%", lambda a: a % 5),
    ("**", lambda a: a**1),
    ("==", lambda a: a == a[0, 0]),
    (">", lambda a: a > a[1, 1]),
    ("@", lambda a: a @ a),
    ("abs", abs),
    ("-x", lambda a: -a),
    ("index", lambda a: a[0]),
    ("mask", lambda a: a[a > 0]),
    ("array index", lambda a: a[np.array([1, 0])]),
    ("iteration", lambda a: list(a)[1]),
    ("sum", lambda a: a.sum()),
    ("prod", lambda a: a.prod(1)),
    ("max", lambda a: a.max()),
    ("cumsum", lambda a: a.cumsum(0)),
    ("reshape", lambda a: a.reshape(4)),
    ("transpose", lambda a: a.transpose()),
    ("swapaxes", lambda a: a.swapaxes(0, 1)),
    ("take", lambda a: a.take(np.array([3]))),
    ("clip", lambda a: a.clip(-3, 2**36)),
    ("repeat", lambda a: a.repeat(2)),
    ("flatten", lambda a: a.flatten()),
]


@pytest.mark.parametrize(
    ("name", "method"), WIDE_CASES, ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("array", [WIDE, FINE], ids=["int64", "float64"])
def test_64_bits_are_kept(array: np.ndarray, name: str, method: Any) -> None:
    if name == "@" and array is FINE:
        array = np.array([[1 + 2.0**-40, 3.0], [-1e100, 0.5]])
    with np.errstate(over="ignore"):
        expected = method(array)
    got = method(Tensor(array))
    assert got.dtype.np_dtype == expected.dtype
    # A sum of products may be fused or not, which is worth a bit.
    np.testing.assert_allclose(got.asnumpy(), expected, rtol=4e-16 if name == "@" else 0)
    assert not dt.x64_enabled()


def test_64_bits_are_kept_by_mean_sort_and_assignment() -> None:
    t = Tensor(FINE)
    check(t[0].mean(), FINE[0].mean(), dt.float64, 1e-15)
    check(t.sort()[0], np.sort(FINE), dt.float64, 0)
    t[0, 0] = 1 + 2.0**-50
    assert t[0, 0].item() == 1 + 2.0**-50
    u = Tensor(np.array([2**60 + 1, 0], np.uint64))
    u[1] = 2**64 - 1
    assert u.tolist() == [2**60 + 1, 2**64 - 1]
    assert (u >> Tensor(np.array([1, 1], np.uint64))).tolist() == [2**59, 2**63 - 1]


# Indexing and assignment.

INDEXES: list[Any] = [
    0,
    -1,
    (1, 2),
    (slice(None), 1),
    (slice(None, None, -1), slice(0, 2)),
    (..., -1),
    (None, 0),
    [1, 0],
    ([0, 1], [2, 0]),
    np.array([[1], [0]]),
    FLOATS > 0,
    (slice(None), np.array([True, False, True])),
    (np.array([0, 1]), slice(1, None)),
    slice(0, 0),
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda i: " ".join(str(i).split())[:24])
def test_indexing_and_assignment_against_numpy(index: Any) -> None:
    t, a = Tensor(FLOATS), FLOATS.copy()
    np.testing.assert_array_equal(t[index].asnumpy(), a[index])
    t[index], a[index] = 7.5, 7.5
    np.testing.assert_array_equal(t.asnumpy(), a)
    row = np.arange(a[index].size, dtype=np.float32).reshape(a[index].shape)
    t[index], a[index] = Tensor(row), row
    np.testing.assert_array_equal(t.asnumpy(), a)


def test_tensors_as_indexes() -> None:
    t = Tensor(FLOATS)
    assert t[Tensor(1)].tolist() == FLOATS[1].tolist()
    assert t[Tensor([1, 0]), Tensor([0, 2])].tolist() == [4.0, 3.25]
    assert t[t > 0].tolist() == FLOATS[FLOATS > 0].tolist()
    assert t[Tensor(0) : Tensor(1)].shape == (1, 3)
    t[t < 0] = 0
    assert t.min().item() == 0
    t[Tensor([0, 1]), [0, 0]] = np.array([8.0, 9.0], np.float32)
    assert t[:, 0].tolist() == [8.0, 9.0]
    assert [1, 2, 3][Tensor(2)] == 3  # __index__


def test_assignment_keeps_the_element_type() -> None:
    t = Tensor(INTS)
    t[0] = Tensor(FLOATS[1])
    assert t.dtype is dt.int32
    assert t[0].tolist() == [4, 0, -1]
    t[1, 1] = True
    assert t[1, 1].item() == 1


def test_assignment_touches_no_other_tensor() -> None:
    t = Tensor(FLOATS)
    others = [t.value(), t.copy(), copy.copy(t), t.reshape(6), Tensor(t), +t]
    kept, array = t[0], np.asarray(t)
    t[0] = 9
    assert [float(o.ravel()[0]) for o in others] == [0.5] * 6
    assert kept[0].item() == array[0, 0] == 0.5


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda t: t[2], IndexError, "Index 2 is out of range: axis 0 has 2"),
        (lambda t: t[0, -4], IndexError, "Index -4 is out of range: axis 1 has 3"),
        (lambda t: t[..., 3], IndexError, "Index 3 is out of range: axis 1 has 3"),
        (lambda t: t[[0, 2]], IndexError, "Index 2 is out of range: axis 0 has 2"),
        (lambda t: t[np.array([5])], IndexError, "Index 5 is out of range"),
        (lambda t: t[0, 0, 0], IndexError, "3 indexes for a Tensor of 2 axes"),
        (
            lambda t: t[np.array([True])],
            IndexError,
            r"mask of shape \(1,\) for axes of sizes \(2,\)",
        ),
        (lambda t: t.__setitem__(2, 1), IndexError, "Index 2 is out of range"),
        (lambda t: t.__setitem__(0, "a"), TypeError, "Cannot store str in a Float32 Tensor"),
        (lambda t: t.__setitem__(0, 1j), TypeError, "1j cannot be stored in a Float32 Tensor"),
        (
            lambda t: t.__setitem__(0, Tensor([1j, 1j, 1j])),
            TypeError,
            "Complex numbers cannot be stored in a Float32 Tensor",
        ),
        (lambda t: t.int().__setitem__(0, 2**40), OverflowError, "does not fit a Int32 Tensor"),
        (lambda t: t.int().__setitem__(0, float("nan")), OverflowError, "nan cannot be stored"),
        (lambda t: t.int() + 2**40, OverflowError, "does not fit Int32"),
        (lambda t: t + "a", TypeError, "unsupported operand"),
        (lambda t: t + None, TypeError, "unsupported operand"),
        (lambda t: t @ 2, TypeError, "@ needs two Tensors"),
        (lambda t: t @ t, ValueError, r"@ cannot multiply shapes \(2, 3\) and \(2, 3\)"),
        (lambda t: t @ t.T.half(), TypeError, "one element type, got Float32 and Float16"),
        (
            lambda t: t.astype("uint16") + t.int(),
            TypeError,
            r"\+: Int32 and UInt16 have no common|\+: UInt16 and Int32 have no common",
        ),
        (lambda t: t.reshape(4), ValueError, r"6 elements of shape \(2, 3\) do not fit \(4,\)"),
        (lambda t: t.reshape(-1, -1), ValueError, "do not fit"),
        (lambda t: t.reshape(0, -1), ValueError, "do not fit"),
        (lambda t: t.flatten("K"), ValueError, "order must be 'C' or 'F', got 'K'"),
        (lambda t: t.split([1, 1], 1), ValueError, "add up to 2, but axis 1 has 3"),
        (bool, ValueError, "truth value of a Tensor of shape .2, 3. is ambiguous"),
        (float, ValueError, r"float\(\) needs a Tensor of one element, got shape \(2, 3\)"),
        (lambda t: t.item(), ValueError, r"item\(\) needs a Tensor of one element"),
        (lambda t: [1][t[0, 0]], TypeError, "A Float32 Tensor cannot be used as an index"),
        (lambda t: len(t[0, 0]), TypeError, r"len\(\) of a 0-d Tensor"),
        (lambda t: t.assign_value(3), TypeError, "assign_value needs a Tensor, got int"),
        (lambda t: Tensor(), TypeError, "needs data .* got None"),
        (lambda t: Tensor("a"), TypeError, "got str"),
        (lambda t: Tensor([[1, 2], [3]]), TypeError, "Rows of different lengths"),
        (lambda t: Tensor([None]), TypeError, "made from numbers"),
        (lambda t: Tensor(np.array(["a"])), TypeError, "array of dtype <U1 is not supported"),
        (lambda t: Tensor(init=Normal()), ValueError, "needs shape= and dtype= too"),
        (lambda t: Tensor(t, init=Normal()), ValueError, "data or init=, not both"),
        (
            lambda t: Tensor(shape=(2,), dtype=dt.int8, init=wrong("normal")),
            TypeError,
            "Initializer, e.g.",
        ),
        (lambda t: Tensor.from_numpy(wrong([1])), TypeError, "needs a numpy array, got list"),
        (lambda t: raw("a"), TypeError, "Expected a Tensor, an array or a number, got str"),
    ],
)
def test_errors_say_what_is_wrong(act: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        act(Tensor(FLOATS))


# Among others.


def test_pytree_round_trip() -> None:
    t = Tensor(FLOATS)
    leaves, tree = jax.tree.flatten({"a": t, "b": [t]})
    assert len(leaves) == 2
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    back = jax.tree.unflatten(tree, leaves)
    assert type(back["a"]) is Tensor
    np.testing.assert_array_equal(back["b"][0].asnumpy(), FLOATS)
    doubled = jax.tree.map(lambda x: x * 2, t)
    assert type(doubled) is Tensor
    assert doubled[0, 1].item() == -4.0


def test_jax_takes_it() -> None:
    t = Tensor(FLOATS)
    assert float(jnp.sum(untyped(t))) == float(FLOATS.sum())
    out = jax.jit(lambda x: x * 2 + 1)(t)
    assert type(out) is Tensor
    np.testing.assert_array_equal(out.asnumpy(), FLOATS * 2 + 1)
    g = jax.grad(lambda x: (x**2).sum()._get())(t)
    np.testing.assert_array_equal(g.asnumpy(), FLOATS * 2)
    v = jax.vmap(lambda x: x.sum())(t)
    np.testing.assert_allclose(v.asnumpy(), FLOATS.sum(1))


#: Functions of numpy that call a method of what they are given.
NUMPYS = (
    np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.all, np.any, np.argmax, np.argmin,
    np.cumsum, np.sort, np.argsort, np.transpose, np.ravel, np.squeeze, np.diagonal, np.trace,
)  # fmt: skip


@pytest.mark.parametrize("fn", NUMPYS, ids=lambda fn: fn.__name__)
def test_functions_of_numpy(fn: Callable[..., Any]) -> None:
    numbers = np.array([[3.0, 1.0], [2.0, 5.0]], np.float32)
    for given in (Tensor(numbers), paramesh.Parameter(Tensor(numbers), name="p")):
        np.testing.assert_allclose(np.asarray(fn(given)), fn(numbers), rtol=1e-6)


def test_functions_of_numpy_with_more_arguments() -> None:
    t = Tensor(np.array([[3, 1], [2, 5]], np.int32))
    assert np.mean(untyped(t), axis=0, dtype=np.float64).dtype == dt.float64
    assert np.std(untyped(t), ddof=1, keepdims=True).shape == (1, 1)
    with pytest.raises(TypeError, match="Tensor.sum takes no `out`: Tensors are not written into"):
        np.sum(untyped(t), out=np.zeros(()))


def test_jax_functions_follow_jaxs_rule_for_64_bits() -> None:
    t = Tensor(np.arange(3))
    assert t.dtype is dt.int64
    assert jnp.sum(untyped(t)).dtype == jnp.int32
    with jax.enable_x64(True):
        assert jnp.sum(untyped(t)).dtype == jnp.int64


def test_numpy_takes_it() -> None:
    t = Tensor(FLOATS)
    assert np.asarray(t).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(t, np.float64), FLOATS)
    np.testing.assert_array_equal(np.concatenate([t, t]), np.concatenate([FLOATS, FLOATS]))
    own = np.array(t)
    own[0, 0] = 99
    assert t[0, 0].item() == 0.5


@pytest.mark.parametrize("take", ["asnumpy", "numpy"])
def test_asnumpy_is_a_copy_that_can_be_written(take: str) -> None:
    t = Tensor(FLOATS)
    array = getattr(t, take)()
    array[0, 0] = 99
    assert t[0, 0].item() == 0.5


def test_made_from_what_changes_later() -> None:
    array = FLOATS.copy()
    made = [Tensor(array), Tensor.from_numpy(array)]
    array[:] = 0
    assert all(t.sum().item() == FLOATS.sum() for t in made)


def test_numpy_on_the_left_leaves_the_work_to_the_tensor() -> None:
    t = Tensor(FLOATS)
    for out in (FLOATS + t, np.float64(1) * t, np.int64(2) - t, FLOATS @ t.T):
        assert type(out) is Tensor
        assert out.dtype is dt.float32
    assert ((t == FLOATS).asnumpy()).all()


def test_dlpack_both_ways() -> None:
    t = Tensor(FLOATS)
    np.testing.assert_array_equal(np.from_dlpack(t), FLOATS)
    np.testing.assert_array_equal(np.asarray(jnp.from_dlpack(t)), FLOATS)
    back = Tensor(jnp.from_dlpack(FLOATS.copy()))
    np.testing.assert_array_equal(back.asnumpy(), FLOATS)


@pytest.mark.parametrize("dtype", dt.ALL, ids=str)
def test_pickle_and_copies_of_every_element_type(dtype: dt.DType) -> None:
    t = Tensor([[0, 1, 3]]).astype(dtype)
    for twin in (pickle.loads(pickle.dumps(t)), copy.copy(t), copy.deepcopy(t)):
        assert twin.dtype is dtype
        assert twin.tolist() == t.tolist()
        assert twin is not t


def test_a_recipe_is_kept_by_copies_and_run_by_use() -> None:
    t = initializer("normal", [4, 3])
    twins = [copy.copy(t), copy.deepcopy(t), Tensor(t)]
    assert t.has_init
    assert all(twin.has_init for twin in twins)
    assert (t.shape, t.dtype, t.size, t.nbytes, t.ndim) == ((4, 3), dt.float32, 12, 48, 2)
    assert t.init is not None
    values = t.asnumpy()
    assert not t.has_init
    assert t.init is t.recipe is None
    assert all(twin.has_init for twin in twins)
    for twin in twins:
        np.testing.assert_array_equal(twin.asnumpy(), values)


def test_a_recipe_runs_inside_a_program_too() -> None:
    t = initializer("normal", [4, 3])
    out = jax.jit(lambda: (t * 2)._get())()
    assert not isinstance(t._get(), Tracer)
    np.testing.assert_array_equal(np.asarray(out), t.asnumpy() * 2)


def test_shape_attributes() -> None:
    t = Tensor(np.zeros((2, 3), np.float64))
    assert (t.ndim, t.dim(), t.size, t.numel(), t.itemsize, t.nbytes) == (2, 2, 6, 6, 8, 48)
    assert t.strides == (24, 8)
    assert len(t) == 2
    assert [row.shape for row in t] == [(3,), (3,)]


def test_numbers() -> None:
    assert float(Tensor(1.5)) == Tensor([[1.5]]).item() == 1.5
    assert int(Tensor([7])) == 7
    assert complex(Tensor(1 + 2j)) == 1 + 2j
    assert bool(Tensor([0])) is False
    assert 4.0 in Tensor(FLOATS)
    assert 5.0 not in Tensor(FLOATS)
    assert Tensor(FLOATS).item((1, 0)) == 4.0
    assert f"{Tensor(1.5):.3f}" == "1.500"
    assert f"{Tensor([1.0, 2.0])}" == "[1. 2.]"


def test_hash_is_identity_and_equality_elementwise() -> None:
    t, u = Tensor([1.0]), Tensor([1.0])
    assert len({t, u}) == 2
    assert (t == u).tolist() == [True]
    assert (t != [2.0]).tolist() == [True]


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        (lambda t: t < 300, True),
        (lambda t: t <= 300, True),
        (lambda t: t == 300, False),
        (lambda t: t != 300, True),
        (lambda t: t > 300, False),
        (lambda t: t >= -1, True),
        (lambda t: t == -1, False),
        (lambda t: t > -1, True),
    ],
)
def test_comparison_with_a_number_out_of_range(compare: Any, expected: bool) -> None:
    out = compare(Tensor(np.array([0, 255], np.uint8)))
    assert out.dtype is dt.bool_
    assert out.tolist() == [expected, expected]


def test_in_place_changes() -> None:
    t = Tensor(FLOATS)
    assert t.set_dtype(dt.float16) is t
    assert t.dtype is dt.float16
    assert t.assign_value(Tensor([1, 2])) is t
    assert (t.dtype, t.tolist()) == (dt.int64, [1, 2])


def test_printing() -> None:
    assert repr(Tensor([1, 2])) == "Tensor(shape=[2], dtype=Int64, value= [1, 2])"
    assert str(Tensor(np.array([1.5], dt.bfloat16.np_dtype))) == "[1.5]"
    # A number has six digits at most, as in MindSpore.
    said = {91.0: "91", -1 / 3: "-0.333333", 123456789.0: "1.23457e+08", True: "True", 7: "7"}
    for value, shown in said.items():
        assert repr(Tensor(value)).endswith(f"value= {shown})")
    third = Tensor(1 / 3, dt.bfloat16)
    assert repr(third) == "Tensor(shape=[], dtype=BFloat16, value= 0.333984)"
    assert repr(Tensor(1.5 - 2j)).endswith("value= 1.5-2j)")
    seen: list[str] = []
    jax.jit(lambda t: seen.append(str(t)))(Tensor(FLOATS))
    assert seen == ["<traced float32[2,3]>"]


def test_raw_values() -> None:
    t = Tensor(FLOATS)
    assert raw(t) is t._get()
    assert raw(2.5) == 2.5
    assert wrap(t._get())._get() is t._get()
    assert isinstance(raw(FLOATS), jax.Array)
    assert raw(np.arange(2)).dtype == np.int64
    assert as_value(np.arange(2), dt.float16).dtype == np.float16


class TestItemset:
    def test_gives_a_copy_with_another_element(self) -> None:
        x = Tensor([[1, 2], [3, 4]], dt.int32)
        assert x.itemset((0, 1), 5.7).tolist() == [[1, 5], [3, 4]]
        assert x.itemset(-1, 7).tolist() == [[1, 2], [3, 7]]
        assert x.itemset(2, True).dtype is dt.int32
        assert Tensor([[1.5]]).itemset(2).tolist() == [[2.0]]
        assert x.tolist() == [[1, 2], [3, 4]]

    @pytest.mark.parametrize(
        ("args", "error", "says"),
        [
            ((), TypeError, "got 0 arguments"),
            ((7,), IndexError, "2 elements, and no index"),
            ((2, 1), IndexError, r"index 2 is out of range for shape \(2,\)"),
            (((0, 0), 1), IndexError, r"index \(0, 0\) is out of range"),
            ((True, 1), TypeError, "an index is an int or a tuple of ints, got True"),
            ((0, "a"), TypeError, "expected a number, got str"),
        ],
    )
    def test_refuses(self, args: tuple[Any, ...], error: type[Exception], says: str) -> None:
        with pytest.raises(error, match=says):
            Tensor([1, 2]).itemset(*args)


def test_elements_written_in_a_program() -> None:
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))

    @paramesh.jit
    def marked(a: Tensor, mask: Tensor, value: Any) -> Tensor:
        a = a * 1
        a[mask] = value
        return a

    assert marked(x, x > 3, 9.0).asnumpy().tolist() == [[0, 1, 2], [3, 9, 9]]
    assert marked(x, x > 3, Tensor([9.0])).asnumpy().tolist() == [[0, 1, 2], [3, 9, 9]]
    rows = Tensor(np.array([False, True]))
    assert marked(x, rows, x[0]).asnumpy().tolist() == [[0, 1, 2], [0, 1, 2]]
    set_one = paramesh.jit(lambda a, number: a.itemset(1, number))
    assert set_one(x, 7.5).asnumpy().tolist() == [[0, 7.5, 2], [3, 4, 5]]


def test_values_of_other_forms_are_stored() -> None:
    x = Tensor(np.zeros((2, 3), np.float32))
    x[0:2] = (Tensor([1.0, 2.0, 3.0]), [4.0, 5.0, 6.0])
    assert x.asnumpy().tolist() == [[1, 2, 3], [4, 5, 6]]
    x[0] = Tensor([[[7.0, 8.0, 9.0]]])
    assert x.asnumpy().tolist() == [[7, 8, 9], [4, 5, 6]]
    with pytest.raises(ValueError, match=r"Values of shape \(2,\) cannot be stored"):
        x[0] = Tensor([[1.0, 2.0]])
    assert ["a", "b"][Tensor([True])] == "b"


def test_methods_that_take_an_element_type() -> None:
    x = Tensor(np.array([1.0, 2.0, 3.0], np.float32))
    int32 = paramesh.int32
    assert x.cumprod(0, int32).dtype is int32
    assert x.nansum(dtype=int32).dtype is int32
    assert x.reshape(1, 3).trace(dtype=int32).dtype is int32
    assert x.new_full((2,), 3, dtype=int32).asnumpy().tolist() == [3, 3]
    assert x.softmax(0, paramesh.float16).dtype is paramesh.float16


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.uint64])
def test_whole_quotients(dtype: type) -> None:
    """By 0 those of MindSpore 2.10; the largest numbers exactly."""
    limits = np.iinfo(dtype)
    a = np.array([0, 5, limits.max, limits.max, limits.min, 7], dtype)
    b = np.array([0, 0, 1, 2, 2, 3], dtype)
    by_zero = [0, limits.max]
    down = [*by_zero, *np.floor_divide(a[2:], b[2:]).tolist()]
    for found in (Tensor(a) // Tensor(b), Tensor(a).div(Tensor(b), rounding_mode="floor")):
        assert found.asnumpy().tolist() == down
    assert (9 // Tensor(b[:1])).asnumpy().tolist() == [limits.max]
    assert Tensor(a).div(Tensor(b), rounding_mode="trunc").asnumpy().tolist() == down
    if limits.min:
        odd = Tensor(np.array([-7, limits.min + 1], dtype))
        assert odd.div(2, rounding_mode="trunc").asnumpy().tolist() == [-3, -(limits.max // 2)]
        assert (odd // 0).asnumpy().tolist() == [limits.min] * 2


def test_products_as_methods() -> None:
    v, m = Tensor([1.0, 2.0, 3.0]), Tensor(np.eye(3, dtype=np.float32))
    assert v.addmv(m, v, beta=2).asnumpy().tolist() == [3, 6, 9]
    assert v.ger(v[:2]).asnumpy().tolist() == [[1, 2], [2, 4], [3, 6]]
    assert m.addr(v, v).asnumpy()[2].tolist() == [3, 6, 10]
    assert m.addbmm(Tensor(np.ones((2, 3, 1))), Tensor(np.ones((2, 1, 3)))).asnumpy()[0, 0] == 3
    assert v.cross(Tensor([0.0, 1.0, 0.0])).asnumpy().tolist() == [-3, 0, 1]
    with pytest.raises(TypeError, match=r"Tensor.cross: no axis has size 3, got shape \(2,\)"):
        v[:2].cross(v[:2])


#: Methods that reduce, and what numpy calls them.
REDUCING = ("sum", "prod", "mean", "var", "std", "all", "any", "argmax", "argmin")


@pytest.mark.parametrize("name", REDUCING)
def test_axes_by_the_names_that_mindspore_gives_them(name: str) -> None:
    rows = np.array([[1.0, 5.0, 2.0], [3.0, 0.0, 4.0]], np.float32)
    method = getattr(Tensor(rows), name)
    for kept in ({"keepdim": True}, {"keep_dims": True}, {}):
        expected = getattr(np, name)(rows, axis=1, keepdims=bool(kept))
        np.testing.assert_allclose(method(dim=1, **kept).asnumpy(), expected, rtol=1e-6)
    with pytest.raises(TypeError, match=f"{name}: axis and dim are one argument"):
        method(axis=1, dim=1)


def test_extremes_along_a_dim_come_with_their_indices() -> None:
    rows = np.array([[1.0, 5.0, 2.0], [3.0, 0.0, 4.0]], np.float32)
    values, places = untyped(Tensor(rows)).max(dim=1, keepdim=True)
    assert (values.tolist(), places.tolist()) == ([[5.0], [4.0]], [[1], [2]])
    values, places = untyped(Tensor(rows)).min(dim=0)
    assert (values.tolist(), places.tolist()) == ([1.0, 0.0, 2.0], [0, 1, 0])
    assert untyped(Tensor(rows)).max(axis=1, keep_dims=True).tolist() == [[5.0], [4.0]]
    assert untyped(Tensor(rows)).cumsum(dim=1).tolist() == np.cumsum(rows, 1).tolist()
