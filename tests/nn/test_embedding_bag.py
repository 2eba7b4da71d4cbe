"""Bags of ids: every combiner, in every form, wherever the table lives, against numpy and jax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramesh
from paramesh import context, nn
from paramesh.nn import bags as pooling
from paramesh.ps.integration import session as sessions
from paramesh.tensor import Tensor
from paramesh.transforms import grad, jit, value_and_grad

ROWS, WIDTH, PAD = 12, 3, 5
#: Duplicates in a bag, empty bags at every place, padding alone in a bag.
BAGS = [[], [1, 2, 2], [7], [], [PAD], [3, PAD, 3, 0], []]
COMBINERS = pooling.COMBINERS
WEIGHTED = ("sum", "mean", "sqrtn")


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    sessions.end()


def table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)


def weights_of(bags: list[list[int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.uniform(0.5, 2, len(bag)).astype(np.float32) for bag in bags]


def expected(
    values: np.ndarray,
    bags: list[list[int]],
    combiner: str,
    weights: list[np.ndarray] | None = None,
    padding: int | None = PAD,
) -> np.ndarray:
    """One bag after the other, in float64."""
    out = np.zeros((len(bags), values.shape[1]))
    for at, bag in enumerate(bags):
        kept = [i for i, one in enumerate(bag) if one != padding]
        if not kept:
            continue
        rows = values[[bag[i] for i in kept]].astype(np.float64)
        share = np.ones(len(kept)) if weights is None else weights[at][kept].astype(np.float64)
        total = (rows * share[:, None]).sum(0)
        bottom = {"sum": 1.0, "mean": share.sum(), "sqrtn": np.sqrt((share**2).sum())}
        out[at] = rows.max(0) if combiner == "max" else total / bottom[combiner]
    return out


def flat(bags: list[list[int]]) -> list[int]:
    return [one for bag in bags for one in bag]


def by_offsets(bags: list[list[int]]) -> tuple[list[Any], dict[str, Any]]:
    lengths = [len(bag) for bag in bags]
    offsets = np.cumsum([0, *lengths])[:-1].astype(np.int32)
    return [np.array(flat(bags), np.int32)], {"offsets": Tensor(offsets)}


def by_lengths(bags: list[list[int]]) -> tuple[list[Any], dict[str, Any]]:
    # Ids after the last bag are none, whatever they are.
    ids = np.array([*flat(bags), 1, 2, 3], np.int32)
    return [ids], {"row_lengths": Tensor(np.array([len(bag) for bag in bags], np.int32))}


def padded(bags: list[list[int]]) -> tuple[list[Any], dict[str, Any]]:
    ids = np.full((len(bags), max(map(len, bags), default=0)), PAD, np.int32)
    for row, bag in zip(ids, bags, strict=True):
        row[: len(bag)] = bag
    return [ids], {}


def shares_like(ids: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    out = np.ones(ids.shape, np.float32)
    if ids.ndim == 2:
        for row, one in zip(out, weights, strict=True):
            row[: len(one)] = one
    else:
        joined = np.concatenate(weights)
        out[: len(joined)] = joined
    return out


FORMS: dict[str, Callable[[list[list[int]]], tuple[list[Any], dict[str, Any]]]] = {
    "offsets": by_offsets,
    "lengths": by_lengths,
    "padded": padded,
}


def bag_of(combiner: str, **more: Any) -> nn.EmbeddingBag:
    more = {"padding_idx": PAD} | more
    return nn.EmbeddingBag(ROWS, WIDTH, combiner, Tensor(table()), **more)


@pytest.mark.parametrize(
    ("combiner", "weighted"),
    [
        ("max", False),
        ("mean", True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(c, False) for c in WEIGHTED] + [("sum", True), ("sqrtn", True)]
        ),
    ],
)
def test_values_and_gradients(combiner: str, weighted: bool) -> None:
    weights = weights_of(BAGS) if weighted else None
    wanted = expected(table(), BAGS, combiner, weights)
    slope = np.random.default_rng(1).standard_normal(wanted.shape).astype(np.float32)

    @jax.jit
    def dense(values: Any) -> Any:
        # Bag after bag in jax.numpy, without segments and padding.
        total = jnp.zeros(())
        for at, one in enumerate(BAGS):
            kept = [i for i, id_ in enumerate(one) if id_ != PAD]
            if not kept:
                continue
            rows = values[np.array([one[i] for i in kept])]
            share = np.ones(len(kept)) if weights is None else weights[at][kept]
            if combiner == "max":
                result = rows.max(0)
            else:
                bottom = {"sum": 1.0, "mean": share.sum(), "sqrtn": np.sqrt((share**2).sum())}
                result = (rows * share[:, None]).sum(0) / bottom[combiner]
            total += (result * slope[at]).sum()
        return total

    by_table = np.asarray(jax.grad(dense)(jnp.asarray(table())))
    for form in FORMS.values():
        (ids,), more = form(BAGS)
        if weights is not None:
            more["weights"] = Tensor(shares_like(ids, weights))
        bag = bag_of(combiner)

        def loss(bag: Any = bag, ids: Any = ids, more: Any = more) -> Any:
            out = bag(Tensor(ids), **more)
            return (out * Tensor(slope)).sum(), out

        (_, out), (mine,) = value_and_grad(loss, None, bag.trainable_params(), has_aux=True)()
        np.testing.assert_allclose(out.asnumpy(), wanted, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(mine.asnumpy(), by_table, rtol=1e-5, atol=1e-6)
        assert not mine.asnumpy()[PAD].any()


@pytest.mark.parametrize("combiner", WEIGHTED)
def test_gradients_by_weights(combiner: str) -> None:
    (ids,), more = by_lengths(BAGS)
    weights = shares_like(ids, weights_of(BAGS))
    bag = bag_of(combiner)
    slope = grad(lambda w: (bag(Tensor(ids), weights=w, **more) ** 2).sum())(Tensor(weights))
    for at in (0, 2, 4, 5, 8, 10):
        shifted = [weights.astype(np.float32) for _ in range(2)]
        shifted[0][at] += 1e-2
        shifted[1][at] -= 1e-2
        high, low = (
            float((bag(Tensor(ids), weights=Tensor(w), **more) ** 2).sum()) for w in shifted
        )
        assert abs(float(slope[at]) - (high - low) / 2e-2) < 2e-3
    assert not slope.asnumpy()[9:].any()


MOST, LONGEST = 4, 3


@jax.jit
def in_all_forms(padded: Any, ids: Any, lengths: Any, offsets: Any) -> Any:
    """The bags as three forms: all combiners of each."""
    rows = jnp.asarray(table())
    forms = [
        (padded, pooling.Bags()),
        (ids, pooling.of_lengths(lengths, len(ids))),
        (ids, pooling.of_offsets(offsets, len(ids), True)),
    ]
    return [
        [pooling.pooled(rows[one], bags, combiner, one != PAD) for combiner in COMBINERS]
        for one, bags in forms
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, ROWS - 1), max_size=LONGEST), min_size=MOST, max_size=MOST))
def test_all_forms_of_any_bags(bags: list[list[int]]) -> None:
    lengths = np.array([len(bag) for bag in bags], np.int32)
    ids = np.zeros(MOST * LONGEST, np.int32)
    ids[: lengths.sum()] = flat(bags)
    full = np.full((MOST, LONGEST), PAD, np.int32)
    for row, bag in zip(full, bags, strict=True):
        row[: len(bag)] = bag
    offsets = np.cumsum([0, *lengths]).astype(np.int32)
    for form in in_all_forms(full, ids, lengths, offsets):
        for combiner, out in zip(COMBINERS, form, strict=True):
            wanted = expected(table(), bags, combiner)
            np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=1e-6)


def test_equal_rows_and_the_gradient_of_the_largest() -> None:
    """It goes to the first of equal rows, and to no other."""
    same = np.ones((3, 2), np.float32)
    slopes: list[Any] = []
    for ids, more in [
        (np.array([[2, 0, 2]]), {}),
        (np.array([2, 0, 2]), {"offsets": Tensor(np.array([0]))}),
    ]:
        bag = nn.EmbeddingBag(3, 2, "max", Tensor(same))
        (slope,) = grad(lambda: bag(Tensor(ids), **more).sum(), None, bag.trainable_params())()  # noqa: B023
        slopes.append(slope.asnumpy().tolist())
    assert slopes == [[[0, 0], [0, 0], [1, 1]]] * 2


def test_the_last_offset_may_be_the_end() -> None:
    bag = bag_of("sum", include_last_offset=True)
    ids = Tensor(np.array([1, 2, 3, 4], np.int32))
    out = bag(ids, Tensor(np.array([0, 2, 2, 3], np.int32))).asnumpy()
    np.testing.assert_allclose(out, expected(table(), [[1, 2], [], [3]], "sum"), rtol=1e-6)


def test_max_norm_is_that_of_the_rows() -> None:
    bag = bag_of("sum", max_norm=0.5)
    out = bag(Tensor(np.array([[1, 2]], np.int32))).asnumpy()
    rows = table()[[1, 2]]
    rows *= np.minimum(1, 0.5 / np.linalg.norm(rows, axis=1, keepdims=True))
    np.testing.assert_allclose(out[0], rows.sum(0), rtol=1e-5)


@pytest.mark.parametrize("kind", ["uint8", "uint32", "int64"])
def test_ids_of_any_type(kind: str) -> None:
    bag = bag_of("mean", padding_idx=None)
    ids = Tensor(np.array([1, 3, 200 if kind == "uint8" else 2**31], kind))
    lengths = Tensor(np.array([2, 0], np.int32))
    out = bag(ids, row_lengths=lengths).asnumpy()
    np.testing.assert_allclose(out, expected(table(), [[1, 3], []], "mean"), rtol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_narrow_rows_are_added_up_in_float32(kind: str) -> None:
    many = nn.EmbeddingBag(2, 1, "mean", "ones", dtype=kind)
    ids = np.zeros(5000, np.int32)
    ragged = many(Tensor(ids), Tensor(np.array([0], np.int32)))
    assert float(ragged[0, 0]) == float(many(Tensor(ids[None]))[0, 0]) == 1
    assert ragged.dtype == many.embedding_table.dtype


def test_shapes_of_no_ids() -> None:
    bag = bag_of("max")
    empty = Tensor(np.zeros(0, np.int32))
    assert bag(empty, Tensor(np.zeros(2, np.int32))).asnumpy().tolist() == [[0] * 3] * 2
    assert bag(Tensor(np.zeros((2, 0), np.int32))).asnumpy().tolist() == [[0] * 3] * 2
    assert bag(empty, row_lengths=Tensor(np.zeros(0, np.int32))).shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, 2],), ValueError, "need offsets or row_lengths"),
        (([[1]], [0]), ValueError, "ids must have one axis"),
        (([1], [0], None, [1]), ValueError, "offsets or row_lengths, not both"),
        (([1.0], [0]), TypeError, "integers, got Float32"),
        (([1], [0.0]), TypeError, "offsets must be integers"),
        (([1], [[0]]), ValueError, "offsets must have one axis"),
        (([1, 2], [1]), ValueError, "must begin with 0, ascend.* got \\[1\\]"),
        (([1, 2], [0, 2, 1]), ValueError, "must begin with 0, ascend"),
        (([1, 2], [0, 3]), ValueError, "at most the number of ids, 2"),
        (([1, 2], None, None, [2, 1]), ValueError, "add up to at most .* 2; got .* add up to 3"),
        (([1, 2], None, None, [-1]), ValueError, "must not be negative"),
        (([1, 2], [0], [1.0]), ValueError, "weights must have the shape of ids, \\(2,\\)"),
    ],
)
def test_wrong_bags_are_refused(arguments: Any, error: Any, message: str) -> None:
    def given(value: Any) -> Any:
        if value is None:
            return None
        array = np.asarray(value)
        return Tensor(array.astype(np.float32 if array.dtype.kind == "f" else np.int32))

    context.set_context(mode=context.PYNATIVE_MODE)
    with pytest.raises(error, match=message):
        bag_of("sum")(*map(given, arguments))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"EmbeddingBag\(combiner\): expected one of"):
        nn.EmbeddingBag(3, 2, "median")
    with pytest.raises(TypeError, match=r"EmbeddingBag\(include_last_offset\)"):
        nn.EmbeddingBag(3, 2, include_last_offset=1)  # pyright: ignore[reportArgumentType]
    ids = Tensor(np.array([[1]], np.int32))
    with pytest.raises(ValueError, match="weights have no effect on combiner='max'"):
        bag_of("max")(ids, weights=Tensor(np.ones((1, 1), np.float32)))


# Several fields in one table, as in MindSpore.

INDICES = np.array([[2, 4, 6, 0, 0], [1, 3, 5, 3, 0]], np.int32)
VALUES = np.array([[1, -2, 3, 0, 0], [1, 1, 0.5, -1, 0]], np.float32)
FIELDS = np.array([[0, 1, 1, 0, 0], [2, 0, 2, 2, 1]], np.int32)


@pytest.mark.parametrize("operator", ["SUM", "MEAN", "MAX"])
def test_fields(operator: str) -> None:
    lookup = nn.MultiFieldEmbeddingLookup(
        ROWS, WIDTH, 3, Tensor(table()), target="DEVICE", operator=operator
    )
    out = lookup(*map(Tensor, (INDICES, VALUES, FIELDS))).asnumpy()
    assert out.shape == (2, 3, WIDTH)
    for example in range(2):
        for field in range(3):
            mine = (FIELDS[example] == field) & (VALUES[example] != 0)
            wanted = np.zeros(WIDTH)
            if mine.any():
                share = VALUES[example][mine]
                rows = table()[INDICES[example][mine]] * share[:, None]
                wanted = rows.max(0) if operator == "MAX" else rows.sum(0)
                if operator == "MEAN":
                    wanted = wanted / np.abs(share).sum()
            np.testing.assert_allclose(out[example, field], wanted, rtol=1e-5, atol=1e-6)


def test_fields_of_the_guide() -> None:
    """The example of MindSpore's documentation: two examples of three fields."""
    lookup = nn.MultiFieldEmbeddingLookup(10, 2, 3, "ones", operator="SUM", target="DEVICE")
    indices = Tensor(np.array([[2, 4, 6, 0, 0], [1, 3, 5, 0, 0]], np.int32))
    values = Tensor(np.array([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]], np.float32))
    fields = Tensor(np.array([[0, 1, 1, 0, 0], [0, 0, 1, 0, 0]], np.int32))
    out = lookup(indices, values, fields).asnumpy()
    assert out.tolist() == [[[1, 1], [2, 2], [0, 0]], [[2, 2], [1, 1], [0, 0]]]


def test_wrong_fields_are_refused() -> None:
    lookup = nn.MultiFieldEmbeddingLookup(ROWS, WIDTH, 2, target="DEVICE")
    arrays = [Tensor(a) for a in (INDICES, VALUES, FIELDS)]
    with pytest.raises(ValueError, match="must have one shape"):
        lookup(arrays[0], arrays[1], Tensor(FIELDS[:1]))
    context.set_context(mode=context.PYNATIVE_MODE)
    with pytest.raises(ValueError, match=r"field_ids must be from 0 to 1, got \[2\]"):
        lookup(*arrays)
    with pytest.raises(ValueError, match=r"MultiFieldEmbeddingLookup\(operator\)"):
        nn.MultiFieldEmbeddingLookup(3, 2, 2, operator="MEDIAN")


# Wherever the table lives.


class Clicks(nn.Cell):
    """Three bags on two tables: two share one, one of them twice in an example."""

    def __init__(self, combiner: str) -> None:
        super().__init__()
        self.seen = nn.EmbeddingBag(40, WIDTH, combiner, "normal", padding_idx=-1)
        self.words = nn.EmbeddingBag(ROWS, WIDTH, "sum" if combiner == "max" else combiner)

    def construct(self, seen: Any, words: Any, lengths: Any, weights: Any, label: Any) -> Any:
        used = self.seen(seen) * self.seen(seen[:, :1])
        read = self.words(words, weights=weights, row_lengths=lengths)
        return (((used + read).sum(1) - label) ** 2).mean()


def click_batches(steps: int) -> list[list[Tensor]]:
    rng = np.random.default_rng(2)
    found: list[list[Tensor]] = []
    for _ in range(steps):
        lengths = rng.integers(0, 4, 8).astype(np.int32)
        seen = rng.integers(-1, 40, (8, 5)).astype(np.int32)
        seen[:, 1] = seen[:, 0]
        words = rng.integers(0, ROWS, 24).astype(np.int32)
        weights = rng.uniform(0.5, 2, 24).astype(np.float32)
        label = rng.standard_normal(8).astype(np.float32) * 3
        found.append([Tensor(a) for a in (seen, words, lengths, weights, label)])
    return found


def trained(net: Clicks, clip: bool) -> list[float]:
    optimizer = nn.Adagrad(net.trainable_params(), learning_rate=0.5)
    slopes = value_and_grad(net, None, net.trainable_params())

    @jit
    def step(*batch: Any) -> Any:
        loss, grads = slopes(*batch)
        # A function of the sum of a row's gradients that is not that of its parts.
        optimizer([g.clip(-0.02, 0.02) for g in grads] if clip else grads)
        return loss

    return [float(step(*batch)) for batch in click_batches(6)]


@pytest.mark.parametrize(
    ("combiner", "clip"), [("mean", True), pytest.param("max", False, marks=pytest.mark.slow)]
)
def test_tables_on_servers_give_the_same_losses(combiner: str, clip: bool) -> None:
    paramesh.set_seed(7)
    local = trained(Clicks(combiner), clip)
    paramesh.set_seed(7)
    context.set_ps_context(enable_ps=True)
    net = Clicks(combiner)
    net.set_param_ps(init_in_server=True)
    np.testing.assert_allclose(trained(net, clip), local, rtol=2e-5)
    assert net.seen.embedding_table.has_init
    assert net.words.counts()["refused_ids"] == 0


def test_ids_of_no_bag_train_nothing() -> None:
    context.set_ps_context(enable_ps=True)
    bag = nn.EmbeddingBag(ROWS, WIDTH, "sum")
    bag.set_param_ps(init_in_server=True)
    step = nn.TrainOneStepCell(Wrapped(bag), nn.Adagrad(bag.trainable_params(), learning_rate=0.1))
    step(Tensor(np.array([3, 4, 9, 9], np.int32)), Tensor(np.array([1, 1], np.int32)))
    assert np.concatenate([ids for ids, _ in bag.items()]).tolist() == [3, 4]


class Wrapped(nn.Cell):
    def __init__(self, bag: nn.EmbeddingBag) -> None:
        super().__init__()
        self.bag = bag

    def construct(self, ids: Any, lengths: Any) -> Any:
        return self.bag(ids, row_lengths=lengths).sum()
