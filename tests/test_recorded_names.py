"""Names of MindSpore's give what MindSpore 2.10 gives: recorded results, case by case."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import name_cases
import paramesh
from paramesh import (
    Tensor,
    mindspore_gradients,
    mindspore_inner_operators,
    mindspore_sparse,
    mint,
    nn,
    ops,
)
from paramesh import numpy as mnp

GOLDEN = Path(__file__).parent / "golden"
#: {code: number of arrays, or MindSpore's error on a CPU}, in the order of their recording.
COUNTS: dict[str, Any] = json.loads((GOLDEN / "names.json").read_text())
RECORDED = [(at, code) for at, code in enumerate(COUNTS) if isinstance(COUNTS[code], int)]


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "names.npz") as file:
        return dict(file)


def primitive(name: str) -> Any:
    """A class of operators, of those of gradients and of parts too."""
    homes = (ops, mindspore_inner_operators, mindspore_sparse, mindspore_gradients)
    return next(getattr(home, name) for home in homes if hasattr(home, name))


def test_all_cases_are_recorded() -> None:
    cases = [code for codes in name_cases.CASES.values() for code in codes]
    assert sorted(COUNTS) == sorted(cases)
    assert len(RECORDED) > 0.9 * len(cases)


def cases() -> list[Any]:
    """All of them; gradients, which take longer to compile, are slow tests but for every third."""
    gradients = [at for at, code in RECORDED if code.startswith("grads(")]
    slow = {at for place, at in enumerate(gradients) if place % 3}
    return [
        pytest.param(at, code, id=code, marks=[pytest.mark.slow] if at in slow else [])
        for at, code in RECORDED
    ]


@pytest.mark.parametrize(("at", "code"), cases())
def test_recorded(at: int, code: str) -> None:
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    scope = name_cases.scope(Tensor, primitive, ms=paramesh, ops=ops, nn=nn, mint=mint, mnp=mnp)
    found = name_cases.flat(eval(code, scope))
    wanted = [arrays()[f"{at}_{i}"] for i in range(COUNTS[code])]
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
