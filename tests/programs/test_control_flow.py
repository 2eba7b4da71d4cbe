"""cond, switch, while_loop, fori_loop and scan: values, Parameters, gradients, and refusals.

Each program runs in both modes, compiled and not; what comes out is the same, and so is what it
leaves in its Parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.errors import TraceError
from programs.networks import Affine, X

X3 = np.array([1.0, -2.0, 3.0], np.float32)

WAYS = pytest.mark.parametrize(
    ("mode", "compiled"),
    [
        (paramesh.GRAPH_MODE, True),
        (paramesh.GRAPH_MODE, False),
        (paramesh.PYNATIVE_MODE, True),
        (paramesh.PYNATIVE_MODE, False),
    ],
    ids=["graph-jit", "graph", "pynative-jit", "pynative"],
)


class Counter:
    """Two Parameters that bodies read and write."""

    def __init__(self) -> None:
        self.count = Parameter(Tensor(np.float32(0)), name="count", requires_grad=False)
        self.scale = Parameter(Tensor(np.float32(2)), name="scale")

    def up(self, by: Any = 1.0) -> None:
        self.count.assign(self.count + by)


def _cond(c: Counter, x: Any) -> Any:
    def yes(x: Any, y: Any) -> Any:
        c.up()
        return x * c.scale, y["y"]

    return paramesh.cond(x.sum() > 0, yes, lambda x, y: (x, y["y"] + 1.0), x, {"y": 1.5})


def _switch(c: Counter, x: Any) -> Any:
    def second(x: Any) -> Any:
        c.up(10.0)
        return x * c.count

    return paramesh.switch((x > 0).sum() - 1, [lambda x: x, second, lambda x: -x], x)


def _while(c: Counter, x: Any) -> Any:
    def turn(v: Any) -> Any:
        c.up()
        return v[0] * c.scale, v[1] + 1

    return paramesh.while_loop(lambda v: abs(v[0]).sum() < 100, turn, (x, 0))


def _fori(c: Counter, x: Any) -> Any:
    def turn(i: Any, v: Any) -> Any:
        c.up(i)
        return v * c.scale + i

    return paramesh.fori_loop(1, 4, turn, x)


def _scan(c: Counter, x: Any) -> Any:
    def turn(total: Any, row: Any) -> Any:
        c.up()
        return total + row * c.scale, {"partial": total, "count": c.count * 1.0}

    return paramesh.scan(turn, 0.0, x)


def _reverse(c: Counter, x: Any) -> Any:
    def turn(total: Any, row: Any) -> Any:
        c.up(row)
        return total * 2.0 + row, total

    return paramesh.scan(turn, Tensor(0.5), x, reverse=True)


def _nested(c: Counter, x: Any) -> Any:
    def inner(v: Any) -> Any:
        c.up()
        return v + 1.0

    def turn(i: Any, v: Any) -> Any:
        return paramesh.cond(v.sum() > 0, lambda v: paramesh.remat(inner)(v), lambda v: v * -1.0, v)

    return paramesh.fori_loop(0, Tensor(3), turn, x)


#: name -> (program, what it gives, what is in `count` then)
PROGRAMS: dict[str, tuple[Callable[[Counter, Any], Any], Any, float]] = {
    "cond": (_cond, (X3 * 2, 1.5), 1),
    "switch": (_switch, X3 * 10, 10),
    "while_loop": (_while, (X3 * 32, 5), 5),
    "fori_loop": (_fori, X3 * 8 + 11, 6),
    "scan": (_scan, (4.0, {"partial": [0, 2, -2], "count": [1, 2, 3]}), 3),
    "reverse": (_reverse, (13.0, [6.0, 4.0, 0.5]), 2),
    "nested": (_nested, X3 + 3, 3),
}


@WAYS
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_parameters(name: str, mode: int, compiled: bool) -> None:
    paramesh.set_context(mode=mode)
    program, expected, count = PROGRAMS[name]
    counter = Counter()
    run = (
        (lambda x: program(counter, x))
        if not compiled
        else paramesh.jit(lambda x: program(counter, x))
    )
    for turn in (1, 2):
        if turn == 2 and name in ("switch", "scan"):
            break  # what they give depends on the count
        got = run(Tensor(X3))
        for a, b in zip(
            jax.tree_util.tree_leaves(got, is_leaf=lambda t: isinstance(t, Tensor)),
            jax.tree_util.tree_leaves(expected, is_leaf=lambda t: isinstance(t, list)),
            strict=True,
        ):
            assert type(a) is Tensor
            assert type(a._get()) is not Tensor
            np.testing.assert_allclose(a.asnumpy(), b, rtol=1e-6)
        assert float(counter.count) == count * turn


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
class TestGradients:
    @pytest.mark.parametrize(
        ("name", "by_x", "by_scale"),
        [("cond", [3, 3, 3], 2.0), ("fori_loop", [8, 8, 8], 51.0), ("scan", [2, 2, 2], 2.0)],
    )
    def test_of_branches_and_loops(self, name: str, by_x: Any, by_scale: float, mode: int) -> None:
        paramesh.set_context(mode=mode)
        counter = Counter()

        def loss(x: Any) -> Any:
            out = PROGRAMS[name][0](counter, x)
            first = out[0] if isinstance(out, tuple) else out
            return first.sum() + (x.sum() if name == "cond" else 0)

        got = paramesh.grad(loss, 0, counter.scale)(Tensor(X3))
        assert float(counter.count) == PROGRAMS[name][2]
        np.testing.assert_allclose(got[0].asnumpy(), by_x, rtol=1e-6)
        # fori: v2 = s**3 x + s**2 + 2 s + 3, summed over x (which sums to 2) and 3 elements
        expected = {"cond": 2.0, "fori_loop": 3 * 4 * 2 + 3 * (2 * 2 + 2), "scan": 2.0}[name]
        assert float(got[1]) == pytest.approx(expected)

    def test_a_layer_that_keeps_averages_in_a_scan(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine().set_train()
        xs = Tensor(np.stack([X, 2 * X]))

        def loss(xs: Any) -> Any:
            total, _ = paramesh.scan(lambda c, x: (c + (net(x) ** 2).sum(), None), 0.0, xs)
            return total

        (by_w,) = paramesh.grad(loss, None, [net.w])(xs)
        w, b = net.w.asnumpy(), net.b.asnumpy()
        outs = [x @ w + b for x in (X, 2 * X)]
        np.testing.assert_allclose(
            by_w.asnumpy(), 2 * X.T @ outs[0] + 4 * X.T @ outs[1], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            net.mean.asnumpy(), outs[0].mean(0) / 4 + outs[1].mean(0) / 2, rtol=1e-4, atol=1e-6
        )


@WAYS
def test_each_turn_draws_other_random_numbers(mode: int, compiled: bool) -> None:
    paramesh.set_context(mode=mode)
    drop = nn.Dropout(p=0.5).set_train()

    def run(x: Any) -> Any:
        return paramesh.scan(lambda c, _: (c, drop(x)), 0.0, length=3)[1]

    ones = Tensor(np.ones(64, np.float32))
    masks = (paramesh.jit(run) if compiled else run)(ones).asnumpy()
    assert len({row.tobytes() for row in masks}) == 3


def test_the_same_bits_in_every_way() -> None:
    results = []
    for mode in (paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE):
        paramesh.set_context(mode=mode)
        paramesh.set_seed(5)
        net = nn.Dropout(p=0.5).set_train()
        x = Tensor(np.ones(8, np.float32))
        results.append(paramesh.scan(lambda c, _, net=net, x=x: (c + net(x), c), x, length=3)[0])
    np.testing.assert_array_equal(results[0].asnumpy(), results[1].asnumpy())


def _wider(c: Any) -> Any:
    return paramesh.while_loop(lambda v: v.sum() < 3, lambda v: ops.concat([v, v]), Tensor([1.0]))


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "condition of several elements": (
        lambda c: paramesh.cond(Tensor([True, False]), lambda: 1.0, lambda: 2.0),
        ValueError,
        r"cond: pred must have one element, got shape \(2,\)",
    ),
    "condition that is no value": (
        lambda c: paramesh.cond("yes", lambda: 1.0, lambda: 2.0),
        TypeError,
        "cond: pred: Expected a Tensor, an array or a number, got str",
    ),
    "another shape": (_wider, TypeError, r"took Float32\[1\] and returned Float32\[2\]"),
    "another structure": (
        lambda c: paramesh.fori_loop(0, 3, lambda i, v: (v, v), Tensor(1.0)),
        TypeError,
        r"fori_loop: body_fun must return the structure.*returned \(Float32\[\], Float32\[\]\)",
    ),
    "another element type": (
        lambda c: paramesh.scan(lambda v, _: (v * 0.5, None), 1, length=2),
        TypeError,
        r"scan: fn must return.*took Int64\[\] and returned Float32\[\]",
    ),
    "no pair": (
        lambda c: paramesh.scan(lambda v, _: v, 1.0, length=2),
        TypeError,
        r"must return a pair \(carry, y\), got Tensor",
    ),
    "nothing to iterate over": (
        lambda c: paramesh.scan(lambda v, _: (v, v), 1.0),
        ValueError,
        "scan needs xs to iterate over",
    ),
    "lengths": (
        lambda c: paramesh.scan(lambda v, x: (v, v), 1.0, (Tensor([1.0]), Tensor([1.0, 2.0]))),
        ValueError,
        r"lengths that differ along the first axis: \[1, 2\]",
    ),
    "a bound": (
        lambda c: paramesh.fori_loop(0, 2.5, lambda i, v: v, 1.0),
        TypeError,
        "fori_loop: upper must be an integer",
    ),
    "no branches": (lambda c: paramesh.switch(0, []), ValueError, "at least one branch"),
}


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, mode: int) -> None:
    paramesh.set_context(mode=mode)
    program, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        program(Counter())


class TestRefusedWhereJaxRunsThem:
    def test_branches_that_differ(self) -> None:
        with pytest.raises(
            TypeError, match=r"'<lambda>' returns Float32\[3\].*returns Float32\[\]"
        ):
            paramesh.jit(lambda x: paramesh.cond(x.sum() > 0, lambda: x.sum(), lambda: x))(
                Tensor(X3)
            )

    def test_a_condition_that_writes(self) -> None:
        counter = Counter()

        def goes_on(v: Any) -> Any:
            counter.up()
            return v < 3

        with pytest.raises(TraceError, match="the condition 'goes_on' writes 'count'"):
            paramesh.while_loop(goes_on, lambda v: v + 1.0, 0.0)
        assert float(counter.count) == 0

    def test_a_parameter_of_another_type(self) -> None:
        counter = Counter()

        def turn(i: Any, v: Any) -> Any:
            counter.count.set_dtype(paramesh.float16)
            return v

        with pytest.raises(TraceError, match=r"Float32\[\] of Parameter 'count' into Float16\[\]"):
            paramesh.fori_loop(0, 3, turn, 1.0)
        assert counter.count.dtype is paramesh.float32

    def test_an_error_in_a_body_leaves_parameters_as_they_were(self) -> None:
        counter = Counter()

        def turn(i: Any, v: Any) -> Any:
            counter.up()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            paramesh.jit(lambda: paramesh.fori_loop(0, 3, turn, 1.0))()
        assert float(counter.count) == 0


def test_under_transforms_of_jax() -> None:
    counter = Counter()

    def run(x: Any) -> Any:
        return paramesh.cond(x.sum() > 0, lambda x: x * counter.scale, lambda x: x, x)

    rows = np.stack([X3, -X3])
    for mode in (paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE):
        paramesh.set_context(mode=mode)
        for mapped in (jax.vmap(run), paramesh.vmap(run)):
            np.testing.assert_array_equal(mapped(Tensor(rows)).asnumpy(), np.stack([2 * X3, -X3]))


def test_the_names_that_mindspore_has_among_operators() -> None:
    double = ops.WhileLoop()(lambda v: v.sum() < 10, lambda v: v * 2, Tensor([1.0]))
    assert double.asnumpy().tolist() == [16]
    total = ops.ForiLoop()(0, 4, lambda i, v: v + i, Tensor(0.0))
    assert float(total) == 6
    rows = [Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]
    for xs in (rows, tuple(rows), Tensor([[1.0, 2.0], [3.0, 4.0]])):
        last, partial = ops.Scan()(lambda c, x: (c + x.sum(), c), Tensor(0.0), xs)
        assert float(last) == 10
        assert partial.asnumpy().tolist() == [0, 3]
    assert ops.while_loop is paramesh.while_loop
    assert ops.functional.scan is paramesh.scan
    assert ops.operations.Scan is ops.Scan
