"""MindSpore 2's `AutoParallel`, and the settings that its methods make."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Layout, Tensor, context, nn, optim
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel import AutoParallel
from paramesh.train.cells import TrainOneStepCell, WithLossCell

settings = context.get_auto_parallel_context
X = Tensor(np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32))


def trained(wrap: Any) -> tuple[Any, Any]:
    paramesh.set_seed(1)
    net = nn.Dense(64, 64)
    wrapped = wrap(net)
    optimizer = optim.Adam(wrapped.trainable_params())
    step = TrainOneStepCell(WithLossCell(wrapped, nn.MSELoss()), optimizer)
    for _ in range(2):
        step(X, X)
    return net, optimizer


def test_a_network_is_trained_as_without(tmp_path: Path) -> None:
    expected, _ = trained(lambda net: net)
    file = str(tmp_path / "strategy.json")

    def wrap(net: Any) -> AutoParallel:
        context.set_auto_parallel_context(device_num=8)
        wrapped = AutoParallel(net)
        net.matmul.shard(((2, 1), (2, 1)))
        wrapped.hsdp(shard_size=2, threshold=8)
        wrapped.save_param_strategy_file(file)
        return wrapped

    net, optimizer = trained(wrap)
    assert [param.name for param in net.get_parameters()] == ["weight", "bias"]
    np.testing.assert_allclose(net.weight.asnumpy(), expected.weight.asnumpy(), 1e-5, 1e-6)
    rows = {row["name"]: row for row in optimizer.layout_table().to_dicts()}
    assert tuple(rows["moment1.weight"]["slice_shape"]) == (16, 64)  # 2 by the strategy, 2 by hsdp
    assert tuple(rows["moment1.bias"]["slice_shape"]) == (64,)  # below the threshold
    assert Path(file).exists()


def test_settings() -> None:
    parallel = AutoParallel(nn.Dense(4, 4), parallel_mode="recursive_programming")
    assert settings("parallel_mode") == "auto_parallel"
    assert settings("search_mode") == "recursive_programming"
    AutoParallel(lambda x: x, parallel_mode="sharding_propagation")
    assert settings("search_mode") == "sharding_propagation"
    parallel.dataset_strategy("full_batch")
    assert settings("full_batch")
    parallel.dataset_strategy(((4, 1), Layout((8,), ("dp",))("dp")))
    assert not settings("full_batch")
    parallel.comm_fusion({"allreduce": {"mode": "auto", "config": None}})
    assert settings("comm_fusion") == {"allreduce": {"mode": "auto", "config": None}}
    parallel.disable_gradient_fp32_sync()
    assert not settings("gradient_fp32_sync")
    parallel.enable_fp32_communication()
    parallel.enable_gradients_mean()
    assert settings("gradient_fp32_sync")
    assert settings("gradients_mean")
    parallel.load_param_strategy_file("a.json")
    assert settings("strategy_ckpt_load_file") == "a.json"
    parallel.pipeline(2, output_broadcast=True, scheduler="gpipe")
    assert settings("pipeline_stages") == 2
    assert settings("pipeline_config")["pipeline_scheduler"] == "gpipe"
    assert settings("pipeline_result_broadcast")
    parallel.no_init_parameters_in_compile()
    parallel.disable_strategy_file_only_for_trainable_params()


def test_what_has_no_effect_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    parallel = AutoParallel(nn.Dense(4, 4))
    with caplog.at_level(logging.WARNING, logger="paramesh"):
        parallel.transformer_opt("a.json")
        parallel.auto_memory_offload({})
        parallel.set_group_ckpt_save_file("a.pb")
        parallel.print_local_norm()
        parallel.dump_local_norm("a")
        parallel.enable_device_local_norm()
        parallel.disable_loss_repeated_mean()
    assert len(caplog.records) == 7
    assert all("has no effect here" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda p: AutoParallel(3), TypeError, "expected a Cell or a function, got 3"),
        (lambda p: AutoParallel(nn.ReLU(), "x"), ValueError, "'x' is not one of 'semi_auto'"),
        (lambda p: p.dataset_strategy(None), ValueError, "'full_batch' or a tuple, got None"),
        (lambda p: p.dataset_strategy("x"), ValueError, "got 'x'"),
        (lambda p: p.dataset_strategy([(1,)]), TypeError, "must be a str or a tuple"),
        (lambda p: p.dataset_strategy((1,)), TypeError, "a tuple of ints or a Layout, got 1"),
        (lambda p: p.hsdp(0), ValueError, "optimizer_weight_shard_size"),
        (lambda p: p.hsdp(threshold=-1), ValueError, "parallel_optimizer_threshold"),
        (lambda p: p.hsdp(optimizer_level="x"), ValueError, "'level1', 'level2' or 'level3'"),
        (lambda p: p.hsdp(optimizer_level="level3"), ContextError, "Give them a layout"),
        (lambda p: p.pipeline(2, interleave=True), ValueError, "is not supported: a stage has"),
        (lambda p: p.pipeline(2, scheduler="seqpipe"), ValueError, "'seqpipe' is not one of"),
        (lambda p: p.save_param_strategy_file(3), TypeError, "file_path must be a str, got int"),
        (lambda p: p.save_operator_strategy_file("/a.json"), ContextError, "no files of operators"),
        (lambda p: p.load_operator_strategy_file(3), TypeError, "must be a str"),
        (
            lambda p: context.set_auto_parallel_context(parallel_optimizer_config={"x": 1}),
            TypeError,
            "a dict with keys among",
        ),
        (
            lambda p: context.set_auto_parallel_context(
                search_mode="sharding_propagation", auto_parallel_search_mode="x"
            ),
            ValueError,
            "are the same setting",
        ),
    ],
)
def test_mistakes(call: Any, kind: type[Exception], message: str) -> None:
    parallel = AutoParallel(nn.Dense(4, 4))
    with pytest.raises(kind, match=message):
        call(parallel)


def test_an_optimizer_has_a_target() -> None:
    optimizer = optim.Adam(nn.Dense(4, 4).trainable_params())
    optimizer.target = "GPU"
    assert optimizer.target == "GPU"
    with pytest.raises(ValueError, match=r"Adam.target: 'x' is not one of CPU, GPU, Ascend"):
        optimizer.target = "x"
    with pytest.raises(TypeError, match=r"Adam.target: expected a str, got int"):
        optimizer.target = 1  # type: ignore[assignment]
    assert optimizer.sparse_opt.set_device("CPU").add_prim_attr("use_locking", "no")
    assert optimizer.target == "CPU"
    optimizer.sparse_opt.add_prim_attr("primitive_target", "GPU")
    assert optimizer.target == "GPU"
    with pytest.raises(ValueError, match=r"Adam.target: 'x' is not one of"):
        optimizer.sparse_opt.set_device("x")


def test_an_interleaved_axis_is_left_out() -> None:
    named = Layout((2, 4, 2), ("dp", "mp", "interleaved_parallel"))
    plain = Layout((2, 4), ("dp", "mp"))
    assert named == plain
    assert named(("dp", "interleaved_parallel"), "mp").same_placement(plain("dp", "mp"))
    assert named("interleaved_parallel", "mp") == plain("None", "mp")
    with pytest.raises(LayoutError, match="must be the last name"):
        Layout((2, 4), ("interleaved_parallel", "dp"))
    with pytest.raises(LayoutError, match="needs an axis of devices"):
        Layout((2,), ("interleaved_parallel",))
