"""The compiled versions of one program, and which of their calls are known to run no Python code.

XLA compiles a program for the shardings of its arguments, so it may have several versions. JAX does
not promise which calls of them run in C alone; this module measures it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from types import FrameType
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import native_call, settings_of_calls
from paramesh.array_types import ArrayLike
from paramesh.state.trace_scope import SOURCE


class CompiledVersion:
    """One compiled version of a program, and what is known of its calls.

    Attributes:
        call: how it is called; from the second call on natively, if that is possible.
        safe_calls: (settings, kinds of inputs) under which it was seen to run no Python code.
        safe_states: kinds of the states' arrays, likewise.
        keeps_kinds: whether the states' arrays were of the same kinds after a run.
    """

    def __init__(self, compiled: jax.stages.Compiled, arguments: Sequence[object]) -> None:
        self.compiled = compiled
        self.call: Callable[..., Any] = compiled
        self.safe_calls: list[object] = []
        self.safe_states: list[object] = []
        self.keeps_kinds = False
        self._made_for = [getattr(value, "sharding", None) for value in arguments]

    def fits(self, arguments: Sequence[Any]) -> bool:
        """Whether it can be called with arguments of these shardings."""
        if not self._made_for:
            return True  # compiled by the user: JAX checks the arguments
        for value, made_for in zip(arguments, self._made_for, strict=True):
            here = getattr(value, "sharding", None)
            if here is made_for or here is None or made_for is None:
                continue
            if not here.is_equivalent_to(made_for, value.ndim):
                return False
        return True


class CallWatch:
    """Measures whether a call runs Python code, on the thread that it is used on."""

    def __init__(self, version: CompiledVersion, leaves: list[ArrayLike]) -> None:
        self.version = version
        self._key = (settings_of_calls(), list(map(call_kind, leaves)))
        self._states: list[object] = []
        self._frames = 0
        self._before: Any = None

    def over(self, states: tuple[jax.Array, ...]) -> CallWatch:
        """To be entered around the call."""
        self._states = list(map(call_kind, states))
        return self

    def look_at(self, after: Iterable[jax.Array]) -> None:
        """The arrays that the first of the states have after the call."""
        after_kinds = list(map(call_kind, after))
        self.version.keeps_kinds = after_kinds == self._states[: len(after_kinds)]

    def __enter__(self) -> None:
        self._frames, self._before = 0, sys.getprofile()
        sys.setprofile(self._seen)

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._before)
        version = self.version
        native = native_call(version.compiled)
        if not self._frames and version.call is native and error[0] is None:
            if self._key not in version.safe_calls:
                version.safe_calls.append(self._key)
            if self._states not in version.safe_states:
                version.safe_states.append(self._states)
        elif native is not None:
            version.call = native

    def _seen(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and not frame.f_code.co_filename.startswith(SOURCE):
            self._frames += 1


def call_kind(value: ArrayLike) -> Hashable:
    """All that JAX looks at in an argument of given shape and element type."""
    if isinstance(value, jax.Array):
        return value.sharding, value.committed, value.weak_type
    return type(value)


def reserve_memory(compiled: jax.stages.Compiled, name: str) -> None:
    """Allocate the memory of a run, and free it.

    Raises:
        MemoryError: there is not enough.
    """
    if jax.default_backend() != "cpu":
        return  # other devices allocate before they take the arrays
    needed = compiled.memory_analysis()
    if needed is None:
        return
    size = needed.temp_size_in_bytes + needed.output_size_in_bytes - needed.alias_size_in_bytes
    try:
        np.empty(max(size, 0), np.uint8)
    except MemoryError:
        raise MemoryError(
            f"'{name}' needs {size / 2**30:.1f} GiB besides its inputs, which this host does not "
            "have. No Parameter was changed. Use smaller batches, recompute(), or more devices."
        ) from None
