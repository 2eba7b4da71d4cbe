"""One compiled program, and what it takes to run it.

Glossary
    state       a Parameter, or a pool of many small ones (`parameter/pool.py`)
    donated     of states: read and written, so that the program reuses the memory of their arrays
    prefetch program   a part of the program that runs before it (see `placement.PrefetchKey`)

A run costs one list of arrays in and one out, whatever the network looks like.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import context
from paramesh._compat.jax import eval_context
from paramesh.array_types import Array, ArrayLike, HostArray, Tree
from paramesh.dtype import x64_enabled, x64_if, x64_set
from paramesh.parameter import Parameter, materialise
from paramesh.state import placement, storage, tracing
from paramesh.transforms.carriers import finished, refuse_carriers, runs_later
from paramesh.transforms.handoff import Handoff, State
from paramesh.transforms.outside import Outside
from paramesh.transforms.relocation import placed_arrays
from paramesh.transforms.uninterrupted import run_on_own_thread


class PrefetchProgram:
    """The prefetch keys of a program, and the smaller program that computes them before it runs.

    Args:
        keys: the prefetch keys.
        states: the states that the smaller program takes in.
        leaves: the positions of the inputs that it takes in.
        program: (values of the states, inputs) -> one array for each key.
    """

    def __init__(
        self,
        keys: Sequence[placement.PrefetchKey],
        states: list[State],
        leaves: list[int],
        program: Callable[..., list[Any]],
    ) -> None:
        self.keys, self.states, self.leaves, self.program = keys, states, leaves, program

    def run(self, leaves: list[ArrayLike]) -> dict[placement.PrefetchKey, Array]:
        """{prefetch key: array} for these inputs."""
        place = placement.current()
        values = placed_arrays(place, self.states)
        some = place.place_inputs([leaves[i] for i in self.leaves])
        return dict(zip(self.keys, self.program(values, some), strict=True))


class Executable:
    """One compiled program and what it takes to run it."""

    __slots__ = (
        "donated",
        "guard",
        "handoff",
        "implicit",
        "kept",
        "outputs",
        "outside",
        "params",
        "pooled",
        "prefetch_program",
        "program",
        "settings",
        "started",
        "use_64bit",
        "version",
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
        use_64bit: bool,
        pooled: bool,
        waits: bool,
        prefetch_program: PrefetchProgram | None,
    ) -> None:
        self.program = program
        self.prefetch_program = prefetch_program
        self.implicit = [p for p in (*kept, *written) if isinstance(p, placement.ImplicitValue)]
        self.donated, self.kept, self.written = donated, kept, written
        self.params = params
        self.outputs = outputs
        #: What the function read in python, and the values then: see `outside.py`.
        self.outside: tuple[Outside, list[Any]] | None = None
        self.guard = guard
        self.use_64bit = use_64bit
        self.pooled = pooled
        self.settings = settings_now()
        self.version = tracing.version()
        self.started = False
        self.handoff = Handoff(program, donated, kept, written, waits, bool(self.implicit))

    def compiled_as(self, stage: jax.stages.Compiled) -> Executable:
        """The same with its program as a `jax.stages.Compiled`."""
        twin = copy.copy(self)
        twin.program, twin.handoff = stage, self.handoff.compiled_as(stage)
        twin.started = False
        return twin

    def current(self) -> bool:
        """Whether the program is still valid for the network as it is now."""
        if self.outside is not None and self.outside[0].changed(self.outside[1]) is not None:
            return False
        if not self.guard.same_code():
            return False
        settings, version = settings_now(), tracing.version()
        if self.version == version and self.settings == settings:
            return True
        if not self.guard.holds(settings):
            return False
        self.version, self.settings = version, settings
        return True

    def run(self, leaves: list[ArrayLike]) -> Any:
        """The outputs for these inputs; written Parameters get their new arrays.

        Raises:
            Superseded: the network changed since the program was chosen; nothing was run.
        """
        if tracing.thread.journal is not None:
            tracing.flush()
        if not self.started:
            self._start()
        if not self.implicit:
            return self._run(leaves)
        turn, ending = storage.turns(storage.domain_of(self.implicit[0]))
        with turn:
            with ending:  # of a step for which its caller did not wait
                pass
            placement.current().before_step(self.implicit, lambda: self._prefetch_keys(leaves))
            # What is written here and what is pushed belong together.
            return run_on_own_thread(lambda: self._run_and_end(ending, leaves))

    def _run_and_end(self, ending: AbstractContextManager[object], leaves: list[ArrayLike]) -> Any:
        with ending:
            return self._run(leaves)

    def _run(self, leaves: list[ArrayLike]) -> Any:
        place = placement.current()
        if self.use_64bit and not x64_enabled():
            # Also around the sharding of inputs: JAX would truncate 64-bit arrays to 32 bits.
            with x64_set(True):
                arrays = self._arrays(place, leaves)
        else:
            arrays = self._arrays(place, leaves)
        place.after_step(self.written)
        return self.outputs.build(place.outputs(arrays))

    def _arrays(self, place: placement.Placement, leaves: list[ArrayLike]) -> list[Array]:
        leaves = place.place_inputs(leaves)
        if self.pooled:
            leaves = [*leaves, place.constant(_zero())]
        return self.handoff.run(place, leaves, self.current)

    def announce(self, leaves: list[ArrayLike]) -> None:
        """Announce that a run with these inputs comes after the next one."""
        if self.prefetch_program is not None and self.started:
            placement.current().prefetch(self.implicit, lambda: self._prefetch_keys(leaves))

    def _prefetch_keys(self, leaves: list[ArrayLike]) -> dict[placement.PrefetchKey, Array]:
        if self.prefetch_program is None:
            return {}
        with x64_if(self.use_64bit):
            return self.prefetch_program.run(leaves)

    def _start(self) -> None:
        materialise([*self.donated, *self.kept])
        self.handoff.start()
        for param in self.params:
            param.is_init = True
        self.started = True


def settings_now() -> tuple[Hashable, Hashable]:
    """The settings that programs depend on, as they are now."""
    return (context.program_key(), placement.current().key)


#: The value of the input that `ranks_of` needs, in a trace and at a call.
ZERO = np.int32(0)


@functools.cache
def _zero() -> Array:
    with eval_context():
        return jnp.asarray(ZERO)


class Outputs:
    """How to make what the function returned from a program's arrays."""

    def __init__(self, out: Tree, name: str) -> None:
        """`name` is that of the function, for the error if a leaf has traced values in it."""
        self.arrays: list[Array | HostArray] = []
        leaves, self._tree = jax.tree_util.tree_flatten(finished(out, name), is_leaf=runs_later)
        self._slots: list[tuple[bool, Any]] = []
        for leaf in leaves:
            if isinstance(leaf, jax.Array | np.ndarray):
                self._slots.append((True, None))
                self.arrays.append(leaf)
            else:
                refuse_carriers(leaf, name)
                self._slots.append((False, leaf))

    def forget(self) -> None:
        """Drop the traced arrays."""
        self.arrays = []

    def build(self, arrays: Sequence[Array]) -> Tree:
        """What the function returned, with these arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if is_array else static for is_array, static in self._slots]
        return jax.tree_util.tree_unflatten(self._tree, leaves)
