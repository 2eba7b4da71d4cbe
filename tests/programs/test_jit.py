"""Compiled programs: what they take in, hand out, bake in, and leave alone."""

from __future__ import annotations

import functools
import gc
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn
from paramesh.errors import TraceError
from paramesh.initializer import initializer
from paramesh.state import tracing
from paramesh.transforms import CompiledFunction
from programs.networks import Affine, X, same, values
from type_checks import wrong


def training(net: Affine) -> CompiledFunction:
    gradients = paramesh.value_and_grad(lambda x: (net(x) ** 2).mean(), None, [net.w, net.b])

    @paramesh.jit
    def step(x: Any, rate: float) -> Any:
        loss, grads = gradients(x)
        for param, grad in zip((net.w, net.b), grads, strict=True):
            param.assign(param - rate * grad)
        return loss

    return step


class TestWhatAProgramTouches:
    def test_found_while_tracing(self) -> None:
        net = Affine().set_train()
        entry = training(net).trace(Tensor(X), 0.1)
        assert set(entry.donated) == {net.w, net.b, net.mean}
        assert set(entry.written) == {net.w, net.b, net.mean}
        assert entry.kept == []

    def test_read_only_parameters_are_not_donated(self) -> None:
        net = Affine()
        entry = net._program().trace(Tensor(X))
        assert set(entry.kept) == {net.w, net.b}
        assert entry.donated == entry.written == []

    def test_unread_parameters_are_no_inputs(self) -> None:
        net = Affine()
        unused = Parameter(initializer("normal", [1000, 1000]), name="unused")
        net.unused = unused
        net(Tensor(X))
        assert unused.has_init

    def test_written_and_never_read(self) -> None:
        target = Parameter(Tensor(np.zeros(3, np.float32)), name="target")
        entry = paramesh.jit(lambda x: target.assign(x)).trace(Tensor(np.ones(3, np.float32)))
        assert entry.donated == entry.kept == []
        assert entry.written == [target]

    def test_a_recipe_that_is_overwritten_never_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        target = Parameter(initializer("normal", [3]), name="target")

        def runs(recipes: Any) -> Any:
            raise AssertionError(f"ran {recipes}")

        monkeypatch.setattr("paramesh.state.purposes.compute_many", runs)
        fill = paramesh.jit(lambda x: target.assign(x))
        for start in (1.0, 2.0):
            assert target.has_init
            fill(Tensor(np.full(3, start, np.float32)))
            assert not target.has_init
            assert target.recipe is None
            assert target.asnumpy().tolist() == [start] * 3
            target.set_data(initializer("normal", [3]))
        assert fill.traces == 1

    @pytest.mark.parametrize("hide", ["closure", "list", "dict", "nowhere"])
    def test_hints_only_save_a_trace(self, hide: str) -> None:
        param = Parameter(Tensor(np.float32(2.0)), name="hidden")
        holders: dict[str, Callable[[], Any]] = {
            "closure": lambda: param,
            "list": lambda items=[param]: items[0],
            "dict": lambda: {"p": param}["p"],
            "nowhere": lambda: next(p for p in gc.get_objects() if p is param),
        }
        get = holders[hide]
        program = paramesh.jit(lambda x: get() * x)
        assert float(program(3.0)) == 6.0
        assert program.traces <= 2
        param.set_data(5.0)
        assert float(program(3.0)) == 15.0
        assert program.traces <= 2

    def test_buffers_in_and_out_of_a_step(self) -> None:
        net = nn.SequentialCell([nn.Dense(4, 4) for _ in range(5)])
        adam = nn.Adam(net.trainable_params(), learning_rate=0.1)
        gradients = paramesh.value_and_grad(
            lambda x: (net(x) ** 2).mean(), None, net.trainable_params()
        )

        @paramesh.jit
        def step(x: Any) -> Any:
            loss, grads = gradients(x)
            adam(grads)
            return loss

        entry = step.trace(Tensor(np.ones((2, 4), np.float32)))
        # The weights and two moments, each in one array; the step count and powers of the betas.
        assert len(entry.donated) == 6
        assert set(entry.written) == set(entry.donated)


class TestTraces:
    def test_one_for_many_calls(self) -> None:
        net = Affine().set_train()
        step = training(net)
        for i in range(5):
            step(Tensor(X), 0.1 / (i + 1))
        assert step.traces == 1

    def test_shapes_and_dtypes(self) -> None:
        double = paramesh.jit(lambda x: x * 2)
        for x in (X, X[:2], X.astype(np.float16), X, X[:2]):
            assert double(Tensor(x)).dtype == Tensor(x).dtype
        assert double.traces == 3

    def test_going_back_to_a_known_state_costs_none(self) -> None:
        net = Affine()
        for flag in (True, False, True, False):
            net.set_train(flag)
            net(Tensor(X))
        assert net._program().traces == 2

    @pytest.mark.parametrize(
        "change",
        [
            lambda net: setattr(net.b, "requires_grad", False),
            lambda net: setattr(net, "b", Parameter(Tensor(np.ones(4, np.float32)))),
            lambda net: setattr(net, "scale", 3),
            lambda net: [
                p.set_data(Tensor(np.ones((*p.shape[:-1], 2), np.float32)), slice_shape=True)
                for p in net.get_parameters()
            ],
            lambda net: net.to_float(paramesh.float16),
            lambda net: net.register_forward_hook(lambda cell, x, y: y * 2),
        ],
        ids=["requires_grad", "replaced", "attribute", "shape", "to_float", "hook"],
    )
    def test_a_change_costs_one_and_is_seen(self, change: Callable[[Any], Any]) -> None:
        net = Affine()
        net(Tensor(X))
        change(net)
        got = net(Tensor(X))
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        expected = net(Tensor(X))
        paramesh.set_context(mode=paramesh.GRAPH_MODE)
        net(Tensor(X))
        assert net._program().traces == 2
        tolerance = 1e-2 if got.dtype is paramesh.float16 else 1e-6
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), atol=tolerance)

    def test_set_data_of_the_same_kind_costs_none(self) -> None:
        net = Affine()
        net(Tensor(X))
        net.w.set_data(Tensor(np.ones((3, 4), np.float32)))
        np.testing.assert_allclose(net(Tensor(X)).asnumpy(), X @ np.ones((3, 4)), atol=1e-6)
        assert net._program().traces == 1

    def test_equal_attribute_costs_none(self) -> None:
        net = Affine()
        net.scale = 2
        net(Tensor(X))
        net.scale = 2
        net(Tensor(X))
        assert net._program().traces == 1

    def test_many_constants_are_warned_of(self) -> None:
        program = paramesh.jit(lambda x, n: x + n)
        for n in range(15):
            program(Tensor(X), n)
        with pytest.warns(UserWarning, match="pass a Tensor"):
            program(Tensor(X), 15)


class TestArguments:
    def test_constants_and_inputs(self) -> None:
        def pick(x: Any, n: int, flag: bool, name: str, rate: float) -> Any:
            assert isinstance(n, int)
            assert isinstance(rate, jax.Array)
            return (x[n] if flag else x) * rate, name

        program = paramesh.jit(pick)
        out, name = program(Tensor(X), 1, True, "a", 2.0)
        assert name == "a"
        np.testing.assert_allclose(out.asnumpy(), X[1] * 2)
        program(Tensor(X), 1, True, "a", 3.0)
        assert program.traces == 1
        program(Tensor(X), True, True, "a", 3.0)  # 1 == True, but another program
        assert program.traces == 2

    def test_static_arguments(self) -> None:
        program = paramesh.jit(lambda x, rate: x * rate, static_argnames=["rate"])
        program(Tensor(X), rate=2.0)
        np.testing.assert_allclose(program(Tensor(X), rate=3.0).asnumpy(), X * 3)
        assert program.traces == 2
        by_position = paramesh.jit(lambda x, n: x.reshape(n), static_argnums=[1])
        assert by_position(Tensor(X), (15,)).shape == (15,)

    def test_unhashable_constant(self) -> None:
        class Odd:
            __hash__ = None  # type: ignore[assignment]

        with pytest.raises(TypeError, match="must be hashable"):
            paramesh.jit(lambda x, odd: x)(Tensor(X), Odd())

    @pytest.mark.parametrize(
        "array", [np.array(["a"]), np.array([1], object), np.array(["2026-01-01"], "M8[D]")]
    )
    def test_an_array_of_no_numbers_in_a_container(self, array: Any) -> None:
        with pytest.raises(TypeError, match=f"array of dtype {re.escape(str(array.dtype))}, and"):
            paramesh.jit(lambda d: d["a"])({"a": array})

    def test_a_text_of_numpy_is_a_constant(self) -> None:
        program = paramesh.jit(lambda x, how: x * 2 if how == "twice" else x)
        np.testing.assert_array_equal(program(Tensor(X), np.str_("twice")).asnumpy(), X * 2)

    def test_not_callable(self) -> None:
        with pytest.raises(TypeError, match="takes a function or a Cell, got int"):
            paramesh.jit(wrong(3))

    def test_containers_in_and_out(self) -> None:
        program = paramesh.jit(lambda d: {"sum": d["a"] + d["b"][0], "none": None, "n": 3})
        out: dict[str, Any] = program({"a": Tensor(X), "b": [Tensor(X)]})
        assert out["none"] is None
        assert out["n"] == 3
        np.testing.assert_allclose(out["sum"].asnumpy(), 2 * X)

    def test_arrays_of_numpy_and_jax(self) -> None:
        program = paramesh.jit(lambda x: jnp.sum(x))
        assert float(program(X)) == float(program(jnp.asarray(X))) == pytest.approx(0, abs=1e-5)

    def test_a_parameter_as_argument_is_itself(self) -> None:
        param = Parameter(Tensor(X), name="p")

        @paramesh.jit
        def double(p: Parameter) -> None:
            p.assign(p * 2)

        double(param)
        np.testing.assert_allclose(param.asnumpy(), X * 2)

    def test_methods(self) -> None:
        class Trainer:
            def __init__(self) -> None:
                self.net = Affine()

            @paramesh.jit
            def run(self, x: Any) -> Any:
                return self.net(x) * 2

        trainer = Trainer()
        out = trainer.run(Tensor(X))
        np.testing.assert_allclose(out.asnumpy(), 2 * trainer.net(Tensor(X)).asnumpy(), rtol=1e-6)

    def test_64_bit_data_keeps_its_bits(self) -> None:
        big = np.array([2**40, 1], np.int64)
        program = paramesh.jit(lambda a, b: (a + 1, b / 3, a.argmax()))
        ints, floats, index = program(Tensor(big), Tensor(np.array([1.0])))
        assert ints.asnumpy().tolist() == [2**40 + 1, 2]
        assert floats.asnumpy().tolist() == [1 / 3]
        assert index.dtype is paramesh.int64
        assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]

    def test_64_bit_data_met_inside(self) -> None:
        program = paramesh.jit(lambda x: x.astype(paramesh.float64) / 3)
        assert program(Tensor(np.float32(1.0))).asnumpy() == 1 / 3


class TestNothingHeldIsInvalidated:
    DOORS: tuple[tuple[str, Callable[[Parameter], Any]], ...] = (
        ("value", lambda p: p.value()),
        ("Tensor", Tensor),
        ("clone", lambda p: p.clone()),
        ("set_data", lambda p: Parameter(Tensor(np.zeros((3, 4), np.float32))).set_data(p)),
        ("jnp.asarray", jnp.asarray),
        ("np.asarray", np.asarray),
        ("asnumpy", lambda p: p.asnumpy()),
        ("reshape to itself", lambda p: p.reshape(3, 4)),
        ("cast to itself", lambda p: p.astype(paramesh.float32)),
        ("an output", lambda p: paramesh.jit(lambda: p)()),
        ("dlpack", np.from_dlpack),
        ("shard", lambda p: p.value()._get().addressable_shards[0].data),
        ("tree leaf", lambda p: jax.tree_util.tree_leaves(p)[0]),
        ("pytree", lambda p: jax.tree_util.tree_map(lambda a: a, [p])),
        ("attribute of the array", lambda p: jnp.asarray(p).addressable_data(0)),
    )

    @pytest.mark.parametrize(("door", "take"), DOORS, ids=[name for name, _ in DOORS])
    def test_by_later_steps(self, door: str, take: Callable[[Parameter], Any]) -> None:
        net = Affine().set_train()
        step = training(net)
        step(Tensor(X), 0.1)
        held = take(net.w)
        before = np.array(jax.tree_util.tree_leaves(held)[0])
        for _ in range(3):
            step(Tensor(X), 0.1)
        after = np.array(jax.tree_util.tree_leaves(held)[0])
        np.testing.assert_array_equal(before, after)
        assert not np.array_equal(after, net.w.asnumpy())

    def test_arrays_nobody_holds_are_given_away(self) -> None:
        net = Affine().set_train()
        step = training(net)
        step(Tensor(X), 0.1)
        alive = len(jax.live_arrays())
        for _ in range(3):
            step(Tensor(X), 0.1)
        assert len(jax.live_arrays()) == alive

    def test_two_parameters_of_one_array(self) -> None:
        start = Tensor(np.ones(3, np.float32))
        a, b = Parameter(start, name="a"), Parameter(start, name="b")

        @paramesh.jit
        def step() -> None:
            a.assign(a + 1)
            b.assign(b + 2)

        step()
        step()
        assert a.asnumpy().tolist() == [3, 3, 3]
        assert b.asnumpy().tolist() == [5, 5, 5]
        assert start.asnumpy().tolist() == [1, 1, 1]


class TestFailuresLeaveEverythingAsItWas:
    def test_exception_while_tracing(self) -> None:
        net = Affine()
        net(Tensor(X))
        before = values(net)

        @paramesh.jit
        def fails(x: Any) -> Any:
            net.w.assign(net.w * 2)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails(Tensor(X))
        assert same(before, values(net))
        assert tracing.current() is None

    def test_reading_a_value_while_tracing(self) -> None:
        net = Affine()

        @paramesh.jit
        def fails(x: Any) -> Any:
            return x if float(net.b.sum()) > 0 else -x

        with pytest.raises(TraceError, match=r"test_jit.py\", line \d+, in fails"):
            fails(Tensor(X))
        assert net(Tensor(X)).shape == (5, 4)

    @pytest.mark.parametrize(
        "transform",
        [
            lambda f: jax.jit(f)(X),
            lambda f: jax.vmap(f)(X),
            lambda f: jax.lax.scan(lambda c, x: (c, f(x)), 0, X),
        ],
        ids=["jit", "vmap", "scan"],
    )
    def test_writing_under_a_transform_of_jax(self, transform: Callable[[Any], Any]) -> None:
        param = Parameter(Tensor(np.zeros(3, np.float32)), name="layer.mean")

        def write(x: Any) -> Any:
            param.assign(param + x.sum())
            return x

        with pytest.raises(TraceError, match="'layer.mean'.*functional_call"):
            transform(write)
        assert param.asnumpy().tolist() == [0, 0, 0]

    def test_writing_under_a_transform_inside_a_program(self) -> None:
        net = Affine().set_train()

        @paramesh.jit
        def fails(xs: Any) -> Any:
            return jax.vmap(lambda x: net(Tensor(x[None])))(xs._get())

        before = values(net)
        with pytest.raises(TraceError, match="'mean'"):
            fails(Tensor(X))
        assert same(before, values(net))

    def test_threads_do_not_see_each_other(self) -> None:
        net = Affine()
        net(Tensor(X))
        before = values(net)
        inside, done = threading.Event(), threading.Event()
        seen: list[Any] = []

        @paramesh.jit
        def slow(x: Any) -> Any:
            net.w.assign(net.w * 2)
            inside.set()
            assert done.wait(30)
            return net(x)

        worker = threading.Thread(target=lambda: seen.append(slow(Tensor(X))))
        worker.start()
        assert inside.wait(30)
        assert same(before, values(net))
        done.set()
        worker.join()
        np.testing.assert_array_equal(net.w.asnumpy(), before["w"] * 2)
        assert len(seen) == 1


class TestModes:
    def test_the_same_numbers(self) -> None:
        losses = {}
        for mode in (paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE):
            paramesh.set_context(mode=mode)
            paramesh.set_seed(3)
            net = Affine().set_train()
            gradients = paramesh.value_and_grad(
                lambda x, net=net: (net(x) ** 2).mean(), None, [net.w, net.b]
            )
            losses[mode] = []
            for _ in range(5):
                loss, grads = gradients(Tensor(X))
                net.w.assign(net.w - 0.1 * grads[0])
                losses[mode].append(float(loss))
            losses[mode].append(net.mean.asnumpy().tolist())
        a, b = losses.values()
        np.testing.assert_allclose(a[:5], b[:5], rtol=1e-6)
        np.testing.assert_allclose(a[5], b[5], rtol=1e-6)

    def test_nested_programs_are_one(self) -> None:
        net = Affine()
        inner = paramesh.jit(lambda x: net(x) * 2)
        outer = paramesh.jit(lambda x: inner(x) + 1)
        out = outer(Tensor(X))
        assert (outer.traces, inner.traces, net._program().traces) == (1, 0, 0)
        np.testing.assert_allclose(out.asnumpy(), net(Tensor(X)).asnumpy() * 2 + 1, rtol=1e-6)

    def test_random_numbers_advance_in_one_trace(self) -> None:
        net = nn.Dropout(p=0.5).set_train()
        x = Tensor(np.ones(64, np.float32))
        first, second = net(x).asnumpy(), net(x).asnumpy()
        assert net._program().traces == 1
        assert not np.array_equal(first, second)
        paramesh.set_seed(0)
        assert np.array_equal(net(x).asnumpy(), first)

    def test_recipes_run_in_few_programs(self) -> None:
        net = nn.SequentialCell([nn.Dense(5, 5) for _ in range(30)])
        assert all(p.has_init for p in net.get_parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(Tensor(np.ones((2, 5), np.float32)))
        assert not any(p.has_init for p in net.get_parameters())
        assert all(p.is_init for p in net.get_parameters())


class TestWhatAProgramDependsOn:
    """A Cell is part of a program even if it is never called."""

    def test_a_list_of_cells(self) -> None:
        layers = nn.CellList([nn.Dense(3, 3) for _ in range(2)])

        @paramesh.jit
        def run(x: Any) -> Any:
            for layer in layers:
                x = layer(x)
            return x

        run(Tensor(X))
        layers.append(nn.Dense(3, 2))
        assert run(Tensor(X)).shape == (5, 2)
        del layers[2]
        assert run(Tensor(X)).shape == (5, 3)
        assert run.traces == 3

    def test_a_dict_of_cells_inside_a_cell(self) -> None:
        class Heads(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.heads = nn.CellDict({"a": nn.Dense(3, 1), "b": nn.Dense(3, 1)})

            def construct(self, x: Any) -> Any:
                return {name: head(x) for name, head in self.heads.items()}

        net = Heads()
        assert set(net(Tensor(X))) == {"a", "b"}
        net.heads["c"] = nn.Dense(3, 1)
        assert set(net(Tensor(X))) == {"a", "b", "c"}
        del net.heads["a"]
        assert set(net(Tensor(X))) == {"b", "c"}

    def test_a_list_in_a_list(self) -> None:
        class Rows(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.rows = nn.CellList([nn.CellList([nn.ReLU()])])

            def construct(self, x: Any) -> Any:
                rows: Any = self.rows
                for row in rows:
                    for cell in row:
                        x = cell(x)
                return x

        net = Rows()
        net(Tensor(X))
        net.rows[0].append(nn.Dense(3, 2))
        assert net(Tensor(X)).shape == (5, 2)

    @pytest.mark.parametrize("way", ["closure", "argument", "method", "gradient", "partial"])
    def test_a_cell_of_which_another_method_is_used(self, way: str) -> None:
        class Scaled(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.factor = 2.0

            def scaled(self, x: Any) -> Any:
                return (x * self.factor).sum()

        class Outer(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.inner = Scaled()

            def construct(self, x: Any) -> Any:
                return self.inner.scaled(x)

        net = Scaled()
        if way == "argument":
            by_argument = paramesh.jit(lambda net, x: net.scaled(x))
            program = lambda x: by_argument(net, x)  # noqa: E731
        elif way == "gradient":
            program = paramesh.grad(lambda x: net.scaled(x))
        elif way == "partial":
            program = paramesh.jit(functools.partial(Scaled.scaled, net))
        elif way == "method":
            outer = Outer()
            net = outer.inner
            program = outer
        else:
            program = paramesh.jit(lambda x: net.scaled(x))
        x = Tensor(np.ones(3, np.float32))
        first = float(program(x).sum())
        net.factor = 4.0
        assert float(program(x).sum()) == 2 * first
