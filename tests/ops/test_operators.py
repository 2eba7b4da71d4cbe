"""Every operator equals its numpy expression, in each of its forms, and inside programs."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh.ops as ops
from operator_cases import Case, arrays, elementwise, networks, reductions
from paramesh.ops.table import TABLE
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor, raw, wrap

CASES: list[Case] = [
    *elementwise.CASES,
    *reductions.CASES,
    *arrays.CASES,
    *networks.CASES,
]


def mapped(fn: Any, value: Any) -> Any:
    """`fn` of every array in an argument."""
    if isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
        return tuple(mapped(fn, v) for v in value)
    return fn(value) if isinstance(value, np.ndarray) else value


def floats(case: Case) -> list[np.ndarray]:
    found = []
    for a in [*case.args, *case.kwargs.values()]:
        mapped(found.append, a)
    return [a for a in found if a.dtype.kind == "f"]


def cases(**wanted: bool) -> Any:
    """A parametrization by the cases that have these attributes."""
    chosen = [c for c in CASES if all(getattr(c, k) == v for k, v in wanted.items())]
    if wanted == {"wide": True}:
        chosen = [c for c in chosen if floats(c)]
    return pytest.mark.parametrize("case", chosen, ids=lambda c: c.id)


def called(case: Case, fn: Any = Tensor) -> Any:
    args = [mapped(fn, a) for a in case.args]
    kwargs = {k: mapped(fn, a) for k, a in case.kwargs.items()}
    return getattr(ops, case.op)(*args, **kwargs)


def flat(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in flat(part)] if type(result) is tuple else [result]


def check(result: Any, expected: Any, dtype: Any, tolerance: float) -> None:
    """Equal in kind, shape, element type and values; `dtype` is that of floating results."""
    results, wanted = flat(result), flat(expected)
    assert len(results) == len(wanted)
    for got, want in zip(results, wanted, strict=True):
        if not isinstance(want, np.ndarray | np.generic):
            assert type(got) is type(want)
            assert got == want
            continue
        assert type(got) is Tensor
        assert got.shape == want.shape
        assert got.dtype.np_dtype == (dtype if want.dtype.kind == "f" and dtype else want.dtype)
        np.testing.assert_allclose(
            got.asnumpy().astype(want.dtype), want, rtol=tolerance, atol=tolerance
        )


def expected(case: Case, fn: Any = lambda a: a) -> Any:
    args = [mapped(fn, a) for a in case.args]
    kwargs = {k: mapped(fn, a) for k, a in case.kwargs.items()}
    return case.reference(*args, **kwargs)


def float_dtype(case: Case) -> Any:
    return np.float32 if floats(case) and "dtype" not in case.kwargs and case.op != "cast" else None


def traceable(case: Case) -> tuple[Any, list[np.ndarray], list[Any]]:
    """A case as a function of its arrays, these arrays, and a list for results that are none."""
    leaves: list[np.ndarray] = []
    for a in [*case.args, *case.kwargs.values()]:
        mapped(leaves.append, a)
    others: list[Any] = []

    def program(*values: Any) -> Any:
        rest = iter(values)
        outs = flat(called(case, lambda a: wrap(next(rest))))
        others[:] = [None if isinstance(o, Tensor) else o for o in outs]
        return [o._get() for o in outs if isinstance(o, Tensor)]

    return program, leaves, others


def run(case: Case, change: Any) -> Any:
    """The results of a compiled program."""
    program, leaves, others = traceable(case)
    results = iter(jax.jit(program)(*map(change, leaves)))
    return tuple(wrap(next(results)) if other is None else other for other in others)


@cases()
def test_equals_numpy(case: Case) -> None:
    want = expected(case)
    check(called(case), want, float_dtype(case), case.tolerance)
    # Arrays of any kind, and Parameters, are as good as Tensors.
    for fn in (np.asarray, lambda a: Parameter(Tensor(a))):
        check(called(case, fn), want, float_dtype(case), case.tolerance)


@cases(eager_only=False)
def test_same_shapes_and_types_in_programs(case: Case) -> None:
    """Traced, and with 64-bit types on, it gives what it gives without."""
    eager = flat(called(case))
    program, leaves, others = traceable(case)
    wide = any(a.dtype.itemsize == 8 for a in leaves)
    for on in {True, wide}:
        with jax.enable_x64(on):
            traced = iter(jax.eval_shape(program, *leaves))
        for out, other in zip(eager, others, strict=True):
            if isinstance(out, Tensor):
                found = next(traced)
                assert (found.shape, found.dtype) == (out.shape, out.dtype.np_dtype)
            else:
                assert other == out


@cases(wide=True)
def test_keeps_64_bits(case: Case) -> None:
    """A program of 64-bit numbers computes in 64 bits."""

    def widened(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float64) if a.dtype.kind == "f" else a

    def wide_types(value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(wide_types, value))
        narrow = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32
        return value.astype(np.float64) if narrow else value

    want = wide_types(expected(case, widened))
    with jax.enable_x64(not case.eager_only):
        result = (
            called(case, lambda a: Tensor(widened(a))) if case.eager_only else run(case, widened)
        )
    dtype = None if case.op == "cast" else np.float64
    check(result, want, dtype, 1e-9)


def forms(case: Case) -> dict[str, dict[str, Any]]:
    """The class forms that can make this call, and what they are made with."""
    operator = TABLE[case.op]
    found = {}
    for name, cls in operator.classes.items():
        settings = case.settings.get(name, {})
        if settings is None:
            continue
        required = [p for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
        if all(p.name in settings for p in required):
            found[name] = settings
    return found


@pytest.mark.parametrize(
    ("case", "name"), [pytest.param(c, n, id=f"{n}-{c.id}") for c in CASES for n in forms(c)]
)
def test_class_form_equals_function(case: Case, name: str) -> None:
    settings = forms(case)[name]
    made = getattr(ops, name)(**settings)
    for key, value in settings.items():
        assert getattr(made, key) == value
    options = type(made)._init(**settings)
    bound = inspect.signature(TABLE[case.op].compute).bind(*case.args, **case.kwargs)
    for option in options:
        bound.arguments.pop(option, None)
    args = [mapped(Tensor, v) for v in bound.args]
    kwargs = {k: mapped(Tensor, v) for k, v in bound.kwargs.items()}
    want = getattr(ops, case.op)(*args, **kwargs, **options)
    result = made(*args, **kwargs)
    assert len(flat(result)) == len(flat(want))
    for got, other in zip(flat(result), flat(want), strict=True):
        if isinstance(other, Tensor):
            assert got.dtype == other.dtype
            np.testing.assert_array_equal(got.asnumpy(), other.asnumpy())
        else:
            assert got == other


@cases(grad=True)
def test_gradient(case: Case) -> None:
    """The derivative along a random direction is the slope of a straight line through it."""
    source = np.random.default_rng(0)
    points = [a.astype(np.float64) for a in floats(case)]
    directions = [source.uniform(-1, 1, a.shape) for a in points]
    with jax.enable_x64(True):
        directions = [jnp.asarray(d) for d in directions]

        def value(*values: Any) -> Any:
            rest = iter(values)
            outs = flat(called(case, lambda a: wrap(next(rest)) if a.dtype.kind == "f" else a))
            terms = [raw(o) for o in outs if o.dtype.is_floating()]
            return sum(
                jnp.sum(jnp.sin(jnp.arange(o.size, dtype=o.dtype)) * o.ravel()) for o in terms
            )

        slopes = jax.grad(value, tuple(range(len(points))))(*map(jnp.asarray, points))
        slope = sum(float(jnp.sum(s * d)) for s, d in zip(slopes, directions, strict=True))
        step = 1e-6
        ahead, behind = (
            float(value(*[a + sign * step * d for a, d in zip(points, directions, strict=True)]))
            for sign in (1, -1)
        )
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-7)
