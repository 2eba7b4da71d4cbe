"""data_parallel in PyNative mode: the numbers of one device, in one process.

Processes of one device each are in `tests/parallel/processes/test_pynative.py`; here one process
has all of them, or a group of one.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
import training_forms
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.errors import CompiledWarning, ContextError, ProgramNeededError
from paramesh.parallel.modes import meeting
from paramesh.tensor.base import raw
from training_forms import CELLS, FORMS, FUNCTIONS, X, Y, trained

BY_DEVICE = ("data_parallel", "hybrid_parallel")


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    paramesh.communication.release() if paramesh.communication.GlobalComm.INITED else None
    context.reset()
    meeting._programs.clear()


def pynative(mode: str = "data_parallel", devices: int = 2, **settings: Any) -> None:
    settings = {"gradients_mean": True, **settings}
    context.set_context(mode=context.PYNATIVE_MODE)
    context.set_auto_parallel_context(parallel_mode=mode, device_num=devices, **settings)
    if not paramesh.communication.GlobalComm.INITED:
        paramesh.communication.init()


@functools.cache
def on_one_device() -> tuple[list[float], dict[str, Any]]:
    context.reset()
    return trained(training_forms.one_step_cell)


def assert_alike(
    found: tuple[list[float], dict[str, Any]],
    expected: tuple[list[float], dict[str, Any]],
    rtol: float = 1e-4,
) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=rtol, atol=1e-5, err_msg=name)


# A process of several devices.


@pytest.mark.parametrize("mode", BY_DEVICE)
@pytest.mark.parametrize("form", CELLS)
def test_a_training_cell_runs_as_a_program(form: str, mode: str) -> None:
    expected = on_one_device()
    pynative(mode)
    with pytest.warns(
        CompiledWarning, match="runs as a compiled program, in PyNative mode"
    ) as told:
        assert_alike(trained(CELLS[form]), expected)
    assert len(told) == 1


@pytest.mark.parametrize("form", FUNCTIONS)
def test_functions_say_what_to_do(form: str) -> None:
    expected = on_one_device()
    pynative()
    says = "its 2 devices together.*paramesh launch -n 2 --devices-per-process 1.*paramesh.jit"
    with pytest.raises(ContextError, match=says):
        trained(FUNCTIONS[form])
    assert_alike(trained(FUNCTIONS[form], wrap=paramesh.jit), expected)


class Counted(nn.Cell):
    """Counts in an attribute and in a Tensor how often it ran, and draws a random number."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p=0.5)
        self.norm = nn.BatchNorm2d(4)

    def construct(self, x: Any) -> Any:
        return self.norm(self.dropout(x))


def test_what_the_attempt_wrote_is_taken_back() -> None:
    """Moving averages and random numbers are those of graph mode from the first step on."""
    settings: dict[str, Any] = {"parallel_mode": "data_parallel", "device_num": 2}
    context.set_auto_parallel_context(**settings, gradients_mean=True)
    expected = trained(training_forms.one_step_cell, layer=Counted)
    pynative()
    with pytest.warns(CompiledWarning):
        found = trained(training_forms.one_step_cell, layer=Counted)
    assert found[0] == expected[0]
    for name, value in expected[1].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


def test_attributes_are_as_if_it_had_run_once() -> None:
    class Counting(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.calls = nn.Dense(2, 2), 0

        def construct(self, x: Any) -> Any:
            self.calls += 1
            return self.dense(x).mean()

    def calls() -> int:
        net = Counting()
        step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
        with pytest.raises(paramesh.errors.TraceError, match="the attribute Counting.calls"):
            step(Tensor(np.ones((4, 2), np.float32)))
        return net.calls

    pynative()
    with pytest.warns(CompiledWarning):
        found = calls()
    context.set_context(mode=context.GRAPH_MODE)
    assert found == calls()


def test_a_cell_that_takes_gradients_is_an_error() -> None:
    """They are of the whole batch: a program would take parts of them for those of devices."""

    class Update(nn.Cell):
        def __init__(self, optimizer: Any) -> None:
            super().__init__(auto_prefix=False)
            self.optimizer = optimizer
            self.reducer = nn.DistributedGradReducer(optimizer.parameters)

        def construct(self, grads: Any) -> Any:
            return self.optimizer(self.reducer(grads))

    net = nn.Dense(2, 2)
    before = net.weight.asnumpy()
    update = Update(nn.SGD(net.trainable_params(), 0.1))
    pynative()
    grads = tuple(Tensor(np.ones(p.shape, np.float32)) for p in net.trainable_params())
    with pytest.raises(ProgramNeededError, match="sum of gradients over devices"):
        update(grads)
    np.testing.assert_array_equal(net.weight.asnumpy(), before)


def test_an_error_in_the_program_says_why_there_is_one() -> None:
    class Looks(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Dense(2, 2)

        def construct(self, x: Any) -> Any:
            out = self.dense(x).mean()
            float(ops.stop_gradient(out))
            return out

    pynative()
    net = Looks()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
    with (
        pytest.warns(CompiledWarning),
        pytest.raises(paramesh.errors.TraceError) as told,
    ):
        step(Tensor(np.ones((4, 2), np.float32)))
    assert "runs as a compiled program, in PyNative mode too" in told.value.__notes__[-1]


def test_a_prediction_and_an_evaluation_run_by_operators() -> None:
    pynative()
    net = training_forms.network(lambda: nn.SyncBatchNorm(4)).set_train(False)
    whole = net(Tensor(X)).asnumpy()
    model = paramesh.Model(net, nn.MSELoss(), metrics={"loss"}, eval_network=None)
    loss = model.eval([(X, Y)])["loss"]
    predicted = model.predict(Tensor(X)).asnumpy()
    context.reset()
    np.testing.assert_allclose(predicted, net(Tensor(X)).asnumpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(predicted, whole)
    np.testing.assert_allclose(loss, ((whole - Y) ** 2).mean(), rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 2])
def test_the_parallel_optimizer(devices: int) -> None:
    expected = on_one_device()
    pynative(devices=devices, enable_parallel_optimizer=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompiledWarning)
        assert_alike(trained(training_forms.one_step_cell), expected)


@pytest.mark.parametrize("settings", [{"full_batch": True}, {"grad_accumulation_step": 2}])
def test_other_settings(settings: dict[str, Any]) -> None:
    expected = on_one_device()
    pynative(**settings)
    with pytest.warns(CompiledWarning):
        assert_alike(trained(training_forms.one_step_cell), expected)


def test_one_value_for_each_device() -> None:
    scale = Parameter(Tensor(np.ones(1, np.float32)), name="scale", layerwise_parallel=True)

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.scale = scale

        def construct(self, x: Any) -> Any:
            return (self.scale * x).mean()

    pynative()
    net = Net()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 1.0))
    with pytest.warns(CompiledWarning):
        step(Tensor(np.array([[1.0], [3.0]], np.float32)))
    values = paramesh.parallel.per_device(scale).asnumpy()
    np.testing.assert_allclose(values, [[0.0], [-2.0]])


# One device: everything runs operator by operator, and devices meet in small programs.


@pytest.mark.parametrize("form", FORMS)
def test_operator_by_operator(form: str) -> None:
    expected = on_one_device()
    pynative(devices=1)
    assert_alike(trained(FORMS[form]), expected)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The programs in which devices meet, as they are made."""
    programs: list[Any] = []

    class Program(meeting._Program):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            programs.append(self)

    monkeypatch.setattr(meeting, "_Program", Program)
    return programs


@pytest.mark.parametrize("form", ["one_step_cell", "functional"])
def test_the_gradients_of_a_step_meet_in_one_program_that_is_compiled_once(
    form: str, made: list[Any]
) -> None:
    pynative(devices=1)
    trained(FORMS[form])
    assert [program.traces for program in made] == [1]


def test_operators_are_compiled_once_for_each_shape_and_setting(made: list[Any]) -> None:
    pynative(devices=1)
    reduce, largest = ops.AllReduce(), ops.AllReduce(ops.ReduceOp.MAX)
    for size in (3, 3, 5):
        reduce(Tensor(np.ones(size, np.float32)))
        largest(Tensor(np.ones(size, np.float32)))
    assert [program.traces for program in made] == [1] * 4


def test_kept_programs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "MOST_PROGRAMS", 2)
    pynative(devices=1)
    for size in (1, 2, 3):
        ops.AllReduce()(Tensor(np.ones(size, np.float32)))
    assert len(meeting.programs()) == 2


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
def test_derivatives_go_through_operators(mode: int) -> None:
    """Of first and second order, backward and forward, outside of programs of either mode."""
    pynative(devices=1)
    context.set_context(mode=mode)
    reduce = ops.AllReduce()
    x = jax.numpy.asarray([0.5, -1.0])

    def f(x: Any) -> Any:
        return (raw(reduce(x * x)) ** 2).sum()

    np.testing.assert_allclose(jax.grad(f)(x), 4 * x**3, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(f, (x,), (x,))[1], (4 * x**4).sum(), rtol=1e-6)
    second = jax.grad(lambda x: jax.grad(f)(x).sum())
    np.testing.assert_allclose(second(x), 12 * x**2, rtol=1e-6)


def test_of_64_bits_and_without_axes() -> None:
    pynative(devices=1)
    out = ops.AllReduce()(Tensor(np.array(2**40 + 1, np.int64)))
    assert (out.asnumpy(), str(out.dtype), out.shape) == (2**40 + 1, "Int64", ())


def test_inside_of_a_transform_it_says_what_to_do() -> None:
    pynative(devices=1)
    with pytest.raises(ContextError, match="ops.AllReduce: devices meet where values are known"):
        jax.jit(ops.AllReduce())(np.ones(2, np.float32))


def test_a_recomputed_cell_that_has_devices_meet_runs_as_a_program() -> None:
    pynative(devices=1)

    class Meets(nn.Cell):
        def construct(self, x: Any) -> Any:
            return ops.AllReduce()(x)

    def layer() -> nn.Cell:
        meets = Meets()
        meets.recompute()
        return meets

    with pytest.warns(CompiledWarning, match="devices meet where values are known"):
        losses, _ = trained(training_forms.one_step_cell, layer=layer)
    np.testing.assert_allclose(losses, on_one_device()[0], rtol=1e-5)


# Synchronised statistics, in both modes.


@pytest.mark.parametrize("layer", [nn.SyncBatchNorm, paramesh.mint.nn.SyncBatchNorm])
@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_the_statistics_are_those_of_all_devices(layer: Callable[..., Any], mode: int) -> None:
    """MindSpore's SyncBatchNorm: training with it is that on one device."""
    expected = trained(training_forms.one_step_cell, layer=lambda: layer(4))
    pynative()
    context.set_context(mode=mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompiledWarning)
        assert_alike(trained(training_forms.one_step_cell, layer=lambda: layer(4)), expected)


def test_the_statistics_of_the_whole_batch_are_at_hand_in_one_process() -> None:
    layer = nn.SyncBatchNorm(3).set_train()
    expected = layer(Tensor(X)).asnumpy()
    pynative()
    np.testing.assert_allclose(layer(Tensor(X)).asnumpy(), expected, rtol=1e-5, atol=1e-6)


# The global view in PyNative mode: everything on one device.


@pytest.mark.parametrize("mode", ["semi_auto_parallel", "auto_parallel"])
@pytest.mark.parametrize("form", ["one_step_cell", "functional"])
def test_the_global_view_computes_the_whole_batch(form: str, mode: str) -> None:
    expected = on_one_device()
    pynative(mode)
    assert_alike(trained(FORMS[form]), expected)
