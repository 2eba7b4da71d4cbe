"""Settings: checked when they are made, all or none, and part of what programs depend on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import pytest

from paramesh import context, ignored_settings
from paramesh.errors import ContextError

GROUPS: dict[str, tuple[Callable[..., None], Callable[[str], Any], dict[str, Any]]] = {
    "set_context": (
        context.set_context,
        context.get_context,
        {"mode": context.PYNATIVE_MODE, "save_graphs": True},
    ),
    "set_auto_parallel_context": (
        context.set_auto_parallel_context,
        context.get_auto_parallel_context,
        {
            "parallel_mode": "semi_auto_parallel",
            "device_num": 8,
            "global_rank": 3,
            "gradients_mean": True,
            "gradient_fp32_sync": False,
            "grad_accumulation_step": 4,
            "comm_fusion": {"openstate": True, "allreduce": {"mode": "size", "config": 32}},
            "parameter_broadcast": True,
            "enable_parallel_optimizer": True,
        },
    ),
    "set_ps_context": (
        context.set_ps_context,
        context.get_ps_context,
        {"enable_ps": True, "server_num": 2},
    ),
}
EACH = pytest.mark.parametrize("group", GROUPS)


@EACH
def test_what_is_set_is_read_back_until_reset(group: str) -> None:
    make, read, values = GROUPS[group]
    before = {name: read(name) for name in values}
    for name, value in values.items():
        key = context.program_key()
        make(**{name: value})
        assert read(name) == value != before[name]
        # The mode chooses whether to compile; the other settings are part of what is compiled.
        assert (context.program_key() != key) == (group != "set_context")
    start = context.program_key()
    context.reset()
    assert (context.program_key() != start) == (group != "set_context")
    assert {name: read(name) for name in values} == before


@EACH
def test_all_settings_or_none(group: str) -> None:
    make, read, values = GROUPS[group]
    before = {name: read(name) for name in values}
    key = context.program_key()
    with pytest.raises(ValueError, match=f"{group}: there is no setting 'no_such'"):
        make(**values, no_such=1)
    assert {name: read(name) for name in values} == before
    assert context.program_key() == key


@EACH
def test_unknown_names_are_listed(group: str) -> None:
    _, read, values = GROUPS[group]
    with pytest.raises(ValueError, match="there is no setting 'nothing'. Settings: ") as caught:
        read("nothing")
    assert all(name in str(caught.value) for name in values)


@pytest.mark.parametrize(
    ("make", "settings", "error", "says"),
    [
        (context.set_context, {"mode": 2}, ValueError, "mode=2 is neither GRAPH_MODE"),
        (context.set_context, {"mode": True}, ValueError, "mode=True is neither"),
        (context.set_context, {"device_target": "Ascend"}, ValueError, "'CPU', 'GPU', 'TPU'"),
        (context.set_context, {"save_graphs": 4}, TypeError, "must be True or False, got 4"),
        (context.set_context, {"compilation_cache_dir": 3}, TypeError, "a path or None, got 3"),
        (
            context.set_auto_parallel_context,
            {"parallel_mode": "fast"},
            ValueError,
            "parallel_mode='fast' is not one of 'stand_alone'",
        ),
        (context.set_auto_parallel_context, {"device_num": 0}, ValueError, "outside 1..4096"),
        (context.set_auto_parallel_context, {"device_num": 4097}, ValueError, "outside 1..4096"),
        (context.set_auto_parallel_context, {"device_num": True}, TypeError, "must be an int"),
        (context.set_auto_parallel_context, {"device_num": 1.0}, TypeError, "must be an int"),
        (context.set_auto_parallel_context, {"global_rank": -1}, ValueError, "outside 0..4095"),
        (context.set_auto_parallel_context, {"gradients_mean": 1}, TypeError, "True or False"),
        (
            context.set_auto_parallel_context,
            {"grad_accumulation_step": 0},
            ValueError,
            "grad_accumulation_step=0 is outside 1..65536",
        ),
        (
            context.set_auto_parallel_context,
            {"pipeline_stages": 4097},
            ValueError,
            "pipeline_stages=4097 is outside 1..4096",
        ),
        (
            context.set_auto_parallel_context,
            {"comm_fusion": {"reduce": {}}},
            TypeError,
            "keys among openstate, allreduce, allgather, reducescatter",
        ),
        (
            context.set_auto_parallel_context,
            {"comm_fusion": {"openstate": 1}},
            TypeError,
            "openstate.* must be True or False",
        ),
        (
            context.set_auto_parallel_context,
            {"comm_fusion": {"allreduce": {"config": 1}}},
            TypeError,
            "must be a dict with a 'mode' and a 'config'",
        ),
        (
            context.set_auto_parallel_context,
            {"comm_fusion": {"allgather": {"mode": "index", "config": [1]}}},
            ValueError,
            "'index' is not one of 'auto', 'size'",
        ),
        (
            context.set_auto_parallel_context,
            {"comm_fusion": {"allreduce": {"mode": "auto", "config": 1}}},
            ValueError,
            "in mode 'auto' takes config=None, got 1",
        ),
        (
            context.set_auto_parallel_context,
            {"comm_fusion": {"allreduce": {"mode": "size", "config": 0}}},
            ValueError,
            "outside 1..4096",
        ),
        (
            context.set_auto_parallel_context,
            {"all_reduce_fusion_config": [20, 10]},
            ValueError,
            "rising positions .* got .20, 10.",
        ),
        (
            context.set_auto_parallel_context,
            {"all_reduce_fusion_config": [1], "comm_fusion": None},
            ValueError,
            "are the same setting; pass only one",
        ),
        (context.set_ps_context, {"enable_ps": 1}, TypeError, "True or False, got 1"),
        (context.set_ps_context, {"server_num": 257}, ValueError, "server_num=257 is outside"),
    ],
)
def test_bad_values(make: Any, settings: dict[str, Any], error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        make(**settings)


def test_device_target_has_to_be_there() -> None:
    context.set_context(device_target="CPU")
    assert context.get_context("device_target") == "CPU"
    with pytest.raises(ContextError, match="JAX runs on CPU here. Install paramesh.tpu."):
        context.set_context(device_target="TPU")
    assert context.get_context("device_target") == "CPU"


def test_parallel_modes_have_names() -> None:
    assert context.ParallelMode.SEMI_AUTO_PARALLEL == "semi_auto_parallel"
    for mode in context.ParallelMode.MODE_LIST:
        context.set_auto_parallel_context(parallel_mode=mode)
        assert context.get_auto_parallel_context("parallel_mode") == mode


class TestTheCompilationCache:
    """`compilation_cache_dir`: the programs of one process are found by the next."""

    def test_turned_on_after_something_was_compiled(self, tmp_path: Any) -> None:
        jax.jit(lambda x: x * 5)(1.0)
        for folder in (tmp_path / "first", tmp_path / "second"):
            context.set_context(compilation_cache_dir=str(folder))
            jax.jit(lambda x: x * 3)(1.0)
            assert len(list(folder.glob("*-cache"))) == 1
        context.set_context(compilation_cache_dir=None)
        jax.jit(lambda x: x * 4)(1.0)
        assert len(list(tmp_path.glob("*/*-cache"))) == 2

    def test_a_threshold_of_the_user_stays(self, tmp_path: Any) -> None:
        seconds = "jax_persistent_cache_min_compile_time_secs"
        assert jax.config.values[seconds] == 1.0
        context.set_context(compilation_cache_dir=str(tmp_path))
        assert jax.config.values[seconds] == 0.0
        context.reset()
        assert jax.config.values[seconds] == 1.0
        assert jax.config.values["jax_compilation_cache_dir"] is None
        jax.config.update(seconds, 0.5)
        try:
            context.set_context(compilation_cache_dir=str(tmp_path))
            assert jax.config.values[seconds] == 0.5
            context.reset()
            assert jax.config.values[seconds] == 0.5
        finally:
            jax.config.update(seconds, 1.0)

    def test_a_second_start_compiles_nothing(self, tmp_path: Any) -> None:
        first, second = (second_start(tmp_path) for _ in range(2))
        assert first["hits"] == 0
        assert first["misses"] >= 2  # the recipes and the step
        assert second["hits"] == first["misses"]
        assert second["misses"] == 0
        assert second["loss"] == first["loss"]


START = """
import json, sys
import jax.monitoring
import numpy as np
import paramesh
from paramesh import Tensor, nn

counted = {"/jax/compilation_cache/cache_hits": 0, "/jax/compilation_cache/cache_misses": 0}

def listen(event, **_):
    if event in counted:
        counted[event] += 1

jax.monitoring.register_event_listener(listen)
paramesh.set_context(compilation_cache_dir=sys.argv[1])
net = nn.Dense(3, 2)
momentum = nn.Momentum(net.trainable_params(), 0.1, 0.9)
gradients = paramesh.value_and_grad(
    lambda x: (net(x) ** 2).sum(), None, net.trainable_params()
)

@paramesh.jit
def step(x):
    loss, grads = gradients(x)
    momentum(grads)
    return loss

loss = float(step(Tensor(np.ones((2, 3), np.float32))))
hits, misses = counted.values()
print(json.dumps({"hits": hits, "misses": misses, "loss": loss}))
"""


def second_start(folder: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", START, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_older_name_of_fusion() -> None:
    read = context.get_auto_parallel_context
    assert read("all_reduce_fusion_config") == []
    context.set_auto_parallel_context(all_reduce_fusion_config=[3, 5])
    assert read("all_reduce_fusion_config") == [3, 5]
    assert read("comm_fusion") == {"allreduce": {"mode": "index", "config": [3, 5]}}
    read("comm_fusion")["allreduce"]["config"].append(9)
    assert read("all_reduce_fusion_config") == [3, 5]


def test_settings_that_are_recorded() -> None:
    read = context.get_auto_parallel_context
    assert read("enable_alltoall") is False
    assert read("communi_parallel_mode") == "all_group_parallel"
    context.set_auto_parallel_context(
        enable_alltoall=True, communi_parallel_mode="no_group_parallel"
    )
    assert read("enable_alltoall") is True
    assert read("communi_parallel_mode") == "no_group_parallel"
    with pytest.raises(ValueError, match="communi_parallel_mode"):
        context.set_auto_parallel_context(communi_parallel_mode="some")
    with pytest.raises(TypeError, match="enable_alltoall"):
        context.set_auto_parallel_context(enable_alltoall=1)


def test_the_older_place_of_the_shard_size() -> None:
    read = context.get_auto_parallel_context
    assert read("optimizer_weight_shard_size") == -1
    context.set_auto_parallel_context(parallel_optimizer_config={"parallel_optimizer_threshold": 8})
    context.set_auto_parallel_context(optimizer_weight_shard_size=2)
    assert read("optimizer_weight_shard_size") == 2
    config = read("parallel_optimizer_config")
    assert config["parallel_optimizer_threshold"] == 8
    assert config["optimizer_weight_shard_size"] == 2
    with pytest.raises(ValueError, match="optimizer_weight_shard_size"):
        context.set_auto_parallel_context(optimizer_weight_shard_size=0)
    with pytest.raises(ValueError, match="pass only one"):
        context.set_auto_parallel_context(
            optimizer_weight_shard_size=2,
            parallel_optimizer_config={"optimizer_weight_shard_size": 2},
        )
    context.set_auto_parallel_context(optimizer_weight_shard_size=4, parallel_optimizer_config={})
    assert read("optimizer_weight_shard_size") == 4


def test_levels_of_the_parallel_optimizer() -> None:
    def config(**given: Any) -> Any:
        context.set_auto_parallel_context(parallel_optimizer_config=given)
        return context.get_auto_parallel_context("parallel_optimizer_config")

    assert config()["optimizer_level"] == "level1"
    assert config(optimizer_level="level3")["optimizer_level"] == "level3"
    assert config(gradient_accumulation_shard=True)["optimizer_level"] == "level2"
    context.set_auto_parallel_context(optimizer_weight_shard_size=2)  # of what was made
    with pytest.raises(ValueError, match="'level4' is not one of 'level1', 'level2', 'level3'"):
        config(optimizer_level="level4")
    with pytest.raises(ValueError, match="'level2', and optimizer_level='level1'. Leave one"):
        config(optimizer_level="level1", gradient_accumulation_shard=True)


def test_a_device_num_of_one_is_not_the_same_as_none() -> None:
    assert context.device_num() is None
    key = context.program_key()
    context.set_auto_parallel_context(device_num=1)
    assert context.device_num() == 1
    assert context.program_key() != key
    context.reset()
    assert context.device_num() is None


def test_settings_of_mindspore_that_mean_nothing_are_noted_once(caplog, monkeypatch) -> None:
    monkeypatch.setattr(ignored_settings, "_noted", set())
    context.set_context(mode=context.GRAPH_MODE, device_id=3, max_call_depth=10_000)
    context.set_context(device_id=4, save_graphs=2)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(" is MindSpore's")[0] for text in said] == [
        "set_context: device_id",
        "set_context: max_call_depth",
    ]
    assert "has no effect here: JAX chooses the devices" in said[0]
    assert context.get_context("device_id") == 4
    assert context.get_context("save_graphs") == 2
    context.reset()
    assert context.get_context("device_id") == 0
    for name in ignored_settings.SETTINGS:
        context.set_context(**{name: context.get_context(name)})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mod", "Did you mean 'mode'?"),
        ("device_targets", "Did you mean 'device_target'?"),
        ("max_call_depht", "Did you mean 'max_call_depth'?"),
        ("parallel_mode", "Did you mean 'parallel_mode' (of set_auto_parallel_context)?"),
        ("server_nun", "Did you mean 'server_num' (of set_ps_context)?"),
    ],
)
def test_unknown_settings_get_a_suggestion(name: str, hint: str) -> None:
    for call in (lambda: context.set_context(**{name: 1}), lambda: context.get_context(name)):
        with pytest.raises(ValueError, match=re.escape(hint) + "$"):
            call()


def test_former_names_of_parallel_settings() -> None:
    read = context.get_auto_parallel_context
    context.set_auto_parallel_context(mirror_mean=True, loss_repeated_mean=True)
    assert read("gradients_mean") is read("mirror_mean") is read("loss_repeated_mean") is True
    context.set_auto_parallel_context(auto_parallel_search_mode="dynamic_programming")
    assert read("auto_parallel_search_mode") == "dynamic_programming"
    files = {"save_file": "./a.ckpt", "load_file": "./b.ckpt"}
    context.set_auto_parallel_context(strategy_ckpt_config=files | {"only_trainable_params": False})
    assert read("strategy_ckpt_config") == files
    assert read("strategy_ckpt_load_file") == "./b.ckpt"
    with pytest.raises(ValueError, match="loss_repeated_mean must be True"):
        context.set_auto_parallel_context(loss_repeated_mean=False)
    with pytest.raises(ValueError, match="pass only one"):
        context.set_auto_parallel_context(mirror_mean=True, gradients_mean=True)
    with pytest.raises(ValueError, match="strategy_ckpt_save_file are the same"):
        context.set_auto_parallel_context(
            strategy_ckpt_config=files, strategy_ckpt_save_file="./c.ckpt"
        )
    with pytest.raises(ValueError, match="must be a dict with entries of load_file"):
        context.set_auto_parallel_context(strategy_ckpt_config={"file": "a"})
