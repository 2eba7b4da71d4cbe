"""Arrays are brought to where programs want them while nobody else waits, and nothing is lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from interruptions import At, Interrupted
from paramesh import Parameter, Tensor, nn
from paramesh.state import placement
from paramesh.state.placement import Placement
from type_checks import present

X = np.ones((2, 4), np.float32)
#: Seconds after which a thread hangs.
LONG = 60.0


class Elsewhere(Placement):
    """Programs want everything on the second device; the way there takes as long as a test says."""

    key = ("elsewhere",)
    pools = False

    def __init__(self) -> None:
        self.device = jax.devices()[1]
        self.moves: Counter[str] = Counter()
        self.on_the_way: Callable[[str], None] = lambda name: None

    def is_placed(self, states: Sequence[Any], arrays: Sequence[Any]) -> bool:
        return all(array.devices() == {self.device} for array in arrays)

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        for i, state in enumerate(states):
            if not self.is_placed([state], [arrays[i]]):
                self.moves[state.name] += 1
                self.on_the_way(state.name)
                arrays[i] = jax.device_put(arrays[i], self.device)

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        return [jax.device_put(leaf, self.device) for leaf in leaves]

    def constant(self, scalar: Any) -> Any:
        return jax.device_put(scalar, self.device)


@pytest.fixture
def place() -> Iterator[Elsewhere]:
    mine = Elsewhere()
    before = placement.use(mine)
    try:
        yield mine
    finally:
        placement.use(before)


def started(action: Callable[[], Any]) -> Callable[[], Any]:
    """Begins `action` on a thread; called, it gives its result, or fails if that hangs."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(action())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(LONG)
        assert not thread.is_alive(), "it hangs"
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    return result


class Counting:
    """A program that adds its input to a Parameter."""

    def __init__(self) -> None:
        self.total = Parameter(Tensor(X), name="total")
        self.step = paramesh.jit(lambda x: self.total.set_data(self.total + x).sum())

    def __call__(self) -> Any:
        return self.step(Tensor(X))


def test_a_reader_does_not_wait_for_a_move(place: Elsewhere) -> None:
    """What a move waits for may itself wait for the reader: another process, say."""
    step = Counting()
    step()
    step.total.set_data(Tensor(X * 5))
    seen: list[Any] = []
    place.on_the_way = lambda name: seen.append(started(step.total.asnumpy)())
    step()
    np.testing.assert_array_equal(seen, [X * 5])
    np.testing.assert_array_equal(step.total.asnumpy(), X * 6)


def test_what_is_written_during_a_move_is_kept(place: Elsewhere) -> None:
    step = Counting()
    step()
    step.total.set_data(Tensor(X * 5))
    values = iter([7.0, 8.0])

    def write(name: str) -> None:
        value = next(values, None)
        if value is not None:
            started(lambda: step.total.set_data(Tensor(X * value)))()

    place.on_the_way = write
    step()
    np.testing.assert_array_equal(step.total.asnumpy(), X * 9)


def test_two_threads_make_one_move(place: Elsewhere) -> None:
    """All processes have to agree about how many there are, whichever thread comes first."""
    step = Counting()
    look = paramesh.jit(lambda: step.total.sum())
    step()
    look()
    step.total.set_data(Tensor(X * 5))
    place.moves.clear()
    others: list[Any] = []
    place.on_the_way = lambda name: others.append(started(look))
    step()
    assert others[0]().asnumpy() in (5 * 8, 6 * 8)
    assert place.moves == {"total": 1}


def test_networks_that_share_a_generator_do_not_wait_for_each_other(place: Elsewhere) -> None:
    """Two processes would: each waits for the thread of the other that waits for its lock."""

    def network(name: str) -> tuple[nn.Cell, Parameter]:
        cell = nn.SequentialCell(nn.Dense(4, 4), nn.Dropout(p=0.5)).set_train()
        cell.update_parameters_name(name)
        return cell, next(iter(cell.get_parameters()))

    (one, weight), (other, _) = network("one."), network("other.")
    x = Tensor(X)
    one(x)
    other(x)
    weight.set_data(Tensor(weight.asnumpy()))
    done: list[Any] = []
    place.on_the_way = lambda name: done.append(started(lambda: other(x))())
    one(x)
    assert len(done) == 1


def test_an_exception_during_a_move_leaves_the_value(place: Elsewhere) -> None:
    step = Counting()
    step()
    step.total.set_data(Tensor(X * 5))

    def interrupt(name: str) -> None:
        raise Interrupted

    place.on_the_way = interrupt
    with pytest.raises(Interrupted):
        step()
    np.testing.assert_array_equal(step.total.asnumpy(), X * 5)
    place.on_the_way = lambda name: None
    step()
    np.testing.assert_array_equal(step.total.asnumpy(), X * 6)


def test_a_signal_handler_may_read_and_run_programs_during_a_move(place: Elsewhere) -> None:
    step = Counting()
    look = paramesh.jit(lambda: step.total.sum())
    step()
    look()
    step.total.set_data(Tensor(X * 5))
    seen: list[Any] = []
    files = ("/paramesh/transforms/relocation.py",)

    def handler() -> None:
        seen.append((step.total.asnumpy()[0, 0], float(look().asnumpy())))

    count = 0
    for at in range(60):
        step.total.set_data(Tensor(X * 5))
        where = At(at, files, handler)
        where.call(step)
        np.testing.assert_array_equal(step.total.asnumpy(), X * 6)
        count += where.where is not None
    assert count > 5
    assert set(seen) == {(5.0, 40.0)}


def test_lower_finds_arrays_in_their_places(place: Elsewhere) -> None:
    step = Counting()
    step()
    step.total.set_data(Tensor(X * 5))
    place.count = 2  # their places are a part of the program then
    lowered = step.step.lower(Tensor(X))
    assert present(step.total._value).devices() == {place.device}
    np.testing.assert_array_equal(step.total.asnumpy(), X * 5)
    assert lowered.compile()(Tensor(X)).asnumpy() == 6 * 8
