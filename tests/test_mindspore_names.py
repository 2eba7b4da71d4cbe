"""Names of MindSpore's top that mean little here, its `log`, and what is asked of its inside."""

from __future__ import annotations

import importlib
import logging
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, log, mindspore_names, nn, ops
from paramesh.errors import LayoutError
from type_checks import wrong


def test_what_passes_through() -> None:
    value, function = [Tensor(1.0)], lambda self: None
    assert paramesh.mutable(value) is value
    assert paramesh.mutable(value, dynamic_len=True) is value
    assert paramesh.lazy_inline(function) is function
    assert paramesh.lazy_inline(policy="front")(function) is function
    assert paramesh.jit_class(int) is paramesh.ms_class(int) is int
    with pytest.raises(TypeError, match="jit_class decorates a class, got 3"):
        paramesh.jit_class(wrong(3))
    assert paramesh.no_recursive(int) is int
    with pytest.raises(TypeError, match="no_recursive decorates a Cell or a function, got 3"):
        paramesh.no_recursive(wrong(3))


def test_ms_function_compiles() -> None:
    for decorator in (paramesh.ms_function, paramesh.ms_function(input_signature=None)):
        runs: list[int] = []

        @decorator
        def double(x: Tensor, runs: list[int] = runs) -> Tensor:
            runs.append(1)
            return x * 2

        assert double(Tensor([1.0])).asnumpy().tolist() == [2]
        assert double(Tensor([2.0])).asnumpy().tolist() == [4]
        assert len(runs) == 1


def test_tensors_from_arrays() -> None:
    array = np.arange(3, dtype=np.float32)
    tensor = paramesh.from_numpy(array)
    array[0] = 5
    assert tensor.asnumpy().tolist() == [0, 1, 2]
    assert paramesh.is_tensor(tensor)
    assert not paramesh.is_tensor(array)
    with pytest.raises(TypeError, match="from_numpy takes a numpy array, got list"):
        paramesh.from_numpy(wrong([1]))


def test_a_manual_seed_repeats_what_is_drawn() -> None:
    drawn = []
    for _ in range(2):
        paramesh.manual_seed(3)
        drawn.append(paramesh.ops.standard_normal((2,)).asnumpy().tolist())
    assert drawn[0] == drawn[1]
    assert paramesh.Generator is paramesh.random.Generator


def test_set_dump_is_remembered() -> None:
    net, add = nn.SequentialCell(nn.ReLU()), ops.Add()
    paramesh.set_dump(net)
    paramesh.set_dump(add, enabled=False)
    assert net[0].get_flags()["dump"] is True
    assert add.attrs["dump"] == "false"
    with pytest.raises(TypeError, match="enabled must be a bool, got 1"):
        paramesh.set_dump(net, wrong(1))
    with pytest.raises(TypeError, match="takes a Cell or an operator such as ops.Add"):
        paramesh.set_dump(3)


def test_set_device_is_the_setting() -> None:
    paramesh.set_device("CPU", 0)
    assert context.get_context("device_target") == "CPU"
    with pytest.raises(ValueError, match="device_target='Cpu' is not one of"):
        paramesh.set_device("Cpu")


def test_a_recursion_limit_is_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(sys, "setrecursionlimit", made.append)
    now = sys.getrecursionlimit()
    paramesh.set_recursion_limit(now + 10)
    paramesh.set_recursion_limit(10)
    assert made == [now + 10, now]


def test_settings_of_the_search_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    try:
        paramesh.set_algo_parameters(fully_use_devices=True)
        assert paramesh.get_algo_parameters("fully_use_devices") is True
        assert "have no effect here" in caplog.text
    finally:
        paramesh.reset_algo_parameters()
    assert paramesh.get_algo_parameters("fully_use_devices") is False
    with pytest.raises(ValueError, match="there is no setting 'nope'"):
        paramesh.set_algo_parameters(nope=1)


def test_messages_of_scripts_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert log.get_level() == "2"
    log.info("not shown")
    log.warning("loss %d", 3)
    said = capsys.readouterr().err
    assert said.startswith("[WARNING] ")
    assert "[test_mindspore_names.py:" in said
    assert said.endswith("] loss 3\n")
    try:
        log.set_level(0)
        for level in ("debug", "info", "error", "critical"):
            getattr(log, level)("shown")
            assert capsys.readouterr().err.startswith(f"[{level.upper()}]")
    finally:
        log.set_level(2)
    with pytest.raises(ValueError, match="level must be 0, 1, 2, 3 or 4, got 5"):
        log.set_level(5)


def test_the_level_is_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, level in (("1", "1"), ("nonsense", "2")):
        monkeypatch.setenv("GLOG_v", said)
        importlib.reload(log)
        assert log.get_level() == level
    handlers = logging.getLogger("paramesh.log").handlers
    assert [type(handler).__name__ for handler in handlers].count("_Stderr") == 1
    monkeypatch.delenv("GLOG_v")
    importlib.reload(log)


def test_the_inside_of_mindspore_tells_the_parallel_settings() -> None:
    utils = importlib.import_module("paramesh.parallel._utils")
    other = importlib.import_module("paramesh.parallel._auto_parallel_context")
    context.set_auto_parallel_context(
        parallel_mode="data_parallel", device_num=4, gradients_mean=True
    )
    assert utils._get_parallel_mode() == "data_parallel"
    assert utils._get_device_num() == 4
    assert utils._get_gradients_mean() is True
    assert (utils._is_in_data_parallel_mode(), utils._is_in_auto_parallel_mode()) == (True, False)
    settings = other.auto_parallel_context()
    assert settings.get_device_num() == 4
    assert settings.get_device_num_is_set()
    settings.set_device_num(2)
    assert context.get_auto_parallel_context("device_num") == 2
    with pytest.raises(AttributeError, match="has no 'get_nope': .* there is no setting 'nope'"):
        settings.get_nope()
    assert settings.get_enable_all_reduce_fusion()
    settings.set_enable_all_reduce_fusion(enable_all_reduce_fusion=False)
    assert context.get_auto_parallel_context("comm_fusion") == {"openstate": False}
    assert not settings.get_enable_all_reduce_fusion()
    settings.set_enable_all_reduce_fusion(enable_all_reduce_fusion=True)
    assert context.get_auto_parallel_context("comm_fusion") is None
    with pytest.raises(TypeError, match="must be a bool, got 1"):
        settings.set_enable_all_reduce_fusion(enable_all_reduce_fusion=1)
    assert not utils._is_sharding_propagation()
    context.set_auto_parallel_context(
        parallel_mode="auto_parallel", search_mode="sharding_propagation"
    )
    assert utils._is_sharding_propagation()
    utils._reset_op_id()


def test_settings_of_the_cost_model_are_kept_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    model = importlib.import_module("paramesh.parallel._cost_model_context")
    assert model.get_cost_model_context("costmodel_alpha") == 1.0
    model.set_cost_model_context(costmodel_alpha=2.0)
    model.set_cost_model_context(costmodel_alpha=3.0)
    assert model.get_cost_model_context("costmodel_alpha") == 3.0
    assert caplog.text.count("costmodel_alpha is a setting of MindSpore's cost model") == 1
    with pytest.raises(ValueError, match="there is no setting 'alpha'. Settings: device_memory"):
        model.set_cost_model_context(alpha=1.0)
    model._set_rp_matmul_mem_coef(16)
    assert model._get_rp_matmul_mem_coef() == 16
    model.reset_cost_model_context()
    assert model.get_cost_model_context("costmodel_alpha") == 1.0
    assert model._get_rp_matmul_mem_coef() == 0.1


def test_shard_of_a_function_and_of_a_cell() -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    x = Tensor(np.arange(32, dtype=np.float32).reshape(8, 4))
    double = paramesh.shard(lambda a: a * 2, in_strategy=((4, 1),), out_strategy=((8, 1),))
    out = paramesh.jit(lambda a: double(a))(x)
    np.testing.assert_array_equal(out.asnumpy(), 2 * x.asnumpy())
    assert jnp.asarray(out).addressable_data(0).shape == (1, 4)
    layer = nn.Dense(4, 8)
    call = paramesh.shard(layer, in_strategy=((2, 1),), parameter_plan={"weight": (4, 1)})
    paramesh.jit(lambda a: call(a))(x)
    assert layer.weight.layout is not None
    with pytest.raises(TypeError, match="expected a Cell or a function, got int"):
        paramesh.shard(3)  # type: ignore[arg-type]
    with pytest.raises(LayoutError, match="names weight, but"):
        paramesh.shard(lambda a: a, parameter_plan={"weight": (4, 1)})


def test_all_of_them_are_at_the_top() -> None:
    for name in mindspore_names.__all__:
        assert getattr(paramesh, name) is getattr(mindspore_names, name)
    for name in ("save_checkpoint", "load_checkpoint", "load_param_into_net"):
        assert getattr(paramesh.train, name) is getattr(paramesh, name)
    assert paramesh.ops.composite.ones_like is paramesh.ops.ones_like


def test_names_and_pairs_are_checked() -> None:
    from paramesh.mindspore_checks import Validator, check_str_by_regular, twice

    assert vars(Validator)["check_str_by_regular"].__func__ is check_str_by_regular
    assert check_str_by_regular("_a1.b")
    assert check_str_by_regular("$", r"\$")
    for name in (".a", "a$", "a+b", ""):
        with pytest.raises(ValueError, match="must match"):
            check_str_by_regular(name)
    assert twice(3) == twice((3, 3)) == (3, 3)
    for pair in (0.5, "ab", (1, 2, 3), (1.5, 2)):
        with pytest.raises(TypeError, match="an int, or a tuple of two ints"):
            twice(wrong(pair))
