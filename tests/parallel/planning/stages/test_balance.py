"""Borders of stages by modelled time."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn
from paramesh.parallel.planning.stages.balance import cut_evenly
from type_checks import wrong

X = Tensor(np.ones((512, 64), np.float32))
#: In and out of each layer: the fourth computes a third of all.
WIDTHS = ((64, 64), (64, 64), (64, 256), (256, 256), (256, 64), (64, 64))


def network() -> nn.Cell:
    layers = nn.SequentialCell(*(nn.Dense(n, m) for n, m in WIDTHS))
    return nn.WithLossCell(layers, nn.MSELoss())


@pytest.mark.parametrize(("stages", "cuts"), [(1, ()), (2, (3,)), (3, (3, 4))])
def test_the_slowest_stage_is_as_fast_as_can_be(stages: int, cuts: tuple[int, ...]) -> None:
    net = network()
    shape = jax.ShapeDtypeStruct(X.shape, np.float32)
    found = paramesh.balanced_stages(net, shape, shape, stages=stages, target="h100")
    wanted = {f"_backbone.{n}": sum(n >= cut for cut in cuts) for n in range(len(WIDTHS))}
    assert found == wanted
    assert all(cell.pipeline_stage is None for _, cell in net.cells_and_names())
    assert all(param.has_init for param in net.get_parameters())
    config = nn.PipelineCell(net, 4, found).network
    assert [cell.pipeline_stage for cell in config._backbone] == list(wanted.values())


@pytest.mark.parametrize("seed", range(4))
def test_cuts_are_the_best_of_all(seed: int) -> None:
    draw = np.random.default_rng(seed)
    seconds = draw.integers(1, 20, int(draw.integers(4, 9))).tolist()
    for parts in range(1, len(seconds) + 1):
        ends = cut_evenly(seconds, parts)

        def slowest(ends: Any) -> int:
            return max(sum(seconds[a:b]) for a, b in itertools.pairwise((0, *ends)))

        ways = itertools.combinations(range(1, len(seconds)), parts - 1)
        assert slowest(ends) == min(slowest((*way, len(seconds))) for way in ways)
        assert len(ends) == parts
        assert ends == sorted(set(ends))


def test_mistakes() -> None:
    net = network()
    with pytest.raises(ValueError, match=r"at least 7 Cells with Parameters \(the longest has 6\)"):
        paramesh.balanced_stages(net, X, X, stages=7)
    with pytest.raises(ValueError, match="stages=0 must be at least 1"):
        paramesh.balanced_stages(net, X, X, stages=0)
    with pytest.raises(TypeError, match="network must be a Cell, got function"):
        paramesh.balanced_stages(wrong(lambda x: x), X, stages=2)
    nn.PipelineCell(net, 4, {"_backbone.0": 0})
    with pytest.raises(ValueError, match=r"Cell '_backbone.0' \(Dense\) has pipeline_stage=0"):
        paramesh.balanced_stages(net, X, X, stages=2)
