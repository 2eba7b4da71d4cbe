"""data_parallel: the same training as on one device, on parts of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn
from paramesh.errors import ContextError
from paramesh.parallel.per_device import per_device, set_per_device
from paramesh.train.cells import TrainOneStepCell, WithLossCell

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

    def test_a_wrong_number_of_rows_is_refused(self) -> None:
        own = Parameter(Tensor(np.ones(4, np.float32)), name="own", layerwise_parallel=True)
        with pytest.raises(ValueError, match=r"'own' .* on 1 devices .* expected \(1, 4\)"):
            set_per_device(own, np.ones((3, 4), np.float32))


class TestBorders:
    def test_a_batch_that_cannot_be_cut(self) -> None:
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

    def test_back_to_one_device(self) -> None:
        net = nn.Dense(4, 4)
        before = net(Tensor(X)).asnumpy()
        parallel(4)
        there = net(Tensor(X)).asnumpy()
        context.reset_auto_parallel_context()
        np.testing.assert_allclose(there, before, rtol=1e-6)
        np.testing.assert_allclose(net(Tensor(X)).asnumpy(), before, rtol=1e-6)
