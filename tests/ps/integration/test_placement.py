"""Training with Parameters on servers, against the same training without any."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.errors import (
    ContextError,
    OptimizerError,
    ParameterServerError,
    ParameterStateError,
    TraceError,
)
from paramesh.ps.client.row_gradients import summed_rows
from paramesh.ps.integration import session as sessions
from paramesh.train import Model

USERS, ITEMS, BATCH = 50, 80, 16
SUPPORTED: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: nn.SGD(p, 0.1),
    "Momentum": lambda p: nn.Momentum(p, nn.ExponentialDecayLR(0.1, 0.9, 2), 0.9),
    "Adam": lambda p: nn.Adam(p, 0.02),
    "Adagrad": lambda p: nn.Adagrad(p, learning_rate=0.1, loss_scale=8.0),
}


class Net(nn.Cell):
    """Two tables, one looked up twice, with indices that are computed on the way."""

    def __init__(self, users: int = USERS) -> None:
        super().__init__()
        self.user = nn.EmbeddingLookup(users, 4, "ones")
        self.item = nn.EmbeddingLookup(ITEMS, 4)
        self.hidden = nn.Dense(12, 8)
        self.out = nn.Dense(8, 1)
        self.loss = nn.MSELoss()

    def construct(self, users: Any, items: Any, label: Any) -> Any:
        pairs = self.item(items * 2 + 1).reshape(BATCH, 8)
        seen = self.item(ops.maximum(users, 3))
        x = ops.concat((self.user(users) * seen, pairs), 1)
        return self.loss(self.out(ops.relu(self.hidden(x))), label)


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def batches(steps: int = 5, ids: Any = np.int32) -> list[tuple[Tensor, ...]]:
    rng = np.random.default_rng(1)
    return [
        (
            Tensor(rng.integers(0, USERS, (BATCH,)).astype(ids)),
            Tensor(rng.integers(0, ITEMS // 2, (BATCH, 2)).astype(ids)),
            Tensor(rng.standard_normal((BATCH, 1)).astype(np.float32)),
        )
        for _ in range(steps)
    ]


def served(net: Net, dense: bool = True) -> Net:
    context.set_ps_context(enable_ps=True, server_num=3)
    for lookup in (net.user, net.item):
        lookup.embedding_table.set_param_ps(init_in_server=True)
    if dense:
        net.hidden.set_param_ps()
        net.out.weight.set_param_ps()
    return net


def by_cell(net: Net, make: Any) -> tuple[list[float], Any]:
    optimizer = make(net.trainable_params())
    step = nn.TrainOneStepCell(net, optimizer)
    return [float(step(*batch)) for batch in batches()], optimizer


class ScriptStep(nn.TrainOneStepCell):
    """As model scripts write it."""

    def construct(self, *inputs: Any) -> Any:
        loss = self.network(*inputs)
        sens = ops.fill(loss.dtype, loss.shape, self.sens)
        grads = self.grad(self.network, self.weights)(*inputs, sens)
        return ops.depend(loss, self.optimizer(self.grad_reducer(grads)))


def by_subclass(net: Net, make: Any) -> tuple[list[float], Any]:
    optimizer = make(net.trainable_params())
    step = ScriptStep(net, optimizer)
    return [float(step(*batch)) for batch in batches()], optimizer


def by_jit(net: Net, make: Any) -> tuple[list[float], Any]:
    optimizer = make(net.trainable_params())
    gradients = paramesh.value_and_grad(net, None, weights=net.trainable_params())

    @paramesh.jit
    def step(*batch: Any) -> Any:
        loss, grads = gradients(*batch)
        optimizer(grads)
        return loss

    return [float(step(*batch)) for batch in batches(ids=np.int64)], optimizer


def by_model(net: Net, make: Any) -> tuple[list[float], Any]:
    optimizer = make(net.trainable_params())
    losses: list[float] = []

    class Note(paramesh.train.Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            losses.append(float(run_context.original_args().net_outputs))

    Model(net, optimizer=optimizer).train(1, batches(), Note(), progress=False)
    return losses, optimizer


@pytest.mark.parametrize(
    ("way", "name"),
    [(by_cell, name) for name in ("SGD", "Adagrad")]
    + [(by_jit, "Adagrad"), (by_model, "Adagrad"), (by_subclass, "Adagrad")],
)
def test_the_same_losses_as_without_servers(way: Any, name: str) -> None:
    """Optimizers for which rows that are not met stay: the same within rounding."""
    paramesh.set_seed(3)
    local, _ = way(Net(), SUPPORTED[name])
    paramesh.set_seed(3)
    net = served(Net())
    remote, optimizer = way(net, SUPPORTED[name])
    np.testing.assert_allclose(remote, local, rtol=2e-6)
    assert remote[0] == local[0]
    for param in optimizer.parameters:  # their state is on the servers alone
        for state in optimizer.get_parameters():
            if state.name.endswith(param.name) and state is not param and param.is_param_ps:
                assert state.has_init, state.name
    assert net.user.embedding_table.has_init
    assert net.item.embedding_table.has_init


@pytest.mark.parametrize("name", ["Momentum", "Adam"])
def test_dense_parameters_with_rates_that_move(name: str) -> None:
    def train(net: Any) -> Any:
        net.user.embedding_table.requires_grad = net.item.embedding_table.requires_grad = False
        by_cell(net, SUPPORTED[name])
        return [net.hidden.weight.asnumpy(), net.out.bias.asnumpy(), net.out.weight.asnumpy()]

    local = train(Net())
    paramesh.set_seed(0)
    net = Net()
    context.set_ps_context(enable_ps=True, server_num=2)
    net.hidden.set_param_ps()
    net.out.set_param_ps()
    for mine, theirs in zip(train(net), local, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_some_parameters_here_and_some_on_servers() -> None:
    local, _ = by_cell(Net(), SUPPORTED["Adagrad"])
    paramesh.set_seed(0)
    remote, _ = by_cell(served(Net(), dense=False), SUPPORTED["Adagrad"])
    np.testing.assert_allclose(remote, local, rtol=2e-6)


def test_row_wise_state_is_for_tables() -> None:
    def make(params: Any) -> Any:
        return nn.RowwiseAdagrad(params, 0.1)

    local, theirs = by_cell(Net(), make)
    paramesh.set_seed(0)
    net = served(Net(), dense=False)
    remote, _ = by_cell(net, make)
    np.testing.assert_allclose(remote, local, rtol=2e-6)
    dumped = sessions.running().client.dump("user.embedding_table")  # type: ignore[union-attr]
    assert dumped["row_accum"].shape == (len(dumped["ids"]), 1)
    state = next(s for s in theirs.row_accum if s.name == "row_accum.user.embedding_table")
    expected = state.asnumpy()[dumped["ids"]]
    np.testing.assert_allclose(dumped["row_accum"], expected, rtol=1e-5)
    sessions.end()
    with pytest.raises(OptimizerError, match=r"'hidden.*server and is not a table"):
        by_cell(served(Net()), make)


def test_a_table_of_1e12_rows_is_trained() -> None:
    net = served(Net(users=10**12))
    losses, _ = by_cell(net, SUPPORTED["Adagrad"])
    assert np.isfinite(losses).all()
    session = sessions.running()
    assert session is not None
    stores = session.client.stores  # type: ignore[attr-defined]
    rows = sum(store.stats()["user.embedding_table"]["rows"] for store in stores)
    assert rows == len({int(i) for users, _, _ in batches() for i in users.asnumpy()})


def test_rows_outside_of_programs_and_in_evaluation() -> None:
    net = served(Net())
    seen = Tensor([1, 3])
    before = net.item(seen).asnumpy()
    whole = np.asarray(net.item.embedding_table.recipe.compute())  # type: ignore[union-attr]
    assert (before == whole[[1, 3]]).all()
    by_cell(net, SUPPORTED["SGD"])
    after = net.item(seen).asnumpy()
    assert not (after == before).all()
    context.set_context(mode=context.PYNATIVE_MODE)
    assert (net.item(seen).asnumpy() == after).all()


OUTSIDE: dict[str, tuple[Any, Any, str]] = {
    "beyond": ([3, ITEMS, 2], ValueError, r"1 of 3 ids are out of range: 80\."),
    "negative": ([-1, 3, -2, -1], ValueError, r"3 of 4 ids are out of range: -1, -2\."),
    "hashes": (
        np.array([2**63 + 5, 1], np.uint64),
        ValueError,
        r"1 of 2 ids are out of range: 9223372036854775813\.",
    ),
    "many": (np.arange(80, 90), ValueError, "out of range: 80, 81, 82, 83, 84, …"),
    "floats": (np.array([1.9], np.float32), TypeError, "are looked up by integers, got Float32"),
    "bools": (np.array([True]), TypeError, "are looked up by integers, got Bool"),
}


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
@pytest.mark.parametrize("what", OUTSIDE)
def test_ids_that_are_no_rows(what: str, mode: int) -> None:
    """An error of the call; nothing was pushed, and the run goes on."""
    net = served(Net())
    context.set_context(mode=mode)
    ids, kind, message = OUTSIDE[what]
    with pytest.raises(kind, match=rf"'item.embedding_table'.*{message}"):
        net.item(Tensor(ids))
    assert net.item(Tensor([1, ITEMS - 1])).shape == (2, 4)


def test_a_step_with_an_id_outside_changes_nothing() -> None:
    net = served(Net())
    step = nn.TrainOneStepCell(net, SUPPORTED["Adam"](net.trainable_params()))
    users, items, label = batches(1)[0]
    step(users, items, label)
    seen = Tensor(np.arange(ITEMS))
    before = net.item(seen).asnumpy(), net.hidden.weight.asnumpy()
    for _ in range(2):
        with pytest.raises(ValueError, match="'item.embedding_table' has rows 0 to 79, and"):
            step(users, items + 40, label)
    assert (net.item(seen).asnumpy() == before[0]).all()
    assert (net.hidden.weight.asnumpy() == before[1]).all()
    counts = net.item.counts()
    assert counts["refused_ids"] == 2 * items.size
    assert counts["padding_ids"] == 0
    step(users, items, label)
    assert int(step.optimizer.global_step.asnumpy()[0]) == 2


@pytest.mark.parametrize(("padding", "served"), [(-1, True), (4, True), (-1, False), (4, False)])
def test_padding_reads_zeros_and_is_not_trained(padding: int, served: bool) -> None:
    context.set_ps_context(enable_ps=served)
    table = nn.EmbeddingLookup(6, 2, "ones", padding_idx=padding)
    if served:
        table.set_param_ps(init_in_server=True)
    step = nn.TrainOneStepCell(
        nn.WithLossCell(table, nn.MSELoss()), nn.SGD(table.trainable_params(), 1.0)
    )
    ids, label = Tensor([1, padding, 2, padding]), Tensor(np.full((4, 2), 9, np.float32))
    step(ids, label)
    rows = table(ids).asnumpy()
    assert (rows[[1, 3]] == 0).all()
    assert (rows[[0, 2]] > 1).all()
    table.padding_idx = None  # another lookup in the same table
    if padding >= 0:
        assert (table(Tensor([padding])).asnumpy() == 1).all()
    if served:
        assert table.counts()["padding_ids"] == 4


def test_a_padding_idx_that_is_none() -> None:
    with pytest.raises(TypeError, match=r"EmbeddingLookup\(padding_idx\): expected an int or None"):
        nn.EmbeddingLookup(6, 2, padding_idx=True)  # type: ignore[arg-type]


def test_gradients_of_the_same_row_are_added_up() -> None:
    ids = np.array([5, 2, 9, 5, -1, 2, 5])
    grad = np.arange(14, dtype=np.float32).reshape(7, 2)
    total = summed_rows(ids, grad, 9)
    assert total["ids"].tolist() == [2, 5]
    assert (total["grad"] == [grad[1] + grad[5], grad[0] + grad[3] + grad[6]]).all()


# What cannot be done says so.


def test_an_optimizer_that_no_server_has() -> None:
    with pytest.raises(OptimizerError, match=r"Lamb trains Parameter 'user.embedding_table'.*SGD"):
        by_cell(served(Net()), lambda p: nn.Lamb(p, 0.1))


def test_gradients_are_not_centralized_on_servers() -> None:
    net = nn.Conv2d(1, 2, 3)
    context.set_ps_context(enable_ps=True, server_num=2)
    net.set_param_ps()
    group = {"params": net.trainable_params(), "grad_centralization": True}
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), nn.SGD([group], 0.1))
    x = Tensor(np.ones((1, 1, 4, 4), np.float32))
    with pytest.raises(OptimizerError, match="'weight' lives on .* does not centralize gradients"):
        step(x, Tensor(np.ones((1, 2, 4, 4), np.float32)))


def test_a_table_is_not_read_in_full() -> None:
    net = served(Net())
    with pytest.raises(ParameterStateError, match=r"'item.embedding_table' lives on the param"):
        net.item.embedding_table.asnumpy()

    @paramesh.jit
    def total() -> Any:
        return net.item.embedding_table.sum()

    with pytest.raises(ParameterStateError, match="no worker has all of it. Look up rows with"):
        total()


def test_gradients_and_update_belong_into_one_program() -> None:
    net = served(Net())
    optimizer = nn.SGD(net.trainable_params(), 0.1)
    gradients = paramesh.value_and_grad(net, None, weights=net.trainable_params())
    _, grads = gradients(*batches(1)[0])
    with pytest.raises(ContextError, match="Put both into one jit function"):
        optimizer(grads)


def test_indices_that_depend_on_rows() -> None:
    net = served(Net())

    @paramesh.jit
    def second_hop(ids: Any) -> Any:
        return net.item(net.user(ids).sum(-1).astype(paramesh.int32))

    with pytest.raises(TraceError, match=r"and the indices of 'item.embedding_table' must be"):
        second_hop(Tensor([1, 2]))


def test_a_moving_loss_scale() -> None:
    net = served(Net())
    optimizer = nn.SGD(net.trainable_params(), 0.1)
    step = nn.TrainOneStepWithLossScaleCell(net, optimizer, Tensor([8.0]))
    with pytest.raises(ContextError, match="dynamic loss scaling does not work with it"):
        step(*batches(1)[0])


def test_rows_that_are_admitted_late_and_that_expire() -> None:
    context.set_ps_context(enable_ps=True, server_num=2)
    table = nn.EmbeddingLookup(USERS, 4, "ones")
    table.set_param_ps(init_in_server=True, admit_after=2, expire_after=4)
    step = nn.TrainOneStepCell(
        nn.WithLossCell(table, nn.MSELoss()), nn.SGD(table.trainable_params(), 0.5)
    )
    label = Tensor(np.zeros((2, 4), np.float32))
    moved = []
    for ids in ([1, 1], [1, 2], [2, 3], [4, 4], [1, 4], [4, 5], [4, 6], [4, 7], [3, 8]):
        step(Tensor(ids), label)
        rows = table(Tensor(np.arange(9))).asnumpy()
        moved.append([i for i in range(9) if not (rows[i] == 1).all()])
    # 1: with its second update; gone after the eighth, the fourth without it. 3: counted anew.
    assert moved == [[], [1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4], [1, 2, 4], [1, 4], [1, 3, 4]]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"admit_after": 0}, ValueError, "admit_after must be from 1 to"),
        ({"expire_after": True}, TypeError, "expire_after must be an int"),
        (
            {"expire_after": 3, "init_in_server": False},
            ValueError,
            "admit_after and expire",
        ),
    ],
)
def test_numbers_of_rows_that_make_no_sense(given: Any, kind: Any, message: str) -> None:
    context.set_ps_context(enable_ps=True)
    table = nn.EmbeddingLookup(USERS, 4).embedding_table
    with pytest.raises(kind, match=f"'embedding_table': {message}"):
        table.set_param_ps(**({"init_in_server": True} | given))


def test_another_value_or_another_network_after_the_first_step() -> None:
    net = served(Net())
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
    step(*batches(1)[0])
    net.hidden.weight.set_data(Tensor(np.zeros((8, 12), np.float32)))
    with pytest.raises(
        ParameterStateError, match=r"'hidden.weight' .* value on this worker was changed"
    ):
        step(*batches(1)[0])
    with pytest.raises(ParameterStateError, match=r"another Parameter named"):
        by_cell(served(Net()), SUPPORTED["SGD"])
    context.reset_ps_context()
    by_cell(served(Net()), SUPPORTED["SGD"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"worker_num": 2}, "worker_num=2 workers need a Ray cluster: start them with"),
    ],
)
def test_settings_that_no_servers_can_be_started_for(setting: dict[str, Any], message: str) -> None:
    net = served(Net())
    context.set_ps_context(**setting)
    with pytest.raises(ParameterServerError, match=message):
        by_cell(net, SUPPORTED["SGD"])


def test_a_recipe_that_no_server_computes() -> None:
    context.set_ps_context(enable_ps=True)
    lookup = nn.EmbeddingLookup(8, 4, paramesh.initializer.Orthogonal())
    lookup.embedding_table.set_param_ps(init_in_server=True)
    with pytest.raises(ValueError, match="'embedding_table' is initialized on the server"):
        lookup(Tensor([1]))


def test_where_servers_live() -> None:
    context.set_ps_context(enable_ps=True)
    assert sessions.alone(sessions.settings_now())
    for settings in (
        {"server_num": 1},
        {"worker_num": 2},
        {"mode": "async"},
        {"standby": 1},
        {"wal_dir": "somewhere"},
        {"address": "127.0.0.1:6379"},
    ):
        context.reset_ps_context()
        context.set_ps_context(enable_ps=True, **settings)
        assert not sessions.alone(sessions.settings_now())


def test_without_ray_the_error_says_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    context.set_ps_context(enable_ps=True, server_num=2)
    with pytest.raises(ParameterServerError, match=r"pip install 'paramesh\[ps\]'.*server_num=0"):
        sessions.client_for(sessions.settings_now())


def test_a_served_parameter_cannot_be_frozen_later() -> None:
    net = served(Net())
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
    batch = batches(1)[0]
    step(*batch)
    net.hidden.weight.requires_grad = False
    with pytest.raises(
        ContextError, match=r"'hidden\.weight' was frozen .* after SGD was made, but"
    ):
        step(*batch)
