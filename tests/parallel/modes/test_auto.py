"""auto_parallel: the training script of one device, its layouts found by a search."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.errors import ContextError, LayoutError
from paramesh.parallel import Layout
from paramesh.parallel.layouts.strategy_file import load_strategy
from paramesh.parallel.modes import auto
from paramesh.train.cells import TrainOneStepCell, WithLossCell
from search_cases import FAST
from sharded_networks import MLP, X, Y, assert_same, mlp_step, run

WIDE = np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32)


@pytest.fixture(autouse=True)
def _fast_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices for which small tensors are worth cutting."""
    monkeypatch.setattr(auto, "target_of", lambda platform, kind: FAST)


def search(**settings: Any) -> None:
    context.set_auto_parallel_context(
        parallel_mode="auto_parallel", device_num=8, dataset_strategy="full_batch", **settings
    )


def wide_step() -> TrainOneStepCell:
    net = nn.SequentialCell(nn.Dense(64, 256), nn.ReLU(), nn.Dense(256, 64))
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), nn.Adam(net.trainable_params(), 0.001))


def trained(steps: int = 5) -> Any:
    return run(wide_step, (), WIDE, WIDE[::-1].copy(), steps=steps)


def sharded_names(step: Any) -> set[str]:
    return {row.name for row in step.layout_table().rows if max(row.parts, default=1) > 1}


def test_a_script_of_one_device_is_sharded_and_gives_the_same_numbers() -> None:
    want = trained()
    search()
    got = trained()
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    for name, value in want[1].items():
        np.testing.assert_allclose(got[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    step = got[2]
    assert {"0.weight", "2.weight", "moment1.0.weight", "moment2.2.weight"} <= sharded_names(step)
    table = step.layout_table()
    assert table.bytes_per_device < table.bytes_whole / 2
    shown = str(table.plan)
    assert "A step on 8 devices" in shown
    assert re.search(r"all-reduce|all-gather|reduce-scatter|all-to-all", shown)
    compared = table.plan.compared()
    assert [row.name.split()[0] for row in compared] == ["the", "data", "ZeRO-1", "ZeRO-3"]
    assert all(row.seconds >= compared[0].seconds * (1 - 1e-9) for row in compared)
    assert table.explain().startswith("the plan")


def test_the_first_numbers_are_those_of_one_device_to_the_bit() -> None:
    def first() -> dict[str, Any]:
        paramesh.set_seed(1)
        step = wide_step()
        step.compile(Tensor(WIDE), Tensor(WIDE))
        step.init_parameters_data()
        return {name: p.asnumpy() for name, p in step.parameters_dict().items()}

    want = first()
    search()
    got = first()
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_what_is_given_stays() -> None:
    want = run(mlp_step, (), X, Y)[:2]
    search()
    here = run(mlp_step, (((2, 1), (4, 1)),), X, Y)
    assert_same(here[:2], want)
    rows = {row.name: row for row in here[2].layout_table().rows}
    assert rows["first.weight"].parts == (4, 1)
    assert rows["first.bias"].parts == (4,)

    paramesh.set_seed(1)
    net = MLP()
    net.second.weight.layout = (2, 4)
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), nn.Adam(net.trainable_params(), 0.01))
    step(Tensor(X), Tensor(Y))
    rows = {row.name: row for row in step.layout_table().rows}
    assert rows["second.weight"].parts == (2, 4)


def test_a_contradiction_names_both_sides() -> None:
    search()
    weight = Parameter(Tensor(np.ones((8, 16), np.float32)), name="weight")
    first = ops.MatMul().shard(((1, 1), (1, 4)))
    second = ops.MatMul().shard(((1, 1), (1, 2)))

    @paramesh.jit
    def both(x: Any) -> Any:
        return first(x, weight) + second(x, weight)

    with pytest.raises(LayoutError, match=r"'weight'.*\(\(1, 1\), \(1, 2\)\).*\(\(1, 1\), \(1, 4"):
        both(Tensor(X))


def test_layouts_that_no_mesh_of_the_search_shows_are_refused() -> None:
    context.set_auto_parallel_context(
        parallel_mode="auto_parallel", device_num=6, dataset_strategy="full_batch"
    )
    weight = Parameter(Tensor(np.ones((6, 6), np.float32)), name="weight")
    weight.layout = Layout((2, 3), ("a", "b"))("a", "None")
    with pytest.raises(LayoutError, match=r"'weight': its own layout shards it .* cannot show"):
        paramesh.jit(lambda x: x @ weight)(Tensor(np.ones((6, 6), np.float32)))


def test_numbers_of_devices_that_are_no_power_of_two() -> None:
    want = trained(2)[0]
    context.set_auto_parallel_context(parallel_mode="auto_parallel", device_num=6)
    got = trained(2)
    np.testing.assert_allclose(got[0], want, rtol=1e-6)
    assert got[2].layout_table().device_num == 6


def test_a_plan_is_saved_and_loads_to_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "plan.ckpt")
    search(strategy_ckpt_save_file=path)
    want = trained(1)[2].layout_table()
    saved = load_strategy(path)
    assert any(entry.layout is not None for entry in saved.values())
    context.reset_auto_parallel_context()
    search(strategy_ckpt_load_file=path)
    got = trained(1)[2].layout_table()
    assert [(row.name, row.parts) for row in got.rows] == [
        (row.name, row.parts) for row in want.rows
    ]


@pytest.mark.slow
def test_a_limit_of_memory_is_kept_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Links so slow that Parameters stay replicated where there is room.
    slow = dataclasses.replace(FAST, latency=1e-5)
    monkeypatch.setattr(auto, "target_of", lambda platform, kind: slow)
    search()
    step = trained(1)[2]
    free = step.layout_table().plan.plan
    context.reset_auto_parallel_context()
    limit = int(free.memory() * 0.7)
    search(device_memory=limit)
    tight = trained(1)[2].layout_table().plan.plan
    assert tight.memory() <= limit
    assert tight.seconds > free.seconds
    context.reset_auto_parallel_context()
    search(device_memory="1KB")
    with pytest.raises(LayoutError, match=r"less than 1e\+03 bytes \(device_memory\)"):
        trained(1)


def test_layouts_found_for_reading_give_way_to_training() -> None:
    search()
    paramesh.set_seed(1)
    step = wide_step()
    step.network.backbone_network(Tensor(WIDE))
    step(Tensor(WIDE), Tensor(WIDE))
    found = [(row.name, row.parts) for row in step.layout_table().rows]
    alone = trained(1)[2]
    assert found == [(row.name, row.parts) for row in alone.layout_table().rows]
    # A program that comes later takes the Parameters as they lie.
    before = sharded_names(step)
    paramesh.jit(lambda x: step.network(x, x))(Tensor(WIDE[:8]))
    assert sharded_names(step) == before


def test_sharding_propagation_searches_nothing() -> None:
    search(search_mode="sharding_propagation")
    want = run(mlp_step, (((2, 1), (4, 1)),), X, Y)
    table = want[2].layout_table()
    assert table.plan is None
    with pytest.raises(ContextError, match="no layouts were searched for"):
        table.explain()


def test_settings_are_checked() -> None:
    for mode in ("recursive_programming", "dynamic_programming", "sharding_propagation"):
        search(search_mode=mode, device_memory="1.5GB")
        assert context.get_auto_parallel_context("search_mode") == mode
    assert context.get_auto_parallel_context("device_memory") == 1_500_000_000
    with pytest.raises(ValueError, match="search_mode"):
        search(search_mode="annealing")
    with pytest.raises(ValueError, match="device_memory must be bytes, or a text such as"):
        search(device_memory="much")
    with pytest.raises(TypeError, match="device_memory must be an int"):
        search(device_memory=1.5)
    with pytest.raises(ValueError, match="at least one byte"):
        search(device_memory=0)
