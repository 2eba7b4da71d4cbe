"""Mapping, overloading by type, clipping, dependencies, printing."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np
import pytest

import paramesh.dtype as dt
import paramesh.ops as ops
from paramesh import context, nn
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor import Tensor
from paramesh.transforms import jit

x = Tensor(np.array([3, -4], np.float32))
y = Tensor(np.array([12.0], np.float32))


def test_hyper_map_goes_through_all_levels() -> None:
    add = ops.HyperMap(ops.add)
    result = add((x, [x, (y,)]), (x, [x, (y,)]))
    assert result[0].asnumpy().tolist() == [6, -8]
    assert type(result[1]) is tuple
    assert result[1][1][0].asnumpy().tolist() == [24]
    assert ops.HyperMap()(lambda a, b: a + b, (1, 2), (3, 4)) == (4, 6)
    assert ops.HyperMap(lambda a: a * 2)(5) == 10


def test_map_goes_through_the_first_level() -> None:
    assert ops.Map()(lambda a, b: (a, b), ((1, 2), 3), ((4, 5), 6)) == (((1, 2), (4, 5)), (3, 6))


def test_reverse_changes_the_order_of_calls_alone() -> None:
    seen: list[int] = []
    result = ops.HyperMap(lambda a: seen.append(a) or a, reverse=True)((1, 2, 3))
    assert (result, seen) == ((1, 2, 3), [3, 2, 1])


PARAMETERS = ParameterTuple([Parameter(Tensor([n]), name=f"p{n}") for n in (1.0, 3.0)])
NUMBERS = (Tensor([10.0]), Tensor([20.0]))


@pytest.mark.parametrize("mapping", [ops.HyperMap, ops.Map])
@pytest.mark.parametrize("first", [PARAMETERS, tuple(PARAMETERS), list(PARAMETERS)])
@pytest.mark.parametrize("second", [NUMBERS, list(NUMBERS)])
@pytest.mark.parametrize("given_at_once", [True, False])
def test_maps_go_through_sequences_of_any_kinds(mapping, first, second, given_at_once) -> None:
    add = ops.MultitypeFuncGraph("add")

    @add.register("Number", "Tensor", "Tensor")
    def _(scale, a, b):
        return scale * a + b

    fn = ops.partial(add, 1.0)
    result = mapping(fn)(first, second) if given_at_once else mapping()(fn, first, second)
    assert [float(v[0]) for v in result] == [11, 23]
    assert type(result) is tuple


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_maps_of_lists_are_lists_in_compiled_programs_alone(mode) -> None:
    """MindSpore 2.10 gives a tuple wherever Python runs the mapping."""
    kinds: list[type] = []

    class Twice(nn.Cell):
        def construct(self, a, b):
            result = ops.HyperMap(ops.add)(a, b)
            kinds.append(type(result))
            return result

    context.set_context(mode=mode)
    kept = list if mode == context.GRAPH_MODE else tuple
    assert [float(v[0]) for v in Twice()(list(NUMBERS), list(NUMBERS))] == [20, 40]
    assert kinds == [kept]
    Twice()(list(NUMBERS), NUMBERS)
    assert kinds[-1] is tuple


def test_maps_go_through_nests_of_mixed_kinds_and_lists_of_cells() -> None:
    nest = ops.HyperMap(lambda a, b: a + b)([(1, [2, 3]), 4], ([10, (20, 30)], 40))
    assert nest == ((11, (22, 33)), 44)
    cells = nn.CellList([nn.Dense(2, 2), nn.SequentialCell([nn.ReLU()])])
    sizes = ops.HyperMap(lambda cell, n: (type(cell).__name__, n))(cells, [1, 2])
    assert sizes == (("Dense", 1), ("SequentialCell", 2))


def test_maps_refuse() -> None:
    with pytest.raises(ValueError, match="HyperMap: sequences of different lengths: a tuple of 2"):
        ops.HyperMap(ops.add)((x, y), [x])
    with pytest.raises(ValueError, match=r"lengths at \[1\]\[0\]: a tuple of 1, a list of 2"):
        ops.HyperMap(ops.add)([x, [(x,)]], (x, ([x, y],)))
    mixed = "Map: sequences and single values are mixed: a tuple of 2, a Tensor. Bind a value"
    with pytest.raises(TypeError, match=mixed):
        ops.Map(ops.add)((x, y), x)
    with pytest.raises(TypeError, match="Map needs a function and at least one sequence"):
        ops.Map(ops.add)()
    with pytest.raises(TypeError, match="HyperMap needs a function"):
        ops.HyperMap()(x)


def test_multitype_func_graph() -> None:
    scale = ops.MultitypeFuncGraph("scale")

    @scale.register("Number", "Tensor")
    def _(a, b):
        return "number, tensor"

    @scale.register("Tensor", "Tensor")
    def _(a, b):
        return "tensors"

    @scale.register("Bool", "Tuple")
    def _(a, b):
        return "bool, tuple"

    @scale.register(str)
    def _(a):
        return "class"

    param = Parameter(Tensor([1.0]), name="w")
    assert scale(2.0, x) == "number, tensor"
    assert scale(param, x) == "tensors"
    assert scale(True, ()) == "bool, tuple"
    assert scale("a") == "class"
    assert repr(scale) == "MultitypeFuncGraph('scale', 4 implementations)"

    @scale.register("Int")
    def _(a):
        return "int"

    @scale.register("Float")
    def _(a):
        return "float"

    @scale.register("Tensor", "RowTensor")
    def _(a, b):
        return "never"

    assert [scale(2), scale(np.float32(2)), scale(x, y)] == ["int", "float", "tensors"]
    with pytest.raises(TypeError, match="scale has nothing for"):
        scale(True)
    with pytest.raises(TypeError, match=r"nothing for \(Tensor, int\), only for \(Number, .*; str"):
        scale(x, 2)
    with pytest.raises(ValueError, match="scale: 'Tensr' is not a known type"):
        scale.register("Tensr")
    assert ops.HyperMap(ops.Partial()(scale, 2.0))((x, y)) == ("number, tensor",) * 2


#: {what is registered: the arguments that MindSpore 2.10 calls it for, in a graph}.
VALUES: dict[str, Any] = {
    "int": 1, "float": 1.5, "bool": True, "Int64": Tensor(1), "Float32": Tensor(1.0), "text": "s",
    "none": None, "tuple": (1,), "list": [1], "dict": {"a": 1}, "slice": slice(1),
    "np.float32": np.float32(1), "np.int64": np.int64(2), "pair": (1, 2.0),
    "Parameter": Parameter(1.0), "Int32": Tensor(1, dt.int32),
}  # fmt: skip
FITTING: dict[str, str] = {
    "Int64": "int np.int64",
    "int64": "int np.int64",
    "Int32": "",
    "Float32": "float np.float32",
    "Bool": "bool",
    "Int": "int np.int64",
    "Float": "float np.float32",
    "Number": "int float bool np.float32 np.int64",
    "Tensor": "Int64 Float32 Parameter Int32",
    "Tensor[Float32]": "Float32 Parameter",
    "Tuple": "tuple pair",
    "Tuple[Int64]": "tuple",
    "Tuple[Int64, Float]": "pair",
    "List": "list",
    "Dictionary": "dict",
    "Slice": "slice",
    "String": "text",
    "None": "none",
}


@pytest.mark.parametrize("name", FITTING)
def test_which_arguments_a_registered_type_fits(name: str) -> None:
    fn = ops.MultitypeFuncGraph("fn")
    fn.register("Function")(lambda a: False)
    fn.register(name)(lambda a: True)
    found = []
    for each, value in VALUES.items():
        with contextlib.suppress(TypeError):
            found += [each] if fn(value) else []
    assert " ".join(found) == FITTING[name]


def test_multitype_func_graph_of_element_types_and_of_one_implementation() -> None:
    fn = ops.MultitypeFuncGraph("fn")
    fn.register(dt.int64)(lambda a: "int")
    assert fn(3) == "int"
    with pytest.raises(TypeError, match=r"nothing for \(float\), only for \(Int64\)"):
        fn(1.5)
    context.set_context(mode=context.PYNATIVE_MODE)
    assert fn(1.5) == "int"  # MindSpore asks no types where there is nothing to choose
    fn.register("String")(lambda a: "text")
    with pytest.raises(TypeError, match="nothing for"):
        fn(1.5)
    for wrong in ("Tensor[Foo]", "Tuple[Int64, Foo]", "int65"):
        with pytest.raises(ValueError, match="is not a known type"):
            fn.register(wrong)


def test_clip_by_value() -> None:
    assert ops.clip_by_value(x, -1, 2).asnumpy().tolist() == [2, -1]
    clipped = ops.clip_by_value([x, y], clip_value_max=Tensor([1.0]))
    assert [t.asnumpy().tolist() for t in clipped] == [[1, -4], [1]]


@pytest.mark.parametrize("compiled", [False, True])
def test_clip_by_global_norm(compiled: bool) -> None:
    def clip(*a: Tensor) -> Any:
        return ops.clip_by_global_norm(a, 6.5)

    if compiled:
        clip = jit(clip)
    result = clip(x, y)  # the norm of (3, -4, 12) is 13
    assert type(result) is tuple
    np.testing.assert_allclose(result[0].asnumpy(), [1.5, -2], rtol=1e-6)
    np.testing.assert_allclose(result[1].asnumpy(), [6], rtol=1e-6)


def test_clip_by_global_norm_leaves_small_ones_and_keeps_types() -> None:
    half = Tensor(np.full(4, 200, np.float16))  # squares overflow Float16
    wide = Tensor(np.array([0.3], np.float64))
    kept = ops.clip_by_global_norm([half, wide], 1000.0)
    assert [t.asnumpy().tolist() for t in kept] == [[200] * 4, [0.3]]
    small = ops.clip_by_global_norm([half, wide], 1.0)
    assert [t.dtype.long_name for t in small] == ["float16", "float64"]
    np.testing.assert_allclose(small[0].asnumpy(), 0.5, rtol=1e-3)
    known = ops.clip_by_global_norm((x,), 1.0, use_norm=Tensor(2.0))
    np.testing.assert_allclose(known[0].asnumpy(), [1.5, -2], rtol=1e-6)


@pytest.mark.parametrize(("norm", "length"), [(2.0, 5.0), (1.0, 7.0), (float("inf"), 4.0)])
def test_clip_by_norm(norm: float, length: float) -> None:
    np.testing.assert_allclose(
        ops.clip_by_norm(x, 1.0, norm).asnumpy(), x.asnumpy() / length, rtol=1e-5
    )
    np.testing.assert_array_equal(ops.clip_by_norm([x], 100.0, norm)[0].asnumpy(), x.asnumpy())


def test_clipping_refuses() -> None:
    with pytest.raises(ValueError, match="clip_norm must be positive, got 0"):
        ops.clip_by_global_norm((x,), 0)
    for clip in (ops.clip_by_global_norm, ops.clip_by_norm):
        with pytest.raises(TypeError, match="needs floating Tensors, got int64"):
            clip((Tensor([1]),), 1.0)


def test_stop_gradient() -> None:
    for stop in (ops.stop_gradient, ops.StopGradient()):
        gradient = jax.grad(lambda v, stop=stop: ops.sum(v * stop(v))._get())(np.ones(2) * 3)
        assert gradient.tolist() == [3, 3]
    pair = ops.stop_gradient((x, [y]))
    assert pair[1][0].asnumpy().tolist() == [12]
    assert ops.stop_gradient(Tensor(np.float64(0.1))).dtype.long_name == "float64"


def test_values_that_pass_through() -> None:
    assert ops.depend(x, y) is x
    assert ops.Depend()(x, y) is x
    assert ops.partial(ops.pow, x)(2).asnumpy().tolist() == [9, 16]

    @ops.constexpr
    def one():
        return 1

    @ops.constexpr(check=False)
    def two():
        return 2

    assert (one(), two()) == (1, 2)


def test_print(capfd: pytest.CaptureFixture[str]) -> None:
    ops.Print()("x is", x)
    assert capfd.readouterr().out == "x is [ 3. -4.]\n"
    jit(lambda v: ops.print_("v is", v) or v)(x)
    jax.effects_barrier()
    assert capfd.readouterr().out == "v is [ 3. -4.]\n"
