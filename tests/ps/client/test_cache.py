"""Rows that are kept on the device: never other bits than without."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramesh
from paramesh import Tensor, context, load_checkpoint, nn, ops, save_checkpoint
from paramesh.initializer import initializer
from paramesh.ps.client.cache import RowCache
from paramesh.ps.integration import session as sessions
from paramesh.ps.server.refresh import NO_IDS, Watch, join_news, news_of, split_watches
from paramesh.ps.server.server import Server
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.protocol import RunConfig
from paramesh.train import Model, batches

ROWS, WIDTH, BATCH = 40, 3, 12
NUMBERS = {"learning_rate": 0.1}


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


# One cache against servers that are asked directly.


def spec(expire: int = 0, admit: int = 1) -> dict[str, Any]:
    recipe = initializer("ones", (ROWS, WIDTH), "float32").recipe
    assert recipe is not None
    return {
        "name": "t",
        "kind": "rows",
        "row_shape": [WIDTH],
        "rows": ROWS,
        "dtype": "float32",
        "recipe": initial_values_of("t", recipe),
        "optimizer": {"rule": "Adagrad", "accum": 0.1, "update_slots": True},
        "admit": admit,
        "expire": expire,
    }


class Worker:
    """One worker with a cache, on a server without processes."""

    def __init__(self, rank: int, server: Server, capacity: int, shared: bool) -> None:
        self.rank, self.server, self.step = rank, server, 0
        self.incarnation = server.hello(rank, 1)["worker"]
        lag = server.config.staleness
        self.cache = RowCache(
            "t", ROWS, (WIDTH,), np.float32, capacity, lag=lag, shared=shared or lag > 0
        )
        self.told = server.version
        self.pushed: np.ndarray | None = None
        self.known: list[np.ndarray] = []
        self.remember()

    def read(self, ids: np.ndarray) -> np.ndarray:
        return self.server.read(self.step, "t", ids)

    def remember(self) -> None:
        self.known = [self.read(np.arange(ROWS))]

    def looks_up(self, ids: np.ndarray, following: np.ndarray | None, rests: bool = False) -> None:
        found = self.cache.lookup([ids[:4], ids[4:]], self.read)
        if found is None:
            assert len(np.unique(ids)) > self.cache.capacity
        else:
            rows = np.concatenate([np.asarray(one) for one in found])
            inside = (ids >= 0) & (ids < ROWS)
            assert not rows[~inside].any()
            now = self.read(np.arange(ROWS))
            if self.server.config.mode == "async":
                # As of the answer to the last push, or as it is now.
                either = (rows[inside] == self.known[0][ids[inside]]).all(1)
                assert (either | (rows[inside] == now[ids[inside]]).all(1)).all()
            else:
                assert rows[inside].tobytes() == now[ids[inside]].tobytes()
        self.pushed = np.unique(ids[(ids >= 0) & (ids < ROWS)])
        if following is not None:
            self.cache.follow([following])
        if rests:
            self.cache.rest()

    def pushes(self) -> None:
        assert self.pushed is not None
        self.cache.pushing(self.pushed)
        rng = np.random.default_rng([self.rank, self.step])
        grad = rng.standard_normal((len(self.pushed), WIDTH)).astype(np.float32)
        update = {"t": {"ids": self.pushed, "grad": grad}}
        self.server.push(self.rank, self.incarnation, self.step, update, NUMBERS)

    def hears(self) -> None:
        watch = self.cache.watch()
        following = self.step + 1
        news = news_of(
            watch,
            self.server.moved("t", self.step, self.told),
            lambda ids: self.server.read(following, "t", ids),
        )
        self.told = self.server.version
        self.step = following
        self.cache.take(news)
        self.remember()


batch_ids = st.lists(st.integers(-2, ROWS + 1), min_size=BATCH, max_size=BATCH).map(np.array)


@settings(max_examples=40, deadline=None)
@given(
    config=st.sampled_from(
        [
            RunConfig(),
            RunConfig(workers=2),
            RunConfig(workers=2, mode="stale", staleness=2),
            RunConfig(mode="stale", staleness=1),
            RunConfig(workers=2, mode="async"),
        ]
    ),
    capacity=st.sampled_from([7, 12, 64]),
    expire=st.sampled_from([0, 2]),
    admit=st.sampled_from([1, 2]),
    steps=st.lists(
        st.tuples(
            st.tuples(batch_ids, batch_ids),
            st.sampled_from(["none", "right", "wrong"]),
            st.booleans(),
            st.booleans(),
        ),
        min_size=4,
        max_size=12,
    ),
)
@pytest.mark.filterwarnings("ignore:Parameter 't'. a step looks up")
def test_a_cached_row_is_what_the_server_has(
    config: RunConfig, capacity: int, expire: int, admit: int, steps: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), config)
        server.declare([spec(expire, admit)], {})
        shared = config.workers > 1 or expire > 0
        workers = [Worker(rank, server, capacity, shared) for rank in range(config.workers)]
        for number, (ids, hint, rests, restarts) in enumerate(steps):
            for worker in workers:
                coming = steps[(number + (hint == "right")) % len(steps)][0][worker.rank]
                worker.looks_up(ids[worker.rank], None if hint == "none" else coming, rests)
            for worker in workers:
                worker.pushes()
            if restarts and config.mode != "stale":  # others would have to push again
                server.close()
                server = Server(Path(folder), config)
            for worker in workers:
                worker.server = server
                worker.hears()
        server.close()


def test_rows_that_are_cached_and_known_to_come_next_are_not_waited_for(tmp_path: Path) -> None:
    server = Server(tmp_path, RunConfig())
    server.declare([spec()], {})
    worker = Worker(0, server, 20, shared=False)
    first, second = np.arange(8), np.arange(4, 12)
    worker.looks_up(first, second)
    worker.pushes()
    worker.hears()
    assert worker.cache.counts.as_dict() == {
        "looked_up": 8,
        "hits": 0,
        "pulled": 8,
        "prefetched": 4,  # 8 to 11
        "refreshed": 4,  # 4 to 7, which the push changed
        "evicted": 0,
        "oversized": 0,
        "hit_rate": 0.0,
    }
    worker.looks_up(second, None)
    assert worker.cache.counts.hits == 8
    assert worker.cache.counts.pulled == 8
    server.close()


def test_a_server_that_does_not_know_what_moved_has_everything_pulled_again() -> None:
    cache = RowCache("t", ROWS, (WIDTH,), np.float32, 10)
    pulled: list[list[int]] = []

    def pull(ids: np.ndarray) -> np.ndarray:
        pulled.append(ids.tolist())
        return np.zeros((len(ids), WIDTH), np.float32)

    cache.lookup([np.arange(3)], pull)
    cache.pushing(NO_IDS)
    cache.take(news_of(Watch(NO_IDS, NO_IDS), None, pull))
    cache.lookup([np.arange(3)], pull)
    assert pulled == [[0, 1, 2], [], [0, 1, 2]]


def test_rows_in_use_stay_and_those_long_unused_go() -> None:
    cache = RowCache("t", 10**9, (1,), np.float32, 100)
    rng = np.random.default_rng(0)

    def pull(ids: np.ndarray) -> np.ndarray:
        return ids[:, None].astype(np.float32)

    for _ in range(200):
        ids = np.concatenate([np.arange(20), rng.integers(20, 10**9, 30)])
        (rows,) = cache.lookup([ids], pull)  # type: ignore[misc]
        assert (np.asarray(rows)[:, 0] == ids.astype(np.float32)).all()
    assert cache.counts.pulled == 20 + 200 * 30
    assert len(cache._index) < 5 * 100 + 4096 + 50  # what is gone is forgotten


def test_news_of_several_servers_are_one() -> None:
    partition = sessions.LocalClient(3).partition
    watch = Watch(np.arange(0, 10), np.arange(20, 30))
    parts = split_watches(partition, {"t": watch})
    moved = np.arange(5, 25)
    answers = []
    for server, part in enumerate(parts):
        mine = moved[partition.servers_of_rows(moved) == server]
        answers.append({"t": tuple(news_of(Watch(*part["t"]), mine, lambda i: i * 2.0))})
    news = join_news(answers)["t"]
    assert news.moved is not None
    assert news.moved.tolist() == moved.tolist()
    assert news.ids.tolist() == [*range(10), *range(20, 25)]
    assert (news.rows == news.ids * 2.0).all()
    answers[1]["t"] = (None, *answers[1]["t"][1:])
    assert join_news(answers)["t"].moved is None


# A network that is trained with a cache, against the same without.


class Net(nn.Cell):
    """Two tables, one looked up twice, once with ids of padding."""

    def __init__(self, cached: int) -> None:
        super().__init__()
        self.user = nn.EmbeddingLookup(10**9, 4, vocab_cache_size=cached)
        self.item = nn.EmbeddingLookup(ROWS, 4, vocab_cache_size=cached, padding_idx=ROWS + 1)
        self.out = nn.Dense(12, 1)

    def construct(self, users: Any, items: Any, label: Any) -> Any:
        rows = (self.user(users), self.item(items), self.item(items * 2 + 1))
        return ((self.out(ops.concat(rows, 1)) - label) ** 2).mean()


def data(seed: int, steps: int) -> list[tuple[Tensor, ...]]:
    rng = np.random.default_rng(seed)
    return [
        (
            Tensor(rng.zipf(1.3, BATCH) % 10**9),
            Tensor(rng.integers(0, ROWS // 2 + 1, BATCH).astype(np.int32)),
            Tensor(rng.standard_normal((BATCH, 1)).astype(np.float32)),
        )
        for _ in range(steps)
    ]


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda p: nn.SGD(p, 0.1, momentum=0.9),
    "Momentum": lambda p: nn.Momentum(p, nn.ExponentialDecayLR(0.1, 0.9, 2), 0.9),
    "Adam": lambda p: nn.Adam(p, 0.02),
    "AdamWeightDecay": lambda p: nn.AdamWeightDecay(p, 0.02, weight_decay=0.01),
    "Adagrad": lambda p: nn.Adagrad(p, learning_rate=0.1),
    "FTRL": lambda p: nn.FTRL(p, learning_rate=0.1),
}


def prepared(cached: int, optimizer: str = "Adagrad") -> nn.TrainOneStepCell:
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, server_num=2)
    paramesh.set_seed(3)
    net = Net(cached)
    net.set_param_ps(init_in_server=True)
    return nn.TrainOneStepCell(net, OPTIMIZERS[optimizer](net.trainable_params()))


def tables() -> list[bytes]:
    session = sessions.running()
    assert session is not None
    names = ("user.embedding_table", "item.embedding_table")
    return [a.tobytes() for n in names for a in session.client.dump(n).values()]


def trained(step: Any, listed: list[tuple[Tensor, ...]], announced: bool) -> list[float]:
    losses = []
    for number, batch in enumerate(listed):
        if announced and number + 1 < len(listed):
            step.prefetch(*listed[number + 1])
        losses.append(float(step(*batch)))
    return losses


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(name, marks=[] if name == "Adam" else [pytest.mark.slow]) for name in OPTIMIZERS],
)
def test_the_same_bits_with_and_without(optimizer: str) -> None:
    listed = data(7, 8)
    losses = trained(prepared(0, optimizer), listed, announced=False)
    expected = tables()
    for cached, announced in ((24, False), (30, True)):
        step = prepared(cached, optimizer)
        assert trained(step, listed, announced) == losses
        assert tables() == expected
        counts = step.network.item.counts()
        assert counts["hits"] > 0
        if announced:
            assert counts["prefetched"] > 0
            assert counts["pulled"] < 40  # in the first two steps


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cached=st.integers(24, 60), announced=st.booleans())
def test_the_same_bits_for_any_batches(seed: int, cached: int, announced: bool) -> None:
    listed = data(seed, 6)
    losses = trained(prepared(0), listed, announced=False)
    expected = tables()
    assert trained(prepared(cached), listed, announced) == losses
    assert tables() == expected


def test_a_model_looks_one_batch_ahead() -> None:
    listed = data(1, 8)
    step = prepared(0)
    trained(step, [*listed, *listed], announced=False)
    expected = tables()
    net = prepared(64).network
    model = Model(net, optimizer=nn.Adagrad(net.trainable_params(), learning_rate=0.1))
    model.train(2, listed, progress=False)
    assert tables() == expected
    counts = net.item.counts()
    # All but the first step of each pass, and the step after the one that made the cache.
    assert counts["prefetched"] + counts["refreshed"] > counts["pulled"]


def test_a_step_with_more_rows_than_the_cache_has_goes_past_it() -> None:
    listed = data(2, 5)
    losses = trained(prepared(0), listed, announced=False)
    step = prepared(3)
    with pytest.warns(UserWarning, match="a step looks up .* different rows, and") as warned:
        assert trained(step, listed, announced=True) == losses
    assert len(warned) == 2  # one for each table
    assert step.network.item.counts()["oversized"] == 5


@pytest.mark.slow
def test_evaluation_between_steps_and_a_checkpoint_that_is_loaded(tmp_path: Path) -> None:
    def run(cached: int) -> list[float]:
        step = prepared(cached)
        losses = trained(step, data(4, 4), announced=True)
        ids = Tensor([0, 3, 38, 39])
        before = step.network.item(ids).asnumpy()
        losses.append(float(before.sum()))
        losses.append(float(step.network(*data(5, 1)[0])))
        path = save_checkpoint(step, tmp_path / f"{cached}.safetensors")
        step = prepared(cached)
        step.network.item(ids)  # rows of the recipe
        load_checkpoint(path, step)
        assert (step.network.item(ids).asnumpy() == before).all()
        return losses + trained(step, data(6, 4), announced=True)

    assert run(0) == run(32)


def test_counts_of_tables_with_servers_and_without() -> None:
    step = prepared(0)
    batch = data(1, 1)[0]
    step(*batch)
    step(*batch)
    assert step.network.user.counts() == {
        "rows_pulled": 2 * len(np.unique(batch[0].asnumpy())),
        "padding_ids": 0,
        "refused_ids": 0,
    }
    context.reset_ps_context()
    assert Net(0).user.counts() == {}


# Looking ahead.


def test_an_error_of_a_dataset_comes_when_it_is_its_turn() -> None:
    def source() -> Iterator[tuple[int]]:
        yield (1,)
        yield (2,)
        raise OSError("gone")

    found = batches.looking_ahead(source(), lambda: True)
    assert [next(found), next(found)] == [((1,), (2,)), ((2,), None)]
    with pytest.raises(OSError, match="gone"):
        next(found)


def test_nothing_is_taken_early_where_nobody_wants_it() -> None:
    source = iter([(1,), (2,), (3,)])
    wanted = [False, True, False]
    found = list(batches.looking_ahead(source, lambda: wanted.pop(0)))
    assert found == [((1,), None), ((2,), (3,)), ((3,), None)]
