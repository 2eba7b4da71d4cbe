"""Cell: registration and names, trees of Cells, hooks, casts, recomputation, containers."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import context, nn
from paramesh import dtype as dt
from paramesh.errors import (
    ConstructError,
    ContextError,
    DuplicateNameError,
    ParameterNameError,
    ParameterShapeError,
)
from paramesh.initializer import initializer
from paramesh.nn import (
    Cell,
    CellDict,
    CellList,
    Dense,
    SequentialCell,
    compiler_hints,
    no_init_parameters,
)
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor import Tensor
from paramesh.transforms import GradOperation, grad, value_and_grad
from type_checks import untyped, wrong

MODES = pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
X = np.array([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0]], np.float32)


class Layer(Cell):
    """x @ weight + bias, 2 to 2."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.weight = Parameter(np.array([[1.0, -1.0], [0.5, 2.0]], np.float32), name=name)
        self.bias = Parameter(np.zeros(2, np.float32))

    def construct(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Net(Cell):
    """Two layers and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Layer()
        self.second = Layer(name="explicit")
        self.scale = Parameter(2.0, name="scale_of_all")

    def construct(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) * self.scale


def names(cell: Cell) -> list[str]:
    return [p.name for p in cell.get_parameters()]


def loss_gradients(net: Cell, x: Any = X) -> tuple[float, list[Any]]:
    step = value_and_grad(lambda x: (net(x) ** 2).sum(), None, net.trainable_params())
    value, gradients = step(Tensor(x))
    return float(value), [g.asnumpy() for g in gradients]


# Registration and names.


def test_attributes_are_registered_in_order() -> None:
    net = Net()
    assert list(net._params) == ["scale"]
    assert list(net.name_cells()) == ["first", "second"]
    assert [path for path, _ in net.parameters_and_names()] == [
        "scale",
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    ]
    assert [path for path, _ in net.cells_and_names()] == ["", "first", "second"]


def test_names_follow_the_attribute_path() -> None:
    # At the top a given name stays; inside another Cell the path is the name.
    assert names(Layer("explicit")) == ["explicit", "bias"]
    assert names(Net()) == [
        "scale_of_all",
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    ]
    outer = Cell()
    outer.net = Net()
    assert names(outer)[0] == "net.scale"
    assert names(outer)[-1] == "net.second.bias"


def test_without_auto_prefix_names_stay() -> None:
    outer = Cell(auto_prefix=False)
    outer.a = Layer()
    assert names(outer) == ["weight", "bias"]


def test_update_parameters_name() -> None:
    net = Net()
    net.update_parameters_name("model.")
    assert net.first.weight.name == "model.first.weight"
    assert net.scale.name == "model.scale"
    net.update_parameters_name("top.", recurse=False)
    assert (net.scale.name, net.first.bias.name) == ("top.scale", "model.first.bias")
    with pytest.raises(ParameterNameError, match="prefix 'a b' may consist of digits, letters"):
        net.update_parameters_name("a b")
    with pytest.raises(TypeError, match="prefix must be a str, got 3"):
        net.update_parameters_name(wrong(3))


def test_two_parameters_of_one_name_show_both_owners() -> None:
    cell = Cell()
    cell.a = Parameter(1.0, name="s")
    with pytest.raises(
        DuplicateNameError, match=r"are named 's': Cell.a and Cell.b. .*rename one of"
    ):
        cell.b = Parameter(2.0, name="s")
    assert not hasattr(cell, "b")
    with pytest.raises(DuplicateNameError, match="'s': Cell.a and Cell.s"):
        cell.pair = ParameterTuple([Parameter(3.0, name="s")])


def test_names_that_meet_later_are_found_by_check_names() -> None:
    net = Net()
    net.first.weight.name = "second.bias"
    for look in (net.check_names, net.parameters_dict, net.check_names_and_refresh_name):
        with pytest.raises(
            DuplicateNameError,
            match="named 'second.bias': Net.second.bias and Net.first.weight",
        ):
            look()


def test_a_tied_parameter_is_one_name_and_one_summed_gradient() -> None:
    tied, apart = Net(), Net()
    tied.second.weight = tied.first.weight
    assert names(tied) == ["scale_of_all", "first.weight", "first.bias", "second.bias"]
    assert list(tied.parameters_dict()) == names(tied)
    apart.second.weight.set_data(apart.first.weight)
    value, gradients = loss_gradients(tied)
    value_apart, gradients_apart = loss_gradients(apart)
    assert value == pytest.approx(value_apart)
    np.testing.assert_allclose(gradients[1], gradients_apart[1] + gradients_apart[3], rtol=1e-5)


def test_a_cell_used_twice_is_one_cell() -> None:
    cell = Cell()
    cell.a = cell.b = Layer()
    assert [path for path, _ in cell.cells_and_names()] == ["", "a"]
    assert len(names(cell)) == len(cell.trainable_params()) == 2


def test_a_tuple_of_parameters_is_registered_by_its_names() -> None:
    cell = Cell()
    cell.pair = ParameterTuple([Parameter(1.0, name="p"), Parameter(2.0, name="q")])
    cell.one = ParameterTuple([Parameter(3.0)])
    assert names(cell) == ["p", "q", "one"]
    assert cell.pair[0] is cell.p


ACTS: list[tuple[str, Any, type[Exception], str]] = [
    ("weight", 3, TypeError, "Layer.weight is a Parameter; it takes a Parameter, a Tensor"),
    ("weight", np.zeros((2, 2)), TypeError, "not ndarray"),
    ("weight", Cell(), KeyError, "Layer.weight is a Parameter and cannot become a Cell"),
    ("weight", Tensor([1.0]), ParameterShapeError, "'weight': set_data was given shape"),
    ("child", Parameter(1.0), KeyError, "Layer.child is a Cell and cannot become a Parameter"),
    ("child", Tensor([1.0]), TypeError, "Layer.child is a Cell; it can be replaced by a Cell or"),
]


@pytest.mark.parametrize(("attribute", "value", "error", "says"), ACTS)
def test_attributes_refuse_other_kinds(
    attribute: str, value: Any, error: type[Exception], says: str
) -> None:
    layer = Layer()
    layer.child = Cell()
    with pytest.raises(error, match=says):
        setattr(layer, attribute, value)
    assert names(layer) == ["weight", "bias"]


def test_attributes_change() -> None:
    layer = Layer()
    weight = layer.weight
    layer.weight = untyped(Tensor(np.zeros((2, 2), np.float32)))  # new data for the same Parameter
    assert layer.weight is weight
    assert weight.asnumpy().sum() == 0
    layer.weight = Parameter(np.ones((2, 2), np.float32))
    assert layer.weight is not weight
    setattr(layer, "bias", None)  # noqa: B010
    assert layer.bias is None
    assert names(layer) == ["weight"]
    del layer.weight
    assert names(layer) == []
    with pytest.raises(AttributeError, match="'Layer' has no attribute 'weight'"):
        _ = layer.weight
    layer.plain = 3
    layer.plain = Parameter(1.0)  # a plain attribute may become a Parameter
    assert names(layer) == ["plain"]


def test_super_init_comes_first() -> None:
    class Late(Cell):
        def __init__(self) -> None:
            self.w = Parameter(1.0)

    class Never(Cell):
        def __init__(self) -> None:
            pass

    with pytest.raises(AttributeError, match=r"Late.__init__ must call super\(\).__init__\(\) bef"):
        Late()
    with pytest.raises(AttributeError, match="Never.__init__ must call"):
        Never()(X)


def test_insert_param_to_cell() -> None:
    cell = Cell()
    cell.insert_param_to_cell("w", Parameter(1.0))
    cell.insert_param_to_cell("a.b", Parameter(2.0), check_name_contain_dot=False)
    cell.insert_param_to_cell("c.d", Parameter(2.0), check_name=False)
    cell.insert_param_to_cell("later", None)
    assert names(cell) == ["w", "a.b", "c.d"]
    cell.plain = 1
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        ("", Parameter(1.0), KeyError, "a Parameter needs an attribute name"),
        ("x.y", Parameter(1.0), KeyError, "'x.y' may not have a dot"),
        ("plain", Parameter(1.0), KeyError, "Cell.plain exists and is not a Parameter"),
        ("construct", Parameter(1.0), KeyError, "Cell.construct exists and is not a Parameter"),
        (3, Parameter(1.0), TypeError, "must be a str, got 3"),
        ("z", Tensor([1.0]), TypeError, "expected a Parameter or None, got Tensor"),
        ("z", Parameter(1.0, name="w"), DuplicateNameError, "Cell.w and Cell.z"),
    ]
    for name, param, error, says in cases:
        with pytest.raises(error, match=says):
            cell.insert_param_to_cell(name, param)


def test_insert_child_to_cell_renames_nothing() -> None:
    cell = Cell()
    cell.insert_child_to_cell("child", Layer())
    assert names(cell) == ["weight", "bias"]
    assert cell.child is cell.name_cells()["child"]
    cell.insert_child_to_cell("later", None)
    assert cell.later is None
    assert [name for name, _ in cell.cells_and_names()] == ["", "child"]
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        (3, Layer(), TypeError, "a child's name is a str, got 3"),
        ("", Layer(), KeyError, "is not a valid name for a child Cell"),
        ("a.b", Layer(), KeyError, "'a.b' is not a valid name"),
        ("construct", Layer(), KeyError, "exists and is not a Cell"),
        ("other", 3, TypeError, "expected a Cell, got int"),
    ]
    for name, child, error, says in cases:
        with pytest.raises(error, match=says):
            cell.insert_child_to_cell(name, child)


# Looking around and state.


def test_trainable_and_broadcast() -> None:
    net = Net()
    net.first.bias.requires_grad = False
    net.scale.layerwise_parallel = True
    assert [p.name for p in net.untrainable_params()] == ["first.bias"]
    assert len(net.trainable_params()) == 4
    assert [p.name for p in net.trainable_params(recurse=False)] == ["scale_of_all"]
    assert list(net.parameters_dict(recurse=False)) == ["scale_of_all"]
    assert "scale_of_all" not in (net.parameters_broadcast_dict() or {})
    assert Cell().parameters_broadcast_dict() is None


def test_set_train_reaches_everything() -> None:
    net = Net()
    assert not net.training
    assert net.set_train() is net
    assert all(cell.training for _, cell in net.cells_and_names())
    net.set_train(False)
    assert not any(cell.training for _, cell in net.cells_and_names())
    net.first.set_train()
    assert (net.training, net.first.training, net.second.training) == (False, True, False)


def test_init_parameters_data_runs_the_recipes() -> None:
    cell = Cell()
    with no_init_parameters():
        cell.w = Parameter(initializer("normal", (3, 2)))
    cell.v = Parameter(1.0)
    w = cell.w
    assert w.has_init
    assert cell.init_parameters_data() == {w: w, cell.v: cell.v}
    assert not w.has_init


def test_set_param_ps_takes_the_trainable_ones() -> None:
    net = Net()
    net.first.bias.requires_grad = False
    with pytest.raises(ContextError, match="scale_of_all.*enable_ps=True"):
        net.set_param_ps()
    context.set_ps_context(enable_ps=True)
    net.set_param_ps(init_in_server=True)
    assert {p.name for p in net.get_parameters() if not p.is_param_ps} == {"first.bias"}
    assert net.scale.init_in_server


def test_flags_apply_and_grad() -> None:
    net = Net()
    assert net.set_grad() is net
    assert net.add_flags(fast=True).get_flags() == {"fast": True}
    assert net.add_flags_recursive(slow=True) is net
    assert all(cell.get_flags()["slow"] for _, cell in net.cells_and_names())
    assert Cell(flags={"a": 1}).get_flags() == {"a": 1}
    seen: list[str] = []
    assert net.apply(lambda cell: seen.append(cell.cls_name)) is net
    assert seen == ["Layer", "Layer", "Net"]


def test_state_dict_round_trip() -> None:
    net, other = Net(), Net()
    net.first.bias.set_data(Tensor(np.array([5.0, 6.0], np.float32)))
    state = {path: p.value() for path, p in net.state_dict().items()}
    assert next(iter(state)) == "scale"
    result = other.load_state_dict(state)
    assert str(result) == "<All keys matched successfully>"
    assert other.first.bias.tolist() == [5.0, 6.0]
    state["extra"] = state.pop("scale")
    with pytest.raises(
        RuntimeError, match=r"missing \['scale'\], unexpected \['extra'\]. Pass str"
    ):
        other.load_state_dict(state)
    result = other.load_state_dict(state, strict=False)
    assert result == (["scale"], ["extra"])
    with pytest.raises(TypeError, match="takes {path: Tensor}, got list"):
        other.load_state_dict(wrong([1]))


def test_printing() -> None:
    assert repr(Net()) == "Net(\n  (first): Layer()\n  (second): Layer()\n)"


def test_copies_are_networks_of_their_own() -> None:
    net = Net()
    net.second.weight = net.first.weight
    before = net(X).asnumpy()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert names(twin) == names(net)
        assert twin.second.weight is twin.first.weight is not net.first.weight
        np.testing.assert_array_equal(twin(X).asnumpy(), before)
        twin.scale.set_data(0.0)
        assert twin(X).asnumpy().sum() == 0
    np.testing.assert_array_equal(net(X).asnumpy(), before)


# Running.


@MODES
def test_call(mode: int) -> None:
    context.set_context(mode=mode)
    net = Net()
    expected = X @ np.array([[1.0, -1.0], [0.5, 2.0]]) @ np.array([[1.0, -1.0], [0.5, 2.0]]) * 2
    for x in (X, Tensor(X), Parameter(X, name="x")):
        np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-6)
    assert (net._compiled is None) == (mode == context.PYNATIVE_MODE)
    for error in (NotImplementedError, AttributeError):
        with pytest.raises(error, match=r"Cell has no construct\(\)"):
            Cell()(X)


def test_a_program_is_kept_until_something_changes() -> None:
    net = Net()

    def traces() -> int:
        net(X)
        assert net._compiled is not None
        return net._compiled.traces

    first = traces()
    assert traces() == first
    for change in (
        lambda: net.set_train(),
        lambda: setattr(net, "factor", 3),
        lambda: setattr(net.first, "depth", 1),
        lambda: net.first.register_forward_hook(lambda cell, x, out: out * 2),
        lambda: setattr(net.first.weight, "requires_grad", False),
    ):
        before = traces()
        change()
        assert traces() == before + 1
        assert traces() == before + 1


@MODES
def test_forward_hooks(mode: int) -> None:
    context.set_context(mode=mode)
    layer = Layer()
    plain = layer(X).asnumpy()
    pre = layer.register_forward_pre_hook(lambda cell, inputs: inputs[0] * 2)
    np.testing.assert_allclose(layer(X).asnumpy(), plain * 2, rtol=1e-6)
    post = layer.register_forward_hook(lambda cell, inputs, out: out + inputs[0])
    np.testing.assert_allclose(layer(X).asnumpy(), plain * 2 + 2 * X, rtol=1e-6)
    looking = layer.register_forward_hook(lambda cell, inputs, out: None)
    for handle in (pre, post, looking, pre):
        handle.remove()
    np.testing.assert_array_equal(layer(X).asnumpy(), plain)
    with pytest.raises(TypeError, match="Layer: a hook must be callable, got 3"):
        layer.register_forward_hook(wrong(3))


@MODES
def test_backward_hook(mode: int) -> None:
    context.set_context(mode=mode)
    layer = Layer()
    seen: list[Any] = []

    def hook(cell: Cell, grad_inputs: Any, grad_outputs: Any) -> Any:
        seen.append((cell.cls_name, grad_inputs[0].shape, grad_outputs[0].shape))
        return (grad_inputs[0] * 10,)

    gradient = grad(lambda x: layer(x).sum())
    plain = gradient(Tensor(X)).asnumpy()
    handle = layer.register_backward_hook(hook)
    np.testing.assert_allclose(gradient(Tensor(X)).asnumpy(), plain * 10, rtol=1e-6)
    assert seen[0] == ("Layer", (3, 2), (3, 2))
    handle.remove()
    np.testing.assert_array_equal(gradient(Tensor(X)).asnumpy(), plain)


@MODES
@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_to_float_computes_in_another_type(mode: int, dtype: dt.DType) -> None:
    context.set_context(mode=mode)
    net, seen = Net(), []
    assert net.first.to_float(dtype) is net.first
    net.second.to_float(dt.float32)
    net.first.register_forward_hook(lambda cell, inputs, out: seen.append(out.dtype))
    net.second.register_forward_hook(lambda cell, inputs, out: seen.append(out.dtype))
    value, gradients = loss_gradients(net)
    assert seen[:2] == [dtype, dt.float32]
    assert all(p.dtype is dt.float32 for p in net.get_parameters())
    assert all(g.dtype == np.float32 for g in gradients)
    exact_value, exact = loss_gradients(Net())
    assert value == pytest.approx(exact_value, rel=0.02)
    for ours, theirs in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.05, atol=0.5)


def test_to_float_reaches_children_and_the_innermost_decides() -> None:
    net, seen = Net(), []
    net.to_float(dt.float16)
    net.second.to_float(dt.bfloat16)
    for cell in (net.first, net.second):
        cell.register_forward_hook(lambda cell, inputs, out: seen.append(out.dtype))
    assert net(X).dtype is dt.float32  # bfloat16 * float16
    assert seen == [dt.float16, dt.bfloat16]


def test_to_float_refuses_other_types() -> None:
    with pytest.raises(ValueError, match="expected float16, bfloat16 or float32, got int8"):
        Layer().to_float(dt.int8)


@MODES
def test_recompute_changes_no_number(mode: int) -> None:
    context.set_context(mode=mode)
    value, gradients = loss_gradients(Net())
    net = Net()
    net.first.recompute()
    net.second.recompute(mp_comm_recompute=True)
    again, recomputed = loss_gradients(net)
    assert again == pytest.approx(value)
    for ours, theirs in zip(recomputed, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_recompute_keeps_what_construct_writes() -> None:
    class Counting(Cell):
        def __init__(self) -> None:
            super().__init__()
            self.calls = Parameter(0.0, requires_grad=False)
            self.w = Parameter(2.0)

        def construct(self, x: Tensor) -> Tensor:
            self.calls.assign(self.calls + 1)
            return (x * self.w).tanh()

    cell = Counting()
    cell.recompute()
    step = value_and_grad(lambda x: cell(x).sum(), None, [cell.w])
    step(Tensor(X))
    step(Tensor(X))
    assert float(cell.calls) == 2


@MODES
def test_bprop_is_the_gradient(mode: int) -> None:
    context.set_context(mode=mode)

    class Clipped(Cell):
        def construct(self, x: Tensor) -> Tensor:
            return x * 2

        def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> Any:
            return (dout * x,)

    cell = Clipped()
    assert cell(Tensor(X)).tolist() == (X * 2).tolist()
    assert grad(lambda x: cell(x).sum())(Tensor(X)).tolist() == X.tolist()

    class Wrong(Clipped):
        def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> Any:
            return dout, dout

    wrong = Wrong()
    with pytest.raises(ValueError, match="Wrong.bprop returned 2 gradients for 1 inputs"):
        grad(lambda x: wrong(x).sum())(Tensor(X))


class _OwnGradient(Cell):
    """Its `bprop` returns what it is given."""

    def __init__(self, gradients: Any) -> None:
        super().__init__()
        self.gradients = gradients

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def bprop(self, x: Tensor, y: Tensor, out: Tensor, dout: Tensor) -> Any:
        return self.gradients


@MODES
def test_gradients_of_bprop_get_the_inputs_types(mode: int) -> None:
    context.set_context(mode=mode)
    cell = _OwnGradient((Tensor([1.5, -2.75]), Tensor([1, 2], dt.int32)))
    halves, singles = Tensor([1, 2], dt.float16), Tensor([1.0, 2.0])
    for x in (halves, Tensor([1, 2], dt.int32)):
        by_x, by_y = GradOperation(get_all=True)(cell)(x, singles)
        assert (by_x.dtype, by_y.dtype) == (x.dtype, dt.float32)
        assert by_x.tolist() == ([1.5, -2.75] if x is halves else [1, -2])
        assert by_y.tolist() == [1.0, 2.0]
    context.set_context(check_bprop=True)
    with pytest.raises(TypeError, match=r"input 0 is Float32, the input is Float16 \(check_bprop"):
        GradOperation(get_all=True)(cell)(halves, singles)


@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        ((Tensor([[1.0], [2.0]]), Tensor([1.0, 2.0])), ValueError, r"input 0 has shape \(2, 1\)"),
        ((Tensor([1.0, 2.0]), None), TypeError, "input 1 must be a Tensor, got NoneType"),
        ((2.0, Tensor([1.0, 2.0])), TypeError, "input 0 must be a Tensor, got float"),
        (Tensor([1.0, 2.0]), ValueError, "returned 1 gradients for 2 inputs"),
    ],
)
def test_wrong_gradients_of_bprop(gradients: Any, error: type[Exception], message: str) -> None:
    x = Tensor([1.0, 2.0])
    with pytest.raises(error, match=f"_OwnGradient.bprop.*{message}"):
        grad(_OwnGradient(gradients))(x, x)


def test_bprop_may_stand_for_a_number_too() -> None:
    class Scaled(Cell):
        def construct(self, x: Tensor, factor: int) -> Tensor:
            return x * factor

        def bprop(self, x: Tensor, factor: int, out: Tensor, dout: Tensor) -> Any:
            return dout * (factor + 1), 0

    assert grad(Scaled())(Tensor([1.0, 2.0]), 3).tolist() == [4.0, 4.0]


# Containers.


def test_sequential() -> None:
    net = SequentialCell(Layer(), Layer())
    assert names(net) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    two = net(X).asnumpy()
    one = net[0](X).asnumpy()
    np.testing.assert_allclose(net[1](one).asnumpy(), two, rtol=1e-6)
    assert net.append(Layer()) is net
    assert names(net)[-1] == "2.bias"
    assert len(net[1:]) == 2
    np.testing.assert_allclose(net[:2](X).asnumpy(), two, rtol=1e-6)
    named = SequentialCell(OrderedDict([("fc", Layer()), ("out", Layer())]))
    assert names(named) == ["fc.weight", "fc.bias", "out.weight", "out.bias"]
    assert repr(named).startswith("SequentialCell(\n  (fc): Layer()")
    del named[0]
    assert names(named) == ["out.weight", "out.bias"]


def test_cell_list() -> None:
    cells = CellList([Layer(), Layer()])
    a, b = cells
    c, d = Layer(), Layer()
    cells.insert(0, c)
    assert list(cells) == [c, a, b]
    assert a.weight.name == "1.weight"
    cells += [d]
    del cells[1]
    assert list(cells) == [c, b, d]
    assert names(cells)[::2] == ["0.weight", "1.weight", "2.weight"]
    cells[-1] = a
    assert cells[2] is a
    assert a.bias.name == "2.bias"
    del cells[:2]
    assert list(cells) == [a]
    assert a.bias.name == "0.bias"


def test_cells_added_later_get_the_prefix_too() -> None:
    net = Cell()
    net.blocks = CellList([Layer()])
    net.heads = CellDict({"x": Layer()})
    net.blocks.append(Layer())
    net.heads["y"] = Layer()
    assert names(net)[2:4] == ["blocks.1.weight", "blocks.1.bias"]
    assert names(net)[-2:] == ["heads.y.weight", "heads.y.bias"]
    assert all(name.startswith(("blocks.", "heads.")) for name in names(net))


def test_cell_dict() -> None:
    a, b = Layer(), Layer()
    cells = CellDict({"a": a})
    cells.update([("b", b)])
    assert (list(cells), list(cells.keys()), len(cells), "b" in cells) == (
        ["a", "b"],
        ["a", "b"],
        2,
        True,
    )
    assert list(cells.values()) == [a, b]
    assert dict(cells.items())["b"] is cells["b"] is b
    assert names(cells) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    del cells["a"]
    assert names(cells) == ["b.weight", "b.bias"]
    cells.clear()
    assert names(cells) == []


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda: CellList([1]), TypeError, "CellList holds Cells, got int"),
        (lambda: CellList([Layer()])[3], IndexError, "index 3, but it has 1 Cells"),
        (
            lambda: CellList([Layer()])[wrong("a")],
            TypeError,
            "an index is an int or a slice, got 'a'",
        ),
        (lambda: CellList([]).extend(wrong(Layer())), TypeError, "extend takes a list"),
        (lambda: CellList([]).append(wrong(None)), TypeError, "CellList holds Cells, got NoneType"),
        (lambda: CellDict({"a.b": Layer()}), KeyError, "'a.b' is not a valid name for a Cell"),
        (lambda: CellDict(wrong({"a": 1})), TypeError, "CellDict holds Cells, got int"),
        (lambda: SequentialCell(1), TypeError, "SequentialCell holds Cells, got int"),
    ],
)
def test_container_errors(act: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        act()


def test_values_that_do_not_fit_leave_everything_as_it_is() -> None:
    net = Net()
    before = {path: p.asnumpy() for path, p in net.state_dict().items()}
    state: dict[str, Any] = {path: p.value() + 1 for path, p in net.state_dict().items()}
    state["second.bias"] = Tensor(np.ones(7, np.float32))
    state["first.bias"] = Tensor(np.ones(2))
    message = r"nothing was loaded.\n  first.bias: .*Float64.*\n  second.bias: shape \(7,\), but"
    with pytest.raises(ParameterShapeError, match=message):
        net.load_state_dict(state)
    with pytest.raises(TypeError, match=r"takes Tensors, but 'scale' is numpy.ndarray"):
        net.load_state_dict({path: np.ones(2) for path in before})
    for path, param in net.state_dict().items():
        np.testing.assert_array_equal(param.asnumpy(), before[path])


class TestArguments:
    """Arguments that a class does not have; what is said is in golden/wrong_usages.txt."""

    def test_classes_of_the_user(self) -> None:
        class Wide(Cell):
            def __init__(self, width: int = 1) -> None:
                super().__init__()

        class Open(Wide):
            def __init__(self, **more: int) -> None:
                super().__init__(**more)

        with pytest.raises(TypeError, match=r"^Wide has no argument 'widht'. Did you mean width\?"):
            Wide(**{"widht": 2})
        with pytest.raises(TypeError, match="^Wide has no argument 'x'. It takes width."):
            Wide(**{"x": 2})
        assert isinstance(Open(width=2), Wide)
        with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'x'"):
            Open(x=2)

    def test_another_base_with_a_new_of_its_own(self) -> None:
        class Counted:
            def __new__(cls, *args: object, **kwargs: object) -> Any:
                made = super().__new__(cls)
                made.__dict__["given"] = (args, kwargs)
                return made

        class Both(Cell, Counted):
            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__()

        assert Both(1, m=2).given == ((1,), {"m": 2})

    def test_help_shows_what_the_constructor_takes(self) -> None:
        assert [*inspect.signature(CellList).parameters] == ["args", "auto_prefix"]
        assert [*inspect.signature(Net().construct).parameters] == ["x"]
        assert "self" not in inspect.signature(Net).parameters
        assert callable(Net())
        inspect.signature(Net())


def test_frames_of_paramesh_are_marked_for_notebooks() -> None:
    with pytest.raises(TypeError, match="@") as failed:
        Net()(wrong("x"))
    package = str(Path(paramesh.__file__).parent)
    entry, inside = failed.tb.tb_next, []
    while entry is not None:
        if entry.tb_frame.f_code.co_filename.startswith(package):
            inside.append(entry.tb_frame.f_locals.get("__tracebackhide__"))
        entry = entry.tb_next
    assert inside
    assert all(inside)


def test_flags_are_of_one_cell_or_of_all() -> None:
    net = SequentialCell(Dense(2, 3), SequentialCell(Dense(3, 2)))
    assert net.add_flags(has_effect=True).has_effect is True
    assert [cell.get_flags() for _, cell in net.cells_and_names()][1:] == [{}] * 3
    net.add_flags_recursive(fp16=True)
    net[1][0].add_flags(fp32=True)
    seen: list[Any] = []
    for cell in (net[0], net[1][0]):
        cell.register_forward_hook(lambda cell, inputs, output: seen.append(output.dtype))
    net(Tensor(np.ones((1, 2), np.float32)))
    assert seen == [paramesh.float16, paramesh.float32]
    assert net.get_flags() == {"has_effect": True, "fp16": True}


def test_hints_for_the_compiler_are_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    compiler_hints._noted.clear()
    net = Dense(2, 3)
    assert net.get_inputs() is None
    for _ in range(2):
        net.set_jit_config(paramesh.JitConfig(jit_level="O2"))
        net.set_inputs(Tensor(np.zeros((1, 2), np.float32)))
        assert net.set_boost("less_bn").set_broadcast_flag().set_data_parallel() is net
        assert net.set_auto_parallel() is net
        net.offload()
    assert len(net.get_inputs() or ()) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 7
    assert "Cell.set_jit_config is MindSpore's and has no effect here: XLA is" in said[0]


class _Half(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.a = Parameter(np.ones(2, np.float32), name="a")

    def construct(self, x: Any) -> Any:
        return x * self.a


def test_cells_that_are_put_in_later_can_be_named_by_their_place() -> None:
    net = nn.CellList([nn.SequentialCell(nn.Dense(2, 2)) for _ in range(2)])
    for block in net:
        block.adapter = _Half()
    with pytest.raises(DuplicateNameError, match="without their path: `for name, param in"):
        nn.SGD(net.trainable_params(), 0.1)
    for name, param in net.parameters_and_names():
        param.name = name
    names = {param.name for param in nn.SGD(net.trainable_params(), 0.1).parameters}
    assert {"0.adapter.a", "1.adapter.a"} <= names


def test_a_construct_of_another_name_is_pointed_out() -> None:
    class Torch(nn.Cell):
        def forward(self, x: Any) -> Any:
            return x

    with pytest.raises(ConstructError, match=r"It has forward\(\): name that construct"):
        Torch()(Tensor([1.0]))


def test_wrong_arguments_of_layers_are_shown_without_tracers() -> None:
    dense = nn.Dense(3, 2)
    with pytest.raises(TypeError, match=r"expected a Tensor or an array, got .*\(list\)") as raised:
        wrong(dense)([[1.0, 2.0, 3.0]])
    assert "Tracer" not in str(raised.value)
