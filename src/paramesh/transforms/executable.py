"""One compiled program, and what it takes to run it.

Glossary
    state       a Parameter, or a pool of many small ones (`parameter/pool.py`)
    donated     states that are read and written: their arrays are given to the program, which
                reuses the memory; `handoff.py` says how
    prefetch_program     a part of the program that is run before it (see `placement.PrefetchKey`)

A run costs one list of arrays in and one out, whatever the network looks like.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import context
from paramesh._compat.jax import eval_context
from paramesh.dtype import x64_enabled, x64_set
from paramesh.parameter import Parameter, Pool, materialise
from paramesh.state import placement, storage, tracing
from paramesh.transforms.handoff import Handoff
from paramesh.transforms.relocation import settled_arrays
from paramesh.transforms.uninterrupted import on_thread_of_its_own

State = Parameter | Pool


class PrefetchProgram:
    """What has to be known before a program runs, and the smaller program that computes it.

    Args:
        ahead: the hidden values.
        states: what the smaller program takes in of the states.
        leaves: which of the inputs it takes in.
        program: (values of the states, inputs) -> one array for each hidden value.
    """

    def __init__(
        self,
        ahead: Sequence[placement.PrefetchKey],
        states: list[State],
        leaves: list[int],
        program: Callable[..., list[Any]],
    ) -> None:
        self.ahead, self.states, self.leaves, self.program = ahead, states, leaves, program

    def run(self, leaves: list[Any]) -> dict[Any, Any]:
        """The hidden values for these inputs."""
        place = placement.current()
        values = settled_arrays(place, self.states)
        some = place.place_inputs([leaves[i] for i in self.leaves])
        return dict(zip(self.ahead, self.program(values, some), strict=True))


class Executable:
    """One compiled program and what it takes to run it."""

    __slots__ = (
        "donated",
        "epoch",
        "guard",
        "handoff",
        "hidden",
        "kept",
        "outputs",
        "params",
        "pooled",
        "prefetch_program",
        "program",
        "settings",
        "started",
        "wide",
        "written",
    )

    def __init__(
        self,
        program: Callable[..., Any],
        donated: list[State],
        kept: list[State],
        written: list[State],
        params: list[Parameter],
        outputs: Outputs,
        guard: tracing.Guard,
        wide: bool,
        pooled: bool,
        waits: bool,
        prefetch_program: PrefetchProgram | None,
    ) -> None:
        self.program = program
        self.prefetch_program = prefetch_program
        self.hidden = [p for p in (*kept, *written) if isinstance(p, placement.ImplicitValue)]
        self.donated, self.kept, self.written = donated, kept, written
        self.params = params
        self.outputs = outputs
        self.guard = guard
        self.wide = wide
        self.pooled = pooled
        self.settings = settings_now()
        self.epoch = tracing.epoch()
        self.started = False
        self.handoff = Handoff(program, donated, kept, written, waits, bool(self.hidden))

    def compiled_as(self, stage: Any) -> Executable:
        """The same with its program as a `jax.stages.Compiled`."""
        twin = copy.copy(self)
        twin.program, twin.handoff = stage, self.handoff.compiled_as(stage)
        twin.started = False
        return twin

    def current(self) -> bool:
        """Whether the program is still right for the network as it is now."""
        settings, epoch = settings_now(), tracing.epoch()
        if self.epoch == epoch and self.settings == settings:
            return True
        if not self.guard.holds(settings):
            return False
        self.epoch, self.settings = epoch, settings
        return True

    def run(self, leaves: list[Any]) -> Any:
        """The outputs for these inputs; written Parameters get their new arrays.

        Raises:
            Superseded: the network changed since the program was chosen; nothing was run.
        """
        if tracing.thread.journal is not None:
            tracing.flush()
        if not self.started:
            self._start()
        if not self.hidden:
            return self._run(leaves)
        turn, ending = storage.turns(storage.domain_of(self.hidden[0]))
        with turn:
            with ending:  # of a step whose caller did not wait for its end
                pass
            placement.current().before_step(self.hidden, lambda: self._ahead(leaves))
            # What is written here and what is pushed belong together.
            return on_thread_of_its_own(lambda: self._ended(ending, leaves))

    def _ended(self, ending: Any, leaves: list[Any]) -> Any:
        with ending:
            return self._run(leaves)

    def _run(self, leaves: list[Any]) -> Any:
        place = placement.current()
        if self.wide and not x64_enabled():
            # What is laid out over devices too: JAX cuts 64-bit arrays to 32 bits otherwise.
            with x64_set(True):
                arrays = self._arrays(place, leaves)
        else:
            arrays = self._arrays(place, leaves)
        place.after_step(self.written)
        return self.outputs.build(place.outputs(arrays))

    def _arrays(self, place: placement.Placement, leaves: list[Any]) -> list[Any]:
        leaves = place.place_inputs(leaves)
        if self.pooled:
            leaves = [*leaves, place.constant(_zero())]
        return self.handoff.run(place, leaves, self.current)

    def announce(self, leaves: list[Any]) -> None:
        """A run with these inputs is said to come after the next one."""
        if self.prefetch_program is not None and self.started:
            placement.current().prefetch(self.hidden, lambda: self._ahead(leaves))

    def _ahead(self, leaves: list[Any]) -> dict[Any, Any]:
        if self.prefetch_program is None:
            return {}
        with x64_set(True) if self.wide and not x64_enabled() else tracing.nothing:
            return self.prefetch_program.run(leaves)

    def _start(self) -> None:
        materialise([*self.donated, *self.kept])
        self.handoff.start()
        for param in self.params:
            param.is_init = True
        self.started = True


def settings_now() -> Any:
    """The settings that programs depend on, as they are now."""
    return (context.program_key(), placement.current().key)


#: The value of the input that `ranks_of` needs, as it is traced and as it is given.
ZERO = np.int32(0)


@functools.cache
def _zero() -> Any:
    with eval_context():
        return jnp.asarray(ZERO)


class Outputs:
    """How a program's arrays become what the function returned."""

    def __init__(self, out: Any) -> None:
        self.arrays: list[Any] = []
        leaves, self._tree = jax.tree_util.tree_flatten(out)
        self._slots: list[tuple[bool, Any]] = []
        for leaf in leaves:
            if isinstance(leaf, jax.Array | np.ndarray):
                self._slots.append((True, None))
                self.arrays.append(leaf)
            else:
                self._slots.append((False, leaf))

    def forget(self) -> None:
        """Drop the traced arrays."""
        self.arrays = []

    def build(self, arrays: list[Any]) -> Any:
        """What the function returned, with these arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if is_array else static for is_array, static in self._slots]
        return jax.tree_util.tree_unflatten(self._tree, leaves)
