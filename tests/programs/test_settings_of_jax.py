"""No exception leaves a setting of JAX on: after a Ctrl-C, programs are what they were before."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import core

import paramesh
from interruptions import At, Interrupted, places
from paramesh import Parameter, Tensor, nn, ops
from paramesh._compat import unbroken
from paramesh._compat.unbroken import as_before, switched

FILES = ("/paramesh/", "/jax/_src/config.py", "contextlib.py")


def settings() -> list[Any]:
    """What holds on this thread."""
    return [one.value for one in unbroken._all]


def calls() -> dict[str, Callable[[], Any]]:
    """What computes in 64 bits for a while."""
    wide = Tensor(np.arange(6, dtype=np.int64))
    param = Parameter(Tensor(np.ones(3)), name="wide")
    step = paramesh.jit(lambda: param.set_data(param + 1))
    step()
    return {
        "operator": lambda: ops.add(wide, 1),
        "creation": lambda: ops.zeros((2,), paramesh.float64),
        "step": step,
        "copies": lambda: (param.value(), step()),
    }


@pytest.mark.parametrize("name", calls())
def test_sixty_four_bits_are_off_again(name: str) -> None:
    call = calls()[name]
    before = settings()
    for place in range(places(call, FILES)):
        at = At(place, FILES)
        with suppress(Interrupted):
            at.call(call)
        assert settings() == before, at.where
    assert jnp.asarray(np.ones(1)).dtype == np.float32
    call()


def test_a_first_call() -> None:
    """JAX's own contexts are left by Python code of JAX's."""

    def network() -> Callable[[], Any]:
        cell = nn.Dense(3, 3)
        step = nn.TrainOneStepCell(
            nn.WithLossCell(cell, nn.MSELoss()), nn.SGD(cell.trainable_params(), 0.1)
        )
        x = np.ones((2, 3), np.float32)
        return lambda: step(x, x)

    class Leaving(At):
        """At the first instruction of what leaves a context of JAX's."""

        def looks(self, file: str, line: int) -> None:
            if (file, line) in exits:
                super().looks(file, line)

    managers = (type(jax.enable_x64(True)), type(core.set_current_trace(None)))
    exits = {
        (
            code.co_filename,
            min(
                line
                for *_, line in code.co_lines()
                if line is not None and line > code.co_firstlineno
            ),
        )
        for code in (manager.__exit__.__code__ for manager in managers)
    }
    files = tuple({file for file, _ in exits})
    network()()
    first = Leaving(None, files)
    first.call(network())
    assert first.seen > 10
    before = settings()
    broken = 0
    for place in range(0, first.seen, 3):
        call = network()
        at = Leaving(place, files)
        with suppress(Interrupted):
            at.call(call)
        broken += at.where is not None
        assert settings() == before, at.where
        call()
    assert broken > first.seen // 6


class TestSwitched:
    def test_what_it_is_while_it_lasts(self) -> None:
        before = jax.enable_x64.get_local()
        with switched(jax.enable_x64, True) as context:
            assert jnp.asarray(np.ones(1)).dtype == np.float64
            with switched(jax.enable_x64, False):
                assert jnp.asarray(np.ones(1)).dtype == np.float32
            assert jax.enable_x64.value
        assert jax.enable_x64.get_local() is before
        with jax.enable_x64(True):
            del context
            gc.collect()
            assert jax.enable_x64.value

    def test_one_that_is_never_entered_changes_nothing(self) -> None:
        before = jax.enable_x64.get_local()
        unused = [switched(jax.enable_x64, True)]
        thread = threading.Thread(target=unused.clear)
        thread.start()
        thread.join()
        assert jax.enable_x64.get_local() is before

    def test_an_exception(self) -> None:
        before = jax.enable_x64.get_local()
        with pytest.raises(ZeroDivisionError), switched(jax.enable_x64, True):
            _ = 1 // 0
        assert jax.enable_x64.get_local() is before

    def test_both_ends_are_one_instruction(self) -> None:
        """With JAX's own context the same shows that there are places in between."""

        def left_on(context: Callable[[], Any]) -> int:
            def call() -> None:
                with context():
                    pass

            count, found = places(call, ("test_settings_of_jax", "/jax/_src/config.py")), 0
            for place in range(count):
                back = as_before()
                with suppress(Interrupted):
                    At(place, ("test_settings_of_jax", "/jax/_src/config.py")).call(call)
                found += bool(jax.enable_x64.value)
                back()
            return found

        before = settings()
        assert left_on(lambda: switched(jax.enable_x64, True)) == 0
        assert settings() == before
        assert left_on(lambda: jax.enable_x64(True)) > 0
        assert settings() == before
