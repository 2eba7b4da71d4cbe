"""What only python can do outside of Cells and Tensors: `paramesh run` has it done each time."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn
from paramesh.errors import UncompiledWarning
from paramesh.providers import providers

X = Tensor(np.ones((1, 2), np.float32))
STEPS = 6


class Counter:
    n = 0

    def next(self) -> int:
        self.n += 1
        return self.n


class Case:
    """A function of X and of python's values, and what they do between its calls."""

    def __init__(self) -> None:
        self.between: Callable[[int], object] = lambda step: None


count = 0
rate = 1.0
labels = Tensor([1.0])
rows = np.ones(1, np.float32)
loss = 1.0


def _counting(case: Case) -> Any:
    global count
    count = 0

    def fn(x):
        global count
        count += 1
        return x.sum() * count

    return fn


def _closure(case: Case) -> Any:
    n = 0

    def fn(x):
        nonlocal n
        n += 1
        return x.sum() * n

    return fn


def _object(case: Case) -> Any:
    counter = Counter()
    return lambda x: x.sum() * counter.next()


def _entry(case: Case) -> Any:
    held = {"n": 0}

    def fn(x):
        held["n"] += 1
        return x.sum() * held["n"]

    return fn


def _iterator(case: Case) -> Any:
    numbers = iter(range(1, 100))
    return lambda x: x.sum() * next(numbers)


def _numpy(case: Case) -> Any:
    np.random.seed(3)
    return lambda x: x.sum() * Tensor(np.random.randint(0, 1000, 1), paramesh.float32)


def _generator(case: Case) -> Any:
    generator = np.random.default_rng(3)
    return lambda x: x.sum() * float(generator.random())


def _python(case: Case) -> Any:
    random.seed(3)
    return lambda x: x.sum() * _drawn()


def _drawn() -> float:
    return random.random()


def _read(case: Case) -> Any:
    def between(step: int) -> None:
        global rate
        rate = 2.0**step

    case.between = between
    return lambda x: x.sum() * rate


def _tensor(case: Case) -> Any:
    def between(step: int) -> None:
        global labels
        labels = Tensor([float(step)])

    case.between = between
    return lambda x: x.sum() * labels


def _array(case: Case) -> Any:
    case.between = lambda step: rows.fill(step)
    return lambda x: x.sum() * Tensor(rows)


class Noisy(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        np.random.seed(5)

    def construct(self, x):
        return x.sum() * self.noise()

    def noise(self) -> float:
        return np.random.rand()


CASES: dict[str, Callable[[Case], Any]] = {
    "global": _counting,
    "closure": _closure,
    "object": _object,
    "entry": _entry,
    "iterator": _iterator,
    "numpy": _numpy,
    "a generator of numpy": _generator,
    "python": _python,
    "a number that changes": _read,
    "a Tensor that changes": _tensor,
    "an array that changes": _array,
    "Cell": lambda case: Noisy(),
}


def results(name: str, way: Callable[[Any], Any]) -> list[float]:
    """What a function returns in six calls, run in a way."""
    case = Case()
    fn = way(CASES[name](case))
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncompiledWarning)
        for step in range(STEPS):
            case.between(step)
            found.append(float(fn(X)))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_script_gets_what_python_gives_in_every_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results(name, lambda fn: fn.construct if isinstance(fn, nn.Cell) else fn)
    assert len(set(expected)) == STEPS
    monkeypatch.setattr(providers, "by_operators", True)
    assert results(name, paramesh.jit) == pytest.approx(expected, rel=1e-6)
    gradients = results(name, lambda fn: lambda x: paramesh.value_and_grad(fn)(x)[1].sum() / 2)
    assert gradients == pytest.approx([value / 2 for value in expected], rel=1e-6)


def test_a_program_is_kept_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute of the same name is no use of a global; a value that comes back is known."""
    monkeypatch.setattr(providers, "by_operators", True)
    counter = Counter()
    fn = paramesh.jit(lambda x: x.sum() * rate * getattr(counter, "loss", 1.0))
    global rate, loss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(20):
            loss, rate = float(step), float(step % 2)
            assert float(fn(X)) == 2 * (step % 2)
    assert fn.traces == 2


def test_a_warning_says_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "by_operators", True)
    with pytest.warns(UncompiledWarning, match=r"draws random numbers of numpy or python"):
        paramesh.jit(_numpy(Case()))(X)
    with pytest.warns(UncompiledWarning, match="changes count, which python would do once"):
        paramesh.jit(_counting(Case()))(X)
    with pytest.warns(UncompiledWarning, match="goes on with the iterator numbers"):
        paramesh.jit(_iterator(Case()))(X)
    monkeypatch.setattr(providers, "by_operators", False)
    first = paramesh.jit(_counting(Case()))  # elsewhere a program has python's values of its trace
    assert [float(first(X)), float(first(X))] == [2, 2]


def test_a_script_that_chooses_graph_mode_has_the_values_of_the_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in MindSpore's graphs."""
    monkeypatch.setattr(providers, "by_operators", True)
    paramesh.set_context(mode=paramesh.GRAPH_MODE)
    fn = paramesh.jit(_numpy(Case()))
    assert float(fn(X)) == float(fn(X))
