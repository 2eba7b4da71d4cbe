"""data_parallel: the same training as on one device, on shards of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import compiled_programs
import paramesh
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.errors import CheckpointError, ContextError, ParameterShapeError
from paramesh.initializer import initializer
from paramesh.parallel import per_device, set_per_device, set_slices
from paramesh.train.cells import TrainOneStepCell, WithLossCell
from type_checks import wrong

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    context.reset()


def parallel(devices: int, mode: str = "data_parallel", **settings: Any) -> None:
    context.set_auto_parallel_context(parallel_mode=mode, device_num=devices, **settings)


def train(steps: int = 5) -> tuple[list[float], dict[str, np.ndarray[Any, Any]]]:
    paramesh.set_seed(1)
    layers = [c for _ in range(5) for c in (nn.Dense(4, 4, weight_init="normal"), nn.Tanh())]
    net = nn.SequentialCell(*layers)
    adam = nn.Adam(net.trainable_params(), 0.01)
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), adam)
    losses = [float(step(Tensor(X), Tensor(X * 0.5))) for _ in range(steps)]
    return losses, {name: p.asnumpy() for name, p in step.parameters_dict().items()}


@pytest.mark.parametrize("mode", ["data_parallel", "hybrid_parallel"])
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_the_same_as_on_one_device(devices: int, mode: str) -> None:
    losses, values = train()
    parallel(devices, mode, gradients_mean=True)
    losses_here, here = train()
    np.testing.assert_allclose(losses_here, losses, rtol=1e-5)
    for name, value in values.items():
        np.testing.assert_allclose(here[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_gradients_are_summed_without_gradients_mean() -> None:
    weight = Parameter(Tensor(np.ones(4, np.float32)), name="weight")
    parallel(4)

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight

        def construct(self, x: Any) -> Any:
            return (x * self.weight).mean()

    TrainOneStepCell(Net(), nn.SGD([weight], 1.0))(Tensor(X))
    parts = [part.mean(axis=0) / 4 for part in np.split(X, 4)]
    np.testing.assert_allclose(weight.asnumpy(), 1.0 - np.sum(parts, axis=0), rtol=1e-5)


class TestLayerwise:
    def test_each_device_has_its_own_value(self) -> None:
        own = Parameter(Tensor(np.zeros(3, np.float32)), name="own", layerwise_parallel=True)
        parallel(4, "hybrid_parallel")

        @paramesh.jit
        def add(x: Any) -> Any:
            own.assign(own + x.sum())
            return own * 1.0

        out = add(Tensor(np.arange(8, dtype=np.float32)))
        expected = np.repeat(np.array([1.0, 5.0, 9.0, 13.0], np.float32)[:, None], 3, axis=1)
        np.testing.assert_array_equal(out.asnumpy().reshape(4, 3), expected)
        np.testing.assert_array_equal(per_device(own).asnumpy(), expected)
        np.testing.assert_array_equal(own.asnumpy(), expected[0])
        assert own.shape == (3,)
        set_per_device(own, expected * 2)
        add(Tensor(np.zeros(8, np.float32)))
        np.testing.assert_array_equal(per_device(own).asnumpy(), expected * 2)
        own.set_data(Tensor(np.ones(3, np.float32)))
        add(Tensor(np.zeros(8, np.float32)))
        np.testing.assert_array_equal(per_device(own).asnumpy(), np.ones((4, 3)))

    def test_its_gradient_is_not_summed(self) -> None:
        own = Parameter(Tensor(np.ones(4, np.float32)), name="own", layerwise_parallel=True)
        parallel(4)

        class Net(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.own = own

            def construct(self, x: Any) -> Any:
                return (x * self.own).sum()

        step = TrainOneStepCell(Net(), nn.Momentum([own], 1.0, 0.9))
        step(Tensor(X))
        parts = np.stack([1.0 - part.sum(axis=0) for part in np.split(X, 4)])
        np.testing.assert_allclose(per_device(own).asnumpy(), parts, rtol=1e-5)

    def test_its_optimizer_state_is_its_own_too(self) -> None:
        own = Parameter(Tensor(np.ones(4, np.float32)), name="own", layerwise_parallel=True)
        parallel(4, parameter_broadcast=True)

        @paramesh.jit
        def step(x: Any) -> Any:
            return optimizer((x.sum(0),))

        optimizer = nn.Momentum([own], 1.0, 0.9)
        step(Tensor(X))
        sums = np.stack([part.sum(axis=0) for part in np.split(X, 4)])
        np.testing.assert_allclose(per_device(optimizer.moments[0]).asnumpy(), sums, rtol=1e-5)

    def test_checkpoints_keep_every_devices_value(self, tmp_path: Any) -> None:
        def network() -> nn.Cell:
            net = nn.Dense(3, 2)
            net.weight.layerwise_parallel = True
            return net

        parallel(4)
        net = network()
        values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
        set_per_device(net.weight, values)
        path = paramesh.save_checkpoint(net, tmp_path / "net")
        other = network()
        paramesh.load_checkpoint(path, other)
        np.testing.assert_array_equal(per_device(other.weight).asnumpy(), values)
        np.testing.assert_array_equal(other.bias.asnumpy(), net.bias.asnumpy())
        # What one of MindSpore's ranks saved goes to all devices.
        one = {"weight": Parameter(values[2]), "bias": Parameter(net.bias.asnumpy())}
        paramesh.load_param_into_net(other, one)
        assert (per_device(other.weight).asnumpy() == values[2]).all()
        for settings, count in (({"device_num": 2}, 2), ({"parallel_mode": "stand_alone"}, 1)):
            context.set_auto_parallel_context(**settings)
            says = (
                rf"weight is layerwise_parallel, and has values for 4 devices .* and {count} here"
            )
            with pytest.raises(CheckpointError, match=says):
                paramesh.load_checkpoint(path, network())
        plain = nn.Dense(3, 2)
        with pytest.raises(CheckpointError, match=r"weight is \[2, 3\], the value \[4, 2, 3\]"):
            paramesh.load_checkpoint(path, plain)

    def test_slices_are_those_of_the_full_array(self) -> None:
        whole = initializer("normal", (6, 8))
        values = whole.init_data().asnumpy()
        for axis in (0, 1):
            parallel(2, "hybrid_parallel")
            shape = (3, 8) if axis == 0 else (6, 4)
            own = Parameter(initializer("zeros", shape), name="own", layerwise_parallel=True)
            for given in (whole, Tensor(values)):
                set_slices(own, given, axis)
                parts = np.stack(np.split(values, 2, axis))
                np.testing.assert_array_equal(per_device(own).asnumpy(), parts)
        with pytest.raises(
            ParameterShapeError, match=r"the full array has shape \(6, 8\); got \(6, 4"
        ):
            set_slices(own, initializer("normal", (6, 4)), 1)
        with pytest.raises(ParameterShapeError, match="has no axis 2"):
            set_slices(own, whole, 2)

    @pytest.mark.parametrize(
        "settings", [{"device_num": 2}, {"parallel_mode": "stand_alone"}], ids=str
    )
    def test_the_mode_cannot_change_afterwards(self, settings: dict[str, Any]) -> None:
        own = Parameter(Tensor(np.ones(4, np.float32)), name="own", layerwise_parallel=True)
        parallel(4)

        @paramesh.jit
        def product(x: Any) -> Any:
            return x * own

        product(Tensor(X))
        context.set_auto_parallel_context(**settings)
        says = "'own' has a value on each of 4 devices .*Save it, make the network again"
        with pytest.raises(ContextError, match=says):
            product(Tensor(X))

    def test_a_wrong_number_of_rows_is_refused(self) -> None:
        own = Parameter(Tensor(np.ones(4, np.float32)), name="own", layerwise_parallel=True)
        with pytest.raises(ValueError, match=r"'own' .* on 1 devices .* expected \(1, 4\)"):
            set_per_device(own, np.ones((3, 4), np.float32))


class TestBorders:
    def test_a_batch_that_cannot_be_split(self) -> None:
        parallel(8)
        net = nn.Dense(4, 4)
        with pytest.raises(ValueError, match=r"input 0 has shape \(6, 4\).*multiple of the 8"):
            net(Tensor(X[:6]))

    def test_too_many_devices(self) -> None:
        parallel(16)
        with pytest.raises(ContextError, match="device_num=16, but there are 8 CPU devices"):
            nn.Dense(4, 4)(Tensor(X))

    def test_outputs(self) -> None:
        parallel(4)

        @paramesh.jit
        def outputs(x: Any) -> Any:
            return x * 2, x.sum(), x.shape[0]

        doubled, total, rows = outputs(Tensor(X))
        np.testing.assert_array_equal(doubled.asnumpy(), X * 2)
        np.testing.assert_allclose(float(total), X.sum() / 4, rtol=1e-5)
        assert rows == 4

    @pytest.mark.parametrize("whole", [False, True])
    def test_64_bits_stay_64_bits(self, whole: bool) -> None:
        parallel(4, full_batch=whole)
        total = Parameter(Tensor(np.full(2, 2**40)), name="total")
        given = np.arange(8).reshape(4, 2) + 2**41

        @paramesh.jit
        def add(x: Any) -> Any:
            total.assign(total + ops.all_reduce(x[:1]).sum(0) * 0 + 1)
            return x + total * 0 + 3

        np.testing.assert_array_equal(add(Tensor(given)).asnumpy(), given + 3)
        np.testing.assert_array_equal(total.asnumpy(), [2**40 + 1] * 2)

    def test_full_batch(self) -> None:
        parallel(4, full_batch=True)

        @paramesh.jit
        def outputs(x: Any) -> Any:
            return x * 2, ops.all_reduce(x.sum())

        doubled, total = outputs(Tensor(X[:5]))
        np.testing.assert_array_equal(doubled.asnumpy(), X[:5] * 2)
        np.testing.assert_allclose(float(total), X[:5].sum() * 4, rtol=1e-4)

    def test_strategies_of_inputs_are_of_another_mode(self) -> None:
        parallel(4, dataset_strategy=((4, 1),))
        with pytest.raises(ContextError, match="is for the semi-automatic mode; data_parallel"):
            nn.Dense(4, 4)(Tensor(X))

    def test_back_to_one_device(self) -> None:
        net = nn.Dense(4, 4)
        before = net(Tensor(X)).asnumpy()
        parallel(4)
        there = net(Tensor(X)).asnumpy()
        context.reset_auto_parallel_context()
        np.testing.assert_allclose(there, before, rtol=1e-6)
        np.testing.assert_allclose(net(Tensor(X)).asnumpy(), before, rtol=1e-6)


class TestGradients:
    """How many sums over devices there are, and of what."""

    @staticmethod
    def step(**flags: Any) -> TrainOneStepCell:
        """Four Parameters; `flags` are of the first weight."""
        net = nn.SequentialCell(nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 4))
        for flag, value in flags.items():
            setattr(net[0].weight, flag, value)
        loss = WithLossCell(net, nn.MSELoss())
        return TrainOneStepCell(loss, nn.Momentum(net.trainable_params(), 0.1, 0.9))

    @staticmethod
    def summed(step: TrainOneStepCell) -> list[int]:
        """Elements of each sum over devices in the compiled step, but for the loss's."""
        text = compiled_programs.text_of(step, X, X)
        return sorted(n for n in compiled_programs.sizes(text, "all-reduce") if n > 1)

    @pytest.mark.parametrize(
        ("fusion", "sizes"),
        [
            (None, [76]),
            ({"allreduce": {"mode": "size", "config": 1}}, [76]),
            ({"openstate": False}, [4, 8, 32, 32]),
            ({"allreduce": {"mode": "index", "config": [1]}}, [32, 44]),
        ],
        ids=str,
    )
    def test_fused(self, fusion: Any, sizes: list[int]) -> None:
        parallel(4, comm_fusion=fusion)
        assert self.summed(self.step()) == sizes

    @pytest.mark.parametrize("flags", [{"layerwise_parallel": True}, {"requires_grad": False}])
    def test_none_for_layerwise_or_frozen_parameters(self, flags: dict[str, bool]) -> None:
        parallel(4)
        assert self.summed(self.step(**flags)) == [76 - 32]

    @pytest.mark.parametrize("wide", [True, False])
    def test_16_bit_gradients_are_summed_in_32(self, wide: bool) -> None:
        parallel(4, gradient_fp32_sync=wide)
        weight = Parameter(Tensor(np.zeros(2, np.float16)), name="weight")

        class Net(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.weight = weight

            def construct(self, x: Any) -> Any:
                return (x * self.weight).sum()

        # In Float16, 2048 + 1 is 2048, in whatever order.
        x = np.array([2048, 1, 1, 1], np.float16)[:, None] * np.ones(2, np.float16)
        TrainOneStepCell(Net(), nn.SGD([weight], 1.0))(Tensor(x))
        found = -weight.asnumpy().astype(np.float32)
        assert (found == np.float16(2051)).all() == wide

    @pytest.mark.parametrize(
        ("mean", "degree", "factor"),
        [(None, None, 1.0), (True, None, 0.25), (True, 2, 0.5), (False, None, 1.0)],
    )
    def test_in_a_cell_of_ones_own(self, mean: Any, degree: Any, factor: float) -> None:
        weight = Parameter(Tensor(np.ones(4, np.float32)), name="weight")
        reducer = nn.DistributedGradReducer([weight], mean, degree)
        parallel(4)

        @paramesh.jit
        def reduced(x: Any) -> Any:
            return reducer((x.sum(0),))[0]

        out = reduced(Tensor(X)).asnumpy().reshape(4, 4)
        for row in out:
            np.testing.assert_allclose(row, X.sum(0) * factor, rtol=1e-5)
        assert list(reducer.get_parameters()) == []

    def test_mistakes_with_a_reducer(self) -> None:
        weight = Parameter(Tensor(np.ones(4, np.float32)), name="weight")
        make = nn.DistributedGradReducer
        with pytest.raises(TypeError, match="mean must be True, False or None, got 1"):
            make([weight], wrong(1))
        with pytest.raises(ValueError, match="degree=0 must be at least 1"):
            make([weight], True, 0)
        with pytest.raises(ValueError, match="group='pair', but gradients are added up over all"):
            make([weight], group="pair")
        with pytest.raises(ValueError, match="0 gradients for 1 Parameters"):
            make([weight])(())


def test_batch_statistics_are_those_of_the_shard() -> None:
    def network() -> nn.Cell:
        return nn.BatchNorm1d(4, momentum=0.0).set_train()

    parts = [network()(Tensor(part)).asnumpy() for part in np.split(X, 4)]
    parallel(4)
    norm = network()
    np.testing.assert_allclose(norm(Tensor(X)).asnumpy(), np.concatenate(parts), atol=1e-5)
    # As the first rank's in MindSpore.
    np.testing.assert_allclose(norm.moving_mean.asnumpy(), X[:4].mean(0), atol=1e-6)


def test_model_train() -> None:
    parallel(4, gradients_mean=True)
    net = nn.Dense(4, 4)
    model = paramesh.Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.1), metrics={"mse"})
    data = [(X, X * 0.5)] * 20
    before = model.eval(data)["mse"]
    model.train(2, data, progress=False)
    assert model.eval(data)["mse"] < 0.5 * before


@pytest.mark.parametrize("mode", ["data_parallel", "hybrid_parallel"])
@pytest.mark.parametrize(
    "whole", [{"full_batch": True}, {"dataset_strategy": "full_batch"}], ids=str
)
def test_sums_of_the_whole_batch_are_refused(mode: str, whole: Any) -> None:
    parallel(4, mode, **whole)
    with pytest.raises(ContextError, match="their sum would be 4 times those"):
        train(1)


def test_means_of_the_whole_batch_are_its_gradients() -> None:
    losses, values = train()
    parallel(4, full_batch=True, gradients_mean=True)
    found, here = train()
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for name, value in values.items():
        np.testing.assert_allclose(here[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_sums_of_the_whole_batch_that_are_asked_for() -> None:
    weight = Parameter(Tensor(np.ones(4, np.float32)), name="weight")
    reducer = nn.DistributedGradReducer([weight], mean=False)
    parallel(4, full_batch=True)
    total = paramesh.jit(lambda x: reducer((x.sum(0),))[0])
    np.testing.assert_allclose(total(Tensor(X)).asnumpy(), X.sum(0) * 4, rtol=1e-5)
