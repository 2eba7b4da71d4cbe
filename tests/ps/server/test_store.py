"""The state of a server, against the local optimizers, full tables and plain arrays."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer_cases import close
from paramesh import nn
from paramesh.errors import ParameterShapeError, ParameterStateError, RecipeError
from paramesh.initializer import HeUniform, Normal, Orthogonal, TruncatedNormal, initializer
from paramesh.parameter import Parameter
from paramesh.ps.server.slab_index import set_rows
from paramesh.ps.server.store import Store, Undo
from paramesh.ps.server.sums import reduce_updates
from paramesh.ps.specification.id_range import NO_ID, UNBOUNDED, all_inside
from paramesh.ps.specification.initial_values import initial_values_of, values_at
from paramesh.tensor import Tensor

WIDTH = 4
ROWS = 1000
RATE = {"learning_rate": 0.05}
ADAGRAD = {"rule": "Adagrad", "accum": 0.1, "update_slots": True}
ADAM = {"rule": "Adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8, "nesterov": False, "amsgrad": False}


def recipe(init: Any = "normal", shape: Any = (ROWS, WIDTH), dtype: Any = "float32") -> Any:
    made = initializer(init, shape, dtype).recipe
    assert made is not None
    return made


def table(**others: Any) -> dict[str, Any]:
    spec = {
        "name": "table",
        "kind": "rows",
        "row_shape": [WIDTH],
        "rows": ROWS,
        "dtype": "float32",
        "recipe": initial_values_of("table", recipe()),
        "optimizer": ADAGRAD,
    }
    return spec | others


def store_of(*specs: dict[str, Any]) -> Store:
    store = Store()
    for spec in specs:
        store.declare(spec)
    return store


def rows_of(rng: Any, count: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    ids = np.unique(rng.integers(0, rows, count))
    return {"ids": ids, "grad": rng.standard_normal((len(ids), WIDTH)).astype(np.float32)}


def contents(store: Store) -> dict[str, bytes]:
    return {key: array.tobytes() for key, array in store.dump()}


# Server optimizers and local ones: (server's spec, local optimizer, numbers of the push).
PAIRS: dict[str, tuple[dict[str, Any], Any, dict[str, float]]] = {
    "SGD": (
        {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False},
        lambda p: nn.SGD(p, 0.05),
        {},
    ),
    "SGD momentum": (
        {"rule": "SGD", "momentum": True, "dampening": 0.3, "nesterov": False, "decays": True},
        lambda p: nn.SGD(p, 0.05, momentum=0.9, dampening=0.3, weight_decay=0.02),
        {"momentum": 0.9, "weight_decay": 0.02},
    ),
    "SGD nesterov": (
        {"rule": "SGD", "momentum": True, "dampening": 0.0, "nesterov": True},
        lambda p: nn.SGD(p, 0.05, momentum=0.9, nesterov=True),
        {"momentum": 0.9},
    ),
    "Momentum": (
        {"rule": "Momentum", "nesterov": False, "decays": True},
        lambda p: nn.Momentum(p, 0.05, 0.9, weight_decay=0.02),
        {"momentum": 0.9, "weight_decay": 0.02},
    ),
    "Momentum nesterov": (
        {"rule": "Momentum", "nesterov": True},
        lambda p: nn.Momentum(p, 0.05, 0.9, use_nesterov=True),
        {"momentum": 0.9},
    ),
    "Adam": (ADAM, lambda p: nn.Adam(p, 0.05), {}),
    "Adam nesterov amsgrad": (
        ADAM | {"nesterov": True, "amsgrad": True},
        lambda p: nn.Adam(p, 0.05, use_nesterov=True, use_amsgrad=True),
        {},
    ),
    "AdamWeightDecay": (
        {"rule": "AdamWeightDecay", "b1": 0.9, "b2": 0.999, "eps": 1e-6, "decays": True},
        lambda p: nn.AdamWeightDecay(p, 0.05, weight_decay=0.1),
        {"weight_decay": 0.1},
    ),
    "Adagrad": (ADAGRAD, lambda p: nn.Adagrad(p, learning_rate=0.05), {}),
    "Adagrad frozen": (
        ADAGRAD | {"update_slots": False},
        lambda p: nn.Adagrad(p, learning_rate=0.05, update_slots=False),
        {},
    ),
    "RMSProp": (
        {"rule": "RMSProp", "decay": 0.9, "momentum": 0.8, "eps": 1e-10, "centered": False}
        | {"decays": True},
        lambda p: nn.RMSProp(p, 0.05, momentum=0.8, weight_decay=0.02),
        {"weight_decay": 0.02},
    ),
    "RMSProp centered": (
        {"rule": "RMSProp", "decay": 0.9, "momentum": 0.0, "eps": 1e-2, "centered": True},
        lambda p: nn.RMSProp(p, 0.05, epsilon=1e-2, centered=True),
        {},
    ),
    "Lion": (
        {"rule": "Lion", "b1": 0.9, "b2": 0.99, "decays": True},
        lambda p: nn.Lion(p, 0.05, weight_decay=0.1),
        {"weight_decay": 0.1},
    ),
    "FTRL": (
        {"rule": "FTRL", "initial_accum": 0.1, "lr_power": -0.5, "l1": 0.01, "l2": 0.02},
        lambda p: nn.FTRL(p, learning_rate=0.05, l1=0.01, l2=0.02),
        {},
    ),
    "FTRL power": (
        {"rule": "FTRL", "initial_accum": 0.1, "lr_power": -0.4, "l1": 0.01, "l2": 0.0},
        lambda p: nn.FTRL(p, learning_rate=0.05, lr_power=-0.4, l1=0.01),
        {},
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", PAIRS)
def test_server_optimizers_are_the_local_ones(case: str, dtype: str) -> None:
    """Values and state after 8 steps, within 1e-6 of the largest element (2e-3 for Float16).

    The table's rows are all met in every step, since rows that are not met do not decay.
    """
    spec, local, hyper = PAIRS[case]
    start = recipe(Normal(0.5), (6, WIDTH), dtype)
    param = Parameter(Tensor(np.asarray(start.compute())), name="w")
    optimizer = local([param])
    dense = {"name": "w", "kind": "dense", "shape": [6, WIDTH], "dtype": dtype, "optimizer": spec}
    store = store_of(
        dense | {"recipe": initial_values_of("w", start)},
        table(recipe=initial_values_of("t", start), rows=6, dtype=dtype, optimizer=spec),
    )
    rng = np.random.default_rng(1)
    for step in range(8):
        grad = rng.standard_normal((6, WIDTH)).astype(dtype)
        optimizer((Tensor(grad),))
        updates = {"w": {"grad": grad}, "table": {"ids": np.arange(6), "grad": grad}}
        store.apply(step, updates, hyper | RATE)
    tolerance = 1e-6 if dtype == "float32" else 2e-3
    close(store.read("w"), param.asnumpy(), tolerance)
    fields = {key.partition("/")[0] for key, _ in store.dump()} - {"spec", "ids", "last"}
    for field in fields - {"value"}:
        (slot,) = getattr(optimizer, field)
        close(store.read("w", field=field), slot.asnumpy(), tolerance)
    for field in fields:  # the table is the dense Parameter by other means: the same bits
        rows = store.read("table", np.arange(6), field=field)
        assert rows.tobytes() == store.read("w", field=field).tobytes()


#: Server's spec, local optimizer, the slot of which a row has one number.
ROWWISE: dict[str, tuple[dict[str, Any], Any, str]] = {
    "RowwiseAdagrad": (
        {"accum": 0.1, "eps": 1e-8},
        lambda p: nn.RowwiseAdagrad(p, 0.05, 0.1, weight_decay=0.02),
        "row_accum",
    ),
    "RowwiseAdam": (
        {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
        lambda p: nn.RowwiseAdam(p, 0.05, weight_decay=0.02),
        "moment2",
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ROWWISE)
def test_row_wise_optimizers_are_the_local_ones(name: str, dtype: str) -> None:
    arguments, make, slot = ROWWISE[name]
    spec = {"rule": name, "decays": True} | arguments
    start = recipe(Normal(0.5), (6, 2, 3), dtype)
    param = Parameter(Tensor(np.asarray(start.compute())), name="w")
    optimizer = make([param])
    shape = {"row_shape": [2, 3], "rows": 6, "dtype": dtype}
    store = store_of(table(recipe=initial_values_of("t", start), optimizer=spec, **shape))
    rng = np.random.default_rng(1)
    everything = np.arange(6)
    undo, before = None, contents(store)
    for step in range(5):
        grad = rng.standard_normal((6, 2, 3)).astype(dtype)
        optimizer((Tensor(grad),))
        before = contents(store)
        update = {"table": {"ids": everything, "grad": grad}}
        undo = store.apply(step, update, RATE | {"weight_decay": 0.02})
    tolerance = 1e-6 if dtype == "float32" else 2e-3
    close(store.read("table", everything), param.asnumpy(), tolerance)
    found = store.read("table", everything, field=slot)
    assert found.shape == (6, 1, 1)
    close(found, getattr(optimizer, slot)[0].asnumpy(), tolerance)
    loaded = Store()
    loaded.load(store.view().pieces())
    assert contents(loaded) == contents(store)
    loaded.put("table", found[:2] + 1, ids=everything[:2], field=slot)
    with pytest.raises(ParameterShapeError, match=r"2 rows of shape \(1, 1\) were expected"):
        loaded.put("table", np.zeros((2, 2, 3)), ids=everything[:2], field=slot)
    assert undo is not None
    store.undo(undo)
    assert contents(store) == before
    dense = {"name": "d", "kind": "dense", "shape": [6], "dtype": dtype, "recipe": None}
    with pytest.raises(ValueError, match=f"'d': {name} updates tables of rows alone"):
        store.declare(dense | {"optimizer": spec})


@pytest.mark.parametrize(
    "init",
    ["ones", 0.25, "uniform", "normal", HeUniform(), TruncatedNormal(0.02, 0.0, -0.03, 0.03)],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_rows_are_those_of_the_full_table(init: Any, dtype: str) -> None:
    made = recipe(init, dtype=dtype)
    whole = np.asarray(made.compute())
    start = json.loads(json.dumps(initial_values_of("t", made)))
    ids = np.random.default_rng(0).permutation(ROWS)[:300]
    store = store_of(table(recipe=start, dtype=dtype))
    assert store.read("table", ids).tobytes() == whole[ids].tobytes()
    flat = values_at(start, np.arange(500, 700, dtype=np.uint64))
    assert flat.tobytes() == whole.reshape(-1)[500:700].tobytes()


def test_a_recipe_that_cannot_be_computed_by_elements_is_refused() -> None:
    with pytest.raises(RecipeError, match="'emb.table' is initialized on the server"):
        initial_values_of("emb.table", recipe(Orthogonal()))


def test_a_table_of_1e12_rows_costs_its_trained_rows() -> None:
    rows = 10**12
    start = initial_values_of("t", recipe("normal", (rows, WIDTH)))
    store = store_of(table(rows=rows, recipe=start))
    far = np.array([3, 10**9, rows - 1])
    first = store.read("table", far)
    assert store.stats()["table"]["rows"] == 0
    assert len(np.unique(first)) == first.size
    store.apply(0, {"table": {"ids": far, "grad": np.ones((3, WIDTH), np.float32)}}, RATE)
    assert store.stats()["table"] == {"kind": "rows", "rows": 3, "bytes": 3 * (8 + 2 * 4 * WIDTH)}
    assert (store.read("table", far) < first).all()


STEPS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6)
#: How rows are admitted and dropped, in tables whose updates have about 10 rows.
LIVES = [
    {},
    {"admit": 3},
    {"expire": 3},
    {"admit": 2, "expire": 2},
    {"admit_probability": 0.5, "expire": 2},
    {"max_rows": 20},
    {"max_rows": 5, "admit": 2},  # fewer than an update has
    {"max_rows": 12, "admit": 2, "admit_probability": 0.7, "expire": 3},
]


@given(STEPS, st.sampled_from(LIVES))
def test_undo_and_reads_behind_the_last_update(seeds: Any, life: Any) -> None:
    """Undo gives back every bit, and `read(undo=…)` sees what was there."""
    dense = {"name": "w", "kind": "dense", "shape": [7], "dtype": "float32", "optimizer": ADAM}
    dense |= {"recipe": initial_values_of("w", recipe("normal", (7,)))}
    store = store_of(table(rows=40, optimizer=ADAM, **life), dense)
    every = np.arange(40)
    spare: Undo | None = None
    for step, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        updates = {"table": rows_of(rng, 12, 40), "w": {"grad": np.ones(7, np.float32)}}
        before, rows = contents(store), store.read("table", every)
        undo = store.apply(step, updates, RATE)
        after, new = contents(store), store.read("table", every)
        assert store.read("table", every, undo).tobytes() == rows.tobytes()
        assert store.read("w", undo=undo).tobytes() == before["value/w"]
        store.undo(undo)
        assert contents(store) == before
        undo = store.apply(step, updates, RATE, spare)
        spare = None if spare is not None else undo
        assert contents(store) == after
        assert store.read("table", every).tobytes() == new.tobytes()


@given(STEPS, st.sampled_from([*LIVES, {"max_rows": 30_000, "expire": 1}]), st.data())
def test_a_held_version_stays_while_updates_go_on(seeds: Any, life: Any, data: Any) -> None:
    """Pieces of it, in between updates that create, change and end rows and write to old memory."""
    rows = 40_000
    dense = {"name": "w", "kind": "dense", "shape": [7], "dtype": "float32", "optimizer": ADAM}
    dense |= {"recipe": initial_values_of("w", recipe("normal", (7,)))}
    spec = table(rows=rows, row_shape=[1], **life)
    store = store_of(spec | {"recipe": initial_values_of("t", recipe("normal", (rows, 1)))}, dense)
    spare: Undo | None = None
    found: list[Any] = []
    expected, pieces = {}, iter(())

    for step, seed in enumerate([1, *seeds, *range(5)]):
        if step == 1:
            expected, held = contents(store), store.view()
            pieces = held.pieces()
        rng = np.random.default_rng(seed)
        ids = np.unique(rng.integers(0, rows, 30_000 if step == 0 else 200))
        grad = rng.standard_normal((len(ids), 1)).astype(np.float32)
        updates = {"table": {"ids": ids, "grad": grad}, "w": {"grad": np.ones(7, np.float32)}}
        undo = store.apply(step, updates, RATE, spare)
        spare = undo
        for _ in range(data.draw(st.integers(0, 2)) if step else 0):
            found += itertools.islice(pieces, 1)
    twin = Store()
    twin.load([*found, *pieces])
    assert contents(twin) == expected


def test_a_held_version_ends_when_an_update_is_taken_back() -> None:
    store = store_of(table())
    store.apply(0, {"table": rows_of(np.random.default_rng(0), 50)}, RATE)
    held = store.view()
    store.undo(store.apply(1, {"table": rows_of(np.random.default_rng(1), 50)}, RATE))
    with pytest.raises(
        ParameterStateError, match="'table' was changed by something other than an update"
    ):
        list(held.pieces())
    held.release()
    assert list(store.view().pieces())


def test_an_array_that_was_read_is_not_written_to_while_it_is_held() -> None:
    spec = {"name": "w", "kind": "dense", "shape": [7], "dtype": "float32", "recipe": None}
    store = store_of(spec | {"optimizer": PAIRS["SGD"][0]})
    store.put("w", np.zeros(7, np.float32))
    update = {"w": {"grad": np.ones(7, np.float32)}}
    spares: list[Undo] = []
    reads: list[tuple[Any, Any]] = []
    for step in range(6):
        reads.append((store.read("w"), store.read("w").copy()))
        spare = spares.pop(0) if len(spares) > 1 else None
        spares.append(store.apply(step, update, RATE, spare))
    assert [view.tobytes() for view, _ in reads] == [copy.tobytes() for _, copy in reads]
    # Once nobody holds them, the memory is used again.
    reads.clear()
    undo: Any = spares[0].parts["w"]
    kept = undo.before["value"].ctypes.data
    del undo
    store.apply(6, update, RATE, spares.pop(0))
    assert store.read("w").ctypes.data == kept


def test_what_is_dumped_goes_on_as_before() -> None:
    store = store_of(
        table(admit=2, expire=5, max_rows=200, admit_probability=0.8),
        table(name="other", optimizer=ADAM),
    )
    rng = np.random.default_rng(5)
    for step in range(7):
        store.apply(step, {"table": rows_of(rng, 300), "other": rows_of(rng, 300)}, RATE)
    twin = Store()
    twin.load(store.view().pieces())
    assert contents(twin) == contents(store)
    for step in range(7, 12):
        updates = {"table": rows_of(rng, 300), "other": rows_of(rng, 300)}
        store.apply(step, updates, RATE)
        twin.apply(step, updates, RATE)
    assert contents(twin) == contents(store)


def test_rows_are_admitted_by_count_and_expire_by_steps() -> None:
    store = store_of(table(admit=2, expire=3))
    one = {"table": {"ids": np.array([7]), "grad": np.ones((1, WIDTH), np.float32)}}
    start = store.read("table", np.array([7]))
    store.apply(0, one, RATE)
    assert (store.read("table", np.array([7])) == start).all()
    store.apply(1, one, RATE)
    assert (store.read("table", np.array([7])) < start).all()
    assert store.rows("table").tolist() == [7]
    for step in range(2, 6):
        store.apply(step, {"table": {"ids": np.array([9]), "grad": one["table"]["grad"]}}, RATE)
    assert store.rows("table").tolist() == [9]
    assert (store.read("table", np.array([7])) == start).all()


def test_many_rows_in_several_chunks() -> None:
    """Against plain arrays, with more rows than one chunk holds."""
    rows = 60_000
    made = recipe("normal", (rows, 2))
    store = store_of(table(rows=rows, row_shape=[2], recipe=initial_values_of("t", made)))
    w, accum = np.array(made.compute()), np.full((rows, 2), 0.1, np.float32)
    rng = np.random.default_rng(3)
    for step in range(4):
        ids = np.unique(rng.integers(0, rows, 30_000))
        grad = rng.standard_normal((len(ids), 2)).astype(np.float32)
        store.apply(step, {"table": {"ids": ids, "grad": grad}}, RATE)
        accum[ids] += grad * grad
        w[ids] += -np.float32(0.05) * (grad / np.sqrt(accum[ids]))
    every = rng.permutation(rows)
    assert store.read("table", every).tobytes() == w[every].tobytes()
    assert store.read("table", every, field="accum").tobytes() == accum[every].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5)])
def test_rows_of_a_slab_are_set_as_by_plain_indexing(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(2)
    target = rng.integers(0, 100, (50, *shape)).astype(dtype)
    rows = rng.permutation(50)[:20]
    for values in (
        rng.integers(0, 100, (20, *shape)).astype(dtype),
        rng.integers(0, 100, (40, *shape)).astype(dtype)[::2],
        rng.integers(0, 100, (20, *shape)).astype(np.float64),
    ):
        plain = target.copy()
        plain[rows] = values
        set_rows(target, rows, values)
        assert target.tobytes() == plain.tobytes()
    before = target.copy()
    set_rows(target, rows[:0], target[:0])
    assert (target == before).all()


@pytest.mark.parametrize("rows", [60, UNBOUNDED])
def test_ids_outside_a_table_are_found_wherever_they_are(rows: int) -> None:
    wrong = [NO_ID] if rows == UNBOUNDED else [NO_ID, -1, 60, 1 << 62]
    for ids in ([], [0], [59, 0, 30]):
        assert all_inside(np.array(ids, np.int64), rows)
        for one in wrong:
            for at in range(len(ids) + 1):
                assert not all_inside(np.array([*ids[:at], one, *ids[at:]], np.int64), rows)


def test_adagrad_takes_no_step_where_the_sum_is_zero() -> None:
    """In a block with such elements, and one without."""
    spec = ADAGRAD | {"accum": 0.0}
    shape = {"kind": "dense", "dtype": "float32", "optimizer": spec, "recipe": None}
    store = store_of({"name": "some", "shape": [4]} | shape, {"name": "all", "shape": [4]} | shape)
    grad = np.array([0.5, 2, -3, 0.25], np.float32)
    for name, update in {"some": grad * [1, 0, 1, 1], "all": grad}.items():
        store.put(name, np.zeros(4, np.float32))
        store.apply(0, {name: {"grad": update.astype(np.float32)}}, RATE)
    step = np.float32(-0.05) * np.sign(grad)
    assert store.read("some").tolist() == (step * [1, 0, 1, 1]).tolist()
    assert store.read("all").tolist() == step.tolist()


def test_the_sum_of_workers_is_in_their_order() -> None:
    rng = np.random.default_rng(0)
    parts = [{"t": rows_of(rng, 400), "w": {"grad": rows_of(rng, 50)["grad"]}} for _ in range(3)]
    parts = [{**p, "w": {"grad": parts[0]["w"]["grad"] * (i + 1)}} for i, p in enumerate(parts)]
    total = reduce_updates(parts)
    expected = np.zeros((ROWS, WIDTH), np.float32)
    for part in parts:
        expected[part["t"]["ids"]] += part["t"]["grad"]
    assert (total["t"]["ids"] == np.flatnonzero(expected.any(1))).all()
    assert (total["t"]["grad"] == expected[total["t"]["ids"]]).all()
    grads = [part["w"]["grad"] for part in parts]
    assert (total["w"]["grad"] == (grads[0] + grads[1]) + grads[2]).all()


NO_VALUES = {"name": "w", "kind": "dense", "shape": [3], "dtype": "float32", "optimizer": ADAM}
ONE = np.ones((1, WIDTH), np.float32)


@pytest.mark.parametrize(
    ("updates", "error", "message"),
    [
        (
            {"nobody": {"grad": ONE}},
            ParameterStateError,
            "Parameter 'nobody' does not exist on this server",
        ),
        ({"w": {"grad": np.ones(3, np.float32)}}, ParameterStateError, "'w' has no values on the"),
        (
            {"w": {"grad": np.ones(4, np.float32)}},
            ParameterShapeError,
            "'w' has 3 elements on this server",
        ),
        ({"table": {"ids": np.array([ROWS]), "grad": ONE}}, ValueError, "row 1000 is out of range"),
        (
            {"table": {"ids": np.array([2, 2]), "grad": np.ones((2, WIDTH), np.float32)}},
            ValueError,
            "must be sorted and unique",
        ),
        (
            {"table": {"ids": np.array([1]), "grad": np.ones((2, WIDTH), np.float32)}},
            ParameterShapeError,
            "1 rows of shape",
        ),
        ({"table": {"ids": np.array([1]), "grad": ONE.astype(int)}}, ParameterShapeError, "int64"),
    ],
)
def test_a_push_that_does_not_fit_changes_nothing(updates: Any, error: Any, message: str) -> None:
    store = store_of(table(), NO_VALUES)
    before = contents(store)
    good = {"table": {"ids": np.array([1]), "grad": ONE}}
    with pytest.raises(error, match=message):
        store.apply(0, good | updates, RATE)
    with pytest.raises(ValueError, match="lacks 'learning_rate'"):
        store.apply(0, good, {})
    assert contents(store) == before


def test_another_spec_of_the_same_name_is_refused() -> None:
    spec = table()
    store = store_of(spec)
    store.declare(spec)
    with pytest.raises(
        ValueError,
        match=rf"'table' is declared on the server as rows={ROWS}, and cannot be declared as "
        rf"rows={ROWS + 1}\. All workers",
    ):
        store.declare(spec | {"rows": ROWS + 1})
    other = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}
    with pytest.raises(ValueError, match=r"as optimizer\.rule='.*as optimizer\.rule='SGD'"):
        store.declare(spec | {"optimizer": other})
    with pytest.raises(
        ValueError, match="the server does not support the optimizer 'Lamb'. Expected one of SGD"
    ):
        store.declare(table(name="t", optimizer={"rule": "Lamb"}))
    with pytest.raises(ValueError, match=r"Momentum takes \['nesterov'\], but got \['b1'\]"):
        store.declare(table(name="t", optimizer={"rule": "Momentum", "b1": 0.9}))


def test_many_tables_have_the_bits_of_each_alone() -> None:
    """Their rows are found, made and read at once; nobody sees it."""
    starts = [
        initial_values_of("t", recipe(init))
        for init in ("normal", "normal", Normal(0.5), TruncatedNormal(0.1), "ones", "normal")
    ]
    specs = [
        table(name=f"t{at}", recipe=start, **({"expire": 2} if at == 5 else {}))
        for at, start in enumerate(starts)
    ]
    together = store_of(*specs)
    alone = [store_of(spec) for spec in specs]
    rng = np.random.default_rng(0)
    undos: list[Undo] = []
    single: list[list[Undo]] = []
    for step in range(4):
        updates = {spec["name"]: rows_of(rng, 20 * (at + 1)) for at, spec in enumerate(specs)}
        undos.append(together.apply(step, updates, RATE))
        single.append(
            [s.apply(step, {n: u}, RATE) for s, (n, u) in zip(alone, updates.items(), strict=True)]
        )
    wanted = {spec["name"]: rng.integers(0, ROWS, 300) for spec in specs}
    for back in range(3):
        found = together.read_tables(wanted, undos[len(undos) - back :])
        for at, (name, ids) in enumerate(wanted.items()):
            expected = alone[at].read(name, ids)
            for undo in reversed([one[at] for one in single[len(single) - back :]]):
                change: Any = undo.parts[name]
                hit = np.isin(ids, change.ids)
                expected[hit] = alone[at].read(name, ids[hit], undo)
            if not specs[at].get("expire"):
                np.testing.assert_array_equal(found[name], expected)
    together.undo(undos[-1])
    for at, spec in enumerate(specs):
        alone[at].undo(single[-1][at])
        everything = np.arange(ROWS)
        np.testing.assert_array_equal(
            together.read(spec["name"], everything), alone[at].read(spec["name"], everything)
        )
        np.testing.assert_array_equal(together.rows(spec["name"]), alone[at].rows(spec["name"]))
    with pytest.raises(ParameterStateError, match="'nobody' does not exist on this server"):
        together.read_tables({"nobody": np.arange(2)})
    with pytest.raises(ValueError, match="row 1000 is out of range"):
        together.read_tables({"t0": np.array([ROWS])})
    with pytest.raises(ValueError, match="row 9223372036854775813 is out of range"):
        together.read_tables({"t0": np.array([2**63 + 5], np.uint64)})
