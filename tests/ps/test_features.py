"""Lists of features: what they build, and what they say of wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn, ps
from paramesh.ps.integration import session as sessions
from type_checks import wrong

ITEM = ps.Table("item", 30, 3, lr=0.5)


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def features() -> list[ps.Feature]:
    return [
        ps.Feature("now", ITEM),
        ps.Feature("seen", "item", "mean", padding=0),
        ps.Feature("words", ps.Table("words", 20, 2, "ones", weight_decay=0.1), "sqrtn"),
        ps.Feature("pair", "words", None),
        *ps.feature_group(["c1", "c2"], [7, 9], 4, combiner="max"),
    ]


def inputs(batch: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(batch)
    lengths = np.arange(batch) % 3
    return {
        "now": Tensor(rng.integers(0, 30, batch)),
        "seen": Tensor(rng.integers(0, 30, (batch, 4))),
        "words": (Tensor(rng.integers(0, 20, 3 * batch)), Tensor(lengths)),
        "pair": Tensor(rng.integers(0, 20, (batch, 2))),
        "c1": {"ids": Tensor(rng.integers(0, 7, (batch, 2)))},
        "c2": {"ids": Tensor(rng.integers(0, 9, batch)), "offsets": Tensor(np.arange(batch))},
    }


def test_what_a_list_builds() -> None:
    cell = ps.Features(features())
    names = [param.name for param in cell.trainable_params()]
    assert names == [f"tables.{name}.embedding_table" for name in ("item", "words", "c1", "c2")]
    given = inputs()
    out = cell(given)
    item, words = cell.table("item").asnumpy(), cell.table("words").asnumpy()
    np.testing.assert_array_equal(out["now"].asnumpy(), item[given["now"].asnumpy()])
    np.testing.assert_array_equal(out["pair"].asnumpy(), words[given["pair"].asnumpy()])
    # No id and one id.
    np.testing.assert_array_equal(out["words"].asnumpy(), [[0, 0], [1, 1]])
    seen = given["seen"].asnumpy()
    for example, ids in zip(out["seen"].asnumpy(), seen, strict=True):
        np.testing.assert_allclose(example, item[ids[ids != 0]].mean(0), rtol=1e-5)
    both = cell.table("c1").asnumpy()[given["c1"]["ids"].asnumpy()].max(1)
    np.testing.assert_array_equal(out["c1"].asnumpy(), both)


def test_outputs_in_one_tensor() -> None:
    paramesh.set_seed(0)
    apart = ps.Features(features())(inputs())
    paramesh.set_seed(0)
    out = ps.Features(features(), joined=True)(inputs())
    assert out.shape == (2, 3 + 3 + 2 + 4 + 4 + 4)
    parts = [apart[one.name].asnumpy().reshape(2, -1) for one in features()]
    np.testing.assert_array_equal(out.asnumpy(), np.concatenate(parts, 1))


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.features = ps.Features(features(), joined=True)
        self.out = nn.Dense(20, 1)

    def construct(self, given: Any, label: Any) -> Any:
        return ((self.out(self.features(given)).squeeze(1) - label) ** 2).mean()


def train(net: Net) -> list[float]:
    groups = net.features.optimizer_groups(net.trainable_params())
    step = nn.TrainOneStepCell(net, nn.Adagrad(groups, learning_rate=0.1))
    label = Tensor(np.arange(4, dtype=np.float32))
    return [float(step(inputs(4), label)) for _ in range(4)]


def test_training_is_the_same_on_servers_and_one_request_pulls_all_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paramesh.set_seed(2)
    local = train(Net())
    assert local[-1] < local[0]
    paramesh.set_seed(2)
    context.set_ps_context(enable_ps=True, server_num=2)
    net = Net()
    net.features.put_on_servers()
    asked: list[list[str]] = []
    pull = sessions.Session.pull_tables

    def counted(session: Any, wanted: Any) -> Any:
        asked.append(list(wanted))
        return pull(session, wanted)

    monkeypatch.setattr(sessions.Session, "pull_tables", counted)
    np.testing.assert_allclose(train(net), local, rtol=1e-5)
    assert [len(tables) for tables in asked[1:]] == [4, 4, 4]


def test_rates_and_decays_are_those_of_the_tables() -> None:
    net = Net()
    groups = net.features.optimizer_groups(net.trainable_params())
    words, rest = net.features.table("words"), [p for p in net.trainable_params()][2:]
    assert groups[:2] == [
        {"params": [net.features.table("item")], "lr": 0.5},
        {"params": [words], "weight_decay": 0.1},
    ]
    assert groups[2] == {"params": rest}
    assert groups[3] == {"order_params": net.trainable_params()}
    with pytest.raises(ValueError, match=r"table 'item' \(Parameter 'features.tables.item"):
        net.features.optimizer_groups(rest)


def test_rows_of_tables_come_and_go_as_specified() -> None:
    context.set_ps_context(enable_ps=True)
    table = ps.Table("any", None, 2, admit_after=2, max_rows=100)
    net = Only(ps.Features([ps.Feature("any", table)], joined=True))
    net.features.put_on_servers()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
    for ids in ([-5, 2**63 - 1], [-5, 4]):
        step({"any": Tensor(np.array(ids))})
    report = net.features.row_reports()["any"]
    assert (report["rows"], report["admitted"], report["candidates"]) == (1, 1, 2)
    assert report["last_admitted"] == [(1, -5)]


class Only(nn.Cell):
    def __init__(self, features: ps.Features) -> None:
        super().__init__()
        self.features = features

    def construct(self, given: Any) -> Any:
        return self.features(given).sum()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: [], ValueError, "at least one Feature"),
        (lambda: [ITEM], TypeError, "expected a list of ps.Feature, got Table"),
        (lambda: ps.Feature("a", ITEM), TypeError, "expected a list of ps.Feature, got Feature"),
        (lambda: [ps.Feature("a", ITEM)] * 2, ValueError, "feature 'a' is listed twice"),
        (lambda: [ps.Feature("a.b", ITEM)], ValueError, "a str without dots, got 'a.b'"),
        (
            lambda: [ps.Feature("a", ITEM), ps.Feature("b", ps.Table("item", 31, 3))],
            ValueError,
            "feature 'b' describes table 'item' as .*31.*another feature as .*30",
        ),
        (lambda: [ps.Feature("a", "item")], ValueError, "'a' looks up table 'item', which no"),
        (
            lambda: [ps.Feature("a", ITEM, "median")],
            ValueError,
            r"feature 'a': Feature\(combiner\): expected one of",
        ),
        (
            lambda: [ps.Feature("a", ps.Table("t", 0, 3))],
            ValueError,
            r"table 't': EmbeddingLookup\(vocab_size\): expected an int of at least 1",
        ),
    ],
)
def test_wrong_lists_are_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        ps.Features(make())


def test_groups_of_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 names need as many vocab_sizes.*got 3"):
        ps.feature_group(["a", "b"], [1, 2, 3], 4)
    with pytest.raises(TypeError, match="widht"):
        ps.feature_group(["a"], 3, 4, **wrong({"widht": 3}))
    with pytest.raises(TypeError, match=r"feature_group\(names\): expected a list, got the str"):
        ps.feature_group("ab", 3, 4)
    with pytest.raises(TypeError, match=r"feature_group\(vocab_sizes\): expected a list, got the"):
        ps.feature_group(["a", "b"], wrong("10"), 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"now": None}, KeyError, r"\['now'\] are missing, and \[\] belong"),
        ({"then": Tensor([1])}, KeyError, r"\['then'\] belong to no feature. Expected \['now'"),
        ({"now": Tensor([1.0, 2.0])}, TypeError, "feature 'now': .*integers, got Float32"),
        ({"now": Tensor([[[1]]])}, ValueError, r"feature 'now': ids must be \(batch,\)"),
        (
            {"now": Tensor([1, 2, 3])},
            ValueError,
            "feature 'seen' has 2 examples, and .*'now' has 3",
        ),
        ({"seen": {"id": Tensor([1])}}, ValueError, "feature 'seen': a dict has ids and some of"),
        ({"words": (Tensor([1]),)}, ValueError, "feature 'words': a pair is"),
        ({"now": [1, 2]}, ValueError, r"feature 'now': a pair is .* a list of \['int', 'int'\]"),
        ({"words": [[1, 2], [2]]}, ValueError, r"'words': .* of \['list', 'list'\]. Pass"),
        ({"pair": (Tensor([1]), Tensor([1]))}, ValueError, "feature 'pair': without a combiner"),
        (
            {"c1": {"ids": Tensor([[1]]), "weights": Tensor(np.ones((1, 1), np.float32))}},
            ValueError,
            "feature 'c1': .*weights have no effect on combiner='max'",
        ),
    ],
)
def test_wrong_inputs_name_the_feature(change: Any, error: Any, message: str) -> None:
    given = {key: value for key, value in (inputs() | change).items() if value is not None}
    with pytest.raises(error, match=message):
        ps.Features(features(), joined=True)(given)


@pytest.mark.parametrize("given", [Tensor([1]), [Tensor([1])]])
def test_inputs_that_are_no_dict_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a dict of inputs by feature, got .*'now'"):
        ps.Features(features())(given)
