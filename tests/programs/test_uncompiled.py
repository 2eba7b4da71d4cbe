"""Functions whose shapes depend on values run operator by operator, and say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.errors import UncompiledWarning, ValueNeededError

X = np.array([3, 1, 3, 2], np.float32)


class Different(nn.Cell):
    """How often each element comes, and a Parameter that counts calls."""

    def __init__(self) -> None:
        super().__init__()
        self.unique = ops.Unique()
        self.calls = Parameter(Tensor(np.zeros((), np.float32)), "calls", requires_grad=False)

    def construct(self, x: Tensor) -> Any:
        self.calls += 1
        values, places = self.unique(x)
        return values * values, places


def test_a_cell_runs_without_a_program_and_warns_once() -> None:
    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    net = Different()
    with pytest.warns(UncompiledWarning, match="'Different' cannot be compiled, .* ops.Unique"):
        values, places = net(Tensor(X))
    assert np.array_equal(values.asnumpy(), [9, 1, 4])
    assert np.array_equal(places.asnumpy(), [0, 1, 0, 2])
    again, _ = net(Tensor(X + 1))  # without a warning, which would be an error here
    assert np.array_equal(again.asnumpy(), [16, 4, 9])
    assert net.calls.asnumpy() == 2


def test_gradients_of_what_is_picked_by_values() -> None:
    @paramesh.jit
    def gradient(x: Tensor) -> Any:
        return ops.grad(lambda v: (ops.masked_select(v, v > 1) ** 2).sum())(x)

    with pytest.warns(UncompiledWarning, match="masked_select"):
        found = gradient(Tensor(X))
    assert np.array_equal(found.asnumpy(), [6, 0, 6, 4])
    assert np.array_equal(gradient(Tensor(X + 1)).asnumpy(), [8, 4, 8, 6])


def test_a_known_mask_needs_no_values() -> None:
    mask = Tensor(np.array([True, False, True, False]))
    picked = paramesh.jit(lambda x: ops.masked_select(x, mask))
    assert np.array_equal(picked(Tensor(X)).asnumpy(), [3, 3])
    assert picked.traces == 1


def test_axes_of_a_tensor() -> None:
    axis: Any = Tensor([0])
    with pytest.warns(UncompiledWarning, match="axes are values of a Tensor"):
        found = paramesh.jit(ops.reduce_sum)(Tensor(X.reshape(2, 2)), axis)
    assert np.array_equal(found.asnumpy(), [6, 3])


@pytest.mark.parametrize(
    ("pick", "what"),
    [
        (lambda x: x[x > 1], "Elements that a Bool Tensor chooses"),
        (lambda x: x.masked_select(x > 1), "Tensor.masked_select"),
        (lambda x: x[(x > 1).nonzero()[:, 0]], "Tensor.nonzero"),
    ],
)
def test_methods_and_indexes(pick: Any, what: str) -> None:
    with pytest.warns(UncompiledWarning, match=what):
        found = paramesh.jit(pick)(Tensor(X))
    assert np.array_equal(found.asnumpy(), [3, 3, 2])
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    total = ops.grad(lambda x: (pick(x) ** 2).sum())
    assert np.array_equal(total(Tensor(X)).asnumpy(), [6, 0, 6, 4])


def test_inside_of_other_transforms_it_is_an_error() -> None:
    with pytest.raises(ValueNeededError, match="ops.unique: .*which a compiled program cannot"):
        ops.vmap(lambda x: ops.unique(x)[0])(Tensor(X.reshape(2, 2)))


SEEN: list[str] = []


class Noting(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        SEEN.append("cell")
        return ops.unique(x)[0]


def note(seen: Any) -> None:
    seen.append("function")


def test_lists_outside_of_cells_get_once_what_a_function_appends() -> None:
    own: list[str] = []
    counts = {"calls": 0}
    net = Noting()

    def f(x: Tensor) -> Tensor:
        counts["calls"] += 1
        note(own)
        return net(x)

    SEEN.clear()
    with pytest.warns(UncompiledWarning):
        paramesh.jit(f)(Tensor([3, 1, 3]))
    assert (SEEN, own, counts) == (["cell"], ["function"], {"calls": 1})


def test_an_error_leaves_them_as_the_function_did() -> None:
    own: list[str] = []

    @paramesh.jit
    def f(x: Tensor) -> Tensor:
        own.append("called")
        raise LookupError

    with pytest.raises(LookupError):
        f(Tensor([1.0]))
    assert own == ["called"]
