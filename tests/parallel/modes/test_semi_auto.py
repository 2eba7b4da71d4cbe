"""semi_auto_parallel: the numbers of one device, whatever the strategies are."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, ParameterTuple, Tensor, context, nn, ops
from paramesh.errors import CheckpointError, ContextError, LayoutError
from paramesh.initializer import initializer
from paramesh.parallel import Layout
from paramesh.parallel.layouts.strategy_file import load_strategy
from paramesh.state import placement
from paramesh.train.cells import TrainOneStepCell, WithLossCell
from sharded_networks import (
    DIGITS,
    IMAGES,
    MLP,
    TEXT,
    Transformer,
    X,
    Y,
    assert_same,
    lenet_step,
    mlp_step,
    run,
    transformer_step,
)
from type_checks import present, wrong


def semi_auto(devices: int = 8, mode: str = "semi_auto_parallel", **settings: Any) -> None:
    context.set_auto_parallel_context(parallel_mode=mode, device_num=devices, **settings)


@pytest.fixture(scope="module")
def on_one_device() -> dict[str, Any]:
    """What each network does on one device."""
    return {
        "mlp": run(mlp_step, (), X, Y)[:2],
        "lenet": run(lenet_step, (), IMAGES, DIGITS)[:2],
        "transformer": run(transformer_step, (), TEXT, TEXT)[:2],
    }


AXES = Layout((2, 4), ("dp", "mp"))
#: devices, strategies of the two products of the MLP, other settings.
MLP_CASES: list[tuple[int, Any, dict[str, Any]]] = [
    (8, (), {}),
    (8, (), {"enable_parallel_optimizer": True}),
    (8, (((8, 1), (1, 1)), ((8, 1), (1, 1))), {}),
    (8, (((2, 1), (4, 1)), ((2, 4), (1, 4))), {}),
    (8, (((2, 1), (4, 1)), ((2, 4), (1, 4))), {"enable_parallel_optimizer": True}),
    (8, (((1, 1), (8, 1)), ((1, 8), (1, 8))), {"full_batch": True}),
    (4, (((1, 2), (2, 2)), ((1, 4), (1, 4))), {}),
    (
        8,
        ((AXES("dp", "None"), AXES("mp", "None")), (AXES("dp", "mp"), AXES("None", "mp"))),
        {"dataset_strategy": ((2, 1), (2, 1))},
    ),
    (
        2,
        (((2, 1), (1, 1)), ((1, 1), (2, 1))),
        {"dataset_strategy": (Layout((2,), ("x",))("None", "x"), (1, 1))},
    ),
]


CUTS = pytest.mark.parametrize(
    "cuts",
    [
        (8, 1),
        (2, 4),
        *(pytest.param(c, marks=pytest.mark.slow) for c in [(4, 2), (1, 8), (2, 2), (1, 2)]),
    ],
)


class TestTheSameAsOnOneDevice:
    @pytest.mark.parametrize(("devices", "strategy", "settings"), MLP_CASES)
    def test_mlp(
        self, on_one_device: Any, devices: int, strategy: Any, settings: dict[str, Any]
    ) -> None:
        semi_auto(devices, **settings)
        *here, step = run(mlp_step, strategy, X, Y)
        assert_same(here, on_one_device["mlp"])
        assert step._program().traces == 1

    @CUTS
    def test_lenet(self, on_one_device: Any, cuts: tuple[int, int]) -> None:
        semi_auto(cuts[0] * cuts[1])
        assert_same(run(lenet_step, cuts, IMAGES, DIGITS)[:2], on_one_device["lenet"])

    @CUTS
    def test_transformer(self, on_one_device: Any, cuts: tuple[int, int]) -> None:
        semi_auto(cuts[0] * cuts[1])
        *here, step = run(transformer_step, cuts, TEXT, TEXT)
        assert_same(here, on_one_device["transformer"])
        assert step.network.net.table.layout.parts == (cuts[1], 1)


def hlo(step: Any, *inputs: Any) -> str:
    """The compiled program of a call, as text."""
    entry = step._program().trace(*map(Tensor, inputs))
    entry.run([np.asarray(x) for x in inputs])
    arrays = [[p._concrete() for p in states] for states in (entry.donated, entry.kept)]
    leaves = placement.current().place_inputs(list(inputs))
    return entry.program.lower(*arrays, leaves).compile().as_text()


def count(text: str, operation: str) -> int:
    return len(re.findall(rf" {operation}(?:-start)?\(", text))


class TestCompiled:
    """What the compiled program holds: collectives, and shapes per device."""

    STRATEGY = (((1, 1), (8, 1)), ((1, 8), (1, 8)))

    def test_columns_then_rows_meet_once_each_way(self) -> None:
        semi_auto(full_batch=True)
        net = MLP(*self.STRATEGY)
        forward = hlo(net, X)
        assert count(forward, "all-reduce") == 1
        assert sum(count(forward, op) for op in ("all-gather", "all-to-all")) == 0

        class Both(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.net = net
                self.back = paramesh.grad(
                    lambda x: (net(x) ** 2).sum(), 0, ParameterTuple(net.get_parameters())
                )

            def construct(self, x: Any) -> Any:
                return self.back(x)

        both = hlo(Both(), X)
        assert count(both, "all-reduce") == 2
        assert sum(count(both, op) for op in ("all-gather", "all-to-all")) == 0

    def test_data_parallel_sums_gradients(self) -> None:
        semi_auto()
        step = mlp_step(((8, 1), (1, 1)), ((8, 1), (1, 1)))
        text = hlo(step, X, Y)
        assert count(text, "all-reduce") >= 1
        assert count(text, "all-gather") == 0

    @pytest.mark.parametrize("split", [False, True])
    def test_the_parallel_optimizer_keeps_no_full_state(self, split: bool) -> None:
        semi_auto(enable_parallel_optimizer=split)
        step = mlp_step(((8, 1), (1, 1)), ((8, 1), (1, 1)))
        text = hlo(step, X, Y)
        entry = text[text.index("\nENTRY ") :]
        whole = len(re.findall(r"= f32\[32,8\]\S* parameter\(", entry))
        parts = len(re.findall(r"= f32\[4,8\]\S* parameter\(", entry))
        assert (whole, parts) == ((1, 2) if split else (3, 0))
        # New values of Parameters are gathered, moments never are.
        assert count(text, "all-gather") <= (len(step.trainable_params()) if split else 0)
        for name in ("first.weight", "second.weight", "first.bias", "second.bias"):
            moment = step.parameters_dict()[f"moment1.{name}"]
            held = present(moment._value).addressable_data(0).size * (8 if split else 1)
            assert held == moment.size, name

    def test_a_parameter_is_kept_out_of_the_parallel_optimizer(self) -> None:
        semi_auto(enable_parallel_optimizer=True)
        step = mlp_step()
        params = step.parameters_dict()
        params["first.weight"].parallel_optimizer = False
        step(Tensor(X), Tensor(Y))
        assert present(params["moment1.first.weight"]._value).sharding.is_fully_replicated
        assert not present(params["moment1.second.weight"]._value).sharding.is_fully_replicated

    def test_state_stays_where_it_is(self) -> None:
        semi_auto(enable_parallel_optimizer=True)
        step = mlp_step(((2, 1), (4, 1)), ((2, 4), (1, 4)))
        step(Tensor(X), Tensor(Y))
        params = step.parameters_dict()
        before = {name: present(p._value).sharding for name, p in params.items()}
        alive = len(jax.live_arrays())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(placement.current()), "_moved", None)  # nothing has to be moved
            for _ in range(3):
                step(Tensor(X), Tensor(Y))
        assert {name: present(p._value).sharding for name, p in params.items()} == before
        assert len(jax.live_arrays()) <= alive
        weight = params["first.weight"]
        assert weight.sliced
        assert present(weight._value).addressable_data(0).shape == (8, 8)
        assert present(params["moment1.first.weight"]._value).addressable_data(0).shape == (4, 8)
        assert not params["second.bias"].sliced


class TestInitialValues:
    """A recipe's numbers do not depend on where they are computed."""

    @pytest.mark.parametrize(
        ("devices", "layout"),
        [
            (1, None),
            (2, (2, 1)),
            (4, (1, 4)),
            (4, (2, 2)),
            (8, (8, 1)),
            (8, (2, 4)),
            (8, (4, 1)),
            (8, Layout((2, 4), ("a", "b"))("b", "a")),
            (8, Layout((2, 4), ("a", "b"))(("b", "a"), "None")),
        ],
    )
    @pytest.mark.parametrize("kind", ["normal", "xavier_uniform", "ones"])
    def test_bit_for_bit(self, devices: int, layout: Any, kind: str) -> None:
        paramesh.set_seed(5)
        expected = Parameter(initializer(kind, (64, 32)), name="w").asnumpy()
        if devices > 1:
            semi_auto(devices)
        paramesh.set_seed(5)
        weight = Parameter(initializer(kind, (64, 32)), name="w")
        weight.layout = layout
        assert weight.init_data() is weight
        np.testing.assert_array_equal(weight.asnumpy(), expected)
        if layout is not None:
            assert weight.sliced
            held = present(weight._value).addressable_data(0).shape
            parts = layout.parts if isinstance(layout, Layout) else layout
            assert held == (64 // parts[0], 32 // parts[1])

    def test_a_network_by_its_programs_layouts(self) -> None:
        paramesh.set_seed(2)
        expected = {p.name: p.asnumpy() for p in Transformer().get_parameters()}
        semi_auto()
        paramesh.set_seed(2)
        net = Transformer(2, 4)
        net.compile(Tensor(TEXT))
        assert all(p.has_init for p in net.get_parameters())
        net.init_parameters_data()
        for param in net.get_parameters():
            np.testing.assert_array_equal(param.asnumpy(), expected[param.name], param.name)
        assert present(net.table._value).addressable_data(0).shape == (4, 16)

    def test_before_any_program_it_is_on_one_device(self) -> None:
        semi_auto()
        net = MLP(((1, 1), (8, 1)), ((1, 8), (1, 8)))
        expected = net.first.weight.asnumpy().copy()
        net(Tensor(X))
        assert net.first.weight.sliced
        np.testing.assert_array_equal(net.first.weight.asnumpy(), expected)


class TestLayoutsOfParameters:
    def test_the_table(self) -> None:
        semi_auto()
        step = mlp_step(((2, 1), (4, 1)), ((2, 4), (1, 4)))
        assert {row.replicas for row in step.layout_table().rows} == {8}
        step(Tensor(X), Tensor(Y))
        rows = {row.name: row for row in step.layout_table().rows}
        assert rows["first.weight"].slice_shape == (8, 8)
        assert rows["moment2.first.weight"].parts == (4, 1)
        assert rows["first.bias"].parts == (4,)
        assert rows["second.bias"].parts == (1,)
        assert "first.weight" in str(step.layout_table())

    def test_the_table_in_the_form_of_mindspore(self) -> None:
        assert MLP().parameter_layout_dict == {}
        semi_auto()
        net = MLP(((2, 1), (4, 1)), ((2, 4), (1, 4)))
        net.compile(Tensor(X))
        # MindSpore's own test of its compiler expects the first of them for such a product.
        assert net.parameter_layout_dict == {
            "first.weight": ([2, 4], [0, -1], [8, 8], 0, True, ""),
            "first.bias": ([2, 4], [0], [8], 0, True, ""),
            "second.weight": ([2, 4], [-1, 0], [8, 8], 0, True, ""),
            "second.bias": ([8], [-1], [8], 0, True, ""),
        }
        context.reset_auto_parallel_context()
        assert net.parameter_layout_dict["first.weight"] == ([2, 4], [0, -1], [8, 8], 0, True, "")

    def test_on_one_device_every_row_is_replicated(self) -> None:
        assert {row.replicas for row in MLP().layout_table().rows} == {1}

    def test_numbers_take_the_devices_that_named_axes_say(self) -> None:
        semi_auto()
        axes = Layout((2, 4), ("dp", "mp"))
        net = MLP((axes("dp", "None"), axes("mp", "None")), ((2, 4), (1, 4)))
        net.first.weight.layout = (4, 1)
        net(Tensor(X))
        found = net.layout_table().rows[0].layout
        assert found is not None
        assert found.same_placement(axes("mp", "None"))

    def test_a_plan_by_path_and_by_self(self) -> None:
        semi_auto()
        net = nn.SequentialCell(nn.Dense(8, 16), nn.Dense(16, 8))
        plan = {"self.0.weight": (8, 1), "1.weight": (1, 8)}
        out = net.shard(((8, 1),), ((8, 1),), parameter_plan=plan)(Tensor(X))
        assert [present(p._value).sharding.shard_shape(p.shape) for p in net.get_parameters()] == [
            (2, 8),
            (16,),
            (8, 2),
            (8,),
        ]
        assert out._get().sharding.shard_shape(out.shape) == (2, 8)

    def test_what_shard_returns_is_no_second_cell(self) -> None:
        class Net(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Dense(8, 8)
                self.sharded = self.inner.shard(((2, 1),), None, {"self.weight": (4, 1)})

            def construct(self, x: Any) -> Any:
                return self.sharded(x)

        semi_auto()
        net = copy.deepcopy(Net())
        assert [p.name for p in net.get_parameters()] == ["inner.weight", "inner.bias"]
        net(Tensor(X))
        assert net.inner.weight.sliced

    def test_another_strategy_is_another_program(self) -> None:
        semi_auto()
        net = MLP(((1, 1), (8, 1)), ((1, 8), (1, 8)))
        before = net(Tensor(X)).asnumpy()
        net.first.matmul.shard(((8, 1), (1, 1)))
        net.second.matmul.shard(((8, 1), (1, 1)))
        net.first.bias_add.shard(None)
        np.testing.assert_allclose(net(Tensor(X)).asnumpy(), before, rtol=1e-5, atol=1e-6)
        layout = net.first.weight.layout
        assert isinstance(layout, Layout)
        assert layout.parts == (1, 1)
        assert not net.first.weight.sliced

    def test_copies_of_a_step_belong_together(self) -> None:
        semi_auto()
        step = copy.deepcopy(mlp_step(((1, 1), (8, 1)), ((1, 8), (1, 8))))
        step(Tensor(X), Tensor(Y))
        moment = step.parameters_dict()["moment1.first.weight"]
        assert present(moment._value).addressable_data(0).shape == (4, 8)

    def test_state_of_an_optax_transformation_follows(self) -> None:
        import optax

        semi_auto()
        net = MLP(((1, 1), (8, 1)), ((1, 8), (1, 8)))
        adam = paramesh.from_optax(optax.adam(0.01), net.trainable_params())
        step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), adam)
        step(Tensor(X), Tensor(Y))
        cut = [p for p in adam.get_parameters() if p.shape == (32, 8)]
        assert len(cut) == 3
        assert {present(p._value).addressable_data(0).shape for p in cut} == {(4, 8)}


class TestStrategyFiles:
    def test_what_was_saved_places_another_network(self, tmp_path: Path) -> None:
        path = str(tmp_path / "strategy.json")
        semi_auto(strategy_ckpt_save_file=path)
        run(mlp_step, (((2, 1), (4, 1)), ((2, 4), (1, 4))), X, Y, steps=1)
        saved = load_strategy(path)
        layout = saved["first.weight"].layout
        assert layout is not None
        assert layout.parts == (4, 1)
        assert saved["moment1.second.weight"].shape == (8, 32)
        context.reset()
        semi_auto(strategy_ckpt_load_file=path)
        step = mlp_step()
        step.init_parameters_data()
        weight = step.parameters_dict()["first.weight"]
        assert present(weight._value).addressable_data(0).shape == (8, 8)

    def test_an_operator_that_says_otherwise(self, tmp_path: Path) -> None:
        path = str(tmp_path / "strategy.json")
        semi_auto(strategy_ckpt_save_file=path)
        MLP(((2, 1), (4, 1)), ((2, 4), (1, 4)))(Tensor(X))
        context.reset()
        semi_auto(strategy_ckpt_load_file=path)
        with pytest.raises(LayoutError, match=r"'first.weight'.*MatMul.*the strategy file .*json"):
            MLP(((1, 1), (8, 1)), ((1, 8), (1, 8)))(Tensor(X))

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "strategy.json"
        path.write_text("{}")
        semi_auto(strategy_ckpt_load_file=str(path))
        with pytest.raises(CheckpointError, match="is not a strategy file"):
            MLP()(Tensor(X))


class TestInputsAndOutputs:
    @pytest.mark.parametrize(
        ("settings", "part"),
        [
            ({}, (2, 8)),
            ({"full_batch": True}, (16, 8)),
            ({"dataset_strategy": "full_batch"}, (16, 8)),
            ({"dataset_strategy": ((2, 4),)}, (8, 2)),
        ],
    )
    def test_where_a_batch_is(self, settings: Any, part: tuple[int, ...]) -> None:
        semi_auto(**settings)
        leaf, number = placement.current().place_inputs([X, 1.0])
        assert leaf.addressable_data(0).shape == part
        assert number == 1.0
        assert placement.current().place_inputs([leaf])[0] is leaf

    def test_a_batch_that_cannot_be_sharded_is_replicated(self) -> None:
        net = MLP()
        expected = net(Tensor(X[:5])).asnumpy()
        semi_auto()
        np.testing.assert_allclose(net(Tensor(X[:5])).asnumpy(), expected, rtol=1e-5, atol=1e-6)

    def test_outputs_are_global(self) -> None:
        semi_auto()

        @paramesh.jit
        def outputs(x: Any) -> Any:
            return x * 2, x.sum(), x.shape[0]

        doubled, total, rows = outputs(Tensor(X))
        np.testing.assert_array_equal(doubled.asnumpy(), X * 2)
        np.testing.assert_allclose(float(total), X.sum(), rtol=1e-5)
        assert rows == 16

    def test_transforms(self) -> None:
        semi_auto()
        product = ops.MatMul().shard(((2, 1), (1, 4)))
        weight = Parameter(Tensor(np.eye(8, dtype=np.float32) * 2), name="weight")
        x = Tensor(X.reshape(2, 8, 8))
        over = paramesh.jit(lambda x: paramesh.vmap(lambda row: product(row, weight))(x))
        np.testing.assert_allclose(over(x).asnumpy(), x.asnumpy() * 2)
        along = paramesh.jit(
            lambda x: paramesh.scan(lambda c, row: (product(c, weight), c.sum()), x[0], x)
        )
        np.testing.assert_allclose(along(x)[0].asnumpy(), x.asnumpy()[0] * 4)
        back = paramesh.jit(
            lambda x: paramesh.grad(paramesh.remat(lambda row: product(row, weight).sum()))(x)
        )
        np.testing.assert_allclose(back(x[0]).asnumpy(), np.full((8, 8), 2.0))

    def test_to_float(self) -> None:
        semi_auto()
        layer = nn.Dense(8, 8).to_float(paramesh.float16)
        layer.matmul.shard(((2, 1), (4, 1)))
        assert layer(Tensor(X)).dtype is paramesh.float16
        assert layer.weight.dtype is paramesh.float32
        layout = layer.weight.layout
        assert isinstance(layout, Layout)
        assert layout.parts == (4, 1)

    def test_arrays_that_the_user_holds_stay_valid(self) -> None:
        mine = Tensor(np.ones((32, 8), np.float32))
        semi_auto()
        step = mlp_step()
        weight = step.parameters_dict()["first.weight"].set_data(mine)
        before = weight.value()
        step(Tensor(X), Tensor(Y))
        np.testing.assert_array_equal(mine.asnumpy(), np.ones((32, 8)))
        np.testing.assert_array_equal(before.asnumpy(), np.ones((32, 8)))

    def test_strategies_have_no_effect_outside_of_programs(self) -> None:
        product = ops.MatMul().shard(((2, 1), (1, 4)))
        expected = product(Tensor(X), Tensor(X.T)).asnumpy()
        semi_auto()
        np.testing.assert_array_equal(product(Tensor(X), Tensor(X.T)).asnumpy(), expected)
        product.shard(((3, 1), (1, 4)))  # fits nothing
        context.set_context(mode=context.PYNATIVE_MODE)
        product(Tensor(X), Tensor(X.T))

    def test_out_strategy(self) -> None:
        semi_auto()
        product = ops.MatMul().shard(((2, 4), (4, 1)), ((8, 1),))
        out = paramesh.jit(lambda x, y: product(x, y))(Tensor(X), Tensor(X.T))
        assert out._get().sharding.shard_shape(out.shape) == (2, 16)
        np.testing.assert_allclose(out.asnumpy(), X @ X.T, rtol=1e-5, atol=1e-5)

    def test_operators_of_several_tensors_and_numbers(self) -> None:
        semi_auto()
        joined = ops.Concat(1).shard(((8, 1), (8, 1)))
        scaled = ops.Mul().shard(((2, 4), ()))
        ids = Tensor(np.arange(8, dtype=np.int64))
        picked = ops.Gather().shard(((1, 4), (2,)))
        out = paramesh.jit(lambda x, i: scaled(picked(joined((x, x)), i, 0), 2.0))(Tensor(X), ids)
        np.testing.assert_array_equal(out.asnumpy(), np.concatenate([X, X], 1)[:8] * 2)
        assert out._get().sharding.shard_shape(out.shape) == (4, 4)


class TestModes:
    def test_auto_parallel_propagates_if_it_is_asked_to(self, on_one_device: Any) -> None:
        semi_auto(mode="auto_parallel", search_mode="sharding_propagation")
        here = run(mlp_step, (((2, 1), (4, 1)),), X, Y)
        assert_same(here[:2], on_one_device["mlp"])

    def test_from_flat_parameters_and_back_to_one_device(self) -> None:
        paramesh.set_seed(1)
        layers = [c for _ in range(5) for c in (nn.Dense(8, 8), nn.Tanh())]
        net = nn.SequentialCell(*layers)
        step = TrainOneStepCell(
            WithLossCell(net, nn.MSELoss()), nn.Adam(net.trainable_params(), 0.01)
        )
        twin = copy.deepcopy(step)
        for _ in range(3):
            twin(Tensor(X), Tensor(Y))
        step(Tensor(X), Tensor(Y))
        assert next(iter(net.get_parameters()))._slot is not None
        semi_auto()
        net[0].matmul.shard(((1, 1), (8, 1)))
        step(Tensor(X), Tensor(Y))
        assert net[0].weight.sliced
        context.reset_auto_parallel_context()
        step(Tensor(X), Tensor(Y))
        for name, param in twin.parameters_dict().items():
            here = step.parameters_dict()[name].asnumpy()
            np.testing.assert_allclose(here, param.asnumpy(), rtol=1e-4, atol=1e-6, err_msg=name)

    def test_another_number_of_devices_moves_what_numbers_shard(self) -> None:
        net = MLP(((1, 1), (4, 1)), ((1, 4), (1, 4)))
        expected = net(Tensor(X)).asnumpy()
        for devices in (8, 4):
            semi_auto(devices)
            np.testing.assert_allclose(net(Tensor(X)).asnumpy(), expected, rtol=1e-5, atol=1e-6)
            assert len(present(net.first.weight._value).sharding.device_set) == devices
            assert present(net.first.weight._value).addressable_data(0).shape == (8, 8)

    def test_sharded_parameters_are_refused_by_data_parallel(self) -> None:
        semi_auto()
        net = MLP(((1, 1), (8, 1)), ((1, 8), (1, 8)))
        net(Tensor(X))
        context.set_auto_parallel_context(parallel_mode="data_parallel")
        with pytest.raises(ContextError, match=r"'first.weight' is sharded over.*data_parallel"):
            net(Tensor(X))


def used_by(*operators: Any) -> Any:
    """A program in which matrix products use one weight, transposed or not."""
    weight = Parameter(Tensor(np.ones((8, 8), np.float32)), name="net.weight")

    @paramesh.jit
    def program(x: Any) -> Any:
        for operator in operators:
            x = operator(x, weight)
        return x

    made: Any = program
    made.weight = weight
    return made


class TestErrors:
    @pytest.mark.parametrize(
        ("strategy", "message"),
        [
            (((2, 1),), r"MatMul.*1 entries.*2 inputs"),
            (((2, 1), (1, 4, 1)), r"MatMul.*'net.weight'.*\(1, 4, 1\) has 3 entries.*2 axes"),
            (((1, 1), (1, 3)), r"MatMul.*'net.weight'.*axis 1 has size 8.*\(1, 3\).*3 equal"),
            (((2, 1), (1, 8)), r"MatMul.*needs 16 devices.*there are 8"),
            (((2, 4), (2, 1)), r"MatMul.*'net.weight'.*axis 0 into 2 shards.*into 4"),
            ((Layout((2, 2), ("a", "b"))("a", "b"),) * 2, r"MatMul.*for 4 devices.*there are 8"),
        ],
    )
    def test_a_strategy_that_does_not_fit(self, strategy: Any, message: str) -> None:
        semi_auto()
        program = used_by(ops.MatMul().shard(strategy))
        with pytest.raises(LayoutError, match=message):
            program(Tensor(X))
        assert program.weight.layout is None

    def test_two_operators_that_contradict_each_other(self) -> None:
        semi_auto()
        program = used_by(
            ops.MatMul().shard(((2, 1), (1, 4))), ops.MatMul(False, True).shard(((2, 1), (2, 1)))
        )
        with pytest.raises(LayoutError) as caught:
            program(Tensor(X))
        for words in (
            "'net.weight'",
            "MatMul(transpose_a=False, transpose_b=False) with ((2, 1), (1, 4))",
            "MatMul(transpose_a=False, transpose_b=True) with ((2, 1), (2, 1))",
            "(1, 4)",
            "into (2, 1) shards",
        ):
            assert words in str(caught.value)
        assert program.weight.layout is None

    def test_an_operator_that_contradicts_the_given_layout(self) -> None:
        semi_auto()
        program = used_by(ops.MatMul().shard(((2, 1), (1, 4))))
        program.weight.layout = (4, 1)
        with pytest.raises(LayoutError, match=r"'net.weight'.*MatMul.*its own layout"):
            program(Tensor(X))
        program.weight.layout = (1, 4)
        program(Tensor(X))
        assert program.weight.sliced

    @pytest.mark.parametrize(
        ("layout", "error", "message"),
        [
            ((3, 1), LayoutError, r"'w' of shape \(8, 8\): layout \(3, 1\)"),
            ((2,), LayoutError, r"'w' of shape \(8, 8\): layout \(2,\)"),
            ([2, 1], TypeError, r"'w': layout must be a tuple of ints"),
            (Layout((2,), ("a",))("a"), LayoutError, r"'w'.*1 axes.*\(8, 8\)"),
        ],
    )
    def test_a_layout_that_does_not_fit(
        self, layout: Any, error: type[Exception], message: str
    ) -> None:
        weight = Parameter(Tensor(np.ones((8, 8), np.float32)), name="w")
        with pytest.raises(error, match=message):
            weight.layout = layout
        assert weight.layout is None

    def test_an_axis_that_there_is_not(self) -> None:
        with pytest.raises(LayoutError, match=r"'tp'.*is not an axis of the devices.*dp, mp"):
            AXES("tp", "None")

    def test_a_given_layout_for_other_devices(self) -> None:
        semi_auto()
        weight = Parameter(initializer("ones", (8, 8)), name="w")
        weight.layout = Layout((4,), ("a",))("a", "None")
        with pytest.raises(LayoutError, match=r"'w'.*for 4 devices.*there are 8"):
            weight.init_data()
        assert weight.has_init

    def test_more_devices_than_there_are(self) -> None:
        semi_auto(16)
        with pytest.raises(ContextError, match="device_num=16, but there are 8 CPU devices"):
            MLP()(Tensor(X))

    def test_a_strategy_for_inputs_that_does_not_fit(self) -> None:
        semi_auto(dataset_strategy=((3, 1),))
        with pytest.raises(LayoutError, match=r"dataset_strategy of input 0.*size 16.*3 equal"):
            MLP()(Tensor(X))
        semi_auto(dataset_strategy=((2, 1),))
        with pytest.raises(LayoutError, match=r"dataset_strategy.*1 entries.*input 1"):
            mlp_step()(Tensor(X), Tensor(Y))

    @pytest.mark.parametrize(
        ("plan", "error", "message"),
        [
            ({"wieght": (1, 1), "x": (1,)}, LayoutError, "names wieght, x, but.*weight, bias"),
            ({"weight": (3, 1)}, LayoutError, r"'weight' of shape \(8, 8\): layout \(3, 1\)"),
            ([("weight", (1, 1))], TypeError, "parameter_plan must be"),
        ],
    )
    def test_a_plan_that_does_not_fit(
        self, plan: Any, error: type[Exception], message: str
    ) -> None:
        layer = nn.Dense(8, 8)
        with pytest.raises(error, match=message):
            layer.shard(((2, 1),), None, plan)
        assert layer.weight.layout is None

    def test_strategies_that_are_no_tuples(self) -> None:
        with pytest.raises(TypeError, match="Dense.shard: in_strategy must be a tuple"):
            nn.Dense(8, 8).shard(wrong([(2, 1)]))
        with pytest.raises(TypeError, match="MatMul.shard: out_strategy must be a tuple"):
            ops.MatMul().shard(((2, 1), (1, 1)), wrong(3))
        with pytest.raises(ValueError, match="dataset_strategy must be"):
            semi_auto(dataset_strategy="half_batch")

    def test_a_cell_with_a_strategy_too_many(self) -> None:
        semi_auto()
        layer = nn.Dense(8, 8)
        layer.shard(((2, 1), (1, 1)))
        with pytest.raises(LayoutError, match=r"Dense.shard: in_strategy .*2 entries.*1 values"):
            layer(Tensor(X))
        layer.shard(None, ((2, 3),))
        with pytest.raises(LayoutError, match=r"Dense.shard: out_strategy, value 0.*3 equal"):
            layer(Tensor(X))

    def test_one_value_per_device(self) -> None:
        semi_auto()
        weight = Parameter(Tensor(np.ones(3, np.float32)), name="own", layerwise_parallel=True)
        with pytest.raises(ContextError, match=r"'own' has one value per device.*global view"):
            paramesh.jit(lambda: weight * 2)()
