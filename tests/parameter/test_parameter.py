"""Parameter and ParameterTuple: weightless, named, and what they refuse."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paramesh import context, ops
from paramesh import dtype as dt
from paramesh.errors import (
    ContextError,
    DuplicateNameError,
    LayoutError,
    ParameterDtypeError,
    ParameterNameError,
    ParameterShapeError,
    TraceError,
)
from paramesh.initializer import Normal, initializer
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor import Tensor
from paramesh.transforms import jit, value_and_grad
from type_checks import wrong

HUGE = [1_000_000, 4096]


def weight(name: str | None = "net.w", **flags: Any) -> Parameter:
    return Parameter(Tensor(np.array([1.0, 2.0], np.float32)), name=name, **flags)


def declared(shape: Any = (4, 3), name: str = "net.w") -> Parameter:
    return Parameter(initializer("normal", shape), name=name)


# Weightless.


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())


def test_a_parameter_from_an_initializer_weighs_nothing() -> None:
    initializer("normal", HUGE)  # whatever is loaded once
    gc.collect()
    before = live_bytes()
    tracemalloc.start()
    p = Parameter(initializer("normal", HUGE), name="embedding")
    twins = [p.clone(), copy.deepcopy(p), copy.copy(p), p.clone("zeros"), p.clone(Normal(2.0))]
    moments = ParameterTuple([p]).clone("adam_m", init="zeros")
    text = f"{p} {twins} {moments}"
    facts = [(t.shape, t.dtype, t.size, t.nbytes, t.ndim) for t in (p, *twins, *moments)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert live_bytes() == before
    assert peak < 100_000
    assert facts == [((1_000_000, 4096), dt.float32, 4_096_000_000, 16_384_000_000, 2)] * 7
    assert text.startswith(
        "Parameter (name=embedding, shape=(1000000, 4096), dtype=Float32, requires_grad=True)"
    )
    assert all(t.has_init for t in (p, *twins, *moments))


@pytest.mark.parametrize("mode", context.ParallelMode.MODE_LIST)
def test_weightless_in_every_parallel_mode(mode: str) -> None:
    context.set_auto_parallel_context(parallel_mode=mode)
    assert declared().has_init


USES = {
    "asnumpy": lambda p: p.asnumpy(),
    "numpy": np.asarray,
    "jnp": jnp.asarray,
    "arithmetic": lambda p: p + 1,
    "index": lambda p: p[0],
    "method": lambda p: p.sum(),
    "value": lambda p: p.value(),
    "init_data": lambda p: p.init_data(),
    "item assignment": lambda p: p.__setitem__(0, 1.0),
    "tolist": lambda p: p.tolist(),
    "dlpack": np.from_dlpack,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_use_brings_it_to_life(use: Any) -> None:
    p = declared()
    assert p.has_init
    assert p.recipe is not None
    use(p)
    assert not p.has_init
    assert p.recipe is p.init is None


def test_the_recipe_gives_the_same_numbers_whoever_runs_it() -> None:
    p = declared()
    twins = [p.clone(), copy.deepcopy(p), Parameter(p, name="other")]
    values = p.asnumpy()
    assert all(t.has_init for t in twins)
    assert all((t.asnumpy() == values).all() for t in twins)
    later = Parameter(initializer("normal", (4, 3)))
    assert (later.asnumpy() != values).any()


def test_loading_first_means_the_recipe_never_runs() -> None:
    class Never(Normal):
        def law(self, shape: tuple[int, ...]) -> Any:
            raise AssertionError("the recipe was run")

    p = Parameter(initializer(Never(), (2,)), name="w")
    p.set_data(Tensor(np.array([3.0, 4.0], np.float32)))
    assert p.tolist() == [3.0, 4.0]
    assert p.inited_param is None
    with pytest.raises(AssertionError, match="the recipe was run"):
        Parameter(initializer(Never(), (2,))).asnumpy()


def test_inited_param_is_itself_once_init_data_ran_a_recipe() -> None:
    p, q = declared(), weight()
    assert p.inited_param is q.inited_param is None
    assert p.init_data() is p
    assert p.inited_param is p
    assert q.init_data() is q
    assert q.inited_param is None


def test_many_threads_bring_it_to_life_once() -> None:
    p = declared((64, 64))
    seen: list[Any] = []
    threads = [threading.Thread(target=lambda: seen.append(p.asnumpy())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all((values == seen[0]).all() for values in seen)


# Layouts.


@pytest.mark.parametrize(
    ("rank", "layout", "index"),
    [
        (0, ([4], [0, -1], [2, 6]), np.s_[0:2, :]),
        (3, ([4], [0, -1], [2, 6], 0, True, ""), np.s_[6:8, :]),
        (1, ([2, 2], [1, 0], [4, 3]), np.s_[0:4, 3:6]),
        (2, ([2, 2], [1, 0], [4, 3]), np.s_[4:8, 0:3]),
        (2, ([2, 2], [-1, 0], [8, 3]), np.s_[:, 0:3]),
    ],
)
def test_layout_computes_this_ranks_slice_alone(rank: int, layout: Any, index: Any) -> None:
    whole = declared((8, 6))
    part = whole.clone()
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=4, global_rank=rank
    )
    assert part.init_data(layout, set_sliced=True) is part
    assert part.sliced is True
    np.testing.assert_array_equal(part.asnumpy(), whole.asnumpy()[index])


@pytest.mark.parametrize(
    ("layout", "error", "says"),
    [
        ([4], TypeError, r"Parameter 'net.w': layout must be a tuple, got list \(\[4\]\)"),
        (([4], [0]), ValueError, "needs at least .device matrix, tensor map, slice shape."),
        (([4], [0], [2]), ValueError, "one entry of tensor map and slice shape for each axis"),
        (([3], [0, -1], [2, 6]), ValueError, "axis 0 of size 8 is not 3 times the slice's 2"),
        (
            ([4], [1, -1], [2, 6]),
            ValueError,
            r"tensor map entry 1 is not an axis of the device matrix \[4\]",
        ),
        (([4], [0, -1], [2, 6], 0, True, "group"), ValueError, "optimizer shard group"),
    ],
)
def test_layouts_that_do_not_fit(layout: Any, error: type[Exception], says: str) -> None:
    p = declared((8, 6))
    with pytest.raises(error, match=says):
        p.init_data(layout)
    assert p.has_init


def test_layout_for_fewer_devices_than_this_rank() -> None:
    context.set_auto_parallel_context(device_num=8, global_rank=5)
    with pytest.raises(ValueError, match="'net.w' .* is for 4 devices, but this is rank 5"):
        declared((8, 6)).init_data(([4], [0, -1], [2, 6]))


# What it is made from, and given.


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda: Parameter(True, name="b"),
            ValueError,
            r"'b': a bool is not valid data; pass Tensor\(Tr",
        ),
        (lambda: Parameter(2**40, name="n"), ValueError, "'n': 1099511627776 does not fit Int32"),
        (lambda: Parameter(wrong("a"), name="s"), TypeError, "'s' is made from .* got str .'a'."),
        (lambda: Parameter(wrong((1, 2)), name="t"), TypeError, "'t' is made from .* got tuple"),
        (lambda: Parameter(wrong(np.float32(1))), TypeError, "got float32"),
        (
            lambda: Parameter(wrong(Normal()), name="i"),
            TypeError,
            "'i': an Initializer has no shape",
        ),
        (lambda: Parameter(1, name=wrong(3)), ParameterNameError, "must be a str or None, got int"),
        (lambda: Parameter(1, name="n" * 1025), ParameterNameError, "1024 characters, got 1025"),
        (lambda: weight(requires_grad=1), TypeError, "'net.w': requires_grad must be True or F"),
        (lambda: weight(layerwise_parallel=None), TypeError, "layerwise_parallel must be True"),
        (lambda: weight(parallel_optimizer=np.bool_(True)), TypeError, "parallel_optimizer must"),
        (lambda: weight(storage_format="NC1HWC0"), ValueError, "XLA chooses the memory layout"),
        (lambda: weight(device="Ascend"), ValueError, "device must be None or 'CPU'"),
        (lambda: setattr(weight(), "comm_fusion", -1), ValueError, "'net.w': comm_fusion must be"),
        (lambda: setattr(weight(), "comm_fusion", True), TypeError, "must be a 32-bit int"),
        (lambda: setattr(weight(), "key", 2**31), TypeError, "'net.w': key must be a 32-bit int"),
        (lambda: setattr(weight(), "cache_shape", 3), TypeError, "cache_shape must be a list"),
        (lambda: setattr(weight(), "is_init", 1), TypeError, "is_init must be True or False"),
        (
            lambda: weight().set_data(wrong([1, 2])),
            TypeError,
            "'net.w': set_data takes .* got list. Wrap",
        ),
        (
            lambda: weight().set_data(Tensor(np.zeros((3, 2), np.float32))),
            ParameterShapeError,
            r"Parameter 'net.w': set_data was given shape \(3, 2\), but the Parameter has shape "
            r"\(2,\). Pass slice_shape=True",
        ),
        (
            lambda: weight().set_data(Tensor(np.zeros(2))),
            ParameterDtypeError,
            r"'net.w' is Float32; Float64 data cannot be stored in it without loss. Cast it first: "
            r"data.astype\(paramesh.float32\), or cast the Parameter: set_dtype\(paramesh.float64",
        ),
        (
            lambda: Parameter(1, name="n").set_data(1.5),
            ParameterDtypeError,
            "'n' is Int32; the number 1.5 cannot be stored",
        ),
        (
            lambda: Parameter(Tensor(1, dt.int8), name="n").set_data(300),
            ParameterDtypeError,
            "'n' is Int8; set_data was given 300, which is outside -128 to 127",
        ),
        (lambda: weight().assign(1.0), ParameterShapeError, r"'net.w' has shape \(2,\), cannot be"),
        (
            lambda: weight().assign_value(wrong(3)),
            TypeError,
            "'net.w': assign_value needs a Tensor",
        ),
        (
            lambda: weight().register_hook(wrong(3)),
            TypeError,
            "'net.w': a hook must be callable, got int",
        ),
        (
            lambda: weight().set_param_ps(wrong(1)),
            TypeError,
            "'net.w': init_in_server must be True or F",
        ),
        (lambda: wrong(weight()).clone(prefix="a"), TypeError, "prefix"),
        (lambda: weight().clone(Tensor([1.0])), ValueError, "shape"),
    ],
)
def test_errors_name_the_parameter_and_say_what_to_do(make: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_set_data_from_an_initializer_keeps_the_recipe() -> None:
    p = weight()
    assert p.set_data(initializer("ones", [2], dt.float16)) is p
    assert p.has_init
    assert (p.dtype, p.tolist()) == (dt.float32, [1.0, 1.0])


def test_an_assignment_to_data_is_set_data() -> None:
    p = weight()
    p.data = Tensor(np.array([5.0, 6.0], np.float32))
    assert p.data is p
    assert p.tolist() == [5.0, 6.0]
    with pytest.raises(ParameterShapeError, match="slice_shape"):
        p.data = Tensor([1.0])


def test_set_data_shares_nothing() -> None:
    p, q, t = weight(), weight("q"), Tensor(np.array([5.0, 6.0], np.float32))
    p.set_data(t)
    q.set_data(p)
    t[0] = 0
    p[1] = 0
    assert (p.tolist(), q.tolist(), t.tolist()) == ([5.0, 0.0], [5.0, 6.0], [0.0, 6.0])


def test_slice_shape_changes_the_shape() -> None:
    p = weight()
    p.set_data(Tensor(np.ones((1, 2), np.float32)), slice_shape=True)
    assert (p.shape, p.sliced) == ((1, 2), True)
    p.set_data(initializer("zeros", [7]), slice_shape=True)
    assert p.shape == (7,)


def test_a_failed_set_data_leaves_everything() -> None:
    p = declared()
    with pytest.raises(ParameterShapeError, match="slice_shape"):
        p.set_data(Tensor([1.0]))
    with pytest.raises(ParameterDtypeError, match="without loss"):
        p.set_data(Tensor(np.zeros((4, 3))))
    assert p.has_init
    assert p.sliced is False


def test_set_dtype_of_a_recipe() -> None:
    p = declared()
    assert p.set_dtype(dt.float16) is p
    assert p.has_init
    assert p.asnumpy().dtype == np.float16


def test_item_assignment_writes_the_parameter() -> None:
    p = weight()
    q = p
    p[0] = 9
    assert q.tolist() == [9.0, 2.0]
    assert p.dtype is dt.float32
    p += 1  # an operator gives a Tensor
    assert type(p) is Tensor
    assert q.tolist() == [9.0, 2.0]


# Identity.


def test_equality_is_identity_between_parameters() -> None:
    p, q = weight(), weight()
    assert (p == p) is True
    assert (p == q) is False
    assert (p != q) is True
    assert p in [q, p]
    assert q not in (p,)
    assert [q, p].index(p) == 1
    assert len({p, q, p}) == 2
    assert {p: "p", q: "q"}[q] == "q"


def test_equality_is_elementwise_against_anything_else() -> None:
    p = weight()
    for other in (Tensor([1.0, 3.0]), np.array([1.0, 3.0], np.float32), [1.0, 3.0]):
        assert (p == other).tolist() == [True, False]
        assert (p != other).tolist() == [False, True]
    assert (p == 1).tolist() == [True, False]
    assert (p.value() == weight().value()).tolist() == [True, True]


def test_the_hash_outlives_every_change() -> None:
    p = declared()
    before = hash(p)
    p.init_data()
    p.name, p.requires_grad = "other", False
    p.set_data(Tensor(np.zeros((4, 3), np.float32)))
    assert hash(p) == before


# Copies.

FLAGS = {
    "requires_grad": False,
    "layerwise_parallel": True,
    "parallel_optimizer": False,
    "parallel_optimizer_comm_recompute": True,
    "comm_fusion": 7,
    "requires_aggr": False,
    "cache_enable": True,
    "key": 4,
}
COPIES = {
    "clone": lambda p: p.clone(),
    "param.copy": lambda p: p.copy(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda p: pickle.loads(pickle.dumps(p)),
    "tuple clone": lambda p: ParameterTuple([p]).clone("x")[0],
}


@pytest.mark.parametrize("twin_of", COPIES.values(), ids=COPIES)
def test_copies_have_all_flags_and_nothing_in_common(twin_of: Any) -> None:
    p = weight()
    for flag, value in FLAGS.items():
        setattr(p, flag, value)
    p.register_hook(lambda g: g)
    twin = twin_of(p)
    assert type(twin) is Parameter
    assert {flag: getattr(twin, flag) for flag in FLAGS} == FLAGS
    assert twin.name in ("net.w", "x.net.w")
    assert twin is not p
    assert twin._hooks == []
    twin[0] = 9
    assert (p.tolist(), twin.tolist()) == ([1.0, 2.0], [9.0, 2.0])
    twin.requires_grad = True
    assert p.requires_grad is False


@pytest.mark.parametrize("dtype", dt.ALL, ids=str)
def test_pickle_of_every_element_type(dtype: dt.DType) -> None:
    p = Parameter(Tensor([[0, 1, 3]]).astype(dtype), name="w")
    twin = pickle.loads(pickle.dumps(p))
    assert (twin.dtype, twin.name, twin.shape) == (dtype, "w", (1, 3))
    assert twin.tolist() == p.tolist()


def test_deepcopy_of_a_structure_keeps_what_is_shared() -> None:
    p = declared()
    a, (b, c) = copy.deepcopy([p, (p, weight())])
    assert a is b
    assert a is not p
    assert c is not a


@pytest.mark.parametrize("init", [0, 3.5, "zeros", "NORMAL", Normal(0.1)], ids=str)
def test_clone_with_an_initializer_is_declared(init: Any) -> None:
    p = Parameter(Tensor(np.ones((2, 2), np.float16)), name="w")
    twin = p.clone(init)
    assert twin.has_init
    assert (twin.shape, twin.dtype, twin.name) == ((2, 2), dt.float16, "w")
    assert not p.has_init


def test_clone_with_a_tensor_takes_its_values() -> None:
    t = Tensor(np.array([5, 6], np.int64))
    twin = weight().clone(t)
    assert (twin.dtype, twin.tolist()) == (dt.float32, [5.0, 6.0])


# Printing.


def test_every_way_to_print() -> None:
    p = weight("w", requires_grad=False)
    text = "Parameter (name=w, shape=(2,), dtype=Float32, requires_grad=False)"
    assert str(p) == repr(p) == f"{p}" == f"{p}" == text
    assert f"{Parameter(1.5):.2f}" == "1.50"
    assert str(ParameterTuple([p])) == f"({text},)"


# Programs.


def test_value_outlives_the_next_step() -> None:
    p = weight()

    @jit
    def step() -> None:
        p.assign(p * 2)

    held = [p.value(), Tensor(p), p + 0, p.asnumpy(), np.asarray(p), jnp.asarray(p), p[:]]
    step()
    step()
    assert p.tolist() == [4.0, 8.0]
    for value in held:
        np.testing.assert_array_equal(np.asarray(value), [1.0, 2.0])


def test_is_init_tells_that_a_compiled_program_has_it() -> None:
    p = weight()
    assert p.is_init is False
    jit(lambda: p + 1)()
    assert p.is_init is True


def test_parameters_do_not_leak_out_of_a_jax_trace() -> None:
    p = weight()
    with pytest.raises(TraceError, match="Parameter 'net.w' was written inside a JAX transform"):
        jax.jit(lambda x: p.assign(x).value()._get())(np.zeros(2, np.float32))
    assert p.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_hooks_see_and_change_the_gradient(mode: int) -> None:
    context.set_context(mode=mode)
    p = weight()
    seen: list[tuple[int, ...]] = []

    def watch(gradient: Tensor) -> None:
        seen.append(gradient.shape)

    watching = p.register_hook(watch)
    doubling = p.register_hook(lambda gradient: gradient * 2)
    step = value_and_grad(lambda x: (p * x).sum(), None, [p])
    x = Tensor(np.array([3.0, 4.0], np.float32))
    assert step(x)[1][0].tolist() == [6.0, 8.0]
    assert seen == [(2,)]
    doubling.remove()
    doubling.remove()
    assert step(x)[1][0].tolist() == [3.0, 4.0]
    watching.remove()
    seen.clear()
    step(x)
    assert seen == []


# The parameter server.


def test_parameter_server_needs_its_context() -> None:
    p = weight()
    with pytest.raises(
        ContextError, match="'net.w': .*context.set_ps_context.enable_ps=True. before"
    ):
        p.set_param_ps()
    assert p.is_param_ps is False
    context.set_ps_context(enable_ps=True)
    p.set_param_ps()
    assert (p.is_param_ps, p.init_in_server) == (True, False)
    p.set_param_ps(init_in_server=True)
    assert p.init_in_server is True
    assert p.clone().is_param_ps is True


# Tuples.


def test_tuple_is_a_tuple() -> None:
    p, q = weight("p"), weight("q")
    pair = ParameterTuple(x for x in (p, q))
    assert isinstance(pair, tuple)
    assert pair == (p, q)
    assert (pair[0] is p, len(pair), q in pair) == (True, 2, True)
    assert type(pair[:1]) is tuple
    assert pickle.loads(pickle.dumps(pair))[1].name == "q"
    twin = copy.deepcopy(pair)
    assert type(twin) is ParameterTuple
    assert twin[0] is not p


def test_tuple_numbers_the_unnamed() -> None:
    p, q, r = weight(None), weight("r"), weight(None)
    assert [x.name for x in ParameterTuple([p, q, r, p])] == [
        "Parameter$1",
        "r",
        "Parameter$2",
        "Parameter$1",
    ]
    assert [x.name for x in ParameterTuple([weight(None)])] == ["Parameter"]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ParameterTuple([weight(), weight()]), DuplicateNameError, "named 'net.w'"),
        (lambda: ParameterTuple(wrong([weight(), 1])), TypeError, "element 1 is a int"),
        (lambda: ParameterTuple(cast(Any, weight())), TypeError, r"got a single one: write \(p,\)"),
        (lambda: ParameterTuple(wrong(3)), TypeError, "iterable"),
        (
            lambda: ParameterTuple([weight()]).clone(wrong(1)),
            TypeError,
            "prefix must be a str, got int",
        ),
        (lambda: ParameterTuple([weight()]).clone(""), ParameterNameError, "may not be empty"),
        (lambda: ParameterTuple([weight()]).clone("a b"), ParameterNameError, "'a b' may consist"),
        (
            lambda: ParameterTuple([p := weight(), p]).clone("m"),
            DuplicateNameError,
            "named 'm.net.w'",
        ),
    ],
)
def test_tuple_errors(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_recipe_is_pickled_as_a_recipe() -> None:
    huge = Parameter(initializer("normal", [1_000_000, 4096]), name="table", requires_grad=False)
    data = pickle.dumps(huge)
    again = pickle.loads(data)
    assert len(data) < 10_000
    assert (again.has_init, again.recipe == huge.recipe) == (True, True)
    assert (again.name, again.requires_grad, again.shape) == ("table", False, (1_000_000, 4096))


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        (
            (3, 1),
            r"layout \(3, 1\) splits axis 0 into 3 shards, but 64 is not divisible by 3; a layout",
        ),
        ((1, 0), r"layout \(1, 0\) splits axis 1 into 0 shards; a layout has the number"),
        ((2,), r"layout \(2,\) has 1 numbers for 2 axes; a layout has the number"),
    ],
)
def test_layouts_say_what_does_not_fit(layout: tuple[int, ...], says: str) -> None:
    w = Parameter(Tensor(np.ones((64, 2), np.float32)), name="w")
    with pytest.raises(LayoutError, match=rf"Parameter 'w' of shape \(64, 2\): {says}"):
        w.layout = layout


def test_what_is_written_into_data_changes_the_parameter() -> None:
    param = Parameter(Tensor(np.array([1, 2, 3], np.float32)), name="p")
    param.data[0] = 9
    assert param.tolist() == [9, 2, 3]
    param.data += 1
    assert param.tolist() == [10, 3, 4]
    param.data.copy_(Tensor(np.full(3, 8, np.float32)))
    ops.assign_add(param.data, Tensor(np.ones(3, np.float32)))
    assert param.data.asnumpy().tolist() == [9, 9, 9]
    param.data = param.data * 2
    assert param.tolist() == [18, 18, 18]
