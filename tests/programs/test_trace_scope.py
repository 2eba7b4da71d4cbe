"""What a traced function makes, and what it may not leave outside: errors that name it."""

from __future__ import annotations

import dataclasses
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn
from paramesh.errors import TraceError
from programs.networks import Affine, Deep, X
from type_checks import wrong

X2 = Tensor(np.ones((1, 2), np.float32))

#: Ways to have a function compiled.
COMPILED: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "jit": paramesh.jit,
    "grad": paramesh.grad,
    "value_and_grad": paramesh.value_and_grad,
    "GradOperation": lambda f: paramesh.GradOperation()(f),
    "jit of grad": lambda f: paramesh.jit(paramesh.grad(f)),
    "grad in jit": lambda f: paramesh.jit(lambda x: paramesh.value_and_grad(f)(x)),
    "remat": lambda f: paramesh.jit(paramesh.remat(f)),
    "vmap": lambda f: paramesh.jit(paramesh.vmap(f)),
    "scan": lambda f: paramesh.jit(
        lambda x: paramesh.scan(lambda c, _: (c + f(x), c), 0.0, length=2)
    ),
    "fori_loop": lambda f: paramesh.jit(
        lambda x: paramesh.fori_loop(0, 2, lambda i, v: v + f(x), 0.0)
    ),
    "cond": lambda f: paramesh.jit(lambda x: paramesh.cond(True, f, f, x)),
    "Cell": lambda f: _Calling(f),
}


class _Calling(nn.Cell):
    def __init__(self, fn: Callable[[Any], Any]) -> None:
        super().__init__()
        self.fn = fn

    def construct(self, x: Any) -> Any:
        return self.fn(x)


def _a_layer(x: Any) -> Any:
    return nn.Dense(2, 2)(x).sum()


def _an_optimizer(x: Any) -> Any:
    nn.Momentum([_OUTSIDE], 0.1, 0.9)
    return (x * _OUTSIDE).sum()


def _a_parameter(x: Any) -> Any:
    return (x * Parameter(Tensor([1.0, 1.0]), name="inside")).sum()


def _a_clone(x: Any) -> Any:
    return (x * _OUTSIDE.clone()).sum()


_OUTSIDE = Parameter(Tensor([1.0, 2.0]), name="outer")


class TestMadeInside:
    @pytest.mark.parametrize("way", COMPILED)
    def test_a_layer(self, way: str) -> None:
        text = r"creates a Dense \(with the Parameter 'weight'\).*Create it outside"
        with pytest.raises(TraceError, match=text) as caught:
            COMPILED[way](_a_layer)(X2)
        assert "test_trace_scope.py" in str(caught.value)
        assert "nn.Dense(2, 2)(x).sum()" in str(caught.value)

    @pytest.mark.parametrize(
        ("fn", "text"),
        [
            (_an_optimizer, r"creates a Momentum \(with the Parameter 'global_step'\)"),
            (_a_parameter, "creates Parameter 'inside'"),
            (_a_clone, "creates Parameter 'outer'"),
        ],
    )
    def test_other_kinds(self, fn: Callable[[Any], Any], text: str) -> None:
        with pytest.raises(TraceError, match=text):
            paramesh.jit(fn)(X2)

    def test_without_compiling_it_is_allowed(self) -> None:
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        assert paramesh.grad(_a_layer)(X2).shape == (1, 2)

    def test_new_parameters_in_each_trace(self) -> None:
        made = [Parameter(1.0, name=f"p{i}") for i in range(20)]
        rest = iter(made)
        with pytest.raises(
            TraceError, match=r"traced 12 times(.|\n)*trace 1: 'p0'\n  trace 2: 'p1'"
        ):
            paramesh.jit(lambda: next(rest) * 2.0)()

    def test_a_cell_without_parameters(self) -> None:
        net = Affine()
        optimizer = nn.SGD(net.trainable_params()[:1], 0.01)
        gradients = paramesh.value_and_grad(
            lambda x: nn.MSELoss()(nn.SequentialCell(net, nn.ReLU())(x), x.sum()),
            None,
            optimizer.parameters,
        )

        @paramesh.jit
        def step(x: Any) -> Any:
            loss, grads = gradients(x)
            optimizer(grads)
            return loss

        for _ in range(4):
            net.set_train(False)
            step(Tensor(X))
        assert step.traces == 1
        net.set_train(True)  # it is inside the Cell that is made there
        step(Tensor(X))
        assert step.traces == 2


class TestMadeInALoop:
    def test_transforms(self) -> None:
        net = Affine()
        traced = []

        def loss(x: Any) -> Any:
            traced.append(x)
            return (net(x) ** 2).sum()

        for _ in range(3):
            paramesh.grad(loss, None, [net.w, net.b])(Tensor(X))
        assert len(traced) == 1
        for _ in range(3):
            paramesh.jit(loss)(Tensor(X))
        assert len(traced) == 2
        paramesh.grad(loss, None, [net.b])(Tensor(X))  # another way
        assert len(traced) == 3
        for _ in range(3):
            paramesh.jit(net)(Tensor(X))
        copied = type(net).__new__(type(net))
        copied.__setstate__(net.__getstate__())
        assert paramesh.jit(copied)._executables is not paramesh.jit(net)._executables

    def test_two_networks_of_one_shape(self) -> None:
        nets = [Deep(2), Deep(2)]
        run = paramesh.jit(lambda net, x: net(x))
        for _ in range(3):
            for net in nets:
                net.set_train()
                run(net, Tensor(X))
        assert run.traces == 2


class Counting(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.w = Parameter(Tensor([1.0, 1.0]))

    def construct(self, x: Any) -> Any:
        self.calls += 1
        return x * self.w


class Keeping(Counting):
    def construct(self, x: Any) -> Any:
        self.last = x * self.w
        return self.last


class Listing(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def construct(self, x: Any) -> Any:
        self.seen.append(x)
        return x * self.w


class Caching(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.mask: Any = None
        self.shape: Any = None

    def construct(self, x: Any) -> Any:
        self.shape = x.shape
        if self.mask is None:
            self.mask = Tensor(np.tril(np.ones(x.shape, np.float32)))
        return x * self.mask * self.w


class TestAttributes:
    def test_a_count(self) -> None:
        net = Counting()
        with pytest.raises(TraceError, match=r"Counting.calls each time \(from 1 to 2\)") as caught:
            net(X2)
        assert "self.calls += 1" in str(caught.value)
        assert net.calls == 0
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        net(X2)
        net(X2)
        assert net.calls == 2

    @pytest.mark.parametrize("cls", [Keeping, Listing])
    def test_a_traced_value(self, cls: type[nn.Cell]) -> None:
        net = cls()
        where = "Keeping.last" if cls is Keeping else "Listing.seen"
        with pytest.raises(TraceError, match=f"leaves a traced value in the attribute {where}"):
            net(X2)
        assert not getattr(net, "last", None)
        assert not getattr(net, "seen", None)
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        net(X2)
        kept = net.last if cls is Keeping else net.seen[0]
        assert kept.asnumpy().tolist() == [[1, 1]]

    def test_of_a_gradient_that_is_not_compiled(self) -> None:
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        net = Keeping()
        paramesh.grad(lambda x: net(x).sum(), 0, [net.w])(X2)
        assert net.last.asnumpy().tolist() == [[1, 1]]

    def test_one_that_settles(self) -> None:
        net = Caching()
        x = Tensor(np.ones((2, 2), np.float32))
        for _ in range(3):
            assert net(x).asnumpy().tolist() == [[1, 0], [1, 1]]
        assert net.shape == (2, 2)
        assert net._program().traces == 2

    def test_an_error_takes_it_back(self) -> None:
        net = Caching()
        net.w = wrong(None)
        with pytest.raises(TypeError, match="NoneType"):
            net(X2)
        assert (net.mask, net.shape) == (None, None)


class TestElements:
    @pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
    @pytest.mark.parametrize("way", ["jit", "grad", "grad in jit", "scan"])
    def test_of_a_tensor_from_outside(self, way: str, mode: int) -> None:
        paramesh.set_context(mode=mode)
        outside = Tensor(np.zeros(2, np.float32))

        def writes(x: Any) -> Any:
            outside[0] = x.sum()
            return (outside * x).sum()

        with pytest.raises(TraceError, match=r"elements of a Tensor of shape \(2,\)") as caught:
            COMPILED[way](writes)(X2)
        assert "outside[0] = x.sum()" in str(caught.value)
        assert outside.asnumpy().tolist() == [0, 0]

    def test_of_its_own(self) -> None:
        def writes(x: Any) -> Any:
            inside = Tensor(np.zeros(2, np.float32))
            inside[0] = x.sum()
            again: list[Any] = [inside]
            again.append(again)  # freed by the collector alone
            return inside

        assert paramesh.jit(writes)(X2).asnumpy().tolist() == [2, 0]
        got = paramesh.grad(lambda x: (writes(x) * 2.0).sum())(X2)
        assert got.asnumpy().tolist() == [[2, 2]]


#: What asks a Tensor for its numbers.
ASKING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "if": (lambda x: 1.0 if x.sum() > 0 else 2.0, r"bool\(\) of a Tensor.*shape \(\), dtype bool"),
    "float": (lambda x: float(x.sum()), r"float\(\) of a Tensor"),
    "int": (lambda x: int(x.sum()), r"int\(\) of a Tensor"),
    "index": (lambda x: [1, 2][x.sum().astype("int32")], r"int\(\) of a Tensor"),
    "in": (lambda x: 1.0 in x, "`in` of a Tensor"),
    "item": (lambda x: x.sum().item(), r"item\(\) of a Tensor"),
    "asnumpy": (lambda x: x.asnumpy(), r"The values.*\(1, 2\), dtype float32"),
    "numpy": (lambda x: np.sin(x), r"The values \(asnumpy\(\), a function of numpy\)"),
    "tolist": (lambda x: x.tolist(), "The values"),
}


@pytest.mark.parametrize("name", ASKING)
def test_asking_a_traced_tensor_for_its_numbers(name: str) -> None:
    fn, text = ASKING[name]

    @paramesh.jit
    def asks(x: Any) -> Any:
        return fn(x)

    with pytest.raises(TraceError, match=text) as caught:
        asks(X2)
    for part in ('test_trace_scope.py", line', "paramesh.cond", "ops.where", "PYNATIVE_MODE"):
        assert part in str(caught.value)


class Batch:
    pass


class Trainer:
    """An object whose method is compiled, and which holds Tensors that are constants."""

    def __init__(self) -> None:
        self.offset = Tensor([1.0, 1.0])

    @paramesh.jit
    def run(self, x: Any) -> Any:
        return x + self.offset


class TestObjects:
    def test_with_a_tensor(self) -> None:
        batch, other = Batch(), Batch()
        batch.x = Tensor([1.0])  # type: ignore[attr-defined]
        other.rows = {"a": [np.ones(3)]}  # type: ignore[attr-defined]
        total = paramesh.jit(lambda b: b.x.sum())
        with pytest.raises(
            TypeError, match="object of class Batch, whose attribute 'x' is a Tensor"
        ):
            total(batch)
        with pytest.raises(TypeError, match="class Batch, whose attribute 'rows'"):
            total(other)
        with pytest.raises(TypeError, match="argument 'b' is an object of class Batch"):
            paramesh.jit(lambda b: b.x, static_argnames=("b",))(b=batch)

    def test_without(self) -> None:
        batch = Batch()
        batch.size = 3  # type: ignore[attr-defined]
        batch.param = Parameter(2.0)  # type: ignore[attr-defined]
        run = paramesh.jit(lambda b: b.param * float(b.size))
        assert float(run(batch)) == 6
        batch.param.set_data(5.0)  # type: ignore[attr-defined]
        assert float(run(batch)) == 15

    def test_self(self) -> None:
        assert Trainer().run(Tensor([1.0, 2.0])).asnumpy().tolist() == [2, 3]


@dataclasses.dataclass
class Scores:
    best: Any
    count: int


class Named(OrderedDict[str, Any]):
    """What some libraries return from a network."""


def _later(x: Any) -> Any:
    yield x


#: {name: (what a function returns, the text of the error)}.
CARRIERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dataclass": (lambda x: Scores(x, 1), "a Scores with .*jax.tree_util.register_dataclass"),
    "nested": (lambda x: {"a": [Scores([x], 1)]}, "a Scores with traced Tensors"),
    "subclass": (lambda x: Named(a=x), "a Named with .*register_pytree_node"),
    "set": (lambda x: {x}, "a set with traced Tensors in it, which would never get values"),
    "closure": (lambda x: lambda: x, "a function with traced Tensors"),
    "deque": (lambda x: deque([x]), r"a deque with .* Return one of these\."),
    "generator": (_later, "a generator, which would run after the trace"),
    "reversed": (lambda x: reversed([x]), "a list_reverseiterator, which would run after the"),
    "endless": (lambda x: zip(itertools.repeat(1)), "a zip of more than 100,000 elements"),
}
#: Ways in which a function returns more than a number.
RETURNING: dict[str, Callable[[Any], Any]] = {
    "jit": paramesh.jit,
    "aux": lambda f: paramesh.value_and_grad(lambda x: (x.sum(), f(x)), has_aux=True),
    "remat": lambda f: paramesh.jit(lambda x: (paramesh.remat(f)(x), 0)[1]),
}
#: Ways in which it gives what was returned.
GIVING: dict[str, Callable[[Any], Any]] = {
    "jit": paramesh.jit,
    "remat": lambda f: paramesh.jit(paramesh.remat(f)),
    "aux": lambda f: lambda x: RETURNING["aux"](f)(x)[0][1],
    "jvp": lambda f: lambda x: paramesh.jvp(lambda x: (x.sum(), f(x)), x, x, has_aux=True)[2],
}


@pytest.mark.parametrize("way", RETURNING)
@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.filterwarnings("ignore:Python iterable type:DeprecationWarning")
def test_a_result_that_a_program_cannot_give(name: str, way: str) -> None:
    returned, text = CARRIERS[name]
    for mode in (paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE):
        paramesh.set_context(mode=mode)
        with pytest.raises(TraceError, match=f"returns {text}"):
            RETURNING[way](returned)(X2)


#: {what a function returns: what its program returns, as MindSpore's graphs do}.
FINISHED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "map of a tuple": (lambda x: map(lambda a: a + 1, (x, x)), (3, 3)),
    "map of lists": (lambda x: map(lambda a, b: a + b, [x, x], [1, 2]), [3, 4]),
    "map of both": (lambda x: map(lambda a, b: a + b, [x, x], (1, 2)), (3, 4)),
    "zip": (lambda x: {"k": [zip([x, 1], (2, x), strict=True)]}, {"k": [((2, 2), (1, 2))]}),
    "enumerate": (lambda x: enumerate((x,)), ((0, 2),)),
    "filter": (lambda x: filter(lambda a: a > 0, (1, -1, 2)), [1, 2]),
    "range": (lambda x: (range(3), x), ((0, 1, 2), 2)),
    "items": (lambda x: {"a": x}.items(), [("a", 2)]),
    "keys": (lambda x: {"a": x}.keys(), ("a",)),
    "values": (lambda x: {"a": map(abs, (x,))}.values(), ((2,),)),
}


@pytest.mark.parametrize("way", GIVING)
@pytest.mark.parametrize("name", FINISHED)
def test_iterators_among_results_are_run_in_the_trace(name: str, way: str) -> None:
    returned, expected = FINISHED[name]

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: numbers(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(map(numbers, value))
        return value if isinstance(value, str) else int(value)

    assert numbers(GIVING[way](returned)(Tensor([2.0]))) == expected


def test_a_result_without_traced_values() -> None:
    scores, add = Scores(Parameter(2.0), 1), [1.0].append
    assert paramesh.jit(lambda x: (scores, add, {1}, x))(X2)[:3] == (scores, add, {1})


#: JAX's own transforms, around a step that gets nothing of what they trace.
AROUND: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "jit": lambda step: jax.jit(step)(),
    "vmap": lambda step: jax.vmap(lambda _: step())(jnp.zeros(2)),
    "grad": lambda step: jax.grad(lambda x: x * step())(1.0),
    "fori_loop": lambda step: jax.lax.fori_loop(0, 3, lambda _, __: step(), jnp.float32(0)),
    "checkpoint": lambda step: jax.jit(jax.checkpoint(step))(),
}


@pytest.mark.parametrize("around", AROUND)
def test_a_compiled_step_inside_of_a_transform_of_jax(around: str) -> None:
    """It would run once, while the transform is traced, and never again."""
    count = Parameter(Tensor(0.0), name="count")
    step = paramesh.jit(lambda: count.set_data(count + 1).sum())
    for made in range(2):  # also when the program is there
        with pytest.raises(TraceError, match="'count' was written inside a JAX transform"):
            AROUND[around](lambda: jnp.asarray(step()))
        assert float(count) == made
        step()
    values = paramesh.jit(lambda: count * 2)
    assert float(jax.jit(lambda: jnp.asarray(values()))()) == 4  # reading is none of their business
    with jax.ensure_compile_time_eval():
        step()
    assert float(count) == 3


def test_messages_name_the_users_line_and_none_of_paramesh() -> None:
    def decide(x: Tensor) -> Tensor:
        while x > 1:
            return x
        return -x

    with pytest.raises(TraceError, match=r"in decide\n    while x > 1:") as caught:
        paramesh.jit(decide)(Tensor(1.0))
    assert str(caught.value).count('  File "') == 1
    assert f'File "{__file__}"' in str(caught.value)


class Collecting(nn.Cell):
    """Writes to its containers, and then fails as it is told to."""

    def __init__(self, fail: Callable[[Collecting, Tensor], object]) -> None:
        super().__init__()
        self.inner = nn.Dense(1, 1)
        self.rows: list[Any] = ["first"]
        self.known: dict[str, Any] = {"a": 1}
        self.seen = {3}
        self.fail, self.last = fail, None

    def construct(self, x: Tensor) -> Tensor:
        self.rows.extend([len(self.rows), x])
        self.known["b"], self.known["a"] = x, 2
        self.seen.add(len(self.seen))
        self.fail(self, x)
        return x

    def held(self) -> tuple[Any, ...]:
        return list(self.rows), dict(self.known), set(self.seen)


def keep(cell: Collecting, x: Tensor) -> None:
    cell.last = x  # type: ignore[assignment]


@pytest.mark.parametrize(
    "fail", [lambda cell, x: x.asnumpy(), lambda cell, x: 1 / 0, keep], ids=["value", "any", "leak"]
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_a_trace_that_fails_leaves_containers_of_cells_alone(fail: Any, inside: bool) -> None:
    cell = Collecting(fail)
    before = cell.held()
    function = nn.SequentialCell(cell) if inside else cell
    for _ in range(2):
        with pytest.raises((TraceError, ZeroDivisionError)):
            function(Tensor([[1.0]]))
        assert cell.held() == before
        assert cell.last is None
