"""Operators that draw numbers: sharded, they draw those of one device."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, ops
from sharded_arguments import IMAGE, RANDOM, X, f, i

_VOLUMES, _LABELS = f(4, 8, 4, 4, 4), i(40, 8, 2).astype(np.int64)
_SAMPLER: dict[str, Any] = dict(num_true=2, num_sampled=8, unique=True, range_max=40, seed=3)
_RATIOS: dict[str, Any] = {"pooling_ratio": [1.0, 1.5, 2.0, 1.0]}
#: Class name -> settings, arguments, a strategy.
CASES: dict[str, tuple[dict[str, Any], tuple[Any, ...], Any]] = {
    "Dropout": ({"keep_prob": 0.5}, (X,), ((2, 4),)),
    "Dropout2D": ({"keep_prob": 0.5}, (IMAGE,), ((2, 2, 2, 1),)),
    "Dropout3D": ({"keep_prob": 0.5}, (_VOLUMES,), ((2, 2, 2, 1, 1),)),
    "FractionalAvgPool": (_RATIOS, (f(8, 9, 8, 8),), ((8, 1, 1, 1),)),
    "FractionalMaxPool": (_RATIOS, (f(8, 9, 8, 8),), ((2, 1, 1, 4),)),
    "Gamma": ({"seed": 3}, ((4, 2), f(8), f(8)), ((4, 2), (1,), (1,))),
    "LogUniformCandidateSampler": (_SAMPLER, (_LABELS,), ((8, 1),)),
    "Multinomial": ({}, (X, 4), ((8, 1),)),
    "RandomCategorical": ({}, (X, 4), ((8, 1),)),
    "RandomChoiceWithMask": ({"count": 8}, (i(2, 8, 16).astype(bool),), ((1, 1),)),
    "RandomGamma": ({"seed": 3}, ((4, 2), f(8)), ((4, 1), (1,))),
    "RandomShuffle": ({}, (X,), ((1, 8),)),
    "StandardLaplace": ({}, ((8, 16),), ((2, 4),)),
    "UniformCandidateSampler": (_SAMPLER, (_LABELS,), ((8, 1),)),
}


@pytest.mark.parametrize("name", CASES)
def test_drawn_numbers(name: str) -> None:
    settings, args, strategy = CASES[name]
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    found: list[list[np.ndarray]] = []
    for chosen in (None, strategy):
        paramesh.set_seed(5)
        if chosen is not None:
            context.set_auto_parallel_context(
                parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
            )
        operator = getattr(ops, name)(**settings).shard(chosen)

        def program(*given: Any, operator: Any = operator) -> Any:
            rest = iter(given)
            return operator(*(next(rest) if isinstance(a, np.ndarray) else a for a in args))

        out = paramesh.jit(program)(*map(Tensor, arrays))
        parts = out if isinstance(out, tuple | list) else [out]
        found.append([part.asnumpy() for part in parts])
    assert len(jnp.asarray(parts[0]).sharding.device_set) == 8
    for one, many in zip(*found, strict=True):
        np.testing.assert_allclose(one, many, 3e-7)  # `Gamma` computes with its numbers


def test_all_that_draw_are_here() -> None:
    assert set(RANDOM.split()) <= set(CASES)
