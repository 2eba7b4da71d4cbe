"""Parameters on servers beside data parallelism, against data parallelism without any servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.errors import CompiledWarning, ContextError
from paramesh.ps.integration import session as sessions
from type_checks import present

USERS, ITEMS, BATCH, STEPS, DEVICES = 50, 80, 16, 4, 4


class Net(nn.Cell):
    """Two tables, one looked up twice, and layers, each of which may be served or not."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.EmbeddingLookup(USERS, 4)
        self.item = nn.EmbeddingLookup(ITEMS, 4)
        self.hidden = nn.Dense(12, 8)
        self.out = nn.Dense(8, 1)

    def construct(self, users: Any, items: Any, label: Any) -> Any:
        pairs = self.item(items * 2).reshape(users.shape[0], 8)
        x = ops.concat((self.user(users) * self.item(users), pairs), 1)
        return ((self.out(ops.tanh(self.hidden(x))) - label) ** 2).mean()


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def batches() -> list[tuple[Tensor, ...]]:
    rng = np.random.default_rng(1)
    return [
        (
            Tensor(rng.integers(0, USERS, (BATCH,)).astype(np.int32)),
            Tensor(rng.integers(0, ITEMS // 2, (BATCH, 2)).astype(np.int32)),
            Tensor(rng.standard_normal((BATCH, 1)).astype(np.float32)),
        )
        for _ in range(STEPS)
    ]


def network(served: bool = True, dense: bool = True) -> Net:
    """A network from the same seed; `dense`: its layers are served too, but for one bias."""
    context.reset_ps_context()
    paramesh.set_seed(3)
    net = Net()
    if served:
        context.set_ps_context(enable_ps=True)
        net.user.set_param_ps(init_in_server=True)
        net.item.set_param_ps(init_in_server=True)
        if dense:
            net.hidden.set_param_ps()
            net.out.weight.set_param_ps()
    return net


def parallel(**settings: Any) -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=DEVICES, **settings)


def by_cell(net: Net) -> nn.TrainOneStepCell:
    optimizer = nn.Adagrad(net.trainable_params(), learning_rate=0.1)
    return nn.TrainOneStepCell(net, optimizer)


def by_jit(net: Net, look: Callable[[Any], Any] = lambda grads: grads) -> Callable[..., Any]:
    params = net.trainable_params()
    optimizer = nn.Adagrad(params, learning_rate=0.1)
    gradients = paramesh.value_and_grad(net, None, weights=params)
    reducer = nn.DistributedGradReducer(params)

    @paramesh.jit
    def step(*batch: Any) -> Any:
        loss, grads = gradients(*batch)
        optimizer(look(reducer(grads)))
        return loss

    return step


def by_clipping(net: Net) -> Callable[..., Any]:
    return by_jit(net, lambda grads: ops.clip_by_global_norm(grads, 0.05))


def trained(net: Net, make: Any = by_cell) -> list[Any]:
    """Everything that training gives: losses, and what the network says of all rows then."""
    step = make(net)
    losses = [step(*batch).asnumpy() for batch in batches()]
    known = [present(net.out.bias).asnumpy(), net.hidden.weight.asnumpy(), net.out.weight.asnumpy()]
    rows = [net.user(Tensor(np.arange(48))), net.item(Tensor(np.arange(ITEMS)))]
    return [*losses, *known, *(row.asnumpy() for row in rows)]


@pytest.mark.parametrize(
    ("make", "dense", "mean"),
    [
        (by_cell, True, True),
        (by_clipping, True, True),
        pytest.param(by_jit, False, False, marks=pytest.mark.slow),
        pytest.param(by_cell, False, True, marks=pytest.mark.slow),
        pytest.param(by_cell, True, False, marks=pytest.mark.slow),
        pytest.param(by_jit, True, True, marks=pytest.mark.slow),
    ],
)
def test_as_in_data_parallel_without_servers(make: Any, dense: bool, mean: bool) -> None:
    parallel(gradients_mean=mean)
    local = trained(network(served=False), make)
    net = network(dense=dense)
    remote = trained(net, make)
    session = sessions.running()
    assert session is not None
    assert present(net.out.bias).name not in session.specs
    assert (net.hidden.weight.name in session.specs) == dense
    assert session.at == STEPS
    for mine, theirs in zip(remote, local, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)
    again = trained(network(dense=dense), make)
    assert [a.tobytes() for a in again] == [a.tobytes() for a in remote]


@pytest.mark.parametrize("devices", [DEVICES, 1])
def test_in_pynative_mode_a_step_is_a_program(devices: int) -> None:
    """Also where each process has one device: what a device looked up is known of a program."""
    context.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    context.set_auto_parallel_context(device_num=devices)
    expected = trained(network())
    net = network()
    context.set_context(mode=context.PYNATIVE_MODE)
    with pytest.warns(CompiledWarning, match="lives on the parameter server") as told:
        found = trained(net)
    assert len(told) == 1
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_in_pynative_mode_functions_are_an_error() -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=1)
    params = network().trainable_params()
    context.set_context(mode=context.PYNATIVE_MODE)
    grads = [Tensor(np.ones(param.shape, np.float32)) for param in params]
    with pytest.raises(ContextError, match="lives on the parameter server.*paramesh.jit"):
        nn.DistributedGradReducer(params)(grads)


def test_as_one_device_with_the_combined_batch() -> None:
    alone = trained(network(served=False))
    parallel(gradients_mean=True)
    for mine, theirs in zip(trained(network()), alone, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_every_row_is_pulled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parallel(gradients_mean=True)
    net = network()
    step = by_cell(net)
    step(*batches()[0])
    session = sessions.running()
    assert session is not None
    pulled: list[tuple[str, list[int]]] = []
    original = session.pull_tables
    requests = 0

    def counted(wanted: dict[str, Any]) -> Any:
        nonlocal requests
        requests += 1
        pulled.extend((name, ids.tolist()) for name, ids in wanted.items())
        return original(wanted)

    monkeypatch.setattr(session, "pull_tables", counted)
    users, items, label = batches()[1]
    step(users, items, label)
    of_users = np.unique(users.asnumpy())
    of_items = np.unique(np.concatenate([users.asnumpy(), items.asnumpy().reshape(-1) * 2]))
    assert dict(pulled) == {
        net.user.embedding_table.name: of_users.tolist(),
        net.item.embedding_table.name: of_items.tolist(),
    }
    assert len(pulled) == 2
    assert requests == 1


@pytest.mark.slow
def test_full_batches_and_the_parallel_optimizer() -> None:
    """`full_batch`: every device looks up everything. The optimizer divides what is not served."""
    parallel(gradients_mean=True, full_batch=True, enable_parallel_optimizer=True)
    local = trained(network(served=False))
    for mine, theirs in zip(trained(network()), local, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    parallel(gradients_mean=True)
    step = by_cell(network())
    batch = batches()[0]
    step(*batch)
    paramesh.save_checkpoint(step, tmp_path / "net.safetensors")
    expected = [step(*batch).asnumpy().tobytes() for _ in range(2)]
    step = by_cell(network())
    paramesh.load_checkpoint(tmp_path / "net.safetensors", step)
    assert [step(*batch).asnumpy().tobytes() for _ in range(2)] == expected


# What cannot be combined says so before anything is trained.


def test_gradients_of_one_device_are_refused() -> None:
    parallel()
    net = network()
    optimizer = nn.Adagrad(net.trainable_params(), learning_rate=0.1)
    gradients = paramesh.value_and_grad(net, None, weights=net.trainable_params())

    @paramesh.jit
    def step(*batch: Any) -> Any:
        loss, grads = gradients(*batch)
        optimizer(grads)
        return loss

    with pytest.raises(
        ContextError, match=r"'user.embedding_table' .*not reduced over the devices yet.*Reducer"
    ):
        step(*batches()[0])


def test_modes_that_shard_parameters_are_refused() -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=DEVICES)
    with pytest.raises(ContextError, match="parallel_mode='semi_auto_parallel' cannot be used tog"):
        by_cell(network())(*batches()[0])


@pytest.mark.parametrize("mode", ["semi_auto_parallel", "auto_parallel"])
def test_on_one_device_they_have_nothing_to_shard(mode: str) -> None:
    expected = by_cell(network())(*batches()[0])
    context.set_auto_parallel_context(parallel_mode=mode, device_num=1, full_batch=True)
    assert float(by_cell(network())(*batches()[0])) == float(expected)


def test_a_value_per_device_is_not_served() -> None:
    parallel()
    net = network()
    net.out.bias = Parameter(Tensor(np.zeros(1, np.float32)), layerwise_parallel=True)
    net.out.bias.set_param_ps()
    with pytest.raises(ContextError, match=r"'bias' has layerwise_parallel=True.*set_param_ps"):
        by_cell(net)(*batches()[0])


def test_tables_and_gradient_accumulation() -> None:
    parallel(grad_accumulation_step=2)
    with pytest.raises(ContextError, match=r"'user.embedding_table' .*grad_accumulation_step must"):
        by_cell(network())(*batches()[0])
