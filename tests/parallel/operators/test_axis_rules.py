"""Strategies of operators: what their rules allow gives the numbers of one device."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, ops
from paramesh.errors import LayoutError
from paramesh.ops.table import CLASSES
from paramesh.parallel.operators.axis_rules import traced
from paramesh.parallel.operators.operands import operands_of, replaced
from paramesh.parallel.operators.operator_layouts import layouts_of_call
from sharded_operator_cases import CALLS, LEFT_OUT, Call, allowed, given, rule_for, shapes_of

Numbers = list[list[np.ndarray]]


def run(call: Call, chosen: list[Any]) -> Numbers:
    """For each strategy the outputs of a call, and the gradients by its float operands."""
    operators = [call.operator().shard(strategy) for strategy in chosen]
    args = given(call)
    if call.written:
        return [written(operator, given(call), call.written) for operator in operators]
    operands = [o for o in operands_of(args) if o.value.shape]
    floats = [o for o in operands if "Float" in str(o.value.dtype)]
    others = [o for o in operands if o not in floats]

    def outputs(operator: Any, own: Any, rest: Any) -> list[Any]:
        new = {o.at: v for o, v in zip([*floats, *others], [*own, *rest], strict=True)}
        out = operator(*replaced(args, new))
        return list(out) if isinstance(out, tuple | list) else [out]

    def loss(operator: Any, rest: Any, *own: Any) -> Any:
        total: Any = 0.0
        for part in outputs(operator, own, rest):
            if "Float" in str(part.dtype):
                weights = np.linspace(0.5, 1.5, part.size, dtype=np.float32)
                total = total + (part * Tensor(weights.reshape(part.shape))).sum()
        return total

    @paramesh.jit
    def program(own: Any, rest: Any) -> Any:
        results: list[Any] = []
        for operator in operators:
            out = outputs(operator, own, rest)
            grads: Any = ()
            if floats and any("Float" in str(part.dtype) for part in out):
                of_this = functools.partial(loss, operator, rest)
                grads = paramesh.grad(of_this, tuple(range(len(floats))))(*own)
            results.append([out, grads])
        return results

    found = program([o.value for o in floats], [o.value for o in others])
    return [[leaf.asnumpy() for leaf in leaves(one)] for one in found]


def written(operator: Any, args: Any, count: int) -> list[np.ndarray]:
    """What it gives, and what its Parameters are then."""
    state = args[:count]
    program = paramesh.jit(lambda *rest: operator(*state, *rest))
    return [value.asnumpy() for value in (*leaves(program(*args[count:])), *state)]


def leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda value: isinstance(value, Tensor))


def check(call: Call, chosen: list[Any]) -> None:
    (expected,) = run(call, [None])
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    for strategy, numbers in zip(chosen, run(call, chosen), strict=True):
        for got, want in zip(numbers, expected, strict=True):
            # Sums in another order; what XLA counts twice is off by a factor.
            near = 5e-5 * max(1.0, float(np.nanmax(np.abs(want), initial=0)))
            np.testing.assert_allclose(got, want, 5e-5, near, err_msg=f"{call.id} {strategy}")


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_every_strategy_gives_the_numbers_of_one_device(call: Call) -> None:
    check(call, allowed(call))


#: Strategies that MindSpore's own tests have, or its guides.
MINDSPORE = [
    ("SparseSoftmaxCrossEntropyWithLogits", ((8, 1), (8,))),
    ("BatchNorm-True", ((1, 8, 1, 1), (8,), (8,), (8,), (8,))),
    ("MatMul", ((2, 4), (2, 4))),  # both, and the result, on one grid of devices
    ("PReLU", ((2, 4), (4,))),
    ("PReLU", ((2, 4, 1, 1), (4,))),
    ("UnsortedSegmentSum", ((8, 1), (8,))),
    ("UnsortedSegmentSum", ((2, 4), (2,))),
    ("UnsortedSegmentMax", ((2, 4), (2,))),
    ("GatherNd", ((1, 1, 1), (4, 2, 1))),
    ("OneHot", ((8, 1), (), ())),
    ("OneHot", ((2, 4), (), ())),
    ("Gather", ((2, 1), (4,))),
    ("Gather", ((2, 1), (2, 2))),
    ("GatherD", ((4, 1), (4, 2))),
    ("Tile", ((2, 4),)),
    ("Tile", ((2, 4, 1),)),
    ("Conv2DTranspose-8-2-2", ((2, 2, 1, 1), (2, 2, 1, 1))),
    ("Concat-1", ((8, 1), (8, 1))),
    ("Concat-1", (((8, 1), (8, 1)),)),
    ("Softmax", ((2, 4),)),
    ("LayerNorm", ((2, 4), (4,), (4,))),
    ("TopK", ((8, 1),)),
    ("Stack-1", ((4, 2), (4, 2))),
    ("Lerp", ((2, 4), (2, 4))),
    ("Assign", ((2, 4), (2, 4))),
]


def named(name: str, strategy: Any) -> Call:
    """The first call of that name with operands of as many axes."""
    entries = [e for part in strategy for e in (part if part and part[0] == (8, 1) else [part])]
    for call in CALLS:
        shapes = shapes_of(given(call))
        fits = [len(e) for e in entries if e] == [len(s) for s in shapes if s]
        outputs = call.name in ("OneHot", "Tile")
        if call.id == name and (fits or (outputs and _of_output(call, strategy))):
            return call
    raise LookupError(name)


def _of_output(call: Call, strategy: Any) -> bool:
    args = given(call)
    _, results = traced(args, operands_of(args), lambda a: call.operator()(*a))
    return len(results[0]) == len(strategy[0])


@pytest.mark.parametrize(("name", "strategy"), MINDSPORE, ids=lambda v: str(v).replace(" ", ""))
def test_strategies_of_mindspore(name: str, strategy: Any) -> None:
    check(named(name, strategy), [strategy])


def test_a_number_that_is_an_input_needs_no_entry() -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    lerp = ops.Lerp().shard(((2, 4), (4,)))
    start, end = Tensor(np.zeros((4, 8), np.float32)), Tensor(np.ones(8, np.float32))
    out = paramesh.jit(lambda *values: lerp(*values))(start, end, Tensor(np.float32(0.25)))
    np.testing.assert_array_equal(out.asnumpy(), np.full((4, 8), 0.25, np.float32))


@pytest.mark.parametrize("scale", [0.5, Tensor(np.float32(0.5))], ids=["number", "Tensor"])
def test_a_mask_of_dropout_needs_no_entry(scale: Any) -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    masked = ops.DropoutDoMask().shard(((2, 4),))
    x, mask = Tensor(np.ones((4, 8), np.float32)), Tensor(np.eye(4, 8, dtype=np.uint8))
    out = paramesh.jit(lambda *values: masked(*values, scale))(x, mask)
    np.testing.assert_array_equal(out.asnumpy(), 2 * np.eye(4, 8, dtype=np.float32))
    assert jnp.asarray(out).addressable_data(0).shape == (2, 2)


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (ops.UniformReal, ((8, 16),)),
        (ops.TruncatedNormal, ((8, 16),)),
        (ops.DropoutGenMask, ((8, 16), 0.5)),
        (ops.Ones, ((8, 16), paramesh.float32)),
    ],
)
def test_the_strategy_of_an_operator_without_tensors_is_that_of_its_result(
    operator: Any, args: Any
) -> None:
    found: list[np.ndarray] = []
    for strategy in (None, ((2, 4),)):
        paramesh.set_seed(3)
        if strategy is not None:
            context.set_auto_parallel_context(
                parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
            )
        made = operator().shard(strategy)
        out = paramesh.jit(lambda made=made: made(*args))()
        found.append(out.asnumpy())
    assert jnp.asarray(out).addressable_data(0).shape == (4, 4)
    np.testing.assert_array_equal(found[0], found[1])
    refused = operator().shard(((3, 1),))
    with pytest.raises(LayoutError, match=r"the strategy of output 0: .*axis 0 has size 8"):
        paramesh.jit(lambda: refused(*args))()


def test_the_strategy_of_an_operator_of_scalars_is_that_of_its_result() -> None:
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    spaced = ops.LinSpace().shard(((4,),))
    out = paramesh.jit(lambda a, b: spaced(a, b, 8))(Tensor(np.float32(1)), Tensor(np.float32(8)))
    np.testing.assert_allclose(out.asnumpy(), np.arange(1, 9), 1e-6)
    assert jnp.asarray(out).addressable_data(0).shape == (2,)


@pytest.mark.parametrize("name", ["manual_split", "manual_split_with_offset"])
def test_a_look_up_by_fields_shards_its_table_like_the_columns(name: str) -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    table = Parameter(Tensor(rows), name="table")
    look_up = ops.Gather().shard(((4, 2), (1, 4))).add_prim_attr(name, (1, 3, 2, 2))
    columns = np.random.default_rng(0).integers(0, 8, (3, 4)).astype(np.int32)
    out = paramesh.jit(lambda indices: look_up(table, indices, 0))(Tensor(columns))
    np.testing.assert_array_equal(out.asnumpy(), rows[columns])
    assert jnp.asarray(table).addressable_data(0).shape == (2, 1)
    assert jnp.asarray(out).addressable_data(0).shape == (3, 1, 1)
    look_up.shard(((4, 1), (1, 2)))
    with pytest.raises(LayoutError, match=r"into 2 shards, but another axis.* into 4"):
        paramesh.jit(lambda indices: look_up(table, indices, 0))(Tensor(columns))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ((4, 4), r"manual_split has 2 fields, \(4, 4\), but the strategy gives the table 4 sh"),
        (((5, 0), (5, 5)), r"have 10 rows, but the table of shape \(8, 2\) has 8"),
    ],
)
def test_fields_that_contradict_the_strategy(fields: Any, says: str) -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    table = Parameter(Tensor(np.ones((8, 2), np.float32)), name="table")
    look_up = ops.Gather().shard(((4, 2), (1, 4))).add_prim_attr("manual_split", fields)
    with pytest.raises(LayoutError, match=says):
        paramesh.jit(lambda n: look_up(table, n, 0))(Tensor(np.zeros((3, 4), np.int32)))


def test_gradients_by_integers_pass_a_strategy() -> None:
    product = ops.Mul().shard(((8,), (8,)))
    whole = Tensor(np.arange(8, dtype=np.int32))
    derived = paramesh.jit(paramesh.grad(lambda x: product(x, x).sum()))
    expected = derived(whole).asnumpy()
    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    np.testing.assert_array_equal(derived(whole).asnumpy(), expected)
    assert expected.tolist() == [2 * n for n in range(8)]


def test_every_operator_of_tensors_has_a_case() -> None:
    covered = {form for call in CALLS for form in CLASSES[call.name].operator.classes.values()}
    missing = [n for n, form in CLASSES.items() if form not in covered and n not in LEFT_OUT]
    assert missing == []


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.name != "Tile"], ids=lambda call: call.id
)
def test_refusals_name_operator_input_axis_and_reason(call: Call) -> None:
    args = given(call)
    rule, shapes = rule_for(call, args), shapes_of(args)
    operator = call.operator()
    for labels, shape in zip(rule.inputs, shapes, strict=True):
        for axis, label in enumerate(labels):
            if label not in rule.unsharded or shape[axis] % 2:
                continue
            strategy = [[1] * len(own) for own in shapes]
            for other, own in enumerate(rule.inputs):
                for place, name in enumerate(own):
                    if name == label and shapes[other][place] > 1:
                        strategy[other][place] = 2
            with pytest.raises(LayoutError) as caught:
                layouts_of_call(
                    call.name,
                    tuple(map(tuple, strategy)),
                    args,
                    8,
                    operator.settings,
                    lambda a: operator(*a),
                )
            message = str(caught.value)
            first = next(n for n, numbers in enumerate(strategy) if 2 in numbers)
            assert message.startswith(f"{call.name}: input {first} of shape {shapes[first]}")
            assert f"splits axis {strategy[first].index(2)} into 2 shards" in message
            assert f"(by {rule.unsharded[label]})" in message


@pytest.mark.parametrize(
    ("name", "strategy", "message"),
    [
        ("MatMul", ((8, 4), (8, 2)), r"input 1 .*splits axis 0 into 8 shards.* into 4"),
        ("PReLU", ((2, 4), (2,)), r"input 1 .*splits axis 0 into 2 shards.* into 4"),
        ("UnsortedSegmentSum", ((2, 1), (4,)), r"input 1 .*axis 0 into 4 shards.* into 2"),
        ("UnsortedSegmentMin", ((2, 1), (4,)), r"input 1 .*axis 0 into 4 shards.* into 2"),
        ("OneHot", ((3, 1), (), ()), r"axis 0 has size 8, .*into 3 equal shards"),
        ("Tile", ((2, 8),), r"axis 1 of the output.*into 8 shards, but it comes in 4 blocks"),
        ("MatMul", ((2, 1),), r"has 1 entries, but there are 2 inputs"),
    ],
)
def test_refusals(name: str, strategy: Any, message: str) -> None:
    call = next(c for c in CALLS if c.name == name)
    if name == "OneHot" or (name == "Tile"):
        call = next(c for c in CALLS if c.name == name and _of_output(c, strategy))
    args, operator = given(call), call.operator()
    with pytest.raises(LayoutError, match=message) as caught:
        layouts_of_call(name, strategy, args, 32, operator.settings, lambda a: operator(*a))
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ValueError)


def test_outputs_are_sharded_as_the_axis_rule_says() -> None:
    """The compiled program, not only the numbers: a sum over what is sharded, and nothing else."""
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    softmax = ops.Softmax().shard(((8, 1),))
    x = Tensor(np.ones((8, 16), np.float32))
    out = paramesh.jit(lambda value: softmax(value))(x)
    assert jnp.asarray(out).addressable_data(0).shape == (1, 16)
    tiled = ops.Tile().shard(((2, 4),))
    out = paramesh.jit(lambda value: tiled(value, (1, 4)))(x)
    assert jnp.asarray(out).addressable_data(0).shape == (4, 16)


class TestConditioning:
    """Large differences between one device and eight are those of Float32, not of a fault."""

    def test_tan_of_a_product_is_as_near_to_the_truth(self) -> None:
        draw = np.random.default_rng(0)
        a, b = (draw.random(shape, np.float32) for shape in ((64, 32), (32, 64)))
        found: list[np.ndarray] = []
        for cut in (False, True):
            product, tan = ops.MatMul(), ops.Tan()
            if cut:
                context.set_auto_parallel_context(
                    parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
                )
                product.shard(((2, 4), (4, 1)))
                tan.shard(((2, 4),))
            program = paramesh.jit(lambda x, y, p=product, t=tan: t(p(x, y)))
            found.append(program(Tensor(a), Tensor(b)).asnumpy())
        true = np.tan(a.astype(np.float64) @ b.astype(np.float64))
        one, strategy_error = (np.abs(out / true - 1).max() for out in found)
        assert one > 1e-4  # a product that is right to 4e-7
        assert strategy_error < 3 * one

    def test_gradients_that_are_zero_before_a_layer_norm(self) -> None:
        draw = np.random.default_rng(0)
        a, b = (draw.random(shape, np.float32) for shape in ((64, 32), (32, 64)))
        norm, product = ops.LayerNorm(), ops.MatMul()
        ones, zeros = (Tensor(np.full(64, n, np.float32)) for n in (1, 0))
        context.set_auto_parallel_context(
            parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
        )
        norm.shard(((2, 4), (4,), (4,)))
        product.shard(((2, 1), (1, 4)))
        grad = paramesh.grad(lambda w: norm(product(Tensor(a), w), ones, zeros)[0].sum())
        size = float(np.abs(paramesh.jit(grad)(Tensor(b)).asnumpy()).max())
        assert 0 < size < 1e-4  # nothing but rounding
