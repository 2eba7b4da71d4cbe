"""No exception, signal or thread finds a Parameter without a value, or with half a step's."""

from __future__ import annotations

import _thread
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from interruptions import At, Interrupted, places
from paramesh import Parameter, Tensor, context, nn, ops
from paramesh.errors import ParameterStateError
from paramesh.initializer import initializer
from paramesh.state import storage, trace_scope, tracing
from paramesh.state.storage import Stage
from paramesh.transforms import uninterrupted
from type_checks import present

X = np.random.default_rng(0).random((4, 8), np.float32)
OURS = ("/paramesh/",)
WITH_THREADS = (*OURS, "threading.py", "contextlib.py")


class Called(nn.Cell):
    """A network that calls back into Python."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.fails = False

    def construct(self, x: Any) -> Any:
        jax.debug.callback(self._check, jnp.asarray(x).sum())
        return self.network(x)

    def _check(self, _: Any) -> None:
        if self.fails:
            raise RuntimeError("a bad row")


def training(called: bool = False) -> nn.TrainOneStepCell:
    """A network with pools, moments and random numbers; each time the same."""
    paramesh.set_seed(5)
    net: nn.Cell = nn.SequentialCell([nn.Dense(8, 8, activation="relu") for _ in range(4)])
    net = Called(net) if called else net
    loss = nn.WithLossCell(net, nn.MSELoss())
    return nn.TrainOneStepCell(loss, nn.Adam(net.trainable_params(), 1e-2)).set_train()


def state(step: nn.Cell) -> dict[str, np.ndarray[Any, Any]]:
    return {param.name: param.asnumpy() for param in step.get_parameters()}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


def handoffs(step: nn.Cell) -> list[Any]:
    return [entry.handoff for found in step._program()._executables.values() for entry in found]


def for_ever(step: nn.Cell) -> None:
    while True:
        step(X, X)


def nothing(step: nn.Cell) -> None:
    """The call that a warm program has."""


def unknown(step: nn.Cell) -> None:
    """As a program's first call: on a thread of its own."""
    for handoff in handoffs(step):
        for version in handoff._versions:
            version.safe_calls.clear()


def written_from_outside(step: nn.Cell) -> None:
    """A member of the pool has a value of its own, which the program takes in first."""
    param = next(iter(step.get_parameters()))
    param.set_data(Tensor(param.asnumpy()))


#: name -> (before each step, around all, whether the network calls back, files, each so-many-th)
WAYS: dict[str, tuple[Callable[[Any], None], Any, bool, tuple[str, ...], int]] = {
    "warm": (nothing, nullcontext, False, OURS, 1),
    "unknown": (unknown, nullcontext, False, WITH_THREADS, 1),
    "written": (written_from_outside, nullcontext, False, OURS, 1),
    "nans": (nothing, lambda: jax.debug_nans(True), False, OURS, 5),
    "called": (nothing, nullcontext, True, OURS, 2),
    "pynative": (nothing, nullcontext, False, OURS, 293),
    "pynative, thrice as many": (nothing, nullcontext, False, OURS, 97),
}


class Trajectory:
    """The values after each step, of a training that nothing disturbs; computed once for all."""

    def __init__(self) -> None:
        self._step = training()
        self._states = [state(self._step)]

    def after(self, steps: int) -> dict[str, np.ndarray[Any, Any]]:
        """The values after so many steps."""
        while len(self._states) <= steps:
            self._step(X, X)
            self._states.append(state(self._step))
        return self._states[steps]


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    return Trajectory()


class TestAnExceptionAnywhere:
    @pytest.mark.parametrize(
        "way",
        [pytest.param(w, marks=pytest.mark.slow) if "pynative" in w else w for w in WAYS],
    )
    @pytest.mark.parametrize(
        "nth", [3, pytest.param(1, marks=pytest.mark.slow)], ids=["every third place", "all"]
    )
    def test_leaves_a_step_done_or_not_begun(
        self, way: str, nth: int, trajectory: Trajectory
    ) -> None:
        prepare, around, called, files, stride = WAYS[way]
        if way.startswith("pynative"):
            context.set_context(mode=context.PYNATIVE_MODE)
            trajectory = Trajectory()  # other bits than those of a compiled step
        with around():
            step, made = training(called), 5
            for _ in range(made - 1):
                step(X, X)
            prepare(step)
            count = places(lambda: step(X, X), files)
            outcomes = {"before": 0, "after": 0}
            for place in (*range(0, count, stride * nth), count + 9):
                prepare(step)
                before, after = trajectory.after(made), trajectory.after(made + 1)
                made += 1
                at = At(place, files)
                with suppress(Interrupted):
                    at.call(lambda: step(X, X))
                now = state(step)
                if equal(now, before):
                    outcomes["before"] += 1
                    step(X, X)
                    now = state(step)
                else:
                    outcomes["after"] += 1
                assert equal(now, after), at.where
        assert min(outcomes.values()) > 0, outcomes

    @pytest.mark.parametrize(
        "places_tried", [2, pytest.param(120, marks=pytest.mark.slow)], ids=["few", "many"]
    )
    def test_in_the_first_call(self, places_tried: int) -> None:
        files = (*WITH_THREADS, "/jax/")
        # JAX keeps what it traced of its own functions: later calls have fewer places.
        training()(X, X)
        first = training()
        before = state(first)
        count = places(lambda: first(X, X), files)
        after = state(first)
        for place in np.random.default_rng(1).integers(0, count, places_tried).tolist():
            step = training()
            with pytest.raises(Interrupted):
                At(place, files).call(lambda step=step: step(X, X))
            now = state(step)
            assert equal(now, before) or equal(now, after), place
            if equal(now, before):
                step(X, X)
            assert equal(state(step), after), place


def eager_calls() -> dict[str, Callable[[], Any]]:
    """Transforms that users call outside of programs."""
    weight = Parameter(Tensor(np.ones((4, 4), np.float32)), name="weight")
    count = Parameter(Tensor(np.zeros((), np.float32)), name="count")
    x = Tensor(np.ones((2, 4), np.float32))

    def loss(x: Any) -> Any:
        count.assign(count + 1)
        return ops.matmul(x, weight).sum()

    return {
        "grad": lambda: paramesh.value_and_grad(loss, None, [weight])(x),
        "cond": lambda: paramesh.cond(True, loss, lambda x: x.sum(), x),
        "vjp": lambda: paramesh.vjp(loss, x),
        "remat": lambda: paramesh.remat(loss)(x),
        "jit": lambda: paramesh.jit(lambda x: loss(x) + 1)(x),
        "functional_call": lambda: paramesh.functional_call(nn.Dense(4, 4), {}, x, mutable=True),
    }


@pytest.mark.parametrize("name", eager_calls())
@pytest.mark.parametrize(
    "tries", [5, pytest.param(150, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_an_exception_in_a_trace_leaves_the_thread_outside_of_it(name: str, tries: int) -> None:
    call = eager_calls()[name]
    files = (*OURS, "contextlib.py")
    count = places(call, files)
    for place in np.random.default_rng(2).integers(0, count, tries).tolist():
        at = At(place, files)
        with suppress(Interrupted):
            at.call(call)
        assert tracing.current() is None, at.where
        assert trace_scope.current() is None, at.where
        assert tracing.thread.journal is None, at.where
    call()


class TestAnExceptionOfTheProgram:
    def test_a_callback(self) -> None:
        step = training(called=True)
        step(X, X)
        before = state(step)
        step.network._backbone.fails = True
        with pytest.raises(Exception, match="a bad row"):
            step(X, X)
        assert equal(state(step), before)
        step.network._backbone.fails = False
        step(X, X)
        assert not equal(state(step), before)

    def test_a_nan_that_jax_looks_for(self) -> None:
        step = training()
        step(X, X)
        before = state(step)
        with jax.debug_nans(True):
            with pytest.raises(FloatingPointError, match="nan"):
                step(np.full_like(X, np.nan), X)
            assert equal(state(step), before)
            step(X, X)
        assert not equal(state(step), before)

    def test_more_memory_than_there_is(self) -> None:
        count = Parameter(Tensor(np.float32(1)), name="count")

        def big(x: Any) -> Any:
            count.set_data(count + 1)
            return ops.zeros((2**23, 2**22), paramesh.float32) + x

        with pytest.raises(MemoryError, match=r"'big' needs 131072.0 GiB .* No Parameter"):
            paramesh.jit(big)(Tensor(np.float32(1)))
        assert count.asnumpy() == 1
        with pytest.raises(Exception, match="(?i)out of memory|exhausted"):
            paramesh.jit(big, donate=False)(Tensor(np.float32(1)))
        assert count.asnumpy() == 1
        paramesh.jit(lambda: count.set_data(count + 1))()
        assert count.asnumpy() == 2

    def test_nothing_is_given_away_without_donate(self) -> None:
        count = Parameter(Tensor(np.ones(3, np.float32)), name="count")
        step = paramesh.jit(lambda: count.set_data(count + 1), donate=False)
        step()
        array = present(count._value)
        step()
        assert not array.is_deleted()
        assert count.asnumpy().tolist() == [3, 3, 3]


class TestASignalHandler:
    @pytest.mark.parametrize("prepare", [nothing, unknown])
    def test_may_read_and_keep(self, prepare: Callable[[Any], None]) -> None:
        step = training()
        for _ in range(4):
            step(X, X)
        params = list(step.get_parameters())
        prepare(step)
        for place in range(0, places(lambda: step(X, X), OURS), 3):
            before, kept = state(step), []
            prepare(step)

            def handler(kept: list[Any] = kept) -> None:
                found = paramesh.snapshot(params)
                kept.append(({name: v.asnumpy() for name, v in found.items()}, found))

            At(place, OURS, handler).call(lambda: step(X, X))
            after = state(step)
            (seen, values) = kept[0]
            assert equal(seen, before) or equal(seen, after)
            assert equal({name: value.asnumpy() for name, value in values.items()}, seen)

    def test_that_writes_in_the_middle_is_refused(self) -> None:
        step = training()
        for _ in range(4):
            step(X, X)
        weight = next(iter(step.get_parameters()))
        zeros = Tensor(np.zeros(weight.shape, np.float32))
        refused = 0
        for place in range(places(lambda: step(X, X), OURS)):
            try:
                At(place, OURS, lambda: weight.set_data(zeros)).call(lambda: step(X, X))
            except ParameterStateError as error:
                refused += "signal handler" in str(error)
            assert np.isfinite(weight.asnumpy()).all()
        assert refused

    def test_keyboard_interrupts_as_they_come(self) -> None:
        step = training()
        step(X, X)
        for seed in range(6):
            timer = threading.Timer(0.003 + 0.002 * seed, _thread.interrupt_main)

            def train(timer: threading.Timer = timer) -> None:
                timer.start()  # on a busy host it rings before this has returned
                for_ever(step)

            with pytest.raises(KeyboardInterrupt):
                train()
            timer.join()
            assert all(np.isfinite(value).all() for value in state(step).values())

    def test_an_exception_set_in_a_thread_that_trains(self) -> None:
        step = training()
        step(X, X)
        ended = 0

        def train() -> None:
            nonlocal ended
            try:
                for_ever(step)
            except Interrupted:
                ended += 1

        for round_ in range(3):
            thread = threading.Thread(target=train)
            thread.start()
            time.sleep(0.005 * (round_ + 1))
            assert thread.ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupted)
            )
            thread.join()
            assert all(np.isfinite(value).all() for value in state(step).values())
        assert ended == 3
        step(X, X)


@contextmanager
def stopped_inside(step: nn.Cell, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Has `meanwhile` run between the program's start and the writing of what it gave."""
    (handoff,) = handoffs(step)
    (version,) = handoff._versions
    call = version.call

    def stopping(donated: list[Any], kept: list[Any], leaves: list[Any]) -> Any:
        results = call(donated, kept, leaves)
        assert all(array.is_deleted() for array in donated)
        meanwhile()
        return results

    version.safe_calls.clear()
    version.call = stopping
    try:
        yield
    finally:
        version.call = call


def threaded(action: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(action())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


class TestThreads:
    def test_a_reader_comes_in_the_middle(self) -> None:
        """It waits for this network, and gets the new value; other networks have no part in it."""
        step, other = training(), training()
        for _ in range(3):
            step(X, X)
            other(X, X)
        weight = next(iter(step.get_parameters()))
        readers: list[Any] = []

        def meanwhile() -> None:
            assert {storage.stage(one) for one in handoffs(step)[0].donated} == {Stage.LENT}
            readers.append(threaded(lambda: weight.asnumpy()))
            domain = storage.domain_of(weight)
            while not domain.wanted:
                time.sleep(0.001)
            thread, found = threaded(lambda: (state(other), other(X, X)))
            thread.join()
            assert isinstance(found[0], tuple), found
            assert not readers[0][1]

        with stopped_inside(step, meanwhile):
            step(X, X)
        thread, found = readers[0]
        thread.join()
        np.testing.assert_array_equal(found[0], weight.asnumpy())

    def test_two_that_train_one_network_take_turns(self) -> None:
        step, reference = training(), training()

        def train() -> None:
            for _ in range(25):
                step(X, X)

        threads = [threaded(train) for _ in range(2)]
        for thread, found in threads:
            thread.join()
            assert found == [None]
        for _ in range(50):
            reference(X, X)
        assert equal(state(step), state(reference))

    def test_all_at_once(self, tmp_path: Any) -> None:
        """Training, other training, inference, reading and saving."""
        step, other = training(), training()
        network = step.network
        step(X, X)
        going = True

        def while_going(action: Callable[[int], Any]) -> Callable[[], int]:
            def run() -> int:
                count = 0
                while going:
                    action(count)
                    count += 1
                return count

            return run

        actions = [
            lambda _: step(X, X),
            lambda _: other(X, X),
            lambda _: network(Tensor(X), Tensor(X)).asnumpy(),
            lambda _: state(step),
            lambda i: paramesh.save_checkpoint(step, str(tmp_path / f"{i % 2}.safetensors")),
            lambda _: next(iter(step.get_parameters())).value().asnumpy(),
        ]
        threads = [threaded(while_going(action)) for action in actions]
        time.sleep(1)
        going = False
        for thread, found in threads:
            thread.join()
            assert isinstance(found[0], int), found
            assert found[0]

    @pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
    def test_no_random_number_is_drawn_twice(self, mode: int) -> None:
        context.set_context(mode=mode)
        x = Tensor(np.ones((4, 64), np.float32))
        drop = [nn.Dropout(p=0.5).set_train() for _ in range(2)]

        def draw(which: int) -> list[bytes]:
            return [drop[which](x).asnumpy().tobytes() for _ in range(40)]

        threads = [threaded(lambda i=i: draw(i)) for i in range(2)]
        masks: list[bytes] = []
        for thread, found in threads:
            thread.join()
            masks += found[0]
        assert len(set(masks)) == 80

    def test_a_change_between_choice_and_run(self) -> None:
        """Another thread takes the pool away: the program is chosen again."""
        step, reference = training(), training()
        for one in (step, reference):
            one(X, X)
        (handoff,) = handoffs(step)
        pool = next(s for s in handoff.donated if s in handoff._pools)
        make_ready, run = handoff.__class__.run, []

        def dissolving(self: Any, *args: Any) -> Any:
            if not run:
                run.append(True)
                pool.dissolve()
            return make_ready(self, *args)

        handoff.__class__.run = dissolving
        try:
            step(X, X)
        finally:
            handoff.__class__.run = make_ready
        reference(X, X)
        assert run
        assert equal(state(step), state(reference))

    def test_two_recipes_run_at_once(self) -> None:
        """The slower one does not undo what was trained meanwhile."""
        param = Parameter(initializer("ones", [3]), name="p")
        recipe = param.recipe
        param.init_data()
        param.set_data(Tensor(np.zeros(3, np.float32)))
        storage.inside(param, param._materialised, present(recipe), jnp.ones(3))
        assert param.asnumpy().tolist() == [0, 0, 0]


class TestStages:
    def test_from_declared_to_declared(self) -> None:
        step = training()
        weight = next(iter(step.get_parameters()))
        assert storage.stage(weight) is Stage.DECLARED
        weight.init_data()
        assert storage.stage(weight) is Stage.LIVE
        step(X, X)
        assert storage.stage(weight) is Stage.POOLED
        weight.set_data(Tensor(weight.asnumpy()))
        assert storage.stage(weight) is Stage.LIVE
        step(X, X)
        assert storage.stage(weight) is Stage.POOLED
        weight.set_data(initializer("zeros", weight.shape))
        assert storage.stage(weight) is Stage.DECLARED
        step(X, X)
        assert storage.stage(weight) is Stage.POOLED

    def test_a_warm_step_changes_no_thread(self) -> None:
        """One instruction does it: nothing is waited for, nobody is woken."""
        step = training()
        for _ in range(3):
            step(X, X)
        before = uninterrupted.run_on_own_thread
        errands: list[Any] = []
        module = __import__("paramesh.transforms.handoff", fromlist=["run_on_own_thread"])
        module.run_on_own_thread = lambda work: errands.append(work) or before(work)
        try:
            step(X, X)
            assert not errands
            with jax.default_matmul_precision("float32"):
                step(X, X)
            assert len(errands) == 1
        finally:
            module.run_on_own_thread = before


class TestErrands:
    def test_what_it_gives_and_raises(self) -> None:
        assert uninterrupted.run_on_own_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            uninterrupted.run_on_own_thread(lambda: 1 // 0)

    def test_an_exception_before_it_has_begun_calls_it_off(self) -> None:
        done: list[int] = []
        count = places(
            lambda: uninterrupted.run_on_own_thread(lambda: done.append(0)), WITH_THREADS
        )
        for place in range(count):
            done.clear()
            with pytest.raises(Interrupted):
                At(place, WITH_THREADS).call(
                    lambda: uninterrupted.run_on_own_thread(lambda: done.append(1))
                )
            now = list(done)
            time.sleep(0.0005)
            assert done == now
