"""Every operator equals its numpy expression, in each of its forms, and inside programs."""

from __future__ import annotations

import functools
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
from paramesh.tensor import Tensor, borders
from paramesh.tensor.base import wrap

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


def array_of(value: Any) -> np.ndarray:
    return np.asarray(value)


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
            array_of(got.asnumpy().astype(want.dtype)),
            array_of(want),
            rtol=tolerance,
            atol=tolerance,
        )


def expected(case: Case, fn: Any = lambda a: a) -> Any:
    args = [mapped(fn, a) for a in case.args]
    kwargs = {k: mapped(fn, a) for k, a in case.kwargs.items()}
    return case.reference(*args, **kwargs)


def float_dtype(case: Case) -> Any:
    return np.float32 if floats(case) and "dtype" not in case.kwargs and case.op != "cast" else None


def widened(a: np.ndarray) -> np.ndarray:
    return a.astype(np.float64) if a.dtype.kind == "f" else a


def leaves(case: Case) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for a in [*case.args, *case.kwargs.values()]:
        mapped(found.append, a)
    return found


def traced(case: Case, values: Any) -> list[Any]:
    """The results of a case, flat, whose arrays are `values`; raw where they are Tensors."""
    rest = iter(values)
    try:
        outs = flat(called(case, lambda a: wrap(next(rest))))
    except Exception as error:
        error.add_note(case.id)
        raise
    return [o._get() if isinstance(o, Tensor) else o for o in outs]


#: Compiling is what costs; these programs are run once.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Everything:
    """All cases in one program, in 64 bits where there are floating arguments."""

    def __init__(self) -> None:
        self.others: dict[Case, Any] = {}
        chosen = [case for case in CASES if not case.eager_only]
        arrays = [[widened(a) if case.wide else a for a in leaves(case)] for case in chosen]

        def program(arrays: list[Any]) -> list[Any]:
            results = [traced(c, values) for c, values in zip(chosen, arrays, strict=True)]
            for case, result in zip(chosen, results, strict=True):
                self.others[case] = [None if isinstance(r, jax.Array) else r for r in result]
            return [[r for r in rs if isinstance(r, jax.Array)] for rs in results]

        with jax.enable_x64(True):
            results = jax.jit(program, compiler_options=QUICKLY)(arrays)
        self.arrays = dict(zip(chosen, results, strict=True))

    def of(self, case: Case) -> Any:
        """The results of a case, as a call of the operator gives them."""
        found = iter(self.arrays[case])
        return tuple(wrap(next(found)) if o is None else o for o in self.others[case])


@functools.cache
def everything() -> Everything:
    return Everything()


def first_of_each(chosen: list[Case]) -> list[Case]:
    """The first case of each operator, and those that cannot be in a program."""
    first = {case.op: case for case in reversed(chosen)}
    return [case for case in chosen if case is first[case.op] or case.eager_only]


@pytest.mark.parametrize("case", first_of_each(CASES), ids=lambda c: c.id)
def test_eager_equals_numpy(case: Case) -> None:
    want = expected(case)
    check(called(case), want, float_dtype(case), case.tolerance)
    # Arrays of any kind, and Parameters, are as good as Tensors.
    for fn in (np.asarray, lambda a: Parameter(Tensor(a))):
        check(called(case, fn), want, float_dtype(case), case.tolerance)


def wide_types(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(wide_types, value))
    is_narrow = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32
    return value.astype(np.float64) if is_narrow else value


@cases(eager_only=False)
def test_compiled_equals_numpy_in_64_bits(case: Case) -> None:
    """A program of 64-bit numbers computes in 64 bits."""
    if case.wide and floats(case):
        want = wide_types(expected(case, widened))
        check(everything().of(case), want, None if case.op == "cast" else np.float64, 1e-9)
    else:
        check(everything().of(case), expected(case), float_dtype(case), case.tolerance)


@cases(eager_only=False)
def test_types_in_programs_with_64_bits(case: Case) -> None:
    """That 64-bit types are on, for other code of the program, changes no element type."""
    with jax.enable_x64(True):
        outs = jax.eval_shape(
            lambda *values: [o for o in traced(case, values) if isinstance(o, jax.Array)],
            *leaves(case),
        )
    results = [r for r in flat(expected(case)) if isinstance(r, np.ndarray | np.generic)]
    dtype = float_dtype(case)
    for out, want in zip(outs, results, strict=True):
        is_float = want.dtype.kind == "f" and dtype is not None
        assert (out.shape, out.dtype) == (want.shape, dtype if is_float else want.dtype)


def same(a: Any, b: Any) -> bool:
    a, b = (v._get() if isinstance(v, Tensor) else v for v in (a, b))
    if isinstance(a, jax.Array) and isinstance(b, jax.Array):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if type(a) is tuple and type(b) is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.all(a == b))


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
def test_class_form_computes_what_the_function_does(
    case: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same computation with the same arguments: the ones that were checked against numpy."""
    settings = forms(case)[name]
    operator = TABLE[case.op]
    signature = inspect.signature(operator.compute)
    seen: list[dict[str, Any]] = []

    def record(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        seen.append(bound.arguments)

    monkeypatch.setattr(operator, "compute", record)
    monkeypatch.setattr(operator.calls, "of", lambda *_: None)  # nothing that is compiled already
    called(case)
    made = getattr(ops, name)(**settings)
    for key, value in settings.items():
        assert getattr(made, key) == value
    given = signature.bind(*case.args, **case.kwargs)
    for option in made._options:
        given.arguments.pop(option, None)
    made(*(mapped(Tensor, v) for v in given.args), **given.kwargs)
    by_function, by_class = seen
    assert by_function.keys() == by_class.keys()
    for key, value in by_function.items():
        assert same(by_class[key], value), key


@functools.cache
def slopes() -> dict[Case, Any]:
    """By case: the derivative along a random direction, and the slope of a line through it."""
    source = np.random.default_rng(0)
    chosen = [case for case in CASES if case.grad]
    points = [[widened(a) for a in floats(case)] for case in chosen]
    ways = [[source.uniform(-1, 1, a.shape) for a in values] for values in points]
    step = 1e-6

    def value(values: Any, case: Case) -> Any:
        outs = traced_floats(case, iter(values))
        return sum(jnp.sum(jnp.sin(jnp.arange(o.size, dtype=o.dtype)) * o.ravel()) for o in outs)

    def both(case: Case, at: Any, way: Any) -> Any:
        gradients = jax.grad(value)(at, case)
        ahead, behind = (
            value([a + s * d for a, d in zip(at, way, strict=True)], case) for s in (step, -step)
        )
        slope = sum(jnp.sum(g * d) for g, d in zip(gradients, way, strict=True))
        return slope, (ahead - behind) / (2 * step)

    def program(points: Any, ways: Any) -> Any:
        return [both(*each) for each in zip(chosen, points, ways, strict=True)]

    with jax.enable_x64(True):
        results = jax.jit(program, compiler_options=QUICKLY)(points, ways)
    return dict(zip(chosen, results, strict=True))


def traced_floats(case: Case, rest: Any) -> list[Any]:
    outs = flat(called(case, lambda a: wrap(next(rest)) if a.dtype.kind == "f" else a))
    return [o._get() for o in outs if o.dtype.is_floating()]


@cases(grad=True)
def test_gradient(case: Case) -> None:
    derivative, slope = slopes()[case]
    assert float(derivative) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "plain"), [("relu", jax.nn.relu), ("relu6", borders.relu6)], ids=["relu", "relu6"]
)
def test_what_is_compiled_for_calls_outside_of_programs_leaves_programs_alone(
    name: str, plain: Any
) -> None:
    x = jnp.linspace(-1, 7, 5)
    inside = jax.make_jaxpr(lambda v: getattr(ops, name)(wrap(v))._get())
    assert str(inside(x)) == str(jax.make_jaxpr(plain)(x))
    compiled = jax.jit(plain, inline=True)
    assert getattr(ops, name)(wrap(x)).asnumpy().tolist() == plain(x).tolist()
    assert str(jax.make_jaxpr(jax.grad(lambda v: compiled(v).sum()))(x)) == str(
        jax.make_jaxpr(jax.grad(lambda v: plain(v).sum()))(x)
    )
