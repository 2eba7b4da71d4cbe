"""`lower(…).compile(target=…)`: a program under the settings, for devices that are not these."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from compiled_collectives import collectives
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel.planning.devices import MissingCompilerError
from paramesh.train import TrainOneStepCell, WithLossCell

X = Tensor(np.ones((16, 32), np.float32))
BATCH = jax.ShapeDtypeStruct((16, 32), np.float32)
#: Of the layer, and of the two means that Adam keeps of it.
PARAMETERS = 3 * 4 * (32 * 32 + 32)


def step_of(strategy: Any = None) -> Any:
    paramesh.set_seed(1)
    net = nn.Dense(32, 32)
    if strategy is not None:
        net.matmul.shard(strategy)
    optimizer = nn.Adam(net.trainable_params(), 0.01)
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), optimizer)


def test_one_device() -> None:
    step = step_of()
    recipes = [param.name for param in step.trainable_params() if param.has_init]
    made = step.lower(BATCH, BATCH).compile(target="cpu:1")
    assert made.target == "cpu:1"
    assert "HloModule" in made.as_text()
    held = made.memory_analysis().argument_size_in_bytes
    assert PARAMETERS < held < PARAMETERS + 3 * X.nbytes
    assert made.cost_analysis()["flops"] > 4 * 16 * 32 * 32
    assert [param.name for param in step.trainable_params() if param.has_init] == recipes != []
    with pytest.raises(TypeError, match=r"compiled for target='cpu:1', to be read"):
        made(X, X)


@pytest.mark.parametrize(
    ("mode", "settings", "strategy", "kinds", "most"),
    [
        ("data_parallel", {}, None, {"all-reduce"}, PARAMETERS + 2 * X.nbytes),
        (
            "data_parallel",
            {"enable_parallel_optimizer": True},
            None,
            {"all-reduce", "all-gather"},
            0.6 * PARAMETERS,
        ),
        ("semi_auto_parallel", {}, ((1, 4), (1, 4)), {"all-reduce"}, 0.5 * PARAMETERS),
        (
            "auto_parallel",
            {"search_mode": "recursive_programming"},
            None,
            None,
            PARAMETERS + 2 * X.nbytes,
        ),
    ],
)
def test_the_parallel_modes(
    mode: str, settings: dict[str, Any], strategy: Any, kinds: set[str] | None, most: float
) -> None:
    """On four devices, while the same network trains on eight: it does not notice."""
    losses: list[list[float]] = []
    for looks in (False, True):
        context.set_auto_parallel_context(parallel_mode=mode, device_num=4, **settings)
        step = step_of(strategy)
        found = [float(step(X, X).asnumpy()) for _ in range(2)]
        places = [param.sharding for param in step.trainable_params()]
        if looks:
            made = step.lower(X, X).compile(target="cpu:4")
            sends = collectives(made.as_text())
            assert kinds is None or set(sends) >= kinds, sends
            assert made.memory_analysis().argument_size_in_bytes < most
            assert [param.sharding for param in step.trainable_params()] == places
        losses.append([*found, *(float(step(X, X).asnumpy()) for _ in range(2))])
        context.reset_auto_parallel_context()
    assert losses[0] == losses[1]


def test_more_devices_than_the_strategy_finds_here() -> None:
    """The strategy is for eight devices. The settings have four, and the target has eight."""
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=4)
    lowered = step_of(((2, 4), (1, 4))).lower(X, X)
    with pytest.raises(LayoutError, match="needs 8 devices"):
        lowered.compile()
    made = lowered.compile(target="cpu:8")
    assert made.memory_analysis().argument_size_in_bytes < 0.6 * PARAMETERS
    with pytest.raises(LayoutError, match="needs 8 devices"):
        lowered.compile(target="cpu:2")


def test_refused() -> None:
    lowered = step_of().lower(X, X)
    for target, error, message in (
        ("cpu:4", ContextError, "target=.cpu:4. has 4 devices, .*stand_alone.* paramesh.plan"),
        ("cpu:999", ContextError, "has opened 8 devices"),
        ("abacus:8", ValueError, "there are cpu, a100"),
        ("eight", ValueError, "a target is a kind and a shape"),
    ):
        with pytest.raises(error, match=message):
            lowered.compile(target=target)
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=8)
    with pytest.raises(LayoutError, match=r"input 0 has shape \(4, 32\).* the 8 devices of the"):
        step_of().lower(X[:4], X[:4]).compile(target="cpu:8")
    own = Parameter(Tensor(np.ones(2, np.float32)), name="own", layerwise_parallel=True)
    with pytest.raises(ContextError, match="'own' has a value for each device"):
        paramesh.jit(lambda x: own * x).lower(X[:, :2]).compile(target="cpu:8")


@pytest.mark.parametrize(
    ("target", "module", "extra"),
    [("h100:8", "jax_cuda12_plugin", "plan-cuda"), ("v5e:2x4", "libtpu", "plan-tpu")],
)
def test_a_compiler_that_is_missing_is_named(
    target: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    lowered = paramesh.jit(lambda x: ops.relu(x)).lower(X)
    with pytest.raises(MissingCompilerError, match=rf"pip install 'paramesh\[{extra}\]'"):
        lowered.compile(target=target)
