"""A converted branch or body changes names alone: everything else that it changes is refused."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn
from paramesh.transforms.python_control_flow import ControlFlowError


def tensor(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float32))


class Counter:
    """A plain object."""

    def __init__(self) -> None:
        self.count = 0


def to_a_list(x: Tensor) -> Any:
    kept: list[int] = []
    if x.sum() > 0:
        kept.append(1)
    else:
        kept.append(2)
    return x * kept[0]


def of_a_list(x: Tensor) -> Any:
    kept = [0, 0]
    if x.sum() > 0:
        kept[0] = 1
    return x * kept[0]


def to_a_queue(x: Tensor) -> Any:
    kept: deque[int] = deque()
    if x.sum() > 0:
        kept.append(1)
    return x * len(kept)


def of_a_dict(x: Tensor) -> Any:
    kept = {"by": 0}
    if x.sum() > 0:
        kept["by"] = 1
    return x * kept["by"]


def to_a_set(x: Tensor) -> Any:
    kept: set[int] = set()
    if x.sum() > 0:
        kept.add(1)
    return x * len(kept)


def of_an_array(x: Tensor) -> Any:
    kept = np.zeros(1, np.float32)
    if x.sum() > 0:
        kept[0] = 1
    return x * float(kept[0])


def of_an_object(x: Tensor) -> Any:
    kept = Counter()
    if x.sum() > 0:
        kept.count = 1
    return x * kept.count


def of_a_tensor(x: Tensor) -> Any:
    kept = x * 1
    if x.sum() > 0:
        kept[0] = 5.0
    return kept


def in_a_turn(x: Tensor) -> Any:
    kept: list[int] = []
    while x.sum() > 1:
        kept.append(1)
        x = x / 2
    return x * len(kept)


def inside_of_another(x: Tensor) -> Any:
    kept = {"all": [0]}
    if x.sum() > 0:
        x = x + 1
        if x.sum() > 100:
            kept["all"].append(1)
    return x * len(kept["all"])


@pytest.mark.parametrize(
    ("fn", "what"),
    [
        (to_a_list, "the list 'kept'"),
        (of_a_list, "the list 'kept'"),
        (to_a_queue, "the deque 'kept'"),
        (of_a_dict, "the dict 'kept'"),
        (to_a_set, "the set 'kept'"),
        (of_an_array, "elements of the array 'kept'"),
        (of_an_object, "attributes of 'kept'"),
        (of_a_tensor, "elements of the Tensor 'kept'"),
        (in_a_turn, "the list 'kept'"),
        (inside_of_another, "the list 'kept'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_that_would_happen_in_any_case(fn: Callable[..., Any], what: str) -> None:
    for x in (tensor(1, 2), tensor(-1, -2)):
        with pytest.raises(ControlFlowError, match=f"It changes {what}, which would happen"):
            paramesh.jit(fn)(x)
        assert fn(x).shape == x.shape  # and without compiling it does what it says


class Sets(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.by = 0
        self.seen: list[str] = []

    def construct(self, x: Tensor, listed: bool) -> Tensor:
        if x.sum() > 0:
            if listed:
                self.seen.append("more")
            else:
                self.by = 1
        return x * self.by


def test_a_cell_is_left_as_it_was() -> None:
    cell = Sets()
    with pytest.raises(ControlFlowError, match=r"the attribute Sets\.by"):
        cell(tensor(1, 2), False)
    with pytest.raises(ControlFlowError, match=r"the list 'self\.seen'"):
        cell(tensor(1, 2), True)
    assert (cell.by, cell.seen) == (0, [])


def refuses(x: Tensor) -> Tensor:
    if x.sum() < 0:
        raise ValueError("negative")
    return x


def diverges(x: Tensor) -> Tensor:
    while x.sum() > 1:
        x = x / 2
        if x[0] > 100:
            raise RuntimeError("diverged")
    return x


@pytest.mark.parametrize(("fn", "text"), [(refuses, "negative"), (diverges, "diverged")])
def test_a_raise_in_a_branch(fn: Callable[..., Any], text: str) -> None:
    with pytest.raises(ControlFlowError, match=f"it raises .*: {text}\nA program cannot raise"):
        paramesh.jit(fn)(tensor(1, 2))


def wrong(x: Tensor) -> Any:
    if x.sum() > 0:
        return x + len(3)  # type: ignore[arg-type]
    return x


def test_an_error_of_a_branch_is_its_own() -> None:
    with pytest.raises(TypeError, match="has no len") as caught:
        paramesh.jit(wrong)(tensor(1, 2))
    assert not isinstance(caught.value, ControlFlowError)


def for_in_if(x: Tensor) -> Any:
    if x.sum() > 0:
        parts = []
        for by, (one, two) in enumerate([(1, 2), (3, 4)]):
            parts.append(x * by + one - two)
        x = parts[0] + parts[1]
    return x


def nested_loops(x: Tensor) -> Any:
    total = x * 0
    for _ in range(2):
        if x[0] > 0:
            for by in range(3):
                if x[1] > by:
                    total = total + x * by
        else:
            total = total - 1
    return total


def with_and_try(x: Tensor) -> Any:
    if x.sum() > 0:
        with contextlib.nullcontext(3) as by:
            x = x * by
        try:
            half = x / 2
            x = half + 1
        except ValueError as error:
            raise RuntimeError from error
    return x


def definitions(x: Tensor) -> Any:
    if x.sum() > 0:
        from math import pi

        def times(value: Tensor) -> Any:
            return value * pi

        x = times(x)
    return x


def read_after(x: Tensor) -> Any:
    by = 0
    if x.sum() > 0:
        for by in range(3):
            x = x + by
    return x * by


def walrus(x: Tensor) -> Any:
    while (total := x.sum()) > 1:
        x = x / 2
        if x[0] > 3:
            continue
        x = x - 0.1
    return x, total


@pytest.mark.parametrize(
    "fn", [for_in_if, nested_loops, with_and_try, definitions, read_after, walrus]
)
def test_statements_in_a_branch(fn: Callable[..., Any]) -> None:
    values = [tensor(3, 2), tensor(-1, 2.5)] if fn is not walrus else [tensor(9, 2), tensor(0, 0)]
    compiled = paramesh.jit(fn)
    for x in values:
        pairs = zip(jax.tree.leaves(fn(x)), jax.tree.leaves(compiled(x)), strict=True)
        for want, got in pairs:
            np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-6)
