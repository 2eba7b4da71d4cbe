"""Pipeline stages: the numbers of one device, and each stage's state on its own devices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from interruptions import At, Interrupted, places
from paramesh import Tensor, context, mindspore_internals, mindspore_names, nn, ops
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel.pipeline import loop_run
from paramesh.parallel.pipeline.loop import Sum
from paramesh.parallel.pipeline.schedule import table_of
from paramesh.parallel.pipeline.stages import Stages
from paramesh.tensor.base import raw
from paramesh.train import (
    DynamicLossScaleUpdateCell,
    Model,
    PipelineCell,
    PipelineGradReducer,
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithLossCell,
)
from paramesh.train.pipeline_cell import GradAccumulation, Pipeline
from pipeline_networks import (
    MLP,
    WIDTH,
    NormedNet,
    Transformer,
    WordLoss,
    rows,
    step_of,
    trained,
    with_stages,
    words,
)
from type_checks import wrong

AUTO = "auto_parallel"


def momentum(params: Any) -> nn.Momentum:
    return nn.Momentum(params, 0.05, 0.9)


def mlp_step(*stages: int) -> TrainOneStepCell:
    return step_of(MLP(*(stages or (0, 1))), nn.MSELoss(), 4, momentum)


def state(step: nn.Cell) -> dict[str, np.ndarray[Any, Any]]:
    return {param.name: param.asnumpy() for param in step.get_parameters()}


def memory_of(step: nn.Cell) -> dict[str, list[int]]:
    """Where the values of layers, and of their state, are in memory."""
    found = {}
    for param in step.get_parameters():
        if "layers" in param.name:
            contents: Any = param._contents
            shards = contents.addressable_shards
            found[param.name] = [shard.data.unsafe_buffer_pointer() for shard in shards]
    return found


def devices_of(param: paramesh.Parameter) -> list[int]:
    sharding: Any = param.sharding
    return sorted(device.id for device in sharding.device_set)


def assert_near(one: dict[str, Any], other: dict[str, Any], atol: float = 2e-6) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5, atol=atol, err_msg=name)


def same_as_one_device(
    make: Callable[[], nn.Cell],
    batch: Callable[[int], tuple[Tensor, ...]] = rows,
    stages: int = 2,
    mode: str = "semi_auto_parallel",
    steps: int = 3,
    atol: float = 2e-6,
    **settings: Any,
) -> nn.Cell:
    """Train with stages as on one device; the step with stages."""
    with_stages(1)
    losses, values, _ = trained(make, batch, steps)
    with_stages(stages, mode, **settings)
    found, others, step = trained(make, batch, steps)
    np.testing.assert_allclose(found, losses, rtol=2e-6)
    assert_near(others, values, atol)
    return step


class TestValues:
    @pytest.mark.parametrize("scheduler", ["1f1b", pytest.param("gpipe", marks=pytest.mark.slow)])
    def test_an_mlp(self, scheduler: str) -> None:
        step = same_as_one_device(mlp_step, pipeline_config={"pipeline_scheduler": scheduler})
        for param in step.get_parameters():
            if ".layers." in f".{param.name}":
                first = ".0." in param.name
                assert devices_of(param) == (list(range(4)) if first else list(range(4, 8)))
        table: Any = step.layout_table()
        stages = {row.name: row.stage for row in table.rows}
        assert stages["layers.0.weight"] == stages["moments.layers.0.weight"] == 0
        assert stages["layers.1.weight"] == stages["moments.layers.1.weight"] == 1
        assert re.search(r"layers\.1\.weight +1 +\(16, 16\)", str(table))
        assert "2 stages" in str(table)
        assert "8 devices" in str(table)
        assert "at most on each, in 2 stages" in table._repr_html_()

    @pytest.mark.slow
    def test_a_transformer_with_a_shared_table(self) -> None:
        sgd = lambda params: nn.SGD(params, 0.1)  # noqa: E731
        step = same_as_one_device(lambda: step_of(Transformer(2), WordLoss(), 4, sgd), words)
        params = step.parameters_dict()
        assert devices_of(params["head.table"]) == list(range(4))

    @pytest.mark.slow
    @pytest.mark.parametrize("recompute", [False, True])
    def test_four_stages(self, recompute: bool) -> None:
        make = lambda: step_of(Transformer(4, 4, recompute), WordLoss(), 8, momentum)  # noqa: E731
        step = same_as_one_device(make, words, 4)
        for param in step.get_parameters():
            block = re.search(r"blocks\.(\d)", param.name)
            if block:
                at = 2 * int(block[1])
                assert devices_of(param) == [at, at + 1]

    @pytest.mark.slow
    def test_moving_averages_and_random_numbers(self) -> None:
        # Few rows have moments of their own, which magnify rounding.
        make = lambda: step_of(NormedNet(), nn.MSELoss(), 4, momentum)  # noqa: E731
        same_as_one_device(make, atol=2e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["semi_auto_parallel", AUTO])
    def test_strategies_inside_of_stages(self, mode: str) -> None:
        def make() -> TrainOneStepCell:
            net = MLP(0, 1)
            if mode != AUTO:
                net.layers[0].matmul.shard(((1, 1), (4, 1)))
            net.layers[1].matmul.shard(((2, 1), (2, 1)))
            return step_of(net, nn.MSELoss(), 4, momentum)

        step = same_as_one_device(make, mode=mode)
        table: Any = step.layout_table()
        parts = {row.name: row.parts for row in table.rows}
        assert parts["layers.1.weight"] == parts["moments.layers.1.weight"] == (2, 1)
        assert table.device_num == 4
        if mode == AUTO:
            assert table.plan is not None
        else:
            assert parts["layers.0.weight"] == (4, 1)

    @pytest.mark.slow
    def test_the_parallel_optimizer(self) -> None:
        make = lambda: step_of(MLP(0, 1), nn.MSELoss(), 4, momentum)  # noqa: E731
        step = same_as_one_device(make, enable_parallel_optimizer=True)
        moment = step.parameters_dict()["moments.layers.1.weight"]
        assert devices_of(moment) == list(range(4, 8))
        assert present_sharding(moment).shard_shape((WIDTH, WIDTH)) == (4, WIDTH)

    @pytest.mark.slow
    def test_loss_scales(self) -> None:
        def make() -> nn.Cell:
            net = MLP(0, 0, 1).set_train()
            cell = PipelineCell(WithLossCell(net, nn.MSELoss()), 4)
            scale = DynamicLossScaleUpdateCell(2.0**127, 2, 2)  # the first steps overflow
            return TrainOneStepWithLossScaleCell(cell, momentum(net.trainable_params()), scale)

        same_as_one_device(make, steps=5)

    @pytest.mark.slow
    def test_a_norm_over_all_stages(self) -> None:
        class Clipping(TrainOneStepCell):
            def construct(self, *inputs: Any) -> Any:
                loss, grads = self.gradients(inputs, self.sens)
                self.optimizer(ops.clip_by_global_norm(list(grads), 0.5))
                return loss

        def make() -> nn.Cell:
            net = MLP(0, 1, 1)
            cell = PipelineCell(WithLossCell(net, nn.MSELoss()), 4)
            return Clipping(cell, momentum(net.trainable_params()))

        same_as_one_device(make)

    @pytest.mark.slow
    def test_gradient_accumulation(self) -> None:
        make = lambda: step_of(MLP(0, 1), nn.MSELoss(), 4, momentum)  # noqa: E731
        context.set_auto_parallel_context(grad_accumulation_step=2)
        paramesh.set_seed(5)
        on_one = make()
        losses = [float(on_one(*rows(i))) for i in range(2)]
        with_stages(2, grad_accumulation_step=2)
        paramesh.set_seed(5)
        step = make()
        np.testing.assert_allclose([float(step(*rows(i))) for i in range(2)], losses, rtol=1e-6)
        assert_near(state(step), state(on_one))

    @pytest.mark.slow
    @pytest.mark.parametrize("linear", [True, False])
    def test_gradients_around_a_pipeline_cell(
        self, linear: bool, works: list[tuple[int, bool, int]]
    ) -> None:
        def train(stages: int) -> tuple[list[float], dict[str, Any], nn.Cell]:
            with_stages(stages)
            paramesh.set_seed(5)
            net = MLP(0, 0, 1)
            net.layers[2].weight = net.layers[0].weight  # of two stages
            cell = Pipeline(WithLossCell(net, nn.MSELoss()), 4)
            optimizer = momentum(net.trainable_params())
            reduced = PipelineGradReducer(optimizer.parameters, scale_sense=2.0)
            around = (lambda loss: loss * 0.5) if linear else ops.square
            gradients = paramesh.value_and_grad(
                lambda x, y: around(cell(x, y)), None, optimizer.parameters
            )

            @paramesh.jit
            def step(x: Tensor, y: Tensor) -> Any:
                loss, grads = gradients(x, y)
                optimizer(reduced(grads))
                return loss

            return [float(step(*rows(i))) for i in range(3)], state(net), net

        losses, values, _ = train(1)
        found, others, net = train(2)
        np.testing.assert_allclose(found, losses, rtol=2e-6)
        assert_near(others, values)
        table = table_of("1f1b", 2, 4)
        in_order = [(s, *work) for tick in table for s, work in enumerate(tick) if work]
        assert (works == in_order * 3) is linear
        assert devices_of(net.layers[0].weight) == list(range(4))
        assert devices_of(net.layers[2].bias) == list(range(4, 8))

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["semi_auto_parallel", AUTO])
    def test_a_loss_and_then_its_gradient(
        self, mode: str, works: list[tuple[int, bool, int]]
    ) -> None:
        class Step(TrainOneStepCell):
            def construct(self, *inputs: Any) -> Any:
                loss = self.network(*inputs)
                sens = ops.fill(loss.dtype, loss.shape, 0.25)
                grads = self.grad(self.network, self.weights)(*inputs, sens)
                return ops.depend(loss, self.optimizer(self.grad_reducer(grads)))

        def make() -> nn.Cell:
            net = NormedNet().set_train()
            cell = PipelineCell(WithLossCell(net, nn.MSELoss()), 4)
            return Step(cell, momentum(net.trainable_params()))

        same_as_one_device(make, mode=mode, atol=2e-5)
        assert len(works) == 3 * 16

    @pytest.mark.slow
    def test_a_value_without_dropout_is_not_that_with_it(self) -> None:
        def both(stages: int) -> list[float]:
            with_stages(stages)
            paramesh.set_seed(5)
            net = NormedNet()
            cell = PipelineCell(WithLossCell(net, nn.MSELoss()), 4)
            gradients = paramesh.value_and_grad(cell, None, net.trainable_params())

            @paramesh.jit
            def losses(x: Tensor, y: Tensor) -> Any:
                net.set_train(False)
                plain = cell(x, y)
                net.set_train(True)
                return plain, gradients(x, y)[0]

            return [float(loss) for loss in losses(*rows())]

        found = both(2)
        assert found[0] != found[1]
        np.testing.assert_allclose(found, both(1), rtol=1e-5)

    @pytest.mark.slow
    def test_without_micro_batches_and_without_gradients(self) -> None:
        def make() -> TrainOneStepCell:
            net = MLP(0, 1)
            return TrainOneStepCell(
                WithLossCell(net, nn.MSELoss()), momentum(net.trainable_params())
            )

        step: Any = same_as_one_device(make)
        net = step.network.backbone_network
        there = net(rows()[0]).asnumpy()
        with_stages(1)
        np.testing.assert_allclose(net(rows()[0]).asnumpy(), there, rtol=1e-6, atol=1e-6)
        assert devices_of(net.layers[1].weight) == [0]
        with_stages(2)
        assert np.array_equal(net(rows()[0]).asnumpy(), there)
        assert devices_of(net.layers[1].weight) == [4, 5, 6, 7]

    @pytest.mark.slow
    def test_model_trains(self) -> None:
        def train(stages: int) -> dict[str, Any]:
            with_stages(stages)
            paramesh.set_seed(5)
            net = MLP(0, 1)
            cell = PipelineCell(WithLossCell(net, nn.MSELoss()), 4)
            model = Model(cell, optimizer=momentum(net.trainable_params()))
            model.train(2, [rows(0), rows(1)], progress=False)
            return state(net)

        assert_near(train(2), train(1))


def test_losses_are_added_up_as_in_mindspore() -> None:
    class Loss(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.w = paramesh.Parameter(Tensor(np.full(1, 2.0, np.float32)), name="w")

        def construct(self, x: Tensor) -> Any:
            return (x * self.w).mean()

    x = Tensor(np.arange(8, dtype=np.float32))
    # What MindSpore 2.10.0 gives on a CPU.
    for parts, loss, gradient in ((1, 7.0, 3.5), (4, 28.0, 14.0)):
        cell = PipelineCell(Loss(), parts)
        grad = paramesh.GradOperation(get_by_list=True)(cell, cell.trainable_params())
        assert float(cell(x)) == loss
        assert float(grad(x)[0]) == gradient


class _Doubled(nn.Cell):
    """A loss whose gradient is the mean of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.w = paramesh.Parameter(Tensor(np.zeros(1, np.float32)), name="w")

    def construct(self, x: Tensor) -> Any:
        return (x * self.w).mean()


@pytest.mark.parametrize("cell", [PipelineCell, nn.GradAccumulationCell, GradAccumulation])
def test_a_model_averages_over_micro_batches(cell: Any) -> None:
    """As MindSpore 2.10's `Model` does for stages and accumulation: a `sens` of 1 / micro_size."""
    x = np.arange(8, dtype=np.float32)
    net = cell(_Doubled(), 4)
    model = Model(net, optimizer=nn.SGD(net.trainable_params(), 1.0))
    model.train(1, [(Tensor(x),)], progress=False)
    np.testing.assert_allclose(net.network.w.asnumpy(), [-x.mean()])
    for scaled in (None, paramesh.FixedLossScaleManager(8.0, drop_overflow_update=False)):
        net = cell(_Doubled(), 4)
        optimizer = nn.SGD(net.trainable_params(), 1.0, loss_scale=1.0 if scaled is None else 8.0)
        step = paramesh.amp.build_train_network(net, optimizer, loss_scale_manager=scaled)
        step(Tensor(x))
        np.testing.assert_allclose(net.network.w.asnumpy(), [-x.mean()])


def test_the_cells_of_mindspores_inside_accumulate() -> None:
    x = np.arange(8, dtype=np.float32)
    for sens, factor in ((None, 1.0), (1.0, 4.0)):
        net = nn.GradAccumulationCell(_Doubled(), 4)
        optimizer = nn.SGD(net.trainable_params(), 1.0)
        step = mindspore_internals._TrainGradAccuStepCell(net, optimizer, sens)
        assert float(step(Tensor(x))) == 0.0
        np.testing.assert_allclose(net.network.w.asnumpy(), [-x.mean() * factor])
    cut = mindspore_internals._MicroBatch(4)
    assert [part.asnumpy().tolist() for part in cut(1, Tensor(x), Tensor(x))] == [[2, 3], [2, 3]]


def present_sharding(param: paramesh.Parameter) -> Any:
    sharding: Any = param.sharding
    return sharding


@pytest.fixture
def works() -> Iterator[list[tuple[int, bool, int]]]:
    """What is done, as it is done; None in it ends the work there."""
    done: list[tuple[int, bool, int]] = []
    loop_run.before_work = lambda *work: done.append(work)
    yield done
    loop_run.before_work = None


class TestState:
    def test_a_fault_between_stages_leaves_all_as_it_was(
        self, works: list[tuple[int, bool, int]], tmp_path: Path
    ) -> None:
        with_stages(2)
        paramesh.set_seed(5)
        step, reference = mlp_step(), mlp_step()
        for one, other in zip(step.get_parameters(), reference.get_parameters(), strict=True):
            other.set_data(Tensor(one.asnumpy()))
        step(*rows())
        reference(*rows())
        before, count = state(step), len(works) // 2
        assert count == 16  # two stages, four micro-batches, forward and backward
        table = table_of("1f1b", 2, 4)
        assert works[:16] == [
            (stage, *work) for tick in table for stage, work in enumerate(tick) if work
        ]

        def fail(*work: Any) -> None:
            works.append(work)
            if work == (1, False, 2):
                raise RuntimeError("a link is down")

        loop_run.before_work = fail
        with pytest.raises(RuntimeError, match="a link is down"):
            step(*rows(1))
        loop_run.before_work = None
        after = state(step)
        assert all(np.array_equal(after[name], before[name]) for name in before)
        old = memory_of(step)
        step(*rows(1))
        reference(*rows(1))
        assert_near(state(step), state(reference), 0)
        # Updates use the memory of the old values again.
        assert len(old) == 8
        assert memory_of(step) == old

        # Checkpoints know nothing of stages, there and back.
        path = str(tmp_path / "step.ckpt")
        paramesh.save_checkpoint(step, path)
        with_stages(1)
        alone = mlp_step()
        paramesh.load_checkpoint(path, alone)
        assert_near(state(alone), state(step), 0)
        alone(*rows(2))
        paramesh.save_checkpoint(alone, path)
        with_stages(2)
        paramesh.load_checkpoint(path, step)
        step(*rows(3))
        with_stages(1)
        alone(*rows(3))
        assert_near(state(alone), state(step))

    @pytest.mark.slow
    def test_an_exception_anywhere_leaves_a_step_done_or_not_begun(self) -> None:
        with_stages(2)
        step, reference = mlp_step(), mlp_step()
        for one, other in zip(step.get_parameters(), reference.get_parameters(), strict=True):
            other.set_data(Tensor(one.asnumpy()))
        batch = rows()
        for one in (step, reference):
            for _ in range(3):
                one(*batch)
        ours = ("/paramesh/",)
        count = places(lambda: step(*batch), ours)
        reference(*batch)
        outcomes = {"before": 0, "after": 0}
        for place in (*range(0, count, 1 + count // 60), count + 9):
            before = state(reference)
            reference(*batch)
            after = state(reference)
            at = At(place, ours)
            with suppress(Interrupted):
                at.call(lambda: step(*batch))
            now = state(step)
            if all(np.array_equal(now[name], before[name]) for name in now):
                outcomes["before"] += 1
                step(*batch)
                now = state(step)
            else:
                outcomes["after"] += 1
            assert all(np.array_equal(now[name], after[name]) for name in now), at.where
        assert min(outcomes.values()) > 0, outcomes

    @pytest.mark.slow
    def test_callbacks_donations_and_nans(self) -> None:
        seen: list[float] = []

        class Saying(nn.Cell):
            def __init__(self) -> None:
                super().__init__()
                self.net = MLP(0, 1)

            def construct(self, x: Tensor) -> Any:
                y = self.net(x)
                jax.debug.callback(lambda value: seen.append(float(value)), raw(y).sum())
                return y

        def losses(net: nn.Cell, call: Callable[..., Any] = lambda step: step) -> list[float]:
            paramesh.set_seed(5)
            for param in net.get_parameters():
                param.set_data(Tensor(np.full(param.shape, 0.1, np.float32)))
            step = call(step_of(net, nn.MSELoss(), 4, momentum))
            return [float(step(*rows(i))) for i in range(2)]

        with_stages(2)
        plain = losses(MLP(0, 1))
        assert losses(Saying()) == plain
        jax.effects_barrier()
        assert len(seen) == 8
        keeping = lambda step: paramesh.jit(lambda x, y: step(x, y), donate=False)  # noqa: E731
        assert losses(MLP(0, 1), keeping) == plain
        net = MLP(0, 1)
        with jax.debug_nans(True):
            assert losses(net) == plain
            before = state(net)
            step = step_of(net, nn.MSELoss(), 4, momentum)
            with pytest.raises(FloatingPointError):
                step(Tensor(np.full((16, WIDTH), np.nan, np.float32)), rows()[1])
        assert_near(state(net), before, 0)

    @pytest.mark.slow
    def test_activations_and_sums_stay_in_their_stage(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[tuple[tuple[int, ...], int]] = []
        plain = Stages.sent

        def noted(self: Stages, array: Any, stage: int) -> Any:
            sent.append((np.shape(array), stage))
            return plain(self, array, stage)

        monkeypatch.setattr(Stages, "sent", noted)
        with_stages(2)
        others = jax.live_arrays()  # of tests before this one, over other stages
        step = step_of(Transformer(2), WordLoss(), 4, momentum)
        step(*words())
        sent.clear()
        step(*words())
        # Of each micro-batch one activation and its gradient; the table once, and its gradient.
        assert sorted(item for item in sent if len(item[0]) > 2) == (
            [((4, 8, 16), 0)] * 4 + [((4, 8, 16), 1)] * 4
        )
        assert sorted(item for item in sent if item[0] == (32, 16)) == [
            ((32, 16), 0),
            ((32, 16), 1),
        ]
        known = set(map(id, others))
        own = [array for array in jax.live_arrays() if id(array) not in known]
        assert own
        for array in own:
            if array.size >= 64 and len(array.sharding.device_set) > 1:
                ids = sorted(device.id for device in array.sharding.device_set)
                assert ids in ([0, 1, 2, 3], [4, 5, 6, 7])


class Between(nn.Cell):
    """A layer without a stage between two with one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mid, self.last = (nn.Dense(WIDTH, WIDTH) for _ in range(3))
        self.first.pipeline_stage, self.last.pipeline_stage = 0, 1

    def construct(self, x: Tensor) -> Any:
        return self.last(ops.relu(self.mid(self.first(x))))


class Around(nn.Cell):
    """Both stages inside of one Cell that is computed again."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP(0, 1)
        self.net.recompute()

    def construct(self, x: Tensor) -> Any:
        return self.net(x)


def run_step(net: nn.Cell, micro_size: int = 4) -> Any:
    return step_of(net, nn.MSELoss(), micro_size, momentum)(*rows())


def test_gradients_with_layouts_are_sums() -> None:
    """Layouts are said of sums, too; each micro-batch's sum of them was kept to the end."""
    with_stages(2, "auto_parallel")
    step = step_of(MLP(0, 1), nn.MSELoss())
    kinds = [kind for loop in step.lower(*rows()).stage.loops for kind in loop.plan.kinds]
    assert len(kinds) == 4
    assert all(isinstance(kind, Sum) for kind in kinds)


class TestMistakes:
    @pytest.mark.parametrize(
        ("stages", "action", "kind", "message"),
        [
            (3, lambda: run_step(MLP(0, 1, 2)), ContextError, "3 does not divide the 8 devices"),
            (2, lambda: run_step(MLP(0, 1), 3), ValueError, "micro_size=3 does not divide the"),
            (2, lambda: run_step(MLP(0, 1), 1), ValueError, "micro_size=1 is below pipeline_st"),
            (2, lambda: run_step(MLP(0, 0)), ValueError, "no Cell of WithLossCell has pipeline_s"),
            (2, lambda: run_step(MLP(0, 1, 2)), LayoutError, "'layers.2 .Dense.' has pipeline_s"),
            (2, lambda: run_step(MLP(0, 1, 0)), LayoutError, "but it works on results of stage 1"),
            (2, lambda: run_step(Between()), LayoutError, "'mid.weight' belongs to a Cell without"),
            (2, lambda: run_step(Around()), LayoutError, r"is inside of recompute\(\)"),
        ],
    )
    def test_of_stages(self, stages: int, action: Any, kind: Any, message: str) -> None:
        with_stages(stages)
        with pytest.raises(kind, match=message):
            action()

    def test_of_the_mode(self) -> None:
        with_stages(2, "data_parallel")
        with pytest.raises(ContextError, match="pipeline_stages=2 needs parallel_mode="):
            run_step(MLP(0, 1))

    def test_of_pynative_mode(self) -> None:
        with_stages(2)
        context.set_context(mode=context.PYNATIVE_MODE)
        with pytest.raises(ContextError, match="pipeline_stages=2 needs programs"):
            run_step(MLP(0, 1))

    def test_of_settings(self) -> None:
        cases: list[tuple[Any, Any, str]] = [
            ({"pipeline_stages": 0}, ValueError, "pipeline_stages=0 is outside"),
            ({"pipeline_config": {"scheduler": "1f1b"}}, TypeError, "pipeline_config must be None"),
            ({"pipeline_config": {"pipeline_scheduler": "zb"}}, ValueError, "'zb' is not one of"),
            ({"pipeline_config": {"pipeline_interleave": True}}, ValueError, "is not supported"),
            ({"pipeline_result_broadcast": 1}, TypeError, "pipeline_result_broadcast must be"),
        ]
        for settings, kind, message in cases:
            with pytest.raises(kind, match=message):
                context.set_auto_parallel_context(**settings)

    def test_of_cells(self) -> None:
        net = MLP(0, 1)
        with pytest.raises(TypeError, match=r"MLP\.pipeline_stage must be an int, got True"):
            net.pipeline_stage = True
        with pytest.raises(ValueError, match=r"MLP\.pipeline_stage=-1 must be at least 0"):
            net.pipeline_stage = -1
        assert net.pipeline_stage is None
        with pytest.raises(KeyError, match=r"names \['layers.9'\], which MLP does not have"):
            PipelineCell(net, 4, {"layers.9": 1})
        with pytest.raises(TypeError, match="network must be a Cell, got int"):
            PipelineCell(wrong(3), 4)
        with pytest.raises(TypeError, match="micro_size must be an int, got 2.0"):
            PipelineCell(net, wrong(2.0))
        with pytest.raises(ValueError, match="micro_size must be at least 1, got 0"):
            PipelineCell(net, 0)
        with pytest.raises(ValueError, match="segment_config is for"):
            PipelineCell(net, 4, segment_config={"layers.0": 1})
        with pytest.raises(TypeError, match="PipelineGradReducer: parameters must be Parameters"):
            PipelineGradReducer(wrong([3]))
        mindspore_names.sync_pipeline_shared_parameters(net)
        with pytest.raises(TypeError, match="net must be a Cell, got int"):
            mindspore_names.sync_pipeline_shared_parameters(wrong(3))
        PipelineCell(net, 4, {"layers.0": 1, "layers.1": 1})
        assert [layer.pipeline_stage for layer in net.layers] == [1, 1]

    def test_of_what_a_network_returns(self) -> None:
        class Two(nn.Cell):
            def construct(self, x: Tensor) -> Any:
                return x, x

        with pytest.raises(TypeError, match="input 0 is a tuple with Tensors"):
            PipelineCell(Two(), 2)((rows()[0], rows()[1]))
        with pytest.raises(TypeError, match="has to be one Tensor"):
            PipelineCell(Two(), 2)(rows()[0])
