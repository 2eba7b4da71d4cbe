"""The layouts by hand that `benchmarks/search.py` compares plans with."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from paramesh.parallel.search.plan import find
from paramesh.parallel.search.resharding import REPLICATED
from search_cases import FAST

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

drec: Any = importlib.import_module("searched.drec")
networks: Any = importlib.import_module("searched.networks")
peers: Any = importlib.import_module("searched.peers")

SMALL: dict[str, Any] = {
    "mlp": lambda: networks.mlp(64, (64, 256, 64, 256, 64)),
    "gpt": lambda: networks.gpt(1, 64, 8, 256, 8, 32),
    "layers in a scan": lambda: networks.gpt(3, 64, 8, 256, 8, 32, scanned=True),
    "wide and deep": lambda: networks.wide_and_deep((1024, 512), 16, 64, (64, 32)),
    "resnet": lambda: networks.resnet(8, 16, (16, 32), 1, 16, 64),
    "moe": lambda: networks.moe(1, 64, 128, 8, 8, 32),
    "unet": lambda: networks.unet(8, 16, (16, 32)),
    "lstm": lambda: networks.lstm(256, 64, 1, 16, 8),
}


def test_megatron_cuts_columns_then_rows_and_sends_one_sum_each_way() -> None:
    network = SMALL["mlp"]()
    peer = peers.peers_of(network, (8,))["Megatron"]
    plan = peers.modelled(network, peer, (8,), FAST)
    specs = [plan.input_spec(n) for n in range(4)]
    assert specs == [(1,), (0,), (1,), (0,)]
    # The sums of two products forward and of one backward, each of 64 by 64 numbers.
    share = 2 * 64 * 64 * 4 * 7 / 8
    assert sum(plan.sent().values()) == pytest.approx(3 * share, rel=0.01)


def test_data_parallel_sends_the_gradients_where_rows_are_many() -> None:
    network = networks.mlp(2048, (64, 128, 64, 128, 64))
    peer = peers.peers_of(network, (8,))["data parallel"]
    plan = peers.modelled(network, peer, (8,), FAST)
    assert all(plan.input_spec(n) == (REPLICATED,) for n in range(12))
    assert sum(plan.sent().values()) == pytest.approx(2 * 4 * 64 * 128 * 4 * 7 / 8, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8,), (2, 4)])
@pytest.mark.parametrize("name", SMALL)
def test_no_layout_by_hand_costs_less_than_the_plan(name: str, sizes: tuple[int, ...]) -> None:
    network = SMALL[name]()
    plan = find(peers.program_of(network), FAST, sizes=sizes)
    for title, peer in peers.peers_of(network, sizes).items():
        other = peers.modelled(network, peer, sizes, FAST)
        assert other.seconds >= plan.seconds * (1 - 1e-6), title


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_drec_costs_no_less_than_the_plan_on_its_mesh(name: str) -> None:
    program = peers.program_of(SMALL[name]())
    plan = find(program, FAST, sizes=(2, 2, 2))
    problem = peers.problem_of(program, (2, 2, 2), FAST)
    assert drec.found_by_drec(program, problem).seconds >= plan.seconds * (1 - 1e-6)
